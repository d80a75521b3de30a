"""The two ways in which messages travel: sealed, as the bytes of the wire, or plain, as the objects that they say.

Sealed, each message is really encoded, signed, opened and checked, and repeats are known by their nonces. Plain, the
messages pass as they are, their bytes are only counted (gossip's always, others' while bytes are measured), and an
announcement is opened once for all nodes of the process: what follows from its bytes is the same everywhere. Everything
else is the same either way, so a run has the same course and the same figures.
"""

from typing import TYPE_CHECKING, Protocol

from pfn_node.simulation.message_bytes import MessageBytes
from pfn_node.simulation.world import MESH, InvariantBroken
from pfn_protocol import acceptance
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.limits import nonce_bytes, skew_ms_max
from pfn_protocol.message_fields import open_answer, seal_answer, seal_request
from pfn_protocol.messages import Answer, FetchAnswer, GossipAnswer, GossipRequest, Request, SnapshotAnswer

if TYPE_CHECKING:
    from pfn_node.simulation.actor import Node
    from pfn_protocol.effects import SendRequest
    from pfn_protocol.intake import Accept

# Announcements that are opened once only; beyond it the memory begins anew.
_VERIFIED_MAX = 1_000_000


class Exchange:
    """A request on its way, and its answer: exactly one outcome is reported to its sender."""

    # Most exchanges leave these as they are.
    answer_ids: tuple[bytes, ...] = ()
    heard = 0  # the incarnation of the receiver that heard it; what was restarted has forgotten what it heard
    watched = False  # whether its deadline stands in the agenda
    done = False
    origin = 0  # its number in the half of a large network that it came from (halves.py)
    answer: object = None  # what is carried back

    def __init__(self, number: int, sender: "Node", receiver: "Node | None", effect: "SendRequest") -> None:
        self.number = number  # its token, too
        self.sender = sender
        self.receiver = receiver
        self.effect = effect
        self.incarnation = sender.incarnation
        self.request: object = None  # what is carried there
        self.delay_ms = 0  # one way
        self.deadline_ms = 0

    @property
    def nonce(self) -> bytes:
        return self.number.to_bytes(nonce_bytes, "big")


class Carrying(Protocol):
    """A way to travel. What is carried is kept in the exchange; sizes are in bytes, envelope included."""

    @property
    def accept(self) -> "Accept":
        """How the nodes open announcements."""
        ...

    def send_request(self, exchange: Exchange, message: Request) -> int: ...

    def open_request(self, exchange: Exchange) -> Request:
        """The message, at the receiver's door. Raises Refusal."""
        ...

    def send_answer(self, exchange: Exchange, message: Answer) -> int: ...

    def open_answer(self, exchange: Exchange) -> Answer:
        """The answer, back at the sender. Raises Refusal."""
        ...


class Sealed:
    """As bytes."""

    def __init__(self) -> None:
        self.accept: Accept = acceptance.accept

    def send_request(self, exchange: Exchange, message: Request) -> int:
        sender, to = exchange.sender, exchange.effect.peer
        nonce, now_ms = exchange.nonce, sender.now_ms
        raw = seal_request(sender.key, mesh=MESH, to=to, message=message, now_ms=now_ms, nonce16=nonce)
        exchange.request = raw
        sender.network.trace.note_bytes(raw)
        return len(raw)

    def open_request(self, exchange: Exchange) -> Request:
        receiver, raw = exchange.receiver, exchange.request
        assert receiver is not None and isinstance(raw, bytes), "only what has a receiver is sent"
        return receiver.open(exchange.effect.message.path, raw).message

    def send_answer(self, exchange: Exchange, message: Answer) -> int:
        receiver = exchange.receiver
        assert receiver is not None, "only a receiver answers"
        raw = seal_answer(receiver.key, mesh=MESH, nonce=exchange.nonce, message=message)
        exchange.answer = raw
        receiver.network.trace.note_bytes(raw)
        return len(raw)

    def open_answer(self, exchange: Exchange) -> Answer:
        raw, effect = exchange.answer, exchange.effect
        assert isinstance(raw, bytes), "an answer was sent"
        path = effect.message.path
        return open_answer(raw, mesh=MESH, nonce=exchange.nonce, sender_expected=effect.peer, path=path)


class Plain:
    """As objects."""

    def __init__(self) -> None:
        sizes = MessageBytes()
        self._request_bytes = sizes.of_request
        self._answer_bytes = sizes.of_answer
        self._verified: dict[bytes, AcceptedAnnouncement] = {}

    def accept(self, raw: bytes, *, mesh: str, now_ms: int) -> AcceptedAnnouncement:
        """`acceptance.accept`, with its longer part done once."""
        announcement = self._verified.get(raw)
        if announcement is None:
            announcement = acceptance.verified(raw, mesh)
            if len(self._verified) >= _VERIFIED_MAX:
                self._verified.clear()
            self._verified[raw] = announcement
        acceptance.check_time(announcement, now_ms)
        return announcement

    def send_request(self, exchange: Exchange, message: Request) -> int:
        exchange.request = message
        is_counted = type(message) is GossipRequest or exchange.sender.network.measures.is_open
        return self._request_bytes(message) if is_counted else 0

    def open_request(self, exchange: Exchange) -> Request:
        if exchange.receiver is not None and exchange.heard == exchange.receiver.incarnation:
            raise Refusal("R74", "This request was here before.", Severity.HARMLESS)
        if exchange.receiver is None or exchange.receiver.id != exchange.effect.peer:
            raise Refusal("R72", "the request is signed for another node than this one")
        ahead_ms = exchange.sender.clock_ahead_ms - exchange.receiver.clock_ahead_ms
        if abs(ahead_ms) > skew_ms_max:
            raise Refusal("R73", "the clocks differ", Severity.HARMLESS)
        return exchange.request  # type: ignore[return-value]

    def send_answer(self, exchange: Exchange, message: Answer) -> int:
        exchange.answer = message
        is_counted = type(message) is GossipAnswer or exchange.sender.network.measures.is_open
        return self._answer_bytes(message) if is_counted else 0

    def open_answer(self, exchange: Exchange) -> Answer:
        if exchange.receiver is None or exchange.receiver.id != exchange.effect.peer:
            raise Refusal("R76", "the answer is signed by another node than the one that was asked", Severity.HOSTILE)
        return exchange.answer  # type: ignore[return-value]


def with_bodies(message: Request, bodies: tuple[bytes, ...]) -> Request:
    """The request with the announcements that it shall carry."""
    assert type(message) is GossipRequest, "only gossip pushes bodies in a request"
    return GossipRequest(bodies, message.have, message.status, message.wait_seconds, message.offer, message.graft)


def answer_with_bodies(message: Answer, bodies: tuple[bytes, ...]) -> Answer:
    """The answer with the announcements that it shall carry."""
    if type(message) is GossipAnswer:
        return GossipAnswer(bodies, message.want, message.status, message.prune)
    if type(message) is FetchAnswer:
        return FetchAnswer(bodies, message.missing)
    if type(message) is SnapshotAnswer:
        return SnapshotAnswer(bodies, message.after)
    raise InvariantBroken("no other answer carries bodies")
