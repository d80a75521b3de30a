"""What Composer's mirrors are told of changes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.store import changes
from pfn_node.store.facts import set_fact
from pfn_node.web.consumers import composer_changes
from tests.node.web_node import BILBO, NOW, WebNode, web_node

HELLO = composer_name(BILBO, "hello-signal")
OTHER = composer_name(BILBO, "other")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def ask(node: WebNode, since: int | None = None) -> tuple[int, list[tuple[str, str]]]:
    """The timestamp, and (type, package) of each action."""
    got = await node.get("/composer/changes.json" + ("" if since is None else f"?since={since}"))
    assert got.status == 200, got.body
    answer: dict[str, Any] = got.json
    assert set(answer) == {"timestamp", "actions"}
    assert all(set(one) == {"type", "package", "time"} for one in answer["actions"])
    return answer["timestamp"], [(one["type"], one["package"]) for one in answer["actions"]]


async def test_who_asks_from_the_last_timestamp_on_is_told_each_change_once(node: WebNode) -> None:
    await node.add_release(b"one")
    await node.add_release(b"two", plugin_id="other")
    begun, everything = await ask(node, 0)

    await node.add_release(b"three", version="1.1.0")
    later, told = await ask(node, begun)

    assert everything == [("update", HELLO), ("update", OTHER)]
    assert told == [("update", HELLO)]
    assert await ask(node, later) == (later, [])
    assert begun >= NOW * 1_000


async def test_what_has_nothing_to_install_any_more_is_deleted(node: WebNode) -> None:
    await node.add_release(b"one", version="1.0.0")
    begun, _ = await ask(node, 0)

    await node.post("/federation/yank", {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0"})

    assert (await ask(node, begun))[1] == [("delete", HELLO)]


async def test_who_knows_no_time_or_one_that_is_forgotten_begins_anew(node: WebNode) -> None:
    await node.add_release(b"one")
    newest, _ = await ask(node, 0)
    await node.services.database.write(lambda db: set_fact(db, changes._FORGOTTEN, str(newest - 5)))

    assert await ask(node) == (newest, [("resync", "*")])
    assert await ask(node, newest - 6) == (newest, [("resync", "*")])
    assert await ask(node, newest - 5) == (newest, [("update", HELLO)])


async def test_an_answer_is_bounded_and_goes_on_from_its_timestamp(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composer_changes, "ACTIONS_MAX", 1)
    await node.add_release(b"one")
    await node.add_release(b"two", plugin_id="other")

    first, told = await ask(node, 0)
    second, then = await ask(node, first)

    assert (told, then) == ([("update", HELLO)], [("update", OTHER)])
    assert await ask(node, second) == (second, [])


async def test_a_clock_that_is_ahead_misses_nothing_that_comes_later(node: WebNode) -> None:
    await node.add_release(b"one")
    newest, _ = await ask(node, 0)

    ahead, told = await ask(node, newest + 86_400_000)
    await node.add_release(b"two", plugin_id="other")

    assert (ahead, told) == (newest, [])
    assert (await ask(node, ahead))[1] == [("update", OTHER)]


@pytest.mark.parametrize("since", ["-1", "x", "9" * 20, ""])
async def test_a_time_that_is_none_is_400(node: WebNode, since: str) -> None:
    assert (await node.get(f"/composer/changes.json?since={since}")).status == 400
