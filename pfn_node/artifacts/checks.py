"""Whether files of artifacts still are what their names say, and what is done with those that are not.

    FOLDER/damaged/abcdef...   put aside: another file was found under this digest (empty: none at all)

A file is read through and compared with its digest when it is used for the first time since the start, and whenever
the scrub comes to it. From then on a checksum of each of its blocks is remembered, and each block is compared again
when it is sent: damage that comes later is noticed before a byte of that block leaves.

What is damaged is never deleted, in case that there is no better copy anywhere. Its name in the folder is also the
note that the artifact is wanted again.
"""

import hashlib
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from isal import isal_zlib

from pfn_node.durable_files import is_lost, move_durably

# As downloads are sent. Against bit rot 32 bits a block are enough: no burst of up to 32 bits escapes a CRC, and of
# anything else one in four billion; who writes to the disk on purpose could change a better checksum as well. isal
# computes it with the processor's own instructions, in 3 us a block on one machine and 21 on another; zlib: 45 and 73.
BLOCK_BYTES: Final = 256 * 2**10
# Artifacts of which the checksums are remembered: some bytes for each 256 KiB, so a few megabytes in all.
REMEMBERED_MAX: Final = 100_000
_DAMAGED: Final = "damaged"


class BlockSums:
    """A checksum of each block of a file that was found to be right."""

    def __init__(self, file: IO[bytes]) -> None:
        """Reads the file through (blocking)."""
        digest, sums, self.size = hashlib.sha256(), array("I"), 0
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            sums.append(isal_zlib.crc32(block))
            self.size += len(block)
        self.sha256 = digest.digest()
        self._sums = sums

    def agree(self, number: int, block: bytes | memoryview) -> bool:
        """Whether this is still the block with this number."""
        return number < len(self._sums) and isal_zlib.crc32(block) == self._sums[number]


class Checks:
    """What was checked since the start, and what was put aside. From any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _DAMAGED
        self._checked: OrderedDict[bytes, BlockSums] = OrderedDict()
        self._lock = threading.Lock()
        self._damaged: set[bytes] = set()
        self.on_loss: Callable[[], None] = lambda: None  # called from whichever thread found that something is gone

    def start(self) -> None:
        """Makes the folder and sees what was put aside earlier."""
        self._folder.mkdir(exist_ok=True)
        self._damaged = set(put_aside_in(self._folder.parent))

    @property
    def damaged(self) -> frozenset[bytes]:
        """What was put aside, whether or not it is here again."""
        return frozenset(self._damaged)

    def known(self, sha256: bytes) -> BlockSums | None:
        """The checksums of an artifact that was checked since the start."""
        with self._lock:
            found = self._checked.get(sha256)
            if found is not None:
                self._checked.move_to_end(sha256)
        return found

    def read_through(self, sha256: bytes, path: Path) -> BlockSums | None:
        """Compare a file with its digest (blocking); None if it is damaged, or the disk does not give it back.

        Raises FileNotFoundError; and OSError where nothing is known of the file, as without a free descriptor.
        """
        try:
            with path.open("rb") as file:
                # What the system holds in memory may be right while the disk is not.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                found = BlockSums(file)
        except OSError as error:
            if not is_lost(error):
                raise
            return None
        if found.sha256 != sha256:
            return None
        with self._lock:
            self._checked[sha256] = found
            self._checked.move_to_end(sha256)
            if len(self._checked) > REMEMBERED_MAX:
                self._checked.popitem(last=False)
        return found

    def put_aside(self, sha256: bytes, path: Path) -> None:
        """Take a damaged file out of service. It is wanted again from now on."""
        self.forget(sha256)
        move_durably(path, self.place_aside(sha256))
        self._damaged.add(sha256)
        self.on_loss()

    def note_missing(self, sha256: bytes) -> None:
        """There is no file any more, though nobody deleted it: it is wanted again."""
        self.forget(sha256)
        note_missing(self._folder.parent, sha256)
        self._damaged.add(sha256)
        self.on_loss()

    def let_rest(self, sha256: bytes) -> None:
        """Nobody wants it again; what lies aside stays there."""
        self._damaged.discard(sha256)

    def forget(self, sha256: bytes) -> None:
        """Another file comes, or none."""
        with self._lock:
            self._checked.pop(sha256, None)

    def give_up(self, sha256: bytes) -> None:
        """Nobody wants it again: it was deleted on purpose."""
        self.forget(sha256)
        if sha256 in self._damaged:
            self._damaged.discard(sha256)
            self.place_aside(sha256).unlink(missing_ok=True)

    def place_aside(self, sha256: bytes) -> Path:
        """Where the file is, if it was put aside."""
        return self._folder / sha256.hex()

    def size_put_aside(self, sha256: bytes) -> int:
        """How long the damaged file is; 0 if there was none."""
        try:
            return self.place_aside(sha256).stat().st_size
        except FileNotFoundError:
            return 0


def put_aside_in(artifacts: Path) -> list[bytes]:
    """The digests of what was put aside in a folder of artifacts."""
    names = [file.name for file in (artifacts / _DAMAGED).glob("*")]
    return sorted(bytes.fromhex(name) for name in names if len(name) == 2 * hashlib.sha256().digest_size)


def note_missing(artifacts: Path, sha256: bytes) -> None:
    """Have an artifact wanted again of which there is no file at all."""
    (artifacts / _DAMAGED).mkdir(exist_ok=True)
    (artifacts / _DAMAGED / sha256.hex()).touch()
