"""What lists are narrowed by, counted as the catalogue changes; and a node's figures with their history."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import catalogue, showcase
from pfn_node.store.facets import COUNTED_MATCHES_MAX, FacetValue, facets_of, plugins_having, plugins_listed
from pfn_node.store.schema_catalogue import FACETS
from tests.node.web_node import BILBO, NOW, WebNode, web_node

DAY = showcase.DAY_SECONDS


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"1", plugin_id="one", name="Apple pie", tags=("Food", "Sweet"))
        await made.add_release(b"2", plugin_id="two", name="Apple tree", tags=("Garden",), type="theme")
        await made.add_report(b"3", plugin_id="three", name="Pear pie", tags=("Food",))
        yield made


async def sql(node: WebNode, *statements: str) -> None:
    def run(db: sqlite_utils.Database) -> None:
        for statement in statements:
            db.execute(statement)

    await node.services.database.write(run)


async def counted(node: WebNode) -> list[Any]:
    """The facets as they are kept, after checking that a count of everything says the same."""
    kept, true = await node.services.database.read(
        lambda db: (db.execute("SELECT * FROM plugin_facets ORDER BY 1, 2").fetchall(), db.execute(_TRUTH).fetchall())
    )
    assert kept == true
    return list(kept)


_TRUTH = """
    SELECT 'tag', tag, count(*) FROM plugin_tags GROUP BY tag
    UNION ALL SELECT 'source', source_id, count(*) FROM plugins GROUP BY 2
    UNION ALL SELECT 'type', type, count(*) FROM plugins GROUP BY 2
    UNION ALL SELECT 'assurance', CAST(assurance_rank AS TEXT), count(*) FROM plugins GROUP BY 2 ORDER BY 1, 2
"""


async def test_facets_count_what_they_would_leave(node: WebNode) -> None:
    apples = catalogue.PluginQuery(q="apple")

    whole = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(), 3))
    found = await node.services.database.read(lambda db: facets_of(db, apples, 2))

    assert whole["tag"] == [FacetValue("food", 2), FacetValue("garden", 1), FacetValue("sweet", 1)]
    assert whole["assurance"] == [FacetValue("A1", 2), FacetValue("reported", 3)]
    assert found["tag"] == [FacetValue("food", 1), FacetValue("garden", 1), FacetValue("sweet", 1)]
    assert found["type"] == [FacetValue("plugin", 1), FacetValue("theme", 1)]
    assert found["source"] == [FacetValue(BILBO, 2)]


async def test_facets_of_too_many_matches_are_offered_without_a_number(node: WebNode) -> None:
    tagged = catalogue.PluginQuery(tag="food")

    many = await node.services.database.read(lambda db: facets_of(db, tagged, COUNTED_MATCHES_MAX + 1))
    none = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(q="-"), 0))

    assert many["tag"][0] == FacetValue("food", None)
    assert many["assurance"] == [FacetValue("A1", None), FacetValue("reported", None)]
    assert none == {"tag": [], "source": [], "type": [], "assurance": []}


async def test_facets_follow_what_is_listed_retagged_judged_again_and_taken_off(node: WebNode) -> None:
    before = await counted(node)
    await node.add_release(b"2.1", plugin_id="two", version="2.0.0", name="Apple tree", tags=("Trees",))
    changed = await counted(node)
    await sql(node, "UPDATE plugins SET assurance_rank = 5, type = 'theme'")
    raised = await counted(node)
    await sql(node, "DELETE FROM plugins")
    after = await counted(node)

    assert ("tag", "garden", 1) in before and ("tag", "trees", 1) in changed
    assert [row for row in raised if row[0] in ("assurance", "type")] == [("assurance", "5", 3), ("type", "theme", 3)]
    assert after == []


async def test_a_database_from_before_is_counted_once(node: WebNode) -> None:
    triggers = ("listed", "unlisted", "judged", "tagged", "untagged")
    await sql(node, *(f"DROP TRIGGER plugin_facets_{name}" for name in triggers), "DROP TABLE plugin_facets")

    await sql(node, *FACETS)

    assert len(await counted(node)) == 8


async def test_single_facets_are_looked_up(node: WebNode) -> None:
    def look(db: sqlite_utils.Database) -> list[int]:
        asked = (("tag", "food"), ("tag", "no"), ("assurance", "A1"), ("assurance", "A4"), ("source", BILBO))
        return [plugins_having(db, facet, content) for facet, content in asked] + [plugins_listed(db)]

    assert await node.services.database.read(look) == [2, 0, 2, 0, 3, 3]


async def test_figures_have_a_history_of_two_weeks(node: WebNode) -> None:
    await node.add_release(b"4", plugin_id="four", observed_at=NOW - 3 * DAY)
    await node.add_release(b"5", plugin_id="five", observed_at=NOW - 40 * DAY)
    await sql(
        node,
        f"UPDATE mirrored_plugins SET mirror_date = {NOW - 3 * DAY} WHERE plugin_id = 'four'",
        f"UPDATE mirrored_plugins SET mirror_date = {NOW - 40 * DAY} WHERE plugin_id = 'five'",
        f"UPDATE sources SET created_at = {NOW - DAY}, last_sync = {NOW - 60}",
    )

    figures = await node.services.database.read(lambda db: showcase.figures(db, NOW))

    assert figures.sources == showcase.SourceStates(registered=1, verified=1, failing=0, discovered=0)
    assert (figures.plugins, figures.plugins_held, figures.last_sync) == (5, 4, NOW - 60)
    assert figures.verified_history == [0] * 12 + [1, 1]
    assert figures.held_history == [1] * 10 + [2, 2, 2, 4]
    assert figures.releases_history[-4:] == [1, 0, 0, 3] and len(figures.releases_history) == showcase.HISTORY_DAYS


async def test_sources_are_counted_by_how_they_stand(node: WebNode) -> None:
    await sql(
        node,
        *(
            f"INSERT INTO sources (id, instance_url, username, public_key, status, created_at, key_raw, host) "
            f"VALUES ('{status}@x.test', 'https://x.test', '{status}', '', '{status}', 0, x'', 'x.test')"
            for status in ("error", "conflict", "discovered", "pending")
        ),
    )

    states = await node.services.database.read(showcase.source_states)

    assert states == showcase.SourceStates(registered=4, verified=1, failing=2, discovered=1)


async def test_the_most_trusted_come_first_and_unverified_ones_never(node: WebNode) -> None:
    copy = """
        INSERT INTO sources (id, instance_url, username, public_key, status, trust_score, created_at, key_raw, host)
        SELECT '{0}@x.test', 'https://x.test', '{0}', public_key, '{1}', {2}, 0, key_raw, 'x.test' FROM sources LIMIT 1
    """
    await sql(node, copy.format("best", "verified", 0.9), copy.format("false", "error", 1.0))

    best = await node.services.database.read(lambda db: showcase.most_trusted(db, 5))

    assert [(source.id, plugins) for source, plugins in best] == [("best@x.test", 0), (BILBO, 3)]


async def test_a_level_has_its_newest_release_as_an_example(node: WebNode) -> None:
    def look(db: sqlite_utils.Database) -> list[str | None]:
        found = (showcase.newest_at(db, level) for level in ("A1", "reported", "A3"))
        return [None if release is None else release.plugin_id for release in found]

    assert await node.services.database.read(look) == ["two", "three", None]
