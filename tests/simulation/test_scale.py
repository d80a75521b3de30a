"""Many machines at once: the tree brings news once, repairs itself, and two runs with one seed are the same."""

import json
import os
import subprocess
import sys
from itertools import count

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_node.simulation.scale import ScaleOptions
from pfn_node.simulation.scale_figures import ScaleFigures, measure


def run(**options: float) -> ScaleFigures:
    ticks = count()
    return measure(ScaleOptions(**options), clock=lambda: float(next(ticks)))  # type: ignore[arg-type]


def test_without_faults_a_body_reaches_every_node_about_once() -> None:
    figures = run(nodes=120, warmup=15, messages=8)

    assert figures.delivery_after_push == 1.0
    assert figures.copies_per_node <= 1.02
    assert figures.hops_p99 <= 14
    assert figures.violations == 0


def test_the_first_message_after_a_tenth_of_the_nodes_died_reaches_all_others() -> None:
    figures = run(nodes=120, warmup=15, messages=4, churn=0.1)

    assert figures.first_message_delivery == 1.0
    assert figures.first_message_copies <= 1.05


def test_under_loss_and_churn_pulls_close_the_gaps_and_one_comparison_the_rest() -> None:
    figures = run(nodes=100, warmup=10, messages=6, loss=0.2, churn=0.1, seed=3)

    assert figures.delivery_after_push >= 0.99
    assert figures.delivery_after_one_reconciliation == 1.0
    assert figures.copies_per_node <= 1.4
    assert figures.violations == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_the_trace_follows_from_the_options_whatever_the_hash_seed(seed: int) -> None:
    code = (
        "from time import perf_counter\n"
        "from pfn_node.simulation.scale import ScaleOptions\n"
        "from pfn_node.simulation.scale_figures import measure\n"
        f"options = ScaleOptions(nodes=40, seed={seed}, messages=3, warmup=3, loss=0.1, churn=0.1)\n"
        "print(measure(options, clock=perf_counter).trace_hash)\n"
    )

    def trace(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert trace("1") == trace("2") != ""


def test_the_command_prints_the_figures_of_a_large_mesh_as_json() -> None:
    words = ["simulate", "--scale", "--nodes", "30", "--messages", "2", "--warmup", "2", "--json"]

    done = CliRunner().invoke(app, words)

    assert done.exit_code == 0
    figures = json.loads(done.stdout)
    assert figures["nodes"] == 30 and figures["delivery_after_push"] == 1.0
    assert {"copies_per_node", "hops_p50", "hops_p99", "hops_max", "events_per_second", "trace_hash"} <= set(figures)
