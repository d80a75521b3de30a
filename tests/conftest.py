"""What holds for all tests: how they are shared out among processes, and that no example is refused for being slow."""

from pathlib import PurePosixPath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# A folder whose tests share what takes long to start: a mesh before a browser, WordPress, an object store.
STARTED_ONCE = ("browser", "clients", "object_store")

# How long an example takes depends on what else the machine does. What has to be quick says so itself.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


class ByWhatIsStarted(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file is the work of one process, and so is a folder that starts something once."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        return str(file.parent if file.parent.name in STARTED_ONCE else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """For `--dist loadfile`."""
    return ByWhatIsStarted(config, log) if config.getoption("dist") == "loadfile" else None
