"""A vocabulary in which a simulated course of events reads like prose; every turn of every honest node is watched.

    story = Story(seed=3)
    alice, bob, carol = story.mesh("alice", "bob", "carol")
    story.cut(alice, bob)
    story.says(alice, "hello")
    story.crash(carol)
    story.passes(minutes=2)
    story.heal()
    story.all_agree()
    assert bob.has_seen("hello")

What an honest node acknowledged must be in every honest set once `all_agree` has been demanded, and by a deadline.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.hostile import ACT_MS, Hostile, Trick, infiltrate
from pfn_node.simulation.invariants import Watch, converged, two_faced, unconvicted
from pfn_node.simulation.network import Network
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.limits import future_ms_max, status_interval_ms

# By when honest nodes hold one set after a healing. Dials are repeated every five minutes at the rarest (and a quarter
# more by chance), then come the round that was under way, the next one, and another neighbour's.
CONVERGENCE_SECONDS_MAX = 660.0
# How often it is looked whether what is waited for has come about.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What was kept at some moment, to come back from later."""

    kept: dict[bytes, tuple[AcceptedAnnouncement, bool]]
    peers: dict[bytes, str]
    last: tuple[int, int]


class Story:
    """One network, its honest nodes, and what happens to them."""

    def __init__(
        self,
        seed: int = 1,
        *,
        replay: str = "",
        faults: Faults | None = None,
        sealed: bool = True,
        status_every_ms: int = status_interval_ms,
    ) -> None:
        """`replay` is the command that repeats the story; the others are the network's."""
        self.network = Network(seed, faults, sealed=sealed, status_every_ms=status_every_ms)
        self.network.records = False
        self.watch = Watch(self.network, replay)
        self.honest: list[Node] = []
        self.hostile: list[Hostile] = []
        self.two_faced: set[bytes] = set()  # whose two stories the honest nodes held when it became silent
        self.acknowledged: dict[bytes, int] = {}  # ids that an honest node announced and kept -> seq

    # Who is there.

    def node(self, name: str, *, joins: Sequence[Node] = (), polls: bool = False) -> Node:
        """One more honest node; it and those that it joins pin each other."""
        node = self.network.node(name, polls=polls)
        self.watch.trust(node)
        self.honest.append(node)
        for other in joins:
            node.pin(other)
            other.pin(node)
            node.join(other)
        return node

    def mesh(self, *names: str) -> list[Node]:
        """Honest nodes; each joins one or two that were there before. They agree before anything else happens."""
        dice = self.network.rng
        for number, name in enumerate(names):
            earlier = self.honest[:]
            self.node(name, joins=dice.sample(earlier, min(1 + number % 2, len(earlier))))
            self.passes(seconds=0.05)
        self.all_agree()
        return self.honest[-len(names) :]

    def intruder(
        self,
        name: str,
        *tricks: Trick,
        joins: Sequence[Node] = (),
        pinned_by: Sequence[Node] = (),
        act_ms: int = ACT_MS,
    ) -> Hostile:
        """A hostile node. Some of the honest ones may have been talked into pinning it."""
        hostile = infiltrate(self.network, name, *tricks, act_ms=act_ms)
        self.hostile.append(hostile)
        for other in joins:
            hostile.join(other)
        for victim in pinned_by:
            victim.pin(hostile)
        return hostile

    # What happens.

    def says(self, node: Node, slug: str, content: str = "") -> None:
        """It saw a release, and announces it; what it kept of that counts as acknowledged."""
        announcement_id = node.sees(slug, content=content)
        if announcement_id is not None:
            self.acknowledged[announcement_id] = node.kept[announcement_id][0].seq

    def passes(self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Time passes."""
        self.network.elapse(seconds=seconds + 60 * minutes + 3_600 * hours)

    def cut(self, one: Node, other: Node) -> None:
        """No request between the two arrives any more."""
        self.network.cut(one, other)

    def cut_one_way(self, sender: Node, receiver: Node) -> None:
        """The one does not reach the other any more, but is reached by it."""
        self.network.faults = self.network.faults.without(sender.name, receiver.name)

    def part(self, *nodes: Node) -> None:
        """These are on an island."""
        self.network.isolate(*nodes)

    def faults(self, faults: Faults) -> None:
        """From now on the network is like this."""
        self.network.faults = faults

    def slow_down(self, node: Node, *, seconds: float) -> None:
        """It answers so much later."""
        faults = self.network.faults
        self.network.faults = replace(faults, slow={**faults.slow, node.name: int(seconds * 1_000)})

    def fill_queue(self, node: Node, chance: float = 1.0) -> None:
        """Its engine refuses requests, since too many wait."""
        faults = self.network.faults
        self.network.faults = replace(faults, full={**faults.full, node.name: chance})

    def set_clock(self, node: Node, *, seconds: float) -> None:
        """Its clock jumps to so much ahead of the true time (negative: behind)."""
        self.network.faults = self.network.faults.with_clock(node.name, int(seconds * 1_000))

    def crash(self, *nodes: Node) -> None:
        """Gone at once."""
        for node in nodes:
            node.crash()

    def restart(self, *nodes: Node) -> None:
        """They start again from what they kept."""
        for node in nodes:
            node.start()

    @staticmethod
    def back_up(node: Node) -> Backup:
        """What it has kept until now."""
        return Backup(dict(node.kept), dict(node.peers), node.last)

    def restore(self, node: Node, backup: Backup) -> None:
        """It starts again from a backup. What it had said since, and nobody else kept, was never said."""
        node.crash()
        lost = [one for one in node.kept if one not in backup.kept]
        node.kept, node.peers, node.last = dict(backup.kept), dict(backup.peers), backup.last
        for one in lost:
            if one in self.acknowledged and not any(one in other.kept for other in self.honest):
                del self.acknowledged[one]
        node.start()

    def heal(self) -> None:
        """All ways, queues and clocks are right again, and every honest node is up."""
        self.network.heal()
        self.restart(*(node for node in self.honest if not node.up))

    def silence(self) -> None:
        """Hostile nodes are as honest as any, for a while."""
        for node in self.hostile:
            node.quiet = True
        honest = {node.id for node in self.honest}
        self.two_faced = two_faced([node for node in self.honest if node.up], honest)

    def provoke(self) -> None:
        """They go on as before."""
        for node in self.hostile:
            node.quiet = False

    # What must come about.

    def within(self, seconds: float, *, what: str, holds: Callable[[], bool]) -> float:
        """Time passes until this holds, and it must within so many seconds. Returns how many it took."""
        began_ms = self.network.now_ms
        if not self.network.comes_about(holds, seconds=seconds, look=LOOK_SECONDS):
            raise self.watch.broken(f"within {seconds:.0f} s it did not come about that {what}")
        return (self.network.now_ms - began_ms) / 1_000

    def all_know(self, slug: str, *, within: float = CONVERGENCE_SECONDS_MAX, but: Sequence[Node] = ()) -> float:
        """Every honest node that is up must have heard of a release."""
        nodes = [node for node in self.honest if node.up and node not in but]
        return self.within(
            within, what=f"everybody knows {slug}", holds=lambda: all(node.has_seen(slug) for node in nodes)
        )

    def all_agree(self, *, within: float = CONVERGENCE_SECONDS_MAX) -> float:
        """Every honest node must hold one set, with everything in it that an honest node acknowledged.

        And with the convictions of those whose two stories were there before (`silence`).
        """
        nodes = [node for node in self.honest if node.up]

        def obstacle() -> str:
            apart = converged(nodes, self.network.now_ms) or self.missing(nodes)
            return apart or unconvicted(nodes, self.two_faced)

        return self._settle(nodes, within, obstacle)

    def acknowledged_everywhere(self, *, within: float = CONVERGENCE_SECONDS_MAX) -> float:
        """The same while hostile nodes go on, so that the sets are never at rest."""
        nodes = [node for node in self.honest if node.up]
        return self._settle(nodes, within, lambda: self.missing(nodes))

    def missing(self, nodes: Sequence[Node]) -> str:
        """Which of these lacks something that an honest node acknowledged; empty if none does.

        What was said by a clock that was far ahead counts as soon as its time comes.
        """
        latest_ms = self.network.now_ms + future_ms_max
        expected = [one for one, seq in self.acknowledged.items() if seq <= latest_ms]
        for node in nodes:
            lacks = sum(not node.holds(one) for one in expected)
            if lacks:
                return f"{node.name} lacks {lacks} announcements that honest nodes acknowledged"
        return ""

    def _settle(self, nodes: list[Node], within: float, obstacle: Callable[[], str]) -> float:
        began_ms = self.network.now_ms
        if not self.network.comes_about(lambda: not obstacle(), seconds=within, look=LOOK_SECONDS):
            raise self.watch.broken(f"{within:.0f} s after the healing {obstacle()}")
        self.watch.inspect(*nodes)
        return (self.network.now_ms - began_ms) / 1_000
