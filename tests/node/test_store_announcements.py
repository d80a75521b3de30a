"""Announcements as they are kept, moved, dropped and restored, and the nodes that may have an artifact."""

from pfn_node.store import announcements, catalogue, peers, releases, sources
from pfn_protocol.slots import entry_of
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    digest,
    key,
    mirror_statement,
    node_statement,
    source_statement,
    version_statement,
)

BILBO = Publisher()
LATER = NOW + 25 * 3600


def known_release(world: World) -> str | None:
    release = catalogue.get_release(world.db, BILBO.source_id, "hello", "1.0.0")
    return None if release is None else release.assurance


def test_keeping_an_announcement_twice_changes_nothing() -> None:
    world = World()
    announcement = world.signed("alice", version_statement())

    first = announcements.keep(world.db, announcement, True, NOW)
    changes = world.db.conn.total_changes
    second = announcements.keep(world.db, announcement, True, NOW + 1)

    assert (first, second) == (True, False)
    assert world.db.conn.total_changes == changes


def test_bodies_come_back_byte_for_byte_in_the_order_asked() -> None:
    world = World()
    kept = [world.signed(who, version_statement()) for who in ("alice", "carol")]
    for announcement in kept:
        announcements.keep(world.db, announcement, False, NOW)

    found = announcements.bodies(world.db, [kept[1].id, b"unknown" * 4, kept[0].id])

    assert list(found.items()) == [(kept[1].id, kept[1].raw), (kept[0].id, kept[0].raw)]


def test_everything_is_restored_with_its_place() -> None:
    world = World()
    kept = [
        world.signed("alice", statement)
        for statement in (
            node_statement(url="https://alice.example", pins=("carol",)),
            source_statement(BILBO),
            version_statement(evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),)),
            mirror_statement(BILBO),
        )
    ]
    for place, announcement in enumerate(kept):
        announcements.keep(world.db, announcement, place % 2 == 0, NOW)

    restored = list(announcements.restore(world.db))

    assert restored == [(entry_of(one), place % 2 == 0) for place, one in enumerate(kept)]


def test_a_version_that_was_kept_without_marks_is_remembered_with_those_that_it_says() -> None:
    world = World()
    kept = [
        world.signed("alice", version_statement()),
        world.signed("alice", version_statement(replaces=bytes(range(32)))),
    ]
    for announcement in kept:
        announcements.keep(world.db, announcement, True, NOW)

    world.db.execute("UPDATE announcements SET content = NULL, replaces = NULL")

    assert list(announcements.restore(world.db)) == [(entry_of(one), True) for one in kept]


def test_what_is_parked_is_shown_to_nobody_until_it_is_admitted() -> None:
    world = World()
    ids = [
        world.say("alice", statement, admitted=False)
        for statement in (
            node_statement(url="https://alice.example"),
            source_statement(BILBO),
            version_statement(),
            mirror_statement(BILBO),
        )
    ]
    before = (known_release(world), sources.get_source(world.db, BILBO.source_id))

    announcements.change_admission(world.db, ids, [])
    admitted = (known_release(world), sources.get_source(world.db, BILBO.source_id), world.plugin().mirrors)
    announcements.change_admission(world.db, [b"unknown"], ids)

    assert before == (None, None)
    assert admitted[0] == "reported"
    assert admitted[1] is not None
    assert admitted[2] == 1
    assert (known_release(world), sources.get_source(world.db, BILBO.source_id)) == (None, None)
    assert announcements.bodies(world.db, ids).keys() == set(ids)


def test_an_announcement_kept_again_in_another_place_moves_there() -> None:
    world = World()
    announcement = world.signed("alice", version_statement())
    announcements.keep(world.db, announcement, False, NOW)

    assert announcements.keep(world.db, announcement, True, NOW)

    assert known_release(world) == "reported"
    assert list(announcements.restore(world.db)) == [(entry_of(announcement), True)]


def test_what_is_dropped_is_gone_with_what_it_said() -> None:
    world = World()
    ids = [
        world.say("alice", statement)
        for statement in (
            node_statement(url="https://alice.example"),
            source_statement(BILBO),
            version_statement(),
            mirror_statement(BILBO),
        )
    ]

    announcements.drop(world.db, [*ids, b"unknown"])

    assert known_release(world) is None
    assert sources.get_source(world.db, BILBO.source_id) is None
    tables = ("announcements", "node_claims", "attestations", "observations", "mirror_claims", "plugins")
    assert [world.db.table(table).count for table in tables] == [0] * 6


def test_dropping_the_replaced_announcement_leaves_what_the_newer_one_says() -> None:
    world = World()
    old = [world.say("alice", statement) for statement in (source_statement(BILBO), version_statement())]
    world.say("alice", source_statement(BILBO))
    world.say("alice", version_statement(name="New"))

    announcements.drop(world.db, old)

    assert world.release().name == "New"
    assert sources.get_source(world.db, BILBO.source_id) is not None


def test_an_older_announcement_that_comes_late_changes_nothing() -> None:
    world = World()
    world.say("alice", node_statement(url="https://new.example"))
    world.say("alice", mirror_statement(BILBO, 7))
    world.say("alice", source_statement(BILBO))

    for statement in (
        node_statement(url="https://old.example"),
        mirror_statement(BILBO, 0),
        source_statement(BILBO, key_of="old"),
    ):
        world.say("alice", statement, seq=NOW * 1000 - 1)

    assert world.db.execute("SELECT url FROM node_claims").fetchall() == [("https://new.example",)]
    assert world.db.execute("SELECT count FROM mirror_claims").fetchall() == [(7,)]
    assert world.db.execute("SELECT public_key FROM attestations").fetchall() == [(BILBO.key.public,)]


def test_what_this_node_saw_it_saw_also_when_its_announcement_is_dropped() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch(stored=False)
    announcement = world.saw("me")

    announcements.drop(world.db, [announcement])

    assert world.release().backed_by == "self"
    (observation,) = catalogue.observations_of(world.db, BILBO.source_id, "hello", "1.0.0")
    assert observation.announcement_id is None


def test_an_announcement_of_its_own_does_not_replace_the_words_that_were_fetched() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.fetch(evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))

    announcement = world.saw("me", description=None)
    world.fetch(evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))

    (observation,) = catalogue.observations_of(world.db, BILBO.source_id, "hello", "1.0.0")
    assert (observation.description, observation.announcement_id) == ("Says hello.", announcement)
    assert world.release().assurance == "A1"


def test_evidence_that_is_replaced_leaves_nothing_behind() -> None:
    world = World()
    world.add_source(BILBO)
    old = world.saw("alice", name="Old")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)
    announcements.drop(world.db, [old])

    new = world.saw("alice", name="New")

    assert world.db.execute("SELECT id FROM announcements").fetchall() == [(new,)]
    assert world.release().name == "New"


def test_evidence_for_held_bytes_can_be_admitted_again() -> None:
    world = World()
    world.add_source(BILBO)
    announcement = world.saw("alice")
    releases.mark_mirrored(world.db, digest("hello"), True, at=NOW)

    announcements.change_admission(world.db, [], [announcement])
    parked = known_release(world)
    announcements.change_admission(world.db, [announcement], [])
    releases.mark_mirrored(world.db, digest("hello"), False, at=NOW)

    assert parked == "reported"
    assert known_release(world) == "reported"


def test_the_last_number_used_is_remembered_also_when_everything_expired() -> None:
    world = World()
    me, alice = world.me.public, key("alice").public
    nothing = announcements.own_last(world.db, me)
    mine = [world.say("me", mirror_statement(BILBO)) for _ in range(3)]
    last_of_mine = world.seq
    world.say("alice", mirror_statement(BILBO))

    announcements.drop(world.db, mine)

    assert nothing == (0, 0)
    assert announcements.own_last(world.db, me) == (0, last_of_mine)
    assert announcements.own_last(world.db, alice) == (0, last_of_mine + 1)


def test_an_older_announcement_of_its_own_does_not_turn_the_last_number_back() -> None:
    world = World()
    world.say("me", mirror_statement(BILBO))
    last = world.seq
    world.say("me", source_statement(BILBO), seq=last - 100)

    assert announcements.own_last(world.db, world.me.public) == (0, last)


def test_holders_are_pinned_nodes_first_then_observers_then_mirrors() -> None:
    world = World()
    for who in ("mirror", "observer", "pinned mirror", "silent", "me", "blocked", "left", "empty"):
        url = "" if who == "silent" else f"https://{who.replace(' ', '-')}.example"
        world.say(who, node_statement(url=url, left=who == "left"))
    for who in ("mirror", "observer", "pinned mirror", "me", "blocked", "left"):
        world.say(who, mirror_statement(BILBO))
    world.say("empty", mirror_statement(BILBO, 0))
    for who in ("observer", "silent", "me"):
        world.saw(who)
    world.pin("pinned mirror")
    world.block("blocked")
    peers.save_peer(world.db, key("observer").public, url="https://proven.example", seen=NOW)

    found = announcements.holders(world.db, BILBO.source_id, digest("hello"), now=NOW)
    late = announcements.holders(world.db, BILBO.source_id, digest("hello"), now=LATER)

    assert [peer.url for peer in found] == [
        "https://pinned-mirror.example",
        "https://proven.example",
        "https://mirror.example",
    ]
    assert (found[0].pinned, found[0].node_id) == (True, key("pinned mirror").public)
    assert [peer.url for peer in late] == ["https://proven.example"]  # mirror claims have expired
    assert announcements.holders(world.db, BILBO.source_id, digest("unknown"), now=LATER) == []
    assert announcements.holders(world.db, "nobody@nowhere", digest("hello")) == []


def test_mirrors_are_counted_while_their_claims_last() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch()
    for who in ("alice", "carol", "me", "blocked"):
        world.say(who, mirror_statement(BILBO))
    world.say("empty", mirror_statement(BILBO, 0))
    world.block("blocked")

    now = world.plugin().mirrors
    world.at = LATER

    assert (now, world.plugin().mirrors) == (3, 1)
