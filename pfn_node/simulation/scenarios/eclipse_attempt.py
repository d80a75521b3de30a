"""Two dozen hostile nodes crowd around one victim, show it nobody but themselves, and withhold everything."""

from pfn_node.simulation.stage import Stage
from pfn_node.simulation.tricks import Eclipse, Withhold

GANG = 24


def play(stage: Stage) -> None:
    story = stage.story
    nodes = story.mesh(*(f"node-{number}" for number in range(10)))
    victim, others = nodes[-1], nodes[:-1]
    stage.tells("ten honest nodes hold one set")

    for number in range(GANG):
        tricks = (Eclipse(story.hostile, victim), Withhold())
        story.intruder(f"hostile-{number}", *tricks, joins=[victim], act_ms=10_000)
    story.passes(minutes=2)
    stage.tells(f"{GANG} hostile nodes, each in a network of its own, ask the victim for links all the time")
    story.crash(victim)
    story.passes(minutes=1)
    story.restart(victim)
    story.passes(minutes=3)
    stage.tells("the victim was restarted, and has found its links anew")

    honest = sum(victim.is_linked(other) for other in others)
    hostile = sum(victim.is_linked(other) for other in story.hostile)
    stage.tells(f"it has {honest} links to honest nodes and {hostile} to hostile ones")
    stage.expects("links of the victim to honest nodes", honest, at_least=1)
    story.says(others[0], "news")
    stage.expects("seconds until the victim knows the news", story.all_know("news"), at_most=60)
    story.says(victim, "its-own-news")
    stage.expects("seconds until everybody knows the victim's", story.all_know("its-own-news"), at_most=60)
