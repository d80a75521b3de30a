"""What becomes of a node that told two stories: all hear of it, nobody has a link with it, it falls silent."""

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Kind
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.events import RequestReceived
from pfn_protocol.gossip_links import GossipLink
from pfn_protocol.limits import outbox_ids_max
from pfn_protocol.messages import GossipRequest, LinkRequest, RefusedAnswer


def push(to: Node, sender: Node, *announcements: AcceptedAnnouncement) -> None:
    token = to.network.reply_to(lambda answer: None)
    raws = tuple(one.raw for one in announcements)
    to.report(RequestReceived(token, sender.id, GossipRequest(raws, (), None, 0)))


def stories(node: Node, slug: str = "two-faced") -> list[AcceptedAnnouncement]:
    """Two that a stranger with this node's key signs, in the node's own epoch."""
    epoch, now_ms = node.last[0], node.network.now_ms
    return [announce(node.key, MESH, version_statement(slug, content=word), epoch, now_ms) for word in "xy"]


def ring(network: Network, *names: str, polls: str = "") -> list[Node]:
    """Each pins the next two and is linked to them."""
    nodes = [network.node(name, polls=name == polls) for name in names]
    for number, node in enumerate(nodes):
        for step in (1, 2):
            other = nodes[(number + step) % len(nodes)]
            node.pin(other)
            if other.url:
                node.join(other)
    network.elapse(seconds=30)
    assert network.agree()
    return nodes


def test_two_stories_told_to_two_neighbours_convict_their_author_everywhere() -> None:
    network = Network()
    alice, bob, carol, dave, mallory = ring(network, "alice", "bob", "carol", "dave", "mallory")
    mallory.sees("honest-before")
    network.elapse(seconds=10)
    assert all(node.has_seen("honest-before") for node in network.nodes.values())
    one, other = stories(mallory)

    push(alice, mallory, one)
    push(carol, mallory, other)
    network.elapse(seconds=10)

    assert network.agree()
    for node in (alice, bob, carol, dave):
        assert [each.id for each in node.announcements() if each.author == mallory.id] == [conviction_id(mallory.id)]
        assert not node.is_linked(mallory) and node.alert_kinds() == ["convicted"]


def test_a_node_whose_key_somebody_else_has_hears_of_its_conviction_and_falls_silent() -> None:
    network = Network()
    alice, bob, carol = ring(network, "alice", "bob", "carol")
    push(alice, carol, *stories(bob))
    network.elapse(seconds=10)

    bob.sees("hello")
    network.elapse(seconds=7 * 3_600)

    assert bob.mesh.status().muted and not bob.has_seen("hello")
    assert bob.alert_kinds() == ["convicted"] and "it needs a new key" in bob.alerts[0].sentence
    assert bob.mesh.status().links == 0


def test_a_node_without_a_url_hears_of_its_conviction_in_the_answer_that_it_waits_for() -> None:
    network = Network()
    alice, _, carol, leaf = ring(network, "alice", "bob", "carol", "leaf", polls="leaf")
    assert alice.is_linked(leaf)

    push(alice, carol, *stories(leaf))
    network.elapse(seconds=10)

    assert leaf.mesh.status().muted


def test_a_poller_that_asks_nothing_at_the_moment_is_refused_later() -> None:
    network = Network()
    alice, bob, leaf = ring(network, "alice", "bob", "leaf", polls="leaf")
    leaf.crash()
    token = network.reply_to(lambda answer: None)
    alice.report(RequestReceived(token, leaf.id, GossipRequest((), (), None, 0)))
    network.elapse(seconds=26)

    push(alice, bob, *stories(leaf))

    assert not alice.is_linked(leaf) and alice.mesh.status().links == 1


def test_a_conviction_lasts_over_restarts_of_who_knows_it_and_of_who_is_convicted() -> None:
    network = Network()
    alice, bob, carol = ring(network, "alice", "bob", "carol")
    push(alice, carol, *stories(bob))
    network.elapse(seconds=10)

    for node in (alice, bob, carol):
        node.crash()
        node.start()
    bob.sees("hello")
    network.elapse(seconds=600)

    assert not alice.is_linked(bob) and not carol.is_linked(bob)
    assert bob.mesh.status().muted and bob.alert_kinds() == ["convicted", "convicted"]
    assert [each.kind for each in alice.announcements() if each.author == bob.id] == [Kind.CONVICTION]


def test_a_convicted_node_is_refused_a_link_also_when_one_was_asked_of_it_just_now() -> None:
    network = Network()
    alice, bob, carol = ring(network, "alice", "bob", "carol")
    network.cut(alice, bob)
    network.elapse_until(lambda: not alice.is_linked(bob), seconds=300)
    network.heal()
    network.elapse_until(lambda: (view := alice.link(bob)) is not None and view.state == "linking", seconds=300)
    push(alice, carol, *stories(bob))
    heard: list[object] = []

    for message in (GossipRequest((), (), None, 0), LinkRequest(bob.url, (), ())):
        alice.report(RequestReceived(network.reply_to(heard.append), bob.id, message))
    network.elapse(seconds=10)

    assert [one.rule for one in heard if isinstance(one, RefusedAnswer)] == ["R86", "R86"]
    assert not alice.is_linked(bob)


def test_what_was_kept_and_proves_two_stories_convicts_at_the_next_start() -> None:
    """Announcements that were kept before two of them were looked at together."""
    network = Network()
    alice, bob = ring(network, "alice", "bob", "carol")[:2]
    kept = stories(bob)
    alice.crash()
    alice.kept |= {one.id: (one, True) for one in kept}

    alice.start()

    assert alice.holds(conviction_id(bob.id)) and not any(alice.holds(one.id) for one in kept)


def test_an_own_announcement_that_no_run_of_this_node_made_in_its_epoch_convicts_it_here_too() -> None:
    network = Network()
    alice, bob, carol = ring(network, "alice", "bob", "carol")
    said = bob.sees("hello")
    assert said is not None
    own = bob.kept[said][0]
    other = announce(bob.key, MESH, version_statement("hello", content="other"), own.epoch, own.seq + 1)

    push(bob, alice, other)
    network.elapse(seconds=10)

    assert bob.mesh.status().muted and "convicted" in bob.alert_kinds()
    assert alice.holds(conviction_id(bob.id)) and carol.holds(conviction_id(bob.id))


def test_a_conviction_goes_before_everything_that_waits() -> None:
    link = GossipLink(bytes(32), "http://bob.test", (), False, True, False, 0, 0)
    for number in range(outbox_ids_max):
        link.put_body(number.to_bytes(32, "big"))

    link.put_body(b"\xff" * 32, first=True)

    assert next(iter(link.bodies)) == b"\xff" * 32 and len(link.bodies) == outbox_ids_max
    link.bodies.clear()
    link.put_body(b"\x01" * 32)
    link.put_body(b"\xff" * 32, first=True)
    assert list(link.bodies) == [b"\xff" * 32, b"\x01" * 32]
