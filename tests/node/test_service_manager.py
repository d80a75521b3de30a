"""What systemd hears: ready, alive, stopping; and nobody hears anything where nobody asked."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.cli import running, service_manager


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_readiness_is_told_with_the_line_on_stdout(heard: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    running.announce_ready("::1", 8470)

    assert heard.recv(100) == b"READY=1"
    assert capsys.readouterr().out == "listening on http://[::1]:8470\n"


def test_an_abstract_socket_is_found() -> None:
    name = f"pfn-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")

        assert service_manager.notify(service_manager.STOPPING, {"NOTIFY_SOCKET": f"@{name}"})
        assert receiver.recv(100) == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_told_and_nothing_fails(tmp_path: Path) -> None:
    assert not service_manager.notify(service_manager.READY, {})
    assert not service_manager.notify(service_manager.READY, {"NOTIFY_SOCKET": str(tmp_path / "nobody")})


async def test_signs_of_life_come_twice_a_period(heard: socket.socket, autojump_clock: MockClock) -> None:
    environment = {**os.environ, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}

    with trio.move_on_after(100):
        await service_manager.show_life(environment)

    signs = [heard.recv(100) for _ in range(7)]  # at 0, 15, ... 90 s
    assert signs == [b"WATCHDOG=1"] * 7
    with pytest.raises(BlockingIOError):
        heard.recv(100)


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}],
)
async def test_who_is_not_watched_gives_no_signs(heard: socket.socket, environment: dict[str, str]) -> None:
    await service_manager.show_life({**os.environ, **environment})

    with pytest.raises(BlockingIOError):
        heard.recv(100)
