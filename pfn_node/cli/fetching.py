"""Getting the bytes of a release whose digest is known, from any of several nodes.

They go to a `.part` file that carries their digest in its name, so that what was begun is gone on with, whoever gives
the rest, and never mixed with another version. Only what is whole and has the digest gets its name.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pfn_node.cli.client import NodeClient
from pfn_node.cli.failing import FAILED, NO_ANSWER, NOT_FOUND, NOT_VERIFIED, REFUSED
from pfn_node.cli.wanted import NotGot, heaviest
from pfn_node.outbound import AnswerTooLarge
from pfn_node.web.evidence import measure
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.evidence_bundle import EvidenceBundle

DOWNLOAD_SECONDS_MAX: Final = 3600.0
# A node that gives less than this over 20 s is left for the next one.
BYTES_PER_SECOND_MIN: Final = 64.0
_DIGEST_CHARACTERS_IN_NAME: Final = 16


def part_of(target: Path, sha256: bytes) -> Path:
    """Where the bytes are until they are whole and checked."""
    return target.with_name(f"{target.name}.{sha256.hex()[:_DIGEST_CHARACTERS_IN_NAME]}.part")


def has_bytes(path: Path, sha256: bytes) -> bool:
    """Whether the file is there and has this digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == sha256
    except FileNotFoundError:
        return False


def read_through(path: Path) -> Measured:
    """Read a file through, for the last check."""
    return measure(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


async def fetch_part(client: NodeClient, bundle: EvidenceBundle, part: Path, *, allow_taken_down: bool = False) -> None:
    """Complete `part` from one node; raise `NotGot`, or `OutboundError` with what came kept for the next try."""
    named = {"sourceId": bundle.source_id, "plugin": bundle.plugin_id, "version": bundle.version}
    # The second serves bytes by their digest, also where nobody backs them; whether they are right is found out here.
    addresses = (client.url("download", **named), f"{client.node}/node/v1/artifacts/{bundle.sha256.hex()}")
    failures: list[NotGot] = []
    for url in addresses:
        try:
            await _fetch(client, url, bundle, part, allow_taken_down=allow_taken_down)
        except NotGot as failure:
            if failure.code == REFUSED:
                raise
            failures.append(failure)
        else:
            return
    raise heaviest(failures)


async def _fetch(client: NodeClient, url: str, bundle: EvidenceBundle, part: Path, *, allow_taken_down: bool) -> None:
    """Bytes with another digest are thrown away; if some were there before, all of them are asked for once."""
    for _ in range(2):
        resumed, status = await _complete(client, url, bundle, part)
        if status not in (200, 206):
            _not_served(status, allow_taken_down=allow_taken_down)
        wrong = _thrown_away(bundle, part)
        if wrong is None:
            return
        if not resumed:
            break
    raise NotGot(
        NOT_VERIFIED, f"the {wrong} bytes that came are not the {bundle.size} with sha256 {bundle.sha256.hex()}"
    )


def _thrown_away(bundle: EvidenceBundle, part: Path) -> int | None:
    """How many bytes came, if they were wrong and were thrown away; None: they are right."""
    size = part.stat().st_size if part.exists() else 0
    if size == bundle.size and has_bytes(part, bundle.sha256):
        return None
    part.unlink(missing_ok=True)
    return size


async def _complete(client: NodeClient, url: str, bundle: EvidenceBundle, part: Path) -> tuple[bool, int]:
    """Ask for what is missing; answers whether something was there before and counts still, and the status."""
    with _Part(part, bundle.size) as sink:
        if sink.kept == bundle.size:
            return True, 200
        resume = {"Range": f"bytes={sink.kept}-", "If-Range": f'"{bundle.sha256.hex()}"'}
        try:
            reply = await client.outbound.download(
                url,
                sink.write,
                headers=resume if sink.kept else {},
                bytes_max=bundle.size,
                seconds_max=DOWNLOAD_SECONDS_MAX,
                bytes_per_second_min=BYTES_PER_SECOND_MIN,
                begins=sink.begins,
            )
        except AnswerTooLarge:
            sink.throw_away()
            raise NotGot(NOT_VERIFIED, f"it gives more than the {bundle.size} bytes of the release") from None
        return sink.kept > 0, reply.status


def _not_served(status: int, *, allow_taken_down: bool) -> NoReturn:
    if status == 410 and not allow_taken_down:
        raise NotGot(REFUSED, "the node took it down (HTTP 410; --allow-taken-down asks the next node all the same)")
    code = NOT_FOUND if status in (404, 410, 422, 502) else NO_ANSWER
    raise NotGot(code, f"it does not serve the bytes (HTTP {status})")


class _Part:
    """A file that grows, and its progress on a terminal."""

    def __init__(self, path: Path, size: int) -> None:
        self.kept = 0  # bytes that were there before
        self._path = path
        self._size = size

    def __enter__(self) -> "_Part":
        console = Console(stderr=True, emoji=False)
        bars = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._file = self._path.open("ab")
        self.kept = self._file.tell()
        if self.kept > self._size:
            self._file.truncate(0)
            self.kept = 0
        self._progress = Progress(*bars, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(self._path.name.split(".")[0], total=self._size, completed=self.kept)
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        self._file.close()
        if not self._path.stat().st_size:
            self._path.unlink()  # nothing to go on with

    def begins(self, status: int) -> None:
        """A 200 to a question for the rest is the whole: what was there is of no use."""
        if status == 200 and self.kept:
            self.throw_away()

    def throw_away(self) -> None:
        self._file.truncate(0)
        self.kept = 0
        self._progress.update(self._task, completed=0)

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._progress.advance(self._task, len(chunk))


@contextmanager
def disk_failures(path: Path) -> Iterator[None]:
    """A disk that is full, or a folder that is not there, as `NotGot`."""
    try:
        yield
    except OSError as error:
        raise NotGot(FAILED, f"{path}: {error.strerror}") from None
