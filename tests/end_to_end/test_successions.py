"""A node changes its key by what its operator does: commit, start, wait, stop, succeed, start. Real processes."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.data_folder import make_next_key
from pfn_node.store import page_checksums
from pfn_protocol.limits import succession_age_seconds_min
from tests.end_to_end.conftest import eventually
from tests.end_to_end.test_command_line import pfn


async def pins(client: NodeClient) -> set[str]:
    return {peer["node_id"] for peer in (await client.get("peers"))["peers"] if peer["pinned"]}


async def has_pinned(client: NodeClient, node_id: str) -> bool:
    return node_id in await pins(client)


async def knows_a_commitment(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "node.db")) as db:
        return bool(db.execute("SELECT count(*) FROM node_commitments").fetchone() == (1,))


def days_pass(folder: Path) -> None:
    page_checksums.load()  # who writes keeps them
    with closing(sqlite3.connect(folder / "node.db")) as db, db:
        db.execute("UPDATE node_commitments SET first_seen = first_seen - ?", (succession_age_seconds_min,))


async def test_an_operator_replaces_the_key_of_a_node_and_its_pin_follows(mesh: LocalMesh) -> None:
    a = await mesh.start_node()
    b = await mesh.start_node(join=[mesh.nodes[0].url])
    old = (await a.get("health"))["node_id"]
    await eventually(partial(has_pinned, b, old))
    first, second = mesh.nodes
    folders = [mesh.folder / node.name for node in mesh.nodes]

    assert (await pfn("identity", "commit", "--data", str(folders[0]))).returncode == 0
    refused = await pfn("identity", "succeed", "--data", str(folders[0]))
    assert refused.returncode == 1 and b"another process uses the data folder" in refused.stderr
    await first.stop()
    await first.start()
    for folder in folders:
        await eventually(partial(knows_a_commitment, folder))
    await mesh.stop()
    refused = await pfn("identity", "succeed", "--data", str(folders[0]))
    assert refused.returncode == 1 and b"wait for 72 h" in refused.stderr
    for folder in folders:
        days_pass(folder)
    done = await pfn("identity", "succeed", "--data", str(folders[0]))
    assert done.returncode == 0, done.stderr.decode()
    new = done.stdout.decode().splitlines()[0]
    await second.start()
    await first.start()

    assert (await a.get("health"))["node_id"] == new != old
    await eventually(partial(has_pinned, b, new))
    assert old not in await pins(b)


async def test_a_node_tells_of_no_second_key_that_is_to_follow(mesh: LocalMesh) -> None:
    await mesh.start_node()
    node, folder = mesh.nodes[0], mesh.folder / mesh.nodes[0].name
    await node.stop()
    assert (await pfn("identity", "commit", "--data", str(folder))).returncode == 0
    await node.start()
    await eventually(partial(knows_a_commitment, folder))
    await node.stop()
    (folder / "node-next.key").unlink()

    refused = await pfn("identity", "commit", "--data", str(folder))
    make_next_key(folder)
    await node.start()

    async def is_logged() -> bool:
        return "commitment_not_told" in node.log.read_text()

    await eventually(is_logged)
    assert refused.returncode == 1 and b"make both void" in refused.stderr
    with closing(sqlite3.connect(folder / "node.db")) as db:
        assert db.execute("SELECT void FROM node_commitments").fetchall() == [(0,)]
