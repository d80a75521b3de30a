"""The node that sees all releases answers late, sometimes too late, and its queue is full half of the time."""

from pfn_node.simulation.stage import Stage


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(12)))
    publisher = nodes[-1]
    stage.tells("twelve nodes hold one set")

    story.slow_down(publisher, seconds=4)
    story.fill_queue(publisher, 0.5)
    for number in range(10):
        story.says(publisher, f"slow-{number}")
        story.passes(seconds=20)
    stage.tells("ten releases at a node that answers 4 s late, and refuses every second request")
    stage.expects("seconds until everybody knows them", story.acknowledged_everywhere(), at_most=60)

    story.slow_down(publisher, seconds=20)
    story.says(publisher, "slower")
    stage.tells("now it answers after 20 s, when nobody waits any more")
    stage.expects("seconds until everybody knows what it sees", story.all_know("slower"), at_most=120)
    story.says(nodes[0], "to-the-slow")
    stage.expects("seconds until it knows what others see", story.all_know("to-the-slow"), at_most=120)
    story.heal()
    stage.expects("seconds from the healing until all hold one set", story.all_agree(), at_most=420)
