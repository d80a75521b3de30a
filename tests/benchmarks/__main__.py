"""`scripts/bench NAME [--json]`: benchmarks as ratios, each against something that is measured in the same run."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial

from tests.benchmarks import ingest, mirror, reconcile

Figures = dict[str, float | int | str] | list[dict[str, float | int]]
BENCHMARKS: dict[str, Callable[[], Figures]] = {
    "ingest": ingest.run,
    "mirror": mirror.run,
    "reconcile": reconcile.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them")
    parser.add_argument("--items", type=int, default=reconcile.ITEMS, help="of reconcile: ids in each of the sets")
    arguments = parser.parse_args()
    run = partial(reconcile.run, arguments.items) if arguments.name == "reconcile" else BENCHMARKS[arguments.name]
    figures = run()
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for row in figures if isinstance(figures, list) else [figures]:
        for name, figure in row.items():
            sys.stdout.write(f"{name:32} {figure}\n")
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
