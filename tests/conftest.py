"""What holds for all tests: how they are shared out among processes, that no example is refused for being slow, and
that none leaves its logs to the next."""

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
import structlog
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


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that was run in this process sets up logs; the next test finds them as they were."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    if structlog.is_configured():
        structlog.reset_defaults()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """For `--dist loadfile`."""
    return ByWhatIsStarted(config, log) if config.getoption("dist") == "loadfile" else None
