"""Filling the set at a start: many at once, and with the same outcome as one after the other."""

from hashlib import sha256
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_node.simulation.world import START_MS
from pfn_protocol.announcements import Kind
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, DAVE, everything, fake_versions

AUTHORS = (ALICE.public, BOB.public, CAROL.public, DAVE.public)  # the last one is a stranger
KINDS = (Kind.VERSION, Kind.VERSION, Kind.VERSION, Kind.MIRROR, Kind.SUCCESSOR, Kind.NODE, Kind.CONVICTION)


@st.composite
def anything(draw: st.DrawFn) -> Entry:
    author, kind = draw(st.sampled_from(AUTHORS)), draw(st.sampled_from(KINDS))
    if kind is Kind.CONVICTION:
        return Entry(conviction_id(author), author, kind, "", 0, 0, 900)
    subject = "" if kind is Kind.NODE else draw(st.sampled_from("abcdef"))
    content = draw(st.sampled_from((b"x", b"y"))) if kind is Kind.VERSION else b""
    seq = START_MS + draw(st.integers(0, 5))
    id_ = sha256(f"{author.hex()} {kind} {subject} {content!r} {seq} {draw(st.integers(0, 1))}".encode()).digest()
    return Entry(id_, author, kind, subject, draw(st.integers(0, 1)), seq, 500, content)


def state(registry: Registry) -> object:
    """All that the set is, as far as anybody can tell."""
    shares = [(author, registry.summary(author, cap)) for author in AUTHORS for cap in (1, 2, 4)]
    slots = [(one, registry.find(one)) for one in everything(registry)]
    parked = [registry.parking.take(author) for author in AUTHORS]
    expired = registry.expire(START_MS + 10**9)
    digests = registry.total().digest(), registry.total({BOB.public: 1}).digest()
    return shares, slots, parked, (sorted(expired[0]), expired[1]), digests, everything(registry), registry.convicted


@given(st.lists(anything(), max_size=40, unique_by=lambda one: one.id), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_a_set_that_is_filled_at_once_is_the_one_that_is_filled_one_by_one(entries: list[Entry], cap: int) -> None:
    with patch("pfn_protocol.admission.slots_pinned_max", cap), patch("pfn_protocol.admission.slots_sponsored_max", 1):
        at_once, one_by_one = (Registry(ALICE.public, [BOB.public], [CAROL.public]) for _ in range(2))
        for registry in (at_once, one_by_one):
            assert list(registry.ids_between(b"", b"")) == []  # from now on the order is kept
        outcomes = [(one_by_one.offer(one).contradicted, one.id) for one in entries]
        contradictions = at_once.fill(entries)

        assert contradictions == [one for one in outcomes if one[0]]
        # What is placed, and then goes for a conviction, has changed the set twice. Whoever follows it misses nothing.
        assert at_once.changes.position >= one_by_one.changes.position
        assert list(at_once.ids_between(b"", b"")) == list(one_by_one.ids_between(b"", b"")) == everything(one_by_one)
        assert state(at_once) == state(one_by_one)


def test_after_the_filling_the_set_goes_on_as_ever() -> None:
    entries = fake_versions(BOB.public, 300)
    registry = Registry(ALICE.public, [BOB.public])
    before = registry.find_short(entries[0].id[:16]), registry.changes.position
    registry.fill(entries[:200])

    for one in entries[200:]:
        registry.offer(one)

    assert before == (None, 0)
    assert registry.changes.since(0) is None  # who had anything of before makes it anew
    assert registry.find_short(entries[0].id[:16]) == entries[0].id
    assert registry.summary(BOB.public, 5_000)[0] == registry.total().count == len(registry) == 300
