"""Clients that change a node as fast as it lets them, each on its own connections, until it is killed."""

import json
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import time
from typing import Any

from pfn_protocol.identity import did_key, public_key_pem
from pfn_protocol.message_fields import open_answer
from pfn_protocol.messages import (
    Answer,
    GossipRequest,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_release
from tests.conformance.hostile_peer import MESH, ListeningPeer, version_statement
from tests.conformance.hostile_publisher import HONEST_SLUG, Listing, Publisher, digest, new_key, plugin_zip
from tests.conformance.node_process import b64
from tests.conformance.wire import Answer as HttpAnswer
from tests.durability.killed_node import KilledNode
from tests.durability.ledger import Ledger

HOOKS_MAX = 20
SOURCES_MAX = 20
PINS_MAX = 20
LISTED_MAX = 5
# What a call raises when the node dies under it: nothing came, or not all of it.
DIED = (OSError, AssertionError, ValueError, IndexError)


class Unexpected(Exception):
    """The node answered what a node that is well does not answer."""

    def __init__(self, sentence: str, got: HttpAnswer | None = None) -> None:
        super().__init__(sentence)
        self.got = got


@dataclass
class Observer(ListeningPeer):
    """A neighbour that remembers whatever the node tells, and gives nothing of it back."""

    told: list[bytes] = field(default_factory=list)  # raw announcements

    def answer_to(self, message: Request) -> Answer:
        if isinstance(message, GossipRequest):
            self.told += message.push
        if isinstance(message, SnapshotRequest):
            return SnapshotAnswer((), b"")
        return super().answer_to(message)


def taken(got: HttpAnswer) -> Any:
    """The body of a 200. Raises Unexpected."""
    if got.status != 200:
        raise Unexpected(f"{got.status} {got.body[:300]!r}", got)
    return got.json


@dataclass
class Writers:
    """All of them, over one ledger. Names are counted, so that no two of them ever ask for the same thing."""

    node: KilledNode
    publisher: Publisher
    observer: Observer
    ledger: Ledger
    rng: Random
    count: int = 0
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    ids: dict[str, str] = field(default_factory=dict)  # of webhooks and keys, by what they are described as
    _listing: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def prepare(self) -> None:
        """The first start: a publisher that is verified, and a neighbour that is pinned."""
        pem = public_key_pem(self.publisher.key.public)
        body = {"instance_url": self.publisher.url, "username": self.publisher.author, "public_key": pem}
        self.ledger.attempt(
            f"source {self.publisher.source}", "there", lambda: taken(self.node.post("add-source", body))
        )
        assert taken(self.node.post("verify-source", {"sourceId": self.publisher.source}))["success"]
        self.peer = self.observer.speaks_to(self.node)
        self.peer.known()
        self.ledger.attempt(f"peer {self.peer.id}", "pinned", lambda: None)

    def mirror_the_honest_one(self) -> None:
        """What the publisher offers from the beginning is kept, so that there is something to read."""
        self._mirrored({"sourceId": self.publisher.source, "filters": {"slugs": [HONEST_SLUG]}})

    def start(self) -> None:
        """Let them write."""
        self.over.clear()
        self.peer.linked()
        loops = (self.sources, self.keys_and_webhooks, self.words, self.releases, self.mirrors, self.announcements)
        self._threads = [
            threading.Thread(target=self._until_over, args=(loop, Random(self.rng.getrandbits(64)))) for loop in loops
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for all of them, who find that the node is dead."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _until_over(self, loop: Callable[[Random], None], rng: Random) -> None:
        try:
            with suppress(*DIED):
                while not self.over.is_set():
                    loop(rng)
                return
            if not self.over.wait(2.0):
                self.faults.append(f"the node stopped answering to {loop.__name__} before it was killed")
        except Unexpected as error:
            self.faults.append(f"{loop.__name__}: {error}")

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _post(self, call: str, body: object, key: str | None = None) -> Any:
        return taken(self.node.post(call, body, key=key))

    # --- The loops: a few changes each time. -------------------------------------------------------------------------

    def sources(self, rng: Random) -> None:
        """Publishers that nobody can reach come and go; bare slugs, and pins of strangers."""
        self.add_source(rng)
        self.own_slug(rng)
        self.pin(rng)
        if len(self.ledger.names("source")) > SOURCES_MAX:
            self.remove_source(rng)
        if len(self.ledger.names("peer")) > PINS_MAX:
            self.unpin(rng)

    def keys_and_webhooks(self, rng: Random) -> None:
        """Make keys and revoke some; add webhooks and remove them."""
        self.make_key(rng)
        if rng.random() < 0.5:
            self.revoke_key(rng)
        self.add_webhook(rng)
        if len(self.ledger.names("webhook")) > HOOKS_MAX:
            self.remove_webhook(rng)

    def words(self, rng: Random) -> None:
        """Say yanks and advisories as this node, and take some back."""
        self.yank(rng)
        self.advise(rng)
        if rng.random() < 0.3:
            self.take_back(rng)

    # --- The changes: each asks for one thing that nobody asked for before, or takes back one that is there. ---------

    def add_source(self, rng: Random) -> None:
        number = self._next()
        host = f"127.0.0.{2 + number % 250}:{1 + number // 250}"
        body = {"instance_url": f"http://{host}", "username": "nobody", "public_key": public_key_pem(new_key().public)}
        self.ledger.attempt(f"source nobody@{host}", "there", lambda: self._post("add-source", body))

    def remove_source(self, rng: Random) -> None:
        name = self._some("source", rng)
        self.ledger.attempt(name, None, lambda: self._post("remove-source", {"sourceId": name.split()[1]}))

    def own_slug(self, rng: Random) -> None:
        slug = f"bare-{self._next()}"
        body = {"slug": slug, "sourceId": self.publisher.source}
        self.ledger.attempt(f"slug {slug}", self.publisher.source, lambda: self._post("slugs", body))

    def pin(self, rng: Random) -> None:
        stranger = did_key(new_key().public)
        body = {"action": "pin", "node_id": stranger}
        self.ledger.attempt(f"peer {stranger}", "pinned", lambda: self._post("peers", body))

    def unpin(self, rng: Random) -> None:
        name = self._some("peer", rng)
        body = {"action": "unpin", "node_id": name.split()[1]}
        self.ledger.attempt(name, None, lambda: self._post("peers", body))

    def make_key(self, rng: Random) -> None:
        name = f"key {self._next()}"

        def make() -> None:
            made = self._post("create-admin-key", {"description": name}, key=self.node.master_key)
            self.ids[name] = made["id"]

        self.ledger.attempt(name, "valid", make)

    def revoke_key(self, rng: Random) -> None:
        name = self._some("key", rng, "valid")
        self.ledger.attempt(name, "revoked", lambda: self._post("revoke-key", {"id": self.ids[name]}))

    def add_webhook(self, rng: Random) -> None:
        name = f"webhook {self._next()}"
        body = {"url": f"{self.publisher.url}/hook", "description": name, "events": ["source.changed"]}

        def add() -> None:
            self.ids[name] = self._post("webhooks", body)["id"]

        self.ledger.attempt(name, "there", add)

    def remove_webhook(self, rng: Random) -> None:
        name = self._some("webhook", rng)
        self.ledger.attempt(name, None, lambda: self._post("remove-webhook", {"id": self.ids[name]}))

    def yank(self, rng: Random) -> None:
        slug = f"said-{self._next()}"
        self.ledger.attempt(f"yank {slug} 1.0", "told", lambda: self._post("yank", self._about(slug)))

    def take_back(self, rng: Random) -> None:
        name = self._some("yank", rng, "told")
        body = self._about(name.split()[1]) | {"withdrawn": True}
        self.ledger.attempt(name, "withdrawn", lambda: self._post("yank", body))

    def advise(self, rng: Random) -> None:
        number = self._next()
        body = {
            "sourceId": self.publisher.source,
            "plugin": f"said-{number}",
            "advisory_id": f"PFN-{number}",
            "severity": "low",
            "summary": "weak",
            "ranges": [{"from": "", "until": "2"}],
        }
        self.ledger.attempt(f"advisory said-{number} PFN-{number}", "told", lambda: self._post("advisories", body))

    def take_down(self, rng: Random) -> None:
        slug = f"said-{self._next()}"
        self.ledger.attempt(f"yank {slug} 1.0", "told", lambda: self._post("takedown", self._about(slug)))

    def releases(self, rng: Random) -> None:
        """Hand in a release that the publisher signed offline."""
        slug = f"signed-{self._next()}"
        data = plugin_zip(slug, "1.0", str(rng.random()))
        self._list(slug, data)
        statement = ReleaseStatement(
            origin=self.publisher.url,
            author=self.publisher.author,
            slug=slug,
            version="1.0",
            sha256=bytes.fromhex(digest(data)),
            size=len(data),
            epoch=0,
            seq=int(time() * 1000),
            metadata_sha256=bytes.fromhex(digest(metadata_message(slug, slug, "1.0", "A tool."))),
        )
        body = {"release_v2": b64(sign_release(self.publisher.key, statement).raw)}
        self.ledger.attempt(f"release {slug}", digest(data), lambda: self._post("releases", body))

    def mirrors(self, rng: Random) -> None:
        """Have the node mirror another plugin, which it keeps."""
        slug = f"kept-{self._next()}"
        data = plugin_zip(slug, "1.0", rng.randbytes(rng.choice((100, 100_000))).hex())
        self._list(slug, data)
        body = {"sourceId": self.publisher.source, "filters": {"slugs": [slug]}}
        self.ledger.attempt(f"artifact {digest(data)}", "kept", lambda: self._mirrored(body))

    def verify(self, rng: Random) -> None:
        body = {"sourceId": self.publisher.source}
        self.ledger.attempt(f"source {self.publisher.source}", "there", lambda: self._post("verify-source", body))

    def announcements(self, rng: Random) -> None:
        """Push an announcement as a neighbour does."""
        source = f"someone@127.0.0.1:{rng.randrange(1, 60)}"
        slug = f"heard-{self._next()}"
        one = self.peer.announce(version_statement(source, slug, rng.randbytes(32), 100))
        self.ledger.attempt(f"heard {one.id.hex()}", "kept", lambda: self._pushed(one.raw))

    # --- What they have in common. -----------------------------------------------------------------------------------

    def _about(self, slug: str) -> dict[str, Any]:
        return {"sourceId": self.publisher.source, "plugin": slug, "version": "1.0", "reason": "it breaks"}

    def _some(self, kind: str, rng: Random, value: str | None = None) -> str:
        """The name of something that is there, and that nothing else depends on."""
        needed = (f"peer {self.peer.id}", f"source {self.publisher.source}")
        names = [name for name in self.ledger.names(kind, value) if name not in needed]
        if not names:
            raise Unexpected(f"there is no {kind} to take back")
        return rng.choice(names)

    def _list(self, slug: str, data: bytes) -> None:
        """Let the publisher offer it, beside the last few."""
        with self._listing:
            honest, *others = self.publisher.listings
            self.publisher.listings = [honest, *others[-LISTED_MAX:], Listing(slug, zip=data)]

    def _mirrored(self, body: dict[str, Any]) -> None:
        got = self.node.post("subscribe", body)
        result = taken(got)["syncResult"]
        if result["running"]:
            raise OSError("not yet")
        if result["mirroredCount"] != 1:
            raise Unexpected(f"subscribe: {json.dumps(result)}", got)

    def _pushed(self, raw: bytes) -> None:
        nonce = secrets.token_bytes(16)
        got = self.peer.post(GossipRequest.path, self.peer.sealed(GossipRequest((raw,), (), None, 0), nonce16=nonce))
        if got.status != 200:
            raise Unexpected(f"push: {got.status} {got.body[:300]!r}", got)
        said = open_answer(got.body, mesh=MESH, nonce=nonce, sender_expected=self.peer.to, path=GossipRequest.path)
        if isinstance(said, RefusedAnswer):
            raise Unexpected(f"push: {said}")
