"""A data folder with very many kept announcements, made through the store: real signatures of a thousand authors.

All authors are admitted: the node pins some, and these pin the others. What follows from the announcements is not in
the catalogue (it would take longer to make than everything that is measured); nothing waits to be concluded.
"""

import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool

import sqlite_utils

from pfn_node.mesh.engine import SOFTWARE
from pfn_node.store import announcements, concluding, facts, peers
from pfn_node.store.database import Database
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, NodeStatement
from pfn_protocol.identity import PrivateKey
from tests.benchmarks.neighbours import MESH, author_key, version_announcement

AUTHORS = 1_000
PLUGINS = 60_000
_PINNED = 16  # by the node; each of them pins 62 others
_PINS = 62
_AT_ONCE = 5_000


async def fill(database: Database, me: PrivateKey, count: int) -> None:
    """Put `count` versions, and what the authors say of themselves, into an empty database whose writer runs."""
    now_ms = int(time.time() * 1000) - 3_600_000
    await database.write(lambda db: _know(db, me, now_ms))
    bounds = [(start, min(start + _AT_ONCE, count), now_ms) for start in range(0, count, _AT_ONCE)]
    with Pool(2) as pool:
        for page in pool.imap(_page, bounds):
            await database.write(partial(_keep, page, now_ms))


def _page(bounds: tuple[int, int, int]) -> list[AcceptedAnnouncement]:
    start, end, now_ms = bounds
    return [version_announcement(number, AUTHORS, PLUGINS, now_ms) for number in range(start, end)]


def _keep(page: list[AcceptedAnnouncement], now_ms: int, db: sqlite_utils.Database) -> None:
    concluding.keep_versions(db, [(one, True) for one in page], now_ms // 1000)
    db.execute("UPDATE announcements SET concluded = 1 WHERE NOT concluded")


def _know(db: sqlite_utils.Database, me: PrivateKey, now_ms: int) -> None:
    facts.set_identity(db, me.public, 1)
    for one in admitting(now_ms):
        announcements.keep(db, one, True, now_ms // 1000)
    for number in range(_PINNED):
        peers.pin_on_join(db, author_key(number).public, False, now_ms // 1000)


def admitting(now_ms: int) -> Iterator[AcceptedAnnouncement]:
    """The node announcements of the pinned authors, which pin all others."""
    others = [author_key(number).public for number in range(_PINNED, AUTHORS)]
    for number in range(_PINNED):
        pins = tuple(sorted(others[number * _PINS : (number + 1) * _PINS]))
        statement = NodeStatement("", SOFTWARE, (), pins, (), 0, bytes(32))
        yield announce(author_key(number), MESH, statement, 0, now_ms)
