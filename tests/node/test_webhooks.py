"""Delivering webhooks: what is told to whom, signed, tried again, given up; over a network in memory."""

import base64
import hashlib
import hmac
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
import trio
from trio.testing import MockClock

from pfn_node.outbound import Busy, Outbound
from pfn_node.store import activity, changes, decisions, news, releases, webhooks
from pfn_node.store.database import Database
from pfn_node.store.facts import set_identity
from pfn_node.store.webhooks import Attempt, Webhook
from pfn_node.webhooks import delivering
from pfn_node.webhooks.delivering import (
    DISABLED_AFTER_SECONDS,
    JITTER,
    LOOK_SECONDS,
    RETRY_SECONDS,
    UnknownWebhook,
    Webhooks,
)
from tests.node.fake_outbound import FakeNetwork, Request, Slow
from tests.node.store_world import NOW, Publisher, World, key, version_statement

BILBO = Publisher().source_id
SECRET = bytes(range(32))
WEEK = 7 * 86_400


@dataclass
class Receiver:
    """A machine that takes messages, or answers what the test says."""

    status: int = 204
    got: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Any] | None = None

    def __call__(self, request: Request) -> Any:
        self.got.append(request)
        return self.answer(request) if self.answer else ("", self.status, {})

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.got]

    @property
    def told(self) -> list[tuple[str, str]]:
        """(type, version or id of an advisory) of each message."""
        return [(one["type"], _about(one["data"])) for one in self.messages]


def _about(data: dict[str, Any]) -> str:
    return str(data.get("version") or data.get("advisory", {}).get("advisory_id") or data.get("changed"))


@dataclass
class Node:
    """The room over a store and a network; time is trio's."""

    database: Database
    network: FakeNetwork
    room: Webhooks
    world: World
    receiver: Receiver = field(default_factory=Receiver)

    def now(self) -> int:
        return NOW + int(trio.current_time())

    async def add(self, **fields: Any) -> Webhook:
        given: dict[str, Any] = {
            "id": "AAAAAAAA",
            "url": "https://receiver.test/hook",
            "description": "",
            "secret": SECRET,
            "events": ("release.added", "release.yanked", "advisory.added", "source.changed"),
            "source_id": None,
            "tag": None,
            "made_by": "k",
            "created": NOW,
            "after": await self.database.read(news.newest_news),
            "failing_since": None,
            "disabled": None,
        } | fields
        webhook = Webhook(**given)
        assert await self.database.write(lambda db: webhooks.insert_webhook(db, webhook))
        return webhook

    async def release(self, version: str = "1.0.0", plugin_id: str = "hello", **fields: Any) -> None:
        signed = (Publisher().metadata(plugin_id, version, "Hello"),)
        statement = version_statement(version, f"{plugin_id} {version}", plugin_id=plugin_id, **fields)

        def fetch(db: sqlite_utils.Database) -> None:
            self.world.db = db
            self.world.fetch(
                version, f"{plugin_id} {version}", plugin_id=plugin_id, evidence=signed, tags=statement.tags
            )

        await self.database.write(fetch)

    async def of_store(self, work: Callable[[sqlite_utils.Database], Any]) -> Any:
        return await self.database.write(work)

    async def hook(self) -> Webhook:
        found = await self.database.read(lambda db: webhooks.get_webhook(db, "AAAAAAAA"))
        assert found is not None
        return found

    async def log(self) -> list[webhooks.Delivery]:
        return await self.database.read(lambda db: webhooks.deliveries_of(db, "AAAAAAAA", 1_000))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Node]:
    database = Database.open(folder / "node.db", inline=True)
    network = FakeNetwork()
    try:
        await database.write(lambda db: set_identity(db, key("me").public, 1))
        world = await database.write(lambda db: World(db=db))
        async with Outbound(allow_private_networks=False, user_agent="test", transport=network) as outbound:
            room = Webhooks(
                database,
                outbound,
                "https://node.test",
                clock=lambda: NOW + trio.current_time(),
                rng=random.Random(5),
            )
            node = Node(database, network, room, world)
            network.hosts["receiver.test"] = node.receiver
            yield node
    finally:
        database.close()


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Node]:
    async with opened(tmp_path) as made:
        if await made.database.read(lambda db: db["sources"].count) == 0:

            def register(db: sqlite_utils.Database) -> None:
                made.world.db = db
                made.world.add_source(Publisher(), verified=True)

            await made.database.write(register)
        nursery.start_soon(made.room.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of days: news are looked for once an hour."""
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 3_600.0)


async def test_a_message_is_signed_as_standard_webhooks_describes(node: Node, autojump_clock: MockClock) -> None:
    await node.add()
    await node.release()
    await trio.sleep(LOOK_SECONDS * 2)

    (request,) = node.receiver.got
    message_id, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    signed = f"{message_id}.{at}.".encode() + request.body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert message_id.startswith("msg_") and abs(int(at) - node.now()) <= LOOK_SECONDS * 2
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"


async def test_a_message_says_what_was_released_and_where_it_is(node: Node, autojump_clock: MockClock) -> None:
    await node.add()
    await node.release()
    await trio.sleep(LOOK_SECONDS * 2)

    (message,) = node.receiver.messages
    assert set(message) == {"type", "timestamp", "data"}
    assert message["type"] == "release.added"
    assert message["data"] == {
        "source_id": BILBO,
        "plugin_id": "hello",
        "name": "Hello",
        "page": f"https://node.test/plugins/{BILBO}/hello",
        "type": "plugin",
        "version": "1.0.0",
        "sha256": version_statement(bytes_of="hello 1.0.0").sha256.hex(),
        "size": 100,
        "assurance": "A1",
        "yanked": None,
        "download": "https://node.test/federation/download?sourceId=bilbo%40shop.example&plugin=hello&version=1.0.0",
    }
    (delivery,) = await node.log()
    assert delivery.delivered is not None and delivery.next_at is None
    assert [(one.status, one.error) for one in delivery.attempts] == [(204, None)]


async def test_yanks_advisories_and_changed_sources_are_told_and_what_was_before_is_not(
    node: Node, autojump_clock: MockClock
) -> None:
    await node.release("0.9")
    await node.add()
    await node.release()

    def happen(db: sqlite_utils.Database) -> None:
        changes.note_source_change(db, BILBO, "key", NOW)
        db.execute(
            "INSERT INTO news (type, source_id, plugin_id, about, at) VALUES ('advisory.added', ?, 'hello', 'X', 1)",
            (BILBO,),
        )
        db.execute(
            "INSERT INTO news (type, source_id, plugin_id, about, at) VALUES ('release.yanked', ?, 'hello', '0.9', 1)",
            (BILBO,),
        )

    await node.of_store(happen)
    await trio.sleep(LOOK_SECONDS * 4)

    assert node.receiver.told == [("release.added", "1.0.0"), ("source.changed", "key"), ("release.yanked", "0.9")]
    assert node.receiver.messages[1]["data"] == {
        "source_id": BILBO,
        "instance_url": "https://shop.example",
        "status": "verified",
        "changed": "key",
    }


@pytest.mark.parametrize(
    ("narrowed", "told"),
    [
        ({"source_id": "nobody@nowhere.test"}, []),
        ({"source_id": BILBO}, ["a", "b"]),
        ({"tag": "FORMS"}, ["a"]),
        ({"events": ("release.yanked",)}, []),
    ],
)
async def test_a_webhook_is_told_what_it_wants(
    node: Node, autojump_clock: MockClock, narrowed: dict[str, Any], told: list[str]
) -> None:
    await node.add(**narrowed)
    await node.release(plugin_id="a", tags=("Forms",))
    await node.release(plugin_id="b")
    await trio.sleep(LOOK_SECONDS * 4)

    assert [one["data"]["plugin_id"] for one in node.receiver.messages] == told


async def test_what_is_not_taken_is_tried_again_after_growing_pauses_with_the_same_id(
    node: Node, autojump_clock: MockClock
) -> None:
    node.receiver.status = 500
    await node.add()
    await node.release()
    await trio.sleep(60)
    node.receiver.status = 200
    await trio.sleep(600)

    assert len({request.headers["webhook-id"] for request in node.receiver.got}) == 1
    assert len({request.body for request in node.receiver.got}) == 1
    (delivery,) = await node.log()
    assert [one.status for one in delivery.attempts] == [500, 500, 200]
    at = [one.at for one in delivery.attempts]
    for pause, wanted in zip((at[1] - at[0], at[2] - at[1]), RETRY_SECONDS, strict=False):
        assert wanted * (1 - JITTER) - 1 <= pause <= wanted * (1 + JITTER) + LOOK_SECONDS
    assert (await node.hook()).failing_since is None


async def test_what_is_never_taken_is_given_up_after_about_a_day(
    node: Node, autojump_clock: MockClock, patient: None
) -> None:
    node.receiver.status = 500
    await node.add()
    await node.release()
    await trio.sleep(2 * 86_400)

    (delivery,) = await node.log()
    assert (len(delivery.attempts), delivery.next_at, delivery.delivered) == (len(RETRY_SECONDS) + 1, None, None)
    assert 20 * 3_600 < delivery.attempts[-1].at - delivery.attempts[0].at < 28 * 3_600
    assert (await node.hook()).failing_since == delivery.attempts[0].at


async def test_who_fails_for_days_is_disabled_and_the_operator_told(
    node: Node, autojump_clock: MockClock, patient: None
) -> None:
    node.receiver.status = 500
    await node.add()
    await node.release()
    await trio.sleep(DISABLED_AFTER_SECONDS + 7_200)
    await node.release("1.1.0")
    node.room.look_soon()
    await trio.sleep(60)

    hook = await node.hook()
    assert hook.disabled == "nothing was taken for 3 days"
    assert all(one.next_at is None for one in await node.log())
    rows, _ = await node.database.read(lambda db: activity.activities(db))
    assert rows[0].message == "the webhook AAAAAAAA was disabled: nothing was taken for 3 days"
    tried = len(node.receiver.got)
    await node.release("1.2.0")
    await trio.sleep(WEEK)
    assert len(node.receiver.got) == tried


async def test_who_answers_410_wants_nothing_any_more_until_a_test_is_taken(
    node: Node, autojump_clock: MockClock
) -> None:
    node.receiver.status = 410
    await node.add()
    await node.release()
    await trio.sleep(60)
    assert ((await node.hook()).disabled or "").startswith("its receiver answered 410")

    await node.release("1.1.0")
    assert (await node.room.test("AAAAAAAA")).error == "It answered 410."
    assert (await node.hook()).disabled is not None
    node.receiver.status = 200
    assert (await node.room.test("AAAAAAAA")).succeeded
    await node.release("1.2.0")
    await trio.sleep(60)

    assert (await node.hook()).disabled is None
    assert [about for type, about in node.receiver.told if type == "release.added"] == ["1.0.0", "1.2.0"]


async def test_a_test_of_what_is_not_there_says_so(node: Node, autojump_clock: MockClock) -> None:
    with pytest.raises(UnknownWebhook):
        await node.room.test("BBBBBBBB")


async def test_redirects_are_not_followed(node: Node, autojump_clock: MockClock) -> None:
    node.receiver.answer = lambda request: ("", 307, {"Location": "https://elsewhere.test/"})
    elsewhere = node.network.hosts["elsewhere.test"] = Receiver()
    await node.add()

    attempt = await node.room.test("AAAAAAAA")

    assert (attempt.status, attempt.error, elsewhere.got) == (307, "It answered 307.", [])


@pytest.mark.parametrize(
    "answer",
    [
        Slow((b"x",) * 100, seconds=1.0),
        ("x" * 100_000, 200, {}),
        ("x", 200, {"Content-Encoding": "gzip"}),
    ],
)
async def test_an_answer_that_is_slow_large_or_broken_is_a_failure(
    node: Node, autojump_clock: MockClock, answer: Any
) -> None:
    node.receiver.answer = lambda request: answer
    await node.add()

    attempt = await node.room.test("AAAAAAAA")

    assert attempt.status is None and attempt.error


async def test_a_receiver_that_is_not_there_is_a_failure_that_says_no_address(
    node: Node, autojump_clock: MockClock
) -> None:
    await node.add(url="https://nobody.test/")

    attempt = await node.room.test("AAAAAAAA")

    assert attempt.error == "nobody.test cannot be reached over https."


async def test_one_that_hangs_does_not_keep_others_from_being_told(node: Node, autojump_clock: MockClock) -> None:
    hangs = Receiver(answer=lambda request: Slow((b"x",) * 100, seconds=1.0))
    node.network.hosts["hangs.test"] = hangs
    await node.add(id="BBBBBBBB", url="https://hangs.test/")
    await node.add()
    for number in range(5):
        await node.release(f"1.{number}")
    await trio.sleep(LOOK_SECONDS + 1)

    assert len(node.receiver.got) == 5
    assert len(hangs.got) == 1


async def test_a_full_disk_while_the_node_is_busy_ends_nothing(
    node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(request: Request) -> Any:
        raise Busy("too much is under way")

    def full(db: object, delivery_id: str, next_at: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    node.receiver.answer = busy
    await node.add()
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "put_off", full)
        await node.release()
        await trio.sleep(2 * LOOK_SECONDS)
        node.receiver.answer = None

    await trio.sleep(2 * delivering.BUSY_SECONDS)

    assert node.receiver.told[-1] == ("release.added", "1.0.0")
    assert [one.delivered is not None for one in await node.log()] == [True]


async def test_a_queue_is_bounded_and_what_waits_outside_is_not_lost(
    node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITING_MAX", 2)
    node.receiver.status = 500
    await node.add()
    for number in range(5):
        await node.release(f"1.{number}")
    await trio.sleep(LOOK_SECONDS * 3)
    assert len(await node.log()) == 2

    node.receiver.status = 200
    await trio.sleep(3_600)

    taken = {one["data"]["version"] for one in node.receiver.messages}
    assert taken == {f"1.{number}" for number in range(5)}


async def test_the_log_is_bounded(node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOG_MAX", 3)
    await node.add()
    for _ in range(5):
        await node.room.test("AAAAAAAA")

    assert len(await node.log()) == 3


async def test_no_more_webhooks_than_there_may_be(
    node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WEBHOOKS_MAX", 1)
    hook = await node.add()

    again = await node.of_store(lambda db: webhooks.insert_webhook(db, hook))

    assert again is False


async def test_what_waits_is_delivered_after_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with opened(tmp_path) as before:
        before.receiver.status = 500

        def register(db: sqlite_utils.Database) -> None:
            before.world.db = db
            before.world.add_source(Publisher(), verified=True)

        await before.database.write(register)
        await before.add()
        await before.release()
        with trio.move_on_after(LOOK_SECONDS):
            await before.room.run()
        (failed,) = before.receiver.got

    async with opened(tmp_path) as after:
        with trio.move_on_after(600):
            await after.room.run()
        (taken,) = after.receiver.got

    assert taken.headers["webhook-id"] == failed.headers["webhook-id"]
    assert (taken.body, taken.headers["webhook-timestamp"]) != (b"", failed.headers["webhook-timestamp"])


async def test_what_may_not_be_installed_any_more_when_its_turn_comes_is_not_told_as_added(
    node: Node, autojump_clock: MockClock
) -> None:
    await node.add()
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await node.release(version)
    await node.of_store(lambda db: decisions.take_down(db, (BILBO, "hello", "1.0.0"), "malware", "k", NOW))
    await node.of_store(lambda db: db.execute("UPDATE releases SET cooldown_until = 9e9 WHERE version = '1.1.0'"))
    await trio.sleep(LOOK_SECONDS * 4)

    assert node.receiver.told == [("release.added", "1.2.0")]


async def test_what_is_gone_when_its_turn_comes_is_not_told(node: Node, autojump_clock: MockClock) -> None:
    await node.add(events=("release.added",))
    await node.release()
    await node.of_store(lambda db: decisions.take_down(db, (BILBO, "hello", "1.0.0"), "malware", "k", NOW))
    await node.of_store(lambda db: db.execute("DELETE FROM observations"))
    await node.of_store(lambda db: releases.refresh(db, BILBO, "hello"))
    await trio.sleep(LOOK_SECONDS * 3)

    assert node.receiver.told == []


def test_an_attempt_succeeded_where_nothing_is_wrong() -> None:
    assert Attempt(1, 200, None).succeeded and not Attempt(1, 500, "It answered 500.").succeeded
