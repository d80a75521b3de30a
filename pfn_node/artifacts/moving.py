"""Rounds over a node's zips: from its folder to an object store, back, or reading through what is there.

Each is read through on its way, and gone from where it was only once it is whole where it goes; so a move that was cut
off is gone on with by beginning it again. Signed texts stay in the folder: they are no zips.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError, StoreUnavailable
from pfn_node.artifacts.object_store import UPLOADS_MAX

TRIES_MAX: Final = 3
_ZIP: Final = b"PK"

Progress = Callable[[int, int], None]  # how many of how many


@dataclass(slots=True)
class Round:
    """What was done. To `left` nothing was done, since the store does not answer; `problem` says why."""

    done: int = 0
    size: int = 0
    left: int = 0
    damaged: dict[bytes, str] = field(default_factory=dict)  # digest: a sentence
    problem: str | None = None


def move_to_store(artifacts: Artifacts, progress: Progress, *, sleep: Callable[[float], object] = time.sleep) -> Round:
    """Everything that is kept in the folder, but for signed texts."""
    zips = [sha256 for sha256 in artifacts.in_folder() if _is_zip(artifacts, sha256)]
    return _do(zips, artifacts.to_store, progress, sleep)


def move_to_folder(
    artifacts: Artifacts, progress: Progress, *, delete: bool, sleep: Callable[[float], object] = time.sleep
) -> Round:
    """Everything that is in the store; `delete`: it goes from there too, also for other nodes that share it."""
    assert artifacts.store is not None, "there is nothing to move without one"
    return _do(sorted(artifacts.store.sizes), partial(artifacts.to_folder, delete=delete), progress, sleep)


def read_store(artifacts: Artifacts, progress: Progress, *, sleep: Callable[[float], object] = time.sleep) -> Round:
    """Read everything through that is in the store; what is damaged or gone there is not listed any more."""
    store = artifacts.store
    assert store is not None, "there is nothing to read without one"

    def read(sha256: bytes) -> int:
        stored = store.open(sha256)
        stored.copy_to(lambda data: None)  # reading is what checks it
        return stored.size

    return _do(sorted(store.sizes), read, progress, sleep)


def _do(
    digests: list[bytes], work: Callable[[bytes], int], progress: Progress, sleep: Callable[[float], object]
) -> Round:
    """A few at once; when the store does not answer to several tries for one, the rest is left for another time."""
    round_ = Round()
    given_up = threading.Event()

    def do_one(sha256: bytes) -> int | ArtifactError | None:
        for _ in range(TRIES_MAX):
            if given_up.is_set():
                return None
            try:
                return work(sha256)
            except StoreUnavailable as error:
                round_.problem = str(error)
                sleep(error.retry_seconds)
            except ArtifactError as error:
                return error
        given_up.set()
        return None

    with ThreadPoolExecutor(UPLOADS_MAX) as pool:
        _count(round_, digests, pool.map(do_one, digests), progress)
    if not round_.left:
        round_.problem = None
    return round_


def _count(
    round_: Round, digests: list[bytes], outcomes: Iterable[int | ArtifactError | None], progress: Progress
) -> None:
    for number, (sha256, outcome) in enumerate(zip(digests, outcomes, strict=True), 1):
        match outcome:
            case None:
                round_.left += 1
            case ArtifactError():
                round_.damaged[sha256] = str(outcome)
            case size:
                round_.done += 1
                round_.size += size
        progress(number, len(digests))


def _is_zip(artifacts: Artifacts, sha256: bytes) -> bool:
    with artifacts.path(sha256).open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP
