"""Whose word backs bytes, as the tables say it: pins, publishers' releases, and texts that they signed."""

import hashlib
import json

import pytest

from pfn_node.store import activity, releases, sources
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

    world.say("alice", source_statement(BILBO))

    assert before == "reported"
    assert world.release().assurance == "A3"


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
