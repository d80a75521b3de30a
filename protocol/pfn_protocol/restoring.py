"""Building the set again from what was kept over a restart.

Who is admitted follows from node announcements, so they come first, from the pins outwards; then everything else.
What was admitted before and no longer is (or the reverse), and what has expired meanwhile, is reported like any other
change.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

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
    expired: list[bytes] = []
    aside: set[bytes] = set()
    for entry, admitted in kept:
        expires_ms = entry.expires_ms
        if expires_ms is not None and expires_ms <= now_ms:
            expired.append(entry.id)
            continue
        living.append(entry)
        if not admitted:
            aside.add(entry.id)
    own = _own_node(registry, living)
    registry.set_policy(registry.pins, own.sponsored if own else ())
    for entry in _nodes_from_the_pins_outwards(registry, living):
        _fill(registry, outgoing, [entry], sum_of)
    _fill(registry, outgoing, living, sum_of)
    registry.withdraw_early(now_ms)  # the clock may have been ahead before (R135); reported with what else is gone
    _report(registry, outgoing, living, aside, expired)
    return own


def _fill(registry: Registry, outgoing: Outgoing, entries: Collection[Entry], sum_of: SumOf) -> None:
    """What was kept is no reason to judge again; but two stories may have been kept before anybody compared them."""
    for one, other in registry.fill(entries, sum_of):
        outgoing.add(KeepConviction(one, other))


def _own_node(registry: Registry, entries: list[Entry]) -> NodeStatement | None:
    own = [entry for entry in entries if entry.author == registry.me and entry.kind is Kind.NODE]
    return max(own, key=lambda entry: entry.place).node if own else None


def _nodes_from_the_pins_outwards(registry: Registry, entries: list[Entry]) -> Iterable[Entry]:
    """Node announcements of admitted authors; each layer that was offered may admit the next one."""
    waiting = [entry for entry in entries if entry.kind is Kind.NODE]
    while True:
        layer = [entry for entry in waiting if registry.cap(entry.author)]
        if not layer:
            return
        yield from layer
        waiting = [entry for entry in waiting if not registry.cap(entry.author)]
        registry.readmit()


def _report(
    registry: Registry, outgoing: Outgoing, living: list[Entry], aside: set[bytes], expired: list[bytes]
) -> None:
    """`aside`: those of the living that were not in the set before."""
    admitted = tuple(entry.id for entry in living if entry.id in aside and entry.id in registry)
    absent = [entry.id for entry in living if registry.find(entry.id) is None]
    parked = tuple(one for one in absent if one not in aside and one in registry.parking)
    dropped = (*expired, *(one for one in absent if one not in registry.parking))
    if admitted or parked:
        outgoing.add(ChangeAdmission(admitted, parked))
    if dropped:
        outgoing.add(DropAnnouncements(dropped))
