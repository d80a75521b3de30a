"""The named scenarios: all are as expected, and the command says so when they are not."""

import json

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_node.simulation.scenarios import SCENARIOS, flash_crowd
from pfn_node.simulation.stage import Scenario, Stage, perform


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_as_expected(name: str) -> None:
    stage = Stage(name)

    perform(stage, SCENARIOS[name])

    assert [step.sentence for step in stage.steps if step.met is False] == []
    assert sum(step.met is True for step in stage.steps) >= 3


def test_the_command_shows_what_happens_step_by_step() -> None:
    done = CliRunner().invoke(app, ["simulate", "partition-and-heal"])

    assert done.exit_code == 0
    assert "twelve nodes hold one set" in done.stdout
    assert "+ seconds from the healing until all hold one set" in done.stdout


def test_the_command_lists_what_it_can_play() -> None:
    done = CliRunner().invoke(app, ["simulate", "--list", "--json"])

    listed = {one["scenario"]: one["about"] for one in json.loads(done.stdout)}
    assert listed.keys() == SCENARIOS.keys()
    assert listed["flash-crowd"] == flash_crowd.__doc__
    assert "flash-crowd" in CliRunner().invoke(app, ["simulate", "--list"]).stdout


def test_what_is_not_as_expected_ends_the_command_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(stage: Stage) -> None:
        stage.expects("wonders", 1, at_least=2)
        stage.story.node("alice")
        raise stage.story.watch.broken("the sky fell")

    monkeypatch.setitem(SCENARIOS, "wonders", Scenario("None happens.", play))
    done = CliRunner().invoke(app, ["simulate", "wonders", "--seed", "3", "--json"])

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["failed"] is True
    assert [step["met"] for step in told["steps"]] == [False, False]
    assert "again with: pfn simulate wonders --seed 3" in done.stderr


def test_an_unknown_scenario_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["simulate", "armageddon"])

    assert done.exit_code == 2
    assert "--list" in done.stderr
