"""What a worker has in the place of what only the node has: whoever reaches for it is answered elsewhere.

Database and artifacts are the node's own, read by another process. What the node knows beside the files (which
artifacts are cached, or in an object store, or damaged) is not known here.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import sqlite_utils

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactMismatch
from pfn_node.elsewhere import Elsewhere
from pfn_node.metrics import Metrics
from pfn_node.settings import Settings
from pfn_node.store.database import Database, Work
from pfn_node.web.rate_limits import RateLimit
from pfn_node.web.services import Services


class Absent:
    """A room that is not here."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Elsewhere

    def __call__(self, *given: object, **named: object) -> NoReturn:
        raise Elsewhere


class ReadDatabase(Database):
    """The node's database, on connections that only read."""

    def __init__(self, path: Path, reader: sqlite_utils.Database, metrics: Metrics) -> None:
        """`reader`: a connection that only reads, and is the caller's to close."""
        super().__init__(path.absolute(), reader, False, metrics)

    async def write(self, work: Work[Any]) -> NoReturn:
        raise Elsewhere

    async def wait_for_activity(self, after_id: int) -> NoReturn:
        raise Elsewhere

    @property
    def damage(self) -> NoReturn:
        raise Elsewhere

    @damage.setter
    def damage(self, found: str | None) -> None:
        """What is damaged the node finds out when it reads it; here the request fails, as it does there."""


class _Kept(Mapping[bytes, int]):
    """Sizes of the files in a folder of artifacts, as they are now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, sha256: bytes) -> int:
        name = sha256.hex()
        try:
            return (self._folder / name[:2] / name[2:]).stat().st_size
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[bytes]:
        raise Elsewhere

    def __len__(self) -> int:
        raise Elsewhere


class ReadArtifacts(Artifacts):
    """The artifacts that the node keeps in its folder. All others are elsewhere's, and so is whatever is not as it
    should be: the node sees to it when it is asked.
    """

    def __init__(self, folder: Path, on_damage: Callable[[bytes], None]) -> None:
        """`on_damage` is called, in any thread, with what turns out to be damaged while it is sent."""
        super().__init__(folder, 0)
        self._kept = _Kept(folder)  # type: ignore[assignment]  # nothing here changes it
        self._on_damage = on_damage

    def start(self) -> None:
        raise Elsewhere

    def has(self, sha256: bytes) -> bool:
        if sha256 in self._kept:
            return True
        raise Elsewhere

    def check(self, sha256: bytes, *, again: bool = False) -> None:
        if not again and self.checks.known(sha256) is not None:
            return
        try:
            if self.checks.read_through(sha256, self.path(sha256)) is not None:
                return
        except FileNotFoundError:
            pass  # as bad as damaged
        if not again:
            raise Elsewhere
        self._on_damage(sha256)
        raise ArtifactMismatch(f"The artifact {sha256.hex()} is damaged on the disk.")

    def usage(self) -> NoReturn:
        raise Elsewhere

    def _miss(self, sha256: bytes) -> NoReturn:
        raise Elsewhere


def services_of_worker(
    settings: Settings,
    database: Database,
    artifacts: Artifacts,
    node_id: bytes,
    url: str | None,
    metrics: Metrics,
    rate: RateLimit | None,
    now: Callable[[], float] = time.time,
) -> Services:
    """Everything that a route may use in a worker."""
    absent: Any = Absent()
    return Services(
        settings,
        database,
        artifacts,
        absent,
        absent,
        node_id,
        url,
        absent,
        absent,
        absent,
        now=now,
        measuring=absent,
        streams=absent,
        looks=absent,
        metrics=metrics,
        upstream=absent if settings.wordpress_upstream else None,
        rate=rate,
        verifications=absent,  # one budget for all processes: the node's
    )
