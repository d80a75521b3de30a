"""A large network in two processes: the same run as in one, twice the same, and an end when either half breaks."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

import pytest

from pfn_node.simulation import run as simulation
from pfn_node.simulation.figures import Options, Report
from pfn_node.simulation.halves import HalfNetwork
from pfn_node.simulation.run import Run, run
from pfn_node.simulation.sweep import sweep
from pfn_node.simulation.world import InvariantBroken

SMALL = Options(nodes=24, seed=7, messages=4, warmup=6)
FAULTY = replace(SMALL, nodes=60, warmup=10, loss=0.1, churn=0.1)


class OtherHalf(Thread):
    """What a process would be, but patches hold in it and its lines are counted."""

    def __init__(self, *, target: Callable[..., None], args: tuple[Options, Connection], daemon: bool) -> None:
        options, there = args
        super().__init__(target=target, args=(options, Connection(os.dup(there.fileno()))), daemon=daemon)


class Threads:
    """A context of `multiprocessing` whose processes are threads."""

    Pipe = staticmethod(multiprocessing.Pipe)
    Process = OtherHalf


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "get_context", lambda method: Threads)


@pytest.fixture(autouse=True)
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "HALVED_NODES_MIN", SMALL.nodes)


def played(options: Options) -> Report:
    return run(options, clock=lambda: 0.0)


def broken_in(half: int, step: Callable[[Run], None]) -> Callable[[Run], None]:
    def maybe(current: Run) -> None:
        if current.half is not None and current.half[0] == half:
            raise InvariantBroken(f"half {half} does not hold (seed {current.options.seed})")
        step(current)

    return maybe


def test_two_processes_repeat_a_run_by_its_seed_and_deliver_everything() -> None:
    one, again, other = played(SMALL), played(SMALL), played(replace(SMALL, seed=8))

    assert one == again and one.trace_hash != other.trace_hash
    for report in (one, other):
        assert not report.violations
        assert report.delivery_after_push == report.delivery_after_one_reconciliation == 1.0
        assert 1.0 <= report.copies_per_node <= 1.02
        assert 1 <= report.hops_p50 <= report.hops_max <= 14


def test_the_speed_of_a_half_changes_nothing(in_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_turns = played(SMALL)
    monkeypatch.undo()
    monkeypatch.setattr(simulation, "HALVED_NODES_MIN", SMALL.nodes)

    assert in_turns == played(SMALL)


def test_two_halves_have_the_figures_of_one_network(in_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = played(FAULTY)
    monkeypatch.setattr(simulation, "HALVED_NODES_MIN", FAULTY.nodes + 1)
    whole = played(FAULTY)

    assert not halves.violations and not whole.violations
    for report in (halves, whole):
        assert 0.99 <= report.delivery_after_push <= report.delivery_after_one_reconciliation <= 1.0
        assert 1.0 <= report.copies_per_node <= 1.2
        assert 4 <= report.hops_max <= 20
    assert halves.links_mean == pytest.approx(whole.links_mean, rel=0.1)
    assert halves.control_bytes_per_node_per_message == pytest.approx(
        whole.control_bytes_per_node_per_message, rel=0.25
    )
    assert sum(halves.curves.copies.values()) == sum(whole.curves.copies.values())


def test_seeds_of_a_network_in_halves_are_played_one_after_the_other(
    in_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_node.simulation.sweep.HALVED_NODES_MIN", SMALL.nodes)

    (first, one), (second, other) = sweep(SMALL, 2)

    assert (first.seed, second.seed) == (7, 8)
    assert one.trace_hash == played(SMALL).trace_hash != other.trace_hash


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("step", ["_link", "_measure", "_compare"])
def test_a_half_that_breaks_ends_the_run_with_its_sentence(
    half: int, step: str, in_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, step, broken_in(half, getattr(Run, step)))

    report = played(SMALL)

    (sentence,) = report.violations
    assert f"half {half} does not hold (seed 7)" in sentence and "(at maybe, test_halves.py" in sentence


def test_a_process_that_is_gone_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(OtherHalf):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "target": lambda options, there: there.close()})

    monkeypatch.setattr(Threads, "Process", Gone)
    monkeypatch.setattr(simulation, "get_context", lambda method: Threads)

    (sentence,) = played(SMALL).violations

    assert "the other half of the network is gone" in sentence


def test_a_broken_half_is_heard_although_the_first_had_more_to_say_than_the_pipe_holds() -> None:
    here, there = multiprocessing.Pipe()
    first, second = HalfNetwork(0, here, 7), HalfNetwork(1, there, 7)

    def break_and_end() -> None:
        with there:
            second.tell_broken("it does not hold")

    ending = Thread(target=break_and_end)
    ending.start()
    with here, pytest.raises(InvariantBroken, match="it does not hold"):
        first.agree_on(first.node("node-0"), lambda: bytes(2**22))
    ending.join()
