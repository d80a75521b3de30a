"""What a mesh survives: partitions, restarts, duplicates, wrong clocks, and a node that repeats what others said."""

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import InvariantBroken
from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import RequestReceived
from pfn_protocol.messages import Answer, GossipAnswer, GossipRequest


def mesh_of(network: Network, count: int) -> list[Node]:
    """Nodes that pin and joined each other in a ring, and agree."""
    nodes = [network.node(f"node-{number}") for number in range(count)]
    for number, node in enumerate(nodes):
        neighbour = nodes[(number + 1) % count]
        node.pin(neighbour)
        neighbour.pin(node)
        node.join(neighbour)
    network.elapse_until(network.agree, seconds=60)
    return nodes


def test_two_halves_that_were_parted_know_everything_after_the_healing() -> None:
    network = Network()
    nodes = mesh_of(network, 6)
    network.isolate(*nodes[:3])
    nodes[0].sees("on-one-side")
    nodes[5].sees("on-the-other")
    network.elapse(seconds=120)
    assert not nodes[5].has_seen("on-one-side") and not nodes[0].has_seen("on-the-other")

    network.heal()

    network.elapse_until(network.agree, seconds=400)
    assert all(node.has_seen("on-one-side") and node.has_seen("on-the-other") for node in nodes)


def test_a_path_that_is_cut_one_way_parts_nobody() -> None:
    network = Network()
    one, other = mesh_of(network, 2)
    network.faults = Faults(cuts=frozenset({("node-0", "node-1")}))

    one.sees("hello")

    network.elapse_until(lambda: other.has_seen("hello"), seconds=400)


def test_a_node_goes_on_from_what_it_had_kept() -> None:
    network = Network()
    one, other, third = mesh_of(network, 3)
    one.sees("before")
    network.elapse(seconds=1)
    last = one.last

    one.crash()
    other.sees("meanwhile")
    network.elapse(seconds=30)
    one.start()
    assert one.has_seen("before")
    network.elapse_until(network.agree, seconds=60)

    assert one.has_seen("meanwhile")
    assert one.last > last
    assert not (one.alerts or other.alerts or third.alerts)


def test_requests_that_arrive_twice_are_heard_once() -> None:
    network = Network(faults=Faults(duplication=1.0))
    nodes = mesh_of(network, 3)

    nodes[0].sees("hello")
    network.elapse_until(lambda: all(node.has_seen("hello") for node in nodes), seconds=10)

    asked = sum(len(node.sent) for node in nodes)
    assert sum(len(node.answers) for node in nodes) <= asked


def test_whoever_repeats_what_others_said_changes_nothing() -> None:
    network = Network()
    heard: list[tuple[Node, str, bytes]] = []
    network.eavesdropper = lambda receiver, path, raw: heard.append((receiver, path, raw))
    nodes = mesh_of(network, 4)
    replayer = nodes[3]
    for number in range(5):
        nodes[0].sees(f"plugin-{number}")
    network.elapse(seconds=30)
    before = [(node.mesh.status().digest, tuple(node.kept)) for node in nodes[:3]]
    old = tuple(one.raw for one in replayer.announcements())

    for receiver, path, raw in heard[-200:]:
        with pytest.raises(Refusal, match="R74"):
            receiver.open(path, raw)
        stranger = next(node for node in nodes if node is not receiver)
        with pytest.raises(Refusal, match="R72"):
            stranger.open(path, raw)
    answers: list[Answer] = []
    for _ in range(50):
        for victim in nodes[:3]:
            token = network.reply_to(answers.append)
            victim.report(RequestReceived(token, replayer.id, GossipRequest(old, (), None, 0)))

    assert all(isinstance(answer, GossipAnswer) for answer in answers) and len(answers) == 150
    assert [(node.mesh.status().digest, tuple(node.kept)) for node in nodes[:3]] == before
    assert all(node.is_linked(replayer) and not node.alerts for node in nodes[:3])


def test_what_would_tell_of_something_that_was_not_kept_ends_the_run() -> None:
    network = Network()
    one, other = mesh_of(network, 2)

    with pytest.raises(InvariantBroken, match="did not keep"):
        one.perform([SendRequest(99, other.id, other.url, GossipRequest((), (), None, 0), (bytes(32),))])


def test_a_second_answer_to_one_request_ends_the_run() -> None:
    network = Network()
    (one, _) = mesh_of(network, 2)
    token = network.reply_to(lambda _: None)
    one.perform([SendAnswer(token, GossipAnswer((), (), None))])

    with pytest.raises(InvariantBroken, match="twice"):
        one.perform([SendAnswer(token, GossipAnswer((), (), None))])
