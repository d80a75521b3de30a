"""Yanks and revocations reach all of fifty nodes within six rounds, also where three of ten messages are lost."""

from collections.abc import Iterable

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.measuring import Broadcast
from pfn_node.simulation.stage import Stage
from pfn_node.simulation.story import Story
from pfn_protocol.announcements import NoticeStatement, RevokeStatement, YankStatement
from pfn_protocol.events import StatementMade
from pfn_protocol.limits import digest_bytes, status_interval_ms

NODES = 50
PAIRS = 10  # of a yank and a revocation, one after the other
ROUNDS_MAX = 6
LOSS = 0.3
SOURCE = "dev@pub.test"


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(NODES)))
    stage.tells("fifty nodes hold one set")
    for number in range(PAIRS):  # the tree of pushes finds its shape by being used
        story.says(nodes[number * 7 % NODES], f"release-{number}")
        story.passes(seconds=1)
    story.network.measures.open()

    calm = _told(story, nodes, "calm")
    _expect_rounds(stage, calm, "no faults")
    stage.tells(f"a push took {_p99(_hops(calm))} hops (99th percentile)")
    story.faults(Faults(loss=LOSS))
    lossy = _told(story, nodes, "lossy")
    _expect_rounds(stage, lossy, "30 % loss")
    stage.tells(f"a push or a pull took {_p99(_hops(lossy))} hops (99th percentile)")
    seconds = sum(calm.values()) / len(calm)
    stage.expects("seconds until all had one, on average, no faults", round(seconds, 2), at_most=5)


def _expect_rounds(stage: Stage, took: dict[Broadcast, float], faults: str) -> None:
    """A round is a status interval: the time in which every node has compared sets with all of its neighbours."""
    rounds = sorted(seconds * 1_000 / status_interval_ms for seconds in took.values())
    stage.expects(
        f"rounds until the last node had one, slowest of {len(rounds)}, {faults}",
        round(rounds[-1], 2),
        at_most=ROUNDS_MAX,
    )


def _told(story: Story, nodes: list[Node], name: str) -> dict[Broadcast, float]:
    """Yanks and revocations, each told by another node; with how many seconds it took until all had it."""
    took: dict[Broadcast, float] = {}
    for number in range(PAIRS):
        yank = YankStatement(SOURCE, "hello", f"{number}.0", reason=name)
        revoke = RevokeStatement(SOURCE, "revoke", bytes([number]) * digest_bytes, name.encode())
        statements: tuple[NoticeStatement, ...] = (yank, revoke)
        for place, statement in enumerate(statements):
            node = nodes[(13 * number + 29 * place) % NODES]
            broadcast = story.network.measures.watch(_say(node, statement), node, story.network.now_ms)
            took[broadcast] = _until_all_have(story, nodes, broadcast)
            story.passes(seconds=1)
    return took


def _say(node: Node, statement: NoticeStatement) -> bytes:
    node.report(StatementMade(statement))
    said = next(reversed(node.kept.values()))[0]
    assert said.author == node.id, "it was kept as the last of its own"
    return said.id


def _until_all_have(story: Story, nodes: list[Node], broadcast: Broadcast) -> float:
    return story.within(
        ROUNDS_MAX * status_interval_ms / 1_000,
        what="every node has a notice",
        holds=lambda: all(node.holds(broadcast.id) for node in nodes),
    )


def _hops(broadcasts: Iterable[Broadcast]) -> list[int]:
    return sorted(hops for broadcast in broadcasts for hops in broadcast.hops)


def _p99(numbers: list[int]) -> int:
    return numbers[(len(numbers) * 99) // 100]
