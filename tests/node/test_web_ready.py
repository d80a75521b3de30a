"""Ready answers: never older than the last change, the same for everybody, and told apart from what is special."""

import random
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import announcements, catalogue, decisions, downloads, registry
from pfn_node.store.rows import Filters, HealthCheck
from pfn_node.web import routes
from pfn_node.web.answers import Alive
from pfn_node.web.app import SUBJECTS
from pfn_node.web.ready_answers import ANSWER_BYTES_MAX, KEPT_BYTES_MAX, KEPT_SECONDS, Heads, ReadyAnswer, ReadyAnswers
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, MirrorStatement
from pfn_protocol.identity import PrivateKey, public_key_pem
from tests.node.plain_requests import front, head, parts
from tests.node.web_node import BILBO, NOW, STRANGER, WebNode, restarted, web_node

SOURCES = "/federation/sources"
PLUGINS = "/federation/plugins"
PLUGIN = f"/federation/plugins/{BILBO}/hello-signal"
STATUS = f"/federation/source-status?source_id={BILBO}"
SLUGS = "/federation/slugs"
READY = (SOURCES, PLUGINS, PLUGIN, STATUS, SLUGS)
PEER = "127.0.0.1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path, requests_per_minute=5) as made:
        await made.add_bilbo()
        await made.add_release(b"a zip")
        yield made


Write = Callable[[WebNode], Awaitable[Any]]


def _in_store(work: Callable[[Any], Any]) -> Write:
    return lambda node: node.services.database.write(work)


VERSION = (BILBO, "hello-signal", "1.0.0")
DOWN = HealthCheck(BILBO, False, None, "it was down", NOW)
# Whatever these answers are made of, written by everyone who writes it.
WRITES: dict[str, Write] = {
    "a release": lambda node: node.add_release(b"another zip", version="1.1.0"),
    "a report of another node": lambda node: node.add_report(b"a reported zip", version="2.0.0"),
    "a mirror": lambda node: node.services.database.write(lambda db: announcements.keep(db, _mirrors(), True, NOW)),
    "trust": _in_store(lambda db: registry.update_source(db, BILBO, trust_score=0.25)),
    "status": _in_store(lambda db: registry.update_source(db, BILBO, status="error")),
    "a verification": _in_store(
        lambda db: registry.record_verification(db, BILBO, "self", "manual", "failure", "it was down", NOW)
    ),
    "a health check": _in_store(lambda db: registry.record_health(db, DOWN)),
    "a subscription": _in_store(lambda db: registry.set_subscription(db, BILBO, "somebody", Filters(), NOW)),
    "a failed sync": _in_store(lambda db: registry.record_failure(db, BILBO, "no answer", NOW)),
    "the owner of a slug": _in_store(lambda db: catalogue.set_slug_owner(db, "hello-signal", BILBO)),
    "downloads": _in_store(lambda db: downloads.add_downloads(db, {VERSION: 3})),
    "a takedown": _in_store(lambda db: decisions.take_down(db, VERSION, "malware", "admin", NOW)),
    "a pin": _in_store(lambda db: registry.set_peer_policy(db, STRANGER.public, pinned=True)),
    "a block": _in_store(lambda db: registry.set_peer_policy(db, STRANGER.public, blocked=True)),
    "another source": lambda node: node.sources.add(
        "https://other.test", "frodo", public_key_pem(PrivateKey(bytes([9]) * 32).public)
    ),
}


def _mirrors() -> AcceptedAnnouncement:
    statement = MirrorStatement(BILBO, 3, bytes(32))
    return announce(STRANGER, "main", statement, 0, NOW * 1_000)


@pytest.mark.parametrize("seed", range(3))
async def test_no_answer_is_older_than_the_last_acknowledged_change(node: WebNode, seed: int) -> None:
    order = list(WRITES)
    random.Random(seed).shuffle(order)
    changed = set()
    fresh = restarted(replace(node, services=replace(node.services)))
    for name in order:
        before = {path: (await node.get(path)).body for path in READY}
        assert all(parts(front(node, head(path)))[2] == before[path] for path in READY)

        await WRITES[name](node)

        # The same store, of which nothing is kept.
        fresh.services.ready = ReadyAnswers(node.services.database)
        for path in READY:
            ready = front(node, head(path))
            made = (await fresh.get(path)).body
            assert ready is None or parts(ready)[2] == made, (name, path)
            assert (await node.get(path)).body == made, (name, path)
            if made != before[path]:
                changed.add(name)
    assert len(changed) >= len(WRITES) * 2 / 3, set(WRITES) - changed  # who is blocked changes nothing


async def test_a_change_by_another_process_is_seen(node: WebNode) -> None:
    await node.get(SOURCES)
    with closing(sqlite3.connect(node.services.database.path)) as other, other:
        other.execute("UPDATE sources SET trust_score = 0.125")

    assert front(node, head(SOURCES)) is None
    assert (await node.get(SOURCES)).json[0]["trust_score"] == 0.125


async def test_an_answer_that_was_overtaken_by_a_change_is_not_kept(node: WebNode) -> None:
    ready = node.services.ready
    version = ready.version()
    await WRITES["trust"](node)

    ready.keep("/", _answer(), version)

    assert ready.find("/", NOW) is None


async def test_what_was_answered_once_is_ready(node: WebNode) -> None:
    for path in READY:
        assert front(node, head(path)) is None
        got = await node.get(path)
        status, fields, body = parts(front(node, head(path)))

        assert (status, body) == (200, got.body)
        each_time = {"x-request-id", "date", "content-length"}
        assert {name: text for name, text in fields.items() if name not in each_time} == {
            name.lower(): text for name, text in got.headers.items() if name.lower() not in each_time
        }
        assert fields["content-length"] == str(len(body))
        assert re.fullmatch(r"[0-9a-f]{16}", fields["x-request-id"])
        assert fields["x-request-id"] != got.headers["X-Request-ID"]


async def test_shared_caches_may_keep_what_is_public_for_seconds(node: WebNode) -> None:
    got = await node.get(SOURCES)

    assert got.headers["Cache-Control"] == "public, max-age=0, s-maxage=5, stale-while-revalidate=5"
    assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in got.headers
    assert (await node.get(f"{PLUGINS}/nobody@example.org/x")).headers["Cache-Control"] == "no-store"
    assert (await node.read("/federation/subscriptions")).headers["Cache-Control"] == "no-store"


def test_no_answer_that_depends_on_a_key_can_be_declared_ready() -> None:
    public = {op.path for subject in SUBJECTS for op in subject.operations if op.ready}
    assert public >= {SOURCES, PLUGINS, SLUGS, "/federation/source-status"}
    for declared in ({"scope": "read"}, {"needs_key": True}, {"takes_key": True}, {"needs_master": True}):
        operation = routes.Operation("GET", "/x", SUBJECTS[0].operations[0].handler, Alive, "x", ready=True, **declared)
        with pytest.raises(AssertionError, match="everybody's"):
            routes.install(None, None, None, operation)  # type: ignore[arg-type]


async def test_head_has_the_length_and_no_body(node: WebNode) -> None:
    got = await node.get(SOURCES)

    status, fields, body = parts(front(node, head(SOURCES, method="HEAD")))

    assert (status, fields["content-length"], body) == (200, str(len(got.body)), b"")
    slow = await node.call("HEAD", SOURCES)
    assert (slow.status, slow.body) == (200, b"")
    assert slow.headers["ETag"] == fields["etag"]


async def test_a_head_that_comes_first_makes_the_whole_answer_ready(node: WebNode) -> None:
    await node.call("HEAD", SOURCES)

    assert parts(front(node, head(SOURCES)))[2] == (await node.get(SOURCES)).body


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",W/"y" , {} ,"z"', "*"])
async def test_who_has_the_answer_gets_no_body(node: WebNode, form: str) -> None:
    got = await node.get(SOURCES)
    tags = form.format(got.headers["ETag"])

    slow = await node.get(SOURCES, headers={"If-None-Match": tags})
    status, fields, body = parts(front(node, head(SOURCES, f"If-None-Match: {tags}")))

    assert (slow.status, slow.body) == (status, body) == (304, b"")
    assert fields["etag"] == slow.headers["ETag"] == got.headers["ETag"]
    assert fields["cache-control"] == slow.headers["Cache-Control"] == got.headers["Cache-Control"]
    assert not {"content-type", "content-length"} & {*fields}


@pytest.mark.parametrize("tags", ['"x"', 'W/"x", "y"', "", "x"])
async def test_who_has_another_answer_gets_this_one(node: WebNode, tags: str) -> None:
    assert (await node.get(SOURCES, headers={"If-None-Match": tags})).status == 200
    assert parts(front(node, head(SOURCES, f"If-None-Match: {tags}")))[0] == 200


async def test_a_client_need_not_read_again_after_a_restart(node: WebNode) -> None:
    tag = (await node.get(SOURCES)).headers["ETag"]
    anew = restarted(replace(node, services=replace(node.services)))

    assert front(anew, head(SOURCES)) is None
    assert (await anew.get(SOURCES, headers={"If-None-Match": tag})).status == 304


@pytest.mark.parametrize("seconds", [KEPT_SECONDS, -1])
async def test_what_time_alone_changes_is_seen_soon(node: WebNode, seconds: int) -> None:
    await node.get(SOURCES)
    assert front(node, head(SOURCES)) is not None

    node.services.now = lambda: float(NOW + seconds)

    assert front(node, head(SOURCES)) is None


def _answer(body: bytes = b"") -> ReadyAnswer:
    return ReadyAnswer("/", '"x"', Heads(b"", b""), body, float(NOW))


async def test_kept_answers_stay_within_their_memory(node: WebNode) -> None:
    ready = ReadyAnswers(node.services.database)
    large = b"x" * (ANSWER_BYTES_MAX - 2_000)
    for number in range(40):
        ready.keep(f"/{number}", _answer(large), ready.version())
        assert ready.find("/0", NOW) is not None, "what is asked for stays"
        assert ready.size <= KEPT_BYTES_MAX
    ready.keep("/larger", _answer(b"x" * ANSWER_BYTES_MAX), ready.version())

    assert [ready.find(f"/{number}", NOW) is not None for number in (1, 38, 39)] == [False, True, True]
    assert ready.find("/larger", NOW) is None
    for number in range(40):
        ready.keep(f"/{number}", _answer(), ready.version())
    await WRITES["trust"](node)
    assert (ready.find("/0", NOW), ready.size) == (None, 0)
