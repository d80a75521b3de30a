"""A pin moves to the key that its node named long before, and to no other, whoever has the node's key meanwhile."""

import pytest

from pfn_node.store import announcements, catalogue, peers, successions
from pfn_node.store.activity import activities
from pfn_node.store.audit import entries
from pfn_protocol.equivocation import convict
from pfn_protocol.identity import did_key
from pfn_protocol.limits import succession_age_seconds_min
from pfn_protocol.succession import commit_to, sign_succession
from tests.node.store_world import MESH, Publisher, World, key, version_statement

DAYS = succession_age_seconds_min


@pytest.fixture
def world() -> World:
    made = World()
    made.add_source(Publisher(), verified=True)
    made.pin("old")
    return made


def commit(world: World, who: str = "old", new: str = "new") -> None:
    world.say(who, commit_to(key(new).public))


def succeed(world: World, old: str = "old", new: str = "new", *, admitted: bool = False) -> None:
    world.say(new, sign_succession(key(old), key(new).public, MESH), admitted=admitted)


def convicted(world: World, who: str) -> None:
    one, other = (world.signed(who, version_statement(bytes_of=name)) for name in ("one", "other"))
    announcements.keep(world.db, convict(one, other), True, world.at)


def pinned(world: World) -> set[str]:
    known = {peer.node_id for peer in peers.peers(world.db) if peer.pinned}
    return {name for name in ("old", "new", "third", "thief", "friend") if key(name).public in known}


def alerts(world: World) -> list[str]:
    return [one.message for one in activities(world.db, type="security")[0]]


def test_a_pin_moves_to_the_key_that_was_committed_to_for_72_hours(world: World) -> None:
    peers.save_peer(world.db, key("old").public, url="http://old.test")
    peers.set_peer_policy(world.db, key("old").public, joined=True)
    peers.add_join_target(world.db, "http://old.test", key("old").public)
    commit(world)
    world.at += DAYS
    succeed(world)

    assert pinned(world) == {"new"}
    heir = peers.get_peer(world.db, key("new").public)
    assert heir is not None and (heir.url, heir.joined) == ("http://old.test", True)
    assert peers.join_targets(world.db) == [("http://old.test", key("new").public)]
    assert successions.successors(world.db) == {key("old").public: key("new").public}
    assert len(alerts(world)) == 1 and f"passed its name to {did_key(key('new').public)}" in alerts(world)[0]


def test_a_commitment_that_was_seen_too_late_moves_nothing_until_it_is_old_enough_here(world: World) -> None:
    # Its author says that it is a year old: what counts is when it was seen.
    world.say("old", commit_to(key("new").public), seq=world.seq - 365 * 86_400_000)
    world.at += DAYS - 1
    succeed(world)

    assert pinned(world) == {"old"}
    assert len(alerts(world)) == 1 and "less than 72 hours; pin it yourself" in alerts(world)[0]

    world.at += 1
    succeed(world)  # as at every start of the new node

    assert pinned(world) == {"new"}


def test_a_repeated_commitment_keeps_its_age(world: World) -> None:
    commit(world)
    world.at += DAYS
    commit(world)
    succeed(world)

    assert pinned(world) == {"new"}


@pytest.mark.parametrize("committed", [None, "another"])
def test_without_a_commitment_to_this_very_key_the_operator_is_asked_once(world: World, committed: str | None) -> None:
    if committed is not None:
        commit(world, new=committed)
    world.at += DAYS
    succeed(world)
    succeed(world)

    assert pinned(world) == {"old"}
    assert len(alerts(world)) == 1 and f"wants to pass its name to {did_key(key('new').public)}" in alerts(world)[0]


@pytest.mark.parametrize("first", ["new", "thief"])
def test_a_second_commitment_voids_both_for_good(world: World, first: str) -> None:
    commit(world, new=first)
    world.at += DAYS
    commit(world, new="thief" if first == "new" else "new")
    world.at += DAYS
    commit(world, new="thief")
    succeed(world, new="thief")

    assert pinned(world) == {"old"}
    assert successions.committed_since(world.db, key("old").public, key("thief").public) is None
    assert successions.committed_since(world.db, key("old").public, key("new").public) is None


def test_a_commitment_of_a_pinned_node_outlives_its_announcement_and_that_of_a_stranger_does_not(world: World) -> None:
    for who in ("old", "stranger"):
        announcements.drop(world.db, [world.say(who, commit_to(key("new").public))])

    assert successions.committed_since(world.db, key("old").public, key("new").public) == world.at
    assert successions.committed_since(world.db, key("stranger").public, key("new").public) is None


def test_two_successions_of_one_key_are_both_void(world: World) -> None:
    commit(world)
    succeed(world)
    succeed(world, new="thief")
    world.at += DAYS
    succeed(world)
    succeed(world, new="thief")

    assert pinned(world) == {"old"}
    assert any("names two successors" in sentence for sentence in alerts(world))


def test_who_was_succeeded_is_not_succeeded_again(world: World) -> None:
    commit(world)
    world.at += DAYS
    succeed(world)
    world.pin("old")
    succeed(world, new="thief")

    assert pinned(world) == {"old", "new"}
    assert not any("two successors" in sentence for sentence in alerts(world))


def test_the_succession_of_a_stranger_is_nobodys_business(world: World) -> None:
    commit(world, who="stranger")
    world.at += DAYS
    succeed(world, old="stranger")

    assert pinned(world) == {"old"} and alerts(world) == []


@pytest.mark.parametrize("who", ["old", "new"])
def test_a_convicted_key_neither_passes_its_pin_on_nor_takes_one_over(world: World, who: str) -> None:
    commit(world)
    convicted(world, who)
    world.at += DAYS
    succeed(world)

    assert pinned(world) == {"old"}
    assert any("one of the two told two stories" in sentence for sentence in alerts(world))


@pytest.mark.parametrize("who", ["old", "new"])
def test_a_blocked_key_neither_passes_its_pin_on_nor_takes_one_over(world: World, who: str) -> None:
    commit(world)
    world.block(who)
    world.at += DAYS
    succeed(world)

    assert pinned(world) == {"old"}


def test_an_unpin_outlasts_a_succession(world: World) -> None:
    commit(world)
    world.pin("new")
    world.pin("new", pinned=False)
    world.at += DAYS
    succeed(world)

    assert pinned(world) == {"old"}
    assert "you have decided about that key yourself" in alerts(world)[0]


def test_this_node_itself_is_nobodys_heir(world: World) -> None:
    world.say("old", commit_to(world.me.public))
    world.at += DAYS
    world.say("me", sign_succession(key("old"), world.me.public, MESH))

    assert pinned(world) == {"old"}


@pytest.mark.parametrize("later", ["old", "new"])
def test_a_conviction_of_a_former_key_takes_the_pin_of_its_last_heir(world: World, later: str) -> None:
    commit(world)
    world.at += DAYS
    succeed(world)
    commit(world, who="new", new="third")
    world.at += DAYS
    succeed(world, old="new", new="third")
    assert pinned(world) == {"third"}

    convicted(world, later)

    assert pinned(world) == set()
    assert any("the key whose name it took over told two stories" in sentence for sentence in alerts(world))


def test_an_heir_that_is_pinned_no_more_loses_nothing_by_a_conviction(world: World) -> None:
    commit(world)
    world.at += DAYS
    succeed(world)
    world.pin("new", pinned=False)
    told = len(alerts(world))

    convicted(world, "old")

    assert len(alerts(world)) == told


def test_what_the_old_key_saw_counts_on_and_what_it_says_later_does_not(world: World) -> None:
    seen = world.saw("old")
    commit(world)
    world.at += DAYS
    succeed(world)
    announcements.change_admission(world.db, [], [seen])  # since nobody pins that key any more
    assert world.release().backed_by == "pin"

    world.at += 1
    world.saw("old", "2.0.0", "malware")
    assert world.release("2.0.0").backed_by is None

    world.pin("new", pinned=False)
    assert catalogue.get_release(world.db, Publisher().source_id, "hello", "1.0.0") is None


def test_old_and_new_key_are_one_witness(world: World) -> None:
    world.fetch()
    world.saw("old")
    commit(world)
    world.at += DAYS
    succeed(world, admitted=True)
    world.saw("new")
    assert world.release().assurance == "A0"

    world.pin("friend")
    world.saw("friend")
    assert world.release().assurance == "A2"


def test_what_this_node_saw_under_its_former_key_it_saw_itself(world: World) -> None:
    world.fetch()
    world.saw("me")
    before, world.me = world.me, key("me, later")
    for _ in range(2):  # as at every start
        successions.take_over(world.db, before.public, world.me.public, world.at)
    World(db=world.db, me=world.me)  # the node is known by its new key from now on

    world.pin("friend")
    assert world.release().backed_by == "self"
    assert world.db.execute("SELECT observer, announcement_id FROM observations").fetchall() == [
        (world.me.public, None)
    ]
    convicted(world, "nobody")
    successions.disinherit(world.db, before.public, world.at)
    assert pinned(world) == {"old", "friend"}


def test_a_pin_that_moved_is_in_the_audit_log(world: World) -> None:
    commit(world)
    world.at += DAYS
    succeed(world)

    assert any(entry.action == "pin successor" for entry in entries(world.db, limit=10))
