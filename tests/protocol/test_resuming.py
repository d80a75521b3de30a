"""Filling that was broken off goes on by rounds: how many messages it takes for a node that is half full."""

from collections.abc import Sequence

from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import fetch_ids_max
from pfn_protocol.messages import CellsRequest, FetchRequest, IdsRequest, SnapshotRequest
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
