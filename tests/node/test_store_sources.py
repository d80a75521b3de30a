"""Publishers: added, changed, removed, verified, and those that were only heard of."""

import pytest

from pfn_node.store import activity, catalogue, sources, subscriptions
from pfn_node.store.database import StoreError
from pfn_node.store.rows import Filters, HealthCheck, Source
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import public_key_pem
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    digest,
    mirror_statement,
    node_statement,
    source_statement,
)

BILBO = Publisher()
FRODO = Publisher("frodo", "https://shop.example:8443", "frodo's key")
HOSTILE = "'); DROP TABLE sources; --"


def test_a_source_comes_back_as_it_was_added() -> None:
    world = World()

    added = world.add_source(BILBO, trust={"V": 0.5}, trust_score=0.25, allow_unsigned=True, oracle="utf8")

    assert added == Source(
        id="bilbo@shop.example",
        instance_url="https://shop.example",
        username="bilbo",
        public_key=public_key_pem(BILBO.key.public),
        status="pending",
        trust_score=0.25,
        created_at=NOW,
        last_sync=None,
        asset_domain=None,
        asset_naming_scheme=None,
        registered=True,
        allow_unsigned=True,
        oracle="utf8",
        verified_at=None,
        attested=False,
        trust={"V": 0.5},
        oracle_in_force="utf8",
    )
    assert sources.get_source(world.db, BILBO.source_id) == added
    assert sources.find_source_by_url(world.db, BILBO.url, "bilbo") == added
    assert sources.find_source_by_url(world.db, BILBO.url, "frodo") is None


def test_a_source_is_added_once_by_id_and_by_url_and_username() -> None:
    world = World()
    world.add_source(BILBO)
    world.add_source(FRODO)

    with pytest.raises(sources.SourceExists, match=r"bilbo@shop\.example is known already"):
        world.add_source(BILBO)
    with pytest.raises(sources.SourceExists, match="already belongs to frodo"):
        sources.insert_source(
            world.db,
            id="frodo@elsewhere",
            instance_url="https://elsewhere",
            username="frodo",
            public_key=public_key_pem(FRODO.key.public),
            created_at=NOW,
        )
        sources.update_source(world.db, "frodo@elsewhere", instance_url=FRODO.url)


def test_a_key_that_is_none_is_refused_and_nothing_is_added() -> None:
    world = World()
    world.add_source(BILBO)

    with pytest.raises(Refusal):
        sources.update_source(world.db, BILBO.source_id, public_key="garbage")
    with pytest.raises(StoreError, match="not known here"):
        sources.update_source(world.db, "nobody@nowhere", status="verified")


def test_changing_nothing_changes_nothing() -> None:
    world = World()
    added = world.add_source(BILBO)

    assert sources.update_source(world.db, BILBO.source_id) == added
    assert sources.update_source(world.db, BILBO.source_id, instance_url=BILBO.url) == added


def test_lists_leave_discovered_sources_out_unless_asked_for() -> None:
    world = World()
    world.add_source(BILBO, status="verified")
    world.say("alice", source_statement(FRODO))

    def ids(**filters: object) -> list[str]:
        return [source.id for source in sources.list_sources(world.db, **filters)]  # type: ignore[arg-type]

    assert ids() == [BILBO.source_id]
    assert ids(status="discovered") == [FRODO.source_id]
    assert ids(status="verified") == [BILBO.source_id]
    assert ids(include_discovered=True) == [BILBO.source_id, FRODO.source_id]
    assert ids(include_discovered=True, limit=1, offset=1) == [FRODO.source_id]
    assert ids(include_discovered=True, q="FRODO") == [FRODO.source_id]
    assert ids(include_discovered=True, q="shop.example") == [BILBO.source_id, FRODO.source_id]
    assert ids(include_discovered=True, q="%") == []


def test_sources_are_found_by_host_with_its_port() -> None:
    world = World()
    world.add_source(BILBO)
    world.add_source(FRODO)

    assert [source.id for source in sources.sources_of_host(world.db, "shop.example")] == [BILBO.source_id]
    assert [source.id for source in sources.sources_of_host(world.db, "shop.example:8443")] == [FRODO.source_id]


def test_verifications_are_kept_newest_first_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "VERIFICATIONS_MAX", 3)
    world = World()
    world.add_source(BILBO)

    for number in range(5):
        sources.record_verification(world.db, BILBO.source_id, "me", "manual", "success", None, NOW + number)
    last = sources.record_verification(world.db, BILBO.source_id, "me", "periodic", "failure", "no \ud800", NOW + 9)

    kept = sources.verifications(world.db, BILBO.source_id)
    assert kept[0] == last
    assert kept[0].details == "no ?"
    assert [verification.verified_at for verification in kept] == [NOW + 9, NOW + 4, NOW + 3]


def test_health_checks_are_kept_newest_first_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HEALTH_CHECKS_MAX", 2)
    world = World()
    world.add_source(BILBO)

    checks = [HealthCheck(BILBO.source_id, number % 2 == 0, 0.5, "slow", NOW + number) for number in range(4)]
    for check in checks:
        sources.record_health(world.db, check)

    assert sources.health_checks(world.db, BILBO.source_id) == checks[:1:-1]
    assert sources.health_checks(world.db, BILBO.source_id, since=NOW + 3) == checks[3:]


def test_the_summary_of_a_source_counts_and_averages() -> None:
    world = World()
    world.add_source(BILBO)

    before = sources.summary_of(world.db, BILBO.source_id, NOW)
    sources.record_verification(world.db, BILBO.source_id, "me", "initial", "success", None, NOW)
    sources.record_verification(world.db, BILBO.source_id, "me", "manual", "failure", "down", NOW)
    for seconds in (0.2, 0.4):
        sources.record_health(world.db, HealthCheck(BILBO.source_id, True, seconds, None, NOW))
    sources.record_health(world.db, HealthCheck(BILBO.source_id, False, None, "no answer", NOW + 1))
    subscriptions.set_subscription(world.db, BILBO.source_id, "key", Filters(), NOW)
    world.fetch()
    after = sources.summary_of(world.db, BILBO.source_id, NOW + 1)

    assert (before.healthy, before.last_verification_result, before.response_time_avg) == (None, None, None)
    assert (after.subscriber_count, after.plugin_count, after.successful_verifications) == (1, 1, 1)
    assert after.last_verification_result == "failure"
    assert after.response_time_avg == pytest.approx(0.3)
    assert after.healthy is False


def test_a_removed_source_leaves_what_is_mirrored_and_is_only_discovered_then() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    subscriptions.set_subscription(world.db, BILBO.source_id, "key", Filters(), NOW)
    subscriptions.record_failure(world.db, BILBO.source_id, "down", NOW)
    world.fetch()

    assert sources.delete_source(world.db, BILBO.source_id, purge=False)

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert (source.status, source.registered) == ("discovered", False)
    assert subscriptions.subscriptions(world.db) == []
    assert subscriptions.failures(world.db) == []
    assert world.release().backed


def test_a_removed_source_of_which_nothing_is_left_is_gone() -> None:
    world = World()
    world.add_source(BILBO)

    assert sources.delete_source(world.db, BILBO.source_id, purge=False)
    assert not sources.delete_source(world.db, BILBO.source_id, purge=False)

    assert sources.get_source(world.db, BILBO.source_id) is None


def test_a_purged_source_takes_its_plugins_along_but_not_what_others_say() -> None:
    world = World()
    world.add_source(BILBO)
    world.fetch()
    world.saw("stranger", "2.0.0", "newer")
    catalogue.set_slug_owner(world.db, "hello", BILBO.source_id)

    assert sources.delete_source(world.db, BILBO.source_id, purge=True)

    assert sources.get_source(world.db, BILBO.source_id) is None
    assert catalogue.get_release(world.db, BILBO.source_id, "hello", "1.0.0") is None
    assert catalogue.slug_owner(world.db, "hello") is None
    assert world.release("2.0.0").assurance == "reported"
    tables = ("mirrored_plugins", "version_updates", "sources")
    assert [world.db.table(table).count for table in tables] == [0, 0, 0]


def test_hostile_text_is_stored_as_it_is_and_changes_no_table() -> None:
    world = World()
    world.add_source(BILBO)
    tables = world.db.table_names()

    subscriptions.set_subscription(world.db, BILBO.source_id, HOSTILE, Filters(tags=(HOSTILE,)), NOW)
    subscriptions.record_failure(world.db, BILBO.source_id, HOSTILE, NOW)
    activity.record_activity(world.db, "security", HOSTILE, at=NOW, plugin_name=HOSTILE)
    world.saw("alice", name=HOSTILE, description=HOSTILE, tags=(HOSTILE,))

    assert world.db.table_names() == tables
    assert subscriptions.subscriptions(world.db, subscriber=HOSTILE)[0].filters.tags == (HOSTILE,)
    assert subscriptions.failures(world.db)[0].error_message == HOSTILE
    assert activity.activities(world.db)[0][0].message == HOSTILE
    assert world.release().name == HOSTILE
    assert world.listed(tag=HOSTILE) == ["hello"]
    assert world.listed(source=HOSTILE) == []
    assert world.listed(q=HOSTILE) == ["hello"]


def test_a_source_that_a_peer_tells_of_is_discovered() -> None:
    world = World()

    world.say("alice", source_statement(BILBO))

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert (source.status, source.registered, source.attested, source.key_known) == ("discovered", False, False, False)
    assert source.asset_domain == "https://assets.example"


def test_a_pinned_node_that_verified_the_key_makes_it_known_and_outdoes_an_earlier_claim() -> None:
    world = World()
    world.say("mallory", source_statement(BILBO, key_of="mallory's key"))
    world.say("alice", source_statement(BILBO))

    world.pin("alice")

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert source.public_key == public_key_pem(BILBO.key.public)
    assert source.key_known


def test_an_attestation_of_another_key_or_without_verification_does_not_make_the_key_known() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.pin("carol")

    world.say("alice", source_statement(BILBO, key_of="another key"))
    world.say("carol", source_statement(BILBO, verified=False))

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert not source.attested
    assert source.public_key == public_key_pem(BILBO.key.public)


def test_a_blocked_nodes_attestation_counts_for_nothing() -> None:
    world = World()
    world.pin("alice")
    world.say("alice", source_statement(BILBO))

    world.block("alice")

    assert sources.get_source(world.db, BILBO.source_id) is None


def test_discovered_sources_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.store.discovery.DISCOVERED_MAX", 1)
    world = World()

    world.say("alice", source_statement(BILBO))
    world.say("alice", source_statement(FRODO))

    assert [source.id for source in sources.list_sources(world.db, include_discovered=True)] == [BILBO.source_id]


def test_the_claims_of_nodes_do_not_disturb_other_rows() -> None:
    world = World()
    world.add_source(BILBO, verified=True)

    world.say("alice", source_statement(BILBO, key_of="another key"))
    world.say("alice", mirror_statement(BILBO))
    world.say("alice", node_statement(url="https://alice.example"))

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert (source.status, source.asset_domain) == ("verified", None)
    assert digest("hello") != digest("other")
