"""The vectors: they are up to date, the code agrees with every one, and every rule that can be tried has one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.vectors.checks import run
from tests.protocol.vectors.files import texts

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "protocol" / "vectors"
# Rules about what a single function can accept or refuse; the others are about behaviour over time.
RULES_WITH_VECTORS = {
    *(f"R{number}" for number in range(1, 13)),
    *(f"R{number}" for number in (20, 22, 23, 24, 25, 26, 27, 28, 29, 37, 38, 41, 42, 43, 137, 138, 139)),
    *(f"R{number}" for number in (*range(50, 64), *range(66, 70))),
    *(f"R{number}" for number in (90, 91, 92, 93, 94, 150, 155)),
    *(f"R{number}" for number in range(160, 167)),
    *(f"R{number}" for number in (70, 71, 72, 73, 75, 76, 77, 78, 79, 87, 111, 112, 113)),
}


def stored_cases() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.stem, case) for path in sorted(VECTORS.glob("*.json")) for case in json.loads(path.read_text("utf-8"))
    ]


def rules_in_spec() -> set[str]:
    return set(re.findall(r"^\*\*(R\d+)\b", (ROOT / "protocol" / "SPEC.md").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{file}-{case['rule']}-{number}") for number, (file, case) in enumerate(stored_cases())],
)
def test_the_code_agrees_with_the_vector(case: dict[str, Any]) -> None:
    outcome, value = run(case)

    expected = ("refused", case["refused"]) if "refused" in case else ("accepted", case["accepted"])
    assert (outcome, value) == expected, case["name"]


def test_the_stored_vectors_are_what_the_cases_say() -> None:
    stored = {path.name: path.read_text("utf-8") for path in VECTORS.glob("*.json")}

    assert stored == texts(), "run scripts/vectors"


def test_no_two_vectors_of_a_file_have_one_name() -> None:
    names = [(file, case["check"], case["name"]) for file, case in stored_cases()]

    assert sorted(names) == sorted(set(names))


def test_every_rule_that_can_be_tried_has_a_vector() -> None:
    tried = {case["rule"] for _, case in stored_cases()} | {case.get("refused") for _, case in stored_cases()}

    assert sorted(RULES_WITH_VECTORS - tried) == []


def test_every_rule_that_the_code_or_a_vector_names_is_in_the_specification() -> None:
    sources = [path.read_text("utf-8") for path in sorted((ROOT / "protocol" / "pfn_protocol").glob("*.py"))]
    sources += [path.read_text("utf-8") for path in sorted((ROOT / "pfn_node").rglob("*.py"))]
    sources.append((ROOT / "protocol" / "SPEC.md").read_text("utf-8"))
    named = {rule for text in sources for rule in re.findall(r"\bR\d{1,3}\b", text)}
    named |= {case["rule"] for _, case in stored_cases()}

    assert sorted(named - rules_in_spec()) == []


def test_every_limit_that_the_specification_names_exists() -> None:
    spec = (ROOT / "protocol" / "SPEC.md").read_text("utf-8")
    modules = ("limits.py", "export_index.py")
    limits = "".join((ROOT / "protocol" / "pfn_protocol" / name).read_text("utf-8") for name in modules)
    defined = set(re.findall(r"^(\w+): Final", limits, re.MULTILINE))
    named = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", spec))

    # A placeholder, an argument of the vectors, a field of a message, a function of PHP.
    others = {"like_this", "bytes_max", "compare_only", "version_compare"}
    assert sorted(named - defined) == sorted(others)


def test_no_two_rules_have_one_number_and_the_numbers_ascend() -> None:
    spec = (ROOT / "protocol" / "SPEC.md").read_text("utf-8")
    numbers = [int(number) for number in re.findall(r"^\*\*R(\d+)\b", spec, re.MULTILINE)]

    assert numbers == sorted(set(numbers))
