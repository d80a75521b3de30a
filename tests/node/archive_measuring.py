"""`python -m tests.node.archive_measuring FOLDER`: what judging each zip of a folder costs, one JSON line each.

Every zip is judged in a process of its own, forked off one that has everything loaded and nothing else; the kernel
gives it no more memory and processor time than a zip may cost. A line has the reason of the refusal (null: accepted),
or "over" and what was exceeded, the seconds of the processor, and the bytes of memory beyond those at the start.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

from pfn_node.archive import ArchiveRefused, inspect

SECONDS_MAX = 1.0
MEMORY_BYTES_MAX = 16 * 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _pages() -> tuple[int, int]:
    """(all of the address space, what of it is in memory), in bytes."""
    whole, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(whole) * PAGE_BYTES, int(resident) * PAGE_BYTES


def _judge(path: Path) -> dict[str, object]:
    whole, resident = _pages()
    limit = whole + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started = time.process_time()
    try:
        inspect(path)
        reason = None
    except ArchiveRefused as refused:
        reason = refused.reason
    except MemoryError:
        reason = "over: memory"
    seconds = time.process_time() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"zip": path.stem, "reason": reason, "seconds": round(seconds, 4), "bytes": max(0, most - resident)}


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.zip")):
        child = os.fork()
        if child == 0:
            # Four times the bar in whole seconds: what is over the bar is to be measured, what hangs is to end.
            resource.setrlimit(resource.RLIMIT_CPU, (int(4 * SECONDS_MAX), int(4 * SECONDS_MAX) + 1))
            sys.stdout.write(json.dumps(_judge(path)) + "\n")
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.stdout.write(json.dumps({"zip": path.stem, "reason": f"over: status {status}"}) + "\n")


if __name__ == "__main__":
    main()
