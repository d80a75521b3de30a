"""What was settled stays settled when the node is killed and comes back, and nobody wins by waiting for that."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pfn_protocol.acceptance import verified
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.messages import RefusedAnswer
from tests.conformance.conftest import StartNode
from tests.conformance.hostile_peer import MESH, Peer, mirror_statement, now_ms, version_statement
from tests.conformance.hostile_publisher import HONEST_SLUG, Listing, Publisher, digest, plugin_zip, subscribe
from tests.conformance.node_process import COMMAND, Node

SOURCE = "someone@127.0.0.1:9"


@dataclass
class Before:
    """What happened before the node was killed."""

    node: Node
    id: bytes
    publisher: Publisher
    zip: bytes
    friend: Peer
    blocked: Peer
    revoked: str
    newer: bytes  # an announcement of the friend's
    older: bytes  # which never arrived in time
    version: bytes


@pytest.fixture(scope="module")
def before(start_node: StartNode) -> Iterator[Before]:
    """A node that was killed in the middle of its life, and started again."""
    node = start_node()
    with Publisher() as publisher:
        assert subscribe(node, publisher)["mirroredCount"] == 1
        blocked = Peer(node).linked()
        node.post("peers", {"action": "block", "node_id": blocked.id})
        friend = Peer(node).linked()
        node.post("peers", {"action": "pin", "node_id": friend.id})
        revoked = node.make_key()
        node.post("revoke-key", {"id": revoked["id"]})
        older = friend.announce(mirror_statement(SOURCE), seq=now_ms() - 60_000)
        newer = friend.announce(mirror_statement(SOURCE))
        version = friend.announce(version_statement(SOURCE, "tool", secrets.token_bytes(32), 100))
        assert not isinstance(friend.push(newer.raw, version.raw), RefusedAnswer)
        known = node.id
        node.stop(signal.SIGKILL)
        node.start()
        friend.linked()
        zip_ = publisher.zip_of(HONEST_SLUG)
        yield Before(node, known, publisher, zip_, friend, blocked, revoked["key"], newer.raw, older.raw, version.raw)


def test_the_node_is_who_it_was(before: Before) -> None:
    assert before.node.id == before.id


def test_what_was_answered_as_mirrored_is_served(before: Before) -> None:
    served = before.node.download(before.publisher.source, HONEST_SLUG)

    assert (served.status, served.body) == (200, before.zip)


def test_a_rewritten_version_is_no_better_for_a_restart(before: Before) -> None:
    evil = plugin_zip(HONEST_SLUG, "1.0", "evil")
    before.publisher.listings = [Listing(HONEST_SLUG, zip=evil)]
    subscribe(before.node, before.publisher)

    assert before.node.download(before.publisher.source, HONEST_SLUG).body == before.zip
    assert before.node.artifact(digest(evil)).status == 404


def test_an_older_announcement_is_no_better_for_a_restart(before: Before) -> None:
    before.friend.push(before.older)

    reader = Peer(before.node).linked()
    ids = [id_of(raw) for raw in (before.newer, before.older)]
    assert reader.gets(*ids) == [True, False]


def test_two_stories_convict_their_author_also_with_a_restart_between_them(before: Before) -> None:
    changed = before.friend.announce(version_statement(SOURCE, "tool", secrets.token_bytes(32), 100))
    before.friend.push(changed.raw)

    reader = Peer(before.node).linked()
    proof = conviction_id(before.friend.key.public)
    assert reader.gets(id_of(before.version), changed.id, proof) == [False, False, True]


def id_of(raw: bytes) -> bytes:
    return verified(raw, MESH).id


def test_a_revoked_key_is_no_better_for_a_restart(before: Before) -> None:
    assert before.node.get("keys", key=before.revoked).status == 401
    assert before.node.get("keys", key=before.node.key).status == 200


def test_a_blocked_node_is_no_better_for_a_restart(before: Before) -> None:
    said = before.blocked.link()

    assert isinstance(said, RefusedAnswer) and said.rule == "R86"


def test_a_link_does_not_outlive_the_process(before: Before) -> None:
    """Nothing is answered to a neighbour that only says that it was one."""
    stranger = Peer(before.node, before.blocked.key)

    assert isinstance(stranger.push(), RefusedAnswer)


def start(folder: Path, **settings: str) -> "subprocess.CompletedProcess[bytes]":
    """A node that should not start."""
    command = [*COMMAND, "serve", "--data", str(folder), "--port", "0", "--allow-private-networks"]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PFN_")}
    return subprocess.run(command, env=kept | settings, capture_output=True, timeout=60, check=False)


def test_a_second_process_on_the_same_data_does_not_start(before: Before) -> None:
    """Two nodes with one key would contradict each other."""
    second = start(before.node.folder, PFN_MASTER_KEY=before.node.master_key)

    assert second.returncode == 1 and second.stdout == b""
    assert before.node.is_well()


def test_a_node_with_a_weak_master_key_does_not_start(tmp_path: Path) -> None:
    weak = start(tmp_path / "data", PFN_MASTER_KEY="changeme")

    assert weak.returncode == 2 and weak.stdout == b""
    assert b"changeme" not in weak.stderr


def test_a_node_without_a_master_key_makes_no_keys(start_node: StartNode) -> None:
    node = start_node(makes_keys=False)

    for key in ("", "None", "undefined", "m" * 40):
        assert node.post("create-admin-key", {}, key=key).status == 403
