"""Six of twenty nodes die at once; news must reach the others all the same, and those when they come back."""

from pfn_node.simulation.stage import Stage


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(20)))
    dying, living = nodes[:6], nodes[6:]
    stage.tells("twenty nodes hold one set")

    story.crash(*dying)
    story.says(living[0], "right-after")
    stage.tells("six died, and a release was seen in the same moment")
    stage.expects("seconds until all others know it", story.all_know("right-after"), at_most=30)
    for number in range(20):
        story.says(living[number % len(living)], f"meanwhile-{number}")
        story.passes(seconds=5)
    stage.expects("seconds until the others know twenty more", story.acknowledged_everywhere(), at_most=30)

    story.restart(*dying)
    stage.tells("the dead come back from what they had kept")
    stage.expects("seconds until all hold one set", story.all_agree(), at_most=60)
