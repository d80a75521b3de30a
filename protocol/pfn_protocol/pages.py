"""What a node answers to questions about its set: bodies by id, and pages of authors, ids and bodies.

A page is bounded by its items and, where it carries bodies, by their bytes; what does not fit is asked for again.
Authors that either side of the link leaves out do not occur.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import assert_never

from pfn_protocol.limits import (
    authors_page_max,
    digest_bytes,
    ids_page_max,
    page_bytes_max,
    sketch_id_bytes,
    slots_pinned_max,
    snapshot_page_max,
)
from pfn_protocol.messages import (
    AuthorsAnswer,
    AuthorsRequest,
    FetchAnswer,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry

Question = FetchRequest | AuthorsRequest | IdsRequest | SnapshotRequest
QuestionAnswer = FetchAnswer | AuthorsAnswer | IdsAnswer | SnapshotAnswer
# With so many times as many announcements of others, those of a few authors are not found by walking over all.
_SPARSE_RATIO = 16
_GREATEST_REST = b"\xff" * (digest_bytes - sketch_id_bytes)


def answer_question(
    registry: Registry, question: Question, left_out: Collection[bytes]
) -> tuple[QuestionAnswer, tuple[bytes, ...]]:
    """The answer, and the ids of the bodies that go into it. `left_out`: authors that do not occur in it."""
    match question:
        case FetchRequest():
            bodies, missing = _fetched(registry, question.ids, left_out)
            return FetchAnswer((), missing), bodies
        case AuthorsRequest():
            page, more = registry.summaries(question.after, authors_page_max, left_out)
            return AuthorsAnswer(tuple(page), more), ()
        case IdsRequest():
            return _ids_page(registry, question, left_out), ()
        case SnapshotRequest():
            bodies, after = _snapshot_page(registry, question, left_out)
            return SnapshotAnswer((), after), bodies
        case _:
            assert_never(question)


def _fetched(
    registry: Registry, ids: Sequence[bytes], left_out: Collection[bytes]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The bodies to send for these ids, the node announcements of their authors first; and which ids are not here."""
    wanted = {one: _found(registry, one) for one in dict.fromkeys(ids)}
    here = [entry for entry in wanted.values() if entry is not None and entry.author not in left_out]
    nodes = [registry.node_entry(author) for author in dict.fromkeys(entry.author for entry in here)]
    room = page_bytes_max
    bodies: dict[bytes, None] = {}
    for entry in [*(node for node in nodes if node is not None), *here]:
        if entry.id not in bodies:
            room -= entry.size
            if room < 0:
                break
            bodies[entry.id] = None
    held = {entry.id for entry in here}
    return tuple(bodies), tuple(one for one, entry in wanted.items() if entry is None or entry.id not in held)


def _found(registry: Registry, announcement_id: bytes) -> Entry | None:
    """What an id, whole or shortened, stands for."""
    if len(announcement_id) == sketch_id_bytes:
        return registry.find(registry.find_short(announcement_id) or b"")
    return registry.find(announcement_id)


def _ids_page(registry: Registry, request: IdsRequest, left_out: Collection[bytes]) -> IdsAnswer:
    """An author's ids at the smaller of both caps, or everybody's."""
    if not request.author:
        # The fewer of all ids belong to the link, the more are looked at for a page: so it has fewer then.
        share_of_link = registry.count_without(left_out) / max(1, len(registry))
        page_max = max(1, ids_page_max // 4, int(ids_page_max * share_of_link))
        following = islice(shortened_between(registry, request.after, b"", left_out), page_max + 1)
        page = tuple(one[:sketch_id_bytes] for one in following)
        return IdsAnswer(page[:page_max], len(page) > page_max)
    if request.author in left_out:
        return IdsAnswer((), False)
    ids = [one[:sketch_id_bytes] for one in registry.ids(request.author, min(request.cap, slots_pinned_max))]
    start = bisect_right(ids, request.after)
    return IdsAnswer(tuple(ids[start : start + ids_page_max]), start + ids_page_max < len(ids))


def shortened_between(registry: Registry, after: bytes, until: bytes, left_out: Collection[bytes]) -> Iterator[bytes]:
    """The ids of the set after one and up to another one, both shortened; empty: from the start, to the end."""
    start, end = (one and one + _GREATEST_REST for one in (after, until))
    return ids_without(registry, left_out, start, end)


def ids_without(registry: Registry, left_out: Collection[bytes], after: bytes, until: bytes) -> Iterator[bytes]:
    """`ids_between` of all authors but these: what is left is looked for where it is, if it is little."""
    if not left_out:
        return registry.ids_between(after, until)
    absent = frozenset(left_out)
    if registry.count_without(absent) * _SPARSE_RATIO < len(registry):
        there = [registry.ids(author, cap) for author, cap in registry.caps.items() if author not in absent]
        return (one for one in merge(*there) if after < one and (not until or one <= until))
    return (one for one in registry.ids_between(after, until) if not _is_of(registry, one, absent))


def _is_of(registry: Registry, announcement_id: bytes, authors: Collection[bytes]) -> bool:
    entry = registry.find(announcement_id)
    assert entry is not None, "an id of the set has an entry"
    return entry.author in authors


def _snapshot_page(
    registry: Registry, request: SnapshotRequest, left_out: Collection[bytes]
) -> tuple[tuple[bytes, ...], bytes]:
    """Ids of the bodies to send, in their order, and the id to go on from (empty: that was all)."""
    chosen: list[bytes] = []
    room = page_bytes_max
    for announcement_id in _snapshot_ids(registry, request, left_out):
        entry = registry.find(announcement_id)
        assert entry is not None, "an id of the set has an entry"
        room -= entry.size
        if room < 0 or len(chosen) == snapshot_page_max:
            return tuple(chosen), chosen[-1]
        chosen.append(announcement_id)
    return tuple(chosen), b""


def _snapshot_ids(registry: Registry, request: SnapshotRequest, left_out: Collection[bytes]) -> Iterable[bytes]:
    if not request.author:
        return ids_without(registry, left_out, request.after, request.until)
    if request.author in left_out:
        return ()
    ids = registry.ids(request.author, slots_pinned_max)
    return (one for one in ids if request.after < one and (not request.until or one <= request.until))
