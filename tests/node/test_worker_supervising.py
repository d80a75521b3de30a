"""How a node keeps its workers alive, what it takes from them, and what they count together."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.metrics import Counted, CountingMetrics, Metrics
from pfn_node.server import bind
from pfn_node.settings import Settings
from pfn_node.store.database import Database
from pfn_node.web.download_counting import Downloads
from pfn_node.web.gate import Rates
from pfn_node.web.rate_limits import RateLimit, SharedRateLimit
from pfn_node.workers import channel, supervising
from pfn_node.workers.channel import (
    CONNECTION,
    DAMAGED,
    DESCRIPTOR_SECONDS,
    READY,
    Channel,
    Message,
    channel_pair,
)
from pfn_node.workers.process import _report
from pfn_node.workers.starting import Rate
from pfn_node.workers.supervising import Rooms, Workers
from tests.node.few_files import no_descriptor_left

NODE_ID = bytes(32)
MANY = 30
LARGE = bytes(60_000)  # a few of which fill a channel


async def test_a_message_brings_a_connection_along() -> None:
    ours, theirs = (Channel(end) for end in channel_pair())
    kept, given = socket.socketpair()
    with kept:
        await theirs.send(CONNECTION, b"what was read", given.fileno())
        given.close()
        message = await ours.receive()
        assert message is not None and message.connection is not None
        with message.connection as passed:
            assert not os.get_inheritable(passed.fileno())
            passed.send(b"an answer")
            assert (message.kind, message.data) == (CONNECTION, b"what was read")
            assert kept.recv(100) == b"an answer"

    theirs.close()
    assert await ours.receive() is None
    with pytest.raises(OSError):
        await ours.send(DAMAGED, b"nobody hears")
    ours.close()


async def test_many_may_send_on_a_channel_that_is_full() -> None:
    ours, theirs = (Channel(end) for end in channel_pair())
    kept, given = socket.socketpair()
    with kept, given, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(MANY):
                nursery.start_soon(theirs.send, CONNECTION, LARGE[number:], given.fileno())
            await trio.testing.wait_all_tasks_blocked()
            lengths = []
            for _ in range(MANY):
                message = await ours.receive()
                assert message is not None and message.connection is not None
                message.connection.close()
                lengths.append(len(message.data))
    assert sorted(lengths, reverse=True) == [len(LARGE) - number for number in range(MANY)]
    theirs.close()
    ours.close()


async def test_a_connection_waits_in_its_channel_until_there_is_a_descriptor_for_it() -> None:
    ours, theirs = (Channel(end) for end in channel_pair())
    kept, given = socket.socketpair()
    with kept, trio.fail_after(30):
        await theirs.send(CONNECTION, b"what was read", given.fileno())
        given.close()
        async with trio.open_nursery() as nursery:
            with no_descriptor_left(), capture_logs() as logs:
                nursery.start_soon(expect_connection, ours)
                while not logs:
                    await trio.sleep(0.01)
                await trio.sleep(3 * DESCRIPTOR_SECONDS)
        assert kept.recv(100) == b"an answer"
    assert [entry["event"] for entry in logs] == ["descriptors_used_up"]
    theirs.close()
    ours.close()


async def expect_connection(ours: Channel) -> None:
    message = await ours.receive()
    assert message is not None and message.connection is not None
    with message.connection as passed:
        passed.send(b"an answer")


async def test_a_connection_for_which_there_is_no_descriptor_for_long_is_all_that_is_lost(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "DESCRIPTOR_TRIES_MAX", 2)
    ours, theirs = (Channel(end) for end in channel_pair())
    kept, given = socket.socketpair()
    with kept, trio.fail_after(30):
        await theirs.send(CONNECTION, b"what was read", given.fileno())
        await theirs.send(READY)
        given.close()
        with no_descriptor_left():
            lost = await ours.receive()
        assert lost is not None and lost.connection is None
        with bind("127.0.0.1", 0) as listener, Workers(Settings(data=tmp_path), listener, NODE_ID, None) as workers:
            await workers._take(lost, rooms)
        assert await ours.receive() == Message(READY, b"")
        assert kept.recv(100) == b"", "its client learns of it"
    theirs.close()
    ours.close()


def figures(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith(("pfn_http_request", "pfn_loop")) and not sample.name.endswith("_created")
    }


def test_what_a_worker_counted_is_as_if_the_node_had() -> None:
    counted, shown, direct = CountingMetrics(), Metrics(), Metrics()
    for metrics in (counted, direct):
        for seconds in (0.001, 0.005, 0.006, 0.2, 99.0):
            metrics.count("/a", "GET", 200, seconds)
        metrics.count("/b", "BREW", 404, 0.5)
        metrics.note_delay(0.03)

    shown.add_counted(Counted.model_validate_json(counted.take().model_dump_json()))
    shown.add_counted(counted.take())

    assert figures(shown.registry) == pytest.approx(figures(direct.registry))


async def test_all_that_a_worker_may_count_in_a_second_is_told(rooms: Rooms) -> None:
    counted, shown, direct = CountingMetrics(), Metrics(), Metrics()
    for metrics in (counted, direct):
        for route in range(150):
            for method, status in product(("GET", "HEAD", "other"), (200, 206, 304, 400, 404, 416, 421, 429)):
                metrics.count(f"/federation/a-route-with-a-long-name/<{route}>", method, status, 0.001)
        for _ in range(5_000):  # the node did not listen for an hour
            metrics.note_delay(0.0123456789)
    ours, theirs = (Channel(end) for end in channel_pair())

    async def hear() -> None:
        while (message := await ours.receive()) is not None:
            shown.add_counted(Counted.model_validate_json(message.data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await _report(theirs, cast(Any, rooms), counted)
        theirs.close()
    ours.close()

    assert figures(shown.registry) == pytest.approx(figures(direct.registry))


@pytest.fixture
def table() -> Iterator[int]:
    file = os.memfd_create("test")
    os.truncate(file, SharedRateLimit.SIZE)
    yield file
    os.close(file)


def test_processes_count_an_address_together(table: int) -> None:
    now = [1_000.0]
    one, other = (SharedRateLimit(60, table, b"secret", lambda: now[0]) for _ in range(2))

    for limit in [one, other] * 30:
        assert limit.take("192.0.2.1", 0.0) == 0
    assert one.take("192.0.2.1", 0.0) == other.wait("192.0.2.1", 0.0) == pytest.approx(1.0)
    assert other.take("192.0.2.2", 0.0) == 0

    now[0] += 1.5
    assert one.take("192.0.2.1", 0.0) == 0
    assert other.take("192.0.2.1", 0.0) == pytest.approx(0.5)


def test_a_shared_limit_is_the_limit_of_one_process(table: int) -> None:
    now = [0.0]
    shared, lone = SharedRateLimit(60, table, b"secret", lambda: now[0]), RateLimit(60)

    for step in range(400):
        now[0] += (step % 5) * 0.25
        assert shared.take("a", now[0]) == pytest.approx(lone.take("a", now[0]), abs=1e-6), step


def test_an_address_has_one_limit_at_all_processes(table: int, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, requests_per_minute=10)
    rate = Rate(file=table, secret=b"secret")
    gates = [Rates(settings, lambda: 0.0, rate.limit(settings)) for _ in range(2)]

    assert [gates[number % 2].admit("192.0.2.1") for number in range(14)] == [True] * 10 + [False] * 4
    assert all(gate.would_admit("192.0.2.2") and not gate.would_admit("192.0.2.1") for gate in gates)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    with closing(Database.open(tmp_path / "node.db", inline=True)) as database:
        artifacts = Artifacts(tmp_path / "artifacts", 0)
        artifacts.start()
        yield Rooms(Metrics(), Downloads(database), artifacts)


async def test_a_worker_that_dies_at_once_is_given_up_in_the_end_and_the_node_lets_clients_in(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "COMMAND", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(supervising, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(supervising, "SHORT_LIVES_MAX", 2)

    settings = Settings(data=tmp_path, workers=1)
    with bind("127.0.0.1", 0) as listener, Workers(settings, listener, NODE_ID, None) as workers, trio.fail_after(30):
        await workers.run(trio.Event(), rooms)
        assert workers.passed.alone.is_set()

    assert rooms.metrics.registry.get_sample_value("pfn_worker_ends_total") == 3
    assert rooms.metrics.registry.get_sample_value("pfn_workers") == 0


async def test_a_worker_that_cannot_be_started_is_one_that_died(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "COMMAND", (str(tmp_path / "nothing"),))
    monkeypatch.setattr(supervising, "SHORT_LIVES_MAX", 0)
    settings = Settings(data=tmp_path, workers=1)
    with bind("127.0.0.1", 0) as listener, Workers(settings, listener, NODE_ID, None) as workers, trio.fail_after(30):
        await workers.run(trio.Event(), rooms)
        assert workers.passed.alone.is_set()


async def test_a_worker_for_which_there_are_no_descriptors_is_one_that_died(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "SHORT_LIVES_MAX", 0)
    settings = Settings(data=tmp_path, workers=1)
    with bind("127.0.0.1", 0) as listener, Workers(settings, listener, NODE_ID, None) as workers, trio.fail_after(30):
        with no_descriptor_left():
            await workers.run(trio.Event(), rooms)
        assert workers.passed.alone.is_set()


# It answers from now on, and is not heard of again.
STUBBORN = """
import json, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
channel = socket.socket(fileno=json.load(sys.stdin)["channel"])
channel.send(b"R")
time.sleep(60)
"""


async def test_a_worker_that_says_nothing_is_taken_for_dead_and_killed(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "COMMAND", (sys.executable, "-S", "-c", STUBBORN))
    for name, seconds in {"SILENT_SECONDS_MAX": 0.1, "STOP_SECONDS": 0.1, "SHORT_LIVES_MAX": 0}.items():
        monkeypatch.setattr(supervising, name, seconds)

    settings = Settings(data=tmp_path, workers=1)
    with bind("127.0.0.1", 0) as listener, Workers(settings, listener, NODE_ID, None) as workers, trio.fail_after(30):
        await workers.run(trio.Event(), rooms)
        assert workers.passed.alone.is_set()

    assert rooms.metrics.registry.get_sample_value("pfn_workers") == 0


# It says what it counted, again and again, but never that it answers.
HANGS = """
import json, socket, sys, time
channel = socket.socket(fileno=json.load(sys.stdin)["channel"])
while True:
    channel.send(b"M{}")
    time.sleep(0.01)
"""


async def test_a_worker_that_never_gets_ready_is_given_up_and_the_node_lets_clients_in_at_once(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "COMMAND", (sys.executable, "-S", "-c", HANGS))
    monkeypatch.setattr(supervising, "PAUSE_SECONDS", 0.0)
    # However long it took to find out: it was no long life.
    for name in ("START_SECONDS", "START_SECONDS_A_WORKER", "STOP_SECONDS", "LASTING_SECONDS"):
        monkeypatch.setattr(supervising, name, 0.1)
    monkeypatch.setattr(supervising, "SHORT_LIVES_MAX", 2)

    settings = Settings(data=tmp_path, workers=1)
    with bind("127.0.0.1", 0) as listener, Workers(settings, listener, NODE_ID, None) as workers, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            with capture_logs() as logs:
                await nursery.start(workers.run, trio.Event(), rooms)
                assert workers.passed.alone.is_set()
                assert "worker_given_up" not in [entry["event"] for entry in logs], "it is tried again meanwhile"

    assert rooms.metrics.registry.get_sample_value("pfn_worker_ends_total") == 3


async def test_what_workers_find_damaged_the_node_puts_aside(rooms: Rooms, tmp_path: Path) -> None:
    digest = rooms.artifacts.put_bytes(b"a zip")
    rooms.artifacts.path(digest).write_bytes(b"a zap")

    with bind("127.0.0.1", 0) as listener, Workers(Settings(data=tmp_path), listener, NODE_ID, None) as workers:
        with no_descriptor_left():
            await workers._take(Message(DAMAGED, digest), rooms)
        assert rooms.artifacts.wanted() == ()
        await workers._take(Message(DAMAGED, digest), rooms)

    assert rooms.artifacts.wanted() == (digest,)
