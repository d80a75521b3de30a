"""Sums of ids that an earlier start made: used for exactly these ids, and of no weight otherwise."""

from collections.abc import Sequence
from hashlib import sha256
from random import Random

import pytest
import sqlite_utils

from pfn_node.store import set_sums
from pfn_protocol.set_digest import SetDigest, add_up
from tests.node.store_world import empty_database

AUTHOR, OTHER = b"a" * 32, b"b" * 32
IDS = [sha256(b"%d" % number).digest() for number in range(2_000)]


@pytest.fixture
def db() -> sqlite_utils.Database:
    return empty_database()


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ids were added up, each time."""
    counts: list[int] = []

    def counted(author: bytes, ids: Sequence[bytes]) -> SetDigest:
        counts.append(len(ids))
        return add_up(author, ids)

    monkeypatch.setattr(set_sums, "add_up", counted)
    return counts


def start(db: sqlite_utils.Database, ids: dict[bytes, list[bytes]]) -> bool:
    """As at a start; whether anything was to be written down."""
    sums = set_sums.remembered(db)
    for author, theirs in ids.items():
        assert sums.sum_of(author, theirs) == SetDigest(theirs)
    if sums.is_changed:
        sums.keep(db)
        return True
    return False


def test_the_same_ids_are_added_up_once(db: sqlite_utils.Database, added: list[int]) -> None:
    assert start(db, {AUTHOR: IDS, OTHER: IDS[:1000]})

    assert not start(db, {AUTHOR: IDS, OTHER: IDS[:1000]})

    assert added == [2000, 1000, 0, 0]


def test_only_what_came_since_is_added(db: sqlite_utils.Database, added: list[int]) -> None:
    start(db, {AUTHOR: IDS[:1000]})

    assert not start(db, {AUTHOR: IDS[:1100]}), "so few are not worth writing"
    assert start(db, {AUTHOR: IDS[:1900]})
    assert not start(db, {AUTHOR: IDS})

    assert added == [1000, 100, 900, 100]


@pytest.mark.parametrize("seed", range(4))
def test_other_ids_are_added_up_again(db: sqlite_utils.Database, added: list[int], seed: int) -> None:
    start(db, {AUTHOR: IDS})
    others = list(IDS)
    match seed:
        case 0:
            del others[7]
        case 1:
            others[7] = bytes(32)
        case 2:
            Random(seed).shuffle(others)
        case 3:
            others = others[:500]

    assert start(db, {AUTHOR: others})
    assert not start(db, {AUTHOR: others})

    assert added == [2000, len(others), 0]


def test_what_was_damaged_is_not_used_and_made_again(db: sqlite_utils.Database, added: list[int]) -> None:
    start(db, {AUTHOR: IDS})
    db.execute("UPDATE set_sums SET state = zeroblob(392)")

    assert start(db, {AUTHOR: IDS})
    assert not start(db, {AUTHOR: IDS})

    assert added == [2000, 2000, 0]


def test_sums_of_authors_that_are_gone_are_forgotten(db: sqlite_utils.Database) -> None:
    start(db, {AUTHOR: IDS, OTHER: IDS})

    assert start(db, {OTHER: IDS})

    assert [bytes(row["author"]) for row in db["set_sums"].rows] == [OTHER]


def test_few_ids_are_not_worth_remembering(db: sqlite_utils.Database) -> None:
    assert not start(db, {AUTHOR: IDS[:255]})
