"""Keys that were rotated or revoked, and releases that were taken back, as a bundle without a node tells them."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.bundle_notices import OMITTED
from pfn_protocol.bundle_proof import Proof, TrustRoots, prove
from pfn_protocol.evidence_bundle import SignedPiece, read_bundle
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import bundle_keys_max, bundle_notices_max, future_ms_max
from tests.protocol.bundles import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    ERIN,
    MALLORY,
    NOW_MS,
    RECOVERY,
    SECOND,
    THIRD,
    advised,
    attests,
    bound,
    bundle,
    described,
    head,
    measured,
    released,
    revoked,
    rotated,
    saw,
    written,
    yanked,
)

ELSEWHERE = "https://other.example"
GROUND = (ALICE, BOB, ERIN)
NODES = frozenset(node.public for node in GROUND)


def signed_by(release: PrivateKey, identity: PrivateKey | None = None) -> tuple[SignedPiece, ...]:
    """A release, its head, and the keybind of the release key."""
    return (released(release), head(release), *(() if identity is None else (bound(identity, release),)))


def proof(
    root: PrivateKey | None = CAROL,
    *,
    evidence: tuple[SignedPiece, ...] = signed_by(DORA, CAROL),
    trusted: frozenset[bytes] = frozenset(),
    later_ms: int = 0,
    **fields: Any,
) -> Proof:
    """What it proves to who was given one key, and trusts these nodes."""
    read = read_bundle(written(bundle(evidence=evidence, **({"attestations": ()} | fields))))
    return prove(read, measured(), TrustRoots(None if root is None else root.public, trusted), NOW_MS + later_ms)


def says(found: Proof, part: str) -> bool:
    return any(part in caveat for caveat in found.caveats)


def outcome(found: Proof) -> tuple[bool, bytes, bool]:
    """Whether the bytes are signed, the last key, and whether only a revoked one vouches."""
    return found.covers_bytes, found.key.public, found.revoked


# Keys that follow each other


def test_what_is_left_out_of_a_bundle_is_always_a_caveat() -> None:
    for found in (proof(), proof(None), proof(notices=(yanked(),)), proof(MALLORY)):
        assert found.caveats[-1] == OMITTED


def test_a_release_of_the_new_key_is_judged_by_who_knows_only_the_old_one() -> None:
    evidence = signed_by(THIRD, SECOND)

    without = proof(evidence=evidence, public_key=SECOND.public)
    with_rotation = proof(evidence=evidence, public_key=SECOND.public, keys=(rotated(CAROL, SECOND),))

    assert outcome(without) == (False, CAROL.public, False)
    assert outcome(with_rotation) == (True, SECOND.public, False)
    assert (with_rotation.level, with_rotation.key.known) == ("A3", "given")
    assert any("is followed by" in sentence for sentence in with_rotation.evidence)
    assert not says(with_rotation, "another key")


def test_rotations_in_whatever_order_give_one_chain() -> None:
    keys = (rotated(CAROL, SECOND, 1), rotated(SECOND, THIRD, 2), bound(THIRD).data)

    for order in itertools.permutations(keys):
        assert outcome(proof(evidence=signed_by(DORA), keys=order)) == (True, THIRD.public, False)


def test_a_key_is_never_led_back_to_an_older_one() -> None:
    found = proof(SECOND, keys=(rotated(CAROL, SECOND),))

    assert outcome(found) == (False, SECOND.public, False)
    assert says(found, "which the key did not bind") and says(found, "the bundle is about another key")


def test_a_key_that_was_followed_proves_nothing_and_one_that_was_bound_again_does() -> None:
    late = proof(keys=(rotated(CAROL, SECOND),))
    again = proof(keys=(rotated(CAROL, SECOND), bound(SECOND, DORA).data))

    assert outcome(late) == (False, SECOND.public, False)
    assert says(late, "which another key has followed")
    assert outcome(again) == (True, SECOND.public, False)


def test_a_release_key_that_was_followed_proves_nothing() -> None:
    keys = (bound(CAROL, DORA).data, rotated(DORA, THIRD, role="release"))

    assert says(proof(keys=keys), "which another key has followed")
    assert outcome(proof(keys=(*keys, bound(CAROL, THIRD).data), evidence=signed_by(THIRD)))[0]


@pytest.mark.parametrize(
    "rotation",
    [
        rotated(CAROL, SECOND, author="bilbo"),
        rotated(CAROL, SECOND, origin=ELSEWHERE),
        rotated(CAROL, SECOND, voucher=MALLORY),
        rotated(MALLORY, SECOND),
        rotated(CAROL, SECOND, effective_s=NOW_MS // 1_000 + 60),
        bound(SECOND, THIRD, origin=ELSEWHERE).data,
    ],
    ids=[
        "another author",
        "another origin",
        "a stranger vouches",
        "a stranger's key",
        "not yet",
        "a keybind elsewhere",
    ],
)
def test_a_rotation_that_is_not_this_publishers_leads_nowhere(rotation: bytes) -> None:
    forged = proof(evidence=signed_by(THIRD, SECOND), keys=(rotation,))
    genuine = proof(keys=(rotation,))

    assert outcome(forged) == (False, CAROL.public, False)
    assert outcome(genuine) == (True, CAROL.public, False)


def test_what_does_not_count_is_said() -> None:
    assert says(proof(keys=(rotated(CAROL, SECOND, author="bilbo"),)), "1 statements are about another source")
    later = rotated(CAROL, SECOND, effective_s=NOW_MS // 1_000 + 60)
    assert says(proof(keys=(later,)), "1 rotations are not in effect yet")
    assert outcome(proof(keys=(later,), later_ms=60_000))[1] == SECOND.public


def test_two_successors_end_the_key_in_whatever_order() -> None:
    both = (rotated(CAROL, SECOND, 1), rotated(CAROL, MALLORY, 2))

    for keys in (both, both[::-1]):
        for evidence in (signed_by(DORA, CAROL), signed_by(THIRD, SECOND), signed_by(THIRD, MALLORY)):
            found = proof(evidence=evidence, keys=keys, witnesses=(saw(ALICE),), trusted=NODES)
            assert (found.level, found.covers_bytes) == ("A0", False)
            assert says(found, "two different successors")


def test_a_text_signed_by_a_key_that_ended_lifts_nothing() -> None:
    for keys in ((revoked(CAROL),), (rotated(CAROL, SECOND, 1), rotated(CAROL, MALLORY, 2))):
        assert proof(evidence=(described(),), witnesses=(saw(ALICE),), trusted=NODES).level == "A1"
        assert proof(evidence=(described(),), witnesses=(saw(ALICE),), trusted=NODES, keys=keys).level == "A0"


# Recovery


def test_what_the_given_keys_own_rotation_committed_to_recovers_it() -> None:
    """The rotation that made it the key lies before it: its recovery hash counts, and its epoch."""
    begun = rotated(CAROL, SECOND, 3, recovery=RECOVERY)
    stolen = rotated(SECOND, MALLORY, 4)
    recovered = rotated(SECOND, THIRD, 5, voucher=RECOVERY)
    evidence = (*signed_by(DORA, THIRD), bound(MALLORY, DORA))

    assert outcome(proof(SECOND, evidence=evidence, keys=(begun, stolen)))[1] == MALLORY.public
    assert outcome(proof(SECOND, evidence=evidence, keys=(begun, stolen, recovered))) == (True, THIRD.public, False)
    assert outcome(proof(SECOND, evidence=evidence, keys=(recovered,)))[1] == SECOND.public, "committed to by nobody"
    settled = rotated(SECOND, THIRD, 3)
    assert outcome(proof(SECOND, evidence=evidence, keys=(begun, settled)))[1] == SECOND.public


def test_two_commitments_of_one_key_are_not_chosen_between() -> None:
    keys = (rotated(CAROL, SECOND, 1, recovery=RECOVERY), rotated(MALLORY, SECOND, 2, recovery=MALLORY))
    recovered = rotated(SECOND, THIRD, 5, voucher=MALLORY)

    found = proof(SECOND, evidence=signed_by(DORA, SECOND), keys=(*keys, recovered))

    assert (found.key.known, found.key.public, found.covers_bytes) == (None, SECOND.public, False)
    assert says(found, "two different recovery keys")


# Revoked keys


@pytest.mark.parametrize("not_after_s", [0, NOW_MS // 1_000, NOW_MS // 1_000 + 86_400])
@pytest.mark.parametrize(
    "keys",
    [
        lambda when: (revoked(CAROL, not_after_s=when),),
        lambda when: (revoked(DORA, not_after_s=when),),
        lambda when: (revoked(DORA, CAROL, not_after_s=when),),
        lambda when: (rotated(CAROL, SECOND), revoked(CAROL, SECOND, not_after_s=when)),
        lambda when: (revoked(DORA, SECOND, not_after_s=when), rotated(CAROL, SECOND)),
        lambda when: (rotated(CAROL, CAROL, recovery=RECOVERY), revoked(CAROL, RECOVERY, not_after_s=when)),
    ],
    ids=["itself", "the release key", "by the identity", "by its successor", "by the next identity", "by recovery"],
)
def test_a_release_that_only_a_revoked_key_vouches_for_is_taken_back(keys: Any, not_after_s: int) -> None:
    found = proof(keys=keys(not_after_s), trusted=NODES)

    assert (found.covers_bytes, found.revoked, found.level) == (False, True, "A2")
    assert found.taken_back == ("only a key that the publisher revoked vouches for it",)
    assert says(found, "which the publisher revoked")


def test_a_release_that_another_key_signed_too_outlives_a_revocation() -> None:
    found = proof(evidence=(*signed_by(DORA, CAROL), *signed_by(THIRD, CAROL)), keys=(revoked(DORA, CAROL),))

    assert outcome(found) == (True, CAROL.public, False)
    assert found.release is not None and found.release.key == THIRD.public
    assert not found.taken_back


@pytest.mark.parametrize(
    "keys",
    [
        (revoked(CAROL, MALLORY),),
        (revoked(DORA, MALLORY),),
        (revoked(CAROL, DORA),),
        (revoked(CAROL, author="bilbo"),),
        (revoked(CAROL, origin=ELSEWHERE),),
        (revoked(MALLORY),),
        (rotated(CAROL, CAROL), revoked(CAROL, RECOVERY)),
    ],
)
def test_who_may_not_revoke_a_key_takes_nothing_back(keys: tuple[bytes, ...]) -> None:
    assert outcome(proof(keys=keys)) == (True, CAROL.public, False)


@pytest.mark.parametrize(("revoker", "recovers"), [(CAROL, False), (RECOVERY, True)])
def test_a_revoked_key_signs_itself_no_successor_that_undoes_it(revoker: PrivateKey, recovers: bool) -> None:
    """Nothing shows that it committed to the recovery key before it took itself back: only that key's own word does."""
    keys = (rotated(CAROL, CAROL, 1, recovery=RECOVERY), revoked(CAROL, revoker))
    by_thief = rotated(CAROL, MALLORY, 2)
    by_recovery = rotated(CAROL, SECOND, 3, voucher=RECOVERY)
    evidence = (*signed_by(MALLORY), *signed_by(DORA, CAROL))

    assert outcome(proof(evidence=evidence, keys=(*keys, by_thief))) == (False, CAROL.public, True)
    again = bound(SECOND, DORA).data
    assert proof(evidence=evidence, keys=(*keys, by_thief, by_recovery, again)).covers_bytes is recovers


# What cannot be read


@pytest.mark.parametrize(
    "fields",
    [
        {"keys": (b"a form to come",)},
        {"keys": (yanked(),)},
        {"keys": (released().data,)},
        {"notices": (b"a form to come",)},
        {"notices": (revoked(MALLORY),)},
        {"notices": (bound().data,)},
    ],
)
def test_what_cannot_be_read_is_never_passed_over(fields: dict[str, Any]) -> None:
    found = proof(**fields)

    assert (found.key.known, found.covers_bytes) == (None, False)
    assert says(found, "1 statements of the publisher are of a form that is not known here")


def test_a_full_bundle_is_judged() -> None:
    keys = tuple(rotated(CAROL, CAROL, number + 1) for number in range(bundle_keys_max))
    notices = tuple(advised(advisory_id=f"PFN-{number}") for number in range(bundle_notices_max))

    found = proof(keys=keys, notices=notices)

    assert (found.covers_bytes, len(found.word.advisories)) == (True, bundle_notices_max)


# The oracle


def test_a_raw_oracle_of_any_key_of_the_chain_counts() -> None:
    fields: dict[str, Any] = {"evidence": signed_by(THIRD, SECOND), "keys": (rotated(CAROL, SECOND),)}
    old = attests(ALICE, oracle="raw")
    new = attests(BOB, public_key=SECOND.public)
    both = attests(ERIN, oracle="utf8")

    assert proof(**fields, attestations=(new,), trusted=NODES).key.oracle == "none"
    assert proof(**fields, attestations=(new, old), trusted=NODES).key.oracle == "raw"
    assert not proof(**fields, attestations=(new, old), trusted=NODES).covers_bytes
    assert not proof(**fields, attestations=(new,), trusted=NODES).key.oracle_attested, "of the old key nobody says"
    assert proof(**fields, attestations=(new, both), trusted=NODES).key.oracle_attested
    assert not proof(**fields, oracle="", attestations=(new,), trusted=NODES).covers_bytes


def test_nodes_that_attest_a_successor_do_not_disagree_and_make_no_older_key_known() -> None:
    fields: dict[str, Any] = {"evidence": signed_by(THIRD, SECOND), "keys": (rotated(CAROL, SECOND),)}
    new = attests(BOB, public_key=SECOND.public)

    assert not says(proof(**fields, attestations=(new,), trusted=NODES), "attest another key")
    assert proof(None, **fields, attestations=(new,), trusted=NODES).key.known is None
    attested = proof(None, **fields, public_key=SECOND.public, attestations=(new,), trusted=NODES)
    assert (attested.key.known, attested.covers_bytes) == ("attested", True)


# Yanks and advisories


def test_a_yanked_release_is_taken_back_and_an_advisory_warns() -> None:
    found = proof(notices=(yanked(), advised()))

    assert found.level == "A3", "it is genuine all the same"
    assert found.taken_back == ("the publisher yanked it",)
    assert found.word.yank is not None and found.word.yank.reason == "it eats posts"
    assert [one.advisory_id for one in found.word.advisories] == ["PFN-1"]
    assert says(found, "it should not be installed: it eats posts")
    assert says(found, "advisory PFN-1 (high): Anybody may post.")
    assert not proof(notices=(advised(),)).taken_back
    assert says(proof(notices=(yanked(reason=""),)), "it should not be installed")


def test_of_two_words_about_one_subject_the_later_counts_in_whatever_order() -> None:
    withdrawn = yanked(seq=NOW_MS + 1, withdrawn=True)
    yanks = (yanked(), withdrawn)
    advisories = (advised(seq=NOW_MS + 2), advised(seq=NOW_MS + 3, withdrawn=True))

    for order in (yanks + advisories, (advisories + yanks)[::-1]):
        found = proof(notices=order)
        assert (found.taken_back, found.word.advisories) == ((), ())
    assert proof(notices=(yanked(withdrawn=True), yanked())).taken_back, "of two at one place the one that warns"
    assert proof(notices=(withdrawn, yanked(seq=NOW_MS + 2))).taken_back


def test_the_key_that_came_later_outweighs_any_number() -> None:
    keys = (rotated(CAROL, SECOND), bound(SECOND, THIRD).data)
    old = yanked(DORA, seq=NOW_MS + 1_000)

    found = proof(keys=keys, notices=(old, yanked(THIRD, withdrawn=True)))

    assert not found.taken_back
    assert proof(keys=keys, notices=(old,)).taken_back, "a warning outlives the succession of its key"


@pytest.mark.parametrize(
    ("keys", "withdrawn"),
    [
        ((), yanked(seq=NOW_MS + future_ms_max + 1, withdrawn=True)),
        ((), yanked(MALLORY, seq=NOW_MS + 1, withdrawn=True)),
        ((rotated(CAROL, SECOND),), yanked(seq=NOW_MS + 1, withdrawn=True)),
    ],
    ids=["from the future", "a stranger's", "of a key that was followed"],
)
def test_an_all_clear_that_does_not_count_clears_nothing(keys: tuple[bytes, ...], withdrawn: bytes) -> None:
    found = proof(keys=keys, notices=(yanked(), withdrawn))

    assert found.taken_back == ("the publisher yanked it",)
    assert says(found, "1 yanks or advisories are signed by keys that may not say so")


@pytest.mark.parametrize(
    "notice",
    [
        yanked(version="1.0.1"),
        yanked(slug="other"),
        yanked(author="bilbo"),
        yanked(origin=ELSEWHERE),
        advised(slug="other"),
        advised(ranges=(("1.0.1", ""),)),
        advised(origin=ELSEWHERE),
    ],
)
def test_a_word_about_something_else_is_none(notice: bytes) -> None:
    found = proof(notices=(notice,))

    assert (found.taken_back, found.word.advisories, found.covers_bytes) == ((), (), True)
    assert says(found, "1 statements are about another source or release")


def test_a_revoked_key_warns_of_nothing_any_more() -> None:
    found = proof(evidence=signed_by(THIRD, CAROL), keys=(revoked(DORA), bound().data), notices=(yanked(),))

    assert (found.covers_bytes, found.taken_back) == (True, ())


@pytest.mark.parametrize(("oracle", "counts"), [("none", True), ("utf8", True), ("raw", False), ("", False)])
def test_an_identity_key_yanks_only_where_nobody_else_can_have_it_sign(oracle: str, counts: bool) -> None:
    assert bool(proof(notices=(yanked(CAROL),), oracle=oracle).taken_back) is counts
    assert proof(notices=(yanked(DORA),), oracle=oracle).taken_back


def test_a_keybind_that_does_not_open_binds_nothing() -> None:
    broken = replace(bound(), data=b"no keybind")

    assert not proof(evidence=(released(), broken)).covers_bytes
    assert proof(evidence=(released(), broken), keys=(bound().data,)).covers_bytes
    assert broken.form is EvidenceForm.KEYBIND
