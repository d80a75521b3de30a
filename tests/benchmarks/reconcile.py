"""What it costs to reconcile two sets that differ a little: bytes, round trips, processor, beside the one-time build.

Two real reconciliation machines talk over the real encoded messages. Content is what R77 lists; envelope is all the
rest of a request and an answer. Without a difference the statuses are all; otherwise the rounds of cells are counted,
until all ids of the difference are known. Means over several differences, of which each side lacks about one half.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from pfn_protocol.answer_fields import encode_answer
from pfn_protocol.effects import BuildPrefix, SendAnswer, SendRequest
from pfn_protocol.encoding import pack
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import reconciliation_second_ms
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import Answer, CellsRequest, GossipAnswer, GossipRequest, LinkAnswer, LinkRequest, Request
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.request_fields import encode_request
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, build_cells
from pfn_protocol.sketch_walk import shortened

ITEMS = 1_000_000
TRIALS = {0: 1, 1: 50, 10: 100, 100: 100, 1_000: 60, 10_000: 20}
MESH = "main"
NOW_MS = 1_800_000_000_000
# The budget of cells served is one of an hour, so trials are as far apart.
APART_MS = 3_600_000

Row = dict[str, float | int]


class FilledRegistry(Registry):
    """A set of bare ids: what an announcement says does not matter to its reconciliation."""

    def fill(self, ids: list[bytes], total: SetDigest) -> None:
        self._by_id = dict.fromkeys(ids)  # type: ignore[assignment]
        self._by_short_id = {shortened(one): one for one in ids}
        self._total = total.copy()

    def put(self, ids: list[bytes], *, came: bool) -> None:
        for one in ids:
            if came:
                self._by_id[one] = None  # type: ignore[assignment]
                self._by_short_id[shortened(one)] = one
                self._total.add(one)
            else:
                del self._by_id[one], self._by_short_id[shortened(one)]
                self._total.remove(one)
            self.changes.note(one, self.me, came=came)


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

    def timed(self, work: Callable[[], None]) -> None:
        started = time.perf_counter()
        work()
        self.cpu_seconds += time.perf_counter() - started

    def performed(self, now_ms: int) -> Iterator[SendRequest | SendAnswer]:
        """What is to be sent, after everything that is to be built was built."""
        effects = self.outgoing.drain()
        for effect in effects:
            if isinstance(effect, BuildPrefix):
                started = time.perf_counter()
                cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
                self.build_seconds.append(time.perf_counter() - started)
                self.timed(lambda build=effect, made=cells: self.reconciliation.built(build.build_id, made, now_ms))  # type: ignore[misc]
                effects += self.outgoing.drain()
            elif isinstance(effect, SendRequest | SendAnswer):
                yield effect


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
    """Measure; one row for each number of differences."""
    rng = Random(1)
    ids = [rng.randbytes(32) for _ in range(items)]
    total = SetDigest(ids)
    client, server = _linked(ids, total)
    rows = []
    now_ms = NOW_MS
    for differences, trials in TRIALS.items():
        meter = Meter()
        client.cpu_seconds = server.cpu_seconds = 0.0
        if differences == 0:
            _compare_statuses(client, server, meter)
        else:
            if not client.build_seconds:
                _reconcile(client, server, rng, 3, Meter(), now_ms)  # has both prefixes built
            client.cpu_seconds = server.cpu_seconds = 0.0
            for _ in range(trials):
                now_ms += APART_MS
                _reconcile(client, server, rng, differences, meter, now_ms)
        rows.append(_row(items, differences, trials, meter, client, server))
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
    """Two nodes that admit the same author and have agreed on a secret."""
    sides = []
    author = PrivateKey(bytes([9]) * 32).public
    for number in (1, 2):
        registry = FilledRegistry(author)
        registry.fill(ids, total)
        sides.append(Side(PrivateKey(bytes([number]) * 32), registry))
    client, server = sides
    key, nonce = client.secrets.offer(server.key.public, is_linked=False)
    request = LinkRequest("", (), (), key, nonce)
    answer = LinkAnswer(True, 0, (), (), *server.secrets.answer(client.key.public, request))
    client.secrets.answered(server.key.public, request, answer)
    client.reconciliation.open(server.key.public, "http://server.test", (), NOW_MS)
    server.reconciliation.open(client.key.public, "http://client.test", (), NOW_MS)
    return client, server


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
        (request,) = client.performed(now_ms)
        assert isinstance(request, SendRequest)
        in_flight = client.outgoing.take(request.request_id, peer)
        assert in_flight is not None
        if not isinstance(request.message, CellsRequest):
            break
        _sent(client, server, request.message, meter)
        message = request.message
        server.timed(lambda asked=message: server.reconciliation.asked_for_cells(client.key.public, 1, asked, now_ms))  # type: ignore[misc]
        (answer,) = server.performed(now_ms)
        assert isinstance(answer, SendAnswer)
        received = _answered(server, client, answer.message, "cells", meter)
        client.timed(lambda flight=in_flight, came=received: machine.answered_cells(flight, came, now_ms))  # type: ignore[misc]
        meter.round_trips += 1
        meter.cells += message.count
    assert machine.differences_found(peer) - before == len(client_lacks), "not all of the difference was found"
    machine.failed(in_flight, "", now_ms)
    server.registry.put(client_lacks, came=False)
    client.registry.put(server_lacks, came=False)
    machine.heard_status(peer, server.reconciliation.status(client.key.public), now_ms)


def _sent(sender: Side, receiver: Side, message: Request, meter: Meter) -> None:
    to = receiver.key.public
    raw = seal_request(sender.key, mesh=MESH, to=to, message=message, now_ms=NOW_MS, nonce16=bytes(16))
    assert open_request(raw, mesh=MESH, path=message.path, me=to, now_ms=NOW_MS).message == message
    meter.count(raw, len(pack(encode_request(message))))


def _answered(sender: Side, receiver: Side, message: Answer, path: str, meter: Meter) -> Answer:
    raw = seal_answer(sender.key, mesh=MESH, nonce=bytes(16), message=message)
    meter.count(raw, len(pack(encode_answer(message))))
    return open_answer(raw, mesh=MESH, nonce=bytes(16), sender_expected=sender.key.public, path=path)
