"""From where this node judges: who it is, how far it trusts, and over which pins others are reached.

Read once for a piece of work, so that judging a thousand releases reads the graph of pins once.
"""

import time
from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.evidence import TextLookup, no_texts
from pfn_node.store.facts import own_id, trust_depth
from pfn_node.store.queries import select
from pfn_protocol.backing import Relation

_KEY_BYTES: Final = 32
# Nodes whose pins are followed, with a trust depth over 1; every one of them may name 64 more.
_REACHED_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Standpoint:
    """What judging needs to know about this node."""

    own: bytes
    trust_depth: int
    paths: dict[bytes, frozenset[bytes]]  # of nodes at depth 2 and 3: the nodes on one shortest path of pins to them
    now: int  # seconds since 1970
    text: TextLookup

    def relation(self, observer: bytes, pinned: bool) -> Relation:
        """What an observer is to this node."""
        if observer == self.own:
            return Relation.SELF
        if pinned:
            return Relation.PIN
        return Relation.DEPTH if observer in self.paths else Relation.STRANGER


def standpoint(db: sqlite_utils.Database, *, now: int | None = None, text: TextLookup = no_texts) -> Standpoint:
    """Read this node's standpoint; `now` in seconds, the clock's if left out."""
    depth = trust_depth(db)
    return Standpoint(
        own=own_id(db),
        trust_depth=depth,
        paths=_paths(db, depth) if depth > 1 else {},
        now=int(time.time()) if now is None else now,
        text=text,
    )


def _paths(db: sqlite_utils.Database, depth: int) -> dict[bytes, frozenset[bytes]]:
    """Follow pins breadth first, not through or to blocked nodes; in the order of keys, so always the same way."""
    opinions = select(db, "SELECT node_id, pinned, blocked FROM peers WHERE pinned OR blocked ORDER BY node_id")
    blocked = {row["node_id"] for row in opinions if row["blocked"]}
    pinned = [row["node_id"] for row in opinions if not row["blocked"]]
    seen = {own_id(db), *pinned, *blocked}
    paths: dict[bytes, frozenset[bytes]] = {}
    edge: dict[bytes, frozenset[bytes]] = {node: frozenset() for node in pinned}
    for _ in range(depth - 1):
        following: dict[bytes, frozenset[bytes]] = {}
        for node, path in edge.items():
            for reached in pins_of(db, node):
                if reached not in seen and len(seen) < _REACHED_MAX:
                    seen.add(reached)
                    following[reached] = path | {node}
        paths |= following
        edge = following
    return paths


def pins_of(db: sqlite_utils.Database, node: bytes) -> list[bytes]:
    """Return whom a node pins, by what it says of itself."""
    rows = select(db, "SELECT pins FROM node_claims WHERE node_id = ? AND admitted AND NOT departed", (node,))
    return [row["pins"][start : start + _KEY_BYTES] for row in rows for start in range(0, len(row["pins"]), _KEY_BYTES)]


def pinned_by_pinned(db: sqlite_utils.Database) -> list[bytes]:
    """Return the nodes that nodes pinned here pin: no word that backs bytes, but no strangers either."""
    pinned = select(db, "SELECT node_id FROM peers WHERE pinned AND NOT blocked ORDER BY node_id")
    found = dict.fromkeys(reached for row in pinned for reached in pins_of(db, row["node_id"]))
    return list(found)[:_REACHED_MAX]


def has_standing(db: sqlite_utils.Database, node: bytes) -> bool:
    """Whether a node is pinned, or reached over pins within the trust depth: only then its own pins lead anywhere."""
    if select(db, "SELECT 1 FROM peers WHERE node_id = ? AND pinned AND NOT blocked", (node,)):
        return True
    depth = trust_depth(db)
    return depth > 2 and node in _paths(db, depth - 1)


def reached_over(db: sqlite_utils.Database, node: bytes) -> list[bytes]:
    """Return the nodes whose standing may change with that of this one: those it pins, and those that they pin."""
    if trust_depth(db) == 1:
        return []
    near = pins_of(db, node)
    far = [further for one in near for further in pins_of(db, one)] if trust_depth(db) > 2 else []
    return list(dict.fromkeys([*near, *far]))[:_REACHED_MAX]
