"""One node's links as branches: who is pruned, grafted and offered what, and who takes the parent's place."""

from random import Random

import pytest

from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.gossip import Gossip
from pfn_protocol.messages import FetchRequest, GossipAnswer, GossipRequest, Request, SetStatus
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import Registry, Verdict
from pfn_protocol.slots import Entry
from tests.protocol.sets import fake_versions

PEER, OTHER, THIRD = b"p" * 32, b"o" * 32, b"t" * 32
NOW = 1_000_000
EMPTY = SetStatus(0, bytes(32), bytes(8))


class Branches:
    """One node's gossip without a network: what others sent it, and what it sends them."""

    def __init__(self) -> None:
        self.registry, self.outgoing = Registry(b"m" * 32, [THIRD]), Outgoing()
        self.gossip = Gossip(
            self.registry, self.outgoing, lambda peer: EMPTY, Random(1), has_url=True, status_every_ms=None
        )
        self.news = iter(fake_versions(THIRD, 20))

    def link(self, peer: bytes, *, compare_only: bool = False) -> None:
        url = f"http://{peer[:1].decode()}.test"
        self.gossip.open(peer, url, (), NOW, asked=True, compare_only=compare_only)

    def hear(self, came_from: bytes, *entries: Entry, now_ms: int = NOW, graft: bool = False) -> GossipAnswer:
        """A push arrives. What it is answered."""
        delivered = {one.id: self.registry.offer(one).verdict is Verdict.IN_SET for one in entries}
        self.gossip.received(came_from, delivered)
        self.gossip.tell([one for one in entries if delivered[one.id]], came_from, now_ms)
        return self.ask(came_from, GossipRequest((b"body",), (), None, 0, (), graft), now_ms)

    def ask(self, peer: bytes, request: GossipRequest, now_ms: int = NOW) -> GossipAnswer:
        self.gossip.answer(peer, 1, request, now_ms)
        (answer,) = [one.message for one in self.outgoing.drain() if isinstance(one, SendAnswer)]
        assert isinstance(answer, GossipAnswer)
        return answer

    def tell_id(self, peer: bytes, announcement_id: bytes, now_ms: int = NOW) -> None:
        self.ask(peer, GossipRequest((), (announcement_id,), None, 0), now_ms)

    def sent(self, now_ms: int = NOW, kind: type[Request] = GossipRequest) -> dict[bytes, SendRequest]:
        """What of this kind is sent now, by neighbour; every push is answered in 100 ms, with nothing to say."""
        self.gossip.flush(now_ms)
        requests = [one for one in self.outgoing.drain() if isinstance(one, SendRequest)]
        for one in requests:
            if isinstance(one.message, GossipRequest):
                in_flight = self.outgoing.take(one.request_id, one.peer)
                assert in_flight is not None
                self.gossip.answered(in_flight, GossipAnswer((), (), None), now_ms + 100)
        return {one.peer: one for one in requests if isinstance(one.message, kind)}

    def tree_of_two(self) -> None:
        """OTHER brings news; the link to PEER is beside the tree."""
        self.link(OTHER)
        self.hear(OTHER, next(self.news))
        self.link(PEER)
        self.sent()
        assert (self.gossip.role(OTHER), self.gossip.role(PEER)) == ("eager", "lazy")


def test_who_asks_to_be_pushed_to_is_offered_at_once_what_it_was_to_be_told_by_id() -> None:
    branches = Branches()
    branches.tree_of_two()
    one = next(branches.news)
    branches.hear(OTHER, one)
    assert PEER not in branches.sent()  # the id waits

    branches.ask(PEER, GossipRequest((), (), None, 0, (), graft=True))

    offer = branches.sent()[PEER].message
    assert isinstance(offer, GossipRequest) and (offer.offer, offer.have) == ((one.id,), ())
    assert branches.gossip.role(PEER) == "eager"
    branches.hear(OTHER, two := next(branches.news))
    assert branches.sent()[PEER].bodies == (two.id,)
    assert PEER not in branches.sent(NOW + 5_000)  # nothing of it is told twice


def test_what_is_pushed_along_with_a_graft_is_no_reason_to_prune() -> None:
    branches = Branches()
    branches.tree_of_two()
    one = next(branches.news)
    branches.hear(OTHER, one)

    assert not branches.hear(PEER, one, graft=True).prune
    assert branches.hear(PEER, one).prune


def test_a_link_for_comparing_is_not_made_a_branch_by_either_side() -> None:
    branches = Branches()
    branches.link(OTHER)
    branches.hear(OTHER, next(branches.news))
    branches.sent()
    branches.link(PEER, compare_only=True)
    assert branches.gossip.role(PEER) == "reconciliation"

    branches.ask(PEER, GossipRequest((), (), None, 0, (), graft=True))
    branches.hear(PEER, next(branches.news))

    assert branches.gossip.role(PEER) == "reconciliation"
    assert PEER not in branches.sent(NOW + 5_000)
    branches.link(PEER)  # it becomes an ordinary one, beside the tree
    assert branches.gossip.role(PEER) == "lazy"


def test_a_link_that_is_over_has_no_role() -> None:
    branches = Branches()
    branches.link(PEER)
    branches.gossip.close(PEER)

    assert branches.gossip.role(PEER) == ""


def test_a_neighbour_that_told_an_id_long_before_the_body_came_takes_the_parents_place() -> None:
    branches = Branches()
    branches.tree_of_two()
    one, two = next(branches.news), next(branches.news)
    branches.tell_id(PEER, one.id)
    branches.tell_id(PEER, two.id, NOW + 190)

    assert branches.hear(OTHER, one, now_ms=NOW + 200).prune  # four hops of 50 ms

    assert (branches.gossip.role(OTHER), branches.gossip.role(PEER)) == ("lazy", "eager")
    fetch = branches.sent(NOW + 200, FetchRequest)[PEER].message
    assert isinstance(fetch, FetchRequest) and fetch.ids == (two.id,)  # what it told besides, at once


@pytest.mark.parametrize(
    ("heard_before_ms", "hop_delay_ms", "is_nearer"), [(199, 50, False), (99, 1, False), (100, 1, True)]
)
def test_a_neighbour_is_nearer_by_four_hops_and_the_shortest_wait_of_an_id_at_least(
    heard_before_ms: int, hop_delay_ms: int, is_nearer: bool
) -> None:
    branches = Branches()
    branches.tree_of_two()
    branches.gossip._pulls.hop_delay_ms = hop_delay_ms
    one = next(branches.news)
    branches.tell_id(PEER, one.id)

    assert branches.hear(OTHER, one, now_ms=NOW + heard_before_ms).prune is is_nearer


def test_the_parents_place_is_taken_once_however_much_one_push_brings() -> None:
    branches = Branches()
    branches.tree_of_two()
    one, two = next(branches.news), next(branches.news)
    branches.tell_id(PEER, one.id)
    branches.tell_id(PEER, two.id)

    assert branches.hear(OTHER, one, two, now_ms=NOW + 500).prune
    assert (branches.gossip.role(OTHER), branches.gossip.role(PEER)) == ("lazy", "eager")

    branches.gossip.close(PEER)  # so now nobody brings news
    branches.link(PEER)
    assert branches.gossip.role(PEER) == "eager"


def test_the_second_body_in_a_row_that_had_to_be_pulled_makes_its_neighbour_a_branch() -> None:
    branches = Branches()
    branches.tree_of_two()
    for number, one in enumerate([next(branches.news), next(branches.news)]):
        now_ms = NOW + 10_000 * number
        branches.tell_id(PEER, one.id, now_ms)
        (pull,) = branches.sent(now_ms + 1_500, FetchRequest).values()
        in_flight = branches.outgoing.take(pull.request_id, PEER)
        assert in_flight is not None and branches.gossip.is_pull(in_flight)
        branches.registry.offer(one)
        branches.gossip.received(PEER, {one.id: True})
        branches.gossip.tell([one], PEER, now_ms + 1_500, pulled=True)
        branches.gossip.pulled(in_flight, (), {one.id: True}, now_ms + 1_500)
        assert branches.gossip.role(PEER) == ("lazy", "eager")[number]

    grafting = branches.sent(NOW + 11_500)[PEER].message
    assert isinstance(grafting, GossipRequest) and grafting.graft
