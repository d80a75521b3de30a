"""Whole runs: what is measured, what is demanded, and that a seed repeats everything."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_node.simulation import run as simulation
from pfn_node.simulation.run import Options, run

ROOT = Path(__file__).parents[2]
SMALL = Options(nodes=5, seed=1, messages=4, warmup=2)


def played(options: Options) -> simulation.Report:
    ticks = count()
    return run(options, clock=lambda: float(next(ticks)))


def test_without_faults_push_reaches_everybody_in_few_hops() -> None:
    report = played(SMALL)

    assert not report.violations
    assert report.delivery_after_push == report.delivery_after_one_reconciliation == 1.0
    assert report.copies_per_node >= 1
    assert 1 <= report.hops_p50 <= report.hops_p99 <= report.hops_max <= 4
    assert report.control_bytes_per_node_per_message > 0
    assert report.events_per_second == report.events


def test_a_fifth_of_everything_lost_and_a_fifth_of_the_nodes_dead_still_ends_in_one_set() -> None:
    report = played(Options(nodes=8, seed=3, messages=6, warmup=4, loss=0.2, churn=0.2))

    assert not report.violations
    assert 0.3 < report.delivery_after_push <= report.delivery_after_one_reconciliation <= 1.0


def test_what_is_not_delivered_by_push_is_not_counted_as_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.gossip_links.outbox_ids_max", 0)  # nothing is ever told, only compared

    report = played(SMALL)

    assert not report.violations
    assert report.delivery_after_push == 0.0
    assert report.hops_max == 0
    assert report.delivery_after_one_reconciliation > 0


def test_a_mesh_that_does_not_agree_in_time_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "CONVERGENCE_SECONDS_MAX", 0.0)

    report = played(SMALL)

    assert "did not within" in report.violations[0]


def test_the_command_prints_figures_as_json() -> None:
    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", "--messages", "2", "--warmup", "0", "--json"])

    assert done.exit_code == 0
    figures = json.loads(done.stdout)
    assert figures["violations"] == 0
    assert list(figures) == [
        "nodes", "seed", "loss", "churn", "messages", "delivery_after_push", "delivery_after_one_reconciliation",
        "copies_per_node", "hops_p50", "hops_p99", "hops_max", "control_bytes_per_node_per_message", "events",
        "events_per_second", "wall_seconds", "violations", "trace_hash",
    ]  # fmt: skip


def test_a_violation_ends_the_command_with_1_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "CONVERGENCE_SECONDS_MAX", 0.0)

    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", "--seed", "8", "--loss", "0.1"])

    assert done.exit_code == 1
    assert "violations  1" in done.stdout
    assert "seed 8 does it again: pfn simulate --nodes 3 --seed 8 --messages 20 --warmup 30 --loss 0.1" in done.stderr


def test_options_that_leave_nobody_alive_are_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", "--churn", "0.9"])

    assert done.exit_code == 2
    assert "outlive" in done.stderr


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"messages": 0}, {"loss": 1.0}, {"churn": -0.1}])
def test_options_that_make_no_run_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def simulated(seed: int, hash_seed: str) -> str:
    """The trace of a run in a process of its own, and which rooms and libraries it needed."""
    program = (
        "import sys, time; from pfn_node.simulation.run import Options, run;"
        f"report = run(Options(5, {seed}, 4, 2, loss=0.1, churn=0.2), clock=time.perf_counter);"
        "assert not report.violations, report.violations; print(report.trace_hash, report.events);"
        "print(*sorted(name for name in sys.modules if name.startswith('pfn_node.') and 'simulation' not in name));"
        "print(*({'trio', 'httpx', 'quart'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_a_seed_repeats_a_run_under_any_hash_seed_and_needs_nothing_of_the_node() -> None:
    one, again, other = simulated(1, "1"), simulated(1, "4711"), simulated(2, "1")

    assert one == again
    assert one.split("\n")[0] != other.split("\n")[0]
    assert one.split("\n")[1:] == ["", "", ""]
