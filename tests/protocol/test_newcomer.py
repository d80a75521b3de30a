"""A newcomer that admits nobody but its neighbour at first: with the pins that it hears of, everything else follows.

Two whole machines, without loss or delay. Whom the newcomer admits changes while both sides tell each other their
authors; whichever of them is to begin a round, by its key, that may not end in a silent misunderstanding.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from pfn_node.simulation.world import MESH, START_MS
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.effects import BuildPrefix, DecodeCells, Effect, KeepAnnouncement, SendAnswer, SendRequest
from pfn_protocol.events import (
    AnswerReceived,
    CellsDecoded,
    Event,
    PeerFound,
    PeerUnreachable,
    PrefixBuilt,
    RequestReceived,
    TimePassed,
)
from pfn_protocol.identity import PrivateKey
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import Answer, FetchAnswer, GossipAnswer, SnapshotAnswer
from pfn_protocol.sketch import build_cells
from pfn_protocol.slots import entry_of
from tests.protocol.sets import node_statement, said

KEYS = (PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32))
PINNED = [PrivateKey(bytes([10 + number]) * 32) for number in range(4)]
FURTHER = [PrivateKey(bytes([50 + number]) * 32) for number in range(60)]
VERSIONS = 900
STEP_MS = 100


class TwoMachines:
    """The one has everything, the other joins it."""

    def __init__(self, full: PrivateKey, newcomer: PrivateKey) -> None:
        self.now_ms = START_MS
        self.full, self.newcomer = full.public, newcomer.public
        told = [version(number) for number in range(VERSIONS)]
        told += [
            said(key, node_statement(FURTHER[15 * place : 15 * place + 15]), START_MS - 1)
            for place, key in enumerate(PINNED)
        ]
        self._bodies = {one.id: one.raw for one in told}
        kept = [(entry_of(one), True) for one in told]
        pins = tuple(sorted(key.public for key in PINNED))
        self.machines = {
            self.full: self._machine(full, "http://full.test", Restored(kept, pins=pins)),
            self.newcomer: self._machine(newcomer, "http://new.test", Restored(pins=(self.full,))),
        }
        self._waiting: dict[int, tuple[bytes, int]] = {}
        self._due: deque[Callable[[], None]] = deque()
        self.asked: list[str] = []
        self._happen(self.newcomer, PeerFound(self.full, "http://full.test"))

    @staticmethod
    def _machine(key: PrivateKey, url: str, restored: Restored) -> Mesh:
        return Mesh(key, MESH, MeshOptions(url, "test", hosts_shared=True), Random(1), restored, START_MS)

    def run(self, seconds: int) -> None:
        for _ in range(seconds * 1000 // STEP_MS):
            self.now_ms += STEP_MS
            while self._due:
                self._due.popleft()()
            for node in self.machines:
                self._happen(node, TimePassed())

    def _happen(self, node: bytes, event: Event) -> None:
        for effect in self.machines[node].handle(event, self.now_ms):
            self._due.append(lambda effect=effect: self._do(node, effect))  # type: ignore[misc]

    def _do(self, node: bytes, effect: Effect) -> None:
        match effect:
            case KeepAnnouncement():
                self._bodies[effect.announcement.id] = effect.announcement.raw
            case SendRequest() if effect.peer in self.machines:
                token = len(self.asked)
                self._waiting[token] = (node, effect.request_id)
                self.asked.append(effect.message.path)
                self._happen(effect.peer, RequestReceived(token, node, effect.message))
            case SendRequest():
                self._happen(node, PeerUnreachable(effect.request_id, effect.peer, "nobody is there"))
            case SendAnswer():
                asker, request_id = self._waiting.pop(effect.token)
                self._happen(asker, AnswerReceived(request_id, node, self._with_bodies(effect)))
            case BuildPrefix():
                cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
                self._happen(node, PrefixBuilt(effect.build_id, cells))
            case DecodeCells():
                self._happen(node, CellsDecoded(effect.decode_id, effect.cells.decode(effect.salt)))

    def _with_bodies(self, effect: SendAnswer) -> Answer:
        found = tuple(self._bodies[one] for one in effect.bodies if one in self._bodies)
        if isinstance(effect.message, SnapshotAnswer | FetchAnswer):
            return replace(effect.message, announcements=found)
        return replace(effect.message, push=found) if isinstance(effect.message, GossipAnswer) else effect.message


def version(number: int) -> AcceptedAnnouncement:
    statement = VersionStatement(
        source_id="alice@plugins.example",
        plugin_id=f"plugin-{number}",
        version="1.0",
        type="plugin",
        name="Hello",
        description=None,
        tags=(),
        sha256=number.to_bytes(32, "big"),
        size=100,
        observed_at=START_MS // 1000,
        evidence=(),
    )
    return said(FURTHER[number % len(FURTHER)], statement, START_MS - 1_000 + number)


@pytest.mark.parametrize("keys", [KEYS, KEYS[::-1]], ids=["the full one's key first", "the newcomer's key first"])
def test_a_newcomer_is_filled_with_what_those_said_whom_only_others_pin(keys: tuple[PrivateKey, PrivateKey]) -> None:
    two = TwoMachines(*keys)

    two.run(60)

    full, newcomer = (two.machines[node].status() for node in (two.full, two.newcomer))
    assert full.announcements > VERSIONS
    assert (newcomer.announcements, newcomer.digest) == (full.announcements, full.digest)
