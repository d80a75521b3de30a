"""Five real processes of which four were told one address: all links, and all news, they find by themselves."""

from functools import partial
from pathlib import Path
from typing import Any

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import eventually, follow, versions
from tests.end_to_end.plugins import write_plugin

NODES = 5
RELEASES = 20


async def test_every_release_is_known_everywhere_and_the_links_say_what_they_are_for(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    names = [f"plugin-{number:02}" for number in range(RELEASES)]
    for name in names:
        write_plugin(tmp_path / "plugins", name, "1.0")
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    first, *others = await mesh.start_nodes(NODES)
    for client in mesh.clients:
        await eventually(partial(_is_linked_to, client, [other for other in mesh.clients if other is not client]))

    source = await follow(first, publisher, "ada")
    await first.post("subscribe", {"sourceId": source})
    for client in others:
        await eventually(partial(_lists, client, source, dict.fromkeys(names, "1.0")))

    for client in mesh.clients:
        await eventually(partial(_has_measured_all, client))
        peers = await _peers(client)
        assert len(peers) == NODES - 1
        for url, peer in peers.items():
            assert peer["links"] in (["eager"], ["lazy"], ["reconciliation"]), (client.node, url)
            assert min(peer["bytes_sent"], peer["bytes_received"]) > 0
            assert peer["joined"] == peer["pinned"] == (url == first.node)
        if client is not first:
            assert sum(peer["announcements_received"] for peer in peers.values()) >= RELEASES
    assert sum(peer["announcements_sent"] for peer in (await _peers(first)).values()) >= RELEASES


async def test_a_node_finds_back_to_those_it_was_never_told_while_its_seed_is_down(mesh: LocalMesh) -> None:
    first, *others = await mesh.start_nodes(NODES)
    *rest, last = others
    await eventually(partial(_is_linked_to, last, rest))
    await mesh.nodes[0].stop()
    await mesh.nodes[-1].stop()

    await mesh.nodes[-1].start()

    await eventually(partial(_is_linked_to, last, rest))
    peers = await _peers(last)
    assert peers[first.node]["state"] != "linked"
    assert [url for url, peer in peers.items() if peer["joined"]] == [first.node]


async def _peers(client: NodeClient) -> dict[str, dict[str, Any]]:
    """The other nodes as this one shows them, by URL."""
    return {peer["url"]: peer for peer in (await client.get("peers"))["peers"]}


async def _has_measured_all(client: NodeClient) -> bool:
    """Whether it asked every other node something by itself: one that was asked first may do so only for a status."""
    return all(peer["round_trip_ms"] is not None for peer in (await _peers(client)).values())


async def _is_linked_to(client: NodeClient, others: list[NodeClient]) -> bool:
    peers = await _peers(client)
    return all(other.node in peers and peers[other.node]["state"] == "linked" for other in others)


async def _lists(client: NodeClient, source: str, expected: dict[str, str]) -> bool:
    return await versions(client, source) == expected
