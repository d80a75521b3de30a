"""Zips are read through by processes of their own, which end with the node and tell nothing of it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from pfn_node.archive_errors import ArchiveRefused
from pfn_node.archive_process import MEMORY_BYTES_MAX, NICENESS, examine
from pfn_node.archive_readers import COMMAND, READERS_MAX, ArchiveNotRead, ArchiveReaders
from tests.child_processes import children_of
from tests.node.sources_room import plugin_zip


@asynccontextmanager
async def _running(readers: ArchiveReaders) -> AsyncIterator[ArchiveReaders]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(readers.run)
        yield readers
        nursery.cancel_scope.cancel()


def _saying(program: str) -> Sequence[str]:
    """A reader that does something else."""
    return (sys.executable, "-c", f"import sys, time\nprint(flush=True)\nfor line in sys.stdin:\n    {program}")


Started = Callable[[], list[int]]


@pytest.fixture
def started() -> Started:
    """The processes that this one has started since, and that have not ended."""
    others = children_of(os.getpid())
    return lambda: [pid for pid in children_of(os.getpid()) if pid not in others]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alpha \udcff.zip"
    path.write_bytes(plugin_zip("alpha", "1.0", name="Ä\u2028"))
    return path


async def test_a_zip_is_read_in_another_process_as_it_is_in_this_one(file: Path, started: Started) -> None:
    async with _running(ArchiveReaders()) as readers:
        assert await readers.examine(file) == examine(file)
        (first,) = started()
        assert await readers.examine(file) == examine(file)
        assert started() == [first], "one process reads one zip after the other"
    assert await readers.examine(file) == examine(file)
    assert started() == [], "none is left, whoever comes late"


async def test_a_zip_that_does_not_pass_is_refused_in_the_same_words(tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(plugin_zip("alpha", "1.0") + b"more")
    with pytest.raises(ArchiveRefused) as here:
        examine(bad)
    async with _running(ArchiveReaders()) as readers:
        with pytest.raises(ArchiveRefused) as there:
            await readers.examine(bad)
        with pytest.raises(ArchiveNotRead, match="No such file"):
            await readers.examine(tmp_path / "none.zip")
    assert (there.value.reason, there.value.sentence) == (here.value.reason, here.value.sentence)


async def test_zips_are_read_at_once_but_only_so_many(file: Path, started: Started) -> None:
    readers = ArchiveReaders(_saying("time.sleep(1000)"), seconds_max=1.0, patience_seconds=0.0)
    seen: set[int] = set()

    async def read() -> None:
        with pytest.raises(ArchiveNotRead):
            await readers.examine(file)

    async def watch() -> None:
        while True:
            now = started()
            assert len(now) <= READERS_MAX
            seen.update(now)
            await trio.sleep(0.001)

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        async with trio.open_nursery() as nursery:
            for _ in range(2 * READERS_MAX):
                nursery.start_soon(read)
        watching.cancel_scope.cancel()
    assert len(seen) > READERS_MAX
    assert started() == []


async def test_one_process_reads_what_is_read_quickly(file: Path, started: Started) -> None:
    async with _running(ArchiveReaders(patience_seconds=30.0)) as readers:
        async with trio.open_nursery() as nursery:
            for _ in range(3 * READERS_MAX):
                nursery.start_soon(readers.examine, file)
        assert len(started()) == 1


async def test_nobody_waits_long_for_a_costly_zip_of_another(file: Path, started: Started) -> None:
    readers = ArchiveReaders(_saying("time.sleep(1000)"))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(readers.examine, file)
        with trio.fail_after(30):
            while len(started()) < 2:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert started() == []


async def test_a_process_that_does_not_start_is_ended(file: Path, started: Started) -> None:
    readers = ArchiveReaders((sys.executable, "-c", "import time; time.sleep(1000)"), seconds_max=0.1)
    with pytest.raises(ArchiveNotRead, match="was not read through"):
        await readers.examine(file)
    assert started() == []


async def test_a_reader_knows_no_secret_comes_last_and_has_so_much_memory(
    file: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PFN_MASTER_KEY", "secret")
    async with _running(ArchiveReaders()) as readers:
        await readers.examine(file)
        (reader,) = started()
        process = Path("/proc") / str(reader)
        assert b"PFN_MASTER_KEY" not in (process / "environ").read_bytes()
        assert (process / "stat").read_text().rpartition(")")[2].split()[16] == str(os.nice(0) + NICENESS)
        limits = (process / "limits").read_text().splitlines()
        assert next(line for line in limits if line.startswith("Max address space")).split()[3] == str(MEMORY_BYTES_MAX)
        assert os.getsid(reader) != os.getsid(0), "a Ctrl-C is for the node"


@pytest.mark.parametrize(
    "program",
    [
        "sys.exit(1)",
        "print('nonsense', flush=True)",
        "print('{\"examined\": 1}', flush=True)",
    ],
)
async def test_a_reader_that_fails_says_nothing_about_the_zip(file: Path, program: str, started: Started) -> None:
    readers = ArchiveReaders(command=_saying(program))
    with pytest.raises(ArchiveNotRead):
        await readers.examine(file)
    assert started() == []


async def test_a_reader_that_says_too_much_is_not_heard_to_the_end(file: Path, started: Started) -> None:
    readers = ArchiveReaders(command=_saying("while True: print('x' * 65536, end='')"))
    with trio.fail_after(30), pytest.raises(ArchiveNotRead, match="failed"):
        await readers.examine(file)
    assert started() == []


async def test_a_reader_that_was_killed_meanwhile_is_replaced(file: Path, started: Started) -> None:
    async with _running(ArchiveReaders()) as readers:
        await readers.examine(file)
        (first,) = started()
        os.kill(first, signal.SIGKILL)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert await readers.examine(file) == examine(file)
        assert first not in started()


async def test_a_zip_that_takes_too_long_is_given_up(file: Path, started: Started) -> None:
    readers = ArchiveReaders(command=_saying("time.sleep(1000)"), seconds_max=1.0)
    with pytest.raises(ArchiveNotRead, match="was not read through"):
        await readers.examine(file)
    assert started() == []


async def test_no_reader_is_left_when_nobody_waits_any_more(file: Path, started: Started) -> None:
    readers = ArchiveReaders(command=_saying("time.sleep(1000)"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(readers.examine, file)
        with trio.fail_after(30):
            while not started():
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert started() == []


async def test_a_reader_that_nobody_needs_ends(file: Path, started: Started) -> None:
    async with _running(ArchiveReaders(idle_seconds=0.05)) as readers:
        await readers.examine(file)
        with trio.fail_after(30):
            while started():
                await trio.sleep(0.01)
        assert await readers.examine(file) == examine(file)


async def test_without_a_process_nothing_is_said_about_the_zip(file: Path) -> None:
    readers = ArchiveReaders(command=("/nonexistent/program",))
    with pytest.raises(ArchiveNotRead, match="no process could be started"):
        await readers.examine(file)


def test_a_reader_ends_with_its_node_however_that_ends() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.communicate(timeout=30)[0] == b"\n"
    assert reader.returncode == 0
