"""`pfn simulate`: a mesh of many nodes in virtual time, in this process, and what was measured of it."""

import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail
from pfn_node.cli.tables import show_fields
from pfn_node.simulation.run import Options, Report, run

NODES_MAX = 10_000
# Above this, signatures and envelopes would take most of the time.
SIGNED_NODES_MAX = 200
MESSAGES_MAX = 10_000
# Beyond it hardly any exchange succeeds, and nothing is learned.
LOSS_MAX = 0.9


def simulate(
    nodes: Annotated[int, typer.Option(min=2, max=NODES_MAX, help="How many nodes.")] = 20,
    seed: Annotated[int, typer.Option(help="Everything that is left to chance follows from it.")] = 1,
    messages: Annotated[int, typer.Option(min=1, max=MESSAGES_MAX, help="Releases that are measured.")] = 20,
    warmup: Annotated[int, typer.Option(min=0, max=MESSAGES_MAX, help="Releases before that.")] = 30,
    loss: Annotated[float, typer.Option(min=0.0, max=LOSS_MAX, help="Part of requests, and of answers, lost.")] = 0.0,
    churn: Annotated[float, typer.Option(min=0.0, max=0.9, help="Part of the nodes that crashes, once.")] = 0.0,
    scale: Annotated[bool, typer.Option(help="Without signatures and envelopes; always above 200 nodes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a mesh of real machines in virtual time; exit 1 if something happens that must not, or they never agree."""
    if scale or nodes > SIGNED_NODES_MAX:
        figures = measure(ScaleOptions(nodes, seed, messages, warmup, loss, churn), clock=time.perf_counter)
        show_fields(figures.as_json(), as_json)
        raise typer.Exit(FAILED if figures.violations else 0)
    try:
        options = Options(nodes, seed, messages, warmup, loss, churn)
    except ValueError as error:
        fail(str(error), WRONG_USAGE)
    report = _watched(options)
    show_fields(_figures(report), as_json)
    if report.violations:
        for sentence in report.violations:
            print(f"pfn: {sentence}", file=sys.stderr)
        print(f"pfn: seed {options.seed} does it again: {options.replay}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _watched(options: Options) -> Report:
    """Run it, with a bar on stderr where somebody looks."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("build", total=1.0)
        return run(
            options,
            clock=time.perf_counter,
            progress=lambda phase, done: bars.update(task, description=phase, completed=done),
        )


def _figures(report: Report) -> dict[str, Any]:
    figures = asdict(report) | {"violations": len(report.violations)}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}
