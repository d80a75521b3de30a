"""A mesh of real processes: what spreads, what survives, and whose word counts."""

import sqlite3
from functools import partial
from hashlib import sha256
from pathlib import Path

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import download, eventually, follow, offers, row_of, versions
from tests.end_to_end.plugins import write_plugin


async def test_a_new_version_is_visible_on_all_nodes_within_two_seconds(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "night-lamp", "1.0")
    publisher = await mesh.start_publisher(plugins, "ada")
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    c = await mesh.start_node(join=[a.node, b.node])
    source = await follow(a, publisher, "ada")
    await a.post("subscribe", {"sourceId": source})
    for client in (b, c):
        await eventually(partial(_lists, client, source, {"night-lamp": "1.0"}))

    write_plugin(plugins, "night-lamp", "1.1")
    await eventually(lambda: offers(publisher, a, "ada", {"night-lamp": "1.1"}))
    await a.post("subscribe", {"sourceId": source})
    assert await versions(a, source) == {"night-lamp": "1.1"}
    waited = [await eventually(partial(_lists, client, source, {"night-lamp": "1.1"})) for client in (b, c)]

    assert sum(waited) < 2.0


async def _lists(client: NodeClient, source: str, expected: dict[str, str]) -> bool:
    return await versions(client, source) == expected


async def test_a_node_serves_from_its_peers_what_a_dead_publisher_had(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "tide-table", "2.0", filler="// tide\n" * 20_000)
    publisher = await mesh.start_publisher(plugins, "bob", "original")
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    source = await follow(a, publisher, "bob")
    await a.post("subscribe", {"sourceId": source})
    await eventually(lambda: _lists(b, source, {"tide-table": "2.0"}))
    await publisher.kill()

    status, content = await download(b, source, "tide-table")

    assert status == 200
    row = await row_of(b, source, "tide-table")
    assert row is not None and sha256(content).hexdigest() == row["sha256"]
    assert (await b.get("verify", sourceId=source, plugin="tide-table"))["valid"]


async def test_what_was_acknowledged_survives_kill_9_during_a_sync(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    names = [f"plugin-{number:02}" for number in range(40)]
    for name in names:
        write_plugin(plugins, name, "1.0", filler=f"// {name}\n" * 5_000)
    publisher = await mesh.start_publisher(plugins, "carol")
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    source = await follow(a, publisher, "carol")
    acknowledged: dict[str, str] = {}

    async def subscribe() -> None:
        try:
            await a.post("subscribe", {"sourceId": source})
        except Exception:  # the node is killed under it
            return

    async def some_are_mirrored() -> bool:
        answer = await a.get("plugins", source=source, limit=100)
        acknowledged.update({row["plugin_id"]: row["sha256"] for row in answer["plugins"] if row["mirrored"]})
        return len(acknowledged) >= 5

    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribe)
        await eventually(some_are_mirrored)
        await mesh.nodes[0].kill()
        told_before = _places(mesh.folder / "node-b" / "node.db")
        nursery.cancel_scope.cancel()
    await mesh.nodes[0].start()

    for name, digest in acknowledged.items():
        status, content = await download(a, source, name)
        assert (status, sha256(content).hexdigest()) == (200, digest), name
    await a.post("subscribe", {"sourceId": source})
    expected = dict.fromkeys(names, "1.0")
    await eventually(lambda: _lists(b, source, expected))
    told_after = _places(mesh.folder / "node-b" / "node.db")
    assert len(told_after) > len(names)
    again = told_before.keys() & told_after.keys()
    assert [place for place in again if told_before[place] != told_after[place]] == []


def _places(database: Path) -> dict[tuple[bytes, int, int], bytes]:
    """Every (author, epoch, seq) that a node heard, and the announcement there; one place has only one."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("select author, epoch, seq, id from announcements").fetchall()
    finally:
        connection.close()
    places = {(author, epoch, seq): announcement for author, epoch, seq, announcement in rows}
    assert len(places) == len(rows), "a sequence number was used twice"
    return places


async def test_a_newcomers_word_backs_nothing_until_it_is_pinned(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "harbour-light", "1.0")
    publisher = await mesh.start_publisher(plugins, "dan", "none")
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    source = await follow(newcomer, publisher, "dan")
    await newcomer.post("update-source", {"sourceId": source, "allow_unsigned": True})
    await newcomer.post("subscribe", {"sourceId": source})
    await publisher.kill()

    async def reported() -> bool:
        row = await row_of(elder, source, "harbour-light")
        return row is not None and row["assurance"] == "reported"

    await eventually(reported)
    status, answer = await download(elder, source, "harbour-light")
    assert status == 422 and b"did:key:" in answer

    info = await newcomer.get("health")
    await elder.post("peers", {"action": "pin", "node_id": info["node_id"]})

    async def served() -> bool:
        return (await download(elder, source, "harbour-light"))[0] == 200

    await eventually(served)


async def test_links_come_back_after_a_restart(mesh: LocalMesh, tmp_path: Path) -> None:
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])

    async def linked() -> bool:
        peers = (await b.get("peers"))["peers"]
        return any(peer["url"] == a.node and peer["state"] == "linked" for peer in peers)

    await eventually(linked)
    await mesh.nodes[0].stop()
    await mesh.nodes[0].start()

    await eventually(linked)
