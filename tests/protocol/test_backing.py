"""Whose word backs bytes: every rank, every level, and what a dispute can and cannot do."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import permutations

from pfn_protocol.backing import Judgement, Relation, Sighting, judge

GOOD = sha256(b"the release").digest()
EVIL = sha256(b"something else").digest()


def name(text: str) -> bytes:
    return sha256(text.encode()).digest()


ME, PIN, PIN_2, FAR, FAR_2, STRANGER = (name(one) for one in ("me", "pin", "pin 2", "far", "far 2", "stranger"))


def seen(
    observer: bytes,
    relation: Relation,
    digest: bytes = GOOD,
    *,
    size: int = 100,
    signed: bool = False,
    release: bool = False,
    at: int = 1_000,
    path: Sequence[bytes] = (),
    witness: Relation = Relation.STRANGER,
    headed: bool = False,
) -> Sighting:
    return Sighting(observer, relation, digest, size, signed, release, at, frozenset(path), witness, headed)


def fetched(observer: bytes, relation: Relation, digest: bytes = GOOD, *, size: int = 100) -> Sighting:
    """Seen by one who fetched it from the publisher; what it is to this node decides what its witness is worth."""
    return seen(observer, relation, digest, size=size, witness=relation)


def ruling(
    *sightings: Sighting,
    key_known: bool = True,
    held: bytes | None = None,
    raw_oracle: bool = False,
    trust_depth: int = 1,
) -> Judgement:
    """The judgement, which must be the same in whatever order the sightings come."""
    judgements = [
        judge(order, key_known=key_known, held=held, raw_oracle=raw_oracle, trust_depth=trust_depth)
        for order in permutations(sightings)
    ]
    assert all(one == judgements[0] for one in judgements)
    return judgements[0]


def test_without_sightings_there_is_nothing_to_serve() -> None:
    assert ruling() == Judgement(None, 0, "reported", None, False, (), ())


def test_what_only_strangers_saw_is_reported_with_the_digest_that_most_of_them_name() -> None:
    judgement = ruling(
        seen(STRANGER, Relation.STRANGER, EVIL),
        seen(FAR, Relation.STRANGER, size=7),
        seen(FAR_2, Relation.STRANGER, size=7),
    )

    assert judgement == Judgement(GOOD, 7, "reported", None, False, (STRANGER,), tuple(sorted((FAR, FAR_2))))


def test_own_observation_backs_at_a0() -> None:
    judgement = ruling(seen(ME, Relation.SELF))

    assert judgement == Judgement(GOOD, 100, "A0", "self", False, (), (ME,))


def test_a_direct_pin_backs_at_a0_and_a_known_signature_lifts_to_a1() -> None:
    assert ruling(seen(PIN, Relation.PIN)).level == "A0"
    judgement = ruling(seen(PIN, Relation.PIN, signed=True))
    assert (judgement.level, judgement.backed_by) == ("A1", "pin")


def test_a_signature_by_an_unknown_key_lifts_nothing() -> None:
    assert ruling(seen(PIN, Relation.PIN, signed=True), key_known=False).level == "A0"


def test_a_release_by_a_known_key_backs_whoever_brings_it() -> None:
    judgement = ruling(seen(STRANGER, Relation.STRANGER, release=True))

    assert (judgement.level, judgement.backed_by) == ("A3", "release")


def test_a_release_by_an_unknown_key_or_beside_a_raw_oracle_proves_nothing() -> None:
    stranger = seen(STRANGER, Relation.STRANGER, release=True)

    assert ruling(stranger, key_known=False).backed_by is None
    assert ruling(stranger, raw_oracle=True).backed_by is None
    assert ruling(stranger, seen(ME, Relation.SELF), raw_oracle=True).level == "A0"


def test_a_release_outranks_the_own_observation_and_that_outranks_a_pin() -> None:
    release, own, pin = (
        seen(STRANGER, Relation.STRANGER, EVIL, release=True, size=5),
        seen(ME, Relation.SELF, name("mine"), size=6),
        seen(PIN, Relation.PIN, GOOD, size=7),
    )

    judgement = ruling(release, own, pin, held=GOOD)
    assert (judgement.sha256, judgement.size, judgement.level) == (EVIL, 5, "A3")
    assert judgement.disputed_by == tuple(sorted((ME, PIN)))
    judgement = ruling(own, pin, held=GOOD)
    assert (judgement.sha256, judgement.conflict, judgement.disputed_by) == (name("mine"), False, (PIN,))


def test_the_size_is_that_of_the_release_even_if_a_nearer_observer_names_another() -> None:
    judgement = ruling(seen(ME, Relation.SELF, size=1), seen(STRANGER, Relation.STRANGER, size=2, release=True))

    assert (judgement.size, judgement.observers) == (2, (ME, STRANGER))


def test_in_a_conflict_what_was_served_first_stays_and_never_above_a0() -> None:
    one, other = seen(PIN, Relation.PIN, signed=True), seen(PIN_2, Relation.PIN, EVIL, signed=True, at=1)

    judgement = ruling(one, other, held=GOOD)

    assert judgement == Judgement(GOOD, 100, "A0", "pin", True, (PIN_2,), (PIN,))


def test_in_a_conflict_before_anything_was_served_what_was_seen_first_is_chosen() -> None:
    one, other = seen(PIN, Relation.PIN), seen(PIN_2, Relation.PIN, EVIL, at=1)

    assert ruling(one, other).sha256 == EVIL
    assert ruling(one, other, held=name("neither")).sha256 == EVIL


def test_two_stories_of_one_pin_are_a_conflict() -> None:
    judgement = ruling(seen(PIN, Relation.PIN), seen(PIN, Relation.PIN, EVIL, at=2_000))

    assert (judgement.sha256, judgement.conflict, judgement.disputed_by) == (GOOD, True, (PIN,))


def test_two_releases_over_different_digests_are_a_conflict_at_a0() -> None:
    judgement = ruling(
        seen(ME, Relation.SELF, release=True), seen(STRANGER, Relation.STRANGER, EVIL, release=True), held=GOOD
    )

    assert (judgement.sha256, judgement.level, judgement.conflict) == (GOOD, "A0", True)


def test_strangers_who_dispute_are_listed_and_change_nothing() -> None:
    judgement = ruling(seen(PIN, Relation.PIN, signed=True), seen(STRANGER, Relation.STRANGER, EVIL, signed=True))

    assert (judgement.level, judgement.conflict, judgement.disputed_by) == ("A1", False, (STRANGER,))


def test_observers_at_depth_back_only_in_pairs_without_a_common_key_and_if_the_operator_wants_it() -> None:
    far = seen(FAR, Relation.DEPTH, path=[PIN, FAR])
    behind_another_pin = seen(FAR_2, Relation.DEPTH, path=[PIN_2, FAR_2])
    behind_the_same_pin = seen(FAR_2, Relation.DEPTH, path=[PIN, FAR_2])
    no_path = seen(FAR_2, Relation.DEPTH)

    assert ruling(far, behind_another_pin, trust_depth=2).backed_by == "depth"
    assert ruling(far, behind_another_pin).backed_by is None
    assert ruling(far, behind_the_same_pin, trust_depth=2).backed_by is None
    assert ruling(far, no_path, trust_depth=2).backed_by is None
    assert ruling(far, trust_depth=3).backed_by is None


def test_a_crowd_behind_one_pin_cannot_hide_the_two_that_matter() -> None:
    crowd = [seen(name(f"sybil {one}"), Relation.DEPTH, path=[PIN, name(f"sybil {one % 600}")]) for one in range(2_000)]
    two = [seen(FAR, Relation.DEPTH, path=[PIN]), seen(FAR_2, Relation.DEPTH, path=[PIN_2])]

    judgement = judge(crowd + two, key_known=True, held=None, raw_oracle=False, trust_depth=2)
    alone = judge(crowd, key_known=True, held=None, raw_oracle=False, trust_depth=2)

    assert judgement.backed_by == "depth"
    assert alone.backed_by is None


# --- Witnesses -----------------------------------------------------------------------------------------------------

THREE = (fetched(ME, Relation.SELF), fetched(PIN, Relation.PIN), fetched(PIN_2, Relation.PIN))


def test_three_witnesses_of_whom_two_are_this_node_or_its_pins_lift_to_a2() -> None:
    far = fetched(FAR, Relation.DEPTH)

    assert ruling(*THREE).level == "A2"
    assert ruling(*THREE[:2], far).level == "A2"
    assert ruling(*THREE[1:], far).level == "A2"
    assert ruling(*THREE[:2], far, key_known=False).level == "A2"  # by agreement, whoever signed what


def test_two_witnesses_are_too_few_and_one_who_says_it_twice_is_one() -> None:
    assert ruling(*THREE[:2]).level == "A0"
    assert ruling(*THREE[:2], fetched(PIN, Relation.PIN)).level == "A0"


def test_keys_that_cost_nothing_buy_no_level_however_many_they_are() -> None:
    crowd = [seen(name(f"sybil {one}"), Relation.STRANGER, signed=True) for one in range(4)]
    far = [fetched(name(f"far {one}"), Relation.DEPTH) for one in range(4)]

    assert ruling(*THREE[:2], *crowd[:2]).level == "A1"
    assert ruling(THREE[0], *far).level == "A0"


def test_who_names_another_size_or_digest_or_did_not_fetch_it_is_no_witness() -> None:
    third = Relation.PIN

    assert ruling(*THREE[:2], fetched(PIN_2, third, size=101)).level == "A0"
    assert ruling(*THREE[:2], fetched(PIN_2, third, EVIL)).level == "A0"
    assert ruling(*THREE[:2], seen(PIN_2, third)).level == "A0"


def test_a_near_witness_of_other_bytes_ends_the_agreement_and_a_far_one_does_not() -> None:
    four = (*THREE, fetched(name("pin 3"), Relation.PIN))
    headed = seen(STRANGER, Relation.STRANGER, release=True, headed=True)

    assert ruling(*THREE, fetched(name("pin 3"), Relation.PIN, EVIL)).level == "A0"
    assert ruling(*four[:3], fetched(name("pin 3"), Relation.PIN, size=99)).level == "A0"
    assert ruling(*THREE, headed, fetched(name("pin 3"), Relation.PIN, EVIL)).level == "A3"
    assert ruling(*four, fetched(FAR, Relation.DEPTH, EVIL)).level == "A2"
    assert ruling(*four, seen(name("pin 4"), Relation.PIN, EVIL)).level == "A2", "it did not fetch them"


def test_in_a_conflict_nobody_witnesses_anything() -> None:
    judgement = ruling(*THREE[1:], fetched(FAR, Relation.DEPTH), fetched(name("pin 3"), Relation.PIN, EVIL), held=GOOD)

    assert (judgement.level, judgement.conflict) == ("A0", True)


def test_a_release_with_a_fresh_head_of_its_own_key_and_three_witnesses_is_a4() -> None:
    headed = seen(STRANGER, Relation.STRANGER, release=True, headed=True)

    assert ruling(*THREE, headed).level == "A4"
    assert ruling(*THREE[:2], headed).level == "A3"
    assert ruling(*THREE, seen(STRANGER, Relation.STRANGER, release=True)).level == "A3"
    assert ruling(*THREE, headed, key_known=False).level == "A2"
    assert ruling(*THREE, headed, raw_oracle=True).level == "A2"
    assert ruling(*THREE, seen(STRANGER, Relation.STRANGER, headed=True)).level == "A2"
