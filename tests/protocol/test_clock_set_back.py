"""A clock that was ahead and is set back (R135): nothing waits until the moment that was planned before."""

from random import Random

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_protocol.announcements import Kind
from pfn_protocol.effects import SendRequest
from pfn_protocol.events import RequestReceived
from pfn_protocol.gossip import Gossip
from pfn_protocol.limits import sketch_builds_per_hour_max, sponsored_memory_ms
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import FetchRequest, GossipAnswer, GossipRequest, SetStatus
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, fake_versions

HOUR_MS = 3_600_000
DAY_SECONDS = 86_400


def set_clock(node: Node, *, ahead_seconds: int) -> None:
    node.network.faults = node.network.faults.with_clock(node.name, ahead_seconds * 1_000)


def test_an_id_that_was_told_before_is_asked_for_when_it_is_told_again() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)
    told = GossipRequest((), (b"1" * 32,), None, 0)
    set_clock(alice, ahead_seconds=DAY_SECONDS)
    alice.report(RequestReceived(network.reply_to(lambda answer: None), bob.id, told))

    set_clock(alice, ahead_seconds=0)
    network.elapse(seconds=30)
    alice.report(RequestReceived(network.reply_to(lambda answer: None), bob.id, told))
    network.elapse(seconds=5)

    asked = [one.message for one in alice.requests(FetchRequest, to=bob)]
    assert FetchRequest(told.have) in asked


def test_ids_for_neighbours_beside_the_tree_do_not_wait_for_the_former_moment() -> None:
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()
    gossip = Gossip(registry, outgoing, lambda peer: SetStatus(0, bytes(32), bytes(8)), Random(1), has_url=True)

    def told_by_id(entry: Entry, now_ms: int) -> list[bytes]:
        """What a neighbour that prunes the link is told within two seconds."""
        gossip.open(CAROL.public, "http://carol.test", (), now_ms, asked=True)
        gossip.flush(now_ms)
        (status,) = [one for one in outgoing.drain() if isinstance(one, SendRequest)]
        in_flight = outgoing.take(status.request_id, CAROL.public)
        assert in_flight is not None
        gossip.answered(in_flight, GossipAnswer((), (), None, prune=True), now_ms)
        registry.offer(entry)
        gossip.tell([entry], None, now_ms)
        gossip.flush(now_ms + 2_000)
        messages = [one.message for one in outgoing.drain() if isinstance(one, SendRequest)]
        return [one for message in messages if isinstance(message, GossipRequest) for one in message.have]

    first, lost, second = (Entry(bytes([n]) * 32, BOB.public, Kind.VERSION, f"s/{n}/1", 0, n, 400) for n in (1, 2, 3))
    assert told_by_id(first, 2 * HOUR_MS) == [first.id]
    registry.offer(lost)
    gossip.tell([lost], None, 2 * HOUR_MS + 2_000)
    gossip.close(CAROL.public)

    gossip.clock_set_back()

    assert told_by_id(second, HOUR_MS) == [second.id]


def test_a_newcomer_that_was_heard_of_in_the_future_does_not_keep_its_place_for_longer() -> None:
    network = Network()
    network.records = False
    alice, eve = network.node("alice"), network.node("eve")
    set_clock(alice, ahead_seconds=10 * DAY_SECONDS)
    set_clock(eve, ahead_seconds=10 * DAY_SECONDS)
    eve.join(alice)
    network.elapse(seconds=30)
    assert alice.mesh._sponsoring.nodes == (eve.id,)
    eve.crash()

    set_clock(alice, ahead_seconds=0)
    network.elapse(seconds=sponsored_memory_ms / 1_000 + 600)

    assert not alice.mesh._sponsoring.nodes


def test_prefixes_that_were_made_in_the_future_count_for_an_hour_from_now() -> None:
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()
    for entry in fake_versions(BOB.public, 5_000):
        registry.offer(entry)
    prefixes = Prefixes(registry, outgoing)

    def wants(salt: int, now_ms: int) -> bool:
        wanted = prefixes.want(CAROL.public, LinkSet(registry, ()), bytes([salt]) * 32, 32, now_ms)
        prefixes._building = None
        return wanted

    assert all(wants(number, 9 * HOUR_MS) for number in range(sketch_builds_per_hour_max))

    prefixes.clock_set_back(HOUR_MS)

    assert not wants(100, 2 * HOUR_MS - 1)
    assert wants(101, 2 * HOUR_MS)
