"""Subscriptions, failures, activity, keys, peers and facts."""

import pytest

from pfn_node.store import activity, keys, peers, registry, subscriptions
from pfn_node.store.rows import Filters
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    key,
)

BILBO = Publisher()
FRODO = Publisher("frodo", "https://shop.example:8443", "frodo's key")
HOSTILE = "'); DROP TABLE sources; --"


# --- Subscriptions and failures -----------------------------------------------------------------------------------


def test_subscribing_again_replaces_the_filters_and_is_not_new() -> None:
    world = World()
    world.add_source(BILBO)

    first = subscriptions.set_subscription(world.db, BILBO.source_id, "key", Filters(), NOW)
    second = subscriptions.set_subscription(world.db, BILBO.source_id, "key", Filters(slugs=("a",)), NOW + 5)

    assert (first, second) == (True, False)
    (subscription,) = subscriptions.subscriptions(world.db, BILBO.source_id, "key")
    assert subscription.filters == Filters(slugs=("a",))
    assert subscription.created_at == NOW
    assert subscriptions.subscriber_count(world.db, BILBO.source_id) == 1


def test_unsubscribing_ends_only_that_subscription() -> None:
    world = World()
    world.add_source(BILBO)
    for subscriber in ("one", "two"):
        subscriptions.set_subscription(world.db, BILBO.source_id, subscriber, Filters(), NOW)

    assert subscriptions.delete_subscription(world.db, BILBO.source_id, "one")
    assert not subscriptions.delete_subscription(world.db, BILBO.source_id, "one")

    assert [subscription.subscriber for subscription in subscriptions.subscriptions(world.db)] == ["two"]


def test_failures_are_retried_after_1_2_4_8_and_then_always_16_hours() -> None:
    world = World()
    world.add_source(BILBO)

    failures = [subscriptions.record_failure(world.db, BILBO.source_id, "down", NOW) for _ in range(6)]

    assert [(failure.next_retry - NOW) // 3600 for failure in failures] == [1, 2, 4, 8, 16, 16]
    assert [failure.retry_count for failure in failures] == [1, 2, 3, 4, 5, 6]
    assert subscriptions.failures(world.db, BILBO.source_id)[0] == failures[-1]
    assert subscriptions.clear_failures(world.db, BILBO.source_id) == 6
    assert subscriptions.failures(world.db) == []
    assert subscriptions.record_failure(world.db, BILBO.source_id, "again", NOW).retry_count == 1


def test_failures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "FAILURES_MAX", 2)
    world = World()
    world.add_source(BILBO)

    for number in range(4):
        subscriptions.record_failure(world.db, BILBO.source_id, str(number), NOW)

    assert [failure.error_message for failure in subscriptions.failures(world.db)] == ["3", "2"]


# --- Activity -----------------------------------------------------------------------------------------------------


def test_activity_is_filtered_paged_and_counted() -> None:
    world = World()
    ids = [
        activity.record_activity(world.db, "security" if number % 2 else "source_health", "m", at=NOW + number)
        for number in range(6)
    ]

    newest, total = activity.activities(world.db, limit=2, offset=1)
    odd, odd_total = activity.activities(world.db, type="security")
    late, late_total = activity.activities(world.db, since=NOW + 4)
    resumed, resumed_total = activity.activities(world.db, after_id=ids[2], limit=2)

    assert ([row.id for row in newest], total) == ([ids[4], ids[3]], 6)
    assert ([row.id for row in odd], odd_total) == ([ids[5], ids[3], ids[1]], 3)
    assert ([row.id for row in late], late_total) == ([ids[5], ids[4]], 2)
    assert ([row.id for row in resumed], resumed_total) == ([ids[3], ids[4]], 3)


def test_activity_names_the_username_of_its_source_and_survives_odd_text() -> None:
    world = World()

    activity.record_activity(
        world.db, "version_update", "\ud800" * 5000, at=NOW, source_id="o'brien@shop.example", plugin_name="\udfff"
    )

    (row,), _ = activity.activities(world.db)
    assert row.source_username == "o'brien"
    assert row.plugin_name == "?"
    assert row.message == "?" * activity.MESSAGE_CHARACTERS_MAX


def test_the_oldest_activity_goes_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "ACTIVITIES_MAX", 50)
    world = World()

    for number in range(200):
        activity.record_activity(world.db, "security", str(number), at=NOW)

    rows, total = activity.activities(world.db, limit=1)
    assert total == 50
    assert rows[0].message == "199"


# --- Keys ---------------------------------------------------------------------------------------------------------


def test_a_key_is_found_with_the_hash_of_its_secret_until_it_is_revoked() -> None:
    world = World()
    made = keys.insert_key(world.db, "id1", b"hash", "mine", ("read", "sources"), NOW, None)

    keys.touch_key(world.db, "id1", NOW + 1)
    found = keys.find_key(world.db, "id1")

    assert found is not None
    assert found[1] == b"hash"
    assert (found[0].scopes, found[0].last_used) == (made.scopes, NOW + 1)
    assert keys.find_key(world.db, "id2") is None
    assert keys.revoke_key(world.db, "id1", NOW + 2)
    assert not keys.revoke_key(world.db, "id1", NOW + 3)
    assert [one.revoked for one in keys.list_keys(world.db)] == [NOW + 2]


def test_a_rotated_key_ends_at_the_earlier_of_two_times() -> None:
    world = World()
    keys.insert_key(world.db, "for ever", b"1", "", (), NOW, None)
    keys.insert_key(world.db, "short", b"2", "", (), NOW, NOW + 10)

    assert keys.expire_key(world.db, "for ever", NOW + 100)
    assert keys.expire_key(world.db, "short", NOW + 100)
    assert not keys.expire_key(world.db, "unknown", NOW)

    assert [one.expires for one in keys.list_keys(world.db)] == [NOW + 100, NOW + 10]


# --- Peers and facts ----------------------------------------------------------------------------------------------


def test_a_peer_keeps_its_address_and_the_latest_moment_it_was_seen() -> None:
    world = World()
    alice = key("alice").public

    peers.save_peer(world.db, alice, url="https://alice.example", seen=NOW)
    peers.save_peer(world.db, alice, seen=NOW - 5)
    peers.save_peer(world.db, alice)

    (peer,) = peers.peers(world.db)
    assert (peer.url, peer.last_seen, peer.pinned) == ("https://alice.example", NOW, False)


def test_a_clock_that_was_set_back_does_not_keep_the_nodes_of_its_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS_MAX", 2)
    world = World()
    for name in ("alice", "bob"):
        peers.save_peer(world.db, key(name).public, seen=NOW + 86_400)

    peers.save_peer(world.db, key("alice").public, seen=NOW)
    peers.save_peer(world.db, key("bob").public, seen=NOW + 1)
    for second, name in enumerate(("carol", "dave"), 2):
        peers.save_peer(world.db, key(name).public, seen=NOW + second)

    assert {peer.node_id for peer in peers.peers(world.db)} == {key("carol").public, key("dave").public}


def test_that_a_peer_was_introduced_stays() -> None:
    world = World()

    peers.save_peer(world.db, key("alice").public, url="https://alice.example")
    peers.save_peer(world.db, key("alice").public, url="https://alice.example", introduced=True)
    peers.save_peer(world.db, key("alice").public, url="https://alice.example")

    (peer,) = peers.peers(world.db)
    assert peer.introduced


def test_the_longest_known_peer_comes_first_whatever_its_key_is() -> None:
    world = World()
    ids = sorted((key(name).public for name in ("alice", "bob", "carol")), reverse=True)

    for number, node_id in enumerate(ids):
        peers.save_peer(world.db, node_id, url=f"https://node-{number}.example", seen=NOW - number)

    assert [peer.node_id for peer in peers.peers(world.db)] == ids


def test_a_pin_that_was_taken_away_is_remembered() -> None:
    world = World()
    alice = world.pin("alice")
    pinned = peers.get_peer(world.db, alice)

    unpinned = peers.set_peer_policy(world.db, alice, pinned=False)
    still = peers.set_peer_policy(world.db, alice, joined=True, provisional=True)
    again = peers.set_peer_policy(world.db, alice, pinned=True)

    assert pinned is not None
    assert (pinned.pinned, pinned.unpinned) == (True, False)
    assert (unpinned.pinned, unpinned.unpinned) == (False, True)
    assert (still.joined, still.provisional, still.unpinned) == (True, True, True)
    assert (again.pinned, again.unpinned) == (True, False)


def test_only_peers_without_an_opinion_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS_MAX", 2)
    world = World()
    world.pin("pinned")
    for number, name in enumerate(("a", "b", "c")):
        peers.save_peer(world.db, key(name).public, url=f"https://{name}", seen=NOW + number)

    assert not peers.forget_peer(world.db, key("pinned").public)
    assert peers.forget_peer(world.db, key("c").public)

    assert {peer.url for peer in peers.peers(world.db)} == {None, "https://b"}


def test_join_targets_keep_their_order_and_their_key_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "JOIN_TARGETS_MAX", 2)
    world = World()

    assert peers.add_join_target(world.db, "https://z.example")
    assert peers.add_join_target(world.db, "https://a.example", b"k" * 32)
    assert peers.add_join_target(world.db, "https://a.example")
    assert not peers.add_join_target(world.db, "https://c.example")

    assert peers.join_targets(world.db) == [("https://z.example", None), ("https://a.example", b"k" * 32)]


def test_facts_are_set_and_replaced_and_the_identity_says_whether_it_changed() -> None:
    world = World()

    assert registry.get_fact(world.db, "colour") is None
    registry.set_fact(world.db, "colour", "green")
    registry.set_fact(world.db, "colour", "red")

    assert registry.get_fact(world.db, "colour") == "red"
    assert not registry.set_identity(world.db, world.me.public, 1)
    assert registry.set_identity(world.db, world.me.public, 2)
    assert (registry.own_id(world.db), registry.trust_depth(world.db)) == (world.me.public, 2)
