"""Two hostile nodes with hundreds of keys ask everybody for links, and fill every waiting room that they find."""

from pfn_node.simulation.stage import Stage
from pfn_node.simulation.tricks import Sybil
from pfn_protocol.limits import links_max, parked_max, sponsored_max

MINUTES = 5


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(8)))
    stage.tells("eight honest nodes hold one set")

    floods = [Sybil(keys_at_once=4, statements=3) for _ in range(2)]
    for number, flood in enumerate(floods):
        story.intruder(f"hostile-{number}", flood, joins=nodes[:4])
    for minute in range(MINUTES):
        story.says(nodes[minute % len(nodes)], f"release-{minute}")
        story.passes(minutes=1)
    stage.expects("keys that asked for links", sum(flood.made for flood in floods), at_least=200)
    stage.expects("most links of a node", max(node.mesh.status().links for node in nodes), at_most=links_max + 8)
    stage.expects("most that a node has parked", max(len(node.parked()) for node in nodes), at_most=parked_max)
    authors = max(node.mesh.status().authors for node in nodes)
    most = len(nodes) * (1 + sponsored_max) + len(floods)
    stage.expects("most authors that a node admits", authors, at_most=most)
    stage.expects("seconds until everybody knows all releases", story.acknowledged_everywhere(), at_most=60)
    trusted = sum(len(via) for node in nodes for via in node.mesh.trusted_via(one.id for one in story.hostile).values())
    stage.expects("honest nodes that trust a hostile one by it", trusted, at_most=0)
