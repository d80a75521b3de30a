"""How a command ends that cannot do what was asked: one sentence on stderr, and an exit code."""

import sys
from typing import Final, NoReturn

import typer

FAILED: Final = 1
WRONG_USAGE: Final = 2
# What `pfn get` and `pfn lock` tell scripts apart.
NOT_FOUND: Final = 3
NOT_VERIFIED: Final = 4
NO_ANSWER: Final = 5
REFUSED: Final = 6
EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed here (a disk, a file), 2 wrong usage, 3 no node has it, 4 not verified (bytes, "
    "signature, key), 5 no node answered, 6 refused by policy (yanked, taken down, a critical advisory, a revoked key)."
)


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Print the sentence and leave."""
    warn(sentence)
    raise typer.Exit(code)


def warn(sentence: str) -> None:
    """Print the sentence. What others put into it does nothing to the terminal."""
    shown = "".join(character if character.isprintable() or character == "\n" else "�" for character in sentence)
    print(f"pfn: {shown}", file=sys.stderr)


def reason(error: BaseException) -> str:
    """What went wrong, in one line. Every nursery on the way wraps the errors of its tasks in one more group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(reason, error.exceptions))
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return str(error)
