"""The set: admission over pins, caps, parking, expiry, digests."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest

from pfn_node.simulation.world import START_MS, key_of, version_statement
from pfn_protocol.announcements import Kind
from pfn_protocol.limits import (
    node_lifetime_ms,
    parked_max,
    parked_per_author_max,
    slots_pinned_max,
    slots_sponsored_max,
)
from pfn_protocol.pages import ids_without
from pfn_protocol.registry import AdmissionChange, Outcome, Registry, Verdict
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.slots import slot_rank
from pfn_protocol.sorted_ids import SortedIds
from tests.protocol.sets import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    changed,
    entry,
    everything,
    fake_versions,
    filled,
    node_statement,
)

# --- Admission ------------------------------------------------------------------------------------------------------


def test_authors_reachable_over_pins_at_any_depth_are_admitted() -> None:
    registry = filled([entry(BOB, node_statement([CAROL])), entry(CAROL, node_statement([DAVE]))])

    assert [registry.cap(key.public) for key in (ALICE, BOB, CAROL, DAVE)] == [slots_pinned_max] * 4
    assert registry.trusted_via([DAVE.public]) == {DAVE.public: [CAROL.public]}


def test_sponsored_authors_are_admitted_with_a_small_share_and_admit_nobody() -> None:
    registry = filled([entry(BOB, node_statement([], [CAROL])), entry(CAROL, node_statement([DAVE], [DAVE]))])

    assert registry.cap(CAROL.public) == slots_sponsored_max
    assert registry.cap(DAVE.public) == 0


def test_what_a_sponsored_author_says_of_others_has_nobody_judged_again() -> None:
    registry = filled([entry(BOB, node_statement([], [CAROL]))])
    assert registry.cap(CAROL.public) == slots_sponsored_max

    said = registry.offer(entry(CAROL, node_statement([DAVE], [DAVE]), START_MS))
    taken_back = registry.offer(entry(CAROL, node_statement(), START_MS + 1))
    _, expired = registry.expire(START_MS + 10 * node_lifetime_ms)

    assert said.verdict is taken_back.verdict is Verdict.IN_SET
    assert not said.graph_changed and not taken_back.graph_changed
    assert expired  # with what BOB said


@pytest.mark.parametrize("pinned", [False, True])
def test_only_who_leads_on_to_others_changes_anything_by_its_silence(pinned: bool) -> None:
    registry = Registry(ALICE.public, [CAROL.public] if pinned else [], [CAROL.public])
    registry.offer(entry(CAROL, node_statement([DAVE])))

    assert registry.expire(START_MS + 10 * node_lifetime_ms)[1] is pinned


def test_this_node_sponsors_too_and_a_pin_outweighs_it() -> None:
    registry = Registry(ALICE.public)

    registry.set_policy([], [BOB.public, CAROL.public])
    assert registry.cap(BOB.public) == slots_sponsored_max
    registry.set_policy([BOB.public], [BOB.public, CAROL.public])
    assert registry.cap(BOB.public) == slots_pinned_max
    assert registry.pins == (BOB.public,)


def test_a_node_that_left_admits_nobody() -> None:
    registry = filled([entry(BOB, node_statement([CAROL], [DAVE]))])
    assert registry.authors == 4

    outcome = registry.offer(entry(BOB, node_statement([CAROL], [DAVE], left=True), START_MS + 1))
    registry.readmit()

    assert outcome.graph_changed
    assert registry.authors == 2


def test_with_too_many_authors_the_nearest_are_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.admission.admitted_authors_max", 4)
    near = [key_of(f"near-{number}") for number in range(6)]

    registry = Registry(ALICE.public, [key.public for key in near], [DAVE.public])

    assert [key for key in sorted(key.public for key in near) if registry.cap(key)] == sorted(
        key.public for key in near
    )[:3]
    assert registry.cap(DAVE.public) == 0


def test_announcements_of_an_author_not_admitted_are_parked_and_come_in_with_a_pin() -> None:
    one = entry(BOB, version_statement("a"))
    registry = Registry(ALICE.public)

    assert registry.offer(one) == Outcome(Verdict.PARKED)
    assert one.id not in registry and registry.knows(one.id)
    assert registry.set_policy([BOB.public], []) == AdmissionChange(admitted=(one.id,), widened=True)
    assert one.id in registry


def test_a_parked_node_announcement_opens_the_way_when_its_author_is_pinned() -> None:
    registry = Registry(ALICE.public)
    registry.offer(entry(BOB, node_statement([CAROL])))
    registry.offer(entry(CAROL, version_statement("a")))

    change = registry.set_policy([BOB.public], [])

    assert len(change.admitted) == 2
    assert registry.cap(CAROL.public)


def test_an_author_put_out_keeps_a_few_announcements_aside_and_the_others_are_dropped() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    for one in fake_versions(BOB.public, 100):
        registry.offer(one)

    change = registry.set_policy([], [])

    assert len(change.parked) == parked_per_author_max
    assert len(change.dropped) == 100 - parked_per_author_max
    assert registry.total() == Registry(ALICE.public).total()


def test_when_a_replaced_pair_is_put_out_its_winner_is_kept_aside() -> None:
    first = changed(BOB, "x", START_MS)
    replacing = changed(BOB, "y", START_MS + 1, first.id)
    registry = filled([first, replacing])

    change = registry.set_policy([], [])

    assert change == AdmissionChange(parked=(replacing.id,), dropped=(first.id,))


def test_what_was_parked_meets_what_stands_and_the_losers_are_dropped() -> None:
    registry = Registry(ALICE.public, [], [BOB.public])
    for one in fake_versions(BOB.public, 10):
        registry.offer(one)
    registry.set_policy([], [])
    late = fake_versions(BOB.public, 400)

    change = registry.set_policy([], [BOB.public])
    for one in late:
        registry.offer(one)

    assert len(change.admitted) == 10
    assert registry.summary(BOB.public, slots_pinned_max)[0] == slots_sponsored_max


@pytest.mark.parametrize("seed", range(20))
def test_whom_sponsoring_lets_in_is_what_judging_everybody_again_would_let_in(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("admission", "registry"):
        monkeypatch.setattr(f"pfn_protocol.{place}.admitted_authors_max", 7)
        monkeypatch.setattr(f"pfn_protocol.{place}.slots_sponsored_max", 20)
    rng = Random(seed)
    newcomers = [key_of(f"newcomer-{number}") for number in range(6)]
    entries = [one for key in (BOB, *newcomers) for one in fake_versions(key.public, 30)]
    entries += [entry(key, node_statement(rng.sample(newcomers, 2))) for key in newcomers]
    entries += [entry(BOB, node_statement([], rng.sample(newcomers, 1)))]
    rng.shuffle(entries)
    registry = filled(entries)
    sponsored: list[bytes] = []
    for key in rng.sample(newcomers, len(newcomers)):
        sponsored.append(key.public)
        version, before = registry.admission_version, dict(registry.caps)

        change = registry.set_policy([BOB.public], sponsored)

        assert change.widened is (registry.caps != before) is (registry.admission_version > version)
        judged = Registry(ALICE.public, [BOB.public], sponsored)
        for one in entries:
            judged.offer(one)
        judged.readmit()
        assert registry.caps == judged.caps
        assert len(registry.caps) <= 7
        for author in registry.caps:  # what did not fit into a small parking is brought by reconciliation
            kept = [one.id for one in entries if one.author == author and registry.knows(one.id)]
            assert registry.ids(author, slots_pinned_max) == sorted(kept)
        assert registry.readmit() == AdmissionChange()


def test_a_newcomer_is_let_in_without_judging_everybody_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = entry(CAROL, version_statement("a"))
    registry = filled([parked, entry(DAVE, version_statement("b"))])
    judged: list[Registry] = []

    def readmit(registry: Registry) -> AdmissionChange:
        judged.append(registry)
        return AdmissionChange()

    monkeypatch.setattr(Registry, "readmit", readmit)

    assert registry.set_policy([BOB.public], [CAROL.public]) == AdmissionChange(admitted=(parked.id,), widened=True)
    assert registry.set_policy([BOB.public], [CAROL.public]) == AdmissionChange()
    assert registry.cap(CAROL.public) == slots_sponsored_max and not registry.cap(DAVE.public)
    assert not judged

    registry.set_policy([BOB.public], [])  # somebody is put out
    registry.set_policy([BOB.public, DAVE.public], [])  # a pin opens ways
    assert len(judged) == 2


def test_a_newcomer_that_pins_others_now_and_then_has_nobody_judged_again() -> None:
    bobs, carols = entry(BOB, node_statement([], [CAROL]), START_MS + 10), entry(CAROL, node_statement())
    registry = filled([bobs, carols])

    pinning = entry(CAROL, node_statement([DAVE], [DAVE]), START_MS + 1)
    outcome = registry.offer(pinning)
    assert (outcome.verdict, outcome.graph_changed) == (Verdict.IN_SET, False)
    assert registry.expire(START_MS + 1 + 86_400_000) == ((pinning.id,), False)
    assert registry.readmit() == AdmissionChange()

    assert registry.offer(entry(BOB, node_statement([], [CAROL, DAVE]), START_MS + 11)).graph_changed


# --- Caps -----------------------------------------------------------------------------------------------------------


def test_over_an_authors_cap_the_same_slots_stay_in_whatever_order_they_came() -> None:
    entries = fake_versions(BOB.public, 600)
    sets = []
    for seed in range(3):
        Random(seed).shuffle(entries)
        registry = Registry(ALICE.public, [], [BOB.public])
        for one in entries:
            registry.offer(one)
        sets.append(everything(registry))

    assert len(sets[0]) == slots_sponsored_max
    assert sets[0] == sets[1] == sets[2]


def test_the_node_announcement_is_exempt_from_the_cap() -> None:
    registry = Registry(ALICE.public, [], [BOB.public])
    for one in fake_versions(BOB.public, 300):
        registry.offer(one)

    node = entry(BOB, node_statement())
    assert registry.offer(node).verdict is Verdict.IN_SET
    assert registry.summary(BOB.public, slots_sponsored_max)[0] == slots_sponsored_max + 1
    assert registry.node_entry(BOB.public) == node


def test_what_is_over_the_cap_is_not_taken_and_what_it_pushes_out_is_dropped() -> None:
    registry = Registry(ALICE.public, [], [BOB.public])
    outcomes = [registry.offer(one) for one in fake_versions(BOB.public, 400)]

    assert sum(outcome.verdict is Verdict.NOT_TAKEN for outcome in outcomes) > 0
    taken = sum(outcome.verdict is Verdict.IN_SET for outcome in outcomes)
    assert taken - sum(len(outcome.dropped) for outcome in outcomes) == slots_sponsored_max


def test_what_others_said_in_the_future_leaves_the_set_when_the_clock_shows_less() -> None:
    registry = Registry(ALICE.public, [], [BOB.public, CAROL.public])
    ahead = START_MS + 7_200_000
    early = [replace(one, seq=ahead) for one in fake_versions(BOB.public, 100)]
    own = [replace(one, seq=ahead) for one in fake_versions(ALICE.public, 3)]
    node = entry(BOB, node_statement(), ahead)
    rest = fake_versions(CAROL.public, 200)
    for one in (*early, *own, node, *rest):
        registry.offer(one)

    gone = registry.withdraw_early(START_MS)

    assert sorted(gone) == sorted(one.id for one in early)
    assert everything(registry) == sorted(one.id for one in (*own, node, *rest))
    assert registry.withdraw_early(START_MS) == ()


def test_a_clock_by_which_most_of_the_set_lies_in_the_future_is_not_believed() -> None:
    registry = Registry(ALICE.public, [], [BOB.public])
    for one in fake_versions(BOB.public, 200):
        registry.offer(one)

    assert registry.withdraw_early(START_MS - 7_200_000) == ()
    assert len(everything(registry)) == 200


def test_losing_a_pin_but_keeping_the_sponsor_shrinks_the_share() -> None:
    registry = Registry(ALICE.public, [BOB.public], [BOB.public])
    for one in fake_versions(BOB.public, 300):
        registry.offer(one)

    change = registry.set_policy([], [BOB.public])

    assert len(change.dropped) == 300 - slots_sponsored_max
    assert not change.parked


def test_at_a_smaller_cap_two_nodes_see_the_same_share() -> None:
    entries = fake_versions(BOB.public, 400)
    pinning, sponsoring = Registry(ALICE.public, [BOB.public]), Registry(CAROL.public, [], [BOB.public])
    for one in entries:
        pinning.offer(one)
        sponsoring.offer(one)

    for cap in (slots_sponsored_max, 7, 100, 200, 300, 0):
        mine, theirs = pinning.summary(BOB.public, cap), sponsoring.summary(BOB.public, cap)
        assert (mine == theirs) is (cap <= slots_sponsored_max)
    assert pinning.ids(BOB.public, slots_sponsored_max) == sponsoring.ids(BOB.public, slots_pinned_max)


# --- Parking --------------------------------------------------------------------------------------------------------


def test_an_unadmitted_author_has_a_few_places_and_its_node_announcement_always_one() -> None:
    registry = Registry(ALICE.public)
    outcomes = [registry.offer(one) for one in fake_versions(BOB.public, parked_per_author_max + 5)]
    assert [outcome.verdict for outcome in outcomes].count(Verdict.NOT_TAKEN) == 5

    node = registry.offer(entry(BOB, node_statement([CAROL])))

    assert node.verdict is Verdict.PARKED
    assert len(node.dropped) == 1
    assert len(registry.parking) == parked_per_author_max


def test_of_a_parked_slot_the_newest_is_kept() -> None:
    registry = Registry(ALICE.public)
    early, late = changed(BOB, "x", START_MS), changed(BOB, "x", START_MS + 1)

    assert registry.offer(early).verdict is Verdict.PARKED
    assert registry.offer(late) == Outcome(Verdict.PARKED, (early.id,))
    assert registry.offer(early).verdict is Verdict.NOT_TAKEN


def test_when_all_places_are_taken_the_one_that_waited_longest_goes() -> None:
    registry = Registry(ALICE.public)
    authors = [sha256(f"author {number}".encode()).digest() for number in range(parked_max // 32 + 1)]
    entries = [one for author in authors for one in fake_versions(author, 32)]

    outcomes = [registry.offer(one) for one in entries]

    assert len(registry.parking) == parked_max
    assert outcomes[-1].dropped == (entries[31].id,)


def test_putting_out_an_author_may_push_out_what_waited_longest() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    own = fake_versions(BOB.public, 3)
    for one in own:
        registry.offer(one)
    authors = [sha256(f"author {number}".encode()).digest() for number in range(parked_max // 32)]
    entries = [one for author in authors for one in fake_versions(author, 32)]
    for one in entries:
        registry.offer(one)

    change = registry.set_policy([], [])

    assert sorted(change.parked) == sorted(one.id for one in own)
    assert change.dropped == tuple(one.id for one in entries[:3])


# --- Expiry ---------------------------------------------------------------------------------------------------------


def test_what_has_outlived_its_lifetime_leaves_the_set_and_the_parking() -> None:
    in_set, aside = entry(BOB, node_statement([CAROL])), entry(DAVE, node_statement())
    version = entry(CAROL, version_statement("a"))
    registry = filled([in_set, version, aside])
    registry.readmit()
    assert version.id in registry
    due_ms = registry.next_expiry_ms
    assert due_ms == START_MS + 86_400_000

    assert registry.expire(due_ms - 1) == ((), False)
    expired, graph_changed = registry.expire(due_ms)

    assert sorted(expired) == sorted((in_set.id, aside.id))
    assert graph_changed
    assert registry.readmit().parked == (version.id,)
    assert registry.next_expiry_ms is None


def test_a_renewed_announcement_outlives_the_expiry_of_the_former() -> None:
    former, renewed = entry(BOB, node_statement()), entry(BOB, node_statement(), START_MS + 1_000)
    registry = filled([former, renewed])

    assert registry.expire(START_MS + 86_400_000) == ((), False)
    assert renewed.id in registry


# --- Digests --------------------------------------------------------------------------------------------------------


def test_the_total_is_the_sum_of_all_ids_and_authors_subtract_wholly_or_down_to_a_cap() -> None:
    bobs, carols = fake_versions(BOB.public, 5), fake_versions(CAROL.public, 7)
    registry = Registry(ALICE.public, [BOB.public, CAROL.public])
    for one in bobs + carols:
        registry.offer(one)

    assert registry.total() == SetDigest(one.id for one in bobs + carols)
    assert registry.total({CAROL.public: 0, DAVE.public: 0}) == SetDigest(one.id for one in bobs)
    assert registry.total({CAROL.public: 2}).count == 7
    assert registry.total() == SetDigest(one.id for one in bobs + carols)


def test_authors_are_listed_page_by_page_even_those_that_said_nothing() -> None:
    keys = [key_of(f"author-{number}").public for number in range(5)]
    registry = Registry(ALICE.public, keys)
    registry.offer(fake_versions(keys[0], 1)[0])
    expected = sorted([*keys, ALICE.public])

    page, more = registry.summaries(b"", 4, [])
    rest, no_more = registry.summaries(page[-1].author, 4, [])

    assert [one.author for one in page + rest] == expected
    assert (more, no_more) == (True, False)
    assert sum(one.count for one in page + rest) == 1
    assert [one.author for one in registry.summaries(b"", 9, keys)[0]] == [ALICE.public]


@pytest.mark.parametrize("apart", [False, True])
def test_the_ids_without_some_authors_come_in_order_and_few_are_found_without_a_look_at_all_others(
    monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    monkeypatch.setattr("pfn_protocol.pages._SPARSE_RATIO", 8 if apart else 1_000_000)
    keys = [key_of(f"author-{number}").public for number in range(20)]
    registry = Registry(ALICE.public, keys)
    said = {key: [one.id for one in fake_versions(key, 10)] for key in keys}
    for key in keys:
        for one in fake_versions(key, 10):
            registry.offer(one)
    whole = sorted(id_ for key in keys[:2] for id_ in said[key])
    looked: list[bytes] = []
    between = SortedIds.between

    def watched(ids: SortedIds, after: bytes, until: bytes) -> Iterator[bytes]:
        for one in between(ids, after, until):
            looked.append(one)
            yield one

    monkeypatch.setattr(SortedIds, "between", watched)

    found = list(ids_without(registry, keys[2:], b"", b""))
    part = list(ids_without(registry, keys[2:], whole[3], whole[9]))

    assert found == whole
    assert part == whole[4:10]
    assert bool(looked) is not apart
    assert list(ids_without(registry, keys, b"", b"")) == []


def test_count_and_root_of_the_own_announcements_leave_the_node_announcement_out() -> None:
    registry = Registry(ALICE.public)
    assert registry.beside_node(ALICE.public) == (0, SetDigest().digest())
    version = entry(ALICE, version_statement("a"))
    registry.offer(version)
    registry.offer(entry(ALICE, node_statement()))

    assert registry.beside_node(ALICE.public) == (1, SetDigest([version.id]).digest())


def test_an_author_nobody_knows_has_an_empty_share() -> None:
    registry = Registry(ALICE.public)

    assert registry.ids(BOB.public, 10) == []
    assert registry.slot(BOB.public, Kind.NODE, "") is None
    assert registry.find(bytes(32)) is None


def test_ids_at_a_smaller_cap_are_those_that_rank_first_and_at_a_larger_one_all() -> None:
    versions = fake_versions(BOB.public, 10)
    registry = filled(versions)

    few = registry.ids(BOB.public, 3)

    ranked = sorted(versions, key=lambda one: slot_rank(one.author, one.kind, one.subject))
    assert few == sorted(one.id for one in ranked[:3])
    assert registry.ids(BOB.public, 10) == registry.ids(BOB.public, 5_000) == sorted(one.id for one in versions)
