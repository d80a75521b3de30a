"""Consumers' own clients, as Debian has them, before real nodes and publishers on loopback.

`scripts/clients` installs them. Without them these tests are skipped, but for CI, where they fail.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pfn_node.cli.local_mesh import LocalMesh, local_mesh
from tests.clients import wordpress_site
from tests.clients.wordpress_site import Site, WordPress

NO_CLIENT = "NO CLIENT: {} is not here, so nothing was tried with it. Run {}."


def need(*programs: str, by: str = "scripts/clients") -> None:
    """Skip the test where one of these, which `by` installs, is missing (a path: does not exist); in CI it fails."""
    for program in programs:
        if not Path(program).exists() and shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(NO_CLIENT.format(program, by))
            pytest.skip(NO_CLIENT.format(program, by))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    """An empty mesh whose processes end with the test."""
    async with local_mesh(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def wordpress() -> Iterator[WordPress]:
    """WordPress and its database, installed once."""
    need(*wordpress_site.PROGRAMS, str(wordpress_site.ORIGINAL))
    with tempfile.TemporaryDirectory(prefix="pfn-") as folder, wordpress_site.wordpress_in(Path(folder)) as made:
        yield made


@pytest.fixture
def site(wordpress: WordPress, tmp_path: Path) -> Iterator[Site]:
    """A fresh site. What it does may leave nothing in its log."""
    made = wordpress.new_site(tmp_path)
    yield made
    assert made.log_lines() == []
