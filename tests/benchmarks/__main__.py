"""`scripts/bench NAME [--json]`: benchmarks as ratios, each against something that is measured in the same run."""

import argparse
import json
import sys
from collections.abc import Callable

from tests.benchmarks import ingest, mirror

BENCHMARKS: dict[str, Callable[[], dict[str, float | int | str]]] = {"ingest": ingest.run, "mirror": mirror.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = BENCHMARKS[arguments.name]()
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, figure in figures.items():
        sys.stdout.write(f"{name:32} {figure}\n")


if __name__ == "__main__":
    main()
