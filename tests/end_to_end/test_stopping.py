"""How a node ends: what runs is finished, what never ends is ended, and nobody waits for ever."""

import hashlib
import signal
import socket
from pathlib import Path
from random import Random

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin

STOP_SECONDS = 20  # more than a loaded machine needs for the rest of a download on loopback
PICTURE_BYTES = 8_000_000  # more than the sockets between node and reader hold


async def _node_with_a_large_zip(mesh: LocalMesh, folder: Path, **environment: str) -> tuple[NodeClient, str, bytes]:
    """A node, the path of a large download from it, and the digest of that."""
    write_plugin(folder / "plugins", "large", "1.0")
    (folder / "plugins" / "large" / "picture.png").write_bytes(Random(1).randbytes(PICTURE_BYTES))
    publisher = await mesh.start_publisher(folder / "plugins", "ada")
    node = await mesh.start_node(environment=environment)
    await eventually(lambda: offers(publisher, node, "ada", {"large": "1.0"}))
    source = await follow(node, publisher, "ada")
    assert (await node.post("subscribe", {"sourceId": source}))["syncResult"]["mirroredCount"] == 1
    release = await node.get("plugins", source=source)
    path = node.url("download", sourceId=source, plugin="large").removeprefix(node.node)
    return node, path, bytes.fromhex(release["plugins"][0]["sha256"])


async def _ask(node: NodeClient, path: str) -> trio.SocketStream:
    """Ask, with an admin's key and a small buffer, and read the first of the answer."""
    host, _, port = node.node.removeprefix("http://").partition(":")
    stream = trio.SocketStream(trio.socket.socket())
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    await stream.socket.connect((host, int(port)))
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {node.headers['Authorization']}\r\n\r\n"
    await stream.send_all(head.encode())
    return stream


async def _refuses_connections(node: NodeClient) -> bool:
    host, _, port = node.node.removeprefix("http://").partition(":")
    try:
        await (await trio.open_tcp_stream(host, int(port))).aclose()
    except OSError:
        return True
    return False


async def test_a_running_download_is_finished_while_streams_end_and_nobody_new_is_let_in(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    notified.bind(str(tmp_path / "notify"))
    environment = {"PFN_STOP_SECONDS": str(STOP_SECONDS), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    node, path, sha256 = await _node_with_a_large_zip(mesh, tmp_path, **environment)
    process = mesh.nodes[0].process
    assert process is not None
    with notified:
        assert notified.recv(100) == b"READY=1"
        async with await _ask(node, "/federation/events") as events, await _ask(node, path) as download:
            assert (await events.receive_some(65536)).startswith(b"HTTP/1.1 200")
            answer = await download.receive_some(65536)

            process.send_signal(signal.SIGTERM)

            while await events.receive_some(65536):
                pass  # it ends although the download has not
            await eventually(lambda: _refuses_connections(node))
            assert process.returncode is None
            async for chunk in download:
                answer += chunk
        assert await process.wait() == 0
        assert notified.recv(100) == b"STOPPING=1"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and hashlib.sha256(body).digest() == sha256


async def test_a_second_signal_ends_a_node_that_waits_for_a_stalled_reader_and_a_hangup_ends_none(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    node, path, _ = await _node_with_a_large_zip(mesh, tmp_path, PFN_STOP_SECONDS="600")
    process = mesh.nodes[0].process
    assert process is not None
    async with await _ask(node, path) as stalled:
        await stalled.receive_some(100)

        process.send_signal(signal.SIGHUP)
        assert (await node.get("health"))["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: _refuses_connections(node))
        process.send_signal(signal.SIGTERM)

        with trio.fail_after(10):
            assert await process.wait() == -signal.SIGTERM
