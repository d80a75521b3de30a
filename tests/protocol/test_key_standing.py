"""Which keys speak for a source: stories of owners, thieves and recovery keys, told by hand."""

import hashlib
from dataclasses import dataclass, field
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.key_standing import Seen, SourceKeys, Standing, derive_keys
from pfn_protocol.limits import recovery_seconds, rotation_grace_seconds
from pfn_protocol.publisher import KeybindStatement
from pfn_protocol.publisher_notices import Revocation, Rotation, Yank, open_notice, sign_yank
from tests.protocol.vectors.notice_cases import ORIGIN, YANK

START = 1_800_000_000
DAY = 86_400


def key(name: str) -> bytes:
    return PrivateKey(hashlib.sha256(name.encode()).digest()).public


@dataclass
class Story:
    """What a node saw of one source, each thing a day after the one before. Keys go by names; `first` is the root."""

    root: str = "first"
    root_epoch: int = 0
    at: int = START
    rotations: list[Seen[Rotation]] = field(default_factory=list)
    revocations: list[Seen[Revocation]] = field(default_factory=list)
    keybinds: list[Seen[KeybindStatement]] = field(default_factory=list)

    def wait(self, seconds: int = DAY) -> int:
        self.at += seconds
        return self.at

    def rotates(
        self,
        old: str,
        new: str,
        epoch: int = 1,
        *,
        voucher: str | None = None,
        recovery: str = "",
        role: str = "identity",
    ) -> int:
        rotation = Rotation(
            *(ORIGIN, "bilbo", role, key(old), key(new), epoch, "", START),
            recovery_hash=hashlib.sha256(key(recovery)).digest() if recovery else b"",
            voucher=key(voucher or old),
        )
        self.rotations.append(Seen(rotation, key(new), self.wait()))
        return self.at

    def revokes(self, revoked: str, *, signer: str | None = None, not_after: int | None = None) -> int:
        at = self.wait()
        revocation = Revocation(ORIGIN, "bilbo", key(revoked), "", at if not_after is None else not_after)
        self.revocations.append(Seen(revocation, key(signer or revoked), at))
        return at

    def binds(self, identity: str, release: str) -> int:
        self.keybinds.append(Seen(KeybindStatement(ORIGIN, key(identity), key(release)), key(release), self.wait()))
        return self.at

    @property
    def keys(self) -> SourceKeys:
        return derive_keys(key(self.root), self.root_epoch, self.keybinds, self.rotations, self.revocations)

    def standing(self, name: str, at: int | None = None) -> Standing:
        return self.keys.standing(key(name), self.at + 1 if at is None else at)

    @property
    def identity(self) -> str:
        names = ("first", "second", "third", "thief", "recovery")
        return next(name for name in names if key(name) == self.keys.identity)


def test_a_key_that_nothing_was_said_about_speaks() -> None:
    story = Story()

    assert story.standing("first") is Standing.SPEAKS
    assert story.standing("thief") is Standing.STRANGER
    assert (story.keys.changed_s, story.keys.frozen, story.keys.revoked) == (None, False, False)


def test_a_rotation_ends_the_old_key_from_the_moment_when_it_was_seen() -> None:
    story = Story()
    seen = story.rotates("first", "second")

    assert story.identity == "second"
    assert story.standing("first", seen - 1) is Standing.SPEAKS
    assert story.standing("first", seen) is Standing.SUPERSEDED
    assert story.standing("second") is Standing.SPEAKS
    assert story.keys.changed_s == seen


def test_rotations_follow_each_other_with_ascending_epochs_only() -> None:
    story = Story()
    story.rotates("first", "second", 2)
    story.rotates("second", "third", 2)
    assert story.identity == "second"

    story.rotates("second", "third", 3)
    assert story.identity == "third"
    assert story.keys.records[key("third")].epoch == 3


def test_the_order_of_what_was_seen_at_one_moment_does_not_matter() -> None:
    story = Story()
    story.rotates("first", "second", 1)
    story.rotates("second", "third", 2)
    together = [Seen(one.statement, one.signer, START) for one in story.rotations]

    for order in permutations(together):
        assert derive_keys(key("first"), 0, (), order, ()).identity == key("third")


@pytest.mark.parametrize("old", ["thief", "second"])
def test_a_rotation_of_a_key_outside_of_the_chain_changes_nothing(old: str) -> None:
    story = Story()
    story.rotates(old, "third")

    assert story.identity == "first"


def test_a_rotation_that_a_stranger_vouches_for_changes_nothing() -> None:
    story = Story()
    story.rotates("first", "thief", voucher="thief")

    assert story.identity == "first"
    assert not story.keys.frozen


def test_a_key_that_was_given_up_never_comes_back() -> None:
    story = Story()
    story.rotates("first", "second", 1)
    story.rotates("second", "first", 2)

    assert story.identity == "second"


def test_two_successors_freeze_the_source_until_an_admin_chooses() -> None:
    story = Story()
    first = story.rotates("first", "second")
    story.rotates("first", "thief")

    assert story.keys.frozen
    assert story.standing("first", first - 1) is Standing.SPEAKS
    assert story.standing("first") is Standing.FROZEN
    assert story.standing("second") is story.standing("thief") is Standing.STRANGER
    story.rotates("first", "third", 9)
    assert story.keys.frozen

    chosen = Story("second", root_epoch=9, rotations=story.rotations)
    assert chosen.identity == "second"
    assert chosen.standing("second") is Standing.SPEAKS
    kept = Story("first", root_epoch=9, rotations=story.rotations)
    assert kept.standing("first") is Standing.SPEAKS


def test_both_orders_of_two_successors_freeze() -> None:
    for names in (("second", "thief"), ("thief", "second")):
        story = Story()
        for epoch, name in enumerate(names, 1):
            story.rotates("first", name, epoch)
        assert story.keys.frozen


def test_the_same_successor_signed_twice_is_no_contradiction() -> None:
    story = Story()
    story.rotates("first", "second", 1)
    story.rotates("first", "second", 2)

    assert story.identity == "second"
    assert not story.keys.frozen


def test_a_stolen_old_key_cannot_stop_the_publisher_after_the_grace() -> None:
    story = Story()
    story.rotates("first", "second")
    story.wait(rotation_grace_seconds)
    story.rotates("first", "thief")

    assert story.identity == "second"
    assert not story.keys.frozen


def test_the_recovery_key_undoes_what_a_thief_did_within_its_time() -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.rotates("first", "thief", 2)
    story.rotates("thief", "third", 3)
    story.at -= DAY
    story.rotates("first", "second", 2, voucher="recovery")

    assert story.identity == "second"
    assert story.standing("thief") is Standing.STRANGER
    story.rotates("first", "thief", 4)
    assert story.identity == "second"
    assert not story.keys.frozen


def test_the_recovery_key_comes_too_late_after_two_days_and_then_freezes_only() -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.rotates("first", "thief", 2)
    story.wait(recovery_seconds)
    story.rotates("first", "second", 2, voucher="recovery")

    assert story.keys.frozen


def test_the_recovery_key_ends_a_freeze_that_thieves_made() -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.rotates("first", "thief", 2)
    story.rotates("first", "third", 2)
    story.at -= DAY // 2
    story.rotates("first", "second", 2, voucher="recovery")

    assert story.identity == "second"
    assert not story.keys.frozen


def test_a_thief_cannot_exchange_the_recovery_key() -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.rotates("first", "first", 2, recovery="thief")
    story.rotates("first", "thief", 3, voucher="thief")
    assert story.identity == "first"

    story.rotates("first", "first", 4, recovery="other", voucher="recovery")
    story.rotates("first", "second", 5, voucher="recovery")
    assert story.identity == "first"
    story.rotates("first", "second", 6, voucher="other")
    assert story.identity == "second"


def test_a_commitment_is_no_change_of_key() -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")

    assert story.keys.changed_s is None


def test_what_contradicts_must_be_newer_than_what_was_settled() -> None:
    story = Story(root_epoch=1)
    story.rotates("first", "second", 2)
    story.rotates("first", "thief", 1)
    story.rotates("first", "thief", 9, voucher="thief")

    assert story.identity == "second"
    assert not story.keys.frozen


def test_a_release_key_speaks_while_an_identity_binds_it() -> None:
    story = Story()
    story.binds("first", "pen")
    story.binds("thief", "stylus")
    assert story.standing("pen") is Standing.SPEAKS
    assert story.standing("stylus") is Standing.STRANGER

    rotated = story.rotates("first", "second")
    assert story.standing("pen") is Standing.SUPERSEDED
    assert story.standing("pen", rotated - 1) is Standing.SPEAKS
    story.binds("first", "stylus")  # by the old key: too late
    assert story.standing("stylus") is Standing.STRANGER
    story.binds("second", "pen")
    assert story.standing("pen") is Standing.SPEAKS
    assert story.keys.records[key("pen")].epoch == 1
    assert not story.keys.records[key("pen")].is_identity


def test_an_identity_key_is_no_release_key() -> None:
    story = Story()
    story.binds("first", "first")

    assert story.keys.records[key("first")].is_identity


def test_another_release_key_is_a_change_and_the_first_one_is_none() -> None:
    story = Story()
    story.binds("first", "pen")
    assert story.keys.changed_s is None

    seen = story.binds("first", "stylus")
    assert story.keys.changed_s == seen


def test_a_rotation_of_a_release_key_only_ends_the_old_one() -> None:
    story = Story()
    story.binds("first", "pen")
    story.rotates("pen", "thief", role="release")
    assert story.standing("pen") is Standing.SUPERSEDED
    assert story.standing("thief") is Standing.STRANGER

    story.binds("first", "stylus")
    story.rotates("stylus", "pen", role="release", voucher="thief")
    story.rotates("first", "thief", role="release")
    assert story.standing("stylus") is story.standing("first") is Standing.SPEAKS


def test_a_revoked_identity_without_a_successor_ends_the_source() -> None:
    story = Story()
    seen = story.revokes("first")

    assert story.keys.revoked
    assert story.standing("first", seen - 1) is Standing.SPEAKS
    assert story.standing("first", seen) is Standing.REVOKED


def test_a_revocation_reaches_back_to_the_moment_that_it_names() -> None:
    story = Story()
    story.wait()
    story.revokes("first", not_after=START + 10)

    assert story.standing("first", START + 9) is Standing.SPEAKS
    assert story.standing("first", START + 10) is Standing.REVOKED


def test_a_revocation_does_not_reach_ahead() -> None:
    story = Story()
    seen = story.revokes("first", not_after=START + 900 * DAY)

    assert story.standing("first", seen) is Standing.REVOKED


@pytest.mark.parametrize(
    ("signer", "counts"), [("first", True), ("second", True), ("recovery", True), ("thief", False)]
)
def test_an_old_key_is_revoked_by_itself_its_successor_or_the_recovery_key(signer: str, counts: bool) -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.rotates("first", "second", 2)
    story.revokes("first", signer=signer)

    assert story.standing("first") is (Standing.REVOKED if counts else Standing.SUPERSEDED)
    assert not story.keys.revoked
    assert story.standing("second") is Standing.SPEAKS


@pytest.mark.parametrize("signer", ["first", "recovery"])
def test_a_key_that_was_revoked_names_no_successor_and_the_recovery_key_does(signer: str) -> None:
    story = Story()
    story.rotates("first", "first", 1, recovery="recovery")
    story.revokes("first", signer=signer)
    story.rotates("first", "thief", 2)
    assert (story.identity, story.keys.revoked) == ("first", True)

    story.rotates("first", "second", 3, voucher="recovery")
    assert (story.identity, story.standing("second")) == ("second", Standing.SPEAKS)


def test_a_key_that_was_revoked_after_it_was_followed_tells_no_second_story() -> None:
    story = Story()
    story.rotates("first", "second")
    story.revokes("first")
    story.rotates("first", "thief", 2)

    assert (story.identity, story.keys.frozen) == ("second", False)


def test_a_successor_that_revokes_the_key_before_it_does_not_saw_off_its_own_branch() -> None:
    story = Story()
    story.rotates("first", "second")
    story.revokes("first", signer="second", not_after=START)

    assert (story.identity, story.standing("second")) == ("second", Standing.SPEAKS)


def test_an_old_key_cannot_revoke_its_successor() -> None:
    story = Story()
    story.rotates("first", "second")
    story.revokes("second", signer="first")

    assert not story.keys.revoked


@pytest.mark.parametrize(("signer", "counts"), [("pen", True), ("first", True), ("second", True), ("thief", False)])
def test_a_release_key_is_revoked_by_itself_or_an_identity_from_its_own_on(signer: str, counts: bool) -> None:
    story = Story()
    story.binds("first", "pen")
    story.rotates("first", "second")
    story.binds("second", "pen")
    story.revokes("pen", signer=signer)

    assert story.standing("pen") is (Standing.REVOKED if counts else Standing.SPEAKS)


def test_what_was_revoked_stays_so_whatever_follows() -> None:
    story = Story()
    story.binds("first", "pen")
    revoked = story.revokes("pen")
    story.rotates("pen", "stylus", role="release")
    story.revokes("pen")

    record = story.keys.records[key("pen")]
    assert (record.standing, record.cutoff_s) == (Standing.REVOKED, revoked)


def test_revoking_a_strange_key_changes_nothing() -> None:
    story = Story()
    story.revokes("thief")

    assert set(story.keys.records) == {key("first")}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(1, 4), st.sampled_from("abcx"))))
def test_whatever_is_signed_one_identity_remains_and_a_stranger_gains_nothing(
    said: list[tuple[str, str, int, str]],
) -> None:
    story = Story("a")
    for old, new, epoch, voucher in said:
        story.rotates(old, new, epoch, voucher=voucher)

    keys = story.keys
    assert keys.identity in keys.records
    assert set(keys.records) <= {key(name) for name in "abc"}
    assert sum(record.cutoff_s is None for record in keys.records.values()) <= 1
    vouched = [one for one in story.rotations if one.statement.voucher == key("x")]
    without = [one for one in story.rotations if one not in vouched]
    assert derive_keys(key("a"), 0, (), without, ()) == keys


def test_a_notice_comes_back_with_the_key_that_signed_it_and_its_source() -> None:
    pen = PrivateKey(bytes([9]) * 32)
    opened = open_notice(sign_yank(pen, YANK).raw)

    assert (opened.notice, opened.signer, opened.source_id) == (YANK, pen.public, "bilbo@publisher.example")


def test_a_publisher_does_not_sign_what_nodes_would_refuse() -> None:
    pen = PrivateKey(bytes([9]) * 32)
    with pytest.raises(Refusal, match="R60"):
        sign_yank(pen, Yank(ORIGIN, "bilbo", "Hello", "1.0", "", YANK.seq, False))
    with pytest.raises(Refusal, match=r"R68.*shorten"):
        sign_yank(pen, Yank("https://a.example/" + "p" * 490, "bilbo", "hello", "1.0", "🌱" * 500, YANK.seq, False))
