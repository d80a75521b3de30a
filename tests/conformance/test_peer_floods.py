"""Hostile peers in numbers, and peers that never stop: each takes what a stranger may have, and no more."""

import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any

import pytest

from pfn_protocol.announcements import NodeStatement
from pfn_protocol.encoding import Value, seal
from pfn_protocol.message_fields import open_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    CellsRequest,
    GossipRequest,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from tests.conformance import wire
from tests.conformance.conftest import StartNode
from tests.conformance.hostile_peer import (
    MESH,
    MESSAGE_TYPE,
    ListeningPeer,
    Peer,
    mirror_statement,
    now_ms,
    version_statement,
)
from tests.conformance.hostile_publisher import new_key
from tests.conformance.hostile_server import HostileServer, answer
from tests.conformance.node_process import Node

SECONDS_MAX = 15.0
# What is allowed grows with time: on a slow machine a flood takes longer to be one.
FLOOD_MAX = 4000
REFUSED_MIN = 50


def until(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> bool:
    """Whether it came about in time. The node is another process: there is no event to wait for."""
    started = monotonic()
    while not condition():
        if monotonic() - started > seconds_max:
            return False
        sleep(0.05)
    return True


def fresh(peer: Peer, count: int) -> list[Any]:
    """So many announcements, each in a slot of its own."""
    return [peer.announce(mirror_statement(f"{secrets.token_hex(6)}@127.0.0.1:9")) for _ in range(count)]


@pytest.fixture(scope="module")
def flooded(start_node: StartNode) -> Node:
    """A node of its own for floods that use up what strangers have together."""
    return start_node()


@pytest.fixture(scope="module")
def asking(start_node: StartNode) -> Node:
    """A node of its own that asks its neighbours."""
    return start_node()


def flood(node: Node, make: Callable[[], bytes]) -> list[wire.Answer]:
    """Requests on one connection, as fast as they are answered, until enough were refused."""
    answers: list[wire.Answer] = []
    with socket.create_connection((node.host, node.port), 30) as connection, connection.makefile("rb") as stream:
        while len(answers) < FLOOD_MAX and sum(one.status != 200 for one in answers) < REFUSED_MIN:
            batch = [
                wire.request("POST", "/node/v1/have", "localhost", headers={"Connection": "keep-alive"}, body=make())
                for _ in range(25)
            ]
            connection.sendall(b"".join(batch))
            answers += [wire.read(stream) for _ in batch]
    return answers


def pinned(node: Node) -> Peer:
    """A neighbour that has an allowance of its own from now on; a link alone gives it one within a second."""
    peer = Peer(node).linked()
    assert node.post("peers", {"action": "pin", "node_id": peer.id}).status == 200
    return peer


def assert_limited(answers: list[wire.Answer], heard_min: int) -> None:
    """So many were heard; the others were told when to come back."""
    refused = [one for one in answers if one.status != 200]
    assert len(answers) - len(refused) >= heard_min and len(refused) >= REFUSED_MIN
    assert {one.status for one in refused} == {429}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)


def test_strangers_together_are_heard_so_often_and_a_known_node_goes_on(flooded: Node) -> None:
    """Keys cost nothing: all that nobody knows share one allowance."""
    known = pinned(flooded)

    answers = flood(flooded, lambda: Peer(flooded, to=known.to).sealed(HaveRequest(())))

    assert_limited(answers, heard_min=100)
    assert known.post("have", known.sealed(HaveRequest(()))).status == 200


def test_a_node_that_is_known_is_heard_so_often_and_others_go_on(node: Node) -> None:
    greedy, modest = pinned(node), pinned(node)

    answers = flood(node, lambda: greedy.sealed(HaveRequest(())))

    assert_limited(answers, heard_min=400)
    assert modest.post("have", modest.sealed(HaveRequest(()))).status == 200


def test_of_one_stranger_s_announcements_a_small_share_is_taken(node: Node) -> None:
    """A sponsored author fills 256 slots, whatever it signs; and its own address is exempt."""
    reader, greedy = Peer(node).linked(), Peer(node).linked()
    hello = greedy.hello()
    many = fresh(greedy, 280)
    greedy.push(hello.raw, *(one.raw for one in many[:255]))
    sleep(5)  # an author's rate lets 25 more through in this time
    greedy.push(*(one.raw for one in many[255:]))

    taken = [one for start in (0, 140) for one in reader.gets(*(e.id for e in many[start : start + 140]))]

    assert sum(taken) == 256
    assert reader.gets(hello.id) == [True]


def test_one_author_s_burst_is_put_off_and_another_s_news_is_not(node: Node) -> None:
    reader, greedy, modest = Peer(node).linked(), Peer(node).linked(), Peer(node).linked()
    node.post("peers", {"action": "pin", "node_id": greedy.id})  # 5,000 slots: only the rate is in its way
    many = fresh(greedy, 500)
    greedy.push(*(one.raw for one in many))
    news = fresh(modest, 1)[0]

    modest.push(news.raw)

    assert reader.gets(news.id) == [True]
    taken = [one for start in (0, 250) for one in reader.gets(*(e.id for e in many[start : start + 250]))]
    assert 256 <= sum(taken) <= 300


def test_pushes_of_more_than_a_stranger_may_are_refused_whole(flooded: Node) -> None:
    """Each costs a signature check, whoever signed it."""
    greedy = Peer(flooded).linked()
    one = fresh(greedy, 1)[0].raw
    message = GossipRequest((one,) * 512, (), None, 0)

    statuses = [greedy.post("gossip", greedy.sealed(message)).status for _ in range(20)]

    assert 429 in statuses
    assert flooded.is_well()


def test_ids_of_nothing_cost_a_bounded_number_of_questions(node: Node) -> None:
    with ListeningPeer() as liar:
        peer = liar.speaks_to(node).linked()
        for _ in range(8):
            peer.ask(GossipRequest((), tuple(secrets.token_bytes(32) for _ in range(1024)), None, 0))

        assert until(lambda: any(message.path == "fetch" for message in liar.messages))
        news = fresh(peer, 1)[0]
        peer.push(news.raw)

        assert Peer(node).linked().gets(news.id) == [True]
        fetched = [message for message in liar.messages if message.path == "fetch"]
        assert len(fetched) < 200


def test_offers_of_nothing_are_wanted_once(node: Node) -> None:
    peer = Peer(node).linked()
    ids = tuple(secrets.token_bytes(32) for _ in range(256))

    first = peer.ask(GossipRequest((), (), None, 0, offer=ids))

    assert set(first.want) <= set(ids)  # type: ignore[union-attr]
    assert node.is_well()


def test_links_are_so_many_and_a_pinned_node_gets_one_all_the_same(start_node: StartNode) -> None:
    node = start_node()
    friend = Peer(node).linked()
    node.post("peers", {"action": "pin", "node_id": friend.id})
    said = [Peer(node, to=friend.to).link() for _ in range(60)]

    accepted = [one for one in said if isinstance(one, LinkAnswer) and one.accepted]
    refused = [one for one in said if isinstance(one, LinkAnswer) and not one.accepted]

    assert len(accepted) <= 32 and refused
    assert all(one.back_off_seconds > 0 for one in refused)
    assert not isinstance(friend.push(), RefusedAnswer)
    again = friend.link()
    assert isinstance(again, LinkAnswer) and again.accepted


def test_who_is_let_in_lets_nobody_in(node: Node) -> None:
    """Sponsorship goes no further: neither whom a newcomer pins nor whom it sponsors is admitted."""
    reader, newcomer = Peer(node).linked(), Peer(node).linked()
    pinned, sponsored = Peer(node, to=reader.to), Peer(node, to=reader.to)
    statement = NodeStatement("", "x", (), (pinned.key.public,), (sponsored.key.public,), 0, bytes(32))
    hello, smuggled = newcomer.announce(statement), [*fresh(pinned, 3), *fresh(sponsored, 3)]

    newcomer.push(hello.raw, *(one.raw for one in smuggled))

    assert reader.gets(hello.id, *(one.id for one in smuggled)) == [True] + [False] * 6


def test_an_author_that_nobody_admits_is_kept_aside_and_not_passed_on(node: Node) -> None:
    reader, carrier, author = Peer(node).linked(), Peer(node).linked(), Peer(node)
    aside = fresh(author, 3)

    carrier.push(*(one.raw for one in aside))

    assert reader.gets(*(one.id for one in aside)) == [False] * 3
    author.linked()
    assert until(lambda: reader.gets(*(one.id for one in aside)) == [True] * 3)


def test_addresses_from_hearsay_are_not_passed_on(node: Node) -> None:
    """A node tells others only of those that it has itself reached."""
    liar = Peer(node)
    invented = [PeerAddress(new_key().public, f"http://10.1.{n}.1") for n in range(16)]
    liar.link(view=invented)

    told = [Peer(node).link() for _ in range(3)]

    named = {address.node_id for one in told if isinstance(one, LinkAnswer) for address in one.view}
    assert not named & {address.node_id for address in invented}


def test_the_view_of_a_stranger_makes_a_node_on_the_internet_dial_nothing_inside(
    node: Node, start_node: StartNode
) -> None:
    """The same view is given to a node that may dial loopback: as soon as that one has, the other would have too."""
    strict = start_node(private=False)
    with HostileServer() as inside, HostileServer() as reachable:
        for told, victim in ((strict, inside), (node, reachable)):
            hosts = ("127.0.0.1", "localhost")
            Peer(told).link(view=[PeerAddress(new_key().public, f"http://{host}:{victim.port}") for host in hosts])

        assert until(lambda: reachable.connections > 0, 30)

        assert inside.connections == 0


def test_hanging_requests_of_one_node_keep_nobody_else_waiting(node: Node) -> None:
    patient, other = Peer(node).linked(), Peer(node).linked()
    wait = GossipRequest((), (), None, 3)
    with ThreadPoolExecutor(40) as threads:
        hanging = [threads.submit(patient.post, "gossip", patient.sealed(wait)) for _ in range(40)]
        started = monotonic()

        assert not isinstance(other.push(), RefusedAnswer)

        assert monotonic() - started < 3
        assert {one.result().status for one in hanging} <= {200, 429, 503}
    assert node.is_well()


def test_cells_without_a_secret_salt_are_not_made(node: Node) -> None:
    peer = Peer(node).linked()

    said = peer.ask(CellsRequest("", bytes(4), bytes(8), 0, 32))

    assert isinstance(said, RefusedAnswer)


def test_cells_of_a_round_that_was_never_begun_are_not_given(node: Node) -> None:
    peer = Peer(node).linked()

    said = peer.ask(CellsRequest("", secrets.token_bytes(4), bytes(8), 4096, 32))

    assert isinstance(said, RefusedAnswer)


# --- Answers of a neighbour that was asked --------------------------------------------------------------------------


class LyingPeer(ListeningPeer):
    """Says that its set differs, and answers the questions that follow as a case wants."""

    def __init__(self, lie: Callable[[Request, bytes], Answer | bytes | None], count: int) -> None:
        """`count`: how many announcements it says it has. 256, what one author may have, look worth a snapshot."""
        super().__init__()
        self.lie, self.count = lie, count
        self.share = AuthorSummary(self.key.public, 256, count, secrets.token_bytes(32))

    def answer_to(self, message: Request) -> Answer:
        said = self.lie(message, self.key.public)
        if isinstance(said, AuthorsAnswer | IdsAnswer | SnapshotAnswer):
            return said
        if isinstance(message, AuthorsRequest):
            return AuthorsAnswer((self.share,), False)
        return super().answer_to(message)

    def disagree(self, node: Node) -> Peer:
        """Link, and say that one's set is another one."""
        peer = self.speaks_to(node).linked()
        peer.push(peer.hello().raw)
        peer.ask(GossipRequest((), (), SetStatus(self.count, secrets.token_bytes(32), bytes(8)), 0))
        return peer


def ascending_then_back(message: Request, me: bytes) -> Answer | None:
    if not isinstance(message, IdsRequest):
        return None
    return IdsAnswer((bytes([1]) * 16,) if message.after else (bytes([5]) * 16, bytes([6]) * 16), True)


def authors_for_ever(message: Request, me: bytes) -> Answer | None:
    if not isinstance(message, AuthorsRequest):
        return None
    return AuthorsAnswer((AuthorSummary(bytes([1]) * 32, 256, 1, bytes(32)),), True)


def a_snapshot_that_leaves_its_part(message: Request, me: bytes) -> Answer | None:
    is_filling = isinstance(message, SnapshotRequest) and not message.author
    return SnapshotAnswer((), bytes([255]) * 32) if is_filling else None


@pytest.mark.parametrize(
    ("lie", "count"),
    [(ascending_then_back, 40), (authors_for_ever, 40), (a_snapshot_that_leaves_its_part, 256)],
    ids=["ids that go back", "authors that begin again and again", "a snapshot that leaves its part"],
)
def test_a_neighbour_is_left_alone_that_answers_with(
    asking: Node, lie: Callable[[Request, bytes], Answer | None], count: int
) -> None:
    with LyingPeer(lie, count) as liar:
        peer = liar.disagree(asking)

        assert until(peer.is_shunned), [type(one).__name__ for one in liar.messages]

        news = fresh(Peer(asking), 1)[0]
        assert isinstance(peer.push(news.raw), RefusedAnswer)
    assert asking.is_well()


def test_bodies_in_an_answer_are_judged_like_all_others(asking: Node) -> None:
    """What was asked for, with a signature that does not hold."""
    victim = new_key()

    def lie(message: Request, me: bytes) -> Answer | None:
        if not isinstance(message, SnapshotRequest) or message.author:
            return None
        forged = seal(victim, "pfn/mirror/1", MESH, (0, now_ms(), "a@b.example", 1, bytes(32))).raw
        return SnapshotAnswer((forged[:-1] + bytes([forged[-1] ^ 1]),), b"")

    with LyingPeer(lie, 256) as liar:
        peer = liar.disagree(asking)

        assert until(peer.is_shunned), [type(one).__name__ for one in liar.messages]


def test_an_answer_to_another_question_ends_nothing_and_teaches_nothing(asking: Node) -> None:
    reader = Peer(asking).linked()
    with ListeningPeer() as liar:
        news = fresh(liar.speaks_to(asking), 1)[0]

        def script(asked: Any) -> Iterator[bytes]:
            name = asked.path.rpartition("/")[2]
            if name != "gossip":
                yield from liar.answer(asked)
                return
            open_request(asked.body, mesh=MESH, path=name, me=liar.key.public, now_ms=now_ms())
            body: Value = ("gossip", bytes(16), ((news.raw,), (), None, False))
            raw = seal(liar.key, "pfn/response/1", MESH, body).raw
            yield answer(200, raw, MESSAGE_TYPE)

        liar.script = script
        peer = liar.speaks_to(asking).linked()
        other = Peer(asking).linked()
        other.push(other.hello().raw, other.announce(a_version()).raw)
        assert until(lambda: any(path.endswith("gossip") for path in liar.paths()))

        assert reader.gets(news.id) == [False]
        assert peer.post("have", peer.sealed(HaveRequest(()))).status == 200


def a_version() -> Any:
    return version_statement("someone@127.0.0.1:9", "tool", secrets.token_bytes(32), 100)
