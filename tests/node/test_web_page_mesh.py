"""The page of the mesh: where nodes stand on the map, what the table says, and what an administrator does there."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from pfn_node.mesh.views import JoinView, PeerView
from pfn_node.store import mesh_claims
from pfn_node.web.pages import mesh, mesh_map
from pfn_node.web.pages.mesh_map import Box, Picture, Placed, draw
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import NOW, STRANGER, WebNode, web_node

HOSTILE = '"><script>alert(1)</script><svg onload=alert(2)>'


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


def key_of(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


def a_peer(number: int, role: str = "", **fields: Any) -> PeerView:
    given: dict[str, Any] = {
        "node_id": did_key(key_of(number).public),
        "url": f"https://node{number}.test",
        "state": "linked" if role else "known",
        "pinned": False,
        "provisional": False,
        "blocked": False,
        "joined": False,
        "trusted_via": (),
        "last_seen": NOW - number,
        "round_trip_ms": 12 if role else None,
        "bytes_sent": 2_000 if role else 0,
        "bytes_received": 0,
        "announcements": 0,
        "links": (role,) if role else (),
        "outbound": True,
        "announcements_sent": 5 if role else 0,
        "announcements_received": 7 if role else 0,
        "differences_found": 0,
    } | fields
    return PeerView(**given)


def some_peers(count: int) -> list[PeerView]:
    """As many peers, some of them linked, as a mesh of that size has."""
    linked = min(count, 8 + count // 12)
    return [a_peer(number, ("eager", "lazy")[number % 2] if number <= linked else "") for number in range(1, count + 1)]


def watching(peers: list[PeerView]) -> dict[str, list[str]]:
    return {peer.node_id: [f"a{one}@p.test" for one in range(index % 6)] for index, peer in enumerate(peers)}


# ---- Where nodes stand.


@pytest.mark.parametrize("count", [1, 2, 3, 12, 32, 60, 200, 500])
def test_nothing_on_the_map_lies_on_another_thing_or_outside(count: int) -> None:
    peers = some_peers(count)

    picture = draw(peers, [f"own{one}@p.test" for one in range(5)], watching(peers))

    assert len(picture.nodes) + sum(sector.count for sector in picture.sectors) == count
    _assert_apart(picture)


def _assert_apart(picture: Picture) -> None:
    circles = [(mesh_map.Point(0, 0), mesh_map.CENTRE_RADIUS), *((node.at, node.radius) for node in picture.nodes)]
    for (first, reach), (second, other) in combinations(circles, 2):
        assert math.dist(first, second) > reach + other
    labels = [node.label.box for node in picture.nodes if node.label is not None]
    squares = [*picture.own, *(bead for node in picture.nodes for bead in node.beads)]
    for one, two in combinations(squares, 2):
        assert math.dist(one.at, two.at) > (one.size + two.size) / 2
    for square, (at, reach) in product(squares, circles):
        assert math.dist(square.at, at) > reach + square.size / 2
    things = [Box.around(at, reach) for at, reach in circles] + [Box.around(one.at, one.size * 0.7) for one in squares]
    for first_box, second_box in [*combinations(labels, 2), *product(labels, things)]:
        assert not first_box.meets(second_box), (first_box, second_box)
    for box in [*labels, *things]:
        assert box.left >= -480 and box.right <= 480 and box.top >= -380 and box.bottom <= 380


def test_the_same_nodes_give_the_same_picture_in_whatever_order_they_come() -> None:
    peers = some_peers(40)

    assert draw(peers, [], {}) == draw(peers[::-1], [], {})


@pytest.mark.parametrize("count", [5, 13, 25])
def test_nodes_stay_about_where_they_are_when_another_comes(count: int) -> None:
    before = {node.peer.node_id: node.at for node in draw([a_peer(n, "eager") for n in range(count)], [], {}).nodes}
    after = {node.peer.node_id: node.at for node in draw([a_peer(n, "eager") for n in range(count + 1)], [], {}).nodes}

    moved = sorted(math.dist(at, after[node_id]) for node_id, at in before.items())

    assert moved[len(moved) // 2] < 25


def test_a_node_stays_in_its_direction_when_it_loses_its_link() -> None:
    peers = some_peers(12)
    lost = replace(peers[0], links=(), state="known")

    before = _place(draw(peers, [], {}), lost.node_id)
    after = _place(draw([lost, *peers[1:]], [], {}), lost.node_id)

    assert abs(math.remainder(before.angle - after.angle, 2 * math.pi)) < 0.8
    assert math.hypot(*after.at) > math.hypot(*before.at)


def _place(picture: Picture, node_id: str) -> Placed:
    return next(node for node in picture.nodes if node.peer.node_id == node_id)


def test_angles_are_apart_even_where_all_names_want_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_map, "direction", lambda name: 6.2)

    angles = sorted(mesh_map.spread([str(one) for one in range(30)], 0.2).values())

    gaps = [(angles[index] - angles[index - 1]) % (2 * math.pi) for index in range(30)]
    assert min(gaps) >= 0.2 - 1e-9


def test_nobody_can_take_all_the_room_of_the_map() -> None:
    linked = [a_peer(number, "lazy") for number in range(mesh_map.LINKED_MAX + 9)]
    disliked = [a_peer(number, blocked=True, state="blocked") for number in range(100, 200)]

    picture = draw([*linked, *disliked], [], {})

    assert (len(picture.linked), picture.beyond) == (mesh_map.LINKED_MAX, 9)
    assert len(picture.others) == mesh_map.OPINIONS_MAX
    assert sum(sector.count for sector in picture.sectors) == 100 - mesh_map.OPINIONS_MAX


def test_a_link_grows_wider_with_what_goes_through_it_and_not_for_ever() -> None:
    widths = [draw([a_peer(1, "eager", bytes_last_minute=size)], [], {}).linked[0].width for size in (0, 10**4, 10**12)]

    assert widths[0] < widths[1] < widths[2] == 8.0


def test_what_is_missing_of_a_node_is_drawn_as_a_part_of_it() -> None:
    peers = [a_peer(1, "eager", announced=200, held=50, incomplete=True), a_peer(2, "eager", announced=9, held=9)]

    nodes = draw(peers, [], {}).linked

    assert sorted(str(node.completeness) for node in nodes) == ["25", "None"]


# ---- The page.


async def test_the_page_shows_each_link_once_as_the_api_reports_it(node: WebNode) -> None:
    node.mesh.known = [a_peer(1, "eager"), a_peer(2, "lazy"), a_peer(3, "reconciliation"), a_peer(4)]

    page = (await node.get("/mesh")).body.decode()
    reported = (await node.get("/federation/peers")).json["peers"]

    for peer in reported:
        assert page.count(f'data-link="{peer["node_id"]}"') == len(peer["links"])
        assert all(f'<line class="link {role}" data-link="{peer["node_id"]}"' in page for role in peer["links"])
        assert f'data-peer="{peer["node_id"]}"' in page


async def test_a_node_without_peers_says_how_to_join(node: WebNode) -> None:
    page = await Browser(node).read("/mesh")

    assert "No peers yet" in page.text and "pfn serve --join" in page.text
    assert "svg" in page.tags


async def test_what_peers_and_publishers_say_is_only_text(node: WebNode) -> None:
    node.mesh.known = [a_peer(1, "eager", url=f"https://{HOSTILE}", state=HOSTILE, proof=(HOSTILE,), convicted=True)]
    await _watch(node, key_of(1), HOSTILE)

    page = await Browser(node).read("/mesh")

    assert page.tags.count("script") == 4  # the page's own
    assert HOSTILE in page.text


async def _watch(node: WebNode, observer: PrivateKey, source_id: str, artifacts: int = 0) -> None:
    def insert(db: Any) -> None:
        db["attestations"].insert(
            {"source_id": source_id, "observer": observer.public, "public_key": b"", "verified": 1, "verified_at": NOW}
            | dict.fromkeys(("instance_url", "username", "asset_domain", "asset_naming_scheme"), "")
            | {"announcement_id": bytes(32), "epoch": 0, "seq": 1, "admitted": 1, "received_at": NOW}
        )
        db["mirror_claims"].insert(
            {"source_id": source_id, "node_id": observer.public, "count": artifacts, "digest": b"", "seq": 1}
            | {"announcement_id": bytes(32), "epoch": 0, "admitted": 1, "expires_at": NOW + 60}
        )

    await node.services.database.write(insert)


async def test_publishers_stand_beside_the_nodes_that_watch_them(node: WebNode) -> None:
    await node.add_bilbo()
    node.mesh.known = [a_peer(1, "eager"), a_peer(2)]
    await _watch(node, key_of(2), "frodo@shire.test", artifacts=1)
    await _watch(node, key_of(2), "sam@shire.test", artifacts=41)

    page = (await node.get("/mesh")).body.decode()

    assert page.count('class="bead"') == 3 + 1  # and one in the legend
    assert all(f'data-source="{name}"' in page for name in ("bilbo@publisher.test", "frodo@shire.test"))
    assert "42 artifacts of 2 sources" in page


async def test_who_holds_most_is_told_with_this_node_first(node: WebNode) -> None:
    await node.add_release(b"a plugin")
    node.mesh.known = [a_peer(1, "eager"), a_peer(2), a_peer(3)]
    await _watch(node, key_of(2), "sam@shire.test", artifacts=40)
    await _watch(node, key_of(3), "sam@shire.test", artifacts=10)

    page = (await Browser(node).read("/mesh")).text

    assert "This node 1 https://node2.test 40 https://node3.test 10" in page


async def test_links_beyond_the_room_of_the_map_are_said_to_stand_in_the_table(node: WebNode) -> None:
    node.mesh.known = [a_peer(number, "lazy") for number in range(1, mesh_map.LINKED_MAX + 4)]

    page = await Browser(node).read("/mesh")

    assert "3 of the links found no room on the map" in page.text


async def test_the_table_shows_linked_peers_first_and_finds_by_id_and_url(node: WebNode) -> None:
    node.mesh.known = [a_peer(1), a_peer(2, "eager"), a_peer(3, blocked=True, state="blocked"), a_peer(4, pinned=True)]
    shown = [did_key(key_of(number).public) for number in (1, 2, 3, 4)]

    async def rows(query: str) -> list[str]:
        page = (await node.get(f"/mesh{query}")).body.decode()
        found = [(page.find(f'<tr data-peer="{one}"'), index) for index, one in enumerate(shown, 1)]
        return [str(index) for at, index in sorted(found) if at >= 0]

    assert await rows("") == ["2", "3", "4", "1"]
    assert await rows("?show=linked") == ["2"]
    assert await rows("?show=unlinked") == ["3", "4", "1"]
    assert await rows("?show=pinned") == ["4"]
    assert await rows("?show=blocked") == ["3"]
    assert await rows("?q=NODE3.test") == ["3"]
    assert await rows(f"?q={shown[3]}") == ["4"]
    assert await rows("?q=nobody") == []


async def test_many_peers_come_in_pages(node: WebNode) -> None:
    node.mesh.known = [a_peer(number) for number in range(1, 231)]

    pages = [(await node.get(f"/mesh?page={number}")).body.decode() for number in (1, 2, 3)]

    assert [page.count("<tr data-peer=") for page in pages] == [100, 100, 30]
    assert 'href="/mesh?show=all&amp;page=3#peers"' in pages[1]


async def test_visitors_are_offered_no_change(node: WebNode) -> None:
    node.mesh.known = [a_peer(1, "eager")]

    page = await Browser(node).read("/mesh")

    assert "/mesh/peers" not in page.forms and "/mesh/join" not in page.forms


def test_names_on_a_small_map_are_short_and_lie_on_nothing() -> None:
    picture = draw([a_peer(number, "eager") for number in range(1, 13)], ["own@p.test"], {}, small=True)

    labels = [node.label for node in picture.nodes if node.label is not None]
    assert len(labels) >= 6 and all(len(line) <= 16 for label in labels for line in label.lines)
    _assert_apart(picture)


async def test_the_small_map_shows_a_few_linked_nodes_or_else_known_ones(node: WebNode) -> None:
    async def drawn() -> tuple[int, int]:
        picture = (await mesh.small_map(node.services)).picture
        return len(picture.linked), len(picture.others)

    node.mesh.known = [a_peer(number, "eager" if number > 20 else "") for number in range(1, 30)]
    assert await drawn() == (9, 0)
    node.mesh.known = [a_peer(number, "lazy") for number in range(1, 30)]
    assert await drawn() == (mesh.SMALL_MAX, 0)
    node.mesh.known = [a_peer(number, blocked=number == 1) for number in range(1, 5)]
    assert await drawn() == (0, 3)


async def test_claims_are_asked_for_few_nodes_and_sources(node: WebNode) -> None:
    for number in range(5):
        await _watch(node, key_of(1), f"s{number}@p.test", artifacts=number)

    def read(db: Any) -> tuple[Any, Any]:
        return (
            mesh_claims.watched_sources(db, [key_of(1).public, key_of(2).public], 3),
            mesh_claims.held(db, [key_of(1).public, key_of(2).public], NOW),
        )

    watched, held = await node.services.database.read(read)

    assert watched == {key_of(1).public: ["s0@p.test", "s1@p.test", "s2@p.test"], key_of(2).public: []}
    assert held == {key_of(1).public: mesh_claims.Held(4, 10)}


# ---- What an administrator does.


async def test_joining_a_node_by_its_url(node: WebNode, admin: Browser) -> None:
    got = await admin.send("/mesh/join", action="join", url="https://node7.test", node_id=did_key(STRANGER.public))
    page = await admin.read("/mesh")

    assert (got.status, got.headers["Location"]) == (303, "/mesh")
    assert node.mesh.joined == [("https://node7.test", STRANGER.public)]
    assert "Joined https://node7.test" in page.text


async def test_what_is_wrong_with_joining_stands_beside_the_field(node: WebNode, admin: Browser) -> None:
    node.mesh.refusal = Refusal("R1", "another key answers there")

    refused = Reader(await admin.send("/mesh/join", action="join", url="https://node7.test"))
    odd = Reader(await admin.send("/mesh/join", action="join", url="https://x.test", node_id="nobody"))

    assert "annot join https://node7.test: another key answers there" in refused.text
    assert refused.values["url"] == "https://node7.test"
    assert "Please look at the marked fields." in odd.text and odd.values["node_id"] == "nobody"


async def test_what_is_joined_is_shown_to_administrators_and_left_with_a_button(node: WebNode, admin: Browser) -> None:
    node.mesh.targets = [JoinView("https://node7.test", None, f"Nobody answers there. {HOSTILE}")]

    anybodys = await Browser(node).read("/mesh")
    page = await admin.read("/mesh")
    got = await admin.send("/mesh/peers", action="leave", url="https://node7.test")

    assert "https://node7.test" not in anybodys.text
    assert f"https://node7.test Not reached yet: Nobody answers there. {HOSTILE}" in page.text
    assert got.status == 303 and node.mesh.left == [("https://node7.test", None)]


@pytest.mark.parametrize(
    ("action", "expected"),
    [("pin", (True, None)), ("unpin", (False, None)), ("block", (None, True)), ("unblock", (None, False))],
)
async def test_judging_a_node_does_what_the_api_does(
    node: WebNode, admin: Browser, action: str, expected: tuple[bool | None, bool | None]
) -> None:
    node.mesh.known = [a_peer(1, "eager")]

    got = await admin.send("/mesh/peers", action=action, node_id=did_key(key_of(1).public))

    assert got.status == 303
    assert node.mesh.policies == [(key_of(1).public, *expected)]


async def test_a_key_without_the_scope_judges_nobody(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in(await node.make_key(description="reader", scopes=["read"]))

    got = await browser.send("/mesh/peers", action="block", node_id=did_key(key_of(1).public))

    assert got.status == 403 and node.mesh.policies == []
    assert "/mesh/join" not in (await browser.read("/mesh")).forms
