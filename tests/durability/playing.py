"""The command line of what lets calls on the disk fail: one point of one kind of work, or all points of all kinds."""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Protocol

from tests.durability.fault_loop import Trouble
from tests.durability.faults import FAULTS, Fault


class Faults(Protocol):
    """Kinds of work during which a call can be let fail; both raise Trouble."""

    points: dict[str, int]  # how many were played, by kind and fault
    refused: int

    def point(self, kind: str, fault: Fault, at: int, /) -> bool: ...
    def sweep(self, kind: str, fault: Fault, /, *, step: int = 1) -> None: ...


def arguments(description: str | None, word: str, kinds: Iterable[str]) -> argparse.Namespace:
    """What was asked for; `word` is what a kind of work is called."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{word}", dest="kinds", choices=[*kinds], action="append", default=None)
    parser.add_argument("--fault", dest="faults", choices=FAULTS, action="append", default=None)
    parser.add_argument("--at", type=int)
    parser.add_argument("--step", type=int, default=1)
    given = parser.parse_args()
    given.kinds, given.faults = given.kinds or [*kinds], given.faults or [*FAULTS]
    return given


def play(faults: Faults, given: argparse.Namespace) -> None:
    """Play what was asked for, tell of each trouble at once, and print the figures as JSON."""
    troubles = []
    for kind in given.kinds:
        for fault in given.faults:
            try:
                if given.at is not None:
                    faults.point(kind, FAULTS[fault], given.at)
                else:
                    faults.sweep(kind, FAULTS[fault], step=given.step)
            except Trouble as trouble:
                troubles.append(str(trouble))
                sys.stderr.write(f"{trouble}\n")
            sys.stderr.write(f"{kind}: {fault}: {faults.points.get(f'{kind}: {fault}', 0)} points\n")
    figures = {"points": sum(faults.points.values()), "refused": faults.refused, "troubles": troubles}
    sys.stdout.write(json.dumps(figures) + "\n")
