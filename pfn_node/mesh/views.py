"""The mesh as operators and other nodes are shown it: plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from heapq import nsmallest

from pfn_node.mesh.filling_report import Filling
from pfn_node.mesh.traffic import PeerTraffic, Traffic
from pfn_node.store.rows import Peer
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_did_key, short_did
from pfn_protocol.mesh import LinkView, Mesh, MeshStatus

# Longest text that a field of another node's info may have: it is shown to operators and kept in memory.
INFO_TEXT_CHARACTERS_MAX = 512
# Nodes that are shown; the order decides which.
PEERS_SHOWN_MAX = 500


def shown(node_id: bytes) -> str:
    """A node's id as logs and sentences name it."""
    return short_did(did_key(node_id))


@dataclass(frozen=True, slots=True)
class PeerView:
    """One other node, as this one knows it. Ids are did:key texts, times seconds since 1970, bytes since start."""

    node_id: str
    url: str | None
    state: str  # "linked", "linking", "known" (an address, no link), "unreachable", "blocked"
    pinned: bool
    provisional: bool
    blocked: bool
    joined: bool
    trusted_via: tuple[str, ...]  # the nodes that vouch for it: whose pins lead to it
    last_seen: int | None
    round_trip_ms: int | None
    bytes_sent: int
    bytes_received: int
    announcements: int  # of its own, that are kept here
    links: tuple[str, ...]  # what the link to it is for: "eager", "lazy", or "reconciliation"; empty: there is none
    outbound: bool  # whether this node asked for the link
    announcements_sent: int  # over links, since start, as the next two
    announcements_received: int
    differences_found: int  # that comparing sets with it found missing here
    announced: int | None = None  # how many it says it has made, beside that of itself; None: it has said nothing
    held: int = 0  # how many of those are here
    incomplete: bool = False  # some should be here by its own count, and are not
    convicted: bool = False  # it was proved to have told two stories: its word counts for nothing
    proof: tuple[str, ...] = ()  # the ids of the two announcements that prove it
    bytes_last_minute: int = 0  # both ways


@dataclass(frozen=True, slots=True)
class JoinView:
    """A URL that the operator joined."""

    url: str
    node_id: str | None  # did:key; None: nobody has answered there yet
    problem: str | None  # why it is not joined yet; None: it is


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says of itself at GET /node/v1/info; a claim, until a signed answer proves the key."""

    node_id: bytes
    url: str | None
    mesh: str
    software: str

    def as_json(self) -> dict[str, str | None]:
        """The public JSON of GET /node/v1/info."""
        return {"node_id": did_key(self.node_id), "url": self.url, "mesh": self.mesh, "software": self.software}

    @classmethod
    def from_json(cls, value: object) -> "NodeInfo":
        """Read another node's info. Raises ValueError with a sentence if it is not one."""
        if not isinstance(value, dict):
            raise ValueError("its info is not a JSON object")
        texts = {name: value.get(name) for name in ("node_id", "mesh", "software")}
        for name, text in texts.items():
            if not isinstance(text, str) or len(text) > INFO_TEXT_CHARACTERS_MAX:
                raise ValueError(f"its info has no usable {name}")
        url = value.get("url")
        if url is not None and (not isinstance(url, str) or len(url) > INFO_TEXT_CHARACTERS_MAX):
            raise ValueError("its info has no usable url")
        try:
            node_id = parse_did_key(str(texts["node_id"]))
        except Refusal as refusal:
            raise ValueError(f"its node_id is not a key: {refusal.sentence}") from refusal
        return cls(node_id=node_id, url=url, mesh=str(texts["mesh"]), software=str(texts["software"]))


def status_view(status: MeshStatus, waiting: int, filling: Filling | None) -> dict[str, object]:
    """The mesh in a few numbers, ready for JSON. `waiting`: announcements that are kept and not shown yet."""
    shown = {"reading": False, "digest": status.digest.hex(), "last": list(status.last), "to_conclude": waiting}
    return asdict(status) | shown | {"filling": filling and asdict(filling)}


def peer_views(
    mesh: Mesh,
    me: bytes,
    rows: Sequence[Peer],
    proofs: Mapping[bytes, tuple[bytes, bytes]],
    traffic: Traffic,
    now: float,
) -> list[PeerView]:
    """The other nodes as this one knows them, at most PEERS_SHOWN_MAX: first those with an opinion about them, then
    links, then who was convicted, then by last seen. `now` in seconds since 1970."""
    links = {link.peer: link for link in mesh.links()}
    known = {peer.node_id: peer for peer in rows}
    for node_id in (*links, *proofs):
        url = links[node_id].url if node_id in links else ""
        known.setdefault(node_id, Peer(node_id, url or None, False, False, False, False, None))
    known.pop(me, None)
    glances = [
        _Glance(peer, links.get(node_id), proofs.get(node_id, ()), traffic.of(node_id))
        for node_id, peer in known.items()
    ]
    shown = nsmallest(PEERS_SHOWN_MAX, glances, key=_Glance.order)
    via = mesh.trusted_via(glance.peer.node_id for glance in shown)
    return [_view(mesh, glance, via[glance.peer.node_id], now) for glance in shown]


@dataclass(frozen=True, slots=True)
class _Glance:
    """What there is of a node that costs nothing to look at: it decides whether it is shown."""

    peer: Peer
    link: LinkView | None
    proof: tuple[bytes, ...]
    traffic: PeerTraffic

    def order(self) -> tuple[bool, bool, bool, int, bytes]:
        peer = self.peer
        opinion = peer.joined or peer.pinned or peer.blocked
        return not opinion, self.state() != "linked", not self.proof, -(self.last_seen() or 0), peer.node_id

    def state(self) -> str:
        return "blocked" if self.peer.blocked else "known" if self.link is None else self.link.state

    def last_seen(self) -> int | None:
        link = self.link
        heard = link.last_heard_ms // 1000 if link is not None and link.last_heard_ms is not None else None
        seen = [at for at in (self.peer.last_seen, self.traffic.last_seen, heard) if at is not None]
        return max(seen, default=None)


def _view(mesh: Mesh, glance: _Glance, via: Sequence[bytes], now: float) -> PeerView:
    peer, link, traffic, proof = glance.peer, glance.link, glance.traffic, glance.proof
    round_trip = traffic.round_trip_seconds
    announced, held = mesh.completeness.stated(peer.node_id)
    return PeerView(
        node_id=did_key(peer.node_id),
        url=(link.url if link is not None else None) or peer.url,
        state=glance.state(),
        pinned=peer.pinned,
        provisional=peer.provisional,
        blocked=peer.blocked,
        joined=peer.joined,
        trusted_via=tuple(did_key(node) for node in via),
        last_seen=glance.last_seen(),
        round_trip_ms=None if round_trip is None else round(round_trip * 1000),
        bytes_sent=traffic.bytes_sent,
        bytes_received=traffic.bytes_received,
        announcements=mesh.announced_by(peer.node_id),
        links=(link.role,) if link is not None and link.role else (),
        outbound=link is not None and link.outbound,
        announcements_sent=link.sent if link is not None else 0,
        announcements_received=link.received if link is not None else 0,
        differences_found=link.differences_found if link is not None else 0,
        announced=announced,
        held=held,
        incomplete=mesh.completeness.shortfall(peer.node_id) is not None,
        convicted=bool(proof),
        proof=tuple(one.hex() for one in proof),
        bytes_last_minute=traffic.bytes_last_minute(now),
    )
