"""What lists are narrowed by; and a node's figures with their history."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlite_utils

from pfn_node.store import catalogue, facets, showcase
from pfn_node.store.facets import FacetValue, facets_of
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


async def test_facets_count_what_they_would_leave(node: WebNode) -> None:
    apples = catalogue.PluginQuery(q="apple")

    whole = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(), 3))
    found = await node.services.database.read(lambda db: facets_of(db, apples, 2))

    assert whole["tag"] == [FacetValue("food", 2), FacetValue("garden", 1), FacetValue("sweet", 1)]
    assert whole["assurance"] == [FacetValue("A1", 2), FacetValue("reported", 3)]
    assert found["tag"] == [FacetValue("food", 1), FacetValue("garden", 1), FacetValue("sweet", 1)]
    assert found["type"] == [FacetValue("plugin", 1), FacetValue("theme", 1)]
    assert found["source"] == [FacetValue(BILBO, 2)]


async def test_facets_of_more_matches_than_are_looked_at_have_no_number(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (catalogue, facets):
        monkeypatch.setattr(module, "SEARCH_MATCHES_MAX", 1)

    many = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(), 3))

    assert many["tag"] == [FacetValue("food", None)], "of the newest alone"
    assert many["assurance"] == [FacetValue("reported", None)]


async def test_where_nothing_can_match_there_is_nothing_to_narrow(node: WebNode) -> None:
    none = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(q="-"), 0))

    assert none == {"tag": [], "source": [], "type": [], "assurance": []}


async def test_no_more_than_a_choice_of_values_is_offered(node: WebNode) -> None:
    await node.add_release(b"9", plugin_id="nine", tags=tuple(f"tag-{number:02}" for number in range(20)))

    offered = await node.services.database.read(lambda db: facets_of(db, catalogue.PluginQuery(), 4))

    assert len(offered["tag"]) == facets.FACET_VALUES_MAX
    assert offered["tag"][0] == FacetValue("food", 2)


async def test_plugins_are_counted_by_level(node: WebNode) -> None:
    counted = await node.services.database.read(showcase.plugins_at)

    assert counted == {"reported": 1, "A0": 0, "A1": 2, "A2": 0, "A3": 0, "A4": 0}


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
