"""Which advisories are shown with which versions: as the rule says one by one, at the cost of all together."""

import random
from typing import Any

import pytest

from pfn_node.store.advised import ADVISORIES_SHOWN_MAX, advisories_by_version
from pfn_protocol import versions
from pfn_protocol.notice_fields import affects

WORDS = ("", "", "", "-alpha", "-beta.2", "-rc1", "pl1", ".0", "-dev", "x")


def version(dice: random.Random) -> str:
    return f"{dice.randrange(3)}.{dice.randrange(4)}{dice.choice(WORDS)}"


def advisory(number: int, *ranges: tuple[str, str]) -> dict[str, Any]:
    return {"advisory_id": f"A-{number:04}", "ranges": [{"from": first, "until": until} for first, until in ranges]}


def spans(one: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((span["from"], span["until"]) for span in one["ranges"])


@pytest.mark.parametrize("seed", range(40))
def test_each_version_has_the_first_advisories_that_affect_it(seed: int) -> None:
    dice = random.Random(seed)
    known = sorted({version(dice) for _ in range(30)}, key=lambda _: dice.random())
    advisories = [
        advisory(number, *((version(dice) or "", dice.choice(("", version(dice)))) for _ in range(dice.randrange(4))))
        for number in range(dice.choice((5, 120)))
    ]

    found = advisories_by_version(advisories, known)

    expected = {one: [each for each in advisories if affects(spans(each), one)][:ADVISORIES_SHOWN_MAX] for one in known}
    assert found == expected


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_thousand_advisories_about_a_thousand_versions_are_not_asked_about_each_other(
    monkeypatch: pytest.MonkeyPatch, everywhere: bool
) -> None:
    known = [f"1.{number}" for number in range(1_000)]
    advisories = [advisory(n, ("", "") if everywhere else (f"1.{n}", f"1.{n + 1}")) for n in range(1_000)]
    asked = 0
    compare = versions.compare

    def counted(a: str, b: str) -> int:
        nonlocal asked
        asked += 1
        return compare(a, b)

    monkeypatch.setattr(versions, "compare", counted)
    found = advisories_by_version(advisories, known)

    assert asked < 40_000  # to put the versions in order, and to find both ends of each range in that
    assert {len(about) for about in found.values()} == {ADVISORIES_SHOWN_MAX if everywhere else 1}
