"""What a hostile peer may try with the machine: none of it ends the node, cuts it off, or takes memory without end."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, START_MS, key_of
from pfn_protocol.acceptance import announce
from pfn_protocol.addresses import Source, address_after, with_address
from pfn_protocol.announcements import MirrorStatement, NodeStatement
from pfn_protocol.effects import Effect, ForgetPeer, SendAnswer, SendRequest
from pfn_protocol.events import AnswerReceived, Event, PeerUnreachable, PolicyChanged, RequestReceived, TimePassed
from pfn_protocol.limits import (
    links_max,
    peers_known_max,
    peers_per_group_max,
    reconciliation_quiet_ms_min,
    reconciliation_second_ms,
    reconciliation_wait_ms,
    silent_link_ms_max,
    view_max,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.mesh import LinkView, Mesh, MeshOptions, Restored
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peer import LinkState
from pfn_protocol.peers import Peers
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.slots import entry_of
from tests.protocol.sets import ALICE, BOB, entry

MALLORY, CAROL = key_of("mallory"), key_of("carol")
NOT_LINKED = LinkAnswer(False, 86_400, (), ())


def machine(
    *pins: bytes, url: str = "http://alice.test", peers: tuple[PeerAddress, ...] = (), hosts_shared: bool = False
) -> Mesh:
    options = MeshOptions(url, "test/1", hosts_shared=hosts_shared)
    return Mesh(ALICE, MESH, options, Random(1), Restored(peers=peers, pins=pins), START_MS)


def ask(mesh: Mesh, sender: bytes, message: Request, now_ms: int = START_MS) -> list[Effect]:
    return mesh.handle(RequestReceived(1, sender, message), now_ms)


def requests(effects: list[Effect]) -> list[SendRequest]:
    return [one for one in effects if isinstance(one, SendRequest)]


def node_announced(url: str, key: int | str = "carol", seq: int = START_MS) -> bytes:
    statement = NodeStatement(url, "test/1", (), (), (), 0, bytes(32))
    return announce(key_of(str(key)), MESH, statement, 0, seq).raw


def view_of(mesh: Mesh, node_id: bytes) -> LinkView:
    return next(link for link in mesh.links() if link.peer == node_id)


# --- Who has a place ------------------------------------------------------------------------------------------------


def strangers(numbers: Iterator[int], many: int) -> tuple[PeerAddress, ...]:
    chosen = [next(numbers) for _ in range(many)]
    return tuple(PeerAddress(sha256(b"%d" % one).digest(), f"http://x{one}.test") for one in chosen)


def test_a_view_full_of_strangers_does_not_push_out_the_asker() -> None:
    mesh, numbers = machine(), count()
    friend, mallory = BOB.public, MALLORY.public

    def ask_with(sender: bytes, url: str, view: tuple[PeerAddress, ...]) -> None:
        effects = ask(mesh, sender, LinkRequest(url, view, ()))
        while effects:  # whom the node dials does not answer
            dials = [one for one in requests(effects) if isinstance(one.message, LinkRequest)]
            failed: list[Event] = [PeerUnreachable(one.request_id, one.peer, "") for one in dials]
            effects = [effect for event in failed for effect in mesh.handle(event, START_MS)]

    # Mallory's id is the oldest hearsay, and the table is filled behind it up to four places.
    address = PeerAddress(mallory, "http://mallory.test")
    ask_with(friend, "http://bob.test", (address, *strangers(numbers, view_max - 1)))
    for _ in range(peers_known_max // view_max - 2):
        ask_with(friend, "http://bob.test", strangers(numbers, view_max))
    ask_with(friend, "http://bob.test", strangers(numbers, peers_known_max - 4 - len(mesh.links())))

    ask_with(mallory, "http://mallory.test", strangers(numbers, view_max))
    assert view_of(mesh, mallory).state == "linked"
    for _ in range(2 * peers_known_max // view_max):
        ask_with(friend, "http://bob.test", strangers(numbers, view_max))

    assert view_of(mesh, mallory).state == "linked"


def test_of_many_pinned_at_once_none_pushes_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_known_max", 2)
    peers = Peers(ALICE.public, "", Random(1), Outgoing())
    peers.learn(BOB.public, "http://bob.test")

    peers.set_policy([CAROL.public, MALLORY.public, BOB.public], [], START_MS)

    assert all(peers.find(one.public) for one in (BOB, CAROL, MALLORY))


def prove_many(mesh: Mesh, keys: list[bytes], url: str) -> None:
    """Each key is heard of at the URL, dialled, answers, and refuses the link."""
    for key in keys:
        effects = ask(mesh, MALLORY.public, LinkRequest("http://evil.test", (PeerAddress(key, url),), ()))
        while sent := requests(effects):
            effects = []
            for one in sent:
                is_link = isinstance(one.message, LinkRequest)
                answer = NOT_LINKED if is_link else GossipAnswer((), (), None)
                effects += mesh.handle(AnswerReceived(one.request_id, one.peer, answer), START_MS)


def test_many_keys_at_one_host_do_not_keep_newcomers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_known_max", 20)
    mesh = machine()
    keys = [sha256(b"%d" % number).digest() for number in range(30)]
    for number, key in enumerate(keys):
        prove_many(mesh, [key], f"http://evil.test:{number + 1}/{number}")

    answers = [
        one.message
        for one in ask(mesh, CAROL.public, LinkRequest("http://carol.test", (), ()))
        if isinstance(one, SendAnswer)
    ]

    assert isinstance(answers[0], LinkAnswer) and answers[0].accepted
    known = [link.peer for link in mesh.links()]
    assert len([key for key in keys if key in known]) <= peers_per_group_max


def test_pinned_nodes_of_one_host_keep_their_addresses_over_a_restart() -> None:
    trio = [key_of(f"trio-{number}").public for number in range(3)]
    kept = tuple(PeerAddress(one, f"http://house.test/{number}") for number, one in enumerate(trio))

    pinned, unpinned = machine(*trio, peers=kept), machine(peers=kept)

    assert sorted(link.url for link in pinned.links()) == [address.url for address in kept]
    assert [link.url for link in unpinned.links()] == [address.url for address in kept[1:]]
    forgotten = [one for one in unpinned.handle(TimePassed(), START_MS) if isinstance(one, ForgetPeer)]
    assert forgotten == [ForgetPeer(trio[0])]


def test_where_hosts_are_shared_only_the_same_url_counts() -> None:
    nodes = [key_of(f"node-{number}").public for number in range(5)]
    apart = tuple(PeerAddress(one, f"http://127.0.0.1:{9000 + number}") for number, one in enumerate(nodes))
    together = tuple(PeerAddress(one, "http://127.0.0.1:9000") for one in nodes)

    assert len(machine(peers=apart, hosts_shared=True).links()) == 5
    assert len(machine(peers=apart).links()) == peers_per_group_max
    assert len(machine(peers=together, hosts_shared=True).links()) == peers_per_group_max


def test_a_node_that_is_pinned_and_blocked_at_once_is_no_error() -> None:
    mesh = machine()
    ask(mesh, MALLORY.public, LinkRequest("", (), ()))

    mesh.handle(PolicyChanged((MALLORY.public,), (MALLORY.public,)), START_MS)

    assert view_of(mesh, MALLORY.public).state == "blocked"


# --- Links that say nothing -----------------------------------------------------------------------------------------


def test_an_asker_without_a_url_that_announces_one_and_falls_silent_loses_its_link() -> None:
    mesh = machine()
    for number in range(links_max):
        key = key_of(str(number)).public
        ask(mesh, key, LinkRequest("", (), ()))
        ask(mesh, key, GossipRequest((node_announced("http://away.test", number),), (), None, 0))
    assert mesh.status().links == links_max

    mesh.handle(TimePassed(), START_MS + silent_link_ms_max + 1)

    assert mesh.status().links == 0


# --- Whose word an address is ---------------------------------------------------------------------------------------


def test_hearsay_about_a_pinned_node_gives_way_to_its_own_announcement() -> None:
    mesh = machine(CAROL.public)
    relay = PeerAddress(CAROL.public, "http://evil.test/relay")
    effects = ask(mesh, MALLORY.public, LinkRequest("http://evil.test", (relay,), ()))
    (dial,) = [one for one in requests(effects) if one.peer == CAROL.public]
    assert dial.url == relay.url

    ask(mesh, MALLORY.public, GossipRequest((node_announced("http://carol.test"),), (), None, 0))
    assert view_of(mesh, CAROL.public).url == "http://carol.test"
    mesh.handle(PeerUnreachable(dial.request_id, CAROL.public, "cut"), START_MS)

    assert view_of(mesh, CAROL.public).url == "http://carol.test"


def test_a_link_that_a_relay_cut_is_made_anew_where_the_node_says_it_is() -> None:
    mesh = machine(CAROL.public)
    relay = PeerAddress(CAROL.public, "http://evil.test/relay")
    effects = ask(mesh, MALLORY.public, LinkRequest("http://evil.test", (relay,), ()))
    (dial,) = [one for one in requests(effects) if one.peer == CAROL.public]
    effects = mesh.handle(AnswerReceived(dial.request_id, CAROL.public, LinkAnswer(True, 0, (), ())), START_MS)
    ask(mesh, MALLORY.public, GossipRequest((node_announced("http://carol.test"),), (), None, 0))
    assert view_of(mesh, CAROL.public).url == relay.url  # a link stays as it was made

    now_ms = START_MS
    while view_of(mesh, CAROL.public).state == "linked":
        for one in requests(effects):
            mesh.handle(PeerUnreachable(one.request_id, one.peer, "cut"), now_ms)
        now_ms += 20_000
        effects = mesh.handle(TimePassed(), now_ms)

    assert [one.url for one in requests(effects) if one.peer == CAROL.public] == ["http://carol.test"]


def test_after_a_restart_a_nodes_own_word_still_outranks_what_was_remembered() -> None:
    statement = NodeStatement("http://carol.test", "test/1", (), (), (), 0, bytes(32))
    farewell = NodeStatement("http://bob.test", "test/1", (), (), (), 0, bytes(32), left=True)
    said = announce(CAROL, MESH, statement, 0, START_MS), announce(BOB, MESH, farewell, 0, START_MS)
    kept = [(entry_of(one), True) for one in said]
    peers = (PeerAddress(CAROL.public, "http://evil.test/relay"), PeerAddress(BOB.public, "http://bob-was-here.test"))
    restored = Restored(kept, peers, (CAROL.public, BOB.public))

    mesh = Mesh(ALICE, MESH, MeshOptions("", "test/1"), Random(1), restored, START_MS)

    assert view_of(mesh, CAROL.public).url == "http://carol.test"
    assert view_of(mesh, BOB.public).url == "http://bob-was-here.test"


def test_of_each_source_the_latest_address_counts_and_hearsay_takes_what_room_is_left() -> None:
    known: dict[str, Source] = {}
    for url, source in (
        ("heard-0", Source.HEARD),
        ("announced-0", Source.ANNOUNCED),
        ("heard-1", Source.HEARD),
        ("announced-1", Source.ANNOUNCED),
        ("proven", Source.PROVEN),
        ("announced-1", Source.HEARD),
    ):
        known = with_address(known, url, source)
    assert list(known.items())[:2] == [("announced-1", Source.ANNOUNCED), ("proven", Source.PROVEN)]

    known = with_address(with_address(known, "joined", Source.JOINED), "heard-2", Source.HEARD)

    assert list(known) == ["joined", "announced-1", "proven"]
    assert [address_after(known, url) for url in ("joined", "proven", "gone")] == ["announced-1", "joined", "joined"]


# --- Rounds that would not end --------------------------------------------------------------------------------------


class Round:
    """Alice compares with mallory, who answers as it likes."""

    count = 5  # announcements, as mallory says

    def __init__(self, *pins: bytes) -> None:
        self.mesh = machine(*pins)
        self.now_ms = START_MS
        request = LinkRequest("http://evil.test", (), (), *self.secret())
        self._to_answer = requests(ask(self.mesh, MALLORY.public, request))
        self.hear_status()
        self.asked: list[Request] = []
        self._sybils = count()

    def secret(self) -> tuple[bytes, bytes]:
        """What mallory says to have a secret of the link. None: there are no cells, and pages have to do."""
        return b"", b""

    def hear_status(self) -> None:
        """Mallory says how its set stands, and does not begin a round itself."""
        said = GossipRequest((), (), SetStatus(self.count, bytes(32), self._scope), 0)
        self._to_answer += requests(ask(self.mesh, MALLORY.public, said, self.now_ms))
        self.now_ms += reconciliation_wait_ms + reconciliation_second_ms
        self._to_answer += requests(self.mesh.handle(TimePassed(), self.now_ms))

    @property
    def _scope(self) -> bytes:
        """That of the link, as alice said it."""
        answers = ask(self.mesh, MALLORY.public, GossipRequest((), (), SetStatus(0, bytes(32)), 0), self.now_ms)
        (said,) = [one.message for one in answers if isinstance(one, SendAnswer)]
        assert isinstance(said, GossipAnswer) and said.status is not None
        return said.status.scope

    def answer(self, message: Request) -> Answer:
        match message:
            case AuthorsRequest():
                return AuthorsAnswer((AuthorSummary(ALICE.public, 5_000, 9, bytes(32)),), False)
            case IdsRequest():
                return IdsAnswer(tuple(sorted(sha256(b"%d" % number).digest()[:16] for number in range(600))), False)
            case FetchRequest():
                sybil = key_of(f"sybil {next(self._sybils)}")
                parked = announce(sybil, MESH, MirrorStatement("a@pub.test", 1, bytes(32)), 0, self.now_ms)
                return FetchAnswer((parked.raw,), ())
            case SnapshotRequest():
                return SnapshotAnswer((), b"")
            case _:
                return GossipAnswer((), (), None)

    def run(self) -> None:
        while self._to_answer and len(self.asked) < 50:
            one = self._to_answer.pop(0)
            self.asked.append(one.message)
            self.now_ms += 10
            answered = AnswerReceived(one.request_id, one.peer, self.answer(one.message))
            self._to_answer += requests(self.mesh.handle(answered, self.now_ms))

    def asked_for(self, kind: type[Request]) -> int:
        return sum(isinstance(message, kind) for message in self.asked)


def test_what_is_only_parked_is_no_gain_so_what_did_not_come_with_it_is_not_asked_for_again() -> None:
    conversation = Round()

    conversation.run()

    assert conversation.asked_for(FetchRequest) == 3  # 600 ids


def test_authors_that_repeat_from_page_to_page_end_the_link() -> None:
    class Repeating(Round):
        def answer(self, message: Request) -> Answer:
            said = super().answer(message)
            return AuthorsAnswer(said.authors, True) if isinstance(said, AuthorsAnswer) else said

    conversation = Repeating()

    conversation.run()

    assert (conversation.asked_for(AuthorsRequest), conversation.asked_for(IdsRequest)) == (2, 0)
    assert conversation.mesh.status().links == 0


def test_ids_that_repeat_from_page_to_page_end_the_link_and_the_node_is_left_alone() -> None:
    class Repeating(Round):
        def answer(self, message: Request) -> Answer:
            said = super().answer(message)
            return IdsAnswer(said.ids, True) if isinstance(said, IdsAnswer) else said

    conversation = Repeating()

    conversation.run()

    # Of 600 ids two fetches are full before the second page is asked for.
    assert (conversation.asked_for(IdsRequest), conversation.asked_for(FetchRequest)) == (2, 2)
    assert conversation.mesh.status().links == 0
    effects = ask(conversation.mesh, MALLORY.public, LinkRequest("http://evil.test", (), ()), conversation.now_ms)
    assert not any(isinstance(one, SendAnswer) and isinstance(one.message, LinkAnswer) for one in effects)


class Filling(Round):
    """Alice is nearly empty, as mallory has it, and takes a snapshot."""

    count = 5_000

    def after(self) -> bytes:
        return b""

    def answer(self, message: Request) -> Answer:
        if not isinstance(message, SnapshotRequest) or message.author:
            return super().answer(message)
        mirror = MirrorStatement("a@pub.test", next(self._sybils), bytes(32))
        return SnapshotAnswer((announce(CAROL, MESH, mirror, 0, self.now_ms).raw,), self.after())


def test_a_snapshot_whose_pages_go_back_ends_the_link() -> None:
    class Back(Filling):
        def after(self) -> bytes:
            return b"\7" * 32

    conversation = Back(CAROL.public)

    conversation.run()

    assert sum(isinstance(one, SnapshotRequest) and one.after == b"\7" * 32 for one in conversation.asked) == 1
    assert conversation.mesh.status().links == 0


def test_a_snapshot_without_an_end_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Filling):
        pages = count(1)

        def after(self) -> bytes:
            return next(self.pages).to_bytes(32)

    monkeypatch.setattr("pfn_protocol.snapshot.snapshot_pages_max", 7)
    conversation = Endless(CAROL.public)

    conversation.run()

    pages = [one for one in conversation.asked if isinstance(one, SnapshotRequest) and not one.author]
    assert len(pages) == 7


def test_cells_for_which_there_is_no_room_now_are_asked_for_again_and_not_replaced_by_pages() -> None:
    class Busy(Round):
        def secret(self) -> tuple[bytes, bytes]:
            return LinkSecrets(Random(2)).offer(ALICE.public, is_linked=False)

        def answer(self, message: Request) -> Answer:
            busy = RefusedAnswer("busy", "come again", START_MS)
            return busy if isinstance(message, CellsRequest) else super().answer(message)

    conversation = Busy()
    conversation.run()
    asked = conversation.asked_for(AuthorsRequest)
    assert conversation.asked_for(CellsRequest) == 1

    conversation.now_ms += reconciliation_quiet_ms_min
    conversation.hear_status()
    conversation.run()

    assert (conversation.asked_for(CellsRequest), conversation.asked_for(AuthorsRequest)) == (2, asked)


def test_a_round_has_a_limited_number_of_fetches_and_the_next_one_finds_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.comparison.fetch_ids_max", 2)
    monkeypatch.setattr("pfn_protocol.rounds.round_fetches_max", 3)
    monkeypatch.setattr("pfn_protocol.comparison.offered_ids_max", 0)  # bob's own rounds bring alice nothing
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    for number in range(20):
        bob.sees(f"plugin-{number}")
    alice.pin(bob)
    alice.join(bob)

    network.elapse(seconds=2)
    assert 0 < len(alice.versions(bob)) < 20
    network.elapse(seconds=60)

    assert len(alice.versions(bob)) == 20


def test_own_announcements_that_are_superseded_do_not_count_as_gained() -> None:
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()
    offers: list[bytes] = []
    secrets = LinkSecrets(Random(1))
    reconciliation = Reconciliation(registry, outgoing, secrets, lambda _, ids: offers.extend(ids), has_url=True)
    reconciliation.open(BOB.public, "http://bob.test", (), START_MS)
    scope = reconciliation.status(BOB.public).scope
    reconciliation.heard_status(BOB.public, SetStatus(1, bytes(32), scope), START_MS)
    reconciliation.flush(START_MS + reconciliation_second_ms)

    def landed(kind: type[Request]) -> int:
        (one,) = requests(outgoing.drain())
        assert isinstance(one.message, kind)
        return one.request_id

    in_flight = outgoing.take(landed(AuthorsRequest), BOB.public)
    assert in_flight is not None
    summary = AuthorSummary(BOB.public, 5_000, 2, bytes(32))
    assert reconciliation.answered_authors(in_flight, AuthorsAnswer((summary,), False), START_MS)
    in_flight = outgoing.take(landed(IdsRequest), BOB.public)
    assert in_flight is not None
    assert reconciliation.answered_ids(in_flight, IdsAnswer((bytes(16), b"\1" * 16), False), START_MS)
    in_flight = outgoing.take(landed(FetchRequest), BOB.public)
    assert in_flight is not None

    reconciliation.fetched(in_flight, (), {b"\2" * 32: True}, START_MS)

    assert not outgoing.drain()
    assert not offers
    reconciliation.heard_status(BOB.public, SetStatus(1, bytes(32), scope), START_MS)
    assert reconciliation.wake_at is None  # it is known that a round brings nothing


# --- Memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("admitted", [True, False], ids=["in the set", "parked"])
def test_a_slot_that_is_renewed_for_ever_takes_the_memory_of_one(admitted: bool) -> None:
    registry = Registry(ALICE.public, [BOB.public] if admitted else [])
    for number in range(300):
        registry.offer(entry(BOB, MirrorStatement("a@pub.test", number, bytes(32)), START_MS + number))

    assert len(registry._expiries) < 100
    last = entry(BOB, MirrorStatement("a@pub.test", 299, bytes(32)), START_MS + 299)
    assert registry.knows(last.id)
    assert last.expires_ms is not None
    assert registry.expire(last.expires_ms) == ((last.id,), False)


def test_a_linked_asker_is_never_hearsay() -> None:
    peers = Peers(ALICE.public, "", Random(1), Outgoing())
    peers.asked_for_link(BOB.public, LinkRequest("", (), ()), START_MS)
    peer = peers.find(BOB.public)

    assert peer is not None and peer.state is LinkState.LINKED and not peer.is_hearsay
