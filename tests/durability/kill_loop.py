"""Kill a node at random moments while it is being written to, and look each time whether it lost anything.

`python -m tests.durability.kill_loop --kills 1000 --seed 7` prints what it did as JSON.
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.conformance.hostile_publisher import Publisher
from tests.durability.checks import Checks
from tests.durability.killed_node import KilledNode, Starter
from tests.durability.ledger import Ledger
from tests.durability.writers import Observer, Writers

# One folder lives through so many kills; then another begins, so that looking at everything stays quick.
KILLS_PER_FOLDER = 50
# Of the kills, how many come while the node starts.
STARTING_SHARE = 0.1
# The moment of the others: after so many acknowledgements, however slow the machine is, and then after so long.
WRITES_MAX = 8
WRITES_SECONDS_MAX = 10.0  # a node that acknowledges nothing is killed as well
WRITING_SECONDS_MAX = 0.4
SETTINGS = {
    "PFN_KEY_REQUESTS_PER_MINUTE": "1000000",
    "PFN_VERIFICATIONS_PER_MINUTE": "1000000",
    "PFN_REQUESTS_PER_MINUTE": "1000000",
}


class Lost(AssertionError):
    """What the node lost, and how to see it again."""


@dataclass
class Done:
    """What a run did."""

    kills: int = 0
    acknowledged: int = 0
    announced: int = 0  # own announcements that were met
    ready_seconds: list[float] = field(default_factory=list)

    def as_json(self) -> str:
        """In one line; the times are of starts by a fresh interpreter."""
        times = sorted(self.ready_seconds)
        figures = {
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "lost": 0,
            "own_announcements": self.announced,
            "starts_timed": len(times),
            "ready_p50": round(times[len(times) // 2], 3),
            "ready_p99": round(times[min(len(times) - 1, len(times) * 99 // 100)], 3),
            "ready_max": round(times[-1], 3),
        }
        return json.dumps(figures)


@dataclass
class KillLoop:
    """`seed` decides when is killed, and what is written as far as threads allow. `fresh_every`: of how many starts one
    is by a fresh interpreter, the others by a fork of one that has imported everything.
    """

    folder: Path
    seed: int
    fresh_every: int = 10
    done: Done = field(default_factory=Done)

    def run(self, kills: int) -> Done:
        """Raises Lost."""
        for first in range(0, kills, KILLS_PER_FOLDER):
            self._one_folder(first, min(KILLS_PER_FOLDER, kills - first))
        return self.done

    def _one_folder(self, first: int, kills: int) -> None:
        with self._world(first) as (node, checks):
            for kill in range(first, first + kills):
                rng = Random(f"{self.seed} {kill}")
                if kill % self.fresh_every == 0 or rng.random() >= STARTING_SHARE:
                    self._kill_while_writing(node, checks, rng, kill)
                else:
                    self._kill_while_starting(node, rng)
                self.done.kills += 1
            self._come_back(node, checks, kill, fresh=False)
            self.done.acknowledged += checks.writers.ledger.acknowledged
            self.done.announced += len(checks.said)
            self.done.ready_seconds += node.ready_seconds

    @contextmanager
    def _world(self, first: int) -> Iterator[tuple[KilledNode, Checks]]:
        master_key = secrets.token_urlsafe(32)
        folder = self.folder / f"from-{first}" / "data"
        folder.parent.mkdir(parents=True)
        with (
            Starter({"PFN_MASTER_KEY": master_key} | SETTINGS) as starter,
            Publisher() as publisher,
            Observer() as peer,
        ):
            node = KilledNode(folder, settings=SETTINGS, master_key=master_key, starter=starter)
            writers = Writers(node, publisher, peer, Ledger(), Random(f"{self.seed} {first}"))
            node.begin(fresh=False)
            node.wait_ready()
            try:
                writers.prepare()
                node.kill()
                yield node, Checks(writers)
            finally:
                node.kill()

    def _kill_while_starting(self, node: KilledNode, rng: Random) -> None:
        node.begin(fresh=False)
        time.sleep(rng.uniform(0.0, 0.15))
        node.kill()

    def _kill_while_writing(self, node: KilledNode, checks: Checks, rng: Random, kill: int) -> None:
        self._come_back(node, checks, kill, fresh=kill % self.fresh_every == 0)
        writers = checks.writers
        writers.start()
        writers.ledger.wait_for_more(rng.randrange(WRITES_MAX), WRITES_SECONDS_MAX)
        time.sleep(rng.uniform(0.0, WRITING_SECONDS_MAX))
        node.kill()
        writers.end()
        if writers.faults:
            raise Lost(self._told(kill, writers.faults))

    def _come_back(self, node: KilledNode, checks: Checks, kill: int, *, fresh: bool) -> None:
        node.begin(fresh=fresh)
        node.wait_ready()
        faults = checks.all()
        if faults:
            raise Lost(self._told(kill, faults))

    def _told(self, kill: int, faults: list[str]) -> str:
        again = f"python -m tests.durability.kill_loop --kills {kill + 1} --seed {self.seed}"
        return "\n".join([f"before kill {kill} of seed {self.seed}:", *faults[:20], f"again: {again}"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--fresh-every", type=int, default=10)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    sys.stderr.write(f"seed {given.seed}\n")
    with tempfile.TemporaryDirectory() as folder:
        loop = KillLoop(given.data or Path(folder), given.seed, given.fresh_every)
        sys.stdout.write(loop.run(given.kills).as_json() + "\n")


if __name__ == "__main__":
    main()
