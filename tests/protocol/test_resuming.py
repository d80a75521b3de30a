"""Filling that was broken off goes on by rounds: how many messages it takes for a node that is half full."""

from collections.abc import Sequence

from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.comparison import Round
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import fetch_ids_max
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import AuthorSummary, CellsRequest, FetchRequest, IdsRequest, SetStatus, SnapshotRequest
from pfn_protocol.slots import Entry
from tests.protocol.parties import Party
from tests.protocol.sets import ALICE, BOB, fake_versions

AUTHORS = tuple(key_of(f"author {number}") for number in range(100))
EVERYBODY: Sequence[PrivateKey] = (ALICE, BOB, *AUTHORS)
EACH = 20


def everything() -> list[Entry]:
    return [one for author in AUTHORS for one in fake_versions(author.public, EACH)]


def test_pages_of_many_authors_of_whom_little_is_lacking_are_followed_by_few_fetches() -> None:
    alice, bob = Party(ALICE, EVERYBODY), Party(BOB, EVERYBODY)
    bob.hold(everything())
    alice.hold(sorted(everything(), key=lambda one: one.id)[: len(AUTHORS) * EACH // 2])
    alice.machine.open(bob.id, "http://bob.test", (), START_MS)
    bob.machine.open(alice.id, "http://alice.test", (), START_MS)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert not alice.requests(CellsRequest) and not alice.requests(SnapshotRequest)
    assert len(alice.requests(IdsRequest)) == len(AUTHORS)
    fetched = [len(one.ids) for one in alice.requests(FetchRequest) if isinstance(one, FetchRequest)]
    assert len(fetched) <= len(AUTHORS) * EACH // 2 // fetch_ids_max + 1
    assert sum(fetched) == len(AUTHORS) * EACH // 2


def test_after_the_lists_of_authors_were_told_they_and_no_older_status_say_whether_a_snapshot_is_worth_it() -> None:
    alice, bob = Party(ALICE, EVERYBODY), Party(BOB, EVERYBODY)
    bob.hold(everything())
    alice.machine.open(bob.id, "http://bob.test", (), START_MS)
    bob.machine.open(alice.id, "", (), START_MS)
    before = SetStatus(3, bytes(32), bytes(8))  # of the authors that both knew of each other when they linked

    alice.machine.heard_status(bob.id, before, START_MS)
    alice.look(bob, START_MS + 3_000)

    assert alice.agrees_with(bob)
    assert alice.requests(SnapshotRequest)
    assert not alice.requests(CellsRequest) and not alice.requests(IdsRequest) and not alice.requests(FetchRequest)


def test_of_an_author_with_a_smaller_cap_here_no_more_than_that_counts_as_told() -> None:
    alice = Party(ALICE, EVERYBODY)
    link_set, round_ = LinkSet(alice.registry, ()), Round(START_MS, is_telling=True)
    cap = alice.registry.cap(AUTHORS[0].public)
    told = [
        AuthorSummary(author.public, cap + more, 2 * cap, bytes(32))
        for author, more in zip(AUTHORS, (0, 1), strict=False)
    ]
    stranger = AuthorSummary(key_of("a stranger").public, cap, 7, bytes(32))

    round_.heard([*told, stranger], link_set, alice.registry)

    assert round_.ids_told == 2 * cap + cap
