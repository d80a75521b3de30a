"""`pfn serve --workers`: several processes on one port, and nobody notices."""

import os
import signal
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from pfn_node.store.database import reader
from pfn_node.store.downloads import downloads_in_all
from tests.child_processes import workers_of
from tests.end_to_end.conftest import download, eventually, follow, offers, versions
from tests.end_to_end.plugins import write_plugin

WORKERS = 2
PER_MINUTE = 20


def _workers_of(node: LocalProcess) -> list[int]:
    assert node.process is not None
    return workers_of(node.process.pid)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def _figure(node: NodeClient, name: str) -> float:
    reply = await node.outbound.fetch("GET", f"{node.node}/metrics", bytes_max=2**22, seconds_max=30)
    families = text_string_to_metric_families(reply.body.decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def _refuses(node: NodeClient) -> bool:
    host, _, port = node.node.removeprefix("http://").partition(":")
    try:
        await (await trio.open_tcp_stream(host, int(port))).aclose()
    except OSError:
        return True
    return False


async def _ask_from_afar(node: NodeClient, path: str) -> bytes:
    """Ask as a proxy does for somebody else, on a connection of its own."""
    host, _, port = node.node.removeprefix("http://").partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join([data async for data in stream])


async def test_a_node_with_workers_is_one_node(mesh: LocalMesh, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "hello", "1.0")
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    limits = {"PFN_TRUSTED_PROXY": "127.0.0.1/32", "PFN_REQUESTS_PER_MINUTE": str(PER_MINUTE)}
    node = await mesh.start_node("--workers", str(WORKERS), environment=limits)
    process = mesh.nodes[0]
    workers = _workers_of(process)
    assert len(workers) == WORKERS

    await eventually(lambda: offers(publisher, node, "ada", {"hello": "1.0"}))
    source = await follow(node, publisher, "ada")
    await node.post("subscribe", {"sourceId": source})
    assert await versions(node, source) == {"hello": "1.0"}
    for _ in range(3):
        assert (await download(node, source, "hello"))[0] == 200

    async def is_counted() -> bool:
        return await _figure(node, "pfn_http_requests_total") >= 3 and await _figure(node, "pfn_workers") == WORKERS

    await eventually(is_counted)

    # Whoever of them is asked: workers answer the one, the node the other; what both begin counts for both.
    answers = [await _ask_from_afar(node, ("/healthz", "/metrics")[number % 2]) for number in range(2 * PER_MINUTE)]
    admitted = sum(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert PER_MINUTE - WORKERS <= admitted <= PER_MINUTE + 5, answers[-1]
    assert answers[-1].startswith(b"HTTP/1.1 429")

    os.kill(workers[0], signal.SIGKILL)

    async def is_replaced() -> bool:
        now = _workers_of(process)
        return len(now) == WORKERS and workers[0] not in now and await _figure(node, "pfn_workers") == WORKERS

    assert await versions(node, source) == {"hello": "1.0"}
    await eventually(is_replaced)
    assert await _figure(node, "pfn_worker_ends_total") == 1

    workers = _workers_of(process)
    await process.stop()
    assert not any(map(_is_alive, workers)) and await _refuses(node)
    with reader(tmp_path / "node-a" / "node.db") as db:  # where workers may write nothing
        assert downloads_in_all(db) == 3


async def test_workers_end_with_their_node_however_that_ends(mesh: LocalMesh) -> None:
    node = await mesh.start_node("--workers", "1")
    (worker,) = _workers_of(mesh.nodes[0])

    await mesh.nodes[0].kill()

    async def is_gone() -> bool:
        return not _is_alive(worker) and await _refuses(node)

    await eventually(is_gone)
    await mesh.nodes[0].start()  # on the same port
    assert await node.get("sources") == []
