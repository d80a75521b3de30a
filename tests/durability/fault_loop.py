"""Let the Nth call on the disk fail, for every N, in every workflow that writes; and look how the node takes it.

`python -m tests.durability.fault_loop --workflow mirrors --fault "ENOSPC lasting" --at 7` plays one point; without
--at all of them, without --workflow or --fault every one. What was found is printed as JSON.
"""

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, sleep

from tests.conformance.hostile_peer import MESSAGE_TYPE
from tests.conformance.hostile_publisher import HONEST_SLUG, Publisher, digest
from tests.conformance.wire import Answer
from tests.durability.checks import Checks
from tests.durability.faults import FAULTS, Door, Fault, opened
from tests.durability.kill_loop import SETTINGS
from tests.durability.killed_node import KilledNode, Starter
from tests.durability.ledger import Ledger
from tests.durability.writers import Observer, Unexpected, Writers, taken

RECOVERY_SECONDS_MAX = 10.0
# SQLite waits 5 s for a lock; nobody else waits for anything.
ANSWER_SECONDS_MAX = 15.0
NEVER = 2**62  # more calls than anything makes: all are counted, and none fails
REFUSALS = (503, 507)
WORKFLOWS: dict[str, Callable[[Writers, Random], None]] = {
    function.__name__: function
    for function in (
        Writers.add_source,
        Writers.remove_source,
        Writers.own_slug,
        Writers.pin,
        Writers.unpin,
        Writers.make_key,
        Writers.revoke_key,
        Writers.add_webhook,
        Writers.remove_webhook,
        Writers.yank,
        Writers.take_back,
        Writers.advise,
        Writers.take_down,
        Writers.releases,
        Writers.mirrors,
        Writers.verify,
        Writers.announcements,
    )
}


class Trouble(AssertionError):
    """The node took a fault badly: which, and how to see it again."""


@dataclass
class Found:
    """What a run found."""

    points: dict[str, int] = field(default_factory=dict)  # by workflow and fault: calls that were made to fail
    refused: int = 0  # answers that said so; the others were given as if nothing had been
    recovery_seconds_max: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """In one line."""
        return json.dumps(
            {
                "points": sum(self.points.values()),
                "sweeps": len(self.points),
                "refused": self.refused,
                "recovery_seconds_max": round(self.recovery_seconds_max, 2),
                "troubles": self.troubles,
            }
        )


@dataclass
class FaultLoop:
    """One node, whose process lives through all faults."""

    writers: Writers
    door: Door
    checks: Checks
    rng: Random
    found: Found = field(default_factory=Found)

    def sweep(self, workflow: str, fault: Fault, first: int = 1, step: int = 1) -> None:
        """From the call number `first` on until there is none any more. Raises Trouble."""
        at = first
        while self.point(workflow, fault, at):
            at += step
            name = f"{workflow}: {fault.name}"
            self.found.points[name] = self.found.points.get(name, 0) + 1

    def point(self, workflow: str, fault: Fault, at: int) -> bool:
        """Let the call number `at` fail; returns whether there was one. Raises Trouble."""
        self._prepare(workflow)
        key = taken(
            self.writers.node.post("create-admin-key", {"description": "reader"}, key=self.writers.node.master_key)
        )
        try:
            with opened(self.door, fault, at):
                self._attempt(workflow)
                hit = self.door.was_hit
                if hit and fault.lasting and fault.spares_reads:
                    self._read(key["key"])
            if hit:
                self._recover(workflow)
        except (Unexpected, OSError, AssertionError, ValueError) as error:
            again = f"python -m tests.durability.fault_loop --workflow {workflow} --fault '{fault.name}' --at {at}"
            call = self.door.call
            raise Trouble(f"{workflow}, {fault.name}, call {at} ({call}): {error!r}; again: {again}") from error
        return hit

    def some_point(self, workflow: str, fault: Fault) -> bool:
        """One drawn from all there are; returns whether there was any. Raises Trouble."""
        at = NEVER
        while not self.point(workflow, fault, at):
            if not self.door.seen:
                return False
            at = self.rng.randint(1, self.door.seen)
        return True

    def play(self, workflow: str, fault: Fault, at: int | None = None, step: int = 1) -> None:
        """One point, or all of them, and what is left after it. Raises Trouble."""
        name = f"{workflow}: {fault.name}"
        if at is not None:
            self.point(workflow, fault, at)
        else:
            self.sweep(workflow, fault, step=step)
        sys.stderr.write(f"{name}: {self.found.points.get(name, 0)} points\n")
        self.check(name)

    def check(self, name: str) -> None:
        """Look at everything, kill the node, and look again. Raises Trouble."""
        lost = self.checks.all(fresh=False)
        self.writers.node.kill()
        self.writers.node.begin(fresh=False)
        self.writers.node.wait_ready()
        lost += self.checks.all()
        if lost:
            raise Trouble(f"{name}: {lost[:5]}")

    def _prepare(self, workflow: str) -> None:
        """What a workflow takes back has to be there."""
        made = {"remove_source": "add_source", "unpin": "pin", "revoke_key": "make_key"}
        made |= {"remove_webhook": "add_webhook", "take_back": "yank"}
        if workflow in made:
            WORKFLOWS[made[workflow]](self.writers, self.rng)
        for kind, most, back in (
            ("webhook", 20, "remove_webhook"),
            ("peer", 20, "unpin"),
            ("source", 20, "remove_source"),
        ):
            while len(self.writers.ledger.names(kind)) > most:
                WORKFLOWS[back](self.writers, self.rng)

    def _attempt(self, workflow: str) -> None:
        """It is done, or refused with a word that says what to do."""
        began = monotonic()
        try:
            WORKFLOWS[workflow](self.writers, self.rng)
        except Unexpected as refused:
            if refused.got is None or not _says_why(refused.got):
                raise
            self.found.refused += 1
        took = monotonic() - began
        assert took < ANSWER_SECONDS_MAX, f"answered after {took:.1f} s"

    def _read(self, key: str) -> None:
        """Who only reads notices nothing."""
        node, publisher = self.writers.node, self.writers.publisher
        for got in (node.get("sources"), node.get("plugins"), node.get("keys", key=key), node.ask("GET", "/healthz")):
            assert got.status == 200, f"a read: {got.status} {got.body[:300]!r}"
        zip_ = node.artifact(digest(publisher.zip_of(HONEST_SLUG)))
        assert (zip_.status, zip_.body) == (200, publisher.zip_of(HONEST_SLUG)), f"a download: {zip_.status}"

    def _recover(self, workflow: str) -> None:
        """By itself, in time."""
        began = monotonic()
        for name in ("make_key", "announcements", workflow):
            while True:
                try:
                    WORKFLOWS[name](self.writers, self.rng)
                    break
                except (Unexpected, OSError) as error:
                    if "there is no" in str(error):
                        break
                    assert monotonic() - began < RECOVERY_SECONDS_MAX, f"{name} still fails: {error!r}"
                    sleep(0.05)
        self.found.recovery_seconds_max = max(self.found.recovery_seconds_max, monotonic() - began)


def _says_why(got: Answer) -> bool:
    """Whether it is an honest refusal: of a whole call, or of what a sync was to bring."""
    if got.status == 200:
        return b"this node could not store it" in got.body or b"this node could not look at it" in got.body
    if got.status not in REFUSALS or "retry-after" not in got.headers:
        return False
    return b"try again later" in got.body if got.headers["content-type"] == MESSAGE_TYPE else bool(got.error)


@contextmanager
def fault_loop(folder: Path, seed: int) -> Iterator[FaultLoop]:
    """A node behind a door."""
    master_key = secrets.token_urlsafe(32)
    door = Door(folder)
    data = folder / "data"
    door.watch(data)
    environment = {"PFN_MASTER_KEY": master_key} | SETTINGS | door.environment
    with Starter(environment) as starter, Publisher() as publisher, Observer() as observer:
        node = KilledNode(data, settings=SETTINGS, master_key=master_key, starter=starter)
        writers = Writers(node, publisher, observer, Ledger(), Random(seed))
        node.begin(fresh=False)
        node.wait_ready()
        try:
            writers.prepare()
            writers.peer.linked()
            writers.mirror_the_honest_one()
            yield FaultLoop(writers, door, Checks(writers), Random(seed))
        finally:
            door.close()
            node.kill()


def run(
    folder: Path, seed: int, workflows: list[str], faults: list[str], at: int | None = None, step: int = 1
) -> Found:
    """Sweep; a node that took a fault badly is replaced by another."""
    found = Found()
    waiting = [(workflow, FAULTS[fault]) for workflow in workflows for fault in faults]
    while waiting:
        own = folder / str(len(waiting))
        own.mkdir()
        try:
            with fault_loop(own, seed) as loop:
                loop.found = found
                while waiting:
                    loop.play(*waiting.pop(0), at, step)
        except Trouble as trouble:
            found.troubles.append(str(trouble))
            sys.stderr.write(f"{trouble}\n")
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflow", choices=WORKFLOWS, action="append")
    parser.add_argument("--fault", choices=FAULTS, action="append")
    parser.add_argument("--at", type=int)
    parser.add_argument("--step", type=int, default=1, help="2 plays every second point, and so on")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workflows, faults = given.workflow or [*WORKFLOWS], given.fault or [*FAULTS]
        found = run(given.data or Path(folder), given.seed, workflows, faults, given.at, given.step)
    sys.stdout.write(found.as_json() + "\n")


if __name__ == "__main__":
    main()
