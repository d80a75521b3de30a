"""Lists are remembered by what they take, so that many publishers with large ones cannot fill the memory."""

import json
import tracemalloc

from pfn_node.sources.publisher_answers import AuthorData, parse_author_data
from pfn_node.sources.remembered_lists import RememberedLists, bytes_of


def listed(plugins: int, *, etag: str | None = '"1"', description: str = "Says hello.") -> AuthorData:
    entries = [
        {"slug": f"plugin-{number}", "version": "1.0", "name": "Plugin", "short_description": description}
        for number in range(plugins)
    ]
    answer = {"author": {"username": "bilbo"}, "plugins": entries}
    return parse_author_data(json.dumps(answer).encode(), plugins_max=500, etag=etag)


def key(name: str) -> tuple[str, str]:
    return ("https://shop.example", name)


def test_lists_used_longest_ago_make_room_for_new_ones() -> None:
    lists, one = RememberedLists(bytes_max=3 * bytes_of(listed(50))), listed(50)
    for name in ("ada", "bob", "eve"):
        lists.put(key(name), one)
    assert lists.get(key("ada")) is one

    lists.put(key("sam"), one)

    assert [name for name in ("ada", "bob", "eve", "sam") if lists.get(key(name))] == ["ada", "eve", "sam"]
    assert lists.size == 3 * bytes_of(one)


def test_a_newer_list_takes_the_place_of_the_one_before() -> None:
    lists, newer = RememberedLists(), listed(2)
    lists.put(key("ada"), listed(50))
    lists.put(key("ada"), newer)

    assert lists.get(key("ada")) is newer
    assert lists.size == bytes_of(newer)


def test_a_list_without_an_etag_is_not_remembered_nor_the_one_before_it() -> None:
    lists = RememberedLists()
    lists.put(key("ada"), listed(2))
    lists.put(key("ada"), listed(2, etag=None))

    assert lists.get(key("ada")) is None
    assert lists.size == 0


def test_a_list_larger_than_all_room_is_not_remembered() -> None:
    lists = RememberedLists(bytes_max=1_000)
    lists.put(key("ada"), listed(500))

    assert lists.get(key("ada")) is None
    assert lists.size == 0


def test_what_a_list_is_said_to_take_is_about_what_it_takes() -> None:
    for description in ("", "x" * 2_000):
        tracemalloc.start()
        try:
            data = listed(500, description=description)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert 0.5 * taken < bytes_of(data) < 2 * taken
