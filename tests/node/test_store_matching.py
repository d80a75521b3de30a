"""How well what a search finds fits, and when its last word is a beginning too."""

from typing import Any

import pytest

from pfn_node.store import catalogue
from pfn_node.store.catalogue import PluginQuery, search_plugins
from tests.node.store_world import NOW, Publisher, World


def shop(*entries: dict[str, Any]) -> World:
    """Plugins of one publisher, the newest last."""
    world = World()
    world.add_source(Publisher(), verified=True)
    for number, entry in enumerate(entries):
        world.at = NOW + number
        world.fetch("1.0.0", f"bytes {number}", observed_at=world.at, **{"plugin_id": f"p{number}", **entry})
    return world


def test_a_word_counts_most_in_the_name_then_as_a_tag_then_in_the_slug_then_in_the_text() -> None:
    world = shop(
        {"name": "Big Book", "description": "of money"},
        {"name": "Big Money"},
        {"name": "Big Tally", "tags": ("Money",)},
        {"name": "Big Count", "plugin_id": "money-count"},
    )

    assert world.listed(q="money") == ["p1", "p2", "money-count", "p0"]


def test_every_word_counts() -> None:
    world = shop({"name": "Money Big Tally"}, {"name": "Money", "description": "Makes a tally"})

    assert world.listed(q="MONEY tally") == ["p0", "p1"]


def test_of_plugins_that_fit_equally_the_shorter_name_comes_first_then_the_newer_plugin() -> None:
    world = shop({"name": "Money Tally"}, {"name": "Money Ta"}, {"name": "Money Ba"})

    assert world.listed(q="money") == ["p2", "p1", "p0"]


def test_a_word_that_fills_the_list_as_it_stands_is_no_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    world = shop({"name": "Ledger"}, {"name": "A Ledger"}, {"name": "Ledgers"})

    assert world.listed(q="ledger", sort="updated") == ["p2", "p1", "p0"], "two do not fill it"
    monkeypatch.setattr(catalogue, "SEARCH_MATCHES_MAX", 2)
    assert world.listed(q="ledger", sort="updated") == ["p1", "p0"]
    assert world.listed(q="led", sort="updated") == ["p2", "p1"], "so short a beginning has an index"
    assert world.listed(q="ledger", type="plugin", sort="updated") == ["p2", "p1"], "what else narrows it leaves room"


def test_pages_go_on_where_plugins_fit_equally() -> None:
    world = shop(*({"name": "Money"} for _ in range(5)))

    found, cursor = [], None
    for _ in range(3):
        page, total, cursor = search_plugins(world.db, PluginQuery(q="money", limit=2, cursor=cursor), now=NOW)
        found += [plugin.release.plugin_id for plugin in page]
        assert total == 5

    assert (found, cursor) == (["p4", "p3", "p2", "p1", "p0"], None)


def test_a_page_past_the_last_row_says_how_many_there_are() -> None:
    world = shop({"name": "Money"}, {"name": "Money"})
    _, _, cursor = search_plugins(world.db, PluginQuery(q="money", limit=1), now=NOW)
    world.db.execute("DELETE FROM plugins WHERE plugin_id = 'p0'")

    page, total, following = search_plugins(world.db, PluginQuery(q="money", limit=1, cursor=cursor), now=NOW)

    assert (page, total, following) == ([], 1, None)
