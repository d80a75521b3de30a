"""Consumers' own clients, as Debian has them, before real nodes and publishers on loopback.

`scripts/clients` installs them. Without them these tests are skipped, but for CI, where they fail.
"""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.cli.local_mesh import LocalMesh, local_mesh

NO_CLIENT = "NO COMPOSER: {} is not here, so nothing was tried with it. Run scripts/clients."


def need(*programs: str) -> None:
    """Skip the test where one of these is missing; in CI it fails."""
    for program in programs:
        if shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(NO_CLIENT.format(program))
            pytest.skip(NO_CLIENT.format(program))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    """An empty mesh whose processes end with the test."""
    async with local_mesh(tmp_path) as made:
        yield made
