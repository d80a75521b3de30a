"""Faults of a disk, and the door through which they come into a node: see failing_calls.c."""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_calls.c")
COMPILER = shutil.which("cc")

_OPEN, _CREATE, _READ, _WRITE, _SYNC, _NAMES, _LOCK, _SOCKET = (1 << bit for bit in range(8))
_SHORT = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What calls fail with, and which. `lasting`: whether all calls after the Nth fail too, until it is mended."""

    name: str
    error: int
    classes: int
    lasting: bool
    spares_reads: bool = True  # whether who only reads need not notice


def _both(name: str, error: int, classes: int, *, spares_reads: bool = True) -> tuple[Fault, Fault]:
    return (
        Fault(f"{name} once", error, classes, False, spares_reads),
        Fault(f"{name} lasting", error, classes, True, spares_reads),
    )


FAULTS = {
    fault.name: fault
    for fault in (
        *_both("ENOSPC", errno.ENOSPC, _CREATE | _WRITE | _SYNC | _NAMES),
        # As a full disk mostly is: names can be given and taken, and only what is written finds no room.
        Fault("ENOSPC of writes lasting", errno.ENOSPC, _WRITE, True),
        *_both("EIO", errno.EIO, _CREATE | _WRITE | _NAMES),
        *_both("EIO of fsync", errno.EIO, _SYNC),
        *_both("EMFILE", errno.EMFILE, _OPEN | _CREATE, spares_reads=False),
        Fault("EMFILE of sockets once", errno.EMFILE, _SOCKET, False, spares_reads=False),
        Fault("EIO of reads once", errno.EIO, _OPEN | _READ, False, spares_reads=False),
        *_both("short write", _SHORT, _WRITE),
        # SQLite's own words for these are SQLITE_BUSY, for which it waits itself, and SQLITE_IOERR.
        Fault("EAGAIN of locks once", errno.EAGAIN, _LOCK, False),
        Fault("EIO of locks once", errno.EIO, _LOCK, False),
    )
}


class _Control(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.c_int64),
        ("seen", ctypes.c_int64),
        ("hits", ctypes.c_int64),
        ("classes", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("lasting", ctypes.c_int32),
        ("call", ctypes.c_char * 44),
        ("folder", ctypes.c_char * 256),
    )


def build(folder: Path) -> Path:
    """Compile the door. Raises CalledProcessError."""
    assert COMPILER is not None
    library = folder / "failing_calls.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Door:
    """The control of one door. `environment` is what a process has to be started with."""

    def __init__(self, folder: Path) -> None:
        control = folder / "failing_calls.control"
        control.write_bytes(bytes(ctypes.sizeof(_Control)))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)
        self.environment = {"LD_PRELOAD": str(build(folder)), "FAILING_CALLS": str(control)}

    def watch(self, folder: Path) -> None:
        """Calls on files under this folder are those that may fail."""
        self._control.folder = os.fsencode(folder)

    def open(self, fault: Fault, at: int) -> None:
        """From now on the call number `at` fails."""
        control = self._control
        control.at = 0
        control.seen = control.hits = 0
        control.call = b""
        control.classes, control.error, control.lasting = fault.classes, fault.error, fault.lasting
        control.at = at

    def close(self) -> None:
        """Nothing fails any more."""
        self._control.at = 0

    @property
    def was_hit(self) -> bool:
        """Whether a call failed since the door was opened."""
        return bool(self._control.hits > 0)

    @property
    def seen(self) -> int:
        """How many calls that may fail were made since the door was opened."""
        return int(self._control.seen)

    @property
    def call(self) -> str:
        """The name of the call that failed first."""
        return bytes(self._control.call).decode()


@contextmanager
def opened(door: Door, fault: Fault, at: int) -> Iterator[None]:
    """The door is open in this block."""
    door.open(fault, at)
    try:
        yield
    finally:
        door.close()
