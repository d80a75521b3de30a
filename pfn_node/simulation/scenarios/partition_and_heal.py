"""A mesh is parted in two for ten minutes; both sides go on, and find everything when they meet again."""

from pfn_node.simulation.stage import Stage


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(12)))
    west, east = nodes[:6], nodes[6:]
    stage.tells("twelve nodes hold one set")

    story.part(*west)
    for number, node in enumerate(nodes):
        story.says(node, f"release-{number}")
    story.passes(minutes=10)
    stage.tells("parted in two halves, each node has seen a release")
    stage.expects("fewest releases of its own half at a node", min(len(node.versions()) for node in nodes), at_least=6)
    crossed = sum(node.has_seen("release-6") for node in west) + sum(node.has_seen("release-0") for node in east)
    stage.expects("nodes that know a release of the other half", crossed, at_most=0)

    story.heal()
    stage.expects("seconds from the healing until all hold one set", story.all_agree(), at_most=420)
    stage.expects("fewest releases at a node", min(len(node.versions()) for node in nodes), at_least=12)
