"""Nodes are upgraded one after the other; new ones have features and requests that old ones do not know."""

from pfn_node.simulation.actor import Node
from pfn_node.simulation.stage import Stage
from pfn_node.simulation.world import MESH
from pfn_protocol.announcements import Kind, NodeStatement
from pfn_protocol.encoding import seal
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import nonce_bytes

NEW_FEATURES = ("teleport/1", "time-travel/3")


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(10)))
    stage.tells("ten nodes of the old version hold one set")

    refused = asked = 0
    for number, node in enumerate(nodes):
        story.crash(node)
        story.passes(seconds=20)
        node.software, node.features = "test/2", NEW_FEATURES
        story.restart(node)
        story.passes(seconds=40)
        story.says(node, f"after-upgrade-{number}")
        for other in nodes:
            if other is not node:
                asked += 1
                refused += _refuses_what_it_does_not_know(node, other)
    stage.tells("all were upgraded, one a minute, while the mesh went on")
    stage.expects("requests of an unknown path that were refused, in part", refused / asked, at_least=1)
    stage.expects("seconds until all hold one set", story.all_agree(), at_most=60)
    stage.expects("fewest new versions that a node sees", min(_upgraded(node, nodes) for node in nodes), at_least=10)
    alerts = sum(len(node.alerts) for node in nodes)
    stage.expects("alerts", alerts, at_most=0)


def _refuses_what_it_does_not_know(asker: Node, other: Node) -> bool:
    nonce = bytes(nonce_bytes)
    raw = seal(asker.key, "pfn/request/1", MESH, ("teleport", other.id, asker.now_ms, nonce, ("there",))).raw
    try:
        other.open("teleport", raw)
    except Refusal:
        return True
    return False


def _upgraded(node: Node, nodes: list[Node]) -> int:
    said = [node.statement_of(other, Kind.NODE) for other in nodes]
    return sum(isinstance(one, NodeStatement) and one.features == NEW_FEATURES for one in said)
