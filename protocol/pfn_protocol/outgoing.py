"""What the machine has decided while it handles one event: the effects, in order, and which requests are under way.

Keeping comes before telling: whoever adds a message has added what it tells of before.
"""

from dataclasses import dataclass

from pfn_protocol.effects import Effect, SendRequest
from pfn_protocol.messages import Request


@dataclass(slots=True)
class InFlight:
    """A request whose answer has not come yet."""

    request_id: int
    peer: bytes
    url: str
    message: Request
    bodies: tuple[bytes, ...]
    sent_ms: int


class Outgoing:
    """Collects effects; numbers requests."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._in_flight: dict[int, InFlight] = {}
        self._last_request_id = 0

    def add(self, effect: Effect) -> None:
        """Decide one thing more."""
        self._effects.append(effect)

    def request(
        self,
        peer: bytes,
        url: str,
        message: Request,
        now_ms: int,
        bodies: tuple[bytes, ...] = (),
        patience_ms: int | None = None,
    ) -> int:
        """Send a request, and remember it until `take` is called with the number that is returned."""
        self._last_request_id += 1
        request_id = self._last_request_id
        self._in_flight[request_id] = InFlight(request_id, peer, url, message, bodies, now_ms)
        self._effects.append(SendRequest(request_id, peer, url, message, bodies, patience_ms))
        return request_id

    def take(self, request_id: int, peer: bytes) -> InFlight | None:
        """The request that this is the outcome of; None if there is none, or none to this peer."""
        known = self._in_flight.pop(request_id, None)
        if known is not None and known.peer != peer:
            self._in_flight[request_id] = known
            return None
        return known

    @property
    def last_request_id(self) -> int:
        """The number of the request that was made last."""
        return self._last_request_id

    def drain(self) -> list[Effect]:
        """Everything that was decided since the last call."""
        effects, self._effects = self._effects, []
        return effects


def earliest(*moments: int | None) -> int | None:
    """The earliest of several moments, of which any may be missing."""
    first: int | None = None
    for moment in moments:
        if moment is not None and (first is None or moment < first):
            first = moment
    return first
