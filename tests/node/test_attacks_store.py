"""A hostile peer against what this node concludes: levels not earned, plugins taken down, work without end."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from pfn_node.store import announcements, discovery, facts, missing_texts, peers, registry, releases, safety
from pfn_protocol.announcements import Evidence, EvidenceForm, SourceStatement, VersionStatement
from pfn_protocol.identity import public_key_pem
from pfn_protocol.limits import time_seconds_max
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_keybind, sign_release
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
ELSEWHERE = Publisher(url="https://other.example")
FRODO = Publisher(username="frodo", name="frodo")


# ---- Levels that were not earned.


def releases_of_bilbo(evidence: tuple[Evidence, ...]) -> World:
    """A world that knows bilbo's key, in which a stranger brings this evidence for other bytes than a friend's."""
    world = World()
    world.add_source(BILBO, verified=True, oracle="none")
    world.pin("friend")
    world.saw("friend", bytes_of="genuine", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))
    world.saw("stranger", bytes_of="malware", evidence=evidence)
    return world


def stated(publisher: Publisher = BILBO, *, signer: str = "publisher", **fields: object) -> Evidence:
    """A release envelope over the malware, as somebody signs it."""
    statement = ReleaseStatement(
        origin=publisher.url,
        author=publisher.username,
        slug="hello",
        version="1.0.0",
        sha256=digest("malware"),
        size=100,
        epoch=0,
        seq=NOW * 1000,
        metadata_sha256=hashlib.sha256(metadata_message("hello", "Hello", "1.0.0", "Says hello.")).digest(),
    )
    return Evidence(EvidenceForm.RELEASE, sign_release(key(signer), replace(statement, **fields)).raw)  # type: ignore[arg-type]


def bound(identity: str, release_key: str, origin: str = BILBO.url) -> Evidence:
    return Evidence(EvidenceForm.KEYBIND, sign_keybind(key(identity), key(release_key), origin).raw)


FORGERIES: dict[str, Callable[[], tuple[Evidence, ...]]] = {
    "a metadata signature used again beside other bytes": lambda: (BILBO.metadata("hello", "1.0.0", "Hello"),),
    "a release by a key that nobody bound": lambda: (stated(signer="mallory"),),
    "a release by a key that another identity bound": lambda: (stated(signer="mallory"), bound("mallory", "mallory")),
    "a release by a key bound for another origin": lambda: (
        stated(signer="other"),
        bound("publisher", "other", ELSEWHERE.url),
    ),
    "a keybind of another release key": lambda: (stated(signer="mallory"), bound("publisher", "other")),
    "a release of the same author elsewhere": lambda: (stated(ELSEWHERE),),
    "a release of another author there": lambda: (stated(FRODO, signer="publisher"),),
    "a release of another plugin": lambda: (stated(slug="other"),),
    "a release of another version": lambda: (stated(version="2.0.0"),),
    "a release of the genuine bytes": lambda: (stated(sha256=digest("genuine")),),
    "a release of another size": lambda: (stated(size=101),),
    "a keybind without a release": lambda: (bound("publisher", "mallory"),),
    "a head in the place of a release": lambda: (Evidence(EvidenceForm.RELEASE, bound("publisher", "other").data),),
    "a signature over the SHA-384 of something": lambda: (Evidence(EvidenceForm.SHA384, BILBO.key.sign(bytes(48))),),
    "junk in every form": lambda: (
        Evidence(EvidenceForm.METADATA, bytes(64)),
        Evidence(EvidenceForm.RELEASE, b"\x95\x01"),
        Evidence(EvidenceForm.KEYBIND, b"\xc1"),
        Evidence(EvidenceForm.HEAD, b"\x00"),
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forged_evidence_displaces_the_bytes_that_a_friend_saw(forgery: str) -> None:
    world = releases_of_bilbo(FORGERIES[forgery]())

    found = world.release()

    assert (found.sha256, found.backed_by, found.assurance) == (digest("genuine"), "pin", "A1")
    assert not found.conflict


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forged_evidence_makes_a_strangers_word_count(forgery: str) -> None:
    world = World()
    world.add_source(BILBO, verified=True, oracle="none")
    world.saw("stranger", bytes_of="malware", evidence=FORGERIES[forgery]())

    found = world.release()

    assert (found.assurance, found.backed, found.backed_by) == ("reported", False, None)


@pytest.mark.parametrize(
    "text",
    [
        b'{"slug":"other","version":"1.0.0"}',
        b'{"slug":"hello","version":"9.9.9"}',
        b'{"version":"1.0.0"}',
        b'[{"slug":"hello","version":"1.0.0"},{"slug":"hello","version":"1.0.0"}]',
        b'"hello 1.0.0"',
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"1" * 10_000,
    ],
)
def test_a_genuine_text_about_something_else_lifts_nothing(text: bytes) -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.pin("friend")
    named = hashlib.sha256(text).digest()
    world.saw("friend", evidence=(Evidence(EvidenceForm.PLUGIN_DATA, BILBO.key.sign(text), named),))

    releases.set_signed(world.db, BILBO.source_id, "hello", "1.0.0", {named: text}.get)

    assert world.release().assurance == "A0"


def test_a_signature_counts_for_nothing_while_only_strangers_name_the_key() -> None:
    world = World()
    evidence = (Evidence(EvidenceForm.METADATA, key("mallory").sign(metadata_message("hello", "Hello", "1.0.0", "x"))),)
    world.say("stranger", source_statement(BILBO, key_of="mallory"))
    world.pin("friend")
    world.saw("friend", description="x", evidence=evidence)

    assert world.release().assurance == "A0"


# ---- Plugins taken down from outside.


def test_a_crowd_that_disputes_changes_nothing() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.pin("friend")
    world.saw("friend", bytes_of="genuine", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))
    before = world.release()

    for n in range(50):
        world.saw(f"sybil {n}", bytes_of=f"malware {n % 3}", observed_at=0)
        world.saw(f"sybil {n}", "99.0.0", bytes_of="malware")

    after = world.release()
    assert (after.sha256, after.assurance, after.backed_by, after.conflict) == (
        before.sha256,
        before.assurance,
        before.backed_by,
        before.conflict,
    )
    assert world.plugin().release.version == "1.0.0"


def test_a_stranger_that_replaces_its_own_story_for_ever_leaves_no_trace_of_the_older_ones() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.pin("friend")
    world.saw("friend", bytes_of="genuine")
    first = world.saw("stranger", bytes_of="genuine")
    former = world.saw("stranger", bytes_of="malware", replaces=first)
    for n in range(20):
        latest = world.saw("stranger", bytes_of=f"malware {n}", replaces=first)
        announcements.drop(world.db, [former])
        former = latest

    rows = world.db.execute("SELECT count(*) FROM observations WHERE observer = ?", (key("stranger").public,))
    assert rows.fetchone() == (2,)
    assert world.release().sha256 == digest("genuine")


def test_a_wrong_key_that_a_stranger_told_first_is_no_longer_shown_once_the_publisher_did_not_prove_it() -> None:
    world = World()
    world.say("mallory", source_statement(BILBO, key_of="mallory"))
    world.say("honest", source_statement(BILBO))
    registry.update_source(world.db, BILBO.source_id, status="error")

    discovery.disprove(world.db, BILBO.source_id, key("mallory").public)

    source = registry.get_source(world.db, BILBO.source_id)
    assert source is not None
    assert (source.public_key, source.status) == (public_key_pem(BILBO.key.public), "discovered")


def test_a_failed_proof_of_a_strangers_key_does_not_keep_a_friends_word_from_counting() -> None:
    world = World()
    world.pin("friend")
    world.say("mallory", source_statement(BILBO, key_of="mallory"))
    registry.update_source(world.db, BILBO.source_id, status="error")

    world.say("friend", source_statement(BILBO))

    source = registry.get_source(world.db, BILBO.source_id)
    assert source is not None and source.key_known


def test_sources_that_strangers_invent_leave_room_for_those_of_friends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "DISCOVERED_MAX", 5)
    world = World()
    world.pin("friend")
    for n in range(8):
        world.say("mallory", source_statement(Publisher(username=f"invented{n}")))

    world.say("friend", source_statement(BILBO))

    source = registry.get_source(world.db, BILBO.source_id)
    assert source is not None and source.key_known
    assert world.db.execute("SELECT count(*) FROM sources").fetchone() == (5,)


def test_a_crowd_that_says_it_has_the_bytes_does_not_hide_those_who_have_them() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    world.pin("friend")
    world.say("friend", node_statement(pins=["friend of friend"]))
    world.say("friend of friend", node_statement(url="https://has-it.test"))
    world.say("friend of friend", mirror_statement(BILBO))
    for n in range(60):
        name = f"sybil {n}"
        world.say(name, node_statement(url=f"https://sybil{n}.test"))
        world.saw(name)
        peers.save_peer(world.db, key(name).public, seen=NOW + n)

    found = announcements.holders(world.db, BILBO.source_id, digest("hello"), now=NOW)

    assert found[0].url == "https://has-it.test"
    assert len(found) == announcements.HOLDERS_MAX


def test_a_crowd_cannot_choose_an_order_in_which_an_honest_stranger_is_never_asked() -> None:
    world = World()
    world.add_source(BILBO, verified=True)
    for n in range(60):
        world.say(f"sybil {n}", node_statement(url=f"https://sybil{n}.test"))
        world.saw(f"sybil {n}")
        peers.save_peer(world.db, key(f"sybil {n}").public, seen=NOW + n)
    world.say("honest", node_statement(url="https://honest.test"))
    world.saw("honest")

    def asked() -> set[str | None]:
        return {peer.url for peer in announcements.holders(world.db, BILBO.source_id, digest("hello"), now=NOW)}

    assert any("https://honest.test" in asked() for _ in range(100))


# ---- Work without end.


class Counting:
    """Counts how often a function of the store runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        self.count = 0
        genuine = getattr(module, name)

        def counted(*given: object, **named: object) -> object:
            self.count += 1
            return genuine(*given, **named)

        monkeypatch.setattr(module, name, counted)


def test_a_stranger_that_changes_its_mind_about_a_key_has_nothing_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.say("mallory", source_statement(BILBO, key_of="one"))
    for n in range(20):
        world.saw(f"sybil {n}", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),))
    examined = Counting(monkeypatch, safety, "examine")

    for n in range(10):
        world.say("mallory", source_statement(BILBO, key_of=f"key {n}"))

    assert examined.count == 0


def test_a_stranger_that_changes_its_pins_has_nobody_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    facts.set_identity(world.db, world.me.public, 3)
    world.add_source(BILBO, verified=True)
    world.pin("friend")
    world.saw("popular")
    refreshed = Counting(monkeypatch, releases, "refresh_observer")

    for n in range(10):
        world.say("stranger", node_statement(pins=["popular"] if n % 2 else []))
    assert refreshed.count == 0

    world.say("friend", node_statement(pins=["popular"]))
    assert refreshed.count > 0


def test_texts_count_only_where_a_signature_could() -> None:
    world = World()
    world.add_source(BILBO)
    world.pin("friend")
    text = Evidence(EvidenceForm.PLUGIN_DATA, bytes(64), bytes([7]) * 32)
    invented = replace(version_statement(evidence=[text]), source_id="invented@nowhere.example")
    world.say("stranger", invented)
    world.saw("stranger", evidence=(text,))
    assert missing_texts.lacking_text(world.db, 10) == []
    assert not missing_texts.texts_matter(world.db, key("stranger").public, BILBO.source_id).at_all
    assert missing_texts.texts_matter(world.db, key("friend").public, BILBO.source_id).pinned

    registry.update_source(world.db, BILBO.source_id, status="verified", verified_at=NOW)
    world.saw("friend", evidence=(text,))

    found = missing_texts.lacking_text(world.db, 10)
    assert [(author, pinned) for author, _, pinned in found] == [
        (key("friend").public, True),
        (key("stranger").public, False),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        version_statement(name="\U000e0001" * 200, description="\u202e\u2028\ufeff" * 100, tags=("\u0300" * 64,) * 8),
        version_statement(version="9" * 32, observed_at=time_seconds_max),
        version_statement(plugin_id="a" * 64, source_id="'\"%_\\;--@xn--nxasmq6b.example:65535"),
        version_statement(name="' OR 1=1 --", description="'); DROP TABLE sources; --", tags=("\";'",)),
        version_statement(name='NEAR( * " AND', description="col:x"),
    ],
)
def test_whatever_a_statement_says_can_be_stored_and_shown(statement: VersionStatement) -> None:
    world = World()
    world.say("stranger", statement)

    assert world.db.execute("SELECT name FROM releases").fetchone() == (statement.name,)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://[::1]", "http://169.254.169.254/latest", "https://xn--nxasmq6b.example/%2f"]
)
def test_whatever_address_a_source_has_it_is_only_listed(url: str) -> None:
    world = World()
    statement = SourceStatement(
        source_id="eve@" + url.split("/")[2],
        instance_url=url,
        username="eve",
        public_key=key("eve").public,
        asset_domain="file:///etc/passwd",
        asset_naming_scheme="../../author",
        verified=True,
        verified_at=NOW,
    )
    world.say("stranger", statement)

    source = registry.get_source(world.db, statement.source_id)
    assert source is not None
    assert (source.status, source.key_known) == ("discovered", False)
