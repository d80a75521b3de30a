"""The Nth call on the disk fails, in every workflow: the node says so, readers read on, and it is back by itself."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.durability.command_faults import COMMANDS, CommandFaults
from tests.durability.fault_loop import NEVER, RECOVERY_SECONDS_MAX, WORKFLOWS, fault_loop, run
from tests.durability.faults import COMPILER, FAULTS, Door
from tests.durability.kill_loop import SETTINGS
from tests.durability.killed_node import Starter
from tests.durability.start_faults import STARTS, StartFaults

SEED = int(os.environ.get("PFN_TEST_SEED", secrets.randbelow(10**9)))
# A start has some hundred calls that may fail.
STARTING_AT_MAX = 400

NO_COMPILER = "NO C COMPILER: there is none here, so no call on the disk was made to fail. Run scripts/faults."


@pytest.fixture(autouse=True)
def compiler() -> None:
    """Skip where there is none; in CI fail."""
    if COMPILER is None:
        if os.environ.get("CI") == "true":
            pytest.fail(NO_COMPILER)
        pytest.skip(NO_COMPILER)


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[StartFaults]:
    """Where nodes start behind a door."""
    master_key = secrets.token_urlsafe(32)
    door = Door(tmp_path)
    with Starter({"PFN_MASTER_KEY": master_key} | SETTINGS | door.environment) as starter:
        yield StartFaults(tmp_path, door, starter, master_key)


@pytest.fixture
def commanding(tmp_path: Path) -> Iterator[CommandFaults]:
    """Where commands work behind a door."""
    door = Door(tmp_path)
    with Starter(door.environment) as starter:
        yield CommandFaults(tmp_path, door, starter)


def test_some_points_of_every_workflow(tmp_path: Path) -> None:
    rng = Random(SEED)
    with fault_loop(tmp_path, SEED) as loop:
        for workflow in WORKFLOWS:
            # Not every workflow makes calls of every class, but all of them write.
            assert any(loop.some_point(workflow, FAULTS[fault]) for fault in rng.sample([*FAULTS], len(FAULTS)))
        refused = loop.found.refused
        assert loop.point("make_key", FAULTS["ENOSPC lasting"], 1)
        loop.check("some points")

    assert loop.found.refused > refused
    assert loop.found.recovery_seconds_max <= RECOVERY_SECONDS_MAX


@pytest.mark.parametrize("start", STARTS)
def test_some_points_of_every_start(starting: StartFaults, start: str) -> None:
    rng = Random(SEED)
    starting.point(start, FAULTS[rng.choice([*FAULTS])], rng.randint(1, STARTING_AT_MAX))

    assert starting.point(start, FAULTS["ENOSPC lasting"], 2)
    assert starting.refused > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_some_points_of_every_command(commanding: CommandFaults, command: str) -> None:
    rng = Random(SEED)
    for fault in rng.sample([*FAULTS.values()], 4):
        assert not commanding.point(command, fault, NEVER)
        commanding.point(command, fault, rng.randint(1, max(1, commanding.door.seen)))

    assert commanding.point(command, FAULTS["ENOSPC of writes lasting"], 1)
    assert commanding.refused > 0


def test_a_rewritten_database_that_stays_in_its_log_for_want_of_room_never_takes_the_place_of_the_old_one(
    commanding: CommandFaults,
) -> None:
    full = FAULTS["ENOSPC of writes lasting"]
    assert not commanding.point("rewrite", full, NEVER)
    writes = commanding.door.seen

    for before_the_end in (1, 5, 20, 80):
        assert commanding.point("rewrite", full, writes - before_the_end)


def test_a_command_that_finds_no_free_descriptor_half_way_takes_nothing_for_lost(commanding: CommandFaults) -> None:
    assert commanding.point("rewrite", FAULTS["EMFILE lasting"], 22)
    for at in range(20, 25):
        commanding.point("rewrite", FAULTS["EMFILE once"], at)
    for at in range(14, 17):
        commanding.point("backup", FAULTS["EMFILE once"], at)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_point_of_a_command(commanding: CommandFaults, command: str, fault: str) -> None:
    commanding.sweep(command, FAULTS[fault])


@pytest.mark.long
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_point_of_a_workflow(tmp_path: Path, workflow: str) -> None:
    found = run(tmp_path, SEED, [workflow], [*FAULTS])

    assert not found.troubles
    assert sum(found.points.values()) > len(FAULTS)


@pytest.mark.long
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_point_of_a_start(starting: StartFaults, start: str, fault: str) -> None:
    starting.sweep(start, FAULTS[fault])
