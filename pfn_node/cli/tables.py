"""Answers as tables for people, or as JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Not a terminal: a pipe or a log, which no window bounds. `:key:` in an id is no picture of a key.
console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else 160)


def show(answer: Any, as_json: bool, columns: Sequence[tuple[str, str]], rows: Iterable[dict[str, Any]]) -> None:
    """Print the answer itself as JSON, or its rows with the named (title, field) columns."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(text(row.get(name)) for _, name in columns))
    console.print(table)
    if not table.row_count:
        console.print("nothing yet")


def show_fields(answer: dict[str, Any], as_json: bool) -> None:
    """Print one object, a line a field."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
        return
    for name, value in answer.items():
        console.print(f"[bold]{escape(name)}[/bold]  {text(value)}")


def text(value: Any) -> str:
    """A value as a cell: nothing of it is markup, since it may come from anywhere."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):
        return escape(json.dumps(value, ensure_ascii=False))
    return escape("".join(character if character.isprintable() else "�" for character in str(value)))


def moment(seconds: int | None) -> str:
    """A time of the API, as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "never"
