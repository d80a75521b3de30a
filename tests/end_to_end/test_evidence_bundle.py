"""From a publisher over a mesh into a file, and out of it again in a process that has nothing else: `pfn verify`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.bundle_notices import OMITTED
from tests.end_to_end.conftest import eventually, follow
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

# A process in which every socket is an error, whoever opens it.
WITHOUT_SOCKETS = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"a connection was tried: {event}")

sys.addaudithook(refuse)
from pfn_node.cli import main
main()
"""


async def pfn_without_sockets(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run one command in an empty folder, with an empty environment, where no connection can be made."""
    await trio.Path(folder).mkdir(exist_ok=True)
    with trio.fail_after(120):
        return await trio.run_process(
            [sys.executable, "-c", WITHOUT_SOCKETS, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
        )


async def three_observers(mesh: LocalMesh, plugins: Path, author: str, profile: str = "v2") -> tuple[Any, ...]:
    """Three nodes that each mirrored the author's one plugin from the publisher; answers them, source and publisher.

    They meet only then: a node takes from those that it joined what they have seen already.
    """
    write_plugin(plugins, "harbour-light", "1.0")
    publisher = await mesh.start_publisher(plugins, author, profile)
    nodes: list[NodeClient] = []
    source = ""
    for _ in range(3):
        node = await mesh.start_node()
        nodes.append(node)
        source = await follow(node, publisher, author)
        await node.post("subscribe", {"sourceId": source})
    for node in nodes[:2]:
        joined = await nodes[2].post("peers", {"action": "join", "url": node.node})
        await nodes[2].post("peers", {"action": "pin", "node_id": joined["node_id"]})
    await eventually(partial(_has_witnesses, nodes[-1], source, 3))
    return nodes, source, publisher


async def _has_witnesses(node: NodeClient, source: str, count: int) -> bool:
    answer = await node.get("verify", sourceId=source, plugin="harbour-light", bundle="1")
    return len(answer["bundle"]["witnesses"]) == len(answer["bundle"]["attestations"]) == count


async def saved_bundle(node: NodeClient, source: str, folder: Path) -> tuple[Path, Path]:
    """The zip and its bundle, as a person gets them from a node."""
    file, bundle = folder / "harbour-light.zip", folder / "harbour-light.evidence"
    where = {"PFN_NODE": node.node}
    downloaded = await pfn("plugins", "download", source, "harbour-light", "-o", str(file), environment=where)
    assert downloaded.returncode == 0, downloaded.stderr
    saved = await pfn("verify", str(file), "--save", str(bundle), environment=where)
    assert saved.returncode == 0, saved.stderr
    return file, bundle


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, bool]:
    answer = json.loads(done.stdout)
    return done.returncode, answer["assurance"]["level"], answer["valid"]


async def test_a_mirrored_release_is_checked_in_a_process_that_has_only_the_zip_its_bundle_and_the_key(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    nodes, source, publisher = await three_observers(mesh, tmp_path / "plugins", "ada")
    info = await nodes[0].outbound.fetch("GET", f"{publisher.url}/federation-info", bytes_max=2**20, seconds_max=10)
    pem = tmp_path / "ada.pem"
    pem.write_text(json.loads(info.body)["publicKey"])
    trusted: Sequence[str] = [(await node.get("health"))["node_id"] for node in nodes]
    await publisher.kill()
    file, bundle = await saved_bundle(nodes[2], source, tmp_path)
    offline = partial(pfn_without_sockets, tmp_path / "elsewhere", "verify", str(file), "--evidence", str(bundle))
    trust = [word for node_id in trusted for word in ("--trust", node_id)]

    by_key = await offline("--key", str(pem), "--json")
    by_nodes = await offline(*trust, "--min", "A4", "--json")
    by_nobody = await offline("--json")
    for_people = await offline("--key", str(pem))
    connecting = await pfn_without_sockets(tmp_path / "elsewhere", "verify", str(file), "--node", nodes[2].node)
    file.write_bytes(file.read_bytes()[:-1])
    truncated = await offline("--key", str(pem), "--json")

    assert said(by_key) == (0, "A3", True), by_key.stderr
    assert any("only what the bundle claims" in one for one in json.loads(by_key.stdout)["assurance"]["caveats"])
    assert said(by_nodes) == (0, "A4", True), by_nodes.stderr
    assert json.loads(by_nodes.stdout)["assurance"]["caveats"] == [OMITTED]
    assert said(by_nobody) == (1, "reported", False)
    assert b"give the one that you know" in by_nobody.stderr
    assert for_people.returncode == 0 and b"harbour-light" in for_people.stdout
    assert said(truncated) == (1, "unknown", False)
    assert b"this is no proof of A3" in truncated.stderr
    assert connecting.returncode != 0 and b"a connection was tried" in connecting.stderr, "the guard guards"


async def test_what_an_original_publisher_signed_is_proved_by_its_witnesses_and_never_by_its_signature(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    nodes, source, _ = await three_observers(mesh, tmp_path / "plugins", "bob", "original")
    trusted = [(await node.get("health"))["node_id"] for node in nodes]
    file, bundle = await saved_bundle(nodes[2], source, tmp_path)
    offline = partial(pfn_without_sockets, tmp_path / "elsewhere", "verify", str(file), "--evidence", str(bundle))
    key = json.loads(bundle.read_bytes())["public_key"]
    trust = [word for node_id in trusted for word in ("--trust", node_id)]

    by_key = await offline("--key", key, "--json")
    by_nodes = await offline("--key", key, *trust, "--min", "A2", "--json")
    too_much = await offline("--key", key, *trust, "--json")

    assert said(by_key) == (1, "reported", False)
    assert said(by_nodes) == (0, "A2", True), by_nodes.stderr
    assert said(too_much) == (1, "A2", False)
