"""Joining: the nodes that the operator named, tried for ever, and whose key is whose.

A target is a URL, and the key that must answer there if the operator knows it (`URL#did:key:...`). Otherwise the key
first seen there is recorded with it, after its holder signed something fresh, and any other key at that URL is refused
from then on and shown to the operator. Targets are kept in the database, so a node finds back without its flags.

Naming a node with `--join` also pins it: the operator says whom this node believes. A pin that was made on first use
over plain http to another host is marked provisional, since anybody on the way could have answered. Joining through the
API only links, and what is no node of this mesh is not joined at all. A pin that the operator took back is never made
again by a flag: the store remembers that. A target that was taken back is forgotten, until a flag names it again.
"""

import ipaddress
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import structlog
import trio

from pfn_node.mesh.peer_client import AnotherKey, NoNode, PeerClient, PeerFailure
from pfn_node.mesh.views import JoinView, shown
from pfn_node.store import peers as peer_store
from pfn_node.store import successions
from pfn_node.store.database import Database, StoreTrouble
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_did_key
from pfn_protocol.names import parse_instance_url

log = structlog.get_logger()

RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 300.0
# The waits are spread by this share, so that the nodes of a site that lost power do not come back in step.
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class JoinTarget:
    """Where a node is to be found, and the key that must answer there, if it is known."""

    url: str
    node_id: bytes | None


class NotItself(PeerFailure):
    """The target is this node itself: there is nothing to try again."""


class AnotherMesh(PeerFailure):
    """The target is a node of another mesh."""


@dataclass(slots=True)
class _Try:
    """A target that is kept at, for as long as it has not answered."""

    pins: bool
    problem: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


def parse_join_target(text: str, *, allow_http: bool) -> JoinTarget:
    """`URL` or `URL#did:key:...`. Raises Refusal with what is wrong."""
    url, _, fragment = text.strip().partition("#")
    return JoinTarget(
        parse_instance_url(url, allow_http=allow_http).rstrip("/"), parse_did_key(fragment) if fragment else None
    )


def _as_now_called(target: JoinTarget, heirs: Mapping[bytes, bytes]) -> JoinTarget:
    """A flag may still name the key that a node had when it was written (R156)."""
    if target.node_id is None:
        return target
    return replace(target, node_id=heirs.get(target.node_id, target.node_id))


def is_provisional(url: str) -> bool:
    """Whether a key first seen at this URL could have been anybody's on the way: plain http to another host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not loopback


class Joining:
    """Keeps at the join targets until each has answered.

    `joined(node_id, url)` is called each time that one did, `pin(node_id, provisional)` if it is to be pinned as well.
    """

    def __init__(
        self,
        *,
        me: bytes,
        mesh: str,
        database: Database,
        client: PeerClient,
        allow_http: bool,
        joined: Callable[[bytes, str], Awaitable[None]],
        pin: Callable[[bytes, bool], Awaitable[None]],
        alert: Callable[[str], Awaitable[None]],
        rng: random.Random,
    ) -> None:
        self._me = me
        self._mesh = mesh
        self._database = database
        self._client = client
        self._allow_http = allow_http
        self._joined = joined
        self._pin = pin
        self._alert = alert
        self._rng = rng
        self._nursery: trio.Nursery | None = None
        self._trying: dict[str, _Try] = {}
        self._alerted: set[tuple[str, bytes]] = set()

    async def run(self, flags: Sequence[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Record what the flags say, then keep at every recorded target. Raises Refusal for an unusable flag."""
        heirs = await self._database.read(successions.successors)
        named = [_as_now_called(parse_join_target(flag, allow_http=self._allow_http), heirs) for flag in flags]
        for target in named:
            await self._record(target)
        recorded = await self._database.read(peer_store.join_targets)
        pinned_urls = {target.url: target for target in named}
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for url, node_id in recorded:
                self._keep_at(JoinTarget(url, node_id), pins=url in pinned_urls)
            task_status.started()
            await trio.sleep_forever()

    async def join(self, text_url: str, node_id: bytes | None) -> bytes | None:
        """Link to the node at this URL: its id, or None if it did not answer and is tried again in the background.

        Raises Refusal for a URL that cannot be a node's, for too many targets, for another key than expected, and for
        what is no node of this mesh; nothing of it is recorded then.
        """
        url = parse_instance_url(text_url, allow_http=self._allow_http).rstrip("/")
        recorded = dict(await self._database.read(peer_store.join_targets))
        if url not in recorded and len(recorded) >= peer_store.JOIN_TARGETS_MAX:
            raise Refusal(
                "R95", f"This node keeps at {peer_store.JOIN_TARGETS_MAX} nodes already; leave one of them first."
            )
        target = JoinTarget(url, node_id or recorded.get(url))
        problem = ""
        try:
            found = await self._attempt(target, pins=False)
        except (AnotherKey, AnotherMesh, NoNode, NotItself) as failure:
            raise Refusal("R95", f"Not joined: {failure.reason}.") from failure
        except PeerFailure as failure:
            log.info("join_unanswered", url=url, reason=failure.reason)
            found, problem = None, failure.reason
        former = await self._end_trying(url)  # it may expect the key that was there before
        if found is None:
            await self._record(target)
            self._keep_at(target, pins=former is not None and former.pins, problem=problem)
        return found

    async def leave(self, url: str | None, node_id: bytes | None) -> tuple[list[str], list[bytes]]:
        """Join a URL, or a node wherever it is, no more. The URLs, and the nodes that are not joined any more.

        Raises Refusal for what is no URL.
        """
        url = url and parse_instance_url(url, allow_http=True).rstrip("/")
        for target, known in await self._database.read(peer_store.join_targets):
            if url in (None, target) and node_id in (None, known):
                await self._end_trying(target)  # or it might record what is taken back here
        return await self._database.write(lambda db: peer_store.leave(db, url=url, node_id=node_id))

    async def _end_trying(self, url: str) -> _Try | None:
        at_it = self._trying.get(url)
        if at_it is not None:
            at_it.scope.cancel()
            await at_it.ended.wait()
        return at_it

    async def targets(self) -> list[JoinView]:
        """Everything that is joined, and why it is not where it has not answered yet."""
        return [
            JoinView(
                url, did_key(node_id) if node_id else None, self._trying[url].problem if url in self._trying else None
            )
            for url, node_id in await self._database.read(peer_store.join_targets)
        ]

    async def _record(self, target: JoinTarget) -> None:
        """Without a key, what is known of the URL stays."""
        known = dict(await self._database.read(peer_store.join_targets))
        if target.url not in known or target.node_id is not None:
            await self._database.write(lambda db: peer_store.add_join_target(db, target.url, target.node_id))

    def _keep_at(self, target: JoinTarget, *, pins: bool, problem: str = "") -> None:
        if self._nursery is not None and target.url not in self._trying:
            at_it = self._trying[target.url] = _Try(pins, problem or "it was not asked yet")
            self._nursery.start_soon(self._try_until_left, target, at_it)

    async def _try_until_left(self, target: JoinTarget, at_it: _Try) -> None:
        try:
            with at_it.scope:
                await self._try_for_ever(target, at_it)
        finally:
            del self._trying[target.url]
            at_it.ended.set()

    async def _try_for_ever(self, target: JoinTarget, at_it: _Try) -> None:
        wait = RETRY_SECONDS_MIN
        while True:
            try:
                await self._attempt(target, pins=at_it.pins)
                return
            except NotItself as failure:
                log.warning("join_is_self", url=target.url, reason=failure.reason)
                return
            except PeerFailure as failure:
                at_it.problem = failure.reason
                log.info("join_unanswered", url=target.url, reason=failure.reason)
            except StoreTrouble as error:
                log.error("store_failed", doing="join", url=target.url, reason=str(error))
            await trio.sleep(wait * self._rng.uniform(1 - JITTER, 1 + JITTER))
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    async def _attempt(self, target: JoinTarget, *, pins: bool) -> bytes:
        """Reach the target, have it prove its key, and record it. Raises PeerFailure."""
        info = await self._client.info(target.url)
        if info.mesh != self._mesh:
            raise AnotherMesh(f"{target.url} belongs to the mesh {info.mesh!r}, this node to {self._mesh!r}")
        if info.node_id == self._me:
            raise NotItself(f"{target.url} is this node itself")
        if target.node_id is not None and info.node_id != target.node_id:
            failure = AnotherKey(target.url, expected=target.node_id, found=info.node_id)
            await self.alert_of_impostor(failure)
            raise failure
        await self._client.prove(info.node_id, target.url)
        await self._database.write(lambda db: peer_store.add_join_target(db, target.url, info.node_id))
        if pins:
            await self._pin(info.node_id, target.node_id is None and is_provisional(target.url))
        await self._joined(info.node_id, target.url)
        log.info("node_joined", url=target.url, node=shown(info.node_id), pinned=pins)
        return info.node_id

    async def alert_of_impostor(self, failure: AnotherKey) -> None:
        """Tell the operator, once for each key that shows up."""
        mark = (failure.url, failure.found)
        if mark in self._alerted or len(self._alerted) >= peer_store.JOIN_TARGETS_MAX:
            return
        self._alerted.add(mark)
        await self._alert(f"Refused: {failure.reason}. If its operator made a new key, join it again with that key.")
