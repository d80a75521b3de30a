"""`pfn backup` of a running node under writes, and what is there after a disaster."""

import json
from pathlib import Path

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import download, eventually, follow, offers, versions
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn


async def _make_keys(client: NodeClient, acknowledged: list[str], master_key: str) -> None:
    """Write for ever: each answer acknowledges a row."""
    master = NodeClient(client.outbound, client.node, master_key)
    while True:
        made = await master.post("create-admin-key", {"description": f"key {len(acknowledged)}"})
        acknowledged.append(made["id"])


async def test_a_node_restored_from_a_backup_has_what_was_acknowledged_and_keeps_its_good_name(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "tide-table", "1.0", filler="// tide\n" * 20_000)
    publisher = await mesh.start_publisher(plugins, "ada")
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    source = await follow(a, publisher, "ada")
    await a.post("subscribe", {"sourceId": source})
    acknowledged: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_make_keys, a, acknowledged, mesh.master_key)
        await eventually(lambda: _enough(acknowledged, 20))
        before = list(acknowledged)
        done = await pfn(
            "backup", "--data", str(tmp_path / "node-a"), "--to", str(tmp_path / "a.tar"), "--with-key", "--json"
        )
        nursery.cancel_scope.cancel()
    # After the backup the node says more, which it will have forgotten: other bytes for nobody, but numbers used.
    write_plugin(plugins, "tide-table", "1.1")
    await eventually(lambda: offers(publisher, a, "ada", {"tide-table": "1.1"}))
    await a.post("subscribe", {"sourceId": source})
    await eventually(lambda: _lists(b, source, "1.1"))
    await mesh.nodes[0].kill()
    restored = await pfn("restore", "--from", str(tmp_path / "a.tar"), "--data", str(tmp_path / "again"))
    mesh.nodes[0].arguments = ("serve", "--data", str(tmp_path / "again"), "--allow-private-networks")
    await mesh.nodes[0].start()

    assert done.returncode == restored.returncode == 0, (done.stderr, restored.stderr)
    assert json.loads(done.stdout)["artifacts"] >= 1
    known = {key["id"] for key in (await a.get("keys"))["keys"]}
    assert len(before) >= 20 and set(before) <= known
    assert (await download(a, source, "tide-table"))[0] == 200
    assert (
        await pfn(
            "audit",
            "--check",
            environment={"PFN_NODE": a.node, "PFN_KEY": a.headers["Authorization"].removeprefix("Bearer ")},
        )
    ).returncode == 0
    # It goes on speaking: what it sees now arrives, and nobody holds its past against it.
    write_plugin(plugins, "tide-table", "1.2")
    await eventually(lambda: offers(publisher, a, "ada", {"tide-table": "1.2"}))
    await a.post("subscribe", {"sourceId": source})
    await eventually(lambda: _lists(b, source, "1.2"))
    assert not (await a.get("health"))["mesh"]["muted"]
    assert [peer["convicted"] for peer in (await b.get("peers"))["peers"]] == [False]


async def _enough(acknowledged: list[str], count: int) -> bool:
    return len(acknowledged) >= count


async def _lists(client: NodeClient, source: str, version: str) -> bool:
    return await versions(client, source) == {"tide-table": version}
