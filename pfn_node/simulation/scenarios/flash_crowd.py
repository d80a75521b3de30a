"""Three hundred releases are seen within half a minute, all over the mesh."""

from pfn_node.simulation.stage import Stage

RELEASES = 300


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(20)))
    stage.tells("twenty nodes hold one set")
    asked = story.network.events

    for number in range(RELEASES):
        story.says(nodes[number * 7 % len(nodes)], f"release-{number}")
        story.passes(seconds=0.1)
    stage.tells(f"{RELEASES} releases were seen in 30 s")
    stage.expects("seconds from the last one until everybody has all", story.acknowledged_everywhere(), at_most=10)
    events = (story.network.events - asked) / RELEASES / len(nodes)
    stage.expects("events of the network for each release and node", round(events, 1), at_most=40)
    stage.expects("seconds until all hold one set", story.all_agree(), at_most=60)
