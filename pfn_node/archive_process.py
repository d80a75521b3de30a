"""Looking at zips in a process of its own: `python -m pfn_node.archive_process`, started by archive_readers.py.

It writes an empty line once it has started. Each line of its standard input is a path, as a JSON string; for each it
writes a line of JSON, a `Reading`. It ends with its input, however the node that wrote it ended. What strangers send is
read through here: the node's event loop shares no interpreter with it, it comes after everything else that wants the
processor, and it has only so much memory.
"""

import hashlib
import json
import os
import resource
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pfn_node.archive import ArchiveFacts, ArchiveRefused, inspect

NICENESS: Final = 10
# Python and this take 24 MB of addresses; no zip may take more than 16 MiB beside it, which the gate's tests hold to.
MEMORY_BYTES_MAX: Final = 512 * 2**20
_READ_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Examined:
    """A zip that passed the gate: what it says about itself, and its digests beside SHA-256, in hex."""

    facts: ArchiveFacts
    sha1: str
    sha384: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a zip: one of the three."""

    examined: Examined | None = None
    refused: tuple[str, str] | None = None  # the reason and the sentence of ArchiveRefused
    failed: str | None = None  # the file could not be read, which says nothing about it


def examine(path: Path) -> Examined:
    """Read a zip through (blocking). Raises ArchiveRefused, OSError."""
    facts = inspect(path)
    with path.open("rb") as file:
        sha1, sha384 = other_digests(file)
    return Examined(facts, sha1.hex(), sha384.hex())


def other_digests(file: BinaryIO) -> tuple[bytes, bytes]:
    """SHA-1 and SHA-384 of a file, from its beginning (blocking)."""
    sha1, sha384 = hashlib.sha1(usedforsecurity=False), hashlib.sha384()
    while piece := file.read(_READ_BYTES):
        sha1.update(piece)
        sha384.update(piece)
    return sha1.digest(), sha384.digest()


def read(path: Path) -> Reading:
    """The same for whoever is told by a line of text (blocking)."""
    try:
        return Reading(examined=examine(path))
    except ArchiveRefused as refused:
        return Reading(refused=(refused.reason, refused.sentence))
    except OSError as error:
        return Reading(failed=error.strerror or str(error))
    except MemoryError:
        return Reading(failed="there is no memory for it")


def main() -> None:
    """Read what is named until there is no more."""
    with suppress(OSError):  # whoever sees to the processes here does not allow it
        os.nice(NICENESS)
    with suppress(ValueError, OSError):  # it has less already, or the system knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    _say("")
    for line in sys.stdin.buffer:
        _say(json.dumps(asdict(read(Path(json.loads(line))))))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
