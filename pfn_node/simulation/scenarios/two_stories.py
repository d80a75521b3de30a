"""One of fifty nodes tells two of the others two stories; the proof must be at all honest nodes within six rounds."""

from math import ceil

from pfn_node.simulation.stage import Stage
from pfn_node.simulation.world import version_statement
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.limits import status_interval_ms

# A round is one status interval: the time in which every node exchanges something with every neighbour at least once.
ROUNDS_MAX = 6


def play(stage: Stage) -> None:
    story, network = stage.story, stage.story.network
    nodes = story.mesh(*(f"node-{number}" for number in range(49)))
    two_faced = story.intruder("two-faced", joins=nodes[:3], pinned_by=nodes[:1])
    story.within(
        120,
        what="the fiftieth is known to all",
        holds=lambda: all(node.mesh.announced_by(two_faced.id) for node in nodes),
    )
    story.passes(seconds=60)
    stage.tells("fifty nodes hold one set, and one of them has been bought")

    told = network.now_ms
    victims = two_faced.victims()
    for number, victim in enumerate((victims[0], victims[-1])):
        two_faced.push(victim, [two_faced.sign(version_statement("a-release", content=f"{number}"), told)])
    stage.tells("it told two neighbours two stories about one release")
    stage.expects("neighbours that it had", len(victims), at_least=2)

    proof = conviction_id(two_faced.id)
    network.comes_about(lambda: all(node.holds(proof) for node in nodes), seconds=600, look=0.01)
    seconds = (network.now_ms - told) / 1_000
    stage.expects(
        "seconds until the proof is at all honest nodes", seconds, at_most=ROUNDS_MAX * status_interval_ms / 1_000
    )
    stage.expects("rounds of 10 s that this took", ceil(1_000 * seconds / status_interval_ms), at_most=ROUNDS_MAX)
    story.silence()
    stage.expects("seconds until all hold one set", story.all_agree(), at_most=120)
    linked = sum(node.is_linked(two_faced) for node in nodes)
    stage.expects("honest nodes that still have a link with it", linked, at_most=0)
