"""The server and the bucket of a test, and nodes that keep their artifacts there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.cli.local_mesh import LocalMesh, local_mesh
from tests.object_store.server import bucket, s3_server

__all__ = ["bucket", "mesh", "s3_server"]


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    """Real processes, which end with the test."""
    async with local_mesh(tmp_path) as mesh:
        yield mesh
