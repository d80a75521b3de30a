"""Where everything stands on the map of the mesh. Pure geometry: the same nodes give the same picture.

This node is in the middle. Around it stand the nodes that it is linked to, and outside of them those that it only
knows. In which direction a node stands follows from its id alone, so it stays where it is while others come and go;
nodes that would touch are pushed apart as little as possible. Where more than ALONE_MAX nodes are known, those without
a link are counted by direction: a ring whose bars say how many are there.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pfn_node.web.pages.peer_figures import link_dashes, link_width
from pfn_node.web.pages.rendering import short_id
from pfn_node.web.services import PeerView

WIDTH, HEIGHT = 960, 760  # of the view box, whose origin is the middle
NEAR_WIDTH, NEAR_HEIGHT = 720, 570  # of the same shape
CENTRE_RADIUS = 34.0
OWN_RING, LINK_RING, OPINION_RING, OUTER_RING = 64.0, 186.0, 268.0, 312.0
ALONE_MAX = 60  # nodes that are drawn each for itself; beyond, those without a link are only counted
LINKED_MAX = 64  # twice what a node keeps up (links_max); what is beyond stands in the table
OPINIONS_MAX = 32
SECTORS = 48
SECTOR_INNER, SECTOR_OUTER = 300.0, 340.0
BEADS_MAX = 3  # publishers beside a node
OWN_BEADS_MAX = 12
WATCHED_MAX = 100  # publishers of one node that are counted
BEAD = 10.0
LABELLED_MAX, BOTH_LINES_MAX = 32, 16  # nodes, up to which names are written where there is room; with their ids
_TURN = 2 * math.pi
# How large the nodes of a ring are drawn, by how many there are.
_SIZES = ((8, 19.0), (16, 15.0), (24, 12.0), (32, 10.5), (48, 9.0), (64, 7.5))


class Point(NamedTuple):
    """A place on the map; y goes down."""

    x: float
    y: float


class Box(NamedTuple):
    """A rectangle on the map."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether both share some ground."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    @classmethod
    def around(cls, at: Point, reach: float) -> "Box":
        """The square around a place."""
        return cls(at.x - reach, at.y - reach, at.x + reach, at.y + reach)


class Hand(NamedTuple):
    """How names are written. `wide` is what a character takes in the widest of the usual fonts (mesh.css)."""

    lines: int
    characters: int
    wide: float
    high: float


LONG, SHORT, LARGE = Hand(2, 22, 7.8, 14.0), Hand(1, 22, 7.8, 14.0), Hand(1, 16, 11.8, 20.0)


@dataclass(frozen=True, slots=True)
class Bead:
    """A publisher, beside a node that watches it."""

    source_id: str
    at: Point
    size: float = BEAD
    turned: int = 0  # degrees: it looks at what it stands beside


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a node, written where nothing else is."""

    lines: tuple[str, ...]
    at: Point  # of the first line's base
    anchor: str
    box: Box


@dataclass(slots=True)
class Placed:
    """A node on the map."""

    peer: PeerView
    angle: float
    at: Point
    radius: float
    beads: list[Bead] = field(default_factory=list)
    more: int = 0  # publishers that are not drawn
    label: Label | None = None

    @property
    def role(self) -> str:
        """What the link is for; empty: there is none."""
        return self.peer.links[0] if self.peer.links else ""

    @property
    def more_at(self) -> Point:
        """Where the number of further publishers stands."""
        return polar(self.angle, math.hypot(*self.beads[-1].at) + 17)

    @property
    def link(self) -> tuple[Point, Point]:
        """The line from the middle to the node."""
        distance = math.hypot(*self.at)
        return polar(self.angle, CENTRE_RADIUS + 2), polar(self.angle, distance - self.radius - 1)

    @property
    def width(self) -> float:
        """Of the link."""
        return link_width(self.peer)

    @property
    def dashes(self) -> str:
        """Of the link."""
        return link_dashes(self.peer)

    @property
    def completeness(self) -> int | None:
        """How many percent are here of what the node says to have announced, where some are missing."""
        if not self.peer.incomplete or not self.peer.announced:
            return None
        return min(99, 100 * self.peer.held // self.peer.announced)


@dataclass(frozen=True, slots=True)
class Sector:
    """A direction in which nodes are only counted."""

    count: int
    unreachable: int
    path: str
    at: Point  # where the number stands


@dataclass(slots=True)
class Picture:
    """The map."""

    own: list[Bead] = field(default_factory=list)
    own_more: int = 0
    linked: list[Placed] = field(default_factory=list)
    others: list[Placed] = field(default_factory=list)
    sectors: list[Sector] = field(default_factory=list)
    beyond: int = 0  # linked nodes that found no place

    @property
    def room(self) -> tuple[int, int]:
        """Width and height of what is looked at: nearer where nothing stands outside."""
        return (WIDTH, HEIGHT) if self.others or self.sectors else (NEAR_WIDTH, NEAR_HEIGHT)

    @property
    def view_box(self) -> str:
        """The same, as SVG says it."""
        width, height = self.room
        return f"{-width // 2} {-height // 2} {width} {height}"

    @property
    def nodes(self) -> list[Placed]:
        """All that stand on the map each for itself."""
        return [*self.linked, *self.others]


def polar(angle: float, distance: float) -> Point:
    """The place in a direction: 0 is up, and it goes clockwise."""
    return Point(round(math.sin(angle) * distance, 1), round(-math.cos(angle) * distance, 1))


def _degrees(angle: float) -> int:
    return round(math.degrees(angle)) % 90  # a square looks the same after a quarter of a turn


def direction(name: str) -> float:
    """Where a name wants to stand, as an angle: it follows from the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32 * _TURN


def spread(names: Iterable[str], gap: float) -> dict[str, float]:
    """An angle for each name, near to the one that it wants, and all at least `gap` apart (or evenly, where that is
    too much)."""
    wanted = sorted((direction(name), name) for name in set(names))
    if not wanted:
        return {}
    count = len(wanted)
    gap = min(gap, _TURN / count)
    first = _after_widest_gap([angle for angle, _ in wanted])
    turned = [*wanted[first:], *((angle + _TURN, name) for angle, name in wanted[:first])]
    # With the gaps taken out, "at least a gap apart" is "never falling": the nearest such row is known.
    fitted = _never_falling([angle - index * gap for index, (angle, _) in enumerate(turned)])
    slack = _TURN - count * gap
    middle = (fitted[0] + fitted[-1]) / 2
    low, high = middle - slack / 2, middle + slack / 2
    return {
        name: (min(max(angle, low), high) + index * gap) % _TURN
        for index, (angle, (_, name)) in enumerate(zip(fitted, turned, strict=True))
    }


def _after_widest_gap(angles: Sequence[float]) -> int:
    """Which of the sorted angles comes after the widest gap of the circle: there it is cut open."""
    gaps = [(angles[index] - angles[index - 1]) % _TURN or _TURN for index in range(len(angles))]
    return max(range(len(angles)), key=lambda index: (round(gaps[index], 9), -index))


def _never_falling(values: Sequence[float]) -> list[float]:
    """The nearest row that never falls (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]


def draw(
    peers: Sequence[PeerView], own: Sequence[str], watched: Mapping[str, Sequence[str]], *, small: bool = False
) -> Picture:
    """Place all peers. `own`: the sources of this node; `watched`: by node id, those of others. `small`: the map is to
    be shown in little room, so what is written is large."""
    picture = Picture(own_more=max(0, len(own) - OWN_BEADS_MAX))
    shown = own[:OWN_BEADS_MAX]
    angles = spread(shown, _TURN / max(8, len(shown)) * 0.9)
    picture.own = [Bead(source, polar(angles[source], OWN_RING), turned=_degrees(angles[source])) for source in shown]
    linked = sorted((peer for peer in peers if peer.links), key=lambda peer: peer.node_id)
    others = [peer for peer in peers if not peer.links]
    picture.linked = _ring(linked[:LINKED_MAX], LINK_RING, watched)
    picture.beyond = len(linked) - len(picture.linked)
    if len(peers) <= ALONE_MAX:
        picture.others = _ring(others, OUTER_RING, watched, largest=11.0)
    else:
        kept = [peer for peer in others if _has_opinion(peer)][:OPINIONS_MAX]
        picture.others = _ring(kept, OPINION_RING, watched, largest=9.0, beads_max=0)
        alone = {peer.node_id for peer in kept}
        picture.sectors = _sectors([peer for peer in others if peer.node_id not in alone])
    if len(picture.nodes) <= LABELLED_MAX and not picture.sectors:
        _write_names(picture, LARGE if small else LONG if len(picture.nodes) <= BOTH_LINES_MAX else SHORT)
    return picture


def _has_opinion(peer: PeerView) -> bool:
    return peer.joined or peer.pinned or peer.blocked or peer.convicted


def _ring(
    peers: Sequence[PeerView],
    distance: float,
    watched: Mapping[str, Sequence[str]],
    largest: float = 99.0,
    beads_max: int = BEADS_MAX,
) -> list[Placed]:
    room, size = next(step for step in _SIZES if step[0] >= len(peers))
    angles = spread((peer.node_id for peer in peers), _TURN / room * 0.9)
    return [
        _placed(peer, angles[peer.node_id], distance, min(size, largest), watched.get(peer.node_id, ()), beads_max)
        for peer in sorted(peers, key=lambda peer: peer.node_id)
    ]


def _placed(
    peer: PeerView, angle: float, distance: float, radius: float, sources: Sequence[str], beads_max: int
) -> Placed:
    size = round(min(BEAD, radius * 0.9), 1)
    beads = [
        Bead(source, polar(angle, distance + radius + 5 + size / 2 + index * size * 1.2), size, _degrees(angle))
        for index, source in enumerate(sources[:beads_max])
    ]
    return Placed(peer, angle, polar(angle, distance), radius, beads, len(sources) - len(beads) if beads else 0)


def _sectors(peers: Sequence[PeerView]) -> list[Sector]:
    inside: list[list[PeerView]] = [[] for _ in range(SECTORS)]
    for peer in peers:
        inside[int(direction(peer.node_id) / _TURN * SECTORS) % SECTORS].append(peer)
    most = max((len(some) for some in inside), default=0)
    return [_sector(index, some, most) for index, some in enumerate(inside) if some]


def _sector(index: int, peers: Sequence[PeerView], most: int) -> Sector:
    step = _TURN / SECTORS
    start, end = (index + 0.08) * step, (index + 0.92) * step
    outer = SECTOR_INNER + 6 + (SECTOR_OUTER - SECTOR_INNER - 6) * len(peers) / most
    a, b, c, d = polar(start, SECTOR_INNER), polar(start, outer), polar(end, outer), polar(end, SECTOR_INNER)
    path = (
        f"M{a.x} {a.y}L{b.x} {b.y}A{outer:.1f} {outer:.1f} 0 0 1 {c.x} {c.y}"
        f"L{d.x} {d.y}A{SECTOR_INNER} {SECTOR_INNER} 0 0 0 {a.x} {a.y}Z"
    )
    unreachable = sum(peer.state == "unreachable" for peer in peers)
    return Sector(len(peers), unreachable, path, polar((start + end) / 2, outer + 12))


def name_lines(peer: PeerView, hand: Hand) -> tuple[str, ...]:
    """How a node is called on the map: where it is, and its id."""
    host = (peer.url or "").partition("://")[2].strip("/")
    names = [name for name in (host, short_id(peer.node_id)) if name][: hand.lines]
    return tuple(name if len(name) <= hand.characters else name[: hand.characters - 1] + "…" for name in names)


def _write_names(picture: Picture, hand: Hand) -> None:
    """Write the names of nodes where there is room for them, outwards; else not."""
    taken = [Box.around(Point(0, 0), CENTRE_RADIUS + 4)]
    taken += [Box.around(node.at, node.radius + 3) for node in picture.nodes]
    beads = [*picture.own, *(bead for node in picture.nodes for bead in node.beads)]
    taken += [Box.around(bead.at, bead.size * 0.7 + 2) for bead in beads]
    taken += [Box.around(node.more_at, 10) for node in picture.nodes if node.more]
    for node in picture.nodes:
        node.label = next((label for label in _places(node, hand) if _has_room(label.box, picture.room, taken)), None)
        if node.label is not None:
            taken.append(node.label.box)


def _places(node: Placed, hand: Hand) -> Iterable[Label]:
    """Where the name of a node may stand, the best place first."""
    lines = name_lines(node.peer, hand)
    high = hand.high * len(lines)
    wide = max(map(len, lines)) * hand.wide
    reach = node.radius + 8
    out = reach + (BEAD * 1.2 * len(node.beads) + (20 if node.more else 0) if node.beads else 0)
    side = math.sin(node.angle)
    x, y = node.at
    places = {
        "right": Box(x + reach, y - high / 2, x + reach + wide, y + high / 2),
        "left": Box(x - reach - wide, y - high / 2, x - reach, y + high / 2),
        "below": Box(x - wide / 2, y + reach - 3, x + wide / 2, y + reach - 3 + high),
        "above": Box(x - wide / 2, y - reach + 3 - high, x + wide / 2, y - reach + 3),
    }
    if abs(side) > 0.5 and node.beads:
        tip = polar(node.angle, math.hypot(x, y) + out)
        left = tip.x if side > 0 else tip.x - wide
        places["right" if side > 0 else "left"] = Box(left, tip.y - high / 2, left + wide, tip.y + high / 2)
    across = ("right", "left") if side > 0 else ("left", "right")
    upright = ("below", "above") if y > 0 else ("above", "below")
    order = (across[0], upright[0]) if abs(side) > 0.35 else (upright[0], *across)  # never towards the links
    anchors = {"right": "start", "left": "end", "below": "middle", "above": "middle"}
    for name in order:
        box = places[name]
        start = {"start": box.left, "end": box.right, "middle": (box.left + box.right) / 2}[anchors[name]]
        yield Label(lines, Point(round(start, 1), round(box.top + hand.high * 0.8, 1)), anchors[name], box)


def _has_room(box: Box, room: tuple[int, int], taken: Sequence[Box]) -> bool:
    width, height = room
    inside = -width / 2 <= box.left and box.right <= width / 2 and -height / 2 <= box.top and box.bottom <= height / 2
    return inside and not any(box.meets(other) for other in taken)
