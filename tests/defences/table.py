"""The defences of the node, each with the code that makes it one, and the tests that miss it when it is gone.

They stand in the TOML files beside this module, one file for each room:

    [[defence]]
    name = "what it keeps away, as a sentence"
    threats = ["S3"]                  # rows of .github/SECURITY.md
    file = "pfn_node/outbound.py"
    code = "the lines that defend"    # occurs exactly once in the file
    without = "the same with the defence switched off"
    tests = ["tests/node/test_outbound_guard.py::test_that_goes_red"]
"""

import ast
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Defence:
    """One defence; `without` is what stands in the place of `code` in a build that lacks it."""

    name: str
    threats: tuple[str, ...]
    file: str
    code: str
    without: str
    tests: tuple[str, ...]

    def switched_off(self) -> str:
        """The text of the file without the defence; raises ValueError if it cannot be taken out any more."""
        text = (ROOT / self.file).read_text()
        if text.count(self.code) != 1:
            raise ValueError(f"{self.file} holds the code of {self.name!r} {text.count(self.code)} times")
        return text.replace(self.code, self.without)


def defences() -> list[Defence]:
    """All of them, in the order of the files and in these."""
    found = []
    for file in sorted(_FOLDER.glob("*.toml")):
        for entry in tomllib.loads(file.read_text())["defence"]:
            threats, tests = tuple(entry.pop("threats")), tuple(entry.pop("tests"))
            found.append(Defence(**entry, threats=threats, tests=tests))
    return found


@cache
def tests_in(file: str) -> frozenset[str]:
    """The names of the test functions in a file of tests; empty if there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = (node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))
    return frozenset(name for name in names if name.startswith("test_"))


def test_exists(test: str) -> bool:
    """Whether there is such a test: `FILE`, or `FILE::FUNCTION` with or without parameters."""
    file, _, name = test.partition("::")
    return name.partition("[")[0] in tests_in(file) if name else bool(tests_in(file))


test_exists.__test__ = False  # type: ignore[attr-defined]  # a question about tests, and none itself
