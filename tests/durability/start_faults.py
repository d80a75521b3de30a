"""Let the Nth call on the disk fail while a node starts: the first time, again, and over a database that is older.

`python -m tests.durability.start_faults --start first --fault "ENOSPC once" --at 7` plays one point.
"""

import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import sqlite_utils

from pfn_node.store.schema import migrations
from tests.durability.checks import OWN_FILES
from tests.durability.fault_loop import Trouble
from tests.durability.faults import Door, Fault, opened
from tests.durability.kill_loop import SETTINGS
from tests.durability.killed_node import KilledNode, Starter
from tests.durability.playing import arguments, play
from tests.durability.writers import taken

OLDER = "m010"  # the migrations from this one on are still to be applied


def _first(folder: Path, template: Path) -> None:
    """Nothing is there."""


def _again(folder: Path, template: Path) -> None:
    """A node ran here, and was killed."""
    shutil.copytree(template, folder)


def _older(folder: Path, template: Path) -> None:
    """A node of an earlier version ran here."""
    folder.mkdir()
    shutil.copy(template / "node.key", folder)
    names = [migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))]
    database = sqlite_utils.Database(folder / "node.db")
    migrations.apply(database, stop_before=next(name for name in names if name.startswith(OLDER)))
    database.close()


STARTS: dict[str, Callable[[Path, Path], None]] = {"first": _first, "again": _again, "older": _older}


@dataclass
class StartFaults:
    """Each point has a folder of its own."""

    folder: Path
    door: Door
    starter: Starter
    master_key: str
    points: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    _template: Path | None = None

    def sweep(self, start: str, fault: Fault, first: int = 1, step: int = 1) -> None:
        """From the call number `first` on until there is none any more. Raises Trouble."""
        at = first
        while self.point(start, fault, at):
            at += step
            name = f"{start}: {fault.name}"
            self.points[name] = self.points.get(name, 0) + 1

    def point(self, start: str, fault: Fault, at: int) -> bool:
        """Let the call number `at` fail; returns whether there was one. Raises Trouble."""
        name = f"{start}-{fault.name.replace(' ', '-')}-{at}"
        folder = self.folder / name
        STARTS[start](folder, self._made_template())
        node = self._node(folder)
        self.door.watch(folder)
        try:
            with opened(self.door, fault, at):
                node.begin(fresh=False)
                ready = node.becomes_ready()
                hit = self.door.was_hit
            if ready:
                self._make_key(node)
            else:
                self._said_why(node)
            node.kill()
            self._starts_well(node)
        except (AssertionError, OSError, ValueError) as error:
            again = f"python -m tests.durability.start_faults --start {start} --fault '{fault.name}' --at {at}"
            raise Trouble(f"{name} ({self.door.call}): {error!r}; again: {again}") from error
        finally:
            node.kill()
        shutil.rmtree(folder)
        return hit

    def _node(self, folder: Path) -> KilledNode:
        return KilledNode(folder, settings=SETTINGS, master_key=self.master_key, starter=self.starter)

    def _made_template(self) -> Path:
        """The folder of a node that was killed."""
        if self._template is None:
            self._template = self.folder / "template"
            node = self._node(self._template)
            node.begin(fresh=False)
            node.wait_ready()
            node.kill()
        return self._template

    def _make_key(self, node: KilledNode) -> None:
        """It was ready, so it works."""
        node.key = taken(node.post("create-admin-key", {"description": "operator"}, key=self.master_key))["key"]

    def _said_why(self, node: KilledNode) -> None:
        """It ended, with a sentence for people."""
        self.refused += 1
        said = node.log.read_text(errors="replace")
        assert "pfn: " in said and "Traceback" not in said, said[-1500:]

    def _starts_well(self, node: KilledNode) -> None:
        """Once the disk is well again nothing reminds of it, and what was acknowledged is there."""
        node.begin(fresh=False)
        node.wait_ready()
        assert node.get("keys", key=node.key).status == 200, "the key is gone"
        left = [path.name for path in node.folder.iterdir() if path.name not in OWN_FILES]
        assert not left, f"left behind: {left}"
        with closing(sqlite3.connect(f"file:{node.folder / 'node.db'}?mode=ro", uri=True)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def main() -> None:
    """The command."""
    given = arguments(__doc__, "start", STARTS)
    master_key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        door = Door(folder)
        with Starter({"PFN_MASTER_KEY": master_key} | SETTINGS | door.environment) as starter:
            play(StartFaults(folder, door, starter, master_key), given)


if __name__ == "__main__":
    main()
