"""`scripts/bench NAME [--json]`: benchmarks as ratios to something of the same run, or beside their goals."""

import argparse
import json
import sys
from collections.abc import Callable

from tests.benchmarks import (
    download,
    eclipse,
    gossip,
    hostile,
    ingest,
    mesh,
    mirror,
    origin,
    pages,
    proxy,
    reconcile,
    serve,
    wordpress,
)

Row = dict[str, float | int | str]
Figures = Row | list[dict[str, float | int]] | list[Row]
BENCHMARKS: dict[str, Callable[..., Figures]] = {
    "download": download.run,
    "eclipse": eclipse.run,
    "gossip": gossip.run,
    "hostile": hostile.run,
    "ingest": ingest.run,
    "mesh": mesh.run,
    "mirror": mirror.run,
    "origin": origin.run,
    "pages": pages.run,
    "proxy": proxy.run,
    "reconcile": reconcile.run,
    "serve": serve.run,
    "wordpress": wordpress.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them")
    parser.add_argument("--items", type=int, default=reconcile.ITEMS, help="of reconcile: ids in each of the sets")
    parser.add_argument("--nodes", type=int, help=f"of gossip ({gossip.NODES}), mesh ({mesh.NODES}), origin")
    parser.add_argument("--seeds", type=int, default=gossip.SEEDS, help="of gossip: how many runs a median is of")
    parser.add_argument("--announcements", type=int, default=mesh.ANNOUNCEMENTS, help="of mesh: releases, four or more")
    parser.add_argument("--trials", type=int, default=eclipse.TRIALS, help="of eclipse: of each variant")
    parser.add_argument("--first-seed", type=int, default=1, help="of eclipse: with --trials 1 it repeats one trial")
    arguments = parser.parse_args()
    sizes = {
        "eclipse": (arguments.trials, arguments.first_seed),
        "gossip": (arguments.nodes or gossip.NODES, arguments.seeds),
        "mesh": (arguments.nodes or mesh.NODES, arguments.announcements),
        "origin": (arguments.nodes or origin.NODES,),
        "reconcile": (arguments.items,),
    }
    figures = BENCHMARKS[arguments.name](*sizes.get(arguments.name, ()))
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for row in figures if isinstance(figures, list) else [figures]:
        for name, figure in row.items():
            sys.stdout.write(f"{name:32} {figure}\n")
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
