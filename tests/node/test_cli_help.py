"""What `pfn --help` and its kin show on a terminal of ordinary width."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pfn_node.cli import app


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


COMMANDS = list(_commands(typer.main.get_command(app)))
GROUPS = [path for path in COMMANDS if any(other[:-1] == path for other in COMMANDS if other)]


def help_of(*path: str) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_every_command_is_listed_with_a_whole_sentence(path: tuple[str, ...]) -> None:
    rows = help_of(*path).partition("Commands:\n")[2].splitlines()

    assert len(rows) == len([other for other in COMMANDS if other and other[:-1] == path])
    assert [row for row in rows if row.endswith(("...", "…")) or len(row.split()) < 2 or len(row) > 80] == []


def test_the_help_of_serve_says_where_the_master_key_comes_from() -> None:
    assert "PFN_MASTER_KEY" in help_of("serve")


@pytest.mark.parametrize("word", ["status", "sources", "get", "mesh"])
def test_what_asks_a_node_does_not_wait_for_the_modules_of_one(word: str) -> None:
    program = (
        "import sys, typer; from pfn_node.cli import app; typer.main.get_command(app).commands[sys.argv[1]];"
        "print({'quart', 'hypercorn', 'pfn_node.node'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
