"""Who follows a node: a webhook's receiver, a feed reader and a mirror of the catalogue, with real processes."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h11
import trio

from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import download, eventually, follow
from tests.end_to_end.plugins import write_plugin

PLUGIN = "harbour-light"


@dataclass
class Receiver:
    """A web server that keeps what it is sent; it takes nothing until `well`."""

    port: int = 0
    well: bool = False
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        headers: dict[str, str] = {}
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        if headers:
            self.got.append((headers, body))
            head = h11.Response(status_code=200 if self.well else 503, headers=[("Content-Length", "0")])
            await stream.send_all((connection.send(head) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        await stream.aclose()

    @property
    def told(self) -> list[tuple[str, str]]:
        messages = [json.loads(body) for _, body in self.got]
        return [(one["type"], one["data"].get("version", "")) for one in messages]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, receiver.serve, [listener]))
        yield receiver
        nursery.cancel_scope.cancel()


def check_signature(secret: str, headers: dict[str, str], body: bytes) -> None:
    """As a receiver does, by the specification alone."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    assert expected.decode() in headers["webhook-signature"].split()
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


async def test_a_webhook_is_told_of_a_release_and_its_yank_though_its_receiver_was_down(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "plugins", PLUGIN, "1.0")
    client = await mesh.start_node()
    publisher = await mesh.start_publisher(tmp_path / "plugins", "dan")
    source = await follow(client, publisher, "dan")

    async with receiving() as receiver:
        hook = {"url": f"http://127.0.0.1:{receiver.port}/", "events": ["release.added", "release.yanked"]}
        added = await client.post("webhooks", hook)
        assert (await client.post("test-webhook", {"id": added["id"]}))["status"] == 503
        await client.post("subscribe", {"sourceId": source})

        async def tried() -> bool:
            return ("release.added", "1.0") in receiver.told

        await eventually(tried)
        receiver.well = True
        await client.post("yank", {"sourceId": source, "plugin": PLUGIN, "version": "1.0", "reason": "it eats posts"})

        async def told() -> bool:
            return receiver.told.count(("release.added", "1.0")) == 2 and receiver.told[-1][0] != "webhook.test"

        async def yanked() -> bool:
            return ("release.yanked", "1.0") in receiver.told

        async def recorded() -> bool:
            log = (await client.get("webhook-deliveries", id=added["id"]))["deliveries"]
            return [one["state"] for one in log] == ["delivered", "delivered", "given up"]

        await eventually(told)
        await eventually(yanked)
        await eventually(recorded)  # after the receiver has answered

        for headers, body in receiver.got:
            check_signature(added["secret"], headers, body)
        ids = {headers["webhook-id"] for headers, body in receiver.got if json.loads(body)["type"] == "release.added"}
        assert len(ids) == 1


async def test_feeds_export_and_figures_show_what_is_released_and_had(mesh: LocalMesh, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", PLUGIN, "1.0")
    client = await mesh.start_node()
    publisher = await mesh.start_publisher(tmp_path / "plugins", "dan")
    source = await follow(client, publisher, "dan")
    await client.post("subscribe", {"sourceId": source})

    async def get(path: str) -> bytes:
        reply = await client.outbound.fetch("GET", f"{client.node}{path}", bytes_max=2**20, seconds_max=10)
        assert reply.status == 200, reply
        return reply.body

    (item,) = json.loads(await get(f"/feeds/releases.json?source={source}"))["items"]
    (row, last) = [json.loads(line) for line in (await get("/export/plugins.ndjson")).splitlines()]
    status, data = await download(client, source, PLUGIN)
    assert status == 200

    digest = hashlib.sha256(data).hexdigest()
    assert (item["_pfn"]["version"], item["_pfn"]["sha256"]) == ("1.0", digest)
    assert [one["sha256"] for one in row["releases"]] == [digest]
    assert (await get(last["next"])).count(b"\n") == 1
    assert f"urn:uuid:{item['id'].rpartition(':')[2]}".encode() in await get("/feeds/releases.atom")

    async def counted() -> bool:
        shown: dict[str, Any] = await client.get(f"plugins/{source}/{PLUGIN}")
        return bool(shown["downloads"] == 1)

    await eventually(counted)
    assert b"pfn_downloads 1.0" in await get("/metrics")
