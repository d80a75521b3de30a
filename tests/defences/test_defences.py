"""Every defence is missed when it is gone: each is switched off in a build of its own, and a test has to go red."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.defences.table import ROOT, Defence, defences, test_exists

# One mutated run takes seconds; a defence whose loss makes a test hang has been missed as well.
RED_SECONDS_MAX = 180
GREEN_SECONDS_MAX = 1800  # all of these tests, one after the other
TESTS_FAILED = 1  # pytest's exit code; 2 and above mean that no test could be run
DEFENCES_MIN = 60
THREATS_MIN = 50


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, to be broken."""
    copy = tmp_path_factory.mktemp("build")
    for folder in ("pfn_node", "protocol", "tests", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.pyc"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    return copy


def run_tests(
    build: Path, tests: tuple[str, ...], seconds_max: float = RED_SECONDS_MAX
) -> subprocess.CompletedProcess[str] | None:
    """Run tests in a build; None if they did not end in time."""
    environment = {**os.environ, "PYTHONPATH": f"{build}{os.pathsep}{build / 'protocol'}"}
    environment.pop("COVERAGE_PROCESS_START", None)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(
            command, cwd=build, env=environment, capture_output=True, text=True, timeout=seconds_max, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def write(file: Path, text: str) -> None:
    """Change a module of the build. The compiled one goes: it is told by time and size, which may both be the same."""
    file.write_text(text)
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


@pytest.mark.long
@pytest.mark.parametrize("defence", defences(), ids=lambda defence: defence.name)
def test_a_test_goes_red_without(build: Path, defence: Defence) -> None:
    broken = defence.switched_off()
    compile(broken, defence.file, "exec")
    write(build / defence.file, broken)
    try:
        done = run_tests(build, defence.tests)
    finally:
        write(build / defence.file, (ROOT / defence.file).read_text())

    assert done is None or done.returncode == TESTS_FAILED, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.long
def test_the_tests_pass_with_all_defences(build: Path) -> None:
    tests = {test for defence in defences() for test in defence.tests}
    done = run_tests(build, tuple(sorted(tests)), GREEN_SECONDS_MAX)

    assert done is not None and done.returncode == 0, done and done.stdout[-4000:]


def test_every_defence_can_be_switched_off_and_names_tests_that_exist() -> None:
    for defence in defences():
        compile(defence.switched_off(), defence.file, "exec")
        assert defence.tests and defence.code != defence.without, defence.name
        assert [test for test in defence.tests if not test_exists(test)] == [], defence.name


def threat_rows() -> dict[str, list[str]]:
    """The rows of SECURITY.md's table: id of the threat -> the files that its tests are said to be in."""
    rows = re.findall(r"^\| ([A-Z]\d+) \|.*\|([^|]*)\|$", (ROOT / ".github" / "SECURITY.md").read_text(), re.MULTILINE)
    return {threat: re.findall(r"\]\(\.\./([^)]*)\)", links) for threat, links in rows}


def test_every_threat_names_tests_that_exist() -> None:
    rows = threat_rows()

    assert len(rows) >= THREATS_MIN
    assert {threat: links for threat, links in rows.items() if not links or not all(map(test_exists, links))} == {}


def test_every_link_of_the_paper_leads_somewhere() -> None:
    links = re.findall(r"\]\(\.\./([^)]*)\)", (ROOT / ".github" / "SECURITY.md").read_text())

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_defence_is_against_a_threat_that_is_listed() -> None:
    rows = threat_rows()

    assert {one.name for one in defences() if not one.threats or not set(one.threats) <= rows.keys()} == set()


def test_every_defence_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(defence.name for defence in defences()).items() if times > 1] == []


def test_there_are_enough_of_them() -> None:
    assert len(defences()) >= DEFENCES_MIN
