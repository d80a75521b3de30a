"""Whose word backs bytes: hostile peers put the digest of malware beside a genuine signature, and count for nothing."""

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import public_key_pem
from pfn_protocol.publisher import metadata_message
from tests.conformance.conftest import StartNode
from tests.conformance.hostile_peer import ListeningPeer, Peer, source_statement, version_statement
from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    Listing,
    Publisher,
    digest,
    new_key,
    plugin_zip,
    register,
    subscribe,
    verify,
)
from tests.conformance.node_process import Node
from tests.conformance.test_publisher_signatures import release

MALWARE = plugin_zip(HONEST_SLUG, "1.0", "malware")


def genuine(publisher: Publisher) -> tuple[Evidence, ...]:
    """The publisher's own metadata signature: it does not cover the file."""
    message = metadata_message(HONEST_SLUG, HONEST_SLUG, "1.0", "A tool.")
    return (Evidence(EvidenceForm.METADATA, publisher.key.sign(message)),)


def report(peer: Peer, publisher: Publisher, data: bytes, **changes: Any) -> None:
    """Announce the source, and that this was seen there."""
    fields = {"evidence": genuine(publisher), "tags": ("tools",)} | changes
    peer.push(
        peer.hello().raw,
        peer.announce(source_statement(publisher.source, publisher.key.public)).raw,
        peer.announce(
            version_statement(publisher.source, HONEST_SLUG, bytes.fromhex(digest(data)), len(data), **fields)
        ).raw,
    )


def pin(node: Node, peer: Peer) -> None:
    assert node.post("peers", {"action": "pin", "node_id": peer.id}).status == 200


@pytest.fixture
def stranger(node: Node) -> Iterator[ListeningPeer]:
    """A node that nobody here pins, with the malware at hand."""
    with ListeningPeer(holds={digest(MALWARE): MALWARE}) as stranger:
        yield stranger
        enemy = stranger.speaks_to(node).id
        node.post("peers", {"action": "unpin", "node_id": enemy})
        node.post("peers", {"action": "block", "node_id": enemy})  # it takes no place from the next one


@pytest.fixture
def liar(node: Node, stranger: ListeningPeer) -> Peer:
    return stranger.speaks_to(node).linked()


def assert_no_malware(node: Node, publisher: Publisher) -> None:
    assert digest(MALWARE) != node.rows(publisher.source).get(HONEST_SLUG, {}).get("sha256")
    assert node.download(publisher.source, HONEST_SLUG).body != MALWARE
    assert node.artifact(digest(MALWARE)).status == 404


def test_a_genuine_signature_beside_malware_is_reported_and_not_served(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    publisher.close()
    report(liar, publisher, MALWARE)

    row = node.rows(publisher.source)[HONEST_SLUG]

    assert (row["assurance"], row["backed"], row["reported_by"]) == ("reported", False, [liar.id])
    assert node.download(publisher.source, HONEST_SLUG).status == 422
    assert node.artifact(digest(MALWARE)).status == 404


def test_whoever_wants_what_a_stranger_reports_gets_what_the_publisher_serves(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    report(liar, publisher, MALWARE)

    served = node.download(publisher.source, HONEST_SLUG)

    assert (served.status, served.body) == (200, publisher.zip_of(HONEST_SLUG))
    row = node.rows(publisher.source)[HONEST_SLUG]
    assert (row["disputed_by"], row["conflict"]) == ([liar.id], False)
    assert_no_malware(node, publisher)


def test_a_stranger_cannot_take_down_what_is_served(node: Node, liar: Peer, publisher: Publisher) -> None:
    subscribe(node, publisher)
    before = node.rows(publisher.source)[HONEST_SLUG]

    report(liar, publisher, MALWARE)

    after = node.rows(publisher.source)[HONEST_SLUG]
    assert after["disputed_by"] == [liar.id]
    same = ("sha256", "assurance", "backed", "backed_by", "conflict", "mirrored", "version")
    assert [after[name] for name in same] == [before[name] for name in same]


def test_a_pinned_node_that_turns_does_not_outweigh_what_was_seen_here(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    subscribe(node, publisher)
    pin(node, liar)

    report(liar, publisher, MALWARE)

    assert_no_malware(node, publisher)
    row = node.rows(publisher.source)[HONEST_SLUG]
    assert (row["backed_by"], row["conflict"], row["disputed_by"]) == ("self", False, [liar.id])


def test_what_is_seen_here_takes_the_place_of_what_a_pinned_node_said(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    pin(node, liar)
    report(liar, publisher, MALWARE)
    assert node.rows(publisher.source)[HONEST_SLUG]["backed_by"] == "pin"

    node.post("peers", {"action": "unpin", "node_id": liar.id})
    subscribe(node, publisher)
    pin(node, liar)

    row = node.rows(publisher.source)[HONEST_SLUG]
    assert (row["backed_by"], row["sha256"]) == ("self", digest(publisher.zip_of(HONEST_SLUG)))


def test_a_signed_release_takes_the_place_of_what_a_pinned_node_said(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    """The author's own word, handed in by anybody, over bytes that the publisher serves."""
    pin(node, liar)
    report(liar, publisher, MALWARE)
    assert verify(node, publisher)["success"]
    data = publisher.zip_of(HONEST_SLUG)
    statement = release(
        publisher, slug=HONEST_SLUG, sha256=bytes.fromhex(digest(data)), size=len(data), metadata_sha256=bytes(32)
    )

    handed_in = node.post("releases", {"release_v2": statement}, key="")

    assert (handed_in.status, handed_in.json["assurance"]) == (200, "A3")
    assert node.download(publisher.source, HONEST_SLUG).body == data
    assert_no_malware(node, publisher)


def test_a_release_by_the_wrong_key_backs_nothing(node: Node, liar: Peer, publisher: Publisher) -> None:
    assert verify(node, publisher)["success"]
    publisher.close()
    forged = release(publisher, new_key(), slug=HONEST_SLUG, sha256=bytes.fromhex(digest(MALWARE)), size=len(MALWARE))
    evidence = (*genuine(publisher), Evidence(EvidenceForm.RELEASE, base64.b64decode(forged)))

    report(liar, publisher, MALWARE, evidence=evidence)

    assert node.rows(publisher.source)[HONEST_SLUG]["assurance"] == "reported"
    assert node.download(publisher.source, HONEST_SLUG).status == 422


def test_a_genuine_release_beside_another_digest_backs_nothing(node: Node, liar: Peer, publisher: Publisher) -> None:
    assert verify(node, publisher)["success"]
    data = publisher.zip_of(HONEST_SLUG)
    publisher.close()
    true = release(publisher, slug=HONEST_SLUG, sha256=bytes.fromhex(digest(data)), size=len(data))
    evidence = (Evidence(EvidenceForm.RELEASE, base64.b64decode(true)),)

    report(liar, publisher, MALWARE, evidence=evidence)

    assert node.rows(publisher.source)[HONEST_SLUG]["assurance"] == "reported"
    assert node.download(publisher.source, HONEST_SLUG).status == 422


def test_a_release_counts_only_after_this_node_looked_for_an_oracle(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    """The source's key is only what a stranger says: nothing signed by it covers bytes."""
    publisher.close()
    signed = release(publisher, slug=HONEST_SLUG, sha256=bytes.fromhex(digest(MALWARE)), size=len(MALWARE))

    report(liar, publisher, MALWARE, evidence=(Evidence(EvidenceForm.RELEASE, base64.b64decode(signed)),))

    assert node.rows(publisher.source)[HONEST_SLUG]["assurance"] == "reported"


def test_a_newer_version_that_is_only_reported_does_not_hide_the_one_that_is_backed(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    subscribe(node, publisher)

    report(liar, publisher, MALWARE, version="6.6")

    row = node.rows(publisher.source)[HONEST_SLUG]
    assert (row["version"], row["reported_version"], row["backed"]) == ("1.0", "6.6", True)
    assert node.download(publisher.source, HONEST_SLUG).body == publisher.zip_of(HONEST_SLUG)
    assert node.download(publisher.source, HONEST_SLUG, "6.6").status == 422


def test_what_is_only_reported_is_left_out_where_a_level_is_asked_for(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    report(liar, publisher, MALWARE)

    assert node.rows(publisher.source, min_assurance="A0") == {}
    assert set(node.rows(publisher.source, min_assurance="reported")) == {HONEST_SLUG}


def test_a_stranger_s_word_about_a_key_makes_it_not_known(node: Node, liar: Peer, publisher: Publisher) -> None:
    report(liar, publisher, MALWARE)

    row = node.get("sources", status="discovered", q=publisher.source).json[0]

    assert (row["key_known"], row["trust_score"]) == (False, 0.0)


def test_a_stranger_cannot_change_the_key_of_a_registered_source(node: Node, liar: Peer, publisher: Publisher) -> None:
    verify(node, publisher)
    liar.push(liar.hello().raw, liar.announce(source_statement(publisher.source, new_key().public)).raw)

    row = node.get("sources", q=publisher.source).json[0]

    assert (row["public_key"], row["status"]) == (public_key_pem(publisher.key.public), "verified")


def test_a_pinned_node_cannot_change_the_key_of_a_registered_source(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    verify(node, publisher)
    pin(node, liar)
    liar.push(liar.hello().raw, liar.announce(source_statement(publisher.source, new_key().public)).raw)

    row = node.get("sources", q=publisher.source).json[0]

    assert (row["public_key"], row["status"]) == (public_key_pem(publisher.key.public), "verified")


def test_what_strangers_say_of_a_source_does_not_move_its_score(node: Node, liar: Peer, publisher: Publisher) -> None:
    subscribe(node, publisher)
    before = node.get("source-status", sourceId=publisher.source).json["trust_score"]

    report(liar, publisher, MALWARE)
    liar.push(liar.announce(source_statement(publisher.source, publisher.key.public, verified=False)).raw)

    assert node.get("source-status", sourceId=publisher.source).json["trust_score"] == before


def test_a_publisher_that_is_only_heard_of_is_not_asked_anything(node: Node, liar: Peer, publisher: Publisher) -> None:
    report(liar, publisher, MALWARE)
    assert HONEST_SLUG in node.rows(publisher.source)

    assert publisher.connections == 0


def test_many_sources_at_one_host_cost_it_one_question_in_ten_minutes(
    node: Node, liar: Peer, publisher: Publisher
) -> None:
    """Source ids cost a hostile peer nothing: a node is no way to have a publisher flooded."""
    liar.push(liar.hello().raw)
    key = new_key()
    sources = [f"user{number}@127.0.0.1:{publisher.port}" for number in range(10)]
    for source in sources:
        liar.push(
            liar.announce(source_statement(source, key.public)).raw,
            liar.announce(version_statement(source, HONEST_SLUG, secrets.token_bytes(32), 100)).raw,
        )

    statuses = [node.download(source, HONEST_SLUG).status for source in sources]

    assert set(statuses) == {422}
    assert sum(path == "/verify-ownership" for path in publisher.paths()) <= 1


def test_an_unpinned_node_s_word_ends_with_the_pin(node: Node, liar: Peer, publisher: Publisher) -> None:
    publisher.close()
    pin(node, liar)
    report(liar, publisher, MALWARE)
    assert node.rows(publisher.source)[HONEST_SLUG]["backed"] is True

    node.post("peers", {"action": "unpin", "node_id": liar.id})

    row = node.rows(publisher.source).get(HONEST_SLUG)
    assert row is None or row["assurance"] == "reported"
    assert node.download(publisher.source, HONEST_SLUG).status in (404, 422)


def test_what_a_blocked_node_says_is_not_shown(node: Node, liar: Peer, publisher: Publisher) -> None:
    report(liar, publisher, MALWARE)
    assert HONEST_SLUG in node.rows(publisher.source)

    node.post("peers", {"action": "block", "node_id": liar.id})

    assert node.rows(publisher.source) == {}


@pytest.fixture(scope="module")
def trusting(start_node: StartNode) -> Node:
    """A node of its own for pins: what others pin is admitted, and that is all."""
    return start_node()


def test_whom_a_pinned_node_pins_is_heard_and_backs_nothing(trusting: Node, publisher: Publisher) -> None:
    publisher.close()
    friend, enemy = Peer(trusting).linked(), Peer(trusting).linked()
    pin(trusting, friend)
    friend.push(friend.hello(pins=(enemy.key.public,)).raw)

    report(enemy, publisher, MALWARE)

    assert trusting.rows(publisher.source)[HONEST_SLUG]["assurance"] == "reported"
    assert trusting.download(publisher.source, HONEST_SLUG).status == 422


def test_a_node_that_pins_this_one_is_not_trusted_for_it(trusting: Node, publisher: Publisher) -> None:
    publisher.close()
    enemy = Peer(trusting).linked()
    enemy.push(enemy.hello(pins=(enemy.to,)).raw)

    report(enemy, publisher, MALWARE)

    assert trusting.rows(publisher.source)[HONEST_SLUG]["assurance"] == "reported"
    assert trusting.download(publisher.source, HONEST_SLUG).status == 422


def test_ten_strangers_are_no_better_than_one(trusting: Node, publisher: Publisher) -> None:
    publisher.close()
    strangers = [Peer(trusting).linked() for _ in range(10)]
    for stranger in strangers:
        report(stranger, publisher, MALWARE)

    row = trusting.rows(publisher.source)[HONEST_SLUG]

    # Another test's publisher may have had the same port, and so be the same source.
    assert {stranger.id for stranger in strangers} <= set(row["reported_by"])
    assert row["assurance"] == "reported"
    assert trusting.download(publisher.source, HONEST_SLUG).status == 422


def test_of_two_pinned_nodes_that_disagree_the_first_served_stays(trusting: Node, publisher: Publisher) -> None:
    publisher.close()
    data = publisher.zip_of(HONEST_SLUG)
    with ListeningPeer(holds={digest(data): data}) as first, ListeningPeer(holds={digest(MALWARE): MALWARE}) as second:
        honest, enemy = first.speaks_to(trusting).linked(), second.speaks_to(trusting).linked()
        pin(trusting, honest)
        pin(trusting, enemy)
        report(honest, publisher, data)
        assert trusting.download(publisher.source, HONEST_SLUG).body == data

        report(enemy, publisher, MALWARE)

        row = trusting.rows(publisher.source)[HONEST_SLUG]
        assert (row["sha256"], row["conflict"], row["assurance"]) == (digest(data), True, "A0")
        assert trusting.download(publisher.source, HONEST_SLUG).body == data
        assert trusting.artifact(digest(MALWARE)).status == 404


def test_a_signature_that_a_peer_passes_on_is_checked_before_it_counts(trusting: Node, publisher: Publisher) -> None:
    publisher.close()
    data = publisher.zip_of(HONEST_SLUG)
    friend = Peer(trusting).linked()
    pin(trusting, friend)

    report(friend, publisher, data, evidence=(Evidence(EvidenceForm.METADATA, bytes(64)),))

    assert trusting.rows(publisher.source)[HONEST_SLUG]["assurance"] == "A0"


def test_a_source_that_a_stranger_registered_is_taken_over_by_the_operator(node: Node, liar: Peer) -> None:
    """The operator's key and URL win over everything that was heard."""
    with Publisher() as publisher:
        liar.push(liar.hello().raw, liar.announce(source_statement(publisher.source, new_key().public)).raw)
        register(node, publisher)

        assert subscribe(node, publisher)["mirroredCount"] == 1


def test_bytes_that_went_are_not_replaced_by_others(start_node: StartNode) -> None:
    """Read through for anybody, put out of the cache, and rewritten by the publisher meanwhile: 1.0 stays 1.0."""
    forgetful = start_node(PFN_CACHE_BYTES_MAX="3000")
    peer = Peer(forgetful).linked()
    first, other, evil = (
        plugin_zip(slug, "1.0", secrets.token_hex(1000)) for slug in (HONEST_SLUG, "other", HONEST_SLUG)
    )
    with Publisher(listings=[Listing(HONEST_SLUG, zip=first), Listing("other", zip=other)]) as publisher:
        report(peer, publisher, first)
        known = version_statement(publisher.source, "other", bytes.fromhex(digest(other)), len(other))
        peer.push(peer.announce(known).raw)
        assert forgetful.download(publisher.source, HONEST_SLUG).body == first
        assert forgetful.download(publisher.source, "other").body == other
        assert forgetful.artifact(digest(first)).status == 404
        publisher.listings[0].zip = evil

        assert forgetful.download(publisher.source, HONEST_SLUG).status == 502

        assert forgetful.artifact(digest(evil)).status == 404
        assert forgetful.rows(publisher.source)[HONEST_SLUG]["sha256"] == digest(first)
