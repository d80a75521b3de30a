"""What is counted while a network runs: copies, hops, bytes. Nothing is estimated.

Measured is what `watch` named, from then until `close`. The terms, so that figures mean one thing:

- A *copy* is a body of a watched announcement that reached a living node which did not make it, by whatever message.
- A *hop* is one way from a node that had it to a node that took it in.
- *Pushed* is an arrival in a gossip message or by a pull, at a node whose source got it so too: reconciliation had no
  part in it. (What reconciliation lets a node *offer* is gossip too; so where figures depend on the difference, nobody
  compares sets while it is measured.)
- *Control bytes* are everything on the wire but the announcements themselves: envelopes, ids, statuses, link requests.
"""

from array import array
from collections import Counter
from typing import TYPE_CHECKING

from pfn_protocol.limits import digest_bytes
from pfn_protocol.messages import FetchRequest, GossipRequest, Request

if TYPE_CHECKING:
    from pfn_node.simulation.actor import Node

_NOT_YET = -1


class Broadcast:
    """One watched announcement on its way. Nodes are meant by their numbers."""

    __slots__ = ("copies", "hops", "id", "made_ms", "origin", "reconciled")

    def __init__(self, announcement_id: bytes, origin: int, made_ms: int, nodes: int) -> None:
        self.id = announcement_id
        self.origin = origin
        self.made_ms = made_ms
        self.copies = array("i", [0]) * nodes
        self.hops = array("h", [_NOT_YET]) * nodes
        self.hops[origin] = 0
        self.reconciled = bytearray(nodes)  # 1: reconciliation had a part in its arrival

    def reached(self, node: int) -> bool:
        """Whether it is there, in whatever way it came."""
        return self.hops[node] != _NOT_YET

    def pushed_to(self, node: int) -> bool:
        """Whether push and pull alone brought it there."""
        return self.hops[node] != _NOT_YET and not self.reconciled[node]


class Measures:
    """The counts of one network."""

    def __init__(self) -> None:
        self.broadcasts: dict[bytes, Broadcast] = {}
        self.arrivals_ms: Counter[int] = Counter()  # milliseconds since the making -> how many arrivals
        self.copies = 0
        self.arrivals = 0
        self.control_bytes = 0
        self.is_open = False

    def open(self) -> None:
        """Count from now on."""
        self.is_open = True

    def close(self) -> None:
        """Count no longer."""
        self.is_open = False

    def watch(self, announcement_id: bytes, origin: "Node", now_ms: int) -> Broadcast:
        """This node has just made this announcement. All nodes are there by now."""
        nodes = len(origin.network.nodes)
        broadcast = self.broadcasts[announcement_id] = Broadcast(announcement_id, origin.number, now_ms, nodes)
        return broadcast

    def carried(self, sender: "Node", receiver: "Node", ids: tuple[bytes, ...], now_ms: int, *, pushed: bool) -> None:
        """Bodies reached a node, which has dealt with them."""
        number = receiver.number
        for announcement_id in ids:
            broadcast = self.broadcasts.get(announcement_id)
            if broadcast is None or broadcast.origin == number:
                continue
            self.copies += 1
            broadcast.copies[number] += 1
            if broadcast.hops[number] == _NOT_YET and receiver.holds(announcement_id):
                broadcast.hops[number] = broadcast.hops[sender.number] + 1
                broadcast.reconciled[number] = not pushed or broadcast.reconciled[sender.number]
                self.arrivals += 1
                self.arrivals_ms[now_ms - broadcast.made_ms] += 1

    def sent(self, size: int, bodies: tuple[bytes, ...]) -> None:
        """A message of this size, with these bodies in it, was put on the wire."""
        self.control_bytes += size
        for body in bodies:
            self.control_bytes -= len(body)


def is_of_push(message: Request) -> bool:
    """Whether what the answer to this brings belongs to the push: gossip, or a pull of what gossip told by its id.

    Gossip tells whole ids. Reconciliation learns shortened ones, by cells and by pages of ids, and fetches by those.
    """
    if type(message) is FetchRequest:
        return all(len(one) == digest_bytes for one in message.ids)
    return type(message) is GossipRequest
