"""The audit log: every entry chained to the one before, and whatever is done to it shows."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pfn_node.store import audit
from pfn_node.store.audit import AuditEntry, Head, append, broken, cut_off, entries, hash_of, head
from pfn_node.store.database import Database
from pfn_node.web.access_answers import AuditRow
from pfn_node.web.auth import mint

NOW = 1_795_420_800


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "node.db", inline=True)
    yield opened
    opened.close()


async def written(database: Database, count: int) -> list[AuditEntry]:
    """A log with so many entries."""
    for number in range(count):
        await database.write(
            lambda db, n=number: append(  # type: ignore[misc]
                db, at=NOW + n, actor="key0", action="POST /x", target=f"t{n}", details={"b": n, "a": "ä"}
            )
        )
    return await database.read(lambda db: entries(db, limit=count + 10))


async def test_an_untouched_log_is_sound_and_ends_with_its_head(database: Database) -> None:
    chain = await written(database, 5)
    end = await database.read(head)

    assert [entry.seq for entry in chain] == [1, 2, 3, 4, 5]
    assert end == Head(5, chain[-1].hash)
    assert broken(chain) is broken(chain, end) is broken(chain, Head(2, chain[1].hash)) is None
    assert broken([]) is None and head_of_nothing(chain) == bytes(32)


def head_of_nothing(chain: list[AuditEntry]) -> bytes:
    return chain[0].previous


CHANGES: dict[str, Callable[[AuditEntry], AuditEntry]] = {
    "at": lambda entry: replace(entry, at=entry.at + 1),
    "actor": lambda entry: replace(entry, actor="master"),
    "address": lambda entry: replace(entry, address="10.0.0.1"),
    "action": lambda entry: replace(entry, action="POST /y"),
    "target": lambda entry: replace(entry, target=None),
    "outcome": lambda entry: replace(entry, outcome="refused"),
    "details": lambda entry: replace(entry, details="{}"),
    "between two fields": lambda entry: replace(entry, actor="key0P", action="OST /x"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_of_any_field_shows_where_it_is(database: Database, name: str) -> None:
    chain = await written(database, 4)
    chain[1] = CHANGES[name](chain[1])

    assert "entry 2 was changed" in (broken(chain) or "")


@pytest.mark.parametrize("name", CHANGES)
async def test_an_entry_that_is_written_anew_with_its_hash_breaks_the_next(database: Database, name: str) -> None:
    chain = await written(database, 4)
    changed = CHANGES[name](chain[1])
    chain[1] = replace(changed, hash=hash_of(changed))

    assert "entry 3 does not follow entry 2" in (broken(chain) or "")


async def test_missing_entries_show_wherever_they_were(database: Database) -> None:
    chain = await written(database, 6)
    end = Head(6, chain[-1].hash)

    assert "the entries 3 to 4 are missing" in (broken(chain[:2] + chain[4:]) or "")
    assert "the entries up to 2 are missing" in (broken(chain[2:]) or "")
    assert broken(chain[:4]) is None, "a cut end cannot be seen without a noted head"
    assert "its end was cut off" in (broken(chain[:4], end) or "")
    assert "its end was cut off" in (broken([], end) or "")


@pytest.mark.parametrize("left", [0, 4])
async def test_a_log_whose_end_was_cut_off_says_so_and_goes_on_after_what_was_cut(
    database: Database, left: int
) -> None:
    whole = await written(database, 6)
    assert await database.read(cut_off) is None

    await database.write(lambda db: db.execute("DELETE FROM audit WHERE seq > ?", (left,)))

    assert "entry 6 was written last" in (await database.read(cut_off) or "")
    assert await database.read(head) == Head(6, whole[-1].hash), "what a client is told, who then misses it"
    chain = await written(database, 1)
    assert chain[-1].seq == 7 and await database.read(cut_off) is None
    assert "are missing" in (broken(chain) or "")


async def test_a_log_that_was_written_anew_is_not_the_noted_one(database: Database) -> None:
    chain = await written(database, 3)

    assert "written anew" in (broken(chain, Head(3, bytes(32))) or "")


async def test_the_oldest_go_and_an_entry_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_MAX", 6)
    monkeypatch.setattr(audit, "_PRUNE_EVERY", 4)

    await written(database, 30)
    chain = await database.read(lambda db: entries(db, limit=100))

    assert len(chain) <= 6 + 4 + 1
    assert chain[0].seq > 1 and any(entry.action == audit.PRUNED for entry in chain)
    assert broken(chain) is None
    assert "missing" in (broken(chain[1:]) or ""), "one more than was pruned"


async def test_entries_cannot_be_changed_by_mistake(database: Database) -> None:
    await written(database, 2)

    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        await database.write(lambda db: db.execute("UPDATE audit SET actor = 'me'"))


async def test_what_remote_software_wrote_is_bounded_and_stored_as_it_is(database: Database) -> None:
    nasty = "'); DROP TABLE audit; --\ud800" + "x" * 10_000
    await database.write(
        lambda db: append(
            db,
            at=NOW,
            actor=nasty,
            action=nasty,
            target=nasty,
            address=nasty,
            details={f"{number:02}": nasty for number in range(100)},
        )
    )

    (entry,) = await database.read(entries)
    assert entry.target is not None and len(entry.target) == audit.TEXT_CHARACTERS_MAX
    assert entry.target.startswith("'); DROP TABLE audit; --?")
    assert len(entry.details) < audit.DETAILS_MAX * (audit.TEXT_CHARACTERS_MAX + 20)
    assert broken([entry]) is None


async def test_a_key_in_the_wrong_place_does_not_stay_there(database: Database) -> None:
    key = mint()
    secret = key.text.rpartition("_")[2]
    await database.write(
        lambda db: append(db, at=NOW, actor="key0", action="POST /x", target=key.text, details={"slug": key.text})
    )

    (entry,) = await database.read(entries)
    assert entry.target == f"fadmin_{key.id}_***" and secret not in entry.details
    assert broken([entry]) is None


async def test_keys_are_cut_out_of_each_text_and_never_across_two(database: Database) -> None:
    secret = mint().text
    details = {
        "exclude": ["https://elsewhere.test", {secret: [f"https://me:hush@a.test/{secret}"]}],
        "sourceId": "bilbo@publisher.test",
        "status": 502,
    }
    await database.write(lambda db: append(db, at=NOW, actor="key0", action="POST /x", target=None, details=details))

    (entry,) = await database.read(entries)
    cut = f"{secret.rpartition('_')[0]}_***"
    assert entry.told == details | {"exclude": ["https://elsewhere.test", {cut: [f"https://***@a.test/{cut}"]}]}


async def test_an_entry_that_cannot_be_read_is_told_as_it_stands(database: Database) -> None:
    (entry,) = await written(database, 1)
    damaged = replace(entry, details='{"exclude":["https://***@publisher.test"}')

    assert damaged.told == {"unreadable": damaged.details}
    assert AuditRow.of(damaged).details == damaged.told
