"""The event stream, on a real socket: a stream has no end that a test client could wait for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from pfn_node.server import bind, serve
from pfn_node.store import registry, sessions
from pfn_node.web import federation_events
from tests.node.web_node import NOW, WebNode, web_node

WAIT_SECONDS_MAX = 20


@asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[tuple[WebNode, httpx.AsyncClient]]:
    """A node on a port of its own, and a client of it."""
    shutdown = trio.Event()
    async with web_node(folder, **settings) as node:
        with bind("127.0.0.1", 0) as listener, trio.fail_after(WAIT_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, node.app, listener=listener, shutdown=shutdown))
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}") as client:
                    client.headers["Authorization"] = f"Bearer {node.key}"
                    yield node, client
                shutdown.set()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[WebNode, httpx.AsyncClient]]:
    async with served(tmp_path) as pair:
        yield pair


async def happen(node: WebNode, message: str, type: str = "security") -> int:
    return await node.services.database.write(lambda db: registry.record_activity(db, type, message, at=NOW))


class Stream:
    """A stream of events, read line by line. HTTP/1.0, so that the body is the plain bytes until the end."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self._connection = connection
        self._read = b""
        self.headers = b""

    async def line(self) -> bytes | None:
        """The next line without its end; None at the end of the stream."""
        while b"\n" not in self._read:
            got = await self._connection.receive_some(4096)
            if not got:
                return None
            self._read += got
        line, _, self._read = self._read.partition(b"\n")
        return line.rstrip(b"\r")

    async def events(self, count: int) -> list[dict[str, str]]:
        """The next events, comments as {"": text}; fewer if the stream ends."""
        events: list[dict[str, str]] = []
        event: dict[str, str] = {}
        while len(events) < count and (line := await self.line()) is not None:
            if line:
                field, _, text = line.decode().partition(":")
                event[field] = text.strip()
                continue
            if "retry" not in event:
                events.append(event)
            event = {}
        return events


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, key: str, last: int | None = None) -> AsyncIterator[Stream]:
    """An open stream, its head read."""
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    head = [f"GET /federation/events HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {key}"]
    head += [] if last is None else [f"Last-Event-ID: {last}"]
    async with await trio.open_tcp_stream(host, port) as connection:
        await connection.send_all("\r\n".join([*head, "", ""]).encode())
        stream = Stream(connection)
        while line := await stream.line():
            stream.headers += line.lower() + b"\n"
        yield stream


async def test_what_happens_comes_as_an_event(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    async with streaming(client, node.key) as stream:
        assert b"content-type: text/event-stream\n" in stream.headers
        assert b"cache-control: no-store\n" in stream.headers
        added = await happen(node, "line one\nline two\r\n\nid: 7")

        event = (await stream.events(1))[0]

    assert event["id"] == str(added) and event["event"] == "security"
    assert '"message":"line one\\nline two\\r\\n\\nid: 7"' in event["data"]


async def test_a_stream_goes_on_where_it_was_cut(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    first, second = await happen(node, "first"), await happen(node, "second")

    async with streaming(client, node.key, last=first - 1) as stream:
        events = await stream.events(2)

    assert [event["id"] for event in events] == [str(first), str(second)]


async def test_a_silent_stream_shows_that_it_lives(
    running: tuple[WebNode, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = running
    monkeypatch.setattr(federation_events, "KEEP_ALIVE_SECONDS", 0.01)

    async with streaming(client, node.key) as stream:
        comments = await stream.events(2)

    assert comments == [{"": "still here"}] * 2


async def test_a_stream_ends_with_its_key(
    running: tuple[WebNode, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = running
    monkeypatch.setattr(federation_events, "KEEP_ALIVE_SECONDS", 0.01)

    async with streaming(client, node.key) as stream:
        await stream.events(1)
        node.services.now = lambda: float(NOW + 91 * 86_400)
        assert len(await stream.events(1000)) < 1000


async def test_a_revoked_key_ends_its_stream(
    running: tuple[WebNode, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = running
    monkeypatch.setattr(federation_events, "KEEP_ALIVE_SECONDS", 0.01)
    key = await node.make_key()

    async with streaming(client, key) as stream:
        await stream.events(1)
        await node.services.database.write(lambda db: registry.revoke_key(db, key.split("_")[1], NOW))
        assert len(await stream.events(1000)) < 1000


async def test_a_stream_ends_with_the_session_that_it_was_asked_for_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation_events, "KEEP_ALIVE_SECONDS", 0.01)
    async with web_node(tmp_path) as node:
        key = (await node.services.database.read(registry.list_keys))[0]
        session = await node.services.database.write(
            lambda db: sessions.insert_session(db, bytes(32), key.id, NOW, NOW + 60)
        )
        stream = federation_events.events(node.services, key, 0, session)
        assert (await anext(stream)).startswith(b"retry")
        assert await anext(stream)

        await node.services.database.write(lambda db: sessions.delete_session(db, session.token_hash))

        with trio.fail_after(10):
            assert [piece async for piece in stream] == []


async def test_what_happens_after_signing_out_is_not_told_even_once(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        key = (await node.services.database.read(registry.list_keys))[0]
        session = await node.services.database.write(
            lambda db: sessions.insert_session(db, bytes(32), key.id, NOW, NOW + 60)
        )
        stream = federation_events.events(node.services, key, 0, session)
        assert (await anext(stream)).startswith(b"retry")
        assert b"was made" in await anext(stream)

        told: list[bytes] = []

        async def listen() -> None:
            told.extend([piece async for piece in stream])

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()  # it waits for what happens next
                await node.services.database.write(lambda db: sessions.delete_session(db, session.token_hash))
                await happen(node, "after")

        assert told == []


async def test_streams_are_counted_and_one_too_many_is_503(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    node.services.streams.total_tokens = 1

    async with streaming(client, node.key) as stream:
        await happen(node, "so that it runs")
        await stream.events(1)
        refused = await client.get("/federation/events")
    assert refused.status_code == 503 and refused.headers["retry-after"]


async def test_two_that_come_at_once_for_the_last_place(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        node.services.streams.total_tokens = 1
        node.services.streams.acquire_on_behalf_of_nowait("another")
        key = (await node.services.database.read(registry.list_keys))[0]

        assert [piece async for piece in federation_events.events(node.services, key, 0)] == []


async def test_a_stream_ends_when_the_node_stops(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    async with streaming(client, node.key) as stream:
        await happen(node, "so that it runs")
        await stream.events(1)
        node.services.database.close()
        node.services.database._wake_waiters()

        assert await stream.events(1) == []


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 20])
async def test_a_last_event_id_that_is_none_is_400(running: tuple[WebNode, httpx.AsyncClient], last: str) -> None:
    _, client = running

    got = await client.get("/federation/events", headers={"Last-Event-ID": last})

    assert got.status_code == 400 and "whole number" in got.json()["error"]


async def test_a_stream_needs_a_key_that_may_read(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    other = await node.make_key(scopes=["sources"])

    assert (await client.get("/federation/events", headers={"Authorization": ""})).status_code == 401
    assert (await client.get("/federation/events", headers={"Authorization": f"Bearer {other}"})).status_code == 403


async def test_head_of_a_stream_and_of_a_download_end_at_once(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running
    await node.add_bilbo()
    await node.add_release(b"zip")

    stream = await client.head("/federation/events")
    download = await client.head("/federation/download?sourceId=bilbo@publisher.test&plugin=hello-signal")

    assert stream.status_code == 200
    assert (download.status_code, download.headers["content-length"]) == (200, "3")
    assert node.services.streams.borrowed_tokens == 0


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with served(tmp_path, body_bytes_max=1000) as (_, client):
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        stream = await trio.open_tcp_stream(host, port)
        head = f"POST /federation/releases HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000000\r\n\r\n"
        await stream.send_all(head.encode())

        answer = await stream.receive_some(100)

        assert answer.startswith(b"HTTP/1.1 413")
        await stream.aclose()


async def test_a_body_that_does_not_stop_is_cut_off(tmp_path: Path) -> None:
    chunk = b"2710\r\n" + bytes(10_000) + b"\r\n"
    async with served(tmp_path, artifact_bytes_max=50_000) as (_, client):
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        async with await trio.open_tcp_stream(host, port) as connection:
            head = f"POST /federation/verify HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            await connection.send_all(head.encode() + chunk * 6)

            answer = b""
            while not answer.endswith(b"}"):
                answer += await connection.receive_some(4096)

    assert answer.startswith(b"HTTP/1.1 413") and b"50000 bytes" in answer


async def test_every_stream_ends_when_the_node_begins_to_stop(running: tuple[WebNode, httpx.AsyncClient]) -> None:
    node, client = running

    async with streaming(client, node.key) as stream, client.stream("GET", "/mesh/live") as live:
        node.services.stopping.begin()
        assert await stream.events(1000) == []
        lines = [line async for line in live.aiter_lines()]  # to their end
        assert lines[0].startswith("retry")
    async with streaming(client, node.key) as late:
        assert await late.events(1000) == []
