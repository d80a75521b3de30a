"""Filling that was broken off goes on by rounds: how many messages it takes for a node that is half full."""

from collections.abc import Sequence

import pytest

from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.comparison import Round
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import fetch_ids_max
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import (
    AuthorsRequest,
    AuthorSummary,
    CellsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    SetStatus,
    SnapshotRequest,
)
from pfn_protocol.slots import Entry
from tests.protocol.parties import Party
from tests.protocol.sets import ALICE, BOB, fake_versions

AUTHORS = tuple(key_of(f"author {number}") for number in range(100))
EVERYBODY: Sequence[PrivateKey] = (ALICE, BOB, *AUTHORS)
EACH = 20


def everything() -> list[Entry]:
    return [one for author in AUTHORS for one in fake_versions(author.public, EACH)]


def half_full(everything_held: list[Entry]) -> tuple[Party, Party]:
    """Bob has everything; they have no secret for cells."""
    alice, bob = Party(ALICE, EVERYBODY), Party(BOB, EVERYBODY)
    bob.hold(everything())
    alice.hold(everything_held)
    alice.machine.open(bob.id, "http://bob.test", (), START_MS)
    bob.machine.open(alice.id, "http://alice.test", (), START_MS)
    return alice, bob


def fetched(alice: Party) -> list[int]:
    return [len(one.ids) for one in alice.requests(FetchRequest) if isinstance(one, FetchRequest)]


@pytest.mark.parametrize(("page", "pages"), [(16_384, 1), (300, 7)])
def test_where_most_authors_differ_the_ids_of_everybody_are_compared_at_once(
    monkeypatch: pytest.MonkeyPatch, page: int, pages: int
) -> None:
    monkeypatch.setattr("pfn_protocol.pages.ids_page_max", page)
    alice, bob = half_full(sorted(everything(), key=lambda one: one.id)[::2])

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert not alice.requests(CellsRequest) and not alice.requests(SnapshotRequest)
    assert len(alice.requests(IdsRequest)) == pages
    assert sum(fetched(alice)) == len(AUTHORS) * EACH // 2
    assert len(fetched(alice)) <= sum(fetched(alice)) // fetch_ids_max + 1


def test_of_a_few_authors_of_whom_little_is_lacking_the_ids_are_compared_and_what_lacks_is_fetched_together() -> None:
    few = {author.public for author in AUTHORS[:5]}
    alice, bob = half_full([one for one in everything() if one.author not in few or one.id[0] % 2])

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert {one.author for one in alice.requests(IdsRequest) if isinstance(one, IdsRequest)} == few
    assert len(fetched(alice)) == 1


def test_a_side_without_a_url_offers_what_is_on_no_page_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.pages.ids_page_max", 300)
    own = [one for author in AUTHORS for one in fake_versions(author.public, EACH + 1)[EACH:]]
    alice, bob = half_full([*everything()[::2], *own])
    alice.machine._rounds._has_url = False

    alice.compare(bob, START_MS)

    assert len(alice.requests(IdsRequest)) == 7
    assert sorted(alice.offered) == sorted(one.id for one in own)


def test_ids_of_everybody_are_without_the_authors_that_the_other_side_does_not_admit() -> None:
    alice, bob = half_full([])
    told = AuthorsRequest(b"", tuple(sorted((key.public, 5_000) for key in AUTHORS[1:])), True)
    alice.ask(bob, told)

    answer = alice.ask(bob, IdsRequest(b"", 0, b""))

    assert isinstance(answer, IdsAnswer) and not answer.more
    assert answer.ids == tuple(sorted(one.id[:16] for one in everything() if one.author != AUTHORS[0].public))


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
