"""The processes that another process has started, as the kernel tells (proc(5))."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pfn_node.workers.supervising import COMMAND

WORKER = COMMAND[-1]


def children_of(parent: int) -> list[int]:
    """The ids of `parent`'s child processes, in order, the ended ones that it has not waited for among them.

    Read from the children's own entries: a list kept for each of the parent's threads goes with its thread.
    """
    return sorted(pid for pid, parent_of_pid in _parents() if parent_of_pid == parent)


def workers_of(node: int) -> list[int]:
    """Those of a node's child processes that answer requests: others read zips for it."""
    return [pid for pid in children_of(node) if WORKER in _command(pid)]


def _command(pid: int) -> list[str]:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended while we look
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])
