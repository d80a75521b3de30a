"""A whole node with its real store, asked 25 times per call by schemathesis with every check that it has.

Twice: as anybody, and with a key. Calls that take keys away are asked apart, last, for else the key would be gone
early. The node dials nobody: what it is asked to verify lies at names that do not resolve.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from pydantic import SecretStr

from pfn_node import node
from pfn_node.settings import Settings
from tests.node.web_node import MASTER_KEY, NODE, web_node

EXAMPLES = 25  # per operation: it checks answers against the document; tests/fuzz asks far more
SECONDS_MAX = 600
KEY_TAKING = ("/federation/revoke-key", "/federation/rotate-key")


@asynccontextmanager
async def running_node(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A node with a source, plugins and a key; its URL and the key."""
    async with web_node(folder) as seeded:
        await seeded.add_bilbo()
        await seeded.add_release(b"a zip")
        await seeded.add_release(b"a newer zip", version="1.1.0")
        await seeded.add_report(b"reported", version="2.0.0")
        seeded.services.now = lambda: 4_000_000_000.0  # a key that has not expired by the time that this runs
        key = await seeded.make_key(expires_in_days=3650)
    settings = Settings(
        data=folder, port=0, master_key=SecretStr(MASTER_KEY), private_key=SecretStr(NODE.to_pem()), sync_seconds=1e6
    )
    bound: list[str] = []
    ready, stop = trio.Event(), trio.Event()

    def announce(host: str, port: int) -> None:
        bound.append(f"http://{host}:{port}")
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(node.run, settings, stop=stop, ready=announce))
        with trio.fail_after(20):
            await ready.wait()
        yield bound[0], key
        stop.set()


async def must_find_nothing(url: str, folder: Path, *options: str) -> None:
    """Let schemathesis ask; whatever it finds is the failure's text."""
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"{url}/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES)]
    command += ["--no-color", "--seed", "1", "--generation-database", "none", "--request-timeout", "30", *options]
    with trio.fail_after(SECONDS_MAX):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=folder)
    if done.returncode != 0:
        pytest.fail((done.stdout + done.stderr).decode(), pytrace=False)


async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "node").mkdir()
    async with running_node(tmp_path / "node") as (url, key):
        apart = [word for path in KEY_TAKING for word in ("--exclude-path", path)]
        with_key = ["-H", f"Authorization: Bearer {key}"]

        await must_find_nothing(url, tmp_path / "work")
        await must_find_nothing(url, tmp_path / "work", *with_key, *apart)
        only = [word for path in KEY_TAKING for word in ("--include-path", path)]
        await must_find_nothing(url, tmp_path / "work", *with_key, *only)
