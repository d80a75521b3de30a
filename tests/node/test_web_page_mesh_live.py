"""The live feed of the map, on a real socket: a stream has no end that a test client could wait for."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.web.pages import mesh_live
from pfn_node.web.services import Services
from tests.node.test_web_events import Stream, served
from tests.node.test_web_page_mesh import a_peer
from tests.node.web_node import WebNode


@asynccontextmanager
async def live(port: int, headers: str = "") -> AsyncIterator[Stream]:
    """An open stream, its head read."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(f"GET /mesh/live HTTP/1.0\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        stream = Stream(connection)
        while line := await stream.line():
            stream.headers += line.lower() + b"\n"
        yield stream


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[WebNode, int]]:
    async with served(tmp_path) as (node, client):
        port = client.base_url.port
        assert port is not None
        node.mesh.known = [a_peer(1, "eager"), a_peer(2)]
        yield node, port


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_live, "LOOK_SECONDS", 0.01)


async def told(stream: Stream) -> Any:
    (event,) = await stream.events(1)
    assert event["event"] == "peers", event
    return json.loads(event["data"])


async def test_the_first_event_tells_of_linked_peers_and_the_next_of_what_changed(
    running: tuple[WebNode, int],
) -> None:
    node, port = running
    async with live(port) as stream:
        first = await told(stream)
        node.mesh.known[1] = replace(node.mesh.known[1], announcements_received=9)
        second = await told(stream)

    assert b"content-type: text/event-stream\n" in stream.headers and b"cache-control: no-store\n" in stream.headers
    assert [peer["id"] for peer in first["peers"]] == [node.mesh.known[0].node_id]
    assert [(peer["id"], peer["received"]) for peer in second["peers"]] == [(node.mesh.known[1].node_id, 9)]
    assert first["shape"] == second["shape"]


async def test_the_shape_changes_with_links_and_opinions_and_not_with_figures(running: tuple[WebNode, int]) -> None:
    node, port = running
    shapes = []
    async with live(port) as stream:
        shapes.append((await told(stream))["shape"])
        for change in ({"pinned": True}, {"links": ("lazy",)}, {"bytes_sent": 99_999}):
            node.mesh.known[0] = replace(node.mesh.known[0], **change)
            shapes.append((await told(stream))["shape"])

    assert len({*shapes[:3]}) == 3 and shapes[2] == shapes[3]


async def test_a_silent_stream_shows_that_it_lives(
    running: tuple[WebNode, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = running
    monkeypatch.setattr(mesh_live, "KEEP_ALIVE_SECONDS", 0.01)
    async with live(port) as stream:
        await told(stream)

        assert await stream.events(1) == [{"": "still here"}]


async def test_one_stream_too_many_is_refused_and_a_closed_one_makes_room(
    running: tuple[WebNode, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, port = running
    monkeypatch.setattr(mesh_live, "MAP_STREAMS_MAX", 1)
    async with live(port) as stream, live(port) as refused:
        await told(stream)
    while node.services.looks.streams:
        node.mesh.known = [replace(node.mesh.known[0], bytes_sent=node.mesh.known[0].bytes_sent + 1)]
        await trio.sleep(0.01)
    async with live(port) as after:
        await told(after)

    assert refused.headers.startswith(b"http/1.1 503") and b"retry-after: 15\n" in refused.headers


async def test_one_address_does_not_take_the_streams_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_live, "STREAMS_OF_ADDRESS_MAX", 1)
    async with served(tmp_path, trusted_proxy=["127.0.0.0/8"]) as (node, client):
        port = client.base_url.port
        assert port is not None
        node.mesh.known = [a_peer(1, "eager")]
        somebody, another = "X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-For: 198.51.100.9\r\n"
        async with live(port, somebody) as stream, live(port, somebody) as refused, live(port, another) as other:
            await told(stream)
            await told(other)

    assert refused.headers.startswith(b"http/1.1 429")


async def test_all_streams_share_one_look(running: tuple[WebNode, int], monkeypatch: pytest.MonkeyPatch) -> None:
    node, _ = running
    monkeypatch.setattr(mesh_live, "LOOK_SECONDS", 60.0)
    looked = []

    def peers() -> list[Any]:
        looked.append(1)
        return node.mesh.known

    monkeypatch.setattr(node.mesh, "peers", peers)
    for bucket in ("a", "b", "c"):
        stream = mesh_live.events(node.services, bucket)
        assert await anext(stream) == b"retry: 5000\n\n"
        assert (await anext(stream)).startswith(b"event: peers\n")
        await stream.aclose()  # type: ignore[attr-defined]

    assert len(looked) == 1 and not node.services.looks.streams


async def test_a_stream_ends_when_the_node_stops(tmp_path: Path) -> None:
    ended: list[bytes | None] = []
    async with served(tmp_path) as (node, client):
        port = client.base_url.port
        assert port is not None
        async with live(port) as stream:
            await told(stream)
            _stop(node.services)
            ended.append(await stream.line())

    assert ended == [None]


def _stop(services: Services) -> None:
    def closed() -> list[Any]:
        services.database.read_now(lambda db: 1)
        raise AssertionError("the database answers though it is closed")

    services.database.close()
    services.mesh.peers = closed  # type: ignore[method-assign]
