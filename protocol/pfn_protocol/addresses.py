"""The addresses of one node, the most reliable first.

Whom the operator joined is where the operator said; then the node's own signed word counts; then a place where it
proved its key, which may also be somebody who passes requests on to it; then what others say. Of each source but
hearsay only the latest address counts as its own, so there is always a place for the next.
"""

from enum import IntEnum
from operator import itemgetter

# Addresses that are remembered for one node; each of them is dialled in turn.
_addresses_max = 3


class Source(IntEnum):
    """Whose word an address is, the best first."""

    JOINED = 0
    ANNOUNCED = 1
    PROVEN = 2
    HEARD = 3


def with_address(known: dict[str, Source], url: str, source: Source) -> dict[str, Source]:
    """The addresses with one more. What was the latest of the same source before becomes hearsay."""
    if not known:
        return {url: source}
    if url in known and known[url] <= source:
        return known
    others = [(one, Source.HEARD if of == source else of) for one, of in known.items() if one != url]
    others.sort(key=itemgetter(1))
    if len(others) >= _addresses_max and others.pop()[1] < source:
        return known
    return dict(sorted([*others, (url, source)], key=itemgetter(1)))


def address_after(known: dict[str, Source], url: str) -> str:
    """The address to try after this one failed."""
    addresses = list(known)
    following = addresses.index(url) + 1 if url in known else 0
    return addresses[following % len(addresses)]
