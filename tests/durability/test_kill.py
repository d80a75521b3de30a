"""kill -9 at random moments, while a dozen kinds of writes go on: what was acknowledged is there, whole, every time."""

import os
import secrets
from pathlib import Path

import pytest

from tests.durability.kill_loop import KillLoop

SEED = int(os.environ.get("PFN_TEST_SEED", secrets.randbelow(10**9)))
READY_SECONDS_MAX = 2.0  # of 99 in 100 starts


def test_nothing_acknowledged_is_lost_by_a_hundred_kills(tmp_path: Path) -> None:
    done = KillLoop(tmp_path, SEED, fresh_every=20).run(100)

    assert done.kills == 100
    assert done.acknowledged > 300 and done.announced > 100  # it was written to, and spoke


@pytest.mark.long
def test_nothing_acknowledged_is_lost_by_a_thousand_kills_of_fresh_processes_that_are_ready_in_two_seconds(
    tmp_path: Path,
) -> None:
    done = KillLoop(tmp_path, SEED, fresh_every=2).run(1_000)

    assert done.kills == 1_000
    assert sorted(done.ready_seconds)[len(done.ready_seconds) * 99 // 100] <= READY_SECONDS_MAX
