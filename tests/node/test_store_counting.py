"""From when evidence counts that is brought to bytes which were announced before, and what that means for cooling."""

from pfn_node.store import releases, sources
from pfn_node.store.notices import take_binding
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.limits import cooldown_seconds
from pfn_protocol.publisher import HeadStatement, sign_head
from tests.node.store_world import NOW, Publisher, digest, key
from tests.node.test_store_notices import BILBO, PEN, bound, fetched, newest, revoked, rotated, take, world

LATER = Publisher(name="second identity")


def test_evidence_that_is_brought_after_a_key_was_revoked_is_not_as_old_as_the_bytes() -> None:
    made = world()
    take_binding(made.db, bound(), made.at)
    made.saw("stranger", "1.1.0", "1.1.0")
    made.at += 100
    take(made, revoked(PEN, BILBO.key))
    made.at += 100

    made.saw("stranger", "1.1.0", "1.1.0", evidence=BILBO.release("hello", "1.1.0", digest("1.1.0"), release_key=PEN))

    assert (made.release("1.1.0").assurance, made.release("1.1.0").revoked_key) == ("reported", True)


def test_evidence_that_a_pinned_node_brings_later_is_not_as_old_as_what_it_saw() -> None:
    made = world()
    made.pin("friend")
    made.saw("friend", "1.1.0", "1.1.0", observed_at=NOW)
    made.at += 100
    take(made, rotated())
    made.at += 100

    old = BILBO.release("hello", "1.1.0", digest("1.1.0"))
    made.saw("friend", "1.1.0", "1.1.0", evidence=old, observed_at=NOW)

    assert made.release("1.1.0").assurance == "A0"


def test_evidence_that_only_renews_its_head_is_as_old_as_it_was() -> None:
    made = world()
    made.at += 1
    signed = BILBO.release("hello", "1.1.0", digest("1.1.0"), release_key=PEN)
    made.saw("stranger", "1.1.0", "1.1.0", evidence=signed)
    made.at += 100
    take(made, rotated())
    made.at += 100

    head = sign_head(PEN, HeadStatement(bytes(32), 1, NOW * 1_000, NOW + 86_400)).raw
    made.saw("stranger", "1.1.0", "1.1.0", evidence=[*signed, Evidence(EvidenceForm.HEAD, head)])

    assert made.release("1.1.0").assurance == "A3"


def test_bytes_that_a_stranger_announced_before_the_key_changed_cool_down_all_the_same() -> None:
    made = world()
    fetched(made, "1.0.0", pen=None)
    made.saw("stranger", "1.1.0", "1.1.0")
    made.at += 10
    take(made, rotated())
    made.at += 10

    fetched(made, "1.1.0", pen=None, publisher=LATER)

    assert made.release("1.1.0").cooldown_until == NOW + 10 + cooldown_seconds
    assert newest(made) == "1.0.0"


def test_a_release_that_the_next_key_signed_before_it_spoke_cools_down() -> None:
    made = world(oracle="none")
    fetched(made, "1.0.0", pen=None)
    for pen in (None, key("next pen")):
        version = "1.1.0" if pen is None else "1.2.0"
        signed = LATER.release("hello", version, digest(version), release_key=pen)
        made.saw("stranger", version, version, evidence=signed)
    made.at += 10
    take(made, rotated())
    made.at += 10
    sources.update_source(made.db, BILBO.source_id, oracle="none")
    releases.refresh_source(made.db, BILBO.source_id, now=made.at)

    for version in ("1.1.0", "1.2.0"):
        release = made.release(version)
        assert (release.assurance, release.cooldown_until) == ("A3", NOW + 10 + cooldown_seconds)
    assert newest(made) == "1.0.0"


def test_what_was_seen_at_the_publisher_before_the_key_changed_does_not_cool_down() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0", pen=None)
    made.saw("stranger", "1.1.0", "1.1.0")
    made.at += 10
    take(made, rotated())

    assert made.release("1.1.0").cooldown_until is None
    assert newest(made) == "1.1.0"


def test_a_release_by_a_key_that_was_not_probed_waits_for_its_probe_and_older_ones_do_not() -> None:
    made = world(oracle="none")
    fetched(made, "1.0.0", pen=None)
    made.at += 10
    take(made, rotated())
    made.at += 10
    fetched(made, "1.1.0", pen=None, publisher=LATER)

    assert (made.release("1.0.0").assurance, made.release("1.1.0").assurance) == ("A3", "A0")
    sources.update_source(made.db, BILBO.source_id, oracle="utf8")
    assert (made.release("1.0.0").assurance, made.release("1.1.0").assurance) == ("A3", "A3")
    sources.update_source(made.db, BILBO.source_id, oracle="raw")
    assert (made.release("1.0.0").assurance, made.release("1.1.0").assurance) == ("A0", "A0")
