"""What is kept of publishers' keys and notices when their source goes: nothing of what strangers made up, all else."""

from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import discovery, sources, subscriptions
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.heads import take_head
from pfn_node.store.key_changes import begin_keys, state_of
from pfn_node.store.notices import take_binding, take_notice
from pfn_node.store.rows import Filters
from pfn_node.store.schema import migrations
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import public_key_pem
from pfn_protocol.publisher import HeadStatement, sign_head, sign_keybind
from pfn_protocol.publisher_notices import (
    Revocation,
    Rotation,
    Yank,
    sign_revocation,
    sign_rotation,
    sign_yank,
)
from pfn_protocol.set_digest import SetDigest
from tests.node.store_world import NOW, Publisher, World, key, source_statement

BILBO = Publisher()
IMPOSTOR = Publisher(name="impostor")
TABLES = ("publisher_notices", "keybinds", "key_roots", "source_keys", "heads", "sources")
CLEARED = dict.fromkeys(TABLES, 0)
PEN = key("pen")
HEAD = HeadStatement(SetDigest().digest(), 0, NOW * 1_000, NOW + 60)


def counts(db: sqlite_utils.Database) -> dict[str, int]:
    return {table: db.table(table).count for table in TABLES}


def revocation_of(whose: Publisher) -> bytes:
    return sign_revocation(whose.key, Revocation(whose.url, whose.username, whose.key.public, "lost", NOW * 2)).raw


def rotation_of(whose: Publisher) -> bytes:
    old, new = whose.key, key("next")
    said = Rotation(whose.url, whose.username, "identity", old.public, new.public, 1, "", NOW, b"", old.public)
    return sign_rotation(new, old, said).raw


def fill(world: World, whose: Publisher) -> None:
    """Have a publisher say a thing of each kind."""
    keybind = sign_keybind(whose.key, PEN, whose.url).raw
    assert take_binding(world.db, keybind, world.at)
    take_head(world.db, whose.source_id, sign_head(PEN, HEAD).raw, keybind, world.at)
    yank = Yank(whose.url, whose.username, "hello", "1.0.0", "", NOW * 1_000, False)
    for notice in (sign_yank(PEN, yank).raw, rotation_of(whose)):
        assert take_notice(world.db, notice, world.at).statement is not None


def test_thousands_of_sources_that_come_and_go_with_what_they_signed_leave_nothing() -> None:
    world = World()
    for stranger in range(20):
        for number in range(100):
            whose = Publisher(f"name{stranger}", f"https://shop{number}.example")
            world.say(f"stranger {stranger}", source_statement(whose))
            fill(world, whose)
            discovery.disprove(world.db, whose.source_id, key("wrong").public)
        assert counts(world.db) == {**dict.fromkeys(TABLES, 100), "publisher_notices": 200, "source_keys": 200}

        world.block(f"stranger {stranger}")

        assert counts(world.db) == CLEARED
        assert world.db.execute("SELECT count(*) FROM facts WHERE name LIKE 'disproved:%'").fetchone() == (0,)


def test_a_source_that_makes_room_for_a_pins_takes_what_it_signed_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "DISCOVERED_MAX", 1)
    world = World()
    world.pin("friend")
    invented = Publisher("invented", "https://invented.example")
    world.say("stranger", source_statement(invented))
    fill(world, invented)

    world.say("friend", source_statement(BILBO))

    assert counts(world.db) == CLEARED | {"sources": 1}


def test_a_source_that_was_only_heard_of_takes_what_it_signed_along_when_an_admin_removes_it() -> None:
    world = World()
    world.say("stranger", source_statement(BILBO))
    fill(world, BILBO)

    assert sources.delete_source(world.db, BILBO.source_id, purge=True)

    assert counts(world.db) == CLEARED


def test_a_source_that_is_kept_for_its_subscribers_keeps_what_it_signed() -> None:
    world = World()
    world.say("stranger", source_statement(BILBO))
    fill(world, BILBO)
    subscriptions.set_subscription(world.db, BILBO.source_id, "key", Filters(), NOW)
    before = counts(world.db)

    world.block("stranger")

    assert counts(world.db) == before


# A source that was relied on, was removed, and is heard of again.


@pytest.mark.parametrize("relied", [{"registered": True}, {"registered": False, "verified_at": NOW}])
def test_what_was_revoked_stays_so_after_an_admin_removed_the_source(relied: dict[str, Any]) -> None:
    world = World()
    world.add_source(BILBO, **relied)
    assert take_notice(world.db, revocation_of(BILBO), NOW).statement is not None
    sources.delete_source(world.db, BILBO.source_id, purge=True)
    marks = counts(world.db)

    for named in (IMPOSTOR, BILBO):
        for _ in range(2):  # it comes and goes, and comes again
            world.say("stranger", source_statement(named))
            world.block("stranger")
            world.block("stranger", blocked=False)
    found = sources.get_source(world.db, BILBO.source_id)

    assert found is not None and (found.status, found.public_key) == ("revoked", public_key_pem(BILBO.key.public))
    assert state_of(world.db, BILBO.source_id) == "revoked"
    assert counts(world.db) == marks | {"sources": 1}
    with pytest.raises(Refusal, match="does not speak"):
        said = Yank(BILBO.url, BILBO.username, "hello", "1.0.0", "", NOW * 1_000, False)
        take_notice(world.db, sign_yank(BILBO.key, said).raw, NOW)


def test_a_key_outside_the_chain_of_a_removed_source_is_not_shown_until_an_admin_adds_it() -> None:
    world = World()
    world.add_source(BILBO)
    fill(world, BILBO)
    sources.delete_source(world.db, BILBO.source_id, purge=True)

    world.say("stranger", source_statement(IMPOSTOR))
    assert sources.get_source(world.db, BILBO.source_id) is None
    world.add_source(IMPOSTOR)
    begin_keys(world.db, BILBO.source_id, NOW)

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(IMPOSTOR.key.public)
    assert state_of(world.db, BILBO.source_id) == "speaks"


def test_a_removed_source_that_is_heard_of_under_its_former_key_has_the_one_that_followed() -> None:
    world = World()
    world.add_source(BILBO)
    fill(world, BILBO)
    sources.delete_source(world.db, BILBO.source_id, purge=True)

    world.say("stranger", source_statement(BILBO))

    source = sources.get_source(world.db, BILBO.source_id)
    assert source is not None and (source.status, source.registered) == ("discovered", False)
    assert source.public_key == public_key_pem(key("next").public)


# A database of the version before.


def test_of_sources_that_were_gone_before_only_what_was_relied_on_stays(tmp_path: Path) -> None:
    earlier = sqlite_utils.Database(tmp_path / "node.db")
    migrations.apply(earlier, stop_before="m010_relied_sources")
    notice = {"kind": "yank", "subject": "x", "raw": b"", "signer": b"", "keybind": b"", "epoch": 0, "seq": 0}
    gone = ("registered", "chosen", "signed", "heard")
    for name in (*gone, "here"):
        root = {"root": b"", "epoch": 0, "state": "speaks", "chosen_at": 1 if name == "chosen" else None}
        earlier.table("key_roots").insert({"source_id": f"{name}@shop.example", **root})
        earlier.table("publisher_notices").insert(
            {"source_id": f"{name}@shop.example", **notice, "withdrawn": 0, "seen_at": 1}
        )
    record_activity(
        earlier, "federation_event", "registered@shop.example was registered", at=1, source_id="registered@shop.example"
    )
    earlier.table("signed_since").insert({"source_id": "signed@shop.example", "plugin_id": "x", "version": "1"})
    earlier.execute(
        """
        INSERT INTO sources (id, instance_url, username, public_key, status, created_at, key_raw, host)
        VALUES ('here@shop.example', '', 'here', '', 'discovered', 1, x'', 'shop.example')
        """
    )
    earlier.conn.commit()
    earlier.close()

    database = Database.open(tmp_path / "node.db")

    roots = database.read_now(lambda db: db.execute("SELECT source_id, relied FROM key_roots").fetchall())
    kept = {"registered@shop.example": 1, "chosen@shop.example": 1, "signed@shop.example": 1, "here@shop.example": 0}
    assert dict(roots) == kept
    assert database.read_now(lambda db: db.table("publisher_notices").count) == len(kept)
    database.close()
