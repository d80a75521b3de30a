"""`pfn simulate`: a mesh of many nodes in virtual time, in this process, and what was measured of it."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pfn_node.cli import scenarios
from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail
from pfn_node.cli.tables import show
from pfn_node.simulation.figures import Curves, Options, Report, medians, warmup_for
from pfn_node.simulation.plot import picture
from pfn_node.simulation.run import Progress, Watcher, run
from pfn_node.simulation.storm import HOSTILE_PART_MAX
from pfn_node.simulation.sweep import sweep as run_seeds

NODES_MAX = 10_000
MESSAGES_MAX = 10_000
INTERVAL_MS_MAX = 3_600_000
SEEDS_MAX = 1_000
# Beyond it hardly any exchange succeeds, and nothing is learned.
LOSS_MAX = 0.9
# A person reads no faster.
REDRAW_SECONDS = 0.1


def simulate(
    scenario: Annotated[str, typer.Argument(help="A named scenario; none: a mesh that is measured.")] = "",
    nodes: Annotated[int, typer.Option(min=2, max=NODES_MAX, help="How many nodes.")] = 20,
    seed: Annotated[int, typer.Option(help="Everything that is left to chance follows from it.")] = 1,
    messages: Annotated[int, typer.Option(min=1, max=MESSAGES_MAX, help="Broadcasts that are measured.")] = 20,
    warmup: Annotated[
        int | None, typer.Option(min=0, max=MESSAGES_MAX, help="Broadcasts before that; 30, or 12 in a large mesh.")
    ] = None,
    loss: Annotated[float, typer.Option(min=0.0, max=LOSS_MAX, help="Part of requests, and of answers, lost.")] = 0.0,
    churn: Annotated[float, typer.Option(min=0.0, max=0.9, help="Part of the nodes that dies, once.")] = 0.0,
    interval: Annotated[
        int, typer.Option(min=1, max=INTERVAL_MS_MAX, help="Milliseconds from one broadcast to the next.")
    ] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw how messages spread, as SVG, into this file.")] = None,
    sweep: Annotated[int, typer.Option(min=1, max=SEEDS_MAX, help="Run so many seeds, and show the medians.")] = 1,
    names: Annotated[bool, typer.Option("--list", help="Show the named scenarios.")] = False,
    hours: Annotated[float, typer.Option(min=0.0, help="Live so long under all faults at once.")] = 0.0,
    hostile: Annotated[float, typer.Option(min=0.0, max=HOSTILE_PART_MAX, help="Part of hostile nodes in it.")] = 0.4,
) -> None:
    """Run a mesh of many nodes in virtual time.

    Exit code 1 if something happens that must not, or if they never agree.
    """
    if names:
        scenarios.show_names(as_json)
    elif scenario:
        scenarios.play(scenario, seed, as_json)
    elif hours:
        scenarios.weather(hours, nodes, hostile, seed, as_json)
    if names or scenario or hours:
        return
    try:
        options = Options(nodes, seed, messages, warmup_for(nodes) if warmup is None else warmup, loss, churn, interval)
    except ValueError as error:
        fail(str(error), WRONG_USAGE)
    if plot is not None:
        plot.touch()  # rather than fail after minutes
    if sweep > 1:
        runs = list(_shown(run_seeds(options, sweep), sweep))
        _show_sweep([report for _, report in runs], as_json)
    else:
        runs = [(options, _watched(options))]
        _show_run(runs[0][1], as_json)
    if plot is not None:
        curves = sum((report.curves for _, report in runs), Curves())
        plot.write_text(picture(curves, f"{nodes:,} nodes, loss {loss:.0%}, churn {churn:.0%}"), encoding="utf-8")
    failed = [(played, report) for played, report in runs if report.violations]
    for played, report in failed:
        for sentence in report.violations:
            print(f"pfn: {sentence}", file=sys.stderr)
        print(f"pfn: seed {played.seed} does it again: {played.replay}", file=sys.stderr)
    if failed:
        raise typer.Exit(FAILED)


def _watched(options: Options) -> Report:
    """Run it, with a table on stderr where somebody looks."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        return run(options, clock=time.perf_counter)
    with _live(screen, options) as watcher:
        return run(options, clock=time.perf_counter, watcher=watcher)


@contextmanager
def _live(screen: Console, options: Options) -> Iterator[Watcher]:
    """Draws the progress of a run, and clears it away in the end."""
    drawn = began = time.perf_counter()
    with Live(console=screen, transient=True, auto_refresh=False) as live:

        def draw(progress: Progress) -> None:
            nonlocal drawn
            now = time.perf_counter()
            if now - drawn >= REDRAW_SECONDS:
                drawn = now
                live.update(_progress_table(progress, options, now - began), refresh=True)

        yield draw


def _progress_table(progress: Progress, options: Options, seconds: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    cells = {
        "phase": progress.phase,
        "virtual time": f"{progress.virtual_seconds:,.0f} s",
        "wall time": f"{seconds:,.1f} s",
        "events": f"{progress.events:,}",
        "events/s": f"{progress.events / max(seconds, 1e-9):,.0f}",
        "messages": f"{progress.said}/{options.messages}",
        "delivered": f"{progress.delivered:.2%}",
        "copies": f"{progress.copies:.3f}",
    }
    for title in cells:
        table.add_column(title, min_width=9)
    table.add_row(*cells.values())
    return table


def _shown(runs: Iterable[tuple[Options, Report]], count: int) -> Iterator[tuple[Options, Report]]:
    """The runs, each told of on stderr when it is ready."""
    for number, (options, report) in enumerate(runs, 1):
        print(
            f"seed {options.seed} ({number} of {count}): {report.copies_per_node:.4f} copies, "
            f"{report.delivery_after_push:.4%} pushed, {report.wall_seconds:.1f} s",
            file=sys.stderr,
        )
        yield options, report


def _show_run(report: Report, as_json: bool) -> None:
    figures = report.as_json()
    rows = [{"figure": name, "value": value} for name, value in figures.items()]
    show(figures, as_json, [("figure", "figure"), ("value", "value")], rows)


def _show_sweep(reports: list[Report], as_json: bool) -> None:
    """A row for each seed, and one for the medians."""
    middle = medians(reports)
    if as_json:
        print(json.dumps({"runs": [report.as_json() for report in reports], "medians": middle}))
        return
    columns = [
        ("seed", "seed"),
        ("copies", "copies_per_node"),
        ("pushed", "delivery_after_push"),
        ("compared", "delivery_after_one_reconciliation"),
        ("first copies", "first_message_copies"),
        ("first pushed", "first_message_delivery"),
        ("hops p50", "hops_p50"),
        ("p99", "hops_p99"),
        ("max", "hops_max"),
        ("control bytes", "control_bytes_per_node_per_message"),
        ("events", "events"),
        ("seconds", "wall_seconds"),
        ("violations", "violations"),
    ]
    show(None, False, columns, [*(report.as_json() for report in reports), {"seed": "median", **middle}])
