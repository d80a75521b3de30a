"""What is signed about keys and releases that are out: by the publisher, a thief, a stranger, a peer."""

import hashlib
from collections.abc import Callable
from time import time
from typing import Any

import pytest

from pfn_protocol.announcements import RevokeStatement, YankStatement
from pfn_protocol.encoding import Envelope
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher_notices import (
    Advisory,
    Revocation,
    Rotation,
    Yank,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)
from tests.conformance.hostile_peer import Peer
from tests.conformance.hostile_publisher import HONEST_SLUG, Publisher, digest, new_key, subscribe, verify
from tests.conformance.hostile_server import always, as_json
from tests.conformance.node_process import Node, b64
from tests.conformance.wire import Answer

RECOVERY = PrivateKey(bytes([77]) * 32)


def now_s() -> int:
    return int(time())


def rotation(
    publisher: Publisher,
    new: PrivateKey,
    *,
    old: PrivateKey | None = None,
    voucher: PrivateKey | None = None,
    **more: Any,
) -> Envelope:
    """The publisher's key is followed by `new`; `voucher` signs in the old one's place."""
    key = old or publisher.key
    fields: dict[str, Any] = {
        "origin": publisher.url,
        "author": publisher.author,
        "role": "identity",
        "epoch": 1,
        "reason": "",
        "effective_s": now_s() - 1,
        "recovery_hash": b"",
    } | more
    vouching = voucher or key
    return sign_rotation(
        new, vouching, Rotation(old_key=key.public, new_key=new.public, voucher=vouching.public, **fields)
    )


def revocation(
    publisher: Publisher, signer: PrivateKey, key: PrivateKey | None = None, not_after_s: int = 0
) -> Envelope:
    revoked = (key or publisher.key).public
    return sign_revocation(signer, Revocation(publisher.url, publisher.author, revoked, "", not_after_s or now_s()))


def yank(publisher: Publisher, version: str = "1.1", signer: PrivateKey | None = None, **more: Any) -> Envelope:
    fields: dict[str, Any] = {"reason": "it eats posts", "seq": int(time() * 1_000), "withdrawn": False} | more
    origin, author = fields.pop("origin", publisher.url), publisher.author
    return sign_yank(signer or publisher.key, Yank(origin, author, HONEST_SLUG, version, **fields))


def advisory(publisher: Publisher, signer: PrivateKey | None = None, **more: Any) -> Envelope:
    fields: dict[str, Any] = {
        "advisory_id": "PFN-1",
        "severity": "high",
        "summary": "A hole.",
        "ranges": (("1.1", ""),),
        "url": "",
        "aliases": (),
        "seq": int(time() * 1_000),
        "withdrawn": False,
    } | more
    return sign_advisory(signer or publisher.key, Advisory(publisher.url, publisher.author, HONEST_SLUG, **fields))


def hand_in(node: Node, *envelopes: Envelope) -> list[str]:
    """Hand notices in without any key; answers what became of each."""
    got = node.post("notices", {"notices_v2": [b64(one.raw) for one in envelopes]}, key="")
    assert got.status == 200, got.body
    return [one["outcome"] for one in got.json["notices"]]


def key_of(node: Node, publisher: Publisher) -> str:
    found: str = node.get("sources", q=publisher.source).json[0]["public_key"]
    return found


def pem(key: PrivateKey) -> str:
    return public_key_pem(key.public)


def newest(node: Node, publisher: Publisher) -> str:
    found: str = node.rows(publisher.source)[HONEST_SLUG]["version"]
    return found


def status(node: Node, publisher: Publisher) -> str:
    found: str = node.get("source-status", sourceId=publisher.source).json["status"]
    return found


def get(node: Node, publisher: Publisher, version: str = "1.1") -> Answer:
    return node.download(publisher.source, HONEST_SLUG, version)


@pytest.fixture
def two(node: Node, publisher: Publisher) -> Publisher:
    """A publisher of which the node holds 1.0 and 1.1."""
    subscribe(node, publisher)
    publisher.listings[0].version = "1.1"
    subscribe(node, publisher)
    assert newest(node, publisher) == "1.1"
    return publisher


# --- Keys (R66, R67, R140 to R142) ----------------------------------------------------------------------------------


def test_a_rotation_by_both_keys_is_taken_over_without_an_admin(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    new = new_key()

    assert hand_in(node, rotation(publisher, new)) == ["new"]

    assert key_of(node, publisher) == pem(new)
    publisher.key = new
    assert verify(node, publisher)["success"]


def test_the_old_key_proves_nothing_after_a_rotation(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    hand_in(node, rotation(publisher, new_key()))

    assert verify(node, publisher)["success"] is False


@pytest.mark.parametrize("member", ["/author-data", "/federation-info"])
def test_a_rotation_that_the_publisher_serves_is_found(node: Node, publisher: Publisher, member: str) -> None:
    verify(node, publisher)
    new = new_key()
    text = b64(rotation(publisher, new).raw)
    own = {"domain": publisher.url, "namingScheme": "zips/author/slug-version.zip"}
    said = {
        "/author-data": publisher.author_data(),
        "/federation-info": {"version": "1", "assetInfo": own},
    }[member]
    publisher.answers[member] = always(as_json(said | {"rotations_v2": [text]}))

    node.post("verify-source", {"sourceId": publisher.source})
    node.post("subscribe", {"sourceId": publisher.source})

    assert key_of(node, publisher) == pem(new)


BAD_ROTATIONS: dict[str, Callable[[Publisher], Envelope]] = {
    "vouched by a stranger": lambda own: rotation(own, new_key(), voucher=new_key()),
    "of another key": lambda own: rotation(own, new_key(), old=new_key()),
    "not in effect yet": lambda own: rotation(own, new_key(), effective_s=now_s() + 3_600),
    "of another author": lambda own: rotation(own, new_key(), author="somebody"),
    "of another host": lambda own: rotation(own, new_key(), origin="https://elsewhere.example"),
    "of the release key that it is not": lambda own: rotation(own, new_key(), role="release"),
    "revoked by a stranger": lambda own: revocation(own, new_key()),
    "revoking a stranger's key": lambda own: revocation(own, own.key, new_key()),
}


@pytest.mark.parametrize("attack", BAD_ROTATIONS)
def test_a_change_of_keys_that_the_key_does_not_vouch_for_changes_nothing(
    node: Node, publisher: Publisher, attack: str
) -> None:
    verify(node, publisher)

    assert hand_in(node, BAD_ROTATIONS[attack](publisher)) != ["new"]

    assert (key_of(node, publisher), status(node, publisher)) == (pem(publisher.key), "verified")


def test_a_rotation_that_an_oracle_signed_for_anybody_does_not_take_the_source_over(
    node: Node, publisher: Publisher
) -> None:
    """Who signs raw bytes for whoever asks, signs a thief's voucher as well."""
    publisher.answers["/verify-ownership"] = publisher.prove_bytes
    verify(node, publisher)

    hand_in(node, rotation(publisher, new_key()))

    assert key_of(node, publisher) == pem(publisher.key)


def test_two_successors_freeze_the_source_until_an_admin_chooses(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    first, second = new_key(), new_key()

    hand_in(node, rotation(publisher, first), rotation(publisher, second, epoch=2))

    assert status(node, publisher) == "conflict"
    assert node.post("subscribe", {"sourceId": publisher.source}).status == 422
    node.post("update-source", {"sourceId": publisher.source, "public_key": pem(second)})
    publisher.key = second
    assert verify(node, publisher)["success"]


def test_a_recovery_key_undoes_what_a_thief_did(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    commits = rotation(publisher, publisher.key, recovery_hash=hashlib.sha256(RECOVERY.public).digest())
    mine = new_key()
    assert hand_in(node, commits, rotation(publisher, new_key(), epoch=2)) == ["new", "new"]

    assert hand_in(node, rotation(publisher, mine, voucher=RECOVERY, epoch=3)) == ["new"]

    assert key_of(node, publisher) == pem(mine)


def test_a_thief_cannot_exchange_the_recovery_key(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    hashes = [hashlib.sha256(key.public).digest() for key in (RECOVERY, new_key())]
    hand_in(node, rotation(publisher, publisher.key, recovery_hash=hashes[0]))

    assert hand_in(node, rotation(publisher, publisher.key, epoch=2, recovery_hash=hashes[1])) == ["known"]


def test_a_key_that_was_given_up_never_comes_back(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    new = new_key()
    hand_in(node, rotation(publisher, new))

    hand_in(node, rotation(publisher, publisher.key, old=new, epoch=2))

    assert key_of(node, publisher) == pem(new)


def test_a_source_whose_key_revoked_itself_is_revoked(node: Node, two: Publisher) -> None:
    assert hand_in(node, revocation(two, two.key)) == ["new"]

    assert status(node, two) == "revoked"
    assert hand_in(node, yank(two)) == ["refused"]
    verify(node, two)
    assert status(node, two) == "revoked"


def test_what_was_seen_before_a_rotation_is_served_on(node: Node, two: Publisher) -> None:
    hand_in(node, rotation(two, new_key()))

    assert (get(node, two).status, get(node, two).body) == (200, two.zip_of(HONEST_SLUG))


def test_a_release_after_a_rotation_cools_down_until_an_admin_approves_it(node: Node, publisher: Publisher) -> None:
    subscribe(node, publisher)
    publisher.closing.wait(1.1)  # a release of the second in which the key changes cools down as well
    new = new_key()
    hand_in(node, rotation(publisher, new))
    publisher.key, publisher.listings[0].version = new, "1.1"
    subscribe(node, publisher)

    assert newest(node, publisher) == "1.0"
    assert int(get(node, publisher).headers["pfn-cooldown"]) > now_s() + 71 * 3_600
    release = {"sourceId": publisher.source, "plugin": HONEST_SLUG, "version": "1.1"}
    assert node.post("approve-release", release, key="").status == 401
    assert node.post("approve-release", release).status == 200
    assert newest(node, publisher) == "1.1"


def announce_change(peer: Peer, publisher: Publisher, change: str, key: bytes, envelope: Envelope) -> None:
    peer.push(peer.hello().raw, peer.announce(RevokeStatement(publisher.source, change, key, envelope.raw)).raw)


@pytest.mark.parametrize("pinned", [False, True], ids=["a stranger", "a pinned peer"])
def test_a_genuine_rotation_counts_whoever_gossips_it(node: Node, publisher: Publisher, pinned: bool) -> None:
    verify(node, publisher)
    peer, new = Peer(node).linked(), new_key()
    peer = peer.known() if pinned else peer

    announce_change(peer, publisher, "rotate", new.public, rotation(publisher, new))

    assert key_of(node, publisher) == pem(new)


@pytest.mark.parametrize("pinned", [False, True], ids=["a stranger", "a pinned peer"])
def test_a_revocation_by_another_key_changes_nothing_whoever_gossips_it(
    node: Node, publisher: Publisher, pinned: bool
) -> None:
    verify(node, publisher)
    peer = Peer(node).linked()
    peer = peer.known() if pinned else peer

    announce_change(peer, publisher, "revoke", publisher.key.public, revocation(publisher, peer.key))

    assert status(node, publisher) == "verified"


# --- Yanks, advisories, takedowns (R68, R69, R143 to R147) ----------------------------------------------------------


def test_a_yanked_release_is_not_the_newest_and_is_had_by_its_version_with_a_warning(
    node: Node, two: Publisher
) -> None:
    assert hand_in(node, yank(two)) == ["new"]

    assert newest(node, two) == "1.0"
    by_name = get(node, two)
    assert (by_name.status, by_name.body) == (200, two.zip_of(HONEST_SLUG))
    assert "pfn-yanked" in by_name.headers
    assert "pfn-yanked" not in get(node, two, "1.0").headers


BAD_YANKS: dict[str, Callable[[Publisher], Envelope]] = {
    "by a stranger": lambda own: yank(own, signer=new_key()),
    "of another host": lambda own: yank(own, origin="https://elsewhere.example"),
    "from the future": lambda own: yank(own, seq=int(time() * 1_000) + 3_600_000),
}


@pytest.mark.parametrize("attack", BAD_YANKS)
def test_a_yank_that_is_not_the_publisher_s_changes_nothing(node: Node, two: Publisher, attack: str) -> None:
    assert hand_in(node, BAD_YANKS[attack](two)) == ["refused"]

    assert newest(node, two) == "1.1"


def test_a_yank_by_the_key_of_another_source_changes_nothing(node: Node, two: Publisher) -> None:
    with Publisher() as other:
        verify(node, other)

        assert hand_in(node, yank(two, signer=other.key)) == ["refused"]

    assert newest(node, two) == "1.1"


def test_a_yank_by_a_key_that_signs_raw_bytes_for_anybody_changes_nothing(node: Node, publisher: Publisher) -> None:
    publisher.answers["/verify-ownership"] = publisher.prove_bytes
    subscribe(node, publisher)

    assert hand_in(node, yank(publisher, "1.0")) == ["refused"]


def test_a_yank_that_was_taken_back_does_not_come_back(node: Node, two: Publisher) -> None:
    at = int(time() * 1_000)
    first, back = yank(two, seq=at), yank(two, seq=at + 1, withdrawn=True)

    assert hand_in(node, first, back, first) == ["new", "new", "known"]

    assert newest(node, two) == "1.1"
    assert "pfn-yanked" not in get(node, two).headers


def test_an_older_withdrawal_does_not_take_back_a_newer_yank(node: Node, two: Publisher) -> None:
    at = int(time() * 1_000)

    assert hand_in(node, yank(two, seq=at), yank(two, seq=at - 1, withdrawn=True)) == ["new", "known"]

    assert newest(node, two) == "1.0"


@pytest.mark.parametrize("pinned", [False, True], ids=["a stranger", "a pinned peer"])
def test_a_node_s_own_yank_acts_only_if_that_node_is_pinned(node: Node, two: Publisher, pinned: bool) -> None:
    peer = Peer(node).linked()
    peer = peer.known() if pinned else peer

    peer.push(peer.hello().raw, peer.announce(YankStatement(two.source, HONEST_SLUG, "1.1", reason="x")).raw)

    assert newest(node, two) == ("1.0" if pinned else "1.1")
    said = [one for one in node.get("advisories", source=two.source).json["notices"] if one["by"] == peer.id]
    assert [one["acts"] for one in said] == [pinned]


def test_an_advisory_is_shown_with_the_releases_in_its_ranges_only(node: Node, two: Publisher) -> None:
    assert hand_in(node, advisory(two)) == ["new"]

    assert get(node, two).headers["pfn-advisories"] == "PFN-1"
    assert "pfn-advisories" not in get(node, two, "1.0").headers


def test_an_advisory_ends_before_the_version_that_is_well_again(node: Node, two: Publisher) -> None:
    hand_in(node, advisory(two, ranges=(("", "1.1"),)))

    assert "pfn-advisories" not in get(node, two).headers
    assert get(node, two, "1.0").headers["pfn-advisories"] == "PFN-1"


def test_an_advisory_that_was_taken_back_is_shown_no_longer(node: Node, two: Publisher) -> None:
    at = int(time() * 1_000)

    assert hand_in(node, advisory(two, seq=at), advisory(two, seq=at + 1, withdrawn=True)) == ["new", "new"]

    assert "pfn-advisories" not in get(node, two).headers


def test_an_advisory_by_a_stranger_is_refused(node: Node, two: Publisher) -> None:
    assert hand_in(node, advisory(two, new_key())) == ["refused"]

    assert "pfn-advisories" not in get(node, two).headers


def test_what_was_taken_down_is_gone_and_not_taken_in_again(node: Node, two: Publisher) -> None:
    release = {"sourceId": two.source, "plugin": HONEST_SLUG, "version": "1.1"}
    assert node.post("takedown", {**release, "reason": "malware"}).status == 200

    subscribe(node, two)

    assert get(node, two).status == 410
    assert node.artifact(digest(two.zip_of(HONEST_SLUG))).status in (404, 410)
    assert node.post("takedown", {**release, "withdrawn": True}).status == 200
    assert get(node, two).status == 200


def test_garbage_that_is_handed_in_is_refused_and_the_rest_is_taken(node: Node, two: Publisher) -> None:
    genuine = yank(two)
    flipped = genuine.raw[:-1] + bytes([genuine.raw[-1] ^ 1])

    got = node.post("notices", {"notices_v2": [b64(flipped), b64(b"\xff" * 40), b64(genuine.raw)]}, key="")

    assert [one["outcome"] for one in got.json["notices"]] == ["refused", "refused", "new"]
