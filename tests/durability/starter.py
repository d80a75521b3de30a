"""Starts nodes by forking a process that has imported everything: a tenth of the time that a fresh interpreter takes.

A line on its standard input is the arguments of `pfn`, as JSON. The child is a process of its own with its own standard
output (the file that the line names first), so that SIGKILL ends it as it ends any other.
"""

import json
import os
import sys
import traceback

from pfn_node import cli
from pfn_node.cli import serve

__all__ = ["serve"]  # what the children run: imported once, here


def _become(output: str, log: str, arguments: list[str]) -> None:
    for name, descriptor in ((output, 1), (log, 2)):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["pfn", *arguments]
    cli.main()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fork for every line; end with the input, after the last child was waited for."""
    while line := sys.stdin.readline():
        output, log, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _become(output, log, arguments)
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        _say(str(child))
        os.waitpid(child, 0)
        _say("ended")


if __name__ == "__main__":
    main()
