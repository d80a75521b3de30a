"""What the tests of the set are made of: signed entries of named authors, and registries filled with them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from pfn_node.simulation.world import MESH, START_MS, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Kind, NodeStatement, Statement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry, entry_of

ALICE, BOB, CAROL, DAVE = (key_of(name) for name in ("alice", "bob", "carol", "dave"))


def node_statement(
    pins: Iterable[PrivateKey] = (), sponsored: Iterable[PrivateKey] = (), *, left: bool = False
) -> NodeStatement:
    return NodeStatement(
        url="",
        software="test/1",
        features=(),
        pins=tuple(sorted(key.public for key in pins)),
        sponsored=tuple(sorted(key.public for key in sponsored)),
        count=0,
        root=bytes(32),
        left=left,
    )


def said(key: PrivateKey, statement: Statement, seq: int = START_MS, epoch: int = 0) -> AcceptedAnnouncement:
    return announce(key, MESH, statement, epoch, seq)


def entry(key: PrivateKey, statement: Statement, seq: int = START_MS, epoch: int = 0) -> Entry:
    return entry_of(said(key, statement, seq, epoch))


def fake_versions(author: bytes, count: int) -> list[Entry]:
    """Many entries of one author without the cost of signing them."""
    return [
        Entry(
            sha256(author + f"{number}".encode()).digest(),
            author,
            Kind.VERSION,
            f"s/{number}/1",
            0,
            START_MS,
            500,
        )
        for number in range(count)
    ]


def everything(registry: Registry) -> list[bytes]:
    return sorted(registry.unsorted_ids())


def filled(entries: Sequence[Entry], pins: Iterable[PrivateKey] = (BOB,)) -> Registry:
    registry = Registry(ALICE.public, [key.public for key in pins])
    for one in entries:
        if registry.offer(one).graph_changed:
            registry.readmit()
    return registry


def changed(key: PrivateKey, content: str, seq: int, replaces: bytes = b"", epoch: int = 0) -> Entry:
    return entry(key, replace(version_statement("a", content=content), replaces=replaces), seq, epoch)
