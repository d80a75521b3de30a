"""`pfn plugins search`, `pfn get` and `pfn lock` as a build machine uses them: real nodes, some of them dead."""

import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from pfn_node.cli.client import NodeClient
from pfn_node.cli.failing import NO_ANSWER, NOT_FOUND, NOT_VERIFIED, REFUSED
from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.identity import PrivateKey, did_key
from tests.end_to_end.conftest import eventually, follow, row_of
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

DEAD = "http://127.0.0.1:9"  # the discard service, which nobody runs


def said(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.part")]


async def test_a_script_finds_a_plugin_and_gets_it_from_the_node_that_is_alive(mesh: LocalMesh, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "night-lamp", "1.0", filler="// lamp\n" * 50_000)
    write_plugin(tmp_path / "plugins", "day-lamp", "2.0", tags=("daylight",))
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    node = await mesh.start_node()
    source = await follow(node, publisher, "ada")
    await node.post("subscribe", {"sourceId": source})
    target = tmp_path / "night-lamp.zip"
    get = partial(pfn, "get", f"{source}/night-lamp", "-o", str(target), "--json", "--node", DEAD)
    stranger = did_key(PrivateKey(bytes(32)).public)

    found = await pfn("plugins", "search", "day", "lamp", "--tag", "daylight", "--json", "--node", node.node)
    shown = await pfn("plugins", "search", "lamp", "--source", source, "--assurance", "A3", "--node", node.node)
    none = await pfn("plugins", "search", "lamp", "--assurance", "A4", "--json", "--node", node.node)
    silent = await get()
    mistaken = await get("--node", node.node, "--key", stranger)
    unknown = await pfn("get", f"{source}/no-such-plugin", "--node", node.node)
    await publisher.kill()
    got = said(await get("--node", node.node))

    assert [row["plugin_id"] for row in json.loads(found.stdout)["plugins"]] == ["day-lamp"]
    assert f"{source}/night-lamp" in shown.stdout.decode() and b"A3" in shown.stdout
    assert json.loads(none.stdout)["total"] == 0
    assert (silent.returncode, mistaken.returncode, unknown.returncode) == (NO_ANSWER, NOT_VERIFIED, NOT_FOUND)
    assert got["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (got["assurance"], got["version"]) == ("A3", "1.0")
    assert parts(tmp_path) == []


async def test_what_was_locked_is_installed_from_a_mirror_after_its_publisher_and_its_node_are_dead(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "plugins", "night-lamp", "1.0")
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    first = await mesh.start_node()
    source = await follow(first, publisher, "ada")
    await first.post("subscribe", {"sourceId": source})
    mirror = await mesh.start_node(join=[first.node])
    await eventually(partial(_knows, mirror, source))
    lock = ("--file", str(tmp_path / "pfn.lock"), "--json")

    locked = said(await pfn("lock", f"{source}/night-lamp", *lock, "--node", first.node))
    text = (tmp_path / "pfn.lock").read_bytes()
    warmed = said(
        await pfn("get", f"{source}/night-lamp", "-o", str(tmp_path / "warm.zip"), "--json", "--node", mirror.node)
    )
    await publisher.kill()
    await mesh.nodes[0].kill()
    anywhere = ("--node", first.node, "--node", mirror.node)
    (tmp_path / "build").mkdir()
    got = said(await pfn("get", "--locked", "-d", str(tmp_path / "build"), *lock, *anywhere))
    again = said(await pfn("lock", "--update", *lock, *anywhere))

    assert locked["plugins"][0]["sha256"] == got["plugins"][0]["sha256"] == warmed["sha256"]
    assert hashlib.sha256((tmp_path / "build" / "night-lamp.zip").read_bytes()).hexdigest() == warmed["sha256"]
    assert again["plugins"][0]["version"] == "1.0"
    assert (tmp_path / "pfn.lock").read_bytes() == text


async def test_a_yanked_version_is_refused_unless_it_is_allowed(mesh: LocalMesh, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "night-lamp", "1.0")
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    node = await mesh.start_node()
    source = await follow(node, publisher, "ada")
    await node.post("subscribe", {"sourceId": source})
    get = partial(pfn, "get", f"{source}/night-lamp@1.0", "-o", str(tmp_path / "lamp.zip"), "--node", node.node)
    data = str(mesh.folder / "publisher-ada")
    yank = ("publisher", "yank", "night-lamp", "1.0", "--author", "ada", "--origin", publisher.url, "--data", data)

    signed = await pfn(*yank, "--reason", "it flickers")
    notice = tmp_path / "yank.json"
    notice.write_bytes(signed.stdout)
    handed = await pfn("advisories", "hand-in", str(notice), "--node", node.node)
    refused = await get()
    allowed = await get("--allow-yanked")

    assert (signed.returncode, handed.returncode) == (0, 0), signed.stderr + handed.stderr
    assert refused.returncode == REFUSED and b"it flickers" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr


async def _knows(node: NodeClient, source: str) -> bool:
    row = await row_of(node, source, "night-lamp")
    return row is not None and row["sha256"] is not None
