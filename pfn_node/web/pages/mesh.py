"""/mesh: the nodes around this one, as a map and as a table, and the operator's opinion of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlite_utils
from pydantic import Field

from pfn_node.store import mesh_claims
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_peers import node_view, set_peer
from pfn_node.web.pages.mesh_map import (
    ALONE_MAX,
    LINKED_MAX,
    OPINIONS_MAX,
    OWN_BEADS_MAX,
    WATCHED_MAX,
    Picture,
    draw,
)
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.peer_figures import extra, figures, holds, opinions, says, shape
from pfn_node.web.schemas import Query, QueryInteger, SetPeer
from pfn_node.web.services import PeerView, Services
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_did_key

pages = Pages()

ROWS_MAX = 100  # of the table, on one page
SMALL_MAX = 12  # nodes on the small map
WORDS_MAX = 200
NAMED_MAX = 3  # sources of a node

Choice = Literal["all", "linked", "unlinked", "pinned", "blocked"]
CHOICES: Sequence[tuple[Choice, str]] = (
    ("all", "All"),
    ("linked", "Linked"),
    ("unlinked", "Not linked"),
    ("pinned", "Pinned"),
    ("blocked", "Blocked"),
)


class MeshQuery(Query):
    """Which peers the table shows."""

    q: str | None = Field(None, max_length=WORDS_MAX)
    show: Choice = "all"
    page: QueryInteger = Field(1, ge=1, le=100)


@dataclass(frozen=True, slots=True)
class Row:
    """A peer in the table."""

    peer: PeerView
    figures: Mapping[str, str]
    opinions: Sequence[tuple[str, str, str]]
    holds: str
    watches: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that mirrors artifacts; `percent` of what the one with most of them has."""

    peer: PeerView | None  # None: this node
    artifacts: int
    percent: int


@dataclass(frozen=True, slots=True)
class Map:
    """What the templates of the map are given."""

    picture: Picture
    node: Any
    says: Mapping[str, tuple[str, str]]  # by node id: its figures, and what it says of itself
    shape: str


@pages.get("/mesh", "mesh.html", title="Mesh", menu="main", query=MeshQuery, twin="/federation/peers")
async def show_mesh(services: Services, visitor: Visitor, query: MeshQuery) -> dict[str, Any]:
    peers = services.mesh.peers()
    chosen = sorted((peer for peer in peers if _is_chosen(peer, query)), key=_order)
    shown = chosen[(query.page - 1) * ROWS_MAX : query.page * ROWS_MAX]
    now = int(services.now())

    def read(db: sqlite_utils.Database) -> tuple[list[str], dict[str, list[str]], dict[str, mesh_claims.Held]]:
        drawn = {key for peer in [*shown, *_may_be_drawn(peers)] if (key := _key(peer)) is not None}
        watched = mesh_claims.watched_sources(db, sorted(drawn), WATCHED_MAX)
        held = mesh_claims.held(db, sorted(drawn), now)
        ids = {key: peer.node_id for peer in peers if (key := _key(peer)) in drawn and key is not None}
        return (
            mesh_claims.own_sources(db, WATCHED_MAX),
            {ids[key]: sources for key, sources in watched.items()},
            {ids[key]: some for key, some in held.items()},
        )

    own, watched, held = await services.database.read(read)
    return {
        "map": _map(services, peers, draw(peers, own, watched), watched, held),
        "rows": [_row(peer, held.get(peer.node_id), watched.get(peer.node_id, ())) for peer in shown],
        "found": len(chosen),
        "known": len(peers),
        "linked": sum(bool(peer.links) for peer in peers),
        "own_sources": len(own),
        "watched_max": WATCHED_MAX,
        "holders": _holders(services, peers, held),
        "joins": await services.mesh.joins() if visitor.may("peers") else (),
        "query": query,
        "choices": CHOICES,
        "pages": -(-len(chosen) // ROWS_MAX),
    }


async def small_map(services: Services) -> Map:
    """The map for the home page, `mesh_small.html`: this node, its sources, and a few nodes that it is linked to; where
    there are none, some that it knows."""
    known = sorted((peer for peer in services.mesh.peers() if not peer.blocked), key=_order)
    peers = [peer for peer in known if peer.links][:SMALL_MAX] or known[:SMALL_MAX]
    own = await services.database.read(lambda db: mesh_claims.own_sources(db, OWN_BEADS_MAX))
    return _map(services, peers, draw(peers, own, {}, small=True), {}, {})


def _map(
    services: Services,
    peers: Sequence[PeerView],
    picture: Picture,
    watched: Mapping[str, Sequence[str]],
    held: Mapping[str, mesh_claims.Held],
) -> Map:
    told = {
        peer.node_id: (says(peer), extra(peer, held.get(peer.node_id), _few(watched.get(peer.node_id, ()))))
        for peer in (node.peer for node in picture.nodes)
    }
    return Map(picture, node_view(services), told, shape(peers))


def _row(peer: PeerView, held: mesh_claims.Held | None, sources: Sequence[str]) -> Row:
    return Row(peer, figures(peer), opinions(peer), "" if held is None else holds(held), len(sources))


def _few(sources: Sequence[str]) -> str:
    """Some sources by name, and how many more there are."""
    more = len(sources) - NAMED_MAX
    return ", ".join(sources[:NAMED_MAX]) + (f", and {more} more" if more > 0 else "")


def _may_be_drawn(peers: Sequence[PeerView]) -> list[PeerView]:
    if len(peers) <= ALONE_MAX:
        return list(peers)
    return [peer for peer in peers if peer.links][:LINKED_MAX] + [peer for peer in peers if not peer.links][
        :OPINIONS_MAX
    ]


def _key(peer: PeerView) -> bytes | None:
    try:
        return parse_did_key(peer.node_id)
    except Refusal:
        return None


def _is_chosen(peer: PeerView, query: MeshQuery) -> bool:
    words = (query.q or "").lower().split()
    text = f"{peer.node_id} {peer.url or ''}".lower()
    if not all(word in text for word in words):
        return False
    match query.show:
        case "linked":
            return bool(peer.links)
        case "unlinked":
            return not peer.links
        case "pinned":
            return peer.pinned
        case "blocked":
            return peer.blocked or peer.convicted
        case _:
            return True


def _order(peer: PeerView) -> tuple[bool, bool, int, str]:
    opinion = peer.joined or peer.pinned or peer.blocked or peer.convicted
    return (not peer.links, not opinion, -(peer.last_seen or 0), peer.node_id)


def _holders(services: Services, peers: Sequence[PeerView], held: Mapping[str, mesh_claims.Held]) -> list[Holder]:
    """Who holds most: this node first, then others by how much they say to hold."""
    own = services.artifacts.usage()["kept"]
    most = max((own, *(some.artifacts for some in held.values())))
    others = [(peer, held[peer.node_id].artifacts) for peer in peers if peer.node_id in held]
    others.sort(key=lambda entry: (-entry[1], entry[0].node_id))
    counted = [*([(None, own)] if own else []), *others[:SMALL_MAX]]
    return [Holder(peer, count, max(2, 100 * count // most)) for peer, count in counted]


@pages.form("/mesh/join", page=show_mesh, body=SetPeer, scope="peers")
async def join(services: Services, visitor: Visitor, body: SetPeer) -> Any:
    """Join a node by its URL; what is wrong with that is said beside the field."""
    assert visitor.key is not None
    try:
        return await set_peer(services, key=visitor.key, body=body)
    except ApiError as error:
        field = {"field": "url", "problem": error.sentence[0].lower() + error.sentence[1:]}
        raise ApiError(error.status, error.sentence, details={"fields": [field]}) from error


@pages.form("/mesh/peers", page=show_mesh, body=SetPeer, scope="peers")
async def judge(services: Services, visitor: Visitor, body: SetPeer) -> Any:
    """Pin or unpin, block or unblock a node, or join it no more."""
    assert visitor.key is not None
    return await set_peer(services, key=visitor.key, body=body)
