"""Named scenarios: each is one readable file, whose first line says what it is about."""

from types import ModuleType

from pfn_node.simulation.scenarios import (
    clock_skew,
    eclipse_attempt,
    flash_crowd,
    partition_and_heal,
    rolling_upgrade,
    safety_notices,
    slow_publisher,
    sybil_flood,
    thirty_percent_die,
    two_stories,
)
from pfn_node.simulation.stage import Scenario

_MODULES: tuple[ModuleType, ...] = (
    clock_skew,
    eclipse_attempt,
    flash_crowd,
    partition_and_heal,
    rolling_upgrade,
    safety_notices,
    slow_publisher,
    sybil_flood,
    thirty_percent_die,
    two_stories,
)

# By name, as `pfn simulate NAME` takes it.
SCENARIOS: dict[str, Scenario] = {
    module.__name__.rpartition(".")[2].replace("_", "-"): Scenario((module.__doc__ or "").strip(), module.play)
    for module in _MODULES
}
