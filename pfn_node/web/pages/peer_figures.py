"""What is measured of the exchange with a peer, as people read it: in the table, on the map, and in its live feed."""

import math
from collections.abc import Iterable, Mapping
from hashlib import sha256

from pfn_node.store.mesh_claims import Held
from pfn_node.web.pages.rendering import number, size
from pfn_node.web.services import PeerView

_UNLINKED = {"known": "none, only its address is known", "linking": "being linked"}
_SHAPE_CHARACTERS = 16


def figures(peer: PeerView) -> dict[str, str]:
    """The figures that change while somebody looks, by the name of their place on the page."""
    return {
        "round_trip": "–" if peer.round_trip_ms is None else f"{number(peer.round_trip_ms)} ms",
        "bytes_sent": size(peer.bytes_sent) if peer.bytes_sent else "0",
        "bytes_received": size(peer.bytes_received) if peer.bytes_received else "0",
        "minute": size(peer.bytes_last_minute) if peer.bytes_last_minute else "0",
        "announcements_sent": number(peer.announcements_sent),
        "announcements_received": number(peer.announcements_received),
        "differences": number(peer.differences_found),
    }


def link_width(peer: PeerView) -> float:
    """Of the line on the map: it grows with the bytes of the last minute, by the same step each time they double."""
    return round(1.5 + min(6.5, math.log2(1 + peer.bytes_last_minute / 1000) * 0.75), 2)


def link_dashes(peer: PeerView) -> str:
    """The dashes or dots of a line, which stay apart however wide it is; `none` where it is whole."""
    width = link_width(peer)
    if "reconciliation" in peer.links:
        return f"0.1 {3 + width * 2:.1f}"
    return f"{5 + width:.1f} {4 + width:.1f}" if "lazy" in peer.links else "none"


def says(peer: PeerView) -> str:
    """All figures of a peer, a line each."""
    shown = figures(peer)
    lines = [f"Link: {', '.join(peer.links) or _UNLINKED.get(peer.state, peer.state)}"]
    if peer.round_trip_ms is not None:
        lines.append(f"Round trip: {shown['round_trip']}")
    if peer.links or peer.bytes_sent or peer.bytes_received:
        lines += [
            f"Bytes: {shown['bytes_sent']} out, {shown['bytes_received']} in",
            f"Last minute: {shown['minute']}",
            f"Announcements: {shown['announcements_sent']} out, {shown['announcements_received']} in",
            f"Differences: {shown['differences']}",
        ]
    return "\n".join(lines)


def opinions(peer: PeerView) -> list[tuple[str, str, str]]:
    """What this node thinks of a peer: a kind of state, a word, and what it means."""
    found = []
    if peer.convicted:
        found.append(("bad", "convicted", "It was proved to have told two stories: its word counts for nothing."))
    if peer.blocked:
        found.append(("bad", "blocked", "It is neither dialled nor answered."))
    if peer.pinned:
        word = "pinned for now" if peer.provisional else "pinned"
        found.append(("good", word, "What it observes backs bytes here."))
    if peer.joined:
        found.append(("good", "joined", "The operator joined it: it is always tried again."))
    if peer.incomplete:
        found.append(("warn", "incomplete", "Some of what it says to have announced has not come here."))
    return found


def extra(peer: PeerView, held: Held | None, watches: str) -> str:
    """What a node says of itself, a line each: which publishers it watches, and what it holds."""
    lines = [meaning for _, _, meaning in opinions(peer)]
    if watches:
        lines.append(f"Watches: {watches}")
    if held is not None:
        lines.append(f"Holds: {holds(held)}")
    return "\n".join(lines)


def holds(held: Held) -> str:
    """How much a node says to mirror."""
    artifacts = f"{number(held.artifacts)} artifact{'' if held.artifacts == 1 else 's'}"
    return f"{artifacts} of {number(held.sources)} source{'' if held.sources == 1 else 's'}"


def shape(peers: Iterable[PeerView]) -> str:
    """A digest of who is there, and how: when it changes, the map has to be drawn anew."""
    drawn = sorted(
        (peer.node_id, peer.url or "", peer.state, tuple(peer.links), tuple(word for _, word, _ in opinions(peer)))
        for peer in peers
    )
    return sha256(repr(drawn).encode()).hexdigest()[:_SHAPE_CHARACTERS]


def live(peer: PeerView) -> Mapping[str, object]:
    """A peer in the live feed: counts for what moves, texts for what is read."""
    return {
        "id": peer.node_id,
        "sent": peer.announcements_sent,
        "received": peer.announcements_received,
        "found": peer.differences_found,
        "width": link_width(peer),
        "dashes": link_dashes(peer),
        "says": says(peer),
        "figures": figures(peer),
    }
