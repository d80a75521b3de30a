"""Exports of a node whose web application runs in the test, to a folder or into memory."""

import hashlib
import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import obstore
from obstore.store import MemoryStore

from pfn_node.composer_names import composer_name
from pfn_node.export.answers import Answers
from pfn_node.export.kept_zips import KeptZips
from pfn_node.export.places import Bucket, Folder, Place
from pfn_node.export.reading import Listed, read_index, read_listed, wrong_files
from pfn_node.export.writing import Export, Written
from pfn_node.store.database import reader
from pfn_protocol.identity import PrivateKey
from tests.node.web_node import BILBO, NODE, NOW, WebNode

BASE = "https://node.test"
LATER_MS = NOW * 1_000
NAME = composer_name(BILBO, "hello-signal")
INFO = "plugins/info/1.0/hello-signal.json"
P2 = f"composer/p2/{NAME}.json"
CATALOGUE = f"catalogue/{NAME}.json"
NOTICE = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0", "reason": "it eats posts"}


def export_to(
    node: WebNode, place: Place, *, made_ms: int = LATER_MS, key: PrivateKey = NODE, base: str = BASE
) -> Written:
    """One export, beside the node that runs, as `pfn export` does it."""
    settings = node.services.settings
    zips = KeptZips(settings.data / "artifacts", None)
    with reader(settings.data / "node.db") as db:
        answers = Answers(db, zips, settings.mesh, key.public, base, NOW)
        return Export(answers, place, key, made_ms).run(lambda done, total: None)


def a_folder(path: Path) -> Folder:
    path.mkdir(exist_ok=True)
    return Folder(path)


def listed_in(place: Place) -> Listed:
    return read_listed(place, read_index(place))


def wrong_in(place: Place) -> dict[str, str]:
    return {one.path: one.what for one in wrong_files(place, read_index(place), lambda done, total: None)}


def json_of(place: Place, path: str) -> Any:
    content = place.read(path)
    assert content is not None, f"{path} is not there"
    return json.loads(content)


class Watched(Bucket):
    """An object store in memory that remembers what was written, and breaks when told to."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        super().__init__(self.store)
        self.written: list[str] = []
        self.removed: list[str] = []
        self.breaks_at: str | None = None

    def write(self, path: str, content: Any) -> None:
        if path == self.breaks_at:
            raise KeyboardInterrupt
        self.written.append(path)
        super().write(path, content)

    def remove(self, paths: Any) -> None:
        paths = list(paths)
        self.removed += paths
        super().remove(paths)

    def forget(self) -> None:
        self.written.clear()
        self.removed.clear()

    def meddle(self, path: str, content: bytes) -> None:
        """What the one who runs the store might do."""
        obstore.put(self.store, path, content)

    @property
    def paths(self) -> set[str]:
        return {path for path in self.found() if not path.startswith("pfn-export/")}


def a_zip(version: str = "1.0.0", slug: str = "hello-signal") -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        entry = zipfile.ZipInfo(f"{slug}/{slug}.php")  # of 1980: the same bytes at every call
        archive.writestr(entry, f"<?php\n/*\nPlugin Name: Hello\nVersion: {version}\nAuthor: Bilbo\n*/")
    return made.getvalue()


def mirror_of(version: str, normalized: str, name: str = NAME) -> str:
    return f"composer/mirror/{name}/{normalized}/{hashlib.sha256(a_zip(version)).hexdigest()}.zip"
