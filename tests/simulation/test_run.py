"""Whole runs: what is measured, what is demanded, and that a seed repeats everything."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pfn_node.simulation import run as simulation
from pfn_node.simulation.figures import Options, Report, medians, warmup_for
from pfn_node.simulation.run import Progress, run
from pfn_node.simulation.sweep import sweep

ROOT = Path(__file__).parents[2]
SMALL = Options(nodes=6, seed=1, messages=4, warmup=3)


def played(options: Options, *, sealed: bool | None = None) -> Report:
    ticks = count()
    return run(options, clock=lambda: float(next(ticks)), sealed=sealed)


def test_without_faults_a_body_reaches_every_node_about_once() -> None:
    report = played(Options(nodes=80, warmup=15, messages=6))

    assert not report.violations
    assert report.delivery_after_push == report.delivery_after_one_reconciliation == 1.0
    assert 1.0 <= report.copies_per_node <= 1.02
    assert 1 <= report.hops_p50 <= report.hops_p99 <= report.hops_max
    assert report.hops_p99 <= 14
    assert report.links_mean > 6
    assert report.control_bytes_per_node_per_message > 0
    assert report.events_per_second == report.events


@pytest.mark.long
def test_a_thousand_nodes_meet_the_goals() -> None:
    report = played(Options(nodes=1_000, warmup=30, messages=20))

    assert not report.violations
    assert report.delivery_after_push == 1.0
    assert report.copies_per_node <= 1.02


def test_the_first_message_after_a_tenth_of_the_nodes_died_reaches_all_others() -> None:
    report = played(Options(nodes=80, warmup=15, messages=3, churn=0.1))

    assert not report.violations
    assert report.first_message_delivery == 1.0
    assert report.first_message_copies <= 1.05


def test_under_loss_and_churn_pulls_close_the_gaps_one_comparison_the_rest_and_all_agree_in_the_end() -> None:
    report = played(Options(nodes=60, warmup=10, messages=6, loss=0.2, churn=0.2, seed=3), sealed=False)

    assert not report.violations
    assert 0.97 <= report.delivery_after_push <= report.delivery_after_one_reconciliation
    assert report.delivery_after_one_reconciliation >= 0.99
    assert 1.0 <= report.copies_per_node <= 1.4


def test_whether_messages_are_sealed_or_plain_changes_no_figure() -> None:
    options = Options(nodes=12, seed=5, messages=4, warmup=4, loss=0.1, churn=0.1)

    sealed, plain = played(options, sealed=True), played(options, sealed=False)

    assert not sealed.violations
    assert sealed.trace_hash != plain.trace_hash
    assert replace(sealed, trace_hash="") == replace(plain, trace_hash="")


def test_what_is_not_delivered_by_push_is_not_counted_as_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.gossip_links.outbox_ids_max", 0)  # nothing is ever told, only compared

    report = played(SMALL)

    assert report.delivery_after_push == 0.0
    assert report.hops_max == 0
    assert report.curves.copies == {0: 20}
    assert report.delivery_after_one_reconciliation > 0


def test_a_mesh_that_does_not_agree_in_time_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "HEALED_SECONDS_MAX", 0)

    report = played(SMALL)

    assert "do not agree within" in report.violations[0]


def test_a_disk_that_holds_another_set_than_its_machine_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.simulation.actor.Node.announcements", lambda self: [])

    report = played(SMALL)

    assert "the disk of node-0" in report.violations[0]


def test_a_sender_that_stays_silent_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.simulation.actor.Node.sees", lambda self, slug: None)

    report = played(SMALL)

    assert "does not announce what it sees" in report.violations[0]
    assert report.copies_per_node == report.delivery_after_push == 0.0


def test_a_large_mesh_is_not_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "HEALED_NODES_MAX", 5)
    monkeypatch.setattr(simulation, "COLLECT_EVENTS", 100)
    monkeypatch.setattr(simulation, "HEALED_SECONDS_MAX", 0)

    assert not played(SMALL).violations


def test_whoever_watches_hears_every_virtual_second() -> None:
    heard: list[Progress] = []

    run(SMALL, clock=lambda: 0.0, watcher=heard.append)

    assert list(dict.fromkeys(one.phase for one in heard))[:4] == ["link", "warm up", "measure", "compare"]
    assert [one.virtual_seconds for one in heard[:3]] == [1, 2, 3]
    assert (heard[-1].said, heard[-1].delivered, heard[-1].copies) == (4, 1.0, 1.0)


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"messages": 0}, {"loss": 1.0}, {"churn": -0.1}, {"interval_ms": 0}])
def test_options_that_make_no_run_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_a_large_mesh_is_warmed_up_with_fewer_messages() -> None:
    assert (warmup_for(1_000), warmup_for(10_000)) == (30, 12)


def test_several_seeds_are_as_good_as_each_alone() -> None:
    (first, one), (second, other) = sweep(SMALL, 2)

    assert (first.seed, second.seed) == (1, 2)
    assert one.trace_hash == played(SMALL).trace_hash != other.trace_hash
    assert medians([one, other])["events"] == (one.events + other.events) / 2


def simulated(seed: int, hash_seed: str, *, sealed: bool) -> str:
    """The trace of a run in a process of its own, and which rooms and libraries it needed."""
    program = (
        "import sys, time; from pfn_node.simulation.run import run; from pfn_node.simulation.figures import Options;"
        f"options = Options(12, {seed}, 4, 2, loss=0.1, churn=0.2);"
        f"report = run(options, clock=time.perf_counter, sealed={sealed});"
        "assert not report.violations, report.violations; print(report.trace_hash, report.events);"
        "print(*sorted(name for name in sys.modules if name.startswith('pfn_node.') and 'simulation' not in name));"
        "print(*({'trio', 'httpx', 'quart'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("sealed", [True, False])
def test_a_seed_repeats_a_run_under_any_hash_seed_and_needs_nothing_of_the_node(sealed: bool) -> None:
    one, again = simulated(1, "1", sealed=sealed), simulated(1, "4711", sealed=sealed)
    other = simulated(2, "1", sealed=sealed)

    assert one == again
    assert one.split("\n")[0] != other.split("\n")[0]
    assert one.split("\n")[1:] == ["", "", ""]
