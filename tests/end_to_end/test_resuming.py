"""A node that is killed while its neighbour fills it: what it had it has, and only the rest comes."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import local_mesh
from tests.benchmarks import start
from tests.end_to_end.conftest import eventually

VERSIONS = 5_000
KILLED_AT = 2_000
# The machine counts what a turn took in before it is durable, and tells nobody: pages, and what was verified meanwhile.
UNDER_WAY_MAX = 1_024
# Cells that say what is lacking, and what else neighbours say, beside the bodies of everything.
BESIDES = 0.2


async def kept_by(client: NodeClient) -> int:
    kept: int = (await client.get("health"))["mesh"]["announcements"]
    return kept


def bytes_of_announcements(folder: Path) -> int:
    with closing(sqlite3.connect(f"{(folder / 'node.db').as_uri()}?mode=ro", uri=True)) as db:
        total: int = db.execute("SELECT sum(length(raw)) FROM announcements").fetchone()[0]
        return total


async def test_a_node_that_was_killed_while_it_was_filled_goes_on_with_what_it_had(tmp_path: Path) -> None:
    await start.prepare(tmp_path / "node-a", VERSIONS)
    whole = bytes_of_announcements(tmp_path / "node-a")
    async with local_mesh(tmp_path) as mesh:
        full = await mesh.start_node()
        newcomer = await mesh.start_node(join=[full.node])
        seen = 0

        async def is_partly_filled() -> bool:
            nonlocal seen
            seen = await kept_by(newcomer)
            return seen >= KILLED_AT

        async def is_filled() -> bool:
            return bool(
                (await newcomer.get("health"))["mesh"]["digest"] == (await full.get("health"))["mesh"]["digest"]
            )

        await eventually(is_partly_filled)
        await mesh.nodes[1].kill()
        await mesh.nodes[1].start()
        had, everything = await kept_by(newcomer), await kept_by(full)
        assert seen - UNDER_WAY_MAX <= had < everything

        await eventually(is_filled)
        neighbours = (await newcomer.get("peers"))["peers"]
        received = sum(peer["bytes_received"] for peer in neighbours)  # since it was started again
        assert received <= ((everything - had) / everything + BESIDES) * whole
