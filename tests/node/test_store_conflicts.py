"""Conflicts, whose words are shown, what is mirrored and stays, and trust over several pins."""

import pytest

from pfn_node.store import activity, announcements, catalogue, facts, peers, releases
from pfn_node.store.queries import select_one
from pfn_node.store.rows import Release
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Conviction
from pfn_protocol.encoding import pack
from pfn_protocol.equivocation import convict, conviction_id
from pfn_protocol.identity import did_key
from pfn_protocol.slots import entry_of
from tests.node.store_world import (
    MESH,
    NOW,
    Publisher,
    World,
    digest,
    key,
    node_statement,
    version_statement,
)

BILBO = Publisher()


def standing(release: Release) -> tuple[str, bool, str | None]:
    return release.assurance, release.backed, release.backed_by


def security_messages(world: World) -> list[str]:
    return [row.message for row in activity.activities(world.db, type="security")[0]]


# --- Conflicts ----------------------------------------------------------------------------------------------------


def test_other_bytes_under_a_version_seen_before_are_a_conflict_and_the_first_stay() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch("1.0.0", "first")

    outcomes = [world.fetch("1.0.0", "second"), world.fetch("1.0.0", "second"), world.fetch("1.0.0", "first")]

    release = world.release()
    assert outcomes == [releases.Observed.CONFLICT, releases.Observed.CONFLICT, releases.Observed.KNOWN]
    assert release.sha256 == digest("first")
    assert (release.conflict, release.assurance) == (True, "A0")
    assert len(security_messages(world)) == 1
    assert "served other bytes as hello 1.0.0" in security_messages(world)[0]
    mirrored = world.db.execute("SELECT local_path FROM mirrored_plugins").fetchall()
    assert mirrored == [(f"{digest('first').hex()[:2]}/{digest('first').hex()[2:]}",)]


def test_the_first_bytes_stay_also_where_they_were_not_kept() -> None:
    world = World()
    world.add_source(BILBO)

    for name in ("b", "a", "c"):
        world.fetch("1.0.0", name, stored=False)

    assert world.release().sha256 == digest("b")


def test_a_publisher_that_always_serves_other_bytes_does_not_fill_the_table() -> None:
    world = World()
    world.add_source(BILBO)

    for number in range(10):
        world.fetch("1.0.0", f"bytes {number}")

    assert world.db.table("observations").count == releases.OWN_DIGESTS_MAX


def test_two_pins_that_saw_different_bytes_are_a_conflict_that_is_told_once() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.pin("alice")
    world.pin("carol")

    world.saw("alice", "1.0.0", "first")
    releases.mark_mirrored(world.db, digest("first"), True, at=NOW)
    world.saw("carol", "1.0.0", "second")
    world.saw("dave", "1.0.0", "second")

    release = world.release()
    assert (release.sha256, release.conflict, release.assurance) == (digest("first"), True, "A0")
    assert set(release.disputed_by) == {did_key(key(name).public) for name in ("carol", "dave")}
    assert len(security_messages(world)) == 1


def test_a_stranger_that_disputes_changes_nothing() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch()

    world.saw("mallory", bytes_of="malware")

    release = world.release()
    assert (release.sha256, release.conflict) == (digest("hello"), False)
    assert release.disputed_by == (did_key(key("mallory").public),)


def test_an_observer_that_replaces_its_version_is_in_conflict_with_itself() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")

    first = world.saw("alice", bytes_of="first")
    world.saw("alice", bytes_of="second", replaces=first)

    release = world.release()
    assert (release.sha256, release.conflict) == (digest("first"), True)


def test_when_the_later_of_two_announcements_of_the_same_bytes_goes_the_observation_stays() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    first = world.saw("alice", bytes_of="first")
    again = world.saw("alice", bytes_of="first", replaces=first)

    world.saw("alice", bytes_of="second", replaces=first)
    announcements.drop(world.db, [again])

    release = world.release()
    assert (release.sha256, release.conflict) == (digest("first"), True)
    assert announcements.bodies(world.db, [first, again]).keys() == {first}

    announcements.drop(world.db, [first])
    assert (world.release().sha256, world.release().conflict) == (digest("second"), False)


def test_bytes_that_are_held_still_rest_on_the_announcement_that_stays() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    first = world.saw("alice", bytes_of="first")
    releases.mark_mirrored(world.db, digest("first"), True, at=NOW)
    again = world.saw("alice", bytes_of="first", replaces=first)

    announcements.drop(world.db, [again])
    releases.mark_mirrored(world.db, digest("first"), False, at=NOW)

    assert world.release().backed


# --- Convictions --------------------------------------------------------------------------------------------------


def convicted(world: World, name: str, *, admitted: bool = True) -> AcceptedAnnouncement:
    """The node is caught with two stories that concern nothing else here."""
    told = [announce(key(name), MESH, node_statement(url=url), 7, NOW * 1000) for url in ("", "https://two.example")]
    conviction = convict(*told)
    announcements.keep(world.db, conviction, admitted, NOW)
    return conviction


def test_bytes_that_rested_on_the_word_of_a_convicted_pin_alone_are_no_longer_served_and_that_is_told() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.pin("carol")
    for number in range(7):
        world.saw("alice", f"{number}.0.0", f"alone {number}")
        releases.mark_mirrored(world.db, digest(f"alone {number}"), True, at=NOW)
    gone = world.saw("alice", "8.0.0", "left the set")
    releases.mark_mirrored(world.db, digest("left the set"), True, at=NOW)
    announcements.drop(world.db, [gone])
    for name in ("alice", "carol"):
        world.saw(name, "9.0.0", "together")
    releases.mark_mirrored(world.db, digest("together"), True, at=NOW)
    assert all(world.release(version).backed for version in ("0.0.0", "8.0.0", "9.0.0"))

    convicted(world, "alice")

    assert catalogue.get_release(world.db, BILBO.source_id, "hello", "0.0.0") is None
    assert catalogue.get_release(world.db, BILBO.source_id, "hello", "8.0.0") is None
    assert world.release("9.0.0").backed
    (message,) = security_messages(world)
    assert message.startswith("8 releases rested on the word of a convicted node alone") and message.endswith("...")


def test_a_conviction_counts_once_its_author_is_admitted_and_is_restored_with_its_proof() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.saw("alice")

    conviction = convicted(world, "alice", admitted=False)
    assert world.release().backed and announcements.convictions(world.db, 10) == {}
    announcements.change_admission(world.db, [conviction.id], [])

    assert isinstance(conviction.statement, Conviction)
    assert announcements.convictions(world.db, 10) == {key("alice").public: conviction.statement.announcements}
    assert list(announcements.restore(world.db)) == [(entry_of(conviction), True)]
    assert announcements.own_last(world.db, key("alice").public) == (0, 0)
    announcements.drop(world.db, [conviction.id])
    assert announcements.convictions(world.db, 10) == {}


def test_the_proof_is_made_of_what_is_kept_and_nothing_else_of_its_author_is() -> None:
    world = World()
    world.add_source(BILBO)
    one, other = world.saw("alice", bytes_of="one"), world.saw("alice", bytes_of="other")
    raws = announcements.bodies(world.db, [one, other])

    announcements.keep_conviction(world.db, one, other, NOW)
    announcements.drop(world.db, [one, other])

    ((entry, _),) = announcements.restore(world.db)
    row = select_one(world.db, "SELECT id, raw, author, kind FROM announcements WHERE id = ?", (entry.id,))
    assert row is not None
    conviction = announcements.announcement_from(world.db, row)
    assert conviction.id == conviction_id(key("alice").public)
    assert conviction.raw == pack((raws[min(one, other)], raws[max(one, other)]))
    assert not security_messages(world)


def test_what_this_node_saw_itself_it_saw_even_if_its_own_key_is_convicted() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch()

    announcements.keep(
        world.db,
        convict(
            *(announce(world.me, MESH, node_statement(url=url), 7, NOW * 1000) for url in ("", "https://two.example"))
        ),
        True,
        NOW,
    )

    assert world.release().backed_by == "self"


# --- What is shown ------------------------------------------------------------------------------------------------


def test_the_words_of_a_nearer_observer_are_shown() -> None:
    world = World()
    world.add_source(BILBO)
    world.saw("mallory", name="Hello (BUY NOW)")
    before = world.release().name

    world.pin("alice")
    world.saw("alice", name="Hello")

    assert before == "Hello (BUY NOW)"
    assert world.release().name == "Hello"


def test_among_strangers_the_words_that_the_publisher_signed_are_shown() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    evidence = BILBO.release("hello", "1.0.0", digest("hello"))

    world.saw("mallory", name="Hello (BUY NOW)", evidence=evidence)
    world.saw("stranger", name="Hello", evidence=evidence)

    assert world.release().name == "Hello"


def test_an_observers_clock_does_not_bring_its_plugins_to_the_top() -> None:
    world = World()

    world.saw("mallory", observed_at=NOW + 10**8)

    assert world.release().observed_at == NOW


def test_a_later_announcement_of_the_same_bytes_replaces_the_words() -> None:
    world = World()
    world.pin("alice")

    world.saw("alice", name="Helo")
    world.saw("alice", name="Hello")
    world.say("alice", version_statement(name="Old"), seq=NOW * 1000 - 5)

    assert world.release().name == "Hello"


# --- Mirrored bytes -----------------------------------------------------------------------------------------------


def test_mirrored_versions_are_recorded_with_signature_and_path_and_one_update_each() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.fetch("1.0.0", "one", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))
    world.at += 60
    world.fetch("1.10.0", "ten")
    world.fetch("1.9.0", "nine")
    world.fetch("1.10.0", "ten")

    updates = world.db.execute("SELECT old_version, new_version, update_time FROM version_updates").fetchall()
    rows, total = activity.activities(world.db, type="version_update")
    mirrored = world.db.execute("SELECT version, name, signature IS NULL FROM mirrored_plugins ORDER BY id").fetchall()
    assert updates == [("0.0.0", "1.0.0", NOW), ("1.0.0", "1.10.0", NOW + 60)]
    assert [(row.old_version, row.new_version, row.plugin_name) for row in rows] == [
        ("1.0.0", "1.10.0", "Hello"),
        ("0.0.0", "1.0.0", "Hello"),
    ]
    assert total == 2
    assert mirrored == [("1.0.0", "Hello", 0), ("1.10.0", "Hello", 1), ("1.9.0", "Hello", 1)]


def test_bytes_from_a_mirror_count_as_mirrored_and_cached_ones_do_not() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.saw("alice")

    releases.mark_mirrored(world.db, digest("hello"), True, cached=True, at=NOW)
    cached = world.db.table("mirrored_plugins").count
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)
    releases.mark_mirrored(world.db, digest("hello"), True, cached=True, at=NOW)

    assert cached == 0
    assert world.db.table("mirrored_plugins").count == 1
    assert world.release().mirrored


def test_bytes_that_are_gone_are_no_longer_mirrored_but_still_backed() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch()

    releases.mark_mirrored(world.db, digest("hello"), False)

    release = world.release()
    assert (release.mirrored, release.backed) == (False, True)
    assert world.db.table("mirrored_plugins").count == 0


def test_what_is_held_stays_served_when_its_observer_is_unpinned_and_leaves() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    announcement = world.saw("alice")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)

    world.pin("alice", pinned=False)
    unpinned = standing(world.release())
    announcements.drop(world.db, [announcement])
    left = standing(world.release())

    assert unpinned == left == ("A0", True, "pin")
    assert announcements.bodies(world.db, [announcement]) == {}
    assert list(announcements.restore(world.db)) == []
    raw_kept = world.db.execute("SELECT place FROM announcements").fetchall()
    assert raw_kept == [("evidence",)]


def test_the_evidence_goes_with_the_bytes() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    announcement = world.saw("alice")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)
    announcements.drop(world.db, [announcement])

    releases.mark_mirrored(world.db, digest("hello"), False, at=NOW)

    assert catalogue.get_release(world.db, BILBO.source_id, "hello") is None
    assert [world.db.table(table).count for table in ("announcements", "observations", "plugins")] == [0, 0, 0]


def test_a_blocked_observers_word_counts_for_nothing_even_for_bytes_that_are_held() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.saw("alice")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)

    world.block("alice")
    blocked = catalogue.get_release(world.db, BILBO.source_id, "hello")
    world.block("alice", blocked=False)

    assert blocked is None
    assert world.release().backed


# --- Trust depth --------------------------------------------------------------------------------------------------


def _deep_world(depth: int) -> World:
    world = World()
    facts.set_identity(world.db, world.me.public, depth)
    world.pin("alice")
    world.pin("carol")
    return world


def test_two_observers_behind_different_pins_back_bytes_only_with_a_greater_trust_depth() -> None:
    world = _deep_world(2)
    world.say("alice", node_statement(pins=("a2",)))
    world.say("carol", node_statement(pins=("c2",)))

    world.saw("a2")
    one = standing(world.release())
    world.saw("c2")
    two = standing(world.release())
    facts.set_identity(world.db, world.me.public, 1)
    releases.refresh_all(world.db)

    assert one == ("reported", False, None)
    assert two == ("A0", True, "depth")
    assert standing(world.release()) == ("reported", False, None)


def test_two_observers_behind_one_pin_do_not() -> None:
    world = _deep_world(2)
    world.say("alice", node_statement(pins=("a2", "a3")))

    world.saw("a2")
    world.saw("a3")

    assert not world.release().backed


def test_pins_that_come_later_or_go_are_followed_to_depth_three() -> None:
    world = _deep_world(3)
    world.saw("a3")
    world.saw("c2")
    before = world.release().backed

    world.say("carol", node_statement(pins=("c2",)))
    world.say("alice", node_statement(pins=("a2",)))
    world.say("a2", node_statement(pins=("a3",)))
    reached = world.release().backed
    world.say("alice", node_statement(pins=()))

    assert (before, reached, world.release().backed) == (False, True, False)


def test_a_path_through_a_blocked_or_departed_node_is_none() -> None:
    world = _deep_world(2)
    world.say("alice", node_statement(pins=("a2",)))
    world.say("carol", node_statement(pins=("c2",)))
    world.saw("a2")
    world.saw("c2")

    world.block("carol")
    blocked = world.release().backed
    world.block("carol", blocked=False)
    unblocked = world.release().backed
    world.say("carol", node_statement(pins=("c2",), left=True))

    assert (blocked, unblocked, world.release().backed) == (False, True, False)


def test_what_two_distant_observers_backed_stays_when_the_path_to_one_is_gone() -> None:
    world = _deep_world(2)
    world.say("alice", node_statement(pins=("a2",)))
    world.say("carol", node_statement(pins=("c2",)))
    world.saw("a2")
    world.saw("c2")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)

    world.say("carol", node_statement(pins=()))

    assert standing(world.release()) == ("A0", True, "depth")


def test_a_pin_that_changes_nothing_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.pin("alice")
    judged: list[bytes] = []
    monkeypatch.setattr(releases, "refresh_observer", lambda db, node_id: judged.append(node_id))

    peers.set_peer_policy(world.db, key("alice").public, pinned=True, joined=True)
    peers.set_peer_policy(world.db, key("carol").public, joined=True)

    assert judged == []
