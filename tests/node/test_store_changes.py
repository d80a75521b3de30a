"""Plugins in the order in which they changed, and the news of them."""

from dataclasses import replace
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import changes, decisions, news, releases
from pfn_node.store.catalogue import release_from
from pfn_node.store.changes import changes_after, forgotten_up_to, newest_change
from pfn_node.store.rows import Release
from pfn_node.store.schema import migrations
from pfn_node.store.schema_feeds import add_feeds
from pfn_protocol.announcements import YankStatement
from tests.node.store_world import NOW, Publisher, World

BILBO = Publisher().source_id


@pytest.fixture
def world() -> World:
    made = World()
    made.add_source(Publisher(), verified=True)
    return made


def fetch(world: World, version: str = "1.0.0", plugin_id: str = "hello", **fields: Any) -> None:
    signed = (Publisher().metadata(plugin_id, version, "Hello"),)
    world.fetch(version, f"{plugin_id} {version}", plugin_id=plugin_id, evidence=signed, **fields)


def told(world: World) -> list[tuple[str, str, str]]:
    rows = world.db.execute("SELECT type, plugin_id, about FROM news ORDER BY id").fetchall()
    return [tuple(row) for row in rows]


def after(world: World, seq: int) -> list[str]:
    return [one.plugin_id for one in changes_after(world.db, seq, 100)]


def added(world: World, source: str | None = None, tag: str | None = None, limit: int = 50) -> list[tuple[str, str]]:
    found: list[Release] = [one.release for one in news.releases_added(world.db, source, tag, limit)]
    return [(release.plugin_id, release.version) for release in found]


def test_each_plugin_stands_once_in_the_order_of_its_last_change(world: World) -> None:
    fetch(world)
    fetch(world, plugin_id="other")
    read = newest_change(world.db)

    fetch(world, "1.1.0")

    assert after(world, 0) == ["other", "hello"]
    assert after(world, read) == ["hello"]
    assert after(world, newest_change(world.db)) == []


def test_numbers_are_times_and_never_the_same_nor_smaller(world: World) -> None:
    fetch(world)
    first = newest_change(world.db)
    world.at -= 3_600

    fetch(world, "1.1.0")

    assert first >= NOW * 1_000
    assert newest_change(world.db) == first + 1


def test_judging_again_with_the_same_outcome_is_no_change(world: World) -> None:
    fetch(world)
    before = (newest_change(world.db), told(world))

    releases.refresh(world.db, BILBO, "hello")

    assert (newest_change(world.db), told(world)) == before


def test_what_is_no_longer_listed_is_told_as_gone(world: World) -> None:
    fetch(world)
    read = newest_change(world.db)

    world.db.execute("DELETE FROM observations")
    releases.refresh(world.db, BILBO, "hello")

    (gone,) = changes_after(world.db, read, 100)
    assert (gone.plugin_id, gone.gone) == ("hello", True)
    assert told(world) == []


def test_what_was_never_listed_is_not_gone(world: World) -> None:
    releases.refresh(world.db, BILBO, "unheard")

    assert changes_after(world.db, 0, 100) == []


def test_what_may_be_installed_is_the_same_for_a_row_and_for_a_query(world: World) -> None:
    fetch(world)
    sql = f"SELECT *, {changes.LISTABLE} AS listable FROM releases AS r"
    doubts = ("yanked", "taken_down", "held_back")
    cases: list[dict[str, Any]] = [
        *({"assurance": level} for level in ("reported", "A0", "A1", "A2", "A3", "A4")),
        *({"assurance": "A3", name: "why"} for name in doubts),
        *({"assurance": "A3"} | one for one in ({"cooldown_until": NOW}, {"revoked_key": 1}, {"backed": 0})),
        {"assurance": "A3", "sha256": None},
    ]
    found = []
    for case in cases:
        assert world.db.execute("SAVEPOINT one") is not None
        for name, given in case.items():
            world.db.execute(f"UPDATE releases SET {name} = ?", (given,))
        (row,) = list(world.db.query(sql))
        assert changes.is_listable(release_from(row)) == bool(row["listable"]), case
        found.append(bool(row["listable"]))
        world.db.execute("ROLLBACK TO one")

    assert found == [False, False, *[True] * 4, *[False] * 7]


def test_those_that_are_gone_longest_are_forgotten_and_it_is_known_up_to_where(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "GONE_KEPT_MAX", 1)
    monkeypatch.setattr(changes, "_PRUNE_EVERY", 1)
    for number in range(3):
        fetch(world, plugin_id=f"p{number}")
    world.db.execute("DELETE FROM observations")
    for number in range(3):
        releases.refresh(world.db, BILBO, f"p{number}")

    (left,) = changes_after(world.db, 0, 100)

    assert left.plugin_id == "p2"
    assert forgotten_up_to(world.db) == left.seq - 1


def test_a_release_is_told_once_when_it_may_be_installed(world: World) -> None:
    world.saw("stranger", "2.0.0")
    fetch(world)
    fetch(world, "1.1.0")
    releases.refresh(world.db, BILBO, "hello")

    assert told(world) == [("release.added", "hello", "1.0.0"), ("release.added", "hello", "1.1.0")]
    assert added(world) == [("hello", "1.1.0"), ("hello", "1.0.0")]


def test_a_yank_is_told_and_told_again_if_it_was_taken_back_between(world: World) -> None:
    fetch(world)
    fetch(world, "1.1.0")
    yanked = ("release.yanked", "hello", "1.1.0")

    def say(withdrawn: bool) -> None:
        world.say("me", YankStatement(BILBO, "hello", "1.1.0", reason="it eats posts", withdrawn=withdrawn))
        releases.refresh(world.db, BILBO, "hello")

    say(False)
    assert told(world)[-1] == yanked and added(world) == [("hello", "1.0.0")]
    say(True)
    assert yanked not in told(world) and added(world) == [("hello", "1.1.0"), ("hello", "1.0.0")]
    say(False)
    assert told(world)[-1] == yanked


def test_what_was_taken_down_stands_in_no_feed_and_is_not_new_when_it_comes_back(world: World) -> None:
    fetch(world)
    key = (BILBO, "hello", "1.0.0")

    decisions.take_down(world.db, key, "malware", "k", NOW)
    assert added(world) == []
    decisions.bring_back(world.db, key, "k", NOW)

    assert added(world) == [("hello", "1.0.0")]
    assert told(world) == [("release.added", "hello", "1.0.0")]


def test_releases_are_narrowed_by_source_and_tag_and_bounded(world: World) -> None:
    frodo = replace(Publisher(), username="frodo")
    world.add_source(frodo, verified=True)
    fetch(world, tags=("Forms",))
    fetch(world, plugin_id="other")
    fetch(world, plugin_id="third", source_id=frodo.source_id, tags=("forms",))

    assert added(world, source=BILBO) == [("other", "1.0.0"), ("hello", "1.0.0")]
    assert added(world, tag="FORMS") == [("third", "1.0.0"), ("hello", "1.0.0")]
    assert added(world, source=BILBO, tag="forms") == [("hello", "1.0.0")]
    assert added(world, limit=1) == [("third", "1.0.0")]
    assert added(world, source="nobody@nowhere.test") == []


def test_a_database_from_before_is_filled_with_what_is_listed(world: World) -> None:
    fetch(world)
    fetch(world, "1.1.0")
    for table in ("news", "plugin_changes"):
        world.db.execute(f"DROP TABLE {table}")

    add_feeds(world.db)

    assert after(world, 0) == ["hello"]
    assert added(world) == [("hello", "1.1.0"), ("hello", "1.0.0")]
    releases.refresh(world.db, BILBO, "hello")
    assert len(told(world)) == 2


def test_the_tables_are_a_migration_of_their_own() -> None:
    empty = sqlite_utils.Database(memory=True, execute_plugins=False)

    assert "m014_feeds" in {migration.name for migration in migrations.pending(empty)}
    empty.close()
