"""Building the set again from what was kept over a restart.

Who is admitted follows from node announcements, so they come first, from the pins outwards; then everything else.
What was admitted before and no longer is (or the reverse), and what has expired meanwhile, is reported like any other
change.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pfn_protocol.acceptance import EXPIRING_KINDS
from pfn_protocol.announcements import Kind, NodeStatement
from pfn_protocol.effects import ChangeAdmission, DropAnnouncements, KeepConviction
from pfn_protocol.messages import PeerAddress
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SumOf, add_up
from pfn_protocol.slots import Entry


@dataclass(frozen=True, slots=True)
class Restored:
    """What was kept over a restart."""

    announcements: Iterable[tuple[Entry, bool]] = ()  # each with whether it was admitted
    peers: tuple[PeerAddress, ...] = ()  # reached before, in that order
    pins: tuple[bytes, ...] = ()
    blocked: tuple[bytes, ...] = ()
    last: tuple[int, int] = (0, 0)  # (epoch, seq) of the last own announcement
    introduced: frozenset[bytes] = frozenset()  # those of the peers that were introduced (R98)
    sum_of: SumOf = add_up


def restore(
    registry: Registry, outgoing: Outgoing, kept: Iterable[tuple[Entry, bool]], now_ms: int, sum_of: SumOf = add_up
) -> NodeStatement | None:
    """Fill an empty registry. Returns this node's own last node announcement, which names whom it sponsored."""
    living: list[Entry] = []
    nodes: list[Entry] = []
    expired: list[bytes] = []
    aside: dict[bytes, None] = {}
    latest = 0
    for entry, admitted in kept:
        if entry.kind in EXPIRING_KINDS and _has_expired(entry, now_ms):
            expired.append(entry.id)
            continue
        living.append(entry)
        latest = max(latest, entry.seq)
        if entry.kind is Kind.NODE:
            nodes.append(entry)
        if not admitted:
            aside[entry.id] = None
    own = _own_node(registry, nodes)
    registry.set_policy(registry.pins, own.sponsored if own else ())
    for entry in _nodes_from_the_pins_outwards(registry, nodes):
        _fill(registry, outgoing, [entry], sum_of)
    _fill(registry, outgoing, living, sum_of)
    if latest > now_ms:
        registry.withdraw_early(now_ms)  # the clock may have been ahead before (R135); reported with what else is gone
    _report(registry, outgoing, living, aside, expired)
    return own


def _has_expired(entry: Entry, now_ms: int) -> bool:
    return entry.expires_ms is not None and entry.expires_ms <= now_ms


def _fill(registry: Registry, outgoing: Outgoing, entries: Collection[Entry], sum_of: SumOf) -> None:
    """What was kept is no reason to judge again; but two stories may have been kept before anybody compared them."""
    for one, other in registry.fill(entries, sum_of):
        outgoing.add(KeepConviction(one, other))


def _own_node(registry: Registry, nodes: list[Entry]) -> NodeStatement | None:
    own = [entry for entry in nodes if entry.author == registry.me]
    return max(own, key=lambda entry: entry.place).node if own else None


def _nodes_from_the_pins_outwards(registry: Registry, nodes: list[Entry]) -> Iterable[Entry]:
    """Node announcements of admitted authors; each layer that was offered may admit the next one."""
    while layer := [entry for entry in nodes if registry.cap(entry.author)]:
        yield from layer
        nodes = [entry for entry in nodes if not registry.cap(entry.author)]
        registry.readmit()


def _report(
    registry: Registry, outgoing: Outgoing, living: list[Entry], aside: Mapping[bytes, None], expired: list[bytes]
) -> None:
    """`aside`: those of the living that were not in the set before."""
    admitted = tuple(one for one in aside if one in registry)
    parked = tuple(one for one in registry.parking.ids() if one not in aside)
    # A look at each of a million takes half a second. They are all there if there are as many: only a conviction is
    # there that was not kept, and it stands for the two that made it.
    is_whole = len(registry) + len(registry.parking) == len(living)
    dropped = (*expired, *(() if is_whole else (entry.id for entry in living if not registry.knows(entry.id))))
    if admitted or parked:
        outgoing.add(ChangeAdmission(admitted, parked))
    if dropped:
        outgoing.add(DropAnnouncements(dropped))
