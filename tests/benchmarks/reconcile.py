"""What it costs to reconcile two sets that differ a little: bytes, round trips, processor, beside the one-time build.

Two real reconciliation machines talk over the real encoded messages. Content is what R77 lists; envelope is all the
rest of a request and an answer. Without a difference the statuses are all; otherwise everything is counted until all
ids of the difference are known. Means over several differences, of which each side lacks about one half. The last row
is a node that has nothing: it is filled by three neighbours, and there the bodies count, of which each has the size
of an ordinary announcement.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from random import Random
from typing import TypeVar

from pfn_protocol.announcements import Kind
from pfn_protocol.answer_fields import encode_answer
from pfn_protocol.effects import BuildPrefix, DecodeCells, SendAnswer, SendRequest
from pfn_protocol.encoding import pack
from pfn_protocol.events import CellsDecoded, PrefixBuilt
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import digest_bytes, reconciliation_second_ms, sketch_cell_bytes, slots_pinned_max
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.request_fields import encode_request
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, build_cells
from pfn_protocol.sketch_walk import shortened
from pfn_protocol.slots import Entry

T = TypeVar("T")

ITEMS = 1_000_000
TRIALS = {0: 1, 1: 200, 10: 500, 100: 100, 1_000: 60, 10_000: 20, 100_000: 3}
# As many as fill a million slots.
AUTHORS = 200
BODY_BYTES = 500
MESH = "main"
NOW_MS = 1_800_000_000_000
# The budget of cells served is one of an hour, so trials are as far apart.
APART_MS = 3_600_000

Row = dict[str, float | int]


class FilledRegistry(Registry):
    """A set of bare ids: what an announcement says does not matter to its reconciliation.

    Every author has as many of them as the others, so that a difference that is spread evenly concerns all of them.
    """

    def hold(self, ids: list[bytes], total: SetDigest) -> None:
        self._by_id = dict.fromkeys(ids)  # type: ignore[assignment]
        self._by_short_id = {shortened(one): one for one in ids}
        self._total = total.copy()
        self._caps = {sha256(b"%d" % number).digest(): slots_pinned_max for number in range(AUTHORS)}
        self._shared_out: tuple[int, dict[bytes, list[bytes]]] = (-1, {})

    def put(self, ids: Iterable[bytes], *, came: bool) -> None:
        for one in ids:
            if came:
                self._by_id[one] = None  # type: ignore[assignment]
                self._by_short_id[shortened(one)] = one
                self._total.add(one)
            else:
                del self._by_id[one], self._by_short_id[shortened(one)]
                self._total.remove(one)
            self.changes.note(one, self.me, came=came)

    def summary(self, author: bytes, cap: int) -> tuple[int, bytes]:
        return self._total.count // AUTHORS, sha256(author + self._total.digest()).digest()

    def ids(self, author: bytes, cap: int) -> list[bytes]:
        if self._shared_out[0] != self.changes.position:
            authors = list(self._caps)
            shares: dict[bytes, list[bytes]] = {one: [] for one in authors}
            for one in self._by_id:
                shares[authors[int.from_bytes(one[-2:]) % AUTHORS]].append(one)
            self._shared_out = self.changes.position, {one: sorted(share) for one, share in shares.items()}
        return self._shared_out[1][author]

    def find(self, announcement_id: bytes) -> Entry | None:
        return Entry(announcement_id, self.me, Kind.VERSION, "", 0, 0, BODY_BYTES)


@dataclass
class Side:
    """One node: its machine, and what its engine would do."""

    key: PrivateKey
    registry: FilledRegistry
    outgoing: Outgoing = field(default_factory=Outgoing)
    cpu_seconds: float = 0.0
    build_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.secrets = LinkSecrets(Random(self.key.public))
        self.reconciliation = Reconciliation(
            self.registry, self.outgoing, self.secrets, lambda peer, ids: None, has_url=True
        )

    def timed(self, work: Callable[[], T]) -> T:
        started = time.process_time()
        result = work()
        self.cpu_seconds += time.process_time() - started
        return result

    def performed(self, now_ms: int) -> Iterator[SendRequest | SendAnswer]:
        """What is to be sent, after everything that is to be built was built."""
        effects = self.outgoing.drain()
        for effect in effects:
            if isinstance(effect, SendRequest | SendAnswer):
                yield effect
            elif isinstance(effect, BuildPrefix | DecodeCells):
                outcome = self._compute(effect)
                self.timed(partial(self.reconciliation.computed, outcome, now_ms))
                effects += self.outgoing.drain()

    def _compute(self, work: BuildPrefix | DecodeCells) -> PrefixBuilt | CellsDecoded:
        """What a thread does: building counts for itself, decoding as the processor's time of a round."""
        if isinstance(work, DecodeCells):
            return CellsDecoded(work.decode_id, self.timed(partial(work.cells.decode, work.salt)))
        started = time.perf_counter()
        cells = build_cells(work.ids, work.without, work.salt, work.length)
        self.build_seconds.append(time.perf_counter() - started)
        return PrefixBuilt(work.build_id, cells)


@dataclass
class Meter:
    """Bytes of the exchanges that were measured."""

    content: int = 0
    envelope: int = 0
    round_trips: int = 0
    cells: int = 0

    def count(self, raw: bytes, content: int) -> None:
        self.content += content
        self.envelope += len(raw) - content


def run(items: int = ITEMS) -> list[Row]:
    """Measure; one row for each number of differences, the last for a node that has nothing."""
    rng = Random(1)
    ids = [rng.randbytes(32) for _ in range(items)]
    total = SetDigest(ids)
    client, server = _linked(ids, total)
    rows = []
    now_ms = NOW_MS
    for differences, trials in TRIALS.items():
        meter = Meter()
        if differences == 0:
            _compare_statuses(client, server, meter)
        elif not client.build_seconds:
            _reconcile(client, server, rng, 3, Meter(), now_ms)  # has both prefixes built
        client.cpu_seconds = server.cpu_seconds = 0.0
        for _ in range(trials if differences else 0):
            now_ms += APART_MS
            _reconcile(client, server, rng, differences, meter, now_ms)
        rows.append(_row(items, differences, trials, meter, client, server))
    rows.append(_filled(items, server))
    return rows


def _row(items: int, differences: int, trials: int, meter: Meter, client: Side, server: Side) -> Row:
    cells = Cells(4_096)
    cells.add([shortened(one) for one in list(client.registry.unsorted_ids())[:2_000]], bytes(32))
    some = [shortened(one) for one in client.registry.unsorted_ids()[:500]]
    started = time.perf_counter()
    for one in some:
        cells.add([one], bytes(32))
    insert_us = (time.perf_counter() - started) / len(some) * 1e6
    return {
        "items": items,
        "differences": differences,
        "content_bytes": round(meter.content / trials),
        "envelope_bytes": round(meter.envelope / trials),
        "round_trips": round(meter.round_trips / trials, 2),
        "cells": round(meter.cells / trials),
        "client_cpu_ms": round(client.cpu_seconds / trials * 1e3, 2),
        "server_cpu_ms": round(server.cpu_seconds / trials * 1e3, 2),
        "build_ms": round(max(client.build_seconds + server.build_seconds, default=0.0) * 1e3),
        "insert_us": round(insert_us, 1),
        "memory_bytes": client.reconciliation.sketch_memory_bytes,
    }


def _linked(ids: list[bytes], total: SetDigest) -> tuple[Side, Side]:
    """Two nodes that admit the same authors and have agreed on a secret."""
    client, server = _side(1, ids, total), _side(2, ids, total)
    _link(client, server)
    return client, server


def _side(number: int, ids: list[bytes] | FilledRegistry, total: SetDigest | None = None) -> Side:
    """A node with a set of its own, or with another one's."""
    if isinstance(ids, FilledRegistry):
        return Side(PrivateKey(bytes([number]) * 32), ids)
    registry = FilledRegistry(PrivateKey(bytes([9]) * 32).public)
    registry.hold(ids, total or SetDigest())
    return Side(PrivateKey(bytes([number]) * 32), registry)


def _link(client: Side, server: Side) -> None:
    key, nonce = client.secrets.offer(server.key.public, is_linked=False)
    request = LinkRequest("", (), (), key, nonce)
    answer = LinkAnswer(True, 0, (), (), *server.secrets.answer(client.key.public, request))
    client.secrets.answered(server.key.public, request, answer)
    client.reconciliation.open(server.key.public, "http://server.test", (), NOW_MS)
    server.reconciliation.open(client.key.public, "http://client.test", (), NOW_MS)


def _compare_statuses(client: Side, server: Side, meter: Meter) -> None:
    """The exchange of a link on which nothing differs."""
    mine = client.reconciliation.status(server.key.public)
    assert mine == server.reconciliation.status(client.key.public)
    _sent(client, server, GossipRequest((), (), mine, 0), meter)
    _answered(server, client, GossipAnswer((), (), None), "gossip", meter)
    meter.round_trips += 1


def _reconcile(client: Side, server: Side, rng: Random, differences: int, meter: Meter, now_ms: int) -> None:
    """Let the sets differ, until the client knows every id of the difference."""
    client_lacks = [rng.randbytes(32) for _ in range((differences + 1) // 2)]
    server_lacks = [rng.randbytes(32) for _ in range(differences // 2)]
    server.registry.put(client_lacks, came=True)
    client.registry.put(server_lacks, came=True)
    peer, machine = server.key.public, client.reconciliation
    status = server.reconciliation.status(client.key.public)
    machine.be_eager()
    client.timed(lambda: machine.heard_status(peer, status, now_ms))
    now_ms += reconciliation_second_ms
    client.timed(lambda: machine.flush(now_ms))
    before = machine.differences_found(peer)
    while True:
        in_flight = _next_request(client, now_ms)
        if machine.differences_found(peer) - before == len(client_lacks):
            break
        if isinstance(in_flight.message, FetchRequest):  # pages go on from author to author; bodies are not counted
            came = [one for short in in_flight.message.ids if (one := server.registry.find_short(short)) is not None]
            client.registry.put(came, came=True)
            client.timed(partial(machine.fetched, in_flight, (), dict.fromkeys(came, True), now_ms))
            continue
        answer = _ask(client, server, in_flight.message, meter, now_ms)
        if isinstance(answer, CellsAnswer):
            client.timed(partial(machine.answered_cells, in_flight, answer, now_ms))
            meter.cells += len(answer.cells) // sketch_cell_bytes
        elif isinstance(answer, AuthorsAnswer):
            client.timed(partial(machine.answered_authors, in_flight, answer, now_ms))
        else:
            assert isinstance(answer, IdsAnswer), "nothing else is asked for before the bodies"
            client.timed(partial(machine.answered_ids, in_flight, answer, now_ms))
    machine.failed(in_flight, "", now_ms)
    server.registry.put(client_lacks, came=False)
    client.registry.put([*server_lacks, *(one for one in client_lacks if one in client.registry)], came=False)
    machine.heard_status(peer, server.reconciliation.status(client.key.public), now_ms)


def _filled(items: int, full: Side) -> Row:
    """Fill a node that has nothing, from three neighbours that have the same set."""
    client = _side(7, [], SetDigest())
    servers = {side.key.public: side for side in (_side(number, full.registry) for number in (8, 9, 10))}
    machine, meter = client.reconciliation, Meter()
    for peer, server in servers.items():
        _link(client, server)
        machine.heard_status(peer, server.reconciliation.status(client.key.public), NOW_MS)
    machine.flush(NOW_MS)
    while len(client.registry) < items:
        for request in list(client.performed(NOW_MS)):
            assert isinstance(request, SendRequest) and isinstance(request.message, SnapshotRequest)
            in_flight = client.outgoing.take(request.request_id, request.peer)
            assert in_flight is not None
            answer = _ask(client, servers[request.peer], request.message, meter, NOW_MS)
            assert isinstance(answer, SnapshotAnswer)
            came = [body[:digest_bytes] for body in answer.announcements]
            client.registry.put(came, came=True)
            delivered = dict.fromkeys(came, True)
            client.timed(partial(machine.answered_snapshot, in_flight, answer.after, delivered, NOW_MS))
    return _row(items, items, 1, meter, client, next(iter(servers.values())))


def _next_request(client: Side, now_ms: int) -> InFlight:
    (request,) = client.performed(now_ms)
    assert isinstance(request, SendRequest)
    in_flight = client.outgoing.take(request.request_id, request.peer)
    assert in_flight is not None
    return in_flight


def _ask(client: Side, server: Side, message: Request, meter: Meter, now_ms: int) -> Answer:
    """One exchange, over the bytes of real messages."""
    _sent(client, server, message, meter)
    meter.round_trips += 1
    machine, asker = server.reconciliation, client.key.public
    if isinstance(message, CellsRequest):
        server.timed(partial(machine.asked_for_cells, asker, 1, message, now_ms))
        (effect,) = server.performed(now_ms)
        assert isinstance(effect, SendAnswer)
        answer = effect.message
    else:
        assert isinstance(message, AuthorsRequest | IdsRequest | SnapshotRequest)
        answer, bodies = server.timed(partial(machine.asked, asker, message, ()))
        if isinstance(answer, SnapshotAnswer):
            raws = tuple(one + bytes(BODY_BYTES - digest_bytes) for one in bodies)
            answer = SnapshotAnswer(raws, answer.after)
    return _answered(server, client, answer, message.path, meter)


def _sent(sender: Side, receiver: Side, message: Request, meter: Meter) -> None:
    to = receiver.key.public
    raw = seal_request(sender.key, mesh=MESH, to=to, message=message, now_ms=NOW_MS, nonce16=bytes(16))
    assert open_request(raw, mesh=MESH, path=message.path, me=to, now_ms=NOW_MS).message == message
    meter.count(raw, len(pack(encode_request(message))))


def _answered(sender: Side, receiver: Side, message: Answer, path: str, meter: Meter) -> Answer:
    raw = seal_answer(sender.key, mesh=MESH, nonce=bytes(16), message=message)
    meter.count(raw, len(pack(encode_answer(message))))
    return open_answer(raw, mesh=MESH, nonce=bytes(16), sender_expected=sender.key.public, path=path)
