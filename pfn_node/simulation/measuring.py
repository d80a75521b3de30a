"""What is counted while a network runs: copies, hops, rounds of reconciliation, bytes.

Measured is what `watch` named, from then until `close`. The terms, so that figures mean one thing:

- A *copy* is a body of a watched announcement that reached a living node which did not make it, by whatever message.
- A *hop* is one way from a node that had it to a node that took it in.
- *Pushed* is a copy that came in a gossip message, from a node that itself got it so: reconciliation had no part in it.
- *Control bytes* are everything on the wire but the announcements themselves: envelopes, ids, statuses, link requests.
- A *round* is one look of one node at one neighbour's set, from its first question to the answer after which it asks
  nothing more. Rounds that broke off do not count.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pfn_protocol.effects import SendRequest
from pfn_protocol.messages import AuthorsRequest, FetchRequest, IdsRequest

if TYPE_CHECKING:
    from pfn_node.simulation.actor import Node

_ROUND_REQUESTS = (AuthorsRequest, IdsRequest, FetchRequest)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an announcement first came to a node."""

    at_ms: int
    hops: int
    pushed: bool


@dataclass(slots=True)
class _OpenRound:
    began_ms: int
    request_id: int  # the last question of it


class Measures:
    """The counts of one network."""

    def __init__(self) -> None:
        self.made_ms: dict[bytes, int] = {}  # watched announcement -> when it was made
        self.arrivals: dict[tuple[bytes, str], Arrival] = {}  # announcement, node
        self.copies = 0
        self.control_bytes = 0
        self.rounds: dict[str, list[tuple[int, int]]] = {}  # node -> when each round began and ended
        self._open_rounds: dict[tuple[str, bytes], _OpenRound] = {}
        self._origins: dict[bytes, str] = {}
        self._open = False

    def open(self) -> None:
        """Count from now on."""
        self._open = True

    def close(self) -> None:
        """Count no longer."""
        self._open = False

    def watch(self, announcement_id: bytes, origin: "Node", now_ms: int) -> None:
        """This node has just made this announcement."""
        self.made_ms[announcement_id] = now_ms
        self._origins[announcement_id] = origin.name
        self.arrivals[announcement_id, origin.name] = Arrival(now_ms, 0, pushed=True)

    def carried(self, sender: "Node", receiver: "Node", ids: tuple[bytes, ...], now_ms: int, *, pushed: bool) -> None:
        """Bodies reached a node, which has dealt with them."""
        for announcement_id in ids if self._open else ():
            origin = self._origins.get(announcement_id)
            if origin is None or origin == receiver.name:
                continue
            self.copies += 1
            source = self.arrivals.get((announcement_id, sender.name))
            key = (announcement_id, receiver.name)
            if source is not None and key not in self.arrivals and receiver.holds(announcement_id):
                self.arrivals[key] = Arrival(now_ms, source.hops + 1, pushed and source.pushed)

    def sent(self, size: int, bodies: tuple[bytes, ...]) -> None:
        """A message of this size, with these bodies in it, was put on the wire."""
        if self._open:
            self.control_bytes += size - sum(map(len, bodies))

    def asked(self, node: "Node", effect: SendRequest, now_ms: int) -> None:
        """A node sends a request."""
        key = (node.name, effect.peer)
        if isinstance(effect.message, AuthorsRequest) and not effect.message.after:
            self._open_rounds[key] = _OpenRound(now_ms, effect.request_id)
        elif isinstance(effect.message, _ROUND_REQUESTS) and key in self._open_rounds:
            self._open_rounds[key].request_id = effect.request_id

    def is_of_round(self, node: "Node", effect: SendRequest) -> bool:
        """Whether this is the last question of a reconciliation that goes on."""
        current = self._open_rounds.get((node.name, effect.peer))
        return current is not None and current.request_id == effect.request_id

    def ended(self, node: "Node", effect: SendRequest, now_ms: int, *, answered: bool) -> None:
        """A request has its outcome, and what followed from it was asked."""
        key = (node.name, effect.peer)
        current = self._open_rounds.get(key)
        if current is not None and current.request_id == effect.request_id:
            del self._open_rounds[key]
            if answered and self._open:
                self.rounds.setdefault(node.name, []).append((current.began_ms, now_ms))

    def made(self, announcement_id: bytes, node: "Node") -> bool:
        """Whether this node is the origin."""
        return self._origins[announcement_id] == node.name

    def pushed_to(self, announcement_id: bytes, node: str) -> bool:
        """Whether push alone brought it there."""
        arrival = self.arrivals.get((announcement_id, node))
        return arrival is not None and arrival.pushed

    def there_after_one_round(self, announcement_id: bytes, node: str, wait_ms: int) -> bool:
        """Whether the node had it when its first round that began at least `wait_ms` after the making had ended.

        A node that needed no such round counts with what it had in the end.
        """
        arrival = self.arrivals.get((announcement_id, node))
        if arrival is None:
            return False
        earliest_ms = self.made_ms[announcement_id] + wait_ms
        ends = [ended for began, ended in self.rounds.get(node, ()) if began >= earliest_ms]
        return not ends or arrival.at_ms <= min(ends)
