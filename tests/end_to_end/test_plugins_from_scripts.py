"""`pfn plugins search`, `pfn get` and `pfn lock` as a build machine uses them: real nodes, some of them dead."""

import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path

from pfn_node.cli.failing import NO_ANSWER, NOT_FOUND, NOT_VERIFIED
from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.identity import PrivateKey, did_key
from tests.end_to_end.conftest import follow
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

DEAD = "http://127.0.0.1:9"  # the discard service, which nobody runs


def said(done: subprocess.CompletedProcess[bytes]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
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
