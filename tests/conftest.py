"""What holds for all tests: how they are shared out among processes, and that no example is refused for being slow."""

from pathlib import PurePath

import pytest
from hypothesis import settings

# A folder whose tests share what takes long to start: a mesh before a browser, WordPress, an object store.
STARTED_ONCE = ("browser", "clients", "object_store")

# How long an example takes depends on what else the machine does. What has to be quick says so itself.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    """For `--dist loadgroup`: a file is the work of one process, and so is a folder that starts something once."""
    file = PurePath(item.nodeid.partition("::")[0])
    group = file.parent if file.parent.name in STARTED_ONCE else file
    item.add_marker(pytest.mark.xdist_group(str(group)))
