"""Whose word backs bytes, as the tables say it: pins, publishers' releases, and texts that they signed."""

import hashlib
import json

import pytest

from pfn_node.store import activity, announcements, releases, sources
from pfn_node.store.rows import Release
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import did_key, public_key_pem
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    digest,
    key,
    source_statement,
)

BILBO = Publisher()


def standing(release: Release) -> tuple[str, bool, str | None]:
    return release.assurance, release.backed, release.backed_by


def security_messages(world: World) -> list[str]:
    return [row.message for row in activity.activities(world.db, type="security")[0]]


# --- What backs ---------------------------------------------------------------------------------------------------


def test_what_only_a_stranger_saw_is_reported_until_that_node_is_pinned() -> None:
    world = World()
    world.add_source(BILBO)
    world.saw("newcomer")

    before = world.release()
    world.pin("newcomer")
    after = world.release()
    world.pin("newcomer", pinned=False)

    assert standing(before) == ("reported", False, None)
    assert before.sha256 == digest("hello")
    assert standing(after) == ("A0", True, "pin")
    assert after.reported_by == (did_key(key("newcomer").public),)
    assert standing(world.release()) == ("reported", False, None)


def test_what_this_node_fetched_is_backed_and_mirrored() -> None:
    world = World()
    world.add_source(BILBO)

    assert world.fetch() is releases.Observed.NEW

    release = world.release()
    assert standing(release) == ("A0", True, "self")
    assert release.mirrored
    assert release.icons == {"1x": "https://shop.example/icon.png"}


def test_a_metadata_signature_by_a_known_key_makes_it_claimed() -> None:
    world = World()
    world.add_source(BILBO)
    evidence = BILBO.metadata("hello", "1.0.0", "Hello")
    world.fetch(evidence=(evidence,))
    with_unknown_key = world.release().assurance

    sources.update_source(world.db, BILBO.source_id, status="verified", verified_at=NOW)

    assert with_unknown_key == "A0"
    assert world.release().assurance == "A1"


def test_a_signature_over_another_name_does_not_count() -> None:
    world = World()
    world.add_source(BILBO, verified=True)

    world.fetch(name="Goodbye", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))

    assert world.release().assurance == "A0"


def test_another_key_of_the_source_asks_the_evidence_again() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.fetch(evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))

    sources.update_source(world.db, BILBO.source_id, public_key=public_key_pem(Publisher(name="other").key.public))

    assert world.release().assurance == "A0"


def test_a_release_of_a_known_key_backs_bytes_that_only_a_stranger_saw() -> None:
    world = World()
    world.add_source(BILBO, verified=True)

    world.saw("stranger", evidence=BILBO.release("hello", "1.0.0", digest("hello")))

    assert standing(world.release()) == ("A3", True, "release")


def test_a_release_by_a_bound_key_counts_and_by_an_unbound_one_does_not() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    bound = BILBO.release("hello", "1.0.0", digest("hello"), release_key=key("release"))

    world.saw("stranger", "1.0.0", evidence=bound)
    world.saw("stranger", "1.0.1", evidence=BILBO.release("hello", "1.0.1", digest("hello"), 100, key("release"))[:1])

    assert world.release("1.0.0").assurance == "A3"
    assert world.release("1.0.1").assurance == "reported"


@pytest.mark.parametrize(
    "evidence",
    [
        BILBO.release("hello", "1.0.0", digest("other")),
        BILBO.release("hello", "1.0.0", digest("hello"), size=99),
        BILBO.release("other", "1.0.0", digest("hello")),
        BILBO.release("hello", "2.0.0", digest("hello")),
        Publisher(username="frodo").release("hello", "1.0.0", digest("hello")),
        Publisher(url="https://other.example").release("hello", "1.0.0", digest("hello")),
        Publisher(name="thief").release("hello", "1.0.0", digest("hello")),
        (Evidence(EvidenceForm.RELEASE, b"no envelope"),),
        (
            *BILBO.release("hello", "1.0.0", digest("hello"), 100, key("release"))[:1],
            Evidence(EvidenceForm.KEYBIND, b"no envelope"),
        ),
        (
            *BILBO.release("hello", "1.0.0", digest("hello"), 100, key("release"))[:1],
            Publisher(name="thief").release("hello", "1.0.0", digest("hello"), 100, key("release"))[1],
        ),
        (
            *BILBO.release("hello", "1.0.0", digest("hello"), 100, key("release"))[:1],
            Publisher(url="https://other.example").release("hello", "1.0.0", digest("hello"), 100, key("release"))[1],
        ),
    ],
    ids=[
        "other bytes",
        "other size",
        "other plugin",
        "other version",
        "other author",
        "other origin",
        "other key",
        "no envelope",
        "no keybind",
        "another's keybind",
        "keybind of another origin",
    ],
)
def test_a_release_statement_over_anything_else_backs_nothing(evidence: tuple[Evidence, ...]) -> None:
    world = World()
    world.add_source(BILBO, verified=True)

    world.saw("stranger", evidence=evidence)

    assert standing(world.release()) == ("reported", False, None)


def test_with_a_raw_oracle_a_release_statement_proves_nothing() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.saw("stranger", evidence=BILBO.release("hello", "1.0.0", digest("hello")))

    sources.update_source(world.db, BILBO.source_id, oracle="raw")

    assert standing(world.release()) == ("reported", False, None)


def test_nothing_of_a_revoked_source_is_backed() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.fetch()

    sources.update_source(world.db, BILBO.source_id, status="revoked")

    assert standing(world.release()) == ("reported", False, None)


def test_a_pins_attestation_makes_a_release_statement_count() -> None:
    world = World()
    world.pin("alice")
    world.saw("stranger", evidence=BILBO.release("hello", "1.0.0", digest("hello")))
    before = world.release().assurance

    world.say("alice", source_statement(BILBO, oracle="none"))

    assert before == "reported"
    assert world.release().assurance == "A3"


# --- Whether the publisher signs anything for anybody ---------------------------------------------------------------


def attested(*said: tuple[str, str]) -> World:
    """A world in which pins attested a key, and a stranger brings a signed release of other bytes than a pin saw."""
    world = World()
    for pin, oracle in said:
        world.pin(pin)
        world.say(pin, source_statement(BILBO, oracle=oracle))
    world.saw(said[0][0], bytes_of="genuine")
    world.saw("stranger", bytes_of="signed", evidence=BILBO.release("hello", "1.0.0", digest("signed")))
    return world


def in_force(world: World) -> str | None:
    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None
    return source.oracle_in_force


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ([("alice", "")], None),
        ([("alice", ""), ("carol", "")], None),
        ([("alice", "raw")], "raw"),
        ([("alice", "none"), ("carol", "raw")], "raw"),
        ([("alice", "raw"), ("carol", "utf8"), ("dave", "none")], "raw"),
    ],
)
def test_a_release_displaces_nothing_unless_the_publisher_is_known_to_sign_no_raw_bytes(
    said: list[tuple[str, str]], state: str | None
) -> None:
    world = attested(*said)

    assert in_force(world) == state
    assert standing(world.release()) == ("A0", True, "pin")
    assert world.release().sha256 == digest("genuine")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ([("alice", "none")], "none"),
        ([("alice", "utf8")], "utf8"),
        ([("alice", ""), ("carol", "none")], "none"),
        ([("alice", "none"), ("carol", "utf8")], "utf8"),
    ],
)
def test_a_release_counts_once_a_pin_found_no_raw_oracle(said: list[tuple[str, str]], state: str) -> None:
    world = attested(*said)

    assert in_force(world) == state
    assert standing(world.release()) == ("A3", True, "release")
    assert world.release().sha256 == digest("signed")


@pytest.mark.parametrize(("own", "level"), [("none", "A3"), ("utf8", "A3"), ("raw", "A0")])
def test_this_nodes_own_probe_outweighs_what_pins_found(own: str, level: str) -> None:
    world = attested(("alice", "raw" if own != "raw" else "none"))

    sources.update_source(world.db, BILBO.source_id, status="verified", verified_at=NOW, oracle=own)

    assert (in_force(world), world.release().assurance) == (own, level)


def test_a_release_of_a_source_that_was_verified_here_but_never_probed_waits_for_a_probe() -> None:
    world = World()
    world.add_source(BILBO, verified=True, oracle=None)
    world.saw("stranger", evidence=BILBO.release("hello", "1.0.0", digest("hello")))
    unknown = world.release().assurance

    world.pin("alice")
    world.say("alice", source_statement(BILBO, oracle="utf8"))
    clear = world.release().assurance
    world.say("alice", source_statement(BILBO, oracle="raw"))

    assert (unknown, clear, world.release().assurance) == ("reported", "A3", "reported")


def test_what_strangers_blocked_nodes_and_another_key_say_of_oracles_counts_for_nothing() -> None:
    world = attested(("alice", ""))
    for pin in ("carol", "dave"):
        world.pin(pin)
    world.block("dave")
    world.at += 1  # alice said first whose key it is

    world.say("mallory", source_statement(BILBO, oracle="none"))
    world.say("carol", source_statement(BILBO, oracle="none", key_of="another key"))
    world.say("dave", source_statement(BILBO, oracle="none"))

    assert in_force(world) is None
    assert world.release().assurance == "A0"


def test_a_pin_that_could_not_verify_may_warn_of_an_oracle_but_not_clear_it() -> None:
    world = attested(("alice", ""))
    world.pin("carol")

    world.say("carol", source_statement(BILBO, oracle="none", verified=False))
    cleared = in_force(world)
    world.say("carol", source_statement(BILBO, oracle="raw", verified=False))

    assert (cleared, in_force(world)) == (None, "raw")


def test_with_the_pin_goes_what_it_found() -> None:
    world = attested(("alice", ""), ("carol", "none"))
    with_carol = world.release().assurance

    world.pin("carol", False)

    assert (with_carol, in_force(world), world.release().assurance) == ("A3", None, "A0")


def test_a_pins_attestation_counts_for_a_source_that_was_registered_before_it_came() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("alice")
    world.saw("stranger", evidence=BILBO.release("hello", "1.0.0", digest("hello")))

    said = world.say("alice", source_statement(BILBO, oracle="none"))
    attested_level = world.release().assurance
    announcements.drop(world.db, [said])

    assert (attested_level, world.release().assurance) == ("A3", "reported")


# --- Texts that are kept as artifacts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "level"),
    [
        ({"slug": "hello", "version": "1.0.0", "name": "Hello"}, "A1"),
        ({"id": "hello", "version": "1.0.0"}, "A1"),
        ({"slug": "other", "version": "1.0.0"}, "A0"),
        ({"slug": "hello", "version": "2.0.0"}, "A0"),
        (["hello", "1.0.0"], "A0"),
    ],
)
def test_a_signed_text_counts_once_it_is_here_and_speaks_of_this_version(data: object, level: str) -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    text = json.dumps(data).encode()
    text_sha256 = hashlib.sha256(text).digest()
    world.fetch(evidence=(Evidence(EvidenceForm.PLUGIN_DATA, BILBO.key.sign(text), text_sha256),))
    without_text = world.release().assurance

    releases.set_signed(world.db, BILBO.source_id, "hello", "1.0.0", {text_sha256: text}.get)
    with_text = world.release().assurance
    releases.refresh(world.db, BILBO.source_id, "hello")

    assert (without_text, with_text) == ("A0", level)
    assert world.release().assurance == level  # and stays so without the text


def test_a_text_that_is_no_json_or_signed_by_another_proves_nothing() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    good = b'{"slug":"hello","version":"1.0.0"}'
    texts = {hashlib.sha256(text).digest(): text for text in (b"{", good)}
    broken, foreign = texts
    world.fetch(
        evidence=(
            Evidence(EvidenceForm.METADATA, BILBO.key.sign(b"{"), broken),
            Evidence(EvidenceForm.PLUGIN_DATA, key("thief").sign(good), foreign),
        )
    )

    releases.refresh(world.db, BILBO.source_id, "hello", texts.get)

    assert world.release().assurance == "A0"


def test_a_description_too_long_to_sign_makes_no_release_unreadable() -> None:
    world = World()
    world.add_source(BILBO, verified=True)

    world.fetch(description="\u0001" * 12_000, evidence=BILBO.release("hello", "1.0.0", digest("hello")))

    assert world.release().assurance == "A3"


def test_odd_text_of_a_publisher_is_stored_as_far_as_it_can_be() -> None:
    world = World()
    world.add_source(BILBO)

    world.fetch(name="Half \ud83d", description="\udfff", tags=("\ud800",))

    release = world.release()
    assert (release.name, release.description, release.tags) == ("Half ?", "?", ("?",))
