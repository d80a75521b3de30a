"""The trust score: what it promises, whatever the history."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfn_node.sources.trust import (
    DAY_SECONDS,
    NEWCOMER_SECONDS,
    WEIGHTS,
    History,
    Probe,
    parts_of,
    tally_of,
    trust_score,
    wilson_lower_bound,
)
from pfn_node.sources.trust_explained import NEAR_ENOUGH, Explained, explain

NOW = 1_800_000_000.0
LEVELS = ("A0", "A1", "A2", "A3", "A4", "invalid")

moments = st.floats(NOW - 200 * DAY_SECONDS, NOW)
probes = st.builds(Probe, st.booleans(), st.none() | st.floats(0, 20))
histories = st.builds(
    History,
    status=st.sampled_from(["pending", "verified", "error", "conflict", "revoked"]),
    created_at=moments,
    oracle=st.sampled_from([None, "none", "utf8", "raw"]),
    verifications=st.lists(st.tuples(moments, st.booleans()), max_size=30).map(tuple),
    probes=st.lists(probes, max_size=30).map(tuple),
    releases=st.lists(st.sampled_from(LEVELS), max_size=20).map(tuple),
    subscribers=st.integers(0, 10_000),
)


@given(histories)
def test_the_score_lies_between_0_and_1_and_the_parts_add_up_to_it(history: History) -> None:
    trust = trust_score(history, NOW)

    assert 0 <= trust.score <= 1
    assert math.isclose(sum(trust.parts.values()), trust.score, abs_tol=1e-9)


@given(histories, moments, st.sampled_from(["verification", "probe", "release"]))
def test_one_more_failure_never_raises_the_score(history: History, when: float, kind: str) -> None:
    worse = {
        "verification": replace(history, verifications=(*history.verifications, (when, False))),
        "probe": replace(history, probes=(*history.probes, Probe(False, None))),
        "release": replace(history, releases=(*history.releases, "invalid")),
    }[kind]

    assert trust_score(worse, NOW).score <= trust_score(history, NOW).score + 1e-12


@given(histories.filter(lambda history: history.status not in ("conflict", "revoked")))
def test_a_new_identity_never_beats_the_old_one(history: History) -> None:
    reborn = replace(history, created_at=NOW, verifications=(), probes=(), oracle=None)

    assert trust_score(reborn, NOW).score <= trust_score(history, NOW).score + 1e-12


@given(histories)
def test_ten_thousand_fake_subscribers_add_at_most_a_tenth(history: History) -> None:
    alone, crowded = replace(history, subscribers=0), replace(history, subscribers=10_000)

    assert trust_score(crowded, NOW).score <= trust_score(alone, NOW).score + 0.10 + 1e-12


def test_the_formula_gives_these_numbers() -> None:
    history = History(
        status="verified",
        created_at=NOW - 100 * DAY_SECONDS,
        oracle="none",
        verifications=tuple((NOW - day * DAY_SECONDS, True) for day in range(10)),
        probes=(Probe(True, 0.2),) * 10,
        releases=("A3", "A1"),
        subscribers=7,
    )

    trust = trust_score(history, NOW)

    bound = wilson_lower_bound(10, 10)
    assert bound == pytest.approx(0.7225, abs=1e-4)
    assert trust.parts["verifications"] == pytest.approx(0.25 * bound)
    assert trust.parts["uptime"] == pytest.approx(0.20 * bound)
    assert trust.parts["signatures"] == pytest.approx(0.30 * 0.625)
    assert trust.parts["age"] == pytest.approx(0.15 * (1 - math.exp(-10 / 120)))
    assert trust.parts["subscribers"] == pytest.approx(0.10 * 3 / 6)
    assert (trust.parts["gate"], trust.parts["cap"]) == (0, 0)


def test_verifying_often_counts_once_in_six_hours_and_a_failure_spoils_its_sample() -> None:
    base = History("verified", NOW - 100 * DAY_SECONDS)
    often = replace(base, verifications=tuple((NOW - minute, True) for minute in range(50)))
    spoiled = replace(often, verifications=(*often.verifications, (NOW - 1, False)))

    assert trust_score(often, NOW).parts["verifications"] <= 0.25 * wilson_lower_bound(2, 2)
    assert trust_score(spoiled, NOW).score < trust_score(often, NOW).score


def test_slow_answers_are_worth_nothing_however_reliable() -> None:
    history = History("verified", NOW, probes=(Probe(True, 6.0),) * 100)

    assert trust_score(history, NOW).parts["uptime"] == 0


def perfect(**changes: object) -> History:
    days = tuple((NOW - day * DAY_SECONDS, True) for day in range(400))
    history = History(
        "verified",
        NOW - 400 * DAY_SECONDS,
        "none",
        days,
        (Probe(True, 0.1),) * 2000,
        ("A4",),
        100,
    )
    return replace(history, **changes)  # type: ignore[arg-type]


def test_a_newcomer_is_capped_however_good_it_looks() -> None:
    assert trust_score(perfect(created_at=NOW - NEWCOMER_SECONDS + 1), NOW).score == 0.5
    assert trust_score(perfect(created_at=NOW - NEWCOMER_SECONDS), NOW).score > 0.9


def test_an_oracle_is_capped_until_something_reaches_a3() -> None:
    assert trust_score(perfect(oracle="utf8", releases=("A1",) * 3), NOW).score <= 0.6
    assert trust_score(perfect(oracle="raw", releases=("A2",)), NOW).score == 0.6
    assert trust_score(perfect(oracle="utf8", releases=("A3",)), NOW).score > 0.6


def test_a_conflict_halves_and_a_revocation_ends_it() -> None:
    whole = trust_score(perfect(), NOW).score

    assert trust_score(perfect(status="conflict"), NOW).score == pytest.approx(whole / 2)
    assert trust_score(perfect(status="revoked"), NOW).score == 0


def test_nothing_known_is_no_trust() -> None:
    assert trust_score(History("pending", NOW), NOW).score == 0


# --- Explained ------------------------------------------------------------------------------------------------------


def explained(history: History) -> dict[str, Explained]:
    return {one.part: one for one in explain(history, trust_score(history, NOW), NOW)}


@given(histories)
def test_every_part_is_explained_with_the_value_that_it_has_and_all_of_them_add_up(history: History) -> None:
    trust = trust_score(history, NOW)
    parts = explain(history, trust, NOW)

    assert {one.part: one.value for one in parts} == trust.parts
    assert math.isclose(sum(one.value for one in parts), trust.score, abs_tol=1e-9)
    assert all(one.weight is None or 0 <= one.value <= one.weight for one in parts)
    assert all(one.value <= 0 for one in parts if one.weight is None)


@given(histories)
def test_what_is_said_to_raise_a_part_would(history: History) -> None:
    tally, said = tally_of(history, NOW), explained(history)
    for part, counts in {
        "verifications": ("samples", "samples_succeeded"),
        "age": ("days",),
        "subscribers": ("subscribers",),
    }.items():
        sentence = said[part].would_raise
        if sentence is None:
            assert said[part].value == pytest.approx(WEIGHTS[part], abs=NEAR_ENOUGH)
            continue
        more, value = int(sentence.split()[0]), float(sentence.rsplit(maxsplit=1)[1])
        raised = parts_of(replace(tally, **{count: getattr(tally, count) + more for count in counts}))[part]
        assert raised > said[part].value
        assert raised == pytest.approx(value, abs=0.0051)


def test_the_explanation_names_numbers() -> None:
    history = History(
        status="verified",
        created_at=NOW - DAY_SECONDS,
        oracle="utf8",
        verifications=tuple((NOW - day * DAY_SECONDS, True) for day in range(4)),
        probes=(Probe(True, 2.0),) * 20,
        releases=("A1", "A3"),
        subscribers=1,
    )

    said = explained(history)

    assert said["verifications"].would_raise == "8 more successful verifications, one per 6 h, would raise it to 0.19"
    assert said["uptime"].would_raise == "answers within 0.5 s instead of 2.0 s would raise it to 0.17"
    assert said["signatures"].would_raise == (
        "1 of 2 releases are below A3; all signed over their bytes would raise it to 0.28"
    )
    assert said["age"].would_raise == "84 more days with a successful verification would raise it to 0.08"
    assert said["subscribers"].would_raise == "10 more subscribers at this node would raise it to 0.06"
    assert said["cap"].until == NOW + 13 * DAY_SECONDS
    assert said["cap"].would_raise == "time alone lifts it, on 2027-01-28"


def test_what_is_best_already_has_nothing_to_raise_it_and_what_is_not_there_says_how_to_begin() -> None:
    best, none = explained(perfect()), explained(History("pending", NOW - 20 * DAY_SECONDS))

    assert [part for part, one in best.items() if one.would_raise] == ["verifications", "age"]
    assert none["signatures"].would_raise == (
        "no release was seen at the publisher yet; subscribing to the source lets this node see them"
    )
    assert (none["uptime"].would_raise or "").startswith("4 more answered health checks")
    assert explained(perfect(releases=("A3",)))["signatures"].would_raise == (
        "1 of 1 releases are below A4; all also witnessed, by a separate key and a fresh head would raise it to 0.30"
    )


def test_gates_and_caps_say_what_they_are() -> None:
    assert "revoked" in explained(perfect(status="revoked"))["gate"].means
    conflict = explained(perfect(status="conflict"))["gate"]
    assert "another host" in conflict.means and conflict.would_raise is not None
    oracle = explained(perfect(oracle="raw", releases=("A2",)))["cap"]
    assert "(raw)" in oracle.means and oracle.until is None
    assert explained(perfect())["cap"].means == "no limit"
