"""Clocks are wrong: a little, by an hour, by a day; they are mended, and nobody stays mute or is believed to lie."""

from pfn_node.simulation.stage import Stage


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(10)))
    slightly, behind, ahead, far_ahead = nodes[:4]
    right = nodes[4:]
    stage.tells("ten nodes hold one set")

    story.set_clock(slightly, seconds=90)
    story.says(slightly, "early-by-90-s")
    stage.expects("seconds until a release of a clock 90 s ahead is known", story.all_know("early-by-90-s"), at_most=30)

    story.set_clock(behind, seconds=-3_600)
    story.set_clock(ahead, seconds=3_600)
    story.set_clock(far_ahead, seconds=86_400)
    story.passes(minutes=10)
    for node in (behind, ahead, far_ahead):
        story.says(node, f"said-by-{node.name}-with-a-wrong-clock")
    story.says(right[0], "said-with-a-right-clock")
    story.passes(minutes=10)
    stage.tells("three clocks are wrong by an hour and a day; requests of and to these nodes are refused")
    alerted = sum(any(kind.startswith("clock-") for kind in node.alert_kinds()) for node in (behind, ahead, far_ahead))
    stage.expects("nodes with a wrong clock whose operator is alerted", alerted, at_least=3)

    story.heal()
    stage.tells("all clocks are right again")
    for node in (behind, ahead, far_ahead):
        story.says(node, f"{node.name}-speaks-again")
    stage.expects("seconds until all hold one set", story.all_agree(), at_most=60)
    stage.expects("fewest links of a node", min(node.mesh.status().links for node in nodes), at_least=4)
    muted = sum(node.mesh.status().muted for node in nodes)
    stage.expects("nodes that fell silent", muted, at_most=0)
