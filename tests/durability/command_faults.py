"""Let the Nth call on the disk fail while a command works on the folder of a stopped node.

Either the command did what it was asked, or it says why not and everything is as it was.
`python -m tests.durability.command_faults --command rewrite --fault "ENOSPC lasting" --at 7` plays one point.
"""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfn_node.data_folder import load_or_make_key
from pfn_node.maintenance.backup import make_backup
from pfn_node.maintenance.fsck import check
from pfn_node.store import page_checksums
from tests.durability.fault_loop import Trouble
from tests.durability.faults import Door, Fault, opened
from tests.durability.killed_node import Starter
from tests.durability.playing import arguments, play
from tests.node.stopped_node import make_folder
from tests.node.store_world import MESH

Rows = dict[str, list[tuple[Any, ...]]]
# What a command may say that it lost: only where a sector could not be read.
_READS_FAIL = "reads"


def rows_of(database: Path) -> Rows:
    """Everything in a database that is not made from the rest of it."""
    page_checksums.load()
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        kept = [name for name in names if not name.startswith(("plugin_texts", "sqlite_", "_sqlite"))]
        return {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in kept}


@dataclass(frozen=True)
class Ran:
    """What a command left: `done` is what it printed as JSON, None if it refused."""

    data: Path  # the node's folder
    other: Path  # what it is written to, or read from
    done: dict[str, Any] | None


def _rewritten(ran: Ran, before: Rows, fault: Fault) -> None:
    told = [] if ran.done is None else [one for one in ran.done["repaired"] if one.startswith("lost")]
    assert not told or _READS_FAIL in fault.name, told
    if not told:
        assert rows_of(ran.data / "node.db") == before
        assert check(ran.data, MESH).is_clean
    for aside in ran.data.glob("node.db.damaged-*[0-9]"):
        assert rows_of(aside) == before, "the old database is not whole any more"
    if ran.done is not None:
        assert list(ran.data.glob("node.db.damaged-*")), "the old database was not kept"


def _backed_up(ran: Ran, before: Rows, fault: Fault) -> None:
    if ran.done is None and not _has_its_name(ran.other, fault):
        return
    damaged = [] if ran.done is None else ran.done["damaged"]
    assert not damaged or _READS_FAIL in fault.name, damaged
    assert rows_of(ran.other / "node.db") == before
    assert len(list((ran.other / "artifacts").glob("??/*"))) == 1 - len(damaged)


def _restored(ran: Ran, before: Rows, fault: Fault) -> None:
    if ran.done is None and not _has_its_name(ran.data, fault):
        return
    assert rows_of(ran.data / "node.db") == before
    assert check(ran.data, MESH).is_clean


def _has_its_name(folder: Path, fault: Fault) -> bool:
    """A disk that gives a name, and then neither flushes it nor takes it back, leaves a folder with all in it."""
    assert fault.lasting or not folder.exists(), "a folder that was not finished has its name"
    return folder.exists()


COMMANDS: dict[str, tuple[list[str], Callable[[Ran, Rows, Fault], None]]] = {
    "rewrite": (["fsck", "--repair", "--rewrite", "--mesh", MESH, "--data", "{data}"], _rewritten),
    "backup": (["backup", "--data", "{data}", "--to", "{other}"], _backed_up),
    "restore": (["restore", "--from", "{other}", "--data", "{data}"], _restored),
}


@dataclass
class CommandFaults:
    """Each point has a folder of its own."""

    folder: Path
    door: Door
    starter: Starter
    points: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        make_folder(self.folder / "template", announcements=20)
        load_or_make_key(self.folder / "template")
        make_backup(self.folder / "template", self.folder / "template-backup")
        self._before = rows_of(self.folder / "template" / "node.db")

    def sweep(self, command: str, fault: Fault, step: int = 1) -> None:
        """From the first call on until there is none any more. Raises Trouble."""
        at = 1
        while self.point(command, fault, at):
            at += step
            name = f"{command}: {fault.name}"
            self.points[name] = self.points.get(name, 0) + 1

    def point(self, command: str, fault: Fault, at: int) -> bool:
        """Let the call number `at` fail; returns whether there was one. Raises Trouble."""
        folder = self.folder / f"{command}-{fault.name.replace(' ', '-')}-{at}"
        folder.mkdir()
        data, other = folder / "data", folder / "other"
        if command == "restore":
            shutil.copytree(self.folder / "template-backup", other)
        else:
            shutil.copytree(self.folder / "template", data)
        self.door.watch(folder)
        try:
            with opened(self.door, fault, at):
                done = self._run(command, data, other)
                hit = self.door.was_hit
            COMMANDS[command][1](Ran(data, other, done), self._before, fault)
            if fault.name != "EMFILE lasting":  # without descriptors not even a folder can be removed
                self._goes_well_now(command, data, other, done is not None)
        except (AssertionError, OSError, ValueError, sqlite3.Error) as error:
            again = f"python -m tests.durability.command_faults --command {command} --fault '{fault.name}' --at {at}"
            raise Trouble(
                f"{command}, {fault.name}, call {at} ({self.door.call}): {error!r}; again: {again}"
            ) from error
        finally:
            self.door.close()
            shutil.rmtree(folder)
        return hit

    def _run(self, command: str, data: Path, other: Path) -> dict[str, Any] | None:
        """What it printed, or None if it says why it was not done. Raises AssertionError if it says neither."""
        output, log = self.folder / "output", self.folder / "log"
        for file in (output, log):
            file.write_bytes(b"")
        arguments = [one.format(data=data, other=other) for one in COMMANDS[command][0]]
        self.starter.fork(str(output), str(log), [*arguments, "--json"])
        self.starter.wait()
        said = log.read_text(errors="replace")
        assert "Traceback" not in said, said[-600:]
        if text := output.read_text():
            done: dict[str, Any] = json.loads(text)
            return done
        assert "pfn: " in said, "it said nothing"
        self.refused += 1
        return None

    def _goes_well_now(self, command: str, data: Path, other: Path, was_done: bool) -> None:
        """The same command, once the disk is well again, if it was not done; and nothing is left of the attempt."""
        is_made = command != "rewrite" and (data if command == "restore" else other).exists()
        if not was_done and not is_made:
            assert self._run(command, data, other) is not None, "it still fails"
        left = [one.name for one in data.parent.iterdir() if one.name not in ("data", "other")]
        left += [one.name for one in data.iterdir() if "rewritten" in one.name]
        assert not left, f"left behind: {left}"


def main() -> None:
    """The command."""
    given = arguments(__doc__, "command", COMMANDS)
    with tempfile.TemporaryDirectory() as name:
        door = Door(Path(name))
        with Starter(door.environment) as starter:
            play(CommandFaults(Path(name), door, starter), given)


if __name__ == "__main__":
    main()
