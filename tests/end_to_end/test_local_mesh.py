"""`pfn mesh up`: its nodes start together and pin each other; on a folder that is kept it comes back where it was."""

import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import eventually
from tests.end_to_end.test_command_line import PFN

UP_SECONDS_MAX = 60.0
END_SECONDS_MAX = 10.0
LAST_LINE = b"publisher-wren"


async def test_it_ends_with_all_of_its_processes_and_comes_back_at_the_same_addresses(tmp_path: Path) -> None:
    first = await _up_until_stopped(tmp_path / "mesh", signal.SIGTERM)
    again = await _up_until_stopped(tmp_path / "mesh", signal.SIGINT)

    assert len(first) == 3  # a node and two publishers
    assert again == first


async def test_nodes_that_start_together_stand_in_order_and_all_pin_and_link_each_other(mesh: LocalMesh) -> None:
    clients = await mesh.start_nodes(4)
    await mesh.pin_all()

    assert clients == mesh.clients
    assert [client.node for client in clients] == [node.url for node in mesh.nodes]
    assert [node.name for node in mesh.nodes] == ["node-a", "node-b", "node-c", "node-d"]
    for client in clients:
        await eventually(partial(_pins_and_links, client, clients))


async def _pins_and_links(client: NodeClient, clients: list[NodeClient]) -> bool:
    peers = (await client.get("peers"))["peers"]
    good = {peer["url"] for peer in peers if peer["pinned"] and peer["state"] == "linked"}
    return good == {other.node for other in clients if other is not client}


async def _up_until_stopped(folder: Path, number: int) -> set[int]:
    """Run it until everything is up, tell it to stop; answers the ports, on which nobody answers any more."""
    process = await trio.lowlevel.open_process(
        [*PFN, "mesh", "up", "--nodes", "1", "--data", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = b""
    with trio.fail_after(UP_SECONDS_MAX):
        async for chunk in process.stdout:
            said += chunk
            if LAST_LINE in said.partition(b"Ctrl-C")[2]:
                break
    ports = {int(port) for port in re.findall(rb"127\.0\.0\.1:(\d+)", said)}
    process.send_signal(number)
    with trio.fail_after(END_SECONDS_MAX):
        status = await process.wait()
    await process.stdout.aclose()

    assert status == 0, said.decode()
    for port in ports:
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", port)
    return ports
