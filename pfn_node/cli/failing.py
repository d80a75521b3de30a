"""How a command ends that cannot do what was asked: one sentence on stderr, and an exit code."""

import sys
from typing import NoReturn

import typer

FAILED = 1
WRONG_USAGE = 2


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Print the sentence and leave."""
    print(f"pfn: {sentence}", file=sys.stderr)
    raise typer.Exit(code)
