"""`pfn mesh up` on a folder that is kept: it ends with all of its processes, and comes back where it was."""

import re
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from tests.end_to_end.test_command_line import PFN

UP_SECONDS_MAX = 60.0
END_SECONDS_MAX = 10.0
LAST_LINE = b"publisher-wren"


async def test_it_ends_with_all_of_its_processes_and_comes_back_at_the_same_addresses(tmp_path: Path) -> None:
    first = await _up_until_stopped(tmp_path / "mesh", signal.SIGTERM)
    again = await _up_until_stopped(tmp_path / "mesh", signal.SIGINT)

    assert len(first) == 3  # a node and two publishers
    assert again == first


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
