"""Levels above a signature: witnesses, heads, and what is held back because it was signed before."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pfn_node.sources.standing import settle
from pfn_node.store import activity, announcements, catalogue, heads, holding_back, releases, sources
from pfn_node.store.freshness import is_stale, last_verified
from pfn_node.store.rows import Release
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.encoding import open_envelope
from pfn_protocol.identity import public_key_pem
from pfn_protocol.limits import future_ms_max, head_lifetime_seconds_max, heads_per_source_max
from pfn_protocol.publisher import HeadStatement, sign_head, sign_keybind
from pfn_protocol.set_digest import SetDigest
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    digest,
    key,
    mirror_statement,
    node_statement,
    source_statement,
)

BILBO = Publisher()
RELEASE_KEY = key("release key")
DAY = 86_400


def head(
    *released: bytes, seq: int = NOW * 1000, days: float = 7, by: str = "release key", count: int | None = None
) -> Evidence:
    """A head over these release envelopes."""
    ids = SetDigest(open_envelope(raw, mesh="", domain="pfn/release/2", bytes_max=4096).id for raw in released)
    statement = HeadStatement(ids.digest(), ids.count if count is None else count, seq, NOW + int(days * DAY))
    return Evidence(EvidenceForm.HEAD, sign_head(key(by), statement).raw)


def release(
    version: str = "1.0.0", bytes_of: str = "hello", release_key: str | None = "release key"
) -> tuple[Evidence, ...]:
    signer = None if release_key is None else key(release_key)
    return BILBO.release("hello", version, digest(bytes_of), release_key=signer)


def world_with(*pinned: str, **source: object) -> World:
    world = World()
    world.add_source(BILBO, verified=True, **source)
    for name in pinned:
        world.pin(name)
    return world


def level(world: World, version: str = "1.0.0") -> str:
    return world.release(version).assurance


# --- Witnesses ------------------------------------------------------------------------------------------------------


def test_this_node_and_two_pins_who_saw_the_same_bytes_make_a2() -> None:
    world = world_with("sam", "rosie")
    world.fetch()
    world.saw("sam")
    before = level(world)
    world.saw("rosie")

    assert (before, level(world)) == ("A0", "A2")
    assert world.listed(min_assurance="A2") == ["hello"]
    world.pin("rosie", pinned=False)
    assert level(world) == "A0"


def test_the_third_may_be_pinned_by_a_pinned_node_and_no_stranger_however_old() -> None:
    world = world_with("sam")
    world.fetch()
    world.saw("sam")
    for name in ("far", "stranger", "another stranger"):
        world.saw(name)
    with_strangers = level(world)
    world.say("sam", node_statement(pins=["far"]))
    with_far = level(world)
    world.say("sam", node_statement(pins=[]))

    assert (with_strangers, with_far, level(world)) == ("A0", "A2", "A0")


def test_who_is_pinned_by_a_node_that_is_no_longer_pinned_is_a_stranger_again() -> None:
    world = world_with("sam", "rosie")
    world.say("rosie", node_statement(pins=["far"]))
    world.fetch()
    world.saw("sam")
    world.saw("far")
    before = level(world)
    world.pin("rosie", pinned=False)

    assert (before, level(world)) == ("A2", "A0")


def test_an_observation_of_bytes_that_did_not_come_from_the_publisher_is_no_witness_and_backs_nothing() -> None:
    world = world_with("sam", "rosie")
    world.fetch()
    world.saw("sam")
    world.saw("rosie", observed_at=0)
    assert level(world) == "A0"

    other = world_with("sam")
    other.saw("sam", observed_at=0)
    assert (other.release().backed, other.release().observed_at) == (False, NOW)
    other.saw("sam", observed_at=NOW)
    assert other.release().backed_by == "pin"
    other.saw("sam", observed_at=0)
    assert other.release().backed_by == "pin", "it saw them once"


def test_a_node_whose_bytes_are_kept_though_it_was_unpinned_witnesses_no_more() -> None:
    world = world_with("sam", "rosie")
    world.fetch()
    world.saw("sam")
    world.saw("rosie")
    world.pin("sam", pinned=False)

    assert level(world) == "A0"


def test_whatever_strangers_claim_a_sources_score_and_its_parts_stay_as_they_are() -> None:
    world = world_with("sam")
    world.fetch(evidence=[BILBO.metadata("hello", "1.0.0", "Hello")])
    world.saw("sam")
    before = settle(world.db, BILBO.source_id, NOW)
    for number in range(50):
        name = f"stranger {number}"
        world.saw(name)
        world.saw(name, "2.0.0", "anything", evidence=release("2.0.0", "anything"))
        world.saw(name, "1.0.0", "something else")
        world.say(name, mirror_statement(BILBO, 1_000))
        world.say(name, source_statement(BILBO, verified=number % 2 == 0, oracle="raw"))
    after = settle(world.db, BILBO.source_id, NOW)

    assert (after.trust_score, after.trust) == (before.trust_score, before.trust)
    assert before.trust["signatures"] > 0


def test_what_rests_on_the_pins_of_a_node_falls_when_its_announcement_leaves_the_set() -> None:
    world = world_with("sam")
    word = world.say("sam", node_statement(pins=["far"]))
    world.fetch()
    world.saw("sam")
    world.saw("far")
    before = level(world)
    announcements.change_admission(world.db, [], [word])
    without = level(world)
    announcements.change_admission(world.db, [word], [])

    assert (before, without, level(world)) == ("A2", "A0", "A2")


# --- Heads ----------------------------------------------------------------------------------------------------------


def witnessed(world: World, evidence: Sequence[Evidence]) -> None:
    world.fetch(evidence=evidence)
    world.saw("sam")
    world.saw("rosie")


def test_a_separate_release_key_a_fresh_head_and_three_witnesses_make_a4_until_the_head_expires() -> None:
    world = world_with("sam", "rosie")
    signed = release()
    witnessed(world, (*signed, head(signed[0].data)))

    assert level(world) == "A4"
    assert heads.expiring(world.db) == [(BILBO.source_id, NOW + 7 * DAY)]
    releases.expire_heads(world.db, BILBO.source_id, NOW + 7 * DAY - 1)
    assert level(world) == "A4"
    releases.expire_heads(world.db, BILBO.source_id, NOW + 7 * DAY)
    assert level(world) == "A3"
    assert heads.has_expired_head(world.db, BILBO.source_id, NOW + 7 * DAY)
    world.at = NOW + 7 * DAY
    releases.take_heads(world.db, BILBO.source_id, (signed[1], head(seq=NOW * 1000 + 1, days=14)), world.at)
    assert level(world) == "A4"


def test_the_identity_key_itself_is_no_separate_key() -> None:
    world = world_with("sam", "rosie")
    signed = release(release_key=None)
    witnessed(world, (*signed, head(signed[0].data, by="publisher")))

    assert level(world) == "A3"
    assert [one.agrees for one in heads.compare_heads(world.db, BILBO.source_id, NOW)] == [True]


def test_a_head_that_is_older_than_the_release_says_nothing_of_it() -> None:
    world = world_with("sam", "rosie")
    witnessed(world, (*release(), head(seq=NOW * 1000 - 1)))

    assert level(world) == "A3"


def test_an_older_head_never_takes_the_place_of_a_newer_one_not_even_of_an_expired_one() -> None:
    world = world_with("sam", "rosie")
    signed = release()
    newer, older = head(seq=NOW * 1000 + 5, days=1, count=7), head(seq=NOW * 1000 + 4, days=14, count=3)
    witnessed(world, (*signed, newer))
    releases.take_heads(world.db, BILBO.source_id, (signed[1], older), NOW)
    releases.take_heads(world.db, BILBO.source_id, (signed[1], head(seq=NOW * 1000 + 5, count=9)), NOW)
    named = [one.named for one in heads.compare_heads(world.db, BILBO.source_id, NOW)]
    releases.expire_heads(world.db, BILBO.source_id, NOW + 2 * DAY)
    releases.take_heads(world.db, BILBO.source_id, (signed[1], older), NOW + 2 * DAY)

    assert named == [7]
    (after,) = heads.compare_heads(world.db, BILBO.source_id, NOW + 2 * DAY)
    assert (after.named, after.expired) == (7, True)
    assert level(world) == "A3"


def test_heads_of_other_keys_and_of_times_that_do_not_count_are_not_kept() -> None:
    world = world_with()
    keybind = release()[1]
    elsewhere = Publisher(url="https://other.example").release("hello", "1.0.0", digest("x"), release_key=RELEASE_KEY)[
        1
    ]
    useless = [
        (head(by="stranger"), keybind),
        (head(), elsewhere),
        (head(), None),
        (head(days=-1), keybind),
        (head(days=head_lifetime_seconds_max / DAY + 1), keybind),
        (head(seq=NOW * 1000 + future_ms_max + 1), keybind),
        (Evidence(EvidenceForm.HEAD, b"nonsense"), keybind),
        (head(), Evidence(EvidenceForm.KEYBIND, b"nonsense")),
    ]
    for evidence, binding in useless:
        releases.take_heads(world.db, BILBO.source_id, (evidence, *([binding] if binding else [])), NOW)
    releases.take_heads(world.db, "nobody@shop.example", (head(), keybind), NOW)

    assert heads.compare_heads(world.db, BILBO.source_id, NOW) == []
    assert not heads.has_expired_head(world.db, BILBO.source_id, NOW)


def test_a_head_that_names_more_releases_than_are_known_is_told_with_both_numbers() -> None:
    world = world_with()
    known, hidden = release(), release("1.1.0", "other")
    world.fetch(evidence=(*known, head(known[0].data, hidden[0].data)))
    (before,) = heads.compare_heads(world.db, BILBO.source_id, NOW)
    world.fetch("1.1.0", "other", evidence=hidden)
    (after,) = heads.compare_heads(world.db, BILBO.source_id, NOW)

    assert (before.named, before.known, before.agrees) == (2, 1, False)
    assert (after.named, after.known, after.agrees) == (2, 2, True)


def test_as_many_releases_as_named_that_are_others_do_not_agree() -> None:
    world = world_with()
    world.fetch(evidence=(*release(), head(release("1.1.0", "other")[0].data)))

    (compared,) = heads.compare_heads(world.db, BILBO.source_id, NOW)

    assert (compared.named, compared.known, compared.agrees) == (1, 1, False)


def test_a_head_that_came_before_its_source_was_known_counts_as_soon_as_it_is() -> None:
    world = World()
    world.pin("sam")
    world.pin("rosie")
    signed = release()
    witnessed(world, (*signed, head(signed[0].data)))
    world.say("sam", source_statement(BILBO, oracle="none"))

    assert level(world) == "A4"


def test_heads_of_a_source_are_bounded() -> None:
    world = world_with()
    for number in range(heads_per_source_max + 3):
        name = f"release key {number}"
        keybind = BILBO.release("hello", "1.0.0", digest("x"), release_key=key(name))[1]
        releases.take_heads(world.db, BILBO.source_id, (keybind, head(by=name, days=1 + number / 10)), NOW)

    assert len(heads.compare_heads(world.db, BILBO.source_id, NOW)) == heads_per_source_max


def test_with_another_key_of_the_source_what_the_old_one_bound_no_longer_counts() -> None:
    world = world_with("sam", "rosie")
    signed = release()
    witnessed(world, (*signed, head(signed[0].data)))
    before = level(world)
    sources.update_source(world.db, BILBO.source_id, public_key=public_key_pem(key("another").public))

    assert (before, level(world)) == ("A4", "A2")
    assert heads.compare_heads(world.db, BILBO.source_id, NOW) == []


def test_the_newest_head_of_a_release_key_stays_the_newest_when_another_identity_binds_the_key() -> None:
    world = world_with("sam", "rosie")
    signed = release()
    newer, older = head(seq=NOW * 1000 + 5, count=7), head(seq=NOW * 1000 + 4, count=3)
    witnessed(world, (*signed, newer))
    sources.update_source(world.db, BILBO.source_id, public_key=public_key_pem(key("another").public))
    keybind = Evidence(EvidenceForm.KEYBIND, sign_keybind(key("another"), RELEASE_KEY, BILBO.url).raw)

    releases.take_heads(world.db, BILBO.source_id, (keybind, older), NOW)
    assert heads.compare_heads(world.db, BILBO.source_id, NOW) == []
    releases.take_heads(world.db, BILBO.source_id, (keybind, newer), NOW)

    assert [one.named for one in heads.compare_heads(world.db, BILBO.source_id, NOW)] == [7]


def test_a_source_was_last_verified_by_whoever_of_this_node_and_its_pins_did_so_last_and_nobody_else() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("sam")

    def said(who: str, verified_at: int, verified: bool = True) -> int:
        world.say(who, replace(source_statement(BILBO), verified_at=verified_at, verified=verified))
        return last_verified(world.db, BILBO.source_id)

    assert last_verified(world.db, BILBO.source_id) == 0
    assert said("stranger", NOW) == 0
    assert said("sam", NOW - 500) == NOW - 500
    assert said("sam", NOW + 10 * DAY) == NOW, "no younger than what says it"
    assert said("sam", NOW, verified=False) == 0
    sources.update_source(world.db, BILBO.source_id, verified_at=NOW - 900)
    assert last_verified(world.db, BILBO.source_id) == NOW - 900
    assert not is_stale(world.db, BILBO.source_id, NOW - 900 + 48 * 3600)
    assert is_stale(world.db, BILBO.source_id, NOW - 899 + 48 * 3600)


# --- Held back ------------------------------------------------------------------------------------------------------


def versions(world: World) -> dict[str, Release]:
    return {one.version: one for one in catalogue.releases_of(world.db, BILBO.source_id, "hello")}


def test_after_a_signed_version_an_unsigned_one_is_listed_held_back_and_not_served() -> None:
    world = world_with(origin_bound=True)
    world.fetch(evidence=release())
    world.fetch("2.0.0", "unsigned", evidence=[BILBO.metadata("hello", "2.0.0", "Hello")])

    held = world.release("2.0.0")
    assert (held.assurance, held.backed, held.backed_by) == ("A1", False, "self")
    assert held.held_back == "this plugin is signed (A3) since version 1.0.0, and this version is only A1"
    assert world.plugin().release.version == "1.0.0"
    assert world.plugin().reported_version == "2.0.0"
    updates = [row.new_version for row in activity.activities(world.db, type="version_update")[0]]
    assert updates == ["1.0.0"]
    mirrored = [row[0] for row in world.db.execute("SELECT version FROM mirrored_plugins").fetchall()]
    assert mirrored == ["1.0.0"]


@pytest.mark.parametrize("first", ["the signed one", "the unsigned one"])
def test_another_spelling_of_the_signed_version_is_held_back_like_a_later_one(first: str) -> None:
    world = world_with(origin_bound=True)
    if first == "the unsigned one":
        world.fetch("1.00.0", "unsigned")
    world.fetch(evidence=release())
    world.fetch("1.00.0", "unsigned")

    assert world.release("1.00.0").held_back is not None
    assert world.plugin().release.version == "1.0.0"


def test_of_two_spellings_of_one_version_the_one_that_is_signed_is_the_newest() -> None:
    world = world_with()
    world.fetch("1.00.0", "unsigned")
    world.fetch(evidence=release())
    assert world.plugin().release.version == "1.0.0"

    world.fetch("01.0.0", "unsigned too")
    assert world.plugin().release.version == "1.0.0"


def test_other_bytes_of_the_first_version_that_was_signed_are_held_back() -> None:
    world = world_with(origin_bound=True)
    world.saw("stranger", evidence=release())
    assert world.release().assurance == "A3"
    sources.update_source(world.db, BILBO.source_id, oracle="raw")

    world.fetch("1.0.0", "other bytes")

    assert world.release().held_back is not None


def test_an_admin_lifts_it_for_these_very_bytes() -> None:
    world = world_with("sam", origin_bound=True)
    world.fetch(evidence=release())
    world.saw("sam", "2.0.0", "unsigned")
    holding_back.approve(world.db, (BILBO.source_id, "hello", "2.0.0"), digest("unsigned"), NOW)
    holding_back.approve(world.db, (BILBO.source_id, "hello", "2.0.1"), digest("unsigned"), NOW)
    releases.refresh(world.db, BILBO.source_id, "hello")
    world.saw("sam", "2.0.1", "others")

    found = versions(world)
    assert (found["2.0.0"].backed, found["2.0.0"].held_back) == (True, None)
    assert not found["2.0.1"].backed
    assert world.plugin().release.version == "2.0.0"


def test_nothing_is_held_back_before_the_key_was_bound_at_its_origin_and_then_what_came_meanwhile_is() -> None:
    world = world_with()
    world.fetch(evidence=release())
    world.fetch("0.9.0", "older")
    world.fetch("2.0.0", "unsigned")
    before = {version: one.held_back for version, one in versions(world).items()}
    sources.update_source(world.db, BILBO.source_id, origin_bound=True)
    after = {version: one.held_back is not None for version, one in versions(world).items()}

    world.fetch("0.8.0", "even older")
    assert set(before.values()) == {None}
    assert after == {"0.9.0": False, "1.0.0": False, "2.0.0": True}
    assert world.release("0.8.0").backed


def test_what_was_reached_stays_though_the_binding_goes() -> None:
    world = world_with(origin_bound=True)
    world.fetch(evidence=release())
    sources.update_source(world.db, BILBO.source_id, origin_bound=False)
    world.fetch("2.0.0", "unsigned")

    assert world.release("2.0.0").held_back is not None


def test_a_later_version_that_is_signed_is_served_and_so_is_what_was_signed_though_its_key_no_longer_counts() -> None:
    world = world_with(origin_bound=True)
    world.fetch(evidence=release())
    world.fetch("2.0.0", "other", evidence=release("2.0.0", "other"))
    signed = world.release("2.0.0")
    sources.update_source(world.db, BILBO.source_id, status="conflict")

    assert (signed.assurance, signed.held_back) == ("A3", None)
    now = world.release("2.0.0")
    assert (now.assurance, now.backed, now.held_back) == ("A0", True, None)


def test_an_unsigned_version_is_served_as_soon_as_its_author_signs_it() -> None:
    world = world_with(origin_bound=True)
    world.fetch(evidence=release())
    world.fetch("2.0.0", "other")
    before = world.release("2.0.0")
    world.saw("stranger", "2.0.0", "other", evidence=release("2.0.0", "other"))

    assert before.held_back is not None
    assert (world.release("2.0.0").assurance, world.release("2.0.0").backed) == ("A3", True)
