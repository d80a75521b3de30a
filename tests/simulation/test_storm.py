"""The long run: hours under all faults at once, with hostile nodes, and no violation."""

import json
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_node.simulation import storm
from pfn_node.simulation.storm import StormOptions, weather_storm
from pfn_node.simulation.world import InvariantBroken


@pytest.mark.parametrize(
    ("hours", "nodes", "hostile", "seed"),
    [(0.3, 10, 0.0, 1), (0.3, 12, 0.4, 2), (1, 8, 0.4, 3), (1, 6, 0.2, 4), (1, 5, 0.4, 5), (1, 7, 0.3, 6)],
)
def test_nothing_breaks_under_all_faults_at_once(hours: float, nodes: int, hostile: float, seed: int) -> None:
    report = weather_storm(StormOptions(hours, nodes, hostile, seed))

    assert report.violations == []
    assert report.hours >= hours and report.healings and report.acknowledged and report.turns


# Together 1,000 hours of the network.
@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_100))
def test_nothing_breaks_in_ten_hours_of_it(seed: int) -> None:
    report = weather_storm(StormOptions(10, 20, (seed % 5) / 10, seed))

    assert report.violations == []


def test_a_seed_repeats_a_storm() -> None:
    one, again = (asdict(weather_storm(StormOptions(0.1, 5, 0.4, seed=7))) for _ in range(2))

    assert one == again
    assert one != asdict(weather_storm(StormOptions(0.1, 5, 0.4, seed=8)))


def test_a_violation_ends_the_command_with_1_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.simulation.story.Story.all_agree", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # what is wrong with the simulator itself is not hidden
        weather_storm(StormOptions(0.1, 4))

    def broken(*_: object, **__: object) -> float:
        raise InvariantBroken("it broke")

    monkeypatch.setattr("pfn_node.simulation.story.Story.all_agree", broken)
    done = CliRunner().invoke(app, ["simulate", "--hours", "0.1", "--nodes", "4", "--seed", "9", "--json"])

    assert done.exit_code == 1
    assert json.loads(done.stdout)["violations"] == 1
    assert "pfn: it broke" in done.stderr


def test_an_assertion_of_the_machine_is_a_violation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("the machine contradicts itself")

    monkeypatch.setattr(storm.Storm, "_heal", fails)

    (sentence,) = weather_storm(StormOptions(0.1, 4, 0.0, seed=9)).violations

    assert "again with: pfn simulate --hours 0.1 --nodes 4 --hostile 0 --seed 9" in sentence


def test_a_storm_of_two_nodes_is_none() -> None:
    done = CliRunner().invoke(app, ["simulate", "--hours", "1", "--nodes", "2"])

    assert done.exit_code == 2
    assert "three nodes" in done.stderr
