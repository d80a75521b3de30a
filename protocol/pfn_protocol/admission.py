"""Whose announcements are in the set: who is reachable over pins, and whom those let in.

This node is admitted, and everyone it pins, and everyone they pin, at any depth; each of those may also sponsor a few
newcomers, who are admitted with a small cap. Sponsorship goes no further: a newcomer's pins and sponsored nodes admit
nobody. A block does not enter here: it is a view over the set, so that honest nodes hold the same one.
"""

from collections.abc import Callable, Iterable

from pfn_protocol.announcements import NodeStatement
from pfn_protocol.limits import admitted_authors_max, slots_pinned_max, slots_sponsored_max


def admitted_authors(
    me: bytes,
    pins: Iterable[bytes],
    sponsored: Iterable[bytes],
    statement_of: Callable[[bytes], NodeStatement | None],
) -> dict[bytes, int]:
    """Each admitted author, with the number of slots that it may fill; the nearest first, then by id.

    `pins` and `sponsored` are this node's own, newer than what it has announced. With more authors than
    `admitted_authors_max` the farthest are left out.
    """
    reached: dict[bytes, int] = {me: slots_pinned_max}
    let_in: dict[bytes, None] = dict.fromkeys(sorted(sponsored))
    layer = sorted(set(pins) - {me})
    while layer:
        following: dict[bytes, None] = {}
        for author in layer[: admitted_authors_max - len(reached)]:
            reached[author] = slots_pinned_max
        for author in layer:
            statement = statement_of(author) if author in reached else None
            if statement is not None and not statement.left:
                following.update(dict.fromkeys(pin for pin in statement.pins if pin not in reached))
                let_in.update(dict.fromkeys(statement.sponsored))
        layer = sorted(following)
    for author in let_in:
        if author not in reached and len(reached) < admitted_authors_max:
            reached[author] = slots_sponsored_max
    return reached


def admits_others(cap: int) -> bool:
    """Whether admission follows the pins of who may fill so many slots: those of newcomers change nothing."""
    return cap >= slots_pinned_max


def trusted_via(
    authors: Iterable[bytes], caps: dict[bytes, int], statement_of: Callable[[bytes], NodeStatement | None]
) -> dict[bytes, list[bytes]]:
    """For each of these authors the nodes reachable over pins that themselves pin it, sorted.

    Everybody's pins are looked at once, however many authors are asked for.
    """
    found: dict[bytes, list[bytes]] = {author: [] for author in authors}
    for node in sorted(node for node, cap in caps.items() if admits_others(cap)):
        statement = statement_of(node)
        for author in found.keys() & statement.pins if statement is not None else ():
            found[author].append(node)
    return found
