"""A hostile peer announces what is not so. An honest peer beside it tells what the node passes on."""

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgpack
import pytest

from pfn_protocol.announcement_fields import encode
from pfn_protocol.announcements import NodeStatement
from pfn_protocol.encoding import Envelope, Value, preimage, seal
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.messages import FetchRequest, GossipRequest, RefusedAnswer
from tests.conformance.hostile_peer import (
    MESH,
    ListeningPeer,
    Peer,
    mirror_statement,
    now_ms,
    source_statement,
    version_statement,
)
from tests.conformance.hostile_publisher import new_key
from tests.conformance.node_process import Node

DAY_MS = 86_400_000
SLUG = "tool"


@pytest.fixture(scope="module")
def reader(node: Node) -> Peer:
    """An honest peer: what it is given, everybody is."""
    return Peer(node).linked().known()


@pytest.fixture(scope="module")
def careless(node: Node) -> Peer:
    """One peer for all cases in which nothing is so hostile that the link ends."""
    return Peer(node).linked().known()


def a_source() -> str:
    """A publisher that nobody can ask: nothing listens there."""
    return f"{secrets.token_hex(4)}@127.0.0.1:9"


def a_version(**changes: Any) -> Any:
    return version_statement(a_source(), SLUG, secrets.token_bytes(32), 100, **changes)


def assert_not_taken(reader: Peer, liar: Peer, *lies: Envelope) -> None:
    """What was true is passed on, what lies beside it is not."""
    truth = liar.announce(a_version())
    liar.push(truth.raw, *(lie.raw for lie in lies))

    assert reader.gets(truth.id, *(lie.id for lie in lies)) == [True] + [False] * len(lies)


def test_an_honest_announcement_is_passed_on(reader: Peer, careless: Peer) -> None:
    hello, version = careless.hello(), careless.announce(a_version())

    careless.push(hello.raw, version.raw)

    assert reader.gets(hello.id, version.id) == [True, True]


def test_an_announcement_of_another_mesh_is_hostile(node: Node, reader: Peer) -> None:
    liar = Peer(node).linked()
    foreign = liar.announce(a_version(), mesh="other")

    liar.push(foreign.raw)

    assert reader.gets(foreign.id) == [False]
    assert liar.is_shunned()


def test_an_announcement_that_was_tampered_with_is_hostile(node: Node, reader: Peer) -> None:
    liar = Peer(node).linked()
    genuine = liar.announce(a_version())
    forged = genuine.raw[:-1] + bytes([genuine.raw[-1] ^ 1])

    liar.push(forged)

    assert reader.gets(genuine.id) == [False]
    assert liar.is_shunned()


def test_an_announcement_in_the_name_of_another_node_is_hostile(node: Node, reader: Peer) -> None:
    liar, victim = Peer(node).linked(), Peer(node)
    forged = liar.announce(a_version()).raw.replace(liar.key.public, victim.key.public)

    liar.push(forged)

    assert liar.is_shunned()
    assert not victim.is_shunned()  # what counts is who sent the bytes, never who they say signed them


def test_an_announcement_in_the_name_of_the_node_itself_is_hostile(node: Node, reader: Peer) -> None:
    liar = Peer(node).linked()
    forged = liar.announce(a_version()).raw.replace(liar.key.public, liar.to)

    liar.push(forged)

    assert liar.is_shunned()


def test_whoever_relays_a_forgery_is_left_alone_and_its_honest_announcements_stay(node: Node, reader: Peer) -> None:
    liar = Peer(node).linked()
    before = liar.announce(a_version())
    liar.push(before.raw)

    liar.push(before.raw[:-1] + bytes([before.raw[-1] ^ 1]))

    assert liar.is_shunned()
    assert reader.gets(before.id) == [True]
    refused = liar.push(liar.announce(a_version()).raw)
    assert isinstance(refused, RefusedAnswer)


def test_an_announcement_that_was_pushed_often_is_told_once(node: Node, reader: Peer, careless: Peer) -> None:
    version = careless.announce(a_version())
    for _ in range(5):
        careless.push(*[version.raw] * 50)

    assert reader.gets(version.id) == [True]
    assert len(node.rows(str(version.value[2]))) == 1  # type: ignore[index]


def test_replayed_announcements_of_another_node_say_what_they_said(node: Node, reader: Peer, careless: Peer) -> None:
    author = Peer(node).linked()
    old, new = author.hello(seq=now_ms() - 1000), author.hello(seq=now_ms())
    author.push(old.raw, new.raw)

    careless.push(old.raw)

    assert reader.gets(old.id, new.id) == [False, True]


@pytest.mark.parametrize("kind", ["node", "source", "mirror"])
def test_an_older_announcement_never_takes_the_place_of_a_newer_one(reader: Peer, careless: Peer, kind: str) -> None:
    source = a_source()
    key = new_key().public
    statement = {
        "node": NodeStatement("", "x", (), (), (), 0, bytes(32)),
        "source": source_statement(source, key),
        "mirror": mirror_statement(source),
    }[kind]
    now = now_ms()
    older, newer = careless.announce(statement, seq=now - 5000), careless.announce(statement, seq=now)  # type: ignore[arg-type]

    careless.push(newer.raw)
    careless.push(older.raw)

    assert reader.gets(newer.id, older.id) == [True, False]


def test_a_new_epoch_comes_before_the_highest_seq(reader: Peer, careless: Peer) -> None:
    source = a_source()
    first = careless.announce(mirror_statement(source), epoch=0, seq=now_ms() + 60_000)
    second = careless.announce(mirror_statement(source), epoch=1, seq=now_ms() - 60_000)
    careless.push(second.raw, first.raw)

    assert reader.gets(first.id, second.id) == [False, True]


@pytest.mark.parametrize(
    ("when", "ahead_ms"),
    [("an hour ahead", 3_600_000), ("two days ahead", 2 * DAY_MS), ("at the end of all numbers", None)],
    ids=["an hour ahead", "two days ahead", "at the end of all numbers"],
)
def test_an_announcement_from_the_future_is_not_taken_that_is(
    reader: Peer, careless: Peer, when: str, ahead_ms: int | None
) -> None:
    """The near future waits aside, the far one is refused; neither is passed on, and neither mutes what comes now."""
    source = a_source()
    seq = 2**53 - 1 if ahead_ms is None else now_ms() + ahead_ms
    early = careless.announce(mirror_statement(source), seq=seq)

    assert_not_taken(reader, careless, early)

    present = careless.announce(mirror_statement(source, count=2))
    careless.push(present.raw)
    assert reader.gets(present.id) == [True]


@pytest.mark.parametrize(
    ("kind", "age_ms"), [("mirror", DAY_MS + 60_000), ("source", 7 * DAY_MS + 60_000), ("node", DAY_MS + 60_000)]
)
def test_an_expired_announcement_is_not_taken_of_a(reader: Peer, careless: Peer, kind: str, age_ms: int) -> None:
    source = a_source()
    statement: Any = {
        "mirror": mirror_statement(source),
        "source": source_statement(source, new_key().public),
        "node": NodeStatement("", "x", (), (), (), 0, bytes(32)),
    }[kind]

    assert_not_taken(reader, careless, careless.announce(statement, seq=now_ms() - age_ms))


def test_two_stories_about_a_version_in_one_run_convict_their_author(reader: Peer, node: Node) -> None:
    liar, source = Peer(node).linked().known(), a_source()
    hello = liar.hello()
    first = liar.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100))
    second = liar.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100))

    liar.push(hello.raw, first.raw)
    assert reader.gets(first.id) == [True]
    liar.push(second.raw)

    proof = conviction_id(liar.key.public)
    assert reader.gets(hello.id, first.id, second.id, proof) == [False, False, False, True]
    assert isinstance(Peer(node, key=liar.key).link(), RefusedAnswer)


def test_two_stories_about_a_version_in_two_runs_are_both_shown(reader: Peer, careless: Peer) -> None:
    source = a_source()
    first = careless.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100))
    second = careless.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100), epoch=1)

    careless.push(first.raw)
    careless.push(second.raw)

    assert reader.gets(first.id, second.id) == [True, True]
    row = careless.node.rows(source)[SLUG]
    assert row["sha256"] == first.value[9].hex()  # type: ignore[index,union-attr]


def test_a_version_that_owns_up_to_its_first_is_shown_beside_it(reader: Peer, careless: Peer) -> None:
    source = a_source()
    first = careless.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100))
    second = careless.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100, replaces=first.id))

    careless.push(first.raw, second.raw)

    assert reader.gets(first.id, second.id) == [True, True]


def test_a_version_that_owns_up_to_something_else_is_shown_beside_the_first(reader: Peer, careless: Peer) -> None:
    source = a_source()
    first = careless.announce(version_statement(source, SLUG, secrets.token_bytes(32), 100))
    careless.push(first.raw)
    changed = version_statement(source, SLUG, secrets.token_bytes(32), 100, replaces=secrets.token_bytes(32))
    second = careless.announce(changed)
    careless.push(second.raw)

    assert reader.gets(first.id, second.id) == [True, True]


BROKEN: dict[str, Callable[[list[Any]], None]] = {}


def _breaks(name: str, index: int, value: Any) -> None:
    def change(fields: list[Any]) -> None:
        fields[index] = value

    BROKEN[name] = change


_breaks("a seq of 1970", 1, 1)
_breaks("a source that is no id", 2, "../etc@host")
_breaks("a source without a host", 2, "user")
_breaks("a slug that climbs", 3, "../../x")
_breaks("a slug in capitals", 3, "Tool")
_breaks("a version that climbs", 4, "1/../2")
_breaks("a type that nobody knows", 5, "virus")
_breaks("no name", 6, "")
_breaks("a name of 201 characters", 6, "n" * 201)
_breaks("a name with a line break", 6, "a\nb")
_breaks("a description of 2,001 characters", 7, "d" * 2001)
_breaks("33 tags", 8, tuple(f"t{n}" for n in range(33)))
_breaks("a tag with a NUL", 8, ("a\0",))
_breaks("a digest of 31 bytes", 9, bytes(31))
_breaks("a size of nothing", 10, 0)
_breaks("a size of two gigabytes", 10, 2**31)
_breaks("a time in milliseconds", 11, 10**13)
_breaks("evidence in a form that nobody knows", 12, (("magic", bytes(64), b""),))
_breaks("a signature of 63 bytes", 12, (("metadata", bytes(63), b""),))
_breaks("the same evidence twice", 12, (("metadata", bytes(64), b""), ("metadata", bytes(64), b"")))
_breaks("nine pieces of evidence", 12, tuple(("release/2", bytes([n]), b"") for n in range(1, 10)))
_breaks("a replaced id of 31 bytes", 13, bytes(31))


@pytest.mark.parametrize("broken", BROKEN)
def test_a_signed_version_is_not_taken_with(reader: Peer, careless: Peer, broken: str) -> None:
    fields = list(encode(a_version(), 0, careless.seq()))  # type: ignore[arg-type]
    BROKEN[broken](fields)

    assert_not_taken(reader, careless, seal(careless.key, "pfn/version/1", MESH, tuple(fields)))


def test_a_version_with_a_field_too_many_is_not_taken(reader: Peer, careless: Peer) -> None:
    value: Value = (*encode(a_version(), 0, careless.seq()), True)  # type: ignore[misc]

    assert_not_taken(reader, careless, seal(careless.key, "pfn/version/1", MESH, value))


def test_an_announcement_of_more_than_four_kilobytes_is_not_taken(reader: Peer, careless: Peer) -> None:
    evidence = tuple((form, bytes([7]) * 1000, b"") for form in ("release/2", "keybind/2", "head/2"))
    fields = list(encode(a_version(description="d" * 1900), 0, careless.seq()))  # type: ignore[arg-type]
    fields[12] = evidence
    large = seal(careless.key, "pfn/version/1", MESH, tuple(fields))
    assert len(large.raw) > 4096

    truth = careless.announce(a_version())
    careless.push(truth.raw)
    careless.post("gossip", careless.sealed_content("gossip", ((large.raw,), (), None, 0, (), False)))
    assert reader.gets(truth.id, large.id) == [True, False]


def test_a_signed_announcement_in_a_longer_spelling_is_not_taken(reader: Peer, careless: Peer) -> None:
    """The body is valid msgpack and the signature holds, but the same body has a shorter spelling."""
    value = encode(mirror_statement(a_source()), 0, careless.seq())
    packed = msgpack.packb(value)
    body = b"\xdc" + (packed[0] & 0x0F).to_bytes(2, "big") + packed[1:]
    signed = preimage("pfn/mirror/1", MESH, body)
    raw = msgpack.packb([1, "pfn/mirror/1", careless.key.public, body, careless.key.sign(signed)])

    careless.push(raw)

    assert reader.gets(sha256(signed + careless.key.public).digest()) == [False]


@pytest.mark.parametrize("domain", ["pfn/yank/2", "pfn/virus/1", "pfn/release/2", "pfn/request/1"])
def test_an_announcement_is_not_taken_of_the_domain(reader: Peer, careless: Peer, domain: str) -> None:
    assert_not_taken(reader, careless, seal(careless.key, domain, MESH, (0, careless.seq(), "x")))


@pytest.mark.parametrize(
    ("what", "pins"),
    [
        ("more than sixty-four", tuple(sorted(secrets.token_bytes(32) for _ in range(65)))),
        ("descending", (bytes([2]) * 32, bytes([1]) * 32)),
        ("the same twice", (bytes([1]) * 32, bytes([1]) * 32)),
    ],
    ids=["more than sixty-four", "descending", "twice"],
)
def test_a_node_announcement_is_not_taken_whose_pins_are(
    reader: Peer, careless: Peer, what: str, pins: tuple[bytes, ...]
) -> None:
    value: Value = (0, careless.seq(), "", "x", (), pins, (), 0, bytes(32), False)

    assert_not_taken(reader, careless, seal(careless.key, "pfn/node/1", MESH, value))


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example", "http://a:b@a.example", "HTTP://A.EXAMPLE", "http://a.example/?q", "javascript:alert(1)"],
    ids=["FTP", "a password", "another spelling", "a query", "a script"],
)
def test_a_node_announcement_is_not_taken_whose_url_has(reader: Peer, careless: Peer, url: str) -> None:
    value: Value = (0, careless.seq(), url, "x", (), (), (), 0, bytes(32), False)

    assert_not_taken(reader, careless, seal(careless.key, "pfn/node/1", MESH, value))


def test_a_source_whose_id_is_not_its_own_url_s_is_not_taken(reader: Peer, careless: Peer) -> None:
    """Somebody else's source id beside one's own URL and key."""
    statement = source_statement(a_source(), new_key().public, url="http://elsewhere.example")

    assert_not_taken(reader, careless, careless.announce(statement))


def test_a_source_with_a_key_of_small_order_is_not_taken(reader: Peer, careless: Peer) -> None:
    assert_not_taken(reader, careless, careless.announce(source_statement(a_source(), bytes([1]) + bytes(31))))


def test_a_tombstone_that_is_replayed_after_its_node_came_back_is_too_old(node: Node, reader: Peer) -> None:
    with ListeningPeer() as listening:
        leaver = listening.speaks_to(node).linked()
        gone, back = leaver.hello(left=True, seq=now_ms() - 2000), leaver.hello(seq=now_ms())
        leaver.push(gone.raw)
        leaver.linked()
        leaver.push(back.raw)

        leaver.push(gone.raw)

        assert reader.gets(gone.id, back.id) == [False, True]


def test_nobody_leaves_the_mesh_in_another_s_name(node: Node, reader: Peer, careless: Peer) -> None:
    victim = Peer(node).linked()
    hello = victim.hello()
    victim.push(hello.raw)
    enemy = Peer(node).linked()
    forged = enemy.hello(left=True).raw.replace(enemy.key.public, victim.key.public)

    enemy.push(forged)

    assert reader.gets(hello.id) == [True]
    assert not isinstance(victim.push(), RefusedAnswer)


def test_what_a_stranger_announces_is_asked_for_by_its_whole_id_or_its_half(reader: Peer, careless: Peer) -> None:
    version = careless.announce(a_version())
    careless.push(version.raw)
    wrong = version.id[:16] + bytes(16)

    got = reader.ask(FetchRequest((version.id[:16], wrong)))

    assert wrong in got.missing and version.id[:16] not in got.missing  # type: ignore[union-attr]


def test_ids_that_nobody_has_are_told_as_missing(reader: Peer) -> None:
    assert not any(reader.gets(*(secrets.token_bytes(32) for _ in range(256))))


def test_what_is_relayed_is_byte_for_byte_what_was_signed(reader: Peer, careless: Peer) -> None:
    version = careless.announce(a_version(description="tab\tand\nlines \U0001f600"))
    careless.push(version.raw)

    got = reader.ask(FetchRequest((version.id,)))

    assert version.raw in got.announcements  # type: ignore[union-attr]


def test_a_push_with_a_body_that_is_no_announcement_does_not_spoil_the_others(reader: Peer, careless: Peer) -> None:
    version = careless.announce(a_version())

    careless.ask(GossipRequest((b"\xc1", version.raw, b"\x90"), (), None, 0))

    assert reader.gets(version.id) == [True]


def test_whoever_breaks_rules_all_the_time_is_left_alone(node: Node) -> None:
    """One mistake is another version of the software; sixty-five are something else."""
    clumsy = Peer(node).linked()

    clumsy.push(*(bytes([0xC1, number]) for number in range(70)))

    assert clumsy.is_shunned()
