"""`pfn simulate`: what it prints, draws and ends with."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pfn_node.cli import app, simulate
from pfn_node.simulation import run as simulation
from pfn_node.simulation.figures import Options, Report

SMALL = ["simulate", "--nodes", "4", "--messages", "2", "--warmup", "1"]


def test_figures_are_printed_as_json() -> None:
    done = CliRunner().invoke(app, [*SMALL, "--json", "--interval", "200"])

    assert done.exit_code == 0
    figures = json.loads(done.stdout)
    assert (figures["violations"], figures["interval_ms"], figures["delivery_after_push"]) == (0, 200, 1.0)
    assert list(figures) == [
        "nodes", "seed", "loss", "churn", "messages", "warmup", "interval_ms", "delivery_after_push",
        "delivery_after_one_reconciliation", "copies_per_node", "first_message_delivery", "first_message_copies",
        "hops_p50", "hops_p99", "hops_max", "links_mean", "control_bytes_per_node_per_message", "events",
        "events_per_second", "wall_seconds", "violations", "trace_hash",
    ]  # fmt: skip


def test_a_violation_ends_the_command_with_1_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "HEALED_SECONDS_MAX", 0)

    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", "--seed", "8", "--loss", "0.1"])

    assert done.exit_code == 1
    assert ["violations", "1"] in [line.split() for line in done.stdout.splitlines()]
    again = "pfn simulate --nodes 3 --seed 8 --messages 20 --warmup 30 --loss 0.1 --churn 0.0 --interval 1000"
    assert f"seed 8 does it again: {again}" in done.stderr


def test_options_that_leave_nobody_alive_are_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", "--churn", "0.9"])

    assert done.exit_code == 2
    assert "outlive" in done.stderr


def test_a_run_is_drawn_as_svg_with_its_coverage_and_its_copies(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*SMALL, "--plot", str(tmp_path / "run.svg")])

    assert done.exit_code == 0
    svg = ElementTree.parse(tmp_path / "run.svg").getroot()
    texts = [one.text for one in svg.iter() if one.tag.endswith("text")]
    assert "100 %" in texts and "100.0%" in texts
    (curve,) = [one for one in svg.iter() if one.tag.endswith("polyline")]
    assert curve.get("points", "").endswith(",72.0")  # everybody has it in the end
    assert "prefers-color-scheme: dark" in (tmp_path / "run.svg").read_text()


def test_a_sweep_shows_every_seed_and_the_medians() -> None:
    done = CliRunner().invoke(app, [*SMALL, "--sweep", "2"])

    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["seed", "1", "2", "median"]
    assert "seed 2 (2 of 2)" in done.stderr


def test_a_seed_of_a_sweep_that_fails_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(options: Options, seeds: int) -> list[tuple[Options, Report]]:
        good, bad = Options(4, 1, 2, 1), Options(4, 2, 2, 1)
        return [(good, Report(4, 1, 0, 0, 2, 1, 1)), (bad, Report(4, 2, 0, 0, 2, 1, 1, violations=("it broke",)))]

    monkeypatch.setattr(simulate, "run_seeds", failing)

    done = CliRunner().invoke(app, [*SMALL, "--sweep", "2", "--json"])

    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert [one["violations"] for one in shown["runs"]] == [0, 1] and "copies_per_node" in shown["medians"]
    assert "it broke" in done.stderr and "seed 2 does it again: pfn simulate --nodes 4 --seed 2" in done.stderr
    assert "seed 1 does it again" not in done.stderr


def test_somebody_who_looks_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(simulate, "Console", lambda stderr: screen)
    monkeypatch.setattr(simulate, "REDRAW_SECONDS", 0.0)

    done = CliRunner().invoke(app, SMALL)

    assert done.exit_code == 0
    assert isinstance(screen.file, io.StringIO)
    drawn = screen.file.getvalue()
    assert all(word in drawn for word in ("virtual time", "warm up", "compare", "2/2", "100.00%"))
