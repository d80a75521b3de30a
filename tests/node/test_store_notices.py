"""Notices in the store: which of them count, what follows for releases, what a key's end means for what it signed."""

import hashlib
from itertools import pairwise
from typing import Any

import pytest

from pfn_node.store import announcements, decisions, notices, releases, safety, sources
from pfn_node.store.activity import activities
from pfn_node.store.key_changes import begin_keys, choose_key, state_of
from pfn_node.store.notices import take_binding, take_notice
from pfn_protocol import encoding
from pfn_protocol.announcements import AdvisoryStatement, RevokeStatement, YankStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem, verify
from pfn_protocol.limits import cooldown_seconds, epoch_max, key_changes_max, keybinds_max, notices_per_source_max
from pfn_protocol.publisher import sign_keybind
from pfn_protocol.publisher_notices import (
    Advisory,
    Revocation,
    Rotation,
    Yank,
    open_notice,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)
from tests.node.store_world import NOW, Publisher, World, digest, key, source_statement

BILBO = Publisher()
FRODO = Publisher("frodo", "https://bag.example", "other publisher")
PEN = key("pen")
SECOND = key("second identity")
MS = NOW * 1_000


def yanked(
    version: str = "1.0.0",
    *,
    signer: PrivateKey | None = None,
    seq: int = MS,
    withdrawn: bool = False,
    whose: Publisher = BILBO,
) -> bytes:
    said = Yank(whose.url, whose.username, "hello", version, "it eats posts", seq, withdrawn)
    return sign_yank(signer or whose.key, said).raw


def advised(*ranges: tuple[str, str], advisory_id: str = "A-1", seq: int = MS, withdrawn: bool = False) -> bytes:
    said = Advisory(BILBO.url, "bilbo", "hello", advisory_id, "high", "A hole.", ranges, "", (), seq, withdrawn)
    return sign_advisory(BILBO.key, said).raw


def rotated(
    old: PrivateKey = BILBO.key,
    new: PrivateKey = SECOND,
    epoch: int = 1,
    *,
    role: str = "identity",
    effective_s: int = NOW,
    recovery_hash: bytes = b"",
) -> bytes:
    said = Rotation(
        *(BILBO.url, "bilbo", role, old.public, new.public, epoch, "new machine", effective_s),
        recovery_hash,
        old.public,
    )
    return sign_rotation(new, old, said).raw


def revoked(revoked_key: PrivateKey, signer: PrivateKey, not_after_s: int = NOW * 2) -> bytes:
    return sign_revocation(signer, Revocation(BILBO.url, "bilbo", revoked_key.public, "lost", not_after_s)).raw


def bound(release_key: PrivateKey = PEN, identity: PrivateKey = BILBO.key) -> bytes:
    return sign_keybind(identity, release_key, BILBO.url).raw


def world(**columns: Any) -> World:
    made = World()
    made.add_source(BILBO, verified=True, **columns)
    return made


def fetched(made: World, *versions: str, pen: PrivateKey | None = PEN, publisher: Publisher = BILBO) -> None:
    """This node fetches signed releases from the publisher now."""
    for version in versions:
        evidence = publisher.release("hello", version, digest(version), release_key=pen)
        made.fetch(version, version, evidence=evidence)


def take(made: World, raw: bytes) -> bool:
    return take_notice(made.db, raw, made.at).statement is not None


def newest(made: World) -> str:
    return made.plugin().release.version


def messages(made: World) -> list[str]:
    return [one.message for one in activities(made.db, limit=100, offset=0, type="security", since=None)[0]]


# Yanks.


def test_a_yanked_version_is_not_the_newest_and_stays_backed() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")

    assert take(made, yanked("1.1.0"))

    release = made.release("1.1.0")
    assert (release.yanked, release.yanked_by, release.backed) == ("it eats posts", "publisher", True)
    assert newest(made) == "1.0.0"
    assert any("it eats posts" in one for one in messages(made))


def test_where_every_version_is_yanked_the_newest_of_them_is_listed() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    for version in ("1.0.0", "1.1.0"):
        take(made, yanked(version))

    assert newest(made) == "1.1.0"


def test_a_yank_is_kept_before_the_release_is_seen() -> None:
    made = world()
    take(made, yanked("1.1.0"))
    fetched(made, "1.0.0", "1.1.0")

    assert newest(made) == "1.0.0"


def test_replays_and_older_words_change_nothing_and_the_mark_is_in_the_database() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    take(made, yanked("1.1.0", seq=MS))
    assert take(made, yanked("1.1.0", seq=MS + 2, withdrawn=True))

    assert not take(made, yanked("1.1.0", seq=MS))
    assert not take(made, yanked("1.1.0", seq=MS + 1))
    again = World(made.db)  # what another process would find
    assert not take(again, yanked("1.1.0", seq=MS + 2))
    assert newest(again) == "1.1.0"
    assert take(again, yanked("1.1.0", seq=MS + 3))
    assert newest(again) == "1.0.0"


def test_a_word_from_the_future_is_not_taken() -> None:
    with pytest.raises(Refusal, match="R143"):
        take(world(), yanked(seq=MS + 600_001))


def test_after_a_rotation_a_smaller_seq_of_the_new_key_stands_above_the_stolen_ones() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0", pen=None)
    take(made, yanked("1.1.0", seq=MS + 600_000))

    take(made, rotated())
    assert take(made, yanked("1.1.0", signer=SECOND, seq=MS, withdrawn=True))

    assert made.release("1.1.0").yanked is None


@pytest.mark.parametrize("signer", ["stranger", "other publisher"])
def test_a_strangers_key_yanks_nothing(signer: str) -> None:
    made = world()
    made.add_source(FRODO, verified=True)
    fetched(made, "1.0.0")

    with pytest.raises(Refusal, match=r"R144.*stranger"):
        take(made, yanked(signer=key(signer)))
    assert made.release().yanked is None


def test_notices_of_two_sources_do_not_mix() -> None:
    made = world()
    made.add_source(FRODO, verified=True)
    fetched(made, "1.0.0")

    assert take(made, yanked(whose=FRODO))

    assert made.release().yanked is None


def test_a_bound_release_key_may_yank_and_an_unbound_one_may_not() -> None:
    made = world()
    fetched(made, "1.0.0")
    with pytest.raises(Refusal, match="R144"):
        take(made, yanked(signer=PEN))

    assert take_binding(made.db, bound(), made.at)
    assert take(made, yanked(signer=PEN))
    assert made.release().yanked == "it eats posts"


def test_a_keybind_of_a_stranger_binds_nothing() -> None:
    made = world()

    assert not take_binding(made.db, bound(identity=key("stranger")), made.at)
    assert not take_binding(made.db, b"no envelope", made.at)
    assert not take_binding(made.db, bound(BILBO.key), made.at)


def test_an_identity_key_that_signs_anything_for_anybody_yanks_nothing() -> None:
    made = world(oracle="raw")

    with pytest.raises(Refusal, match=r"R144.*whatever it is sent"):
        take(made, yanked())


def test_an_identity_key_that_signs_anything_for_anybody_vouches_for_no_other() -> None:
    made = world(oracle="raw")

    with pytest.raises(Refusal, match="R140"):
        take(made, rotated())

    assert take(world(oracle="utf8"), rotated())


def test_a_notice_about_an_unknown_source_is_refused() -> None:
    with pytest.raises(Refusal, match=r"R144.*not known here"):
        take(World(), yanked())


def test_a_source_says_no_more_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    monkeypatch.setattr(notices, "notices_per_source_max", 2)
    assert notices_per_source_max > 2
    take(made, yanked("1.0"))
    take(made, advised(("", "")))

    with pytest.raises(Refusal, match="R143"):
        take(made, yanked("1.2"))
    assert take(made, yanked("1.0", seq=MS + 1))


# What nodes say.


def own_yank(version: str = "1.1.0", withdrawn: bool = False) -> YankStatement:
    return YankStatement(BILBO.source_id, "hello", version, reason="malware", withdrawn=withdrawn)


def test_only_a_pinned_node_and_this_one_act_by_their_own_word() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")

    made.say("stranger", own_yank())
    assert newest(made) == "1.1.0"
    made.pin("stranger")
    assert (newest(made), made.release("1.1.0").yanked_by) == ("1.0.0", did_key(key("stranger").public))
    made.pin("stranger", False)
    assert newest(made) == "1.1.0"

    made.say("me", own_yank())
    assert made.release("1.1.0").yanked_by == "this node"
    made.say("me", own_yank(withdrawn=True))
    assert newest(made) == "1.1.0"


def test_a_blocked_nodes_word_does_not_act() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    made.pin("friend")
    made.say("friend", own_yank())
    assert newest(made) == "1.0.0"

    made.block("friend")

    assert newest(made) == "1.1.0"


def test_an_older_announcement_of_a_node_changes_nothing() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    made.pin("friend")
    made.say("friend", own_yank(withdrawn=True), seq=MS + 900_000)

    made.say("friend", own_yank(), seq=MS + 800_000)

    assert newest(made) == "1.1.0"


def test_a_stranger_that_relays_the_publishers_word_is_believed_for_its_signature() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")

    made.say("stranger", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0", signer=PEN), bound()))

    assert made.release("1.1.0").yanked_by == "publisher"


def test_false_evidence_of_a_pinned_node_is_not_its_own_word() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    made.pin("friend")

    made.say("friend", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0", signer=key("stranger"))))

    assert newest(made) == "1.1.0"


def test_what_a_parked_author_relays_is_taken_in_when_the_author_is_admitted() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    said = made.say("late", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0")), admitted=False)
    assert newest(made) == "1.1.0"

    announcements.change_admission(made.db, [said], [])
    assert newest(made) == "1.0.0"
    announcements.drop(made.db, [said])
    assert newest(made) == "1.0.0"  # the publisher's word stays


def test_what_could_not_be_believed_is_believed_once_the_key_is_known() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0", pen=None)
    made.say("stranger", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0", signer=SECOND)))
    assert newest(made) == "1.1.0"

    take(made, rotated())

    assert newest(made) == "1.0.0"


def test_rotations_that_come_in_the_wrong_order_are_put_together() -> None:
    made = world()
    third = key("third identity")
    later, earlier = rotated(SECOND, third, 2), rotated()
    made.say("one", RevokeStatement(BILBO.source_id, "rotate", third.public, later))
    assert sources.get_source(made.db, BILBO.source_id).public_key == public_key_pem(BILBO.key.public)  # type: ignore[union-attr]

    made.say("two", RevokeStatement(BILBO.source_id, "rotate", SECOND.public, earlier))

    assert sources.get_source(made.db, BILBO.source_id).public_key == public_key_pem(third.public)  # type: ignore[union-attr]


def test_a_node_that_three_pins_tell_of_a_notice_need_not_tell_it() -> None:
    made = world()
    statement = YankStatement(BILBO.source_id, "hello", "1.0.0", yanked())
    for name in ("a", "b", "stranger"):
        made.say(name, statement)
    made.pin("a")
    made.pin("b")

    assert notices.told_by_pins(made.db, statement) == 2


# Advisories.


def test_an_advisory_is_shown_with_the_versions_in_its_ranges() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0", "2.0.0")

    take(made, advised(("", "1.1.0"), ("2.0.0", "")))

    shown = {version: [one["advisory_id"] for one in made.release(version).advisories] for version in VERSIONS}
    assert shown == {"1.0.0": ["A-1"], "1.1.0": [], "2.0.0": ["A-1"]}
    assert newest(made) == "2.0.0"

    take(made, advised(("", ""), seq=MS + 1, withdrawn=True))
    assert made.release("1.0.0").advisories == ()


VERSIONS = ("1.0.0", "1.1.0", "2.0.0")


def test_advisories_that_come_together_are_stored_with_the_releases_once() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")

    def shown(version: str) -> list[str]:
        return [one["advisory_id"] for one in made.release(version).advisories]

    assert take(made, advised(("", "1.1.0"), advisory_id="A-0"))
    marked: set[tuple[str, str]] = set()
    for number in (1, 2):
        assert take_notice(made.db, advised(("", "1.1.0"), advisory_id=f"A-{number}"), made.at, marked).statement
    assert shown("1.0.0") == ["A-0"]

    notices.mark_advised(made.db, marked)

    assert (shown("1.0.0"), shown("1.1.0")) == (["A-0", "A-1", "A-2"], [])
    assert take(made, advised(("", "1.1.0"), advisory_id="A-1", seq=MS + 1, withdrawn=True))
    assert shown("1.0.0") == ["A-0", "A-2"]
    releases.refresh_version(made.db, BILBO.source_id, "hello", "1.0.0")
    assert shown("1.0.0") == ["A-0", "A-2"]


def own_advisory(**changes: Any) -> AdvisoryStatement:
    fields: dict[str, Any] = {"severity": "low", "summary": "Slow.", "ranges": (("", ""),)}
    return AdvisoryStatement(BILBO.source_id, "hello", "A-1", **{**fields, **changes})


def test_of_one_advisory_the_publishers_word_is_shown_before_the_own_and_that_before_a_pins() -> None:
    made = world()
    fetched(made, "1.0.0")

    def shown() -> list[tuple[str, str]]:
        return [(one["by"], one["severity"]) for one in made.release().advisories]

    made.say("stranger", own_advisory())
    assert shown() == []
    made.pin("friend")
    made.say("friend", own_advisory(severity="medium"))
    assert shown() == [(did_key(key("friend").public), "medium")]
    made.say("me", own_advisory(severity="critical"))
    assert shown() == [("this node", "critical")]
    take(made, advised(("", "")))
    assert shown() == [("publisher", "high")]


def test_everything_that_is_said_is_listed_with_whether_it_acts() -> None:
    made = world()
    made.say("stranger", own_yank())
    made.say("me", own_advisory())
    take(made, yanked())

    said = safety.said(made.db, BILBO.source_id, "hello", made.me.public, 10)

    assert {(one["kind"], one["by"], bool(one["acts"])) for one in said} == {
        ("yank", key("stranger").public, False),
        ("advisory", "this node", True),
        ("yank", "publisher", True),
    }
    assert safety.said(made.db, None, "other", made.me.public, 10) == []
    assert safety.said(made.db, FRODO.source_id, None, made.me.public, 10) == []


# Keys.


def test_a_rotated_source_takes_the_new_key_over_and_the_operator_is_told() -> None:
    made = world()
    fetched(made, "1.0.0")
    made.at += 1

    assert take(made, rotated())

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(SECOND.public)
    assert made.release().assurance == "A3"  # seen before the old key was followed
    assert any("is followed by" in one and "new machine" in one for one in messages(made))
    assert not take(made, rotated())


def test_what_the_old_key_signs_after_the_rotation_counts_for_nothing() -> None:
    made = world()
    take(made, rotated())
    made.at += 10

    fetched(made, "1.1.0", pen=None)

    assert made.release("1.1.0").assurance == "A0"


def test_a_rotation_that_is_not_in_effect_yet_is_refused() -> None:
    with pytest.raises(Refusal, match="R140"):
        take(world(), rotated(effective_s=NOW + 1))


def test_a_rotation_to_the_key_of_a_registered_source_of_another_host_is_refused() -> None:
    made = world()
    made.add_source(FRODO, verified=True)

    with pytest.raises(Refusal, match="R140"):
        take(made, rotated(new=FRODO.key))

    sources.update_source(made.db, FRODO.source_id, registered=False)
    assert take(made, rotated(new=FRODO.key))


def test_a_source_that_was_only_heard_of_keeps_the_key_that_was_heard() -> None:
    made = World()
    made.add_source(BILBO, registered=False, status="discovered")

    assert take(made, rotated())

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(BILBO.key.public)
    sources.update_source(made.db, BILBO.source_id, public_key=public_key_pem(PEN.public))
    assert take(made, revoked(PEN, PEN))  # the chain begins at what is heard now


def test_two_successors_freeze_the_source_and_an_admins_choice_ends_that() -> None:
    made = world()
    thief = key("thief")
    take(made, rotated())
    take(made, rotated(new=thief))

    assert state_of(made.db, BILBO.source_id) == "frozen"
    assert any("until an admin chooses" in one for one in messages(made))
    with pytest.raises(Refusal, match="frozen"):
        take(made, yanked())

    sources.update_source(made.db, BILBO.source_id, public_key=public_key_pem(SECOND.public))
    choose_key(made.db, BILBO.source_id, made.at, was_known=True)
    assert state_of(made.db, BILBO.source_id) == "speaks"
    assert take(made, yanked(signer=SECOND))
    assert not take(made, rotated(SECOND, thief, 1))


def test_a_revoked_release_key_takes_what_came_after_it_off_the_air() -> None:
    made = world()
    take_binding(made.db, bound(), made.at)
    fetched(made, "1.0.0")
    made.at += 100

    assert take(made, revoked(PEN, BILBO.key))
    fetched(made, "1.1.0")

    assert (made.release("1.0.0").assurance, made.release("1.0.0").revoked_key) == ("A3", False)
    later = made.release("1.1.0")
    assert (later.assurance, later.backed, later.revoked_key) == ("reported", False, True)
    assert newest(made) == "1.0.0"


def test_a_revocation_reaches_back_to_the_moment_that_it_names() -> None:
    made = world()
    take_binding(made.db, bound(), made.at - 1_000)
    fetched(made, "1.0.0")
    assert made.release().backed
    made.at += 100

    take(made, revoked(PEN, BILBO.key, not_after_s=NOW - 10))

    assert made.release().revoked_key


def test_bytes_that_a_key_that_counts_vouches_for_are_served_whatever_else_signed_them() -> None:
    made = world()
    other = key("other pen")
    take_binding(made.db, bound(), made.at)
    take_binding(made.db, bound(other), made.at)
    take(made, revoked(PEN, BILBO.key))
    made.at += 10
    fetched(made, "1.1.0")
    assert made.release("1.1.0").revoked_key

    made.saw("friend", "1.1.0", "1.1.0", evidence=BILBO.release("hello", "1.1.0", digest("1.1.0"), release_key=other))

    assert (made.release("1.1.0").revoked_key, made.release("1.1.0").assurance) == (False, "A3")


def test_a_metadata_signature_of_a_revoked_key_keeps_a_release_off_too() -> None:
    made = world()
    take(made, rotated())
    take(made, revoked(BILBO.key, SECOND))
    made.at += 10

    made.fetch("1.1.0", "1.1.0", evidence=[BILBO.metadata("hello", "1.1.0", "Hello")])
    made.fetch("1.2.0", "1.2.0", evidence=[])

    assert made.release("1.1.0").revoked_key
    assert not made.release("1.2.0").revoked_key


def test_what_a_pinned_node_saw_before_the_revocation_counts_and_a_strangers_word_about_when_does_not() -> None:
    made = world()
    take_binding(made.db, bound(), made.at)
    take(made, revoked(PEN, BILBO.key))
    made.at += 100
    evidence = BILBO.release("hello", "1.1.0", digest("1.1.0"), release_key=PEN)

    made.saw("stranger", "1.1.0", "1.1.0", evidence=evidence, observed_at=NOW - 50)
    assert made.release("1.1.0").revoked_key
    made.pin("friend")
    made.saw("friend", "1.1.0", "1.1.0", evidence=evidence, observed_at=NOW - 50)
    assert (made.release("1.1.0").revoked_key, made.release("1.1.0").assurance) == (False, "A3")


def test_a_revocation_by_a_stranger_changes_nothing() -> None:
    made = world()
    take_binding(made.db, bound(), made.at)

    assert not take(made, revoked(PEN, key("stranger")))


def test_changes_of_keys_and_bound_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    monkeypatch.setattr("pfn_node.store.key_changes.key_changes_max", 1)
    monkeypatch.setattr("pfn_node.store.key_changes.keybinds_max", 1)
    assert key_changes_max > 1 and keybinds_max > 1
    assert take_binding(made.db, bound(), made.at)
    assert take_binding(made.db, bound(), made.at)
    assert not take_binding(made.db, bound(key("other pen")), made.at)

    assert take(made, rotated())
    assert not take(made, rotated(SECOND, key("third identity"), 2))


def test_a_thief_that_takes_all_the_room_for_changes_of_keys_does_not_keep_the_owner_from_undoing_them() -> None:
    made = world()
    recovery = key("recovery")
    commitment = hashlib.sha256(recovery.public).digest()
    take(made, rotated(recovery_hash=commitment))
    thieves = [SECOND, *(key(f"thief {number}") for number in range(key_changes_max))]
    for epoch, (old, new) in enumerate(pairwise(thieves), 2):
        made.at += 1
        take(made, rotated(old, new, epoch))
    assert not take(made, rotated(thieves[-2], key("one more"), epoch_max))

    said = Rotation(
        *(BILBO.url, "bilbo", "identity", SECOND.public, PEN.public, 2, "stolen", NOW), commitment, recovery.public
    )
    assert take(made, sign_rotation(PEN, recovery, said).raw)

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(PEN.public)
    assert take(made, rotated(PEN, key("third identity"), 3))
    assert not take(made, rotated(SECOND, thieves[1], 2))


def test_a_thief_that_binds_as_many_keys_as_there_may_be_does_not_keep_the_next_key_from_binding_its_own() -> None:
    made = world()
    for number in range(keybinds_max):
        assert take_binding(made.db, bound(key(f"pen {number}")), made.at)
    assert not take_binding(made.db, bound(), made.at)
    made.at += 1
    take(made, rotated())

    assert take_binding(made.db, bound(identity=SECOND), made.at)
    assert take(made, yanked(signer=PEN))


# Cooling down.


def test_what_is_first_seen_after_a_change_of_key_cools_down_for_three_days() -> None:
    made = world()
    fetched(made, "1.0.0", pen=None)
    made.at += 10
    take(made, rotated())
    made.at += 10
    second = Publisher(name="second identity")
    fetched(made, "1.1.0", pen=None, publisher=second)

    until = NOW + 10 + cooldown_seconds
    assert (made.release("1.1.0").cooldown_until, newest(made)) == (until, "1.0.0")
    assert made.release("1.0.0").cooldown_until is None
    assert safety.cooled_down(made.db, until - 1, 10) == []
    due = safety.cooled_down(made.db, until, 10)
    assert due == [(BILBO.source_id, "hello", "1.1.0")]
    releases.refresh_version(made.db, *due[0], now=until)
    assert (made.release("1.1.0").cooldown_until, newest(made)) == (None, "1.1.0")


def test_another_release_key_is_a_change_and_an_admin_may_approve_these_very_bytes() -> None:
    made = world()
    take_binding(made.db, bound(), made.at)
    fetched(made, "1.0.0")
    made.at += 10
    take_binding(made.db, bound(key("other pen")), made.at)
    fetched(made, "1.1.0", pen=key("other pen"))
    which = (BILBO.source_id, "hello", "1.1.0")
    assert newest(made) == "1.0.0"

    assert not decisions.approve(made.db, which, digest("other bytes"), "key", made.at)
    assert newest(made) == "1.0.0"
    assert decisions.approve(made.db, which, digest("1.1.0"), "key", made.at)
    assert newest(made) == "1.1.0"


def test_the_newest_that_cools_down_is_listed_where_there_is_nothing_older() -> None:
    made = world()
    take(made, rotated())
    made.at += 10
    fetched(made, "1.1.0", pen=None, publisher=Publisher(name="second identity"))

    assert newest(made) == "1.1.0"
    assert made.release("1.1.0").cooldown_until is not None


# Takedowns.


def test_what_was_taken_down_stays_down_whatever_bytes_come() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0")
    which = (BILBO.source_id, "hello", "1.1.0")

    decisions.take_down(made.db, which, "malware", "key", made.at)
    made.fetch("1.1.0", "other bytes")

    assert (made.release("1.1.0").taken_down, made.release("1.1.0").backed, newest(made)) == ("malware", False, "1.0.0")
    assert safety.tombstone(made.db, *which) == "malware"
    assert decisions.bring_back(made.db, which, "key", made.at)
    assert not decisions.bring_back(made.db, which, "key", made.at)
    assert made.release("1.1.0").backed


def test_a_takedown_outlives_that_everything_of_the_release_is_forgotten() -> None:
    made = world()
    which = (BILBO.source_id, "hello", "1.0.0")
    decisions.take_down(made.db, which, "", "key", made.at)

    fetched(made, "1.0.0")

    assert made.release().taken_down == ""
    assert not made.release().backed


@pytest.mark.parametrize(
    "raw", [b"", b"\x95\x01", hashlib.sha256(b"noise").digest(), open_notice(yanked()).raw[:-1]], ids=range(4)
)
def test_bytes_that_are_no_notice_are_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        take(world(), raw)


def test_a_pin_that_observes_the_version_and_yanks_it_does_both() -> None:
    made = world()
    made.pin("friend")
    made.saw("friend", "1.0.0", "1.0.0")
    made.saw("friend", "1.1.0", "1.1.0")
    made.say("friend", own_yank())

    assert newest(made) == "1.0.0"


def test_a_source_that_is_registered_again_has_the_keys_that_follow_from_what_was_signed() -> None:
    made = world()
    made.at += 1
    take(made, rotated())
    sources.delete_source(made.db, BILBO.source_id, purge=True)
    made.add_source(BILBO, verified=True)

    begin_keys(made.db, BILBO.source_id, made.at)
    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(SECOND.public)

    sources.delete_source(made.db, BILBO.source_id, purge=True)
    made.add_source(Publisher(name="yet another"), verified=True)
    begin_keys(made.db, BILBO.source_id, made.at)
    assert take(made, yanked(signer=key("yet another")))
    made.add_source(FRODO)
    begin_keys(made.db, FRODO.source_id, made.at)
    assert state_of(made.db, FRODO.source_id) == "speaks"


def test_a_revocation_that_comes_over_the_mesh_ends_the_source_at_that_moment() -> None:
    made = world()
    fetched(made, "1.0.0", pen=None)

    made.say("stranger", RevokeStatement(BILBO.source_id, "revoke", BILBO.key.public, revoked(BILBO.key, BILBO.key)))

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and (source.status, source.trust_score) == ("revoked", 0)
    assert not made.release().backed


def test_two_successors_that_come_over_the_mesh_are_a_conflict_at_that_moment() -> None:
    made = world()
    for new in (SECOND, key("thief")):
        made.say("stranger", RevokeStatement(BILBO.source_id, "rotate", new.public, rotated(new=new)))

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.status == "conflict"


def test_a_stranger_cannot_end_a_source_that_is_only_heard_of_by_a_key_that_it_invents() -> None:
    made = World()
    invented = Publisher(name="invented")
    made.add_source(invented, registered=False, status="discovered")
    assert take(made, revoked(invented.key, invented.key))
    assert state_of(made.db, BILBO.source_id) == "speaks"

    sources.update_source(made.db, BILBO.source_id, public_key=public_key_pem(BILBO.key.public))
    begin_keys(made.db, BILBO.source_id, made.at)
    sources.update_source(made.db, BILBO.source_id, status="verified", verified_at=made.at, oracle="none")

    assert state_of(made.db, BILBO.source_id) == "speaks"
    assert take(made, yanked())


# Keys that strangers named before the right one was heard.


INVENTED = Publisher(name="invented")


def poisoned() -> World:
    """A stranger names a key of its own for a source, and has it bind, rotate and yank before anybody knows better."""
    made = World()
    made.say("stranger", source_statement(INVENTED, oracle="none"))
    assert take_binding(made.db, bound(identity=INVENTED.key), made.at)
    assert take(made, yanked(signer=PEN))
    return made


def test_a_key_that_only_a_stranger_named_counts_for_nothing_once_a_pin_names_another() -> None:
    made = poisoned()
    evil = INVENTED.release("hello", "1.0.0", digest("evil"), release_key=PEN)

    made.pin("sam")
    made.say("sam", source_statement(BILBO, oracle="none"))
    made.saw("stranger", bytes_of="evil", evidence=evil)

    assert made.release().assurance == "reported"
    assert made.release().yanked is None
    assert take(made, yanked())


def test_the_key_of_a_stranger_never_takes_the_place_of_one_that_an_admin_registers() -> None:
    made = poisoned()
    made.pin("sam")
    made.say("sam", source_statement(BILBO, oracle="none"))
    sources.update_source(made.db, BILBO.source_id, registered=True)

    take_binding(made.db, bound(key("another pen"), INVENTED.key), made.at)

    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(BILBO.key.public)


def test_what_strangers_signed_before_a_source_is_relied_on_leaves_its_publisher_all_the_room() -> None:
    made = World()
    made.say("stranger", source_statement(INVENTED, oracle="none"))
    for number in range(keybinds_max):
        assert take_binding(made.db, bound(key(f"pen {number}"), INVENTED.key), made.at)
    assert take(made, rotated(INVENTED.key, key("invented too"), epoch_max))
    sources.update_source(
        made.db, BILBO.source_id, public_key=public_key_pem(BILBO.key.public), registered=True, status="pending"
    )
    begin_keys(made.db, BILBO.source_id, made.at)

    assert take_binding(made.db, bound(), made.at)
    assert take(made, rotated())
    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(SECOND.public)


def test_what_was_checked_when_it_came_is_not_checked_again_for_each_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    keys = [BILBO.key, *(key(f"identity {number}") for number in range(8))]
    for epoch, (old, new) in enumerate(pairwise(keys), 1):
        made.at += 1
        assert take(made, rotated(old, new, epoch))
    checked: list[bytes] = []

    def counted(public: bytes, message: bytes, signature: bytes) -> bool:
        checked.append(public)
        return verify(public, message, signature)

    monkeypatch.setattr(encoding, "verify", counted)
    for number in range(4):
        assert take(made, yanked(signer=keys[-1], seq=MS + number))

    assert checked == [keys[-1].public] * 4
