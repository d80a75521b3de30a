"""The data folder of a node that was stopped: announcements, a catalogue, an audit log, and artifacts."""

from pathlib import Path

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.store import audit
from pfn_node.store.database import Database
from tests.node.store_world import NOW, Publisher, World, source_statement

ZIP = b"zip hello"


def make_folder(folder: Path, *, announcements: int) -> None:
    """A sound one, without a key; `announcements`: of releases beside the one that was fetched."""
    folder.mkdir()
    database = Database.open(folder / "node.db", inline=True)
    with database._writer.atomic():
        world = World(db=database._writer)
        world.add_source(Publisher(), verified=True)
        world.pin("anna")
        world.say("anna", source_statement(Publisher()))
        world.fetch("1.0.0", "hello")
        for number in range(announcements):
            world.saw("anna", f"2.{number}", f"other {number}", description="Says more. " * 40)
            audit.append(database._writer, at=NOW, actor="system", action=f"act-{number}")
    database.close()
    artifacts = Artifacts(folder / "artifacts", 2**20)
    artifacts.start()
    artifacts.put_bytes(ZIP)
