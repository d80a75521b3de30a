"""`scripts/bench NAME [--json]`: benchmarks as ratios to something of the same run, or beside their goals."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    download,
    eclipse,
    gossip,
    hostile,
    ingest,
    join,
    mesh,
    origin,
    pages,
    proxy,
    reconcile,
    search,
    serve,
    soak,
    sockets,
    start,
    sync,
    wordpress,
    workers,
)

Row = dict[str, float | int | str]
Figures = Row | list[dict[str, float | int]] | list[Row]
BENCHMARKS: dict[str, Callable[..., Figures]] = {
    "download": download.run,
    "eclipse": eclipse.run,
    "gossip": gossip.run,
    "hostile": hostile.run,
    "ingest": ingest.run,
    "join": join.run,
    "mesh": mesh.run,
    "origin": origin.run,
    "pages": pages.run,
    "proxy": proxy.run,
    "reconcile": reconcile.run,
    "search": search.run,
    "serve": serve.run,
    "soak": soak.run,
    "sockets": sockets.run,
    "start": start.run,
    "sync": sync.run,
    "wordpress": wordpress.run,
    "workers": workers.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them")
    parser.add_argument("--items", type=int, default=reconcile.ITEMS, help="of reconcile: ids in each of the sets")
    parser.add_argument("--nodes", type=int, help=f"of gossip ({gossip.NODES}), mesh ({mesh.NODES}), origin")
    parser.add_argument("--seeds", type=int, default=gossip.SEEDS, help="of gossip: how many runs a median is of")
    parser.add_argument("--announcements", type=int, help="of join, mesh (releases, four or more), start")
    parser.add_argument("--trials", type=int, default=eclipse.TRIALS, help="of eclipse: of each variant")
    parser.add_argument("--first-seed", type=int, default=1, help="of eclipse: with --trials 1 it repeats one trial")
    parser.add_argument("--minutes", type=float, default=soak.MINUTES, help="of soak: how long")
    parser.add_argument("--rate", type=int, default=soak.REQUESTS_PER_SECOND, help="of soak: requests per second")
    parser.add_argument("--svg", type=Path, default=soak.PICTURE, help="of soak: where its picture goes")
    parser.add_argument("--workers", type=int, default=workers.WORKERS, help="of workers: how many beside the node")
    arguments = parser.parse_args()
    sizes = {
        "eclipse": (arguments.trials, arguments.first_seed),
        "gossip": (arguments.nodes or gossip.NODES, arguments.seeds),
        "join": (arguments.announcements or join.ANNOUNCEMENTS,),
        "mesh": (arguments.nodes or mesh.NODES, arguments.announcements or mesh.ANNOUNCEMENTS),
        "origin": (arguments.nodes or origin.NODES,),
        "reconcile": (arguments.items,),
        "soak": (arguments.minutes, arguments.rate, arguments.svg),
        "workers": (arguments.workers,),
        "start": (arguments.announcements or start.ANNOUNCEMENTS,),
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
