"""`pfn simulate SCENARIO` and `pfn simulate --hours H`: what a mesh lives through, step by step."""

import json
import sys
from dataclasses import asdict

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail
from pfn_node.cli.tables import show, show_fields
from pfn_node.simulation.scenarios import SCENARIOS
from pfn_node.simulation.stage import Stage, Step, perform
from pfn_node.simulation.storm import StormOptions, StormReport, weather_storm

_MARKS = {None: " ", True: "+", False: "!"}


def show_names(as_json: bool) -> None:
    """Which scenarios there are."""
    known = [{"scenario": name, "about": one.about} for name, one in SCENARIOS.items()]
    show(known, as_json, (("scenario", "scenario"), ("about", "about")), known)


def play(name: str, seed: int, as_json: bool) -> None:
    """Play a scenario; exit 1 if something in it is not as expected."""
    scenario = SCENARIOS.get(name)
    if scenario is None:
        fail(f"there is no scenario {name!r}; --list shows them", WRONG_USAGE)
    stage = Stage(name, seed, show=(lambda step: None) if as_json else _print_step)
    perform(stage, scenario)
    if as_json:
        steps = [asdict(step) for step in stage.steps]
        print(json.dumps({"scenario": name, "seed": seed, "failed": stage.failed, "steps": steps}, indent=2))
    if stage.failed:
        print(f"pfn: not as expected; again with: {stage.replay}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _print_step(step: Step) -> None:
    print(f"{step.at_seconds:9.1f} s {_MARKS[step.met]} {step.sentence}", flush=True)


def weather(hours: float, nodes: int, hostile: float, seed: int, as_json: bool) -> None:
    """Live through all faults at once; exit 1 at the first thing that must never happen."""
    try:
        options = StormOptions(hours, nodes, hostile, seed)
    except ValueError as error:
        fail(str(error), WRONG_USAGE)
    report = _watched(options)
    show_fields(asdict(report) | {"violations": len(report.violations)}, as_json)
    for sentence in report.violations:
        print(f"pfn: {sentence}", file=sys.stderr)
    if report.violations:
        raise typer.Exit(FAILED)


def _watched(options: StormOptions) -> StormReport:
    """Live through it, with a bar on stderr where somebody looks."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("storm", total=1.0)
        return weather_storm(options, lambda phase, done: bars.update(task, description=phase, completed=done))
