"""How a command ends that cannot do what was asked: one sentence on stderr, and an exit code."""

import sys
from typing import Any, NoReturn

import typer

FAILED = 1
WRONG_USAGE = 2


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Print the sentence and leave."""
    print(f"pfn: {sentence}", file=sys.stderr)
    raise typer.Exit(code)


def sentences(failures: BaseExceptionGroup[Any]) -> str:
    """What went wrong, in one line. Every nursery on the way wraps the errors of its tasks in one more group."""
    return "; ".join(
        sentences(error) if isinstance(error, BaseExceptionGroup) else str(error) for error in failures.exceptions
    )
