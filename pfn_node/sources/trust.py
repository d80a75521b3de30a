"""How far to trust a source: one number from 0 to 1, and the parts that it is the sum of.

    gate * (0.25 V + 0.20 U + 0.30 S + 0.15 A + 0.10 B), then capped

    V  verifications: Wilson lower bound, one sample per 6 h, over 90 days; a sample with any failure in it failed
    U  uptime: Wilson lower bound of the health probes, times how quick the answers are
    S  signatures: mean credit of the releases that this node saw at the publisher
    A  age: 1 - exp(-days / 120), of the days on which a verification succeeded here
    B  subscribers of this node, on a logarithmic scale that ends at 63

Everything is evidence of this node's own; what peers claim is not an argument of this function. (Levels A2 and A4 rest
on nodes that this one pins as well: that is its operator's word, not theirs.) The function is pure.
It promises (tests/node/test_sources_trust.py): the score is within 0 and 1; the parts add up to it; one more failure
never raises it; a source without a history never beats itself with one; subscribers, however many, add at most 0.10.
"""

import math
from dataclasses import dataclass

DAY_SECONDS = 86400
VERIFICATION_SAMPLE_SECONDS = 6 * 3600  # else verifying by hand ten times in a row would look like a long record
VERIFICATION_WINDOW_SECONDS = 90 * DAY_SECONDS  # what happened earlier says little about the publisher of today
NEWCOMER_SECONDS = 14 * DAY_SECONDS
NEWCOMER_CAP = 0.5  # nothing earns trust within two weeks: a new identity is cheap
ORACLE_CAP = 0.6  # whose key signs anything for anyone, and who signs no bytes, has not shown much
AGE_SCALE_DAYS = 120
SUBSCRIBER_DOUBLINGS = 6  # 2**6 - 1 subscribers give the whole part
SLOW_SECONDS = 5.0  # an answer that takes this long is worth nothing
QUICK_SECONDS = 0.5  # one that takes this long is as good as immediate
CONFLICT_GATE = 0.5
WILSON_Z = 1.959963984540054  # 95 %, two-sided

WEIGHT_VERIFICATIONS = 0.25
WEIGHT_UPTIME = 0.20
WEIGHT_SIGNATURES = 0.30
WEIGHT_AGE = 0.15
WEIGHT_SUBSCRIBERS = 0.10

WEIGHTS = {
    "verifications": WEIGHT_VERIFICATIONS,
    "uptime": WEIGHT_UPTIME,
    "signatures": WEIGHT_SIGNATURES,
    "age": WEIGHT_AGE,
    "subscribers": WEIGHT_SUBSCRIBERS,
}
RELEASE_CREDIT = {"A4": 1.0, "A3": 0.95, "A2": 0.6, "A1": 0.3, "A0": 0.1, "invalid": 0.0}


@dataclass(frozen=True, slots=True)
class Probe:
    """One health check: whether the publisher answered, and after how many seconds."""

    ok: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Everything that this node itself knows about a source. Times are seconds since 1970."""

    status: str
    created_at: float
    oracle: str | None = None  # none, utf8, raw; None: not probed yet
    verifications: tuple[tuple[float, bool], ...] = ()  # (when, succeeded), in any order
    probes: tuple[Probe, ...] = ()
    releases: tuple[str, ...] = ()  # assurance levels of releases seen at the publisher by this node, or "invalid"
    subscribers: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """A history, counted: all that the parts depend on."""

    samples: int  # of verification, within the window
    samples_succeeded: int
    probes: int
    answered: int
    seconds: float | None  # that 95 of 100 answers take at most; None: there was none
    releases: int
    credit: float  # of all releases together
    days: int
    subscribers: int


@dataclass(frozen=True, slots=True)
class Trust:
    """The score, and the parts whose sum it is. `gate` and `cap` are what a doubt takes away: zero or negative."""

    score: float
    parts: dict[str, float]


def trust_score(history: History, now: float) -> Trust:
    """Judge a source by its history, at the time `now`."""
    parts = parts_of(tally_of(history, now))
    raw = math.fsum(parts.values())
    gated = _gate(history.status) * raw
    score = min(gated, _cap(history, now))
    return Trust(score, {**parts, "gate": gated - raw, "cap": score - gated})


def tally_of(history: History, now: float) -> Tally:
    """Count a history."""
    samples: dict[int, bool] = {}
    for when, succeeded in history.verifications:
        if when > now - VERIFICATION_WINDOW_SECONDS:
            sample = int(when // VERIFICATION_SAMPLE_SECONDS)
            samples[sample] = samples.get(sample, True) and succeeded
    # Failed probes count in the bound only: how long a failure took must not make the answers look quicker.
    answered = sorted(probe.seconds or 0.0 for probe in history.probes if probe.ok)
    return Tally(
        samples=len(samples),
        samples_succeeded=sum(samples.values()),
        probes=len(history.probes),
        answered=len(answered),
        seconds=answered[math.ceil(0.95 * len(answered)) - 1] if answered else None,
        releases=len(history.releases),
        credit=math.fsum(RELEASE_CREDIT.get(level, 0.0) for level in history.releases),
        days=len({int(when // DAY_SECONDS) for when, succeeded in history.verifications if succeeded}),
        subscribers=max(0, history.subscribers),
    )


def parts_of(tally: Tally) -> dict[str, float]:
    """What each part gives, before gate and cap."""
    shares = {
        "verifications": wilson_lower_bound(tally.samples_succeeded, tally.samples),
        "uptime": wilson_lower_bound(tally.answered, tally.probes) * _quickness(tally.seconds),
        "signatures": tally.credit / tally.releases if tally.releases else 0.0,
        "age": 1 - math.exp(-tally.days / AGE_SCALE_DAYS),
        "subscribers": min(1.0, math.log2(1 + tally.subscribers) / SUBSCRIBER_DOUBLINGS),
    }
    return {part: WEIGHTS[part] * share for part, share in shares.items()}


def is_newcomer(history: History, now: float) -> bool:
    """Whether the source is too new to be worth more than a newcomer."""
    return now - history.created_at < NEWCOMER_SECONDS


def under_oracle(history: History) -> bool:
    """Whether the publisher signs for anybody, and nothing of it is signed over its bytes."""
    return history.oracle in ("utf8", "raw") and not {"A3", "A4"} & set(history.releases)


def wilson_lower_bound(successes: int, total: int) -> float:
    """The lower end of the 95 % Wilson interval of a share; 0 if nothing was tried."""
    if total == 0:
        return 0.0
    share, squared = successes / total, WILSON_Z * WILSON_Z
    middle = share + squared / (2 * total)
    margin = WILSON_Z * math.sqrt(share * (1 - share) / total + squared / (4 * total * total))
    return max(0.0, (middle - margin) / (1 + squared / total))


def _gate(status: str) -> float:
    if status == "revoked":
        return 0.0
    return CONFLICT_GATE if status == "conflict" else 1.0


def _cap(history: History, now: float) -> float:
    caps = [1.0]
    if under_oracle(history):
        caps.append(ORACLE_CAP)
    if is_newcomer(history, now):
        caps.append(NEWCOMER_CAP)
    return min(caps)


def _quickness(seconds: float | None) -> float:
    if seconds is None:
        return 0.0
    return min(1.0, max(0.0, (SLOW_SECONDS - seconds) / (SLOW_SECONDS - QUICK_SECONDS)))
