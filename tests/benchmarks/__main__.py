<<<<<<< HEAD
"""`scripts/bench NAME [--json]`: benchmarks as ratios to something of the same run, or beside their goals."""
=======
"""`scripts/bench NAME [--json]`: ratios to something that is measured in the same run, and `mesh` beside its bar."""
>>>>>>> 460ce5a9f87179af030e4d81e84a2b4fcccd238b

import argparse
import json
import sys
from collections.abc import Callable

<<<<<<< HEAD
from tests.benchmarks import gossip, ingest, mirror, reconcile

Row = dict[str, float | int | str]
Figures = Row | list[dict[str, float | int]] | list[Row]
BENCHMARKS: dict[str, Callable[[], Figures]] = {
    "gossip": gossip.run,
=======
from tests.benchmarks import ingest, mesh, mirror, reconcile

Figures = dict[str, float | int | str] | list[dict[str, float | int]]
BENCHMARKS: dict[str, Callable[..., Figures]] = {
>>>>>>> 460ce5a9f87179af030e4d81e84a2b4fcccd238b
    "ingest": ingest.run,
    "mesh": mesh.run,
    "mirror": mirror.run,
    "reconcile": reconcile.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them")
    parser.add_argument("--items", type=int, default=reconcile.ITEMS, help="of reconcile: ids in each of the sets")
<<<<<<< HEAD
    parser.add_argument("--nodes", type=int, default=gossip.NODES, help="of gossip: how many")
    parser.add_argument("--seeds", type=int, default=gossip.SEEDS, help="of gossip: how many runs a median is of")
    arguments = parser.parse_args()
    run = BENCHMARKS[arguments.name]
    if arguments.name == "reconcile":
        run = partial(reconcile.run, arguments.items)
    elif arguments.name == "gossip":
        run = partial(gossip.run, arguments.nodes, arguments.seeds)
    figures = run()
=======
    parser.add_argument("--nodes", type=int, default=mesh.NODES, help="of mesh: processes")
    parser.add_argument("--announcements", type=int, default=mesh.ANNOUNCEMENTS, help="of mesh: releases")
    arguments = parser.parse_args()
    sizes = {"mesh": (arguments.nodes, arguments.announcements), "reconcile": (arguments.items,)}
    figures = BENCHMARKS[arguments.name](*sizes.get(arguments.name, ()))
>>>>>>> 460ce5a9f87179af030e4d81e84a2b4fcccd238b
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for row in figures if isinstance(figures, list) else [figures]:
        for name, figure in row.items():
            sys.stdout.write(f"{name:32} {figure}\n")
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
