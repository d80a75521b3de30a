"""What consumers find: search, order, pages, versions, digests."""

import base64
import json
import random
from typing import Any

import pytest

from pfn_node.store import catalogue, matching, releases, wordpress
from pfn_node.store.catalogue import CatalogueError, PluginQuery, search_plugins
from pfn_node.store.rows import Plugin
from tests.node.store_world import NOW, Publisher, World, digest, key

BILBO = Publisher()
FRODO = Publisher("frodo", "https://shop.example", "frodo's key")


def shop() -> World:
    """Four plugins, the newest last."""
    world = World()
    world.add_source(BILBO, verified=True)
    entries: list[dict[str, Any]] = [
        {"plugin_id": "hello", "name": "Hello Dolly", "description": "Sings.", "tags": ("Music", "fun")},
        {"plugin_id": "ledger", "name": "Event Ledger", "description": "Keeps a ledger of events.", "tags": ("books",)},
        {"plugin_id": "akismet", "name": "akismet", "description": None, "tags": ("spam",), "type": "theme"},
        {"plugin_id": "cafe", "name": "Café Menu", "description": "A ledger for a café", "tags": ("fun",)},
    ]
    for number, entry in enumerate(entries):
        world.at = NOW + number
        world.fetch("1.0.0", entry["plugin_id"], observed_at=world.at, **entry)
    return world


def test_all_plugins_are_listed_the_latest_first() -> None:
    assert shop().listed() == ["cafe", "akismet", "ledger", "hello"]


def test_names_are_sorted_without_regard_to_case() -> None:
    assert shop().listed(sort="name") == ["akismet", "cafe", "ledger", "hello"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"tag": "FUN"}, ["cafe", "hello"]),
        ({"tag": "none"}, []),
        ({"type": "theme"}, ["akismet"]),
        ({"source": "bilbo@shop.example", "tag": "music"}, ["hello"]),
        ({"source": "nobody@nowhere"}, []),
        ({"min_assurance": "A0"}, ["cafe", "akismet", "ledger", "hello"]),
        ({"min_assurance": "A1"}, []),
        ({"q": "ledger"}, ["ledger", "cafe"]),
        ({"q": "ledger", "sort": "updated"}, ["cafe", "ledger"]),
        ({"q": "ledger", "sort": "name"}, ["cafe", "ledger"]),
        ({"q": "ledger", "tag": "books"}, ["ledger"]),
        ({"q": "led"}, ["ledger", "cafe"]),
        ({"q": "cafe"}, ["cafe"]),
        ({"q": "bilbo akis"}, ["akismet"]),
        ({"q": "hello AND dolly"}, []),
        ({"q": '"!?" *'}, []),
        ({"q": ""}, []),
        ({"sort": "relevance"}, ["cafe", "akismet", "ledger", "hello"]),
    ],
)
def test_filters_and_words_narrow_the_list(filters: dict[str, Any], found: list[str]) -> None:
    assert shop().listed(**filters) == found


@pytest.mark.parametrize("sort", ["updated", "name", "relevance"])
@pytest.mark.parametrize("q", [None, "plugin"])
def test_pages_cover_everything_once_in_order(sort: str, q: str | None) -> None:
    world = World()
    for number in range(23):
        world.at = NOW + number // 3
        name = f"Plugin {number % 4}" + " plugin" * (number % 5)
        world.fetch("1.0.0", f"bytes {number}", plugin_id=f"p{number}", name=name, observed_at=world.at)
    everything, total, _ = search_plugins(world.db, PluginQuery(q=q, sort=sort, limit=100), now=NOW)

    pages: list[Plugin] = []
    cursor = None
    for _ in range(6):
        page, page_total, cursor = search_plugins(
            world.db, PluginQuery(q=q, sort=sort, limit=4, cursor=cursor), now=NOW
        )
        assert page_total == total == 23
        pages += page

    assert cursor is None
    assert pages == everything


def test_limits_are_held() -> None:
    world = shop()

    assert len(world.listed(limit=0)) == 1
    assert len(world.listed(limit=10**9)) == 4


def _cursor(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "é",
        "%%%%",
        "A" * 5000,
        base64.b64encode(b"\xff\xfe").decode(),
        _cursor(None),
        _cursor(7),
        _cursor(["updated", 1]),
        _cursor(["updated", 1, 2, 3]),
        _cursor(["name", "a", 1]),
        _cursor(["updated", "1", 1]),
        _cursor(["updated", True, 1]),
        _cursor(["updated", 1.5, 1]),
        _cursor(["updated", 2**63, 1]),
        _cursor(["updated", 1, 2**63]),
        _cursor(["updated", 1, "x"]),
        base64.b64encode(b"[" * 700).decode(),
    ],
)
def test_a_cursor_that_was_not_given_is_refused_with_a_sentence(cursor: str) -> None:
    with pytest.raises(CatalogueError, match="cursor"):
        search_plugins(shop().db, PluginQuery(cursor=cursor))


def test_unknown_orders_and_levels_are_refused_with_the_choices() -> None:
    world = shop()

    with pytest.raises(CatalogueError, match="updated, name, relevance"):
        search_plugins(world.db, PluginQuery(sort="rating"))
    with pytest.raises(CatalogueError, match="reported, A0"):
        search_plugins(world.db, PluginQuery(min_assurance="A9"))


def test_no_search_text_breaks_the_query() -> None:
    world = shop()
    rng = random.Random(7)
    pieces = ['"', "a AND", "n:", "*", "NEAR(", "col:x", "'", "-", "^", "OR", "NOT", "{", "}", "(", ")", "+", "\x00"]
    pieces += ["ledger", "é", "\u0301", "\ud800", "名前", "😀", "\u200d", "name :", "plugin_texts", "٣", "\uf8ff"]

    for _ in range(5_000):
        text = rng.choice(("", " ")).join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        search_plugins(world.db, PluginQuery(q=text), now=NOW)


def test_a_query_is_bounded_in_words_and_letters() -> None:
    expression = matching.match_expression(" ".join("x" * 1000 for _ in range(100)))

    assert len(expression) <= matching.SEARCH_WORDS_MAX * (matching.WORD_CHARACTERS_MAX + 4)


def test_a_search_looks_at_the_newest_matches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SEARCH_MATCHES_MAX", 1)
    world = shop()
    world.fetch("1.1.0", "a newer ledger", plugin_id="ledger", name="Event Ledger", observed_at=world.at)

    plugins, total, _ = search_plugins(world.db, PluginQuery(q="ledger"), now=NOW)

    assert [plugin.release.plugin_id for plugin in plugins] == ["ledger"]
    assert total == 1


def test_a_search_that_is_narrowed_holds_the_newest_with_its_words_against_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "LOOKED_AT_MAX", 1)
    world = shop()

    assert world.listed(q="a", type="theme") == [], "the newest with this word is a plugin"
    assert world.listed(q="cafe", type="plugin") == ["cafe"]
    assert world.listed(q="ledger", tag="books") == ["ledger"], "not the newest with this word, but with this tag"


def test_a_search_within_a_source_looks_at_that_source_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "LOOKED_AT_MAX", 1)
    world = shop()
    names = ("frodo-2_of.them", "f" * 64, "frodo")
    for number, name in enumerate(names):
        other = Publisher(name, f"https://shop{number}.example")
        world.add_source(other, verified=True)
        world.fetch("1.0.0", name, source_id=other.source_id, plugin_id="ledger", name="A Ledger")
    world.fetch("2.0.0", "newest", plugin_id="newest", name="Newest Ledger")

    found = {name: world.listed(q="ledger", source=f"{name}@shop{at}.example") for at, name in enumerate(names)}

    assert found == {name: ["ledger"] for name in names}


@pytest.mark.parametrize("narrowed", [{"q": "common"}, {}, {"sort": "name"}])
def test_a_filter_that_little_passes_does_not_read_everything(
    narrowed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "LOOKED_AT_MAX", 100)
    steps = []
    for plugins in (200, 4_000):
        world = World()
        world.add_source(BILBO)
        rows = [(number, f"p{number}", f"p{number}", number, f"x/p{number}") for number in range(plugins)]
        world.db.conn.executemany(_A_PLUGIN, rows)
        world.db.conn.executemany(_ITS_TEXT, [row[:1] for row in rows])
        steps.append(steps_of(world, PluginQuery(min_assurance="A4", **narrowed)))

    assert steps[1] <= 3 * steps[0] + 1


_A_PLUGIN = """
    INSERT INTO plugins (id, source_id, plugin_id, version, versions, type, name_key, assurance_rank, updated_at,
                         composer_name) VALUES (?, 'bilbo@shop.example', ?, '1', 1, 'plugin', ?, 1, ?, ?)
"""
_ITS_TEXT = "INSERT INTO plugin_texts (rowid, name) VALUES (?, 'common')"


def steps_of(world: World, query: PluginQuery) -> int:
    """How many hundred steps SQLite takes for a page."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    world.db.conn.set_progress_handler(count, 100)
    search_plugins(world.db, query, now=NOW)
    world.db.conn.set_progress_handler(None, 0)
    return taken


def test_a_plugin_is_listed_with_its_newest_backed_version_in_phps_order() -> None:
    world = World()
    world.add_source(BILBO)
    for version in ("1.9.0", "1.10.0-beta", "1.10.0"):
        world.fetch(version, version)
    world.saw("stranger", "2.0.0-alpha", "2.0.0-alpha")
    world.saw("stranger", "2.0.0", "2.0.0")
    world.saw("stranger", "0.9", "0.9")

    plugin = world.plugin()

    assert (plugin.release.version, plugin.reported_version, plugin.versions) == ("1.10.0", "2.0.0", 6)
    assert [release.version for release in catalogue.releases_of(world.db, BILBO.source_id, "hello")] == [
        "2.0.0",
        "2.0.0-alpha",
        "1.10.0",
        "1.10.0-beta",
        "1.9.0",
        "0.9",
    ]
    newest = catalogue.get_release(world.db, BILBO.source_id, "hello")
    assert newest == plugin.release


def test_where_nothing_is_backed_the_newest_reported_version_is_listed() -> None:
    world = World()
    world.saw("stranger", "1.0.0")
    world.saw("stranger", "0.5.0", "older")

    plugin = world.plugin()

    assert (plugin.release.version, plugin.reported_version) == ("1.0.0", None)
    assert world.listed(min_assurance="A0") == []
    assert world.listed(q="hello") == ["hello"]


def test_new_words_and_tags_replace_the_old_ones() -> None:
    world = World()
    world.pin("alice")
    world.saw("alice", name="Helo", tags=("old",))

    world.saw("alice", name="Hello", tags=("new",))

    assert world.listed(q="helo") == []
    assert world.listed(q="hello", tag="new") == ["hello"]
    assert world.listed(tag="old") == []


def test_plugins_of_one_slug_are_told_apart_by_their_source() -> None:
    world = World()
    world.add_source(BILBO)
    world.add_source(FRODO)
    world.fetch()
    world.saw("stranger", source_id=FRODO.source_id, bytes_of="other")

    assert [release.source_id for release in wordpress.plugins_with_slug(world.db, "hello")] == [
        BILBO.source_id,
        FRODO.source_id,
    ]
    own = [catalogue.get_release(world.db, one.source_id, "hello", "1.0.0") for one in (BILBO, FRODO)]
    assert [release and release.source_id for release in own] == [BILBO.source_id, FRODO.source_id]
    assert catalogue.get_plugin(world.db, FRODO.source_id, "hello") is not None
    assert catalogue.get_plugin(world.db, FRODO.source_id, "unknown") is None


def test_a_bare_slug_has_the_owner_that_it_was_given() -> None:
    world = World()

    catalogue.set_slug_owner(world.db, "hello", FRODO.source_id)
    catalogue.set_slug_owner(world.db, "hello", BILBO.source_id)

    assert catalogue.slug_owner(world.db, "hello") == BILBO.source_id
    assert catalogue.slug_owners(world.db) == {"hello": BILBO.source_id}
    catalogue.set_slug_owner(world.db, "hello", None)
    assert catalogue.slug_owner(world.db, "hello") is None


def test_a_digest_leads_to_its_release_and_only_to_a_backed_one_where_bytes_are_served() -> None:
    world = World()
    world.saw("stranger", "2.0.0", "theirs")
    world.saw("stranger", "1.0.0", "ours", plugin_id="copy")
    world.add_source(BILBO)
    world.fetch("1.0.0", "ours")

    assert catalogue.release_by_digest(world.db, digest("theirs")) == world.release("2.0.0")
    assert catalogue.release_by_digest(world.db, digest("ours")) == world.release("1.0.0")
    assert catalogue.release_by_digest(world.db, digest("nothing")) is None


def test_observations_are_those_that_count() -> None:
    world = World()
    world.saw("alice", evidence=(BILBO.metadata("hello", "1.0.0", "Hello"),), tags=("a", "b"))
    world.saw("parked", admitted=False)
    world.saw("blocked")
    world.block("blocked")
    world.at += 1
    world.fetch()

    observations = catalogue.observations_of(world.db, BILBO.source_id, "hello", "1.0.0")

    assert [observation.observer for observation in observations] == [key("alice").public, world.me.public]
    assert observations[0].evidence == (BILBO.metadata("hello", "1.0.0", "Hello"),)
    assert observations[0].tags == ("a", "b")


def test_counts_count() -> None:
    world = shop()
    world.saw("stranger", "9.0")
    world.saw("parked", "9.1", admitted=False)
    world.pin("alice")
    releases.mark_mirrored(world.db, b"t" * 32, True, at=NOW)

    assert catalogue.counts(world.db) == {
        "sources": 1,
        "discovered_sources": 0,
        "plugins": 4,
        "releases": 5,
        "backed_releases": 4,
        "mirrored_releases": 4,
        "artifacts": 5,
        "subscriptions": 0,
        "announcements": 1,
        "parked_announcements": 1,
        "peers": 1,
        "pinned_peers": 1,
    }
