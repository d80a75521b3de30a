"""How fast nginx with the shipped configuration gives a node's answers that it keeps, against a file of the same bytes.

Both nginx have one worker and no TLS; wrk asks them in turns, with as many connections. Beside the ratio of requests
stands that of nginx's own processor time for one, which does not depend on how fast wrk is. While wrk asks, the node
is asked as well, whenever an answer has become too old.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio

from pfn_node.cli.local_mesh import local_mesh
from tests.child_processes import children_of
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin
from tests.proxies.programs import NAME, file_server, shipped_nginx

GOAL: Final = 0.8
PLUGINS: Final = 30  # of which the first page shows 20
PATHS: Final = {"sources": "/federation/sources", "plugins": "/federation/plugins"}
CONNECTIONS: Final = 16
TURNS: Final = 7
TURN_SECONDS: Final = 2
AUTHOR: Final = "bench"

Figures = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Rate:
    """What one turn showed: requests per second, and microseconds of nginx's processor time for one."""

    requests: float
    processor: float


def run() -> Figures:
    """Measure. Raises AssertionError if wrk is not here, or nginx keeps nothing."""
    assert shutil.which("wrk"), "wrk is not here: scripts/proxies/install --bench installs it"
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder))


async def _measure(folder: Path) -> Figures:
    async with local_mesh(folder / "mesh") as mesh:
        versions = {f"plugin-{number:02}": "1.0" for number in range(PLUGINS)}
        for name in versions:
            write_plugin(folder / "plugins", name, "1.0")
        publisher = await mesh.start_publisher(folder / "plugins", AUTHOR)
        node = await mesh.start_node("--url", f"https://{NAME}", "--trusted-proxy", "127.0.0.1/32")
        await eventually(lambda: offers(publisher, node, AUTHOR, versions))
        source = await follow(node, publisher, AUTHOR)
        await node.post("subscribe", {"sourceId": source})
        port = urlsplit(node.node).port
        assert port is not None
        return await trio.to_thread.run_sync(_compare_all, folder, port)


def _compare_all(folder: Path, node_port: int) -> Figures:
    figures: Figures = {"connections": CONNECTIONS, "goal_ratio": GOAL}
    files = folder / "files"
    files.mkdir()
    with (
        shipped_nginx(folder / "proxy", node_port, tls=False) as proxy,
        file_server(folder / "static", files) as static,
    ):
        for name, path in PATHS.items():
            _, body = _ask(proxy, path)
            (files / name).write_bytes(body)
            turns = [
                (_rate(folder / "proxy", proxy, path), _rate(folder / "static", static, f"/{name}"))
                for _ in range(TURNS)
            ]
            assert _ask(proxy, path)[0] in ("HIT", "STALE"), f"nginx did not keep {path}"
            kept, file = ([turn[which] for turn in turns] for which in (0, 1))
            figures |= {
                f"{name}_bytes": len(body),
                f"{name}_kept_per_second": round(median(one.requests for one in kept)),
                f"{name}_file_per_second": round(median(one.requests for one in file)),
                f"{name}_ratio": round(median(ours.requests / theirs.requests for ours, theirs in turns), 3),
                f"{name}_kept_processor_us": round(median(one.processor for one in kept), 1),
                f"{name}_file_processor_us": round(median(one.processor for one in file), 1),
            }
    return figures


def _rate(folder: Path, port: int, path: str) -> Rate:
    """One turn of wrk. Raises AssertionError for any answer that is no 200."""
    before = _processor_seconds(folder)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{TURN_SECONDS}", "-H", f"Host: {NAME}"]
    said = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True)
    used = _processor_seconds(folder) - before
    assert "Non-2xx" not in said.stdout and "Socket errors" not in said.stdout, said.stdout
    total, rate = re.search(r"(\d+) requests in", said.stdout), re.search(r"Requests/sec:\s+([\d.]+)", said.stdout)
    assert total is not None and rate is not None, said.stdout
    return Rate(float(rate[1]), used / int(total[1]) * 1e6)


def _processor_seconds(folder: Path) -> float:
    """What the only worker of the nginx in this folder has used."""
    worker = children_of(int((folder / "nginx.pid").read_text()))[0]
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(port: int, path: str) -> tuple[str, bytes]:
    """Whether nginx had the answer, and the answer."""
    got = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": NAME})
    assert got.status_code == 200, got.text
    return got.headers["X-Cache"], got.content
