"""How far to trust a source: one number from 0 to 1, and the parts that it is the sum of.

    gate * (0.25 V + 0.20 U + 0.30 S + 0.15 A + 0.10 B), then capped

    V  verifications: Wilson lower bound, one sample per 6 h, over 90 days; a sample with any failure in it failed
    U  uptime: Wilson lower bound of the health probes, times how quick the answers are
    S  signatures: mean credit of the releases that this node saw at the publisher
    A  age: 1 - exp(-days / 120), of the days on which a verification succeeded here
    B  subscribers of this node, on a logarithmic scale that ends at 63

Everything is evidence of this node's own; what peers claim is not an argument of this function. The function is pure.
It promises (tests/node/test_sources_trust.py): the score is within 0 and 1; the parts add up to it; one more failure
never raises it; a source without a history never beats itself with one; subscribers, however many, add at most 0.10.
"""

import math
from collections.abc import Iterable
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
class Trust:
    """The score, and the parts whose sum it is. `gate` and `cap` are what a doubt takes away: zero or negative."""

    score: float
    parts: dict[str, float]


def trust_score(history: History, now: float) -> Trust:
    """Judge a source by its history, at the time `now`."""
    parts = {
        "verifications": WEIGHT_VERIFICATIONS * _verification_share(history.verifications, now),
        "uptime": WEIGHT_UPTIME * _uptime_share(history.probes),
        "signatures": WEIGHT_SIGNATURES * _signature_share(history.releases),
        "age": WEIGHT_AGE * _age_share(history.verifications),
        "subscribers": WEIGHT_SUBSCRIBERS * _subscriber_share(history.subscribers),
    }
    raw = math.fsum(parts.values())
    gated = _gate(history.status) * raw
    score = min(gated, _cap(history, now))
    return Trust(score, {**parts, "gate": gated - raw, "cap": score - gated})


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
    if history.oracle in ("utf8", "raw") and not {"A3", "A4"} & set(history.releases):
        caps.append(ORACLE_CAP)
    if now - history.created_at < NEWCOMER_SECONDS:
        caps.append(NEWCOMER_CAP)
    return min(caps)


def _verification_share(verifications: Iterable[tuple[float, bool]], now: float) -> float:
    samples: dict[int, bool] = {}
    for when, succeeded in verifications:
        if when > now - VERIFICATION_WINDOW_SECONDS:
            sample = int(when // VERIFICATION_SAMPLE_SECONDS)
            samples[sample] = samples.get(sample, True) and succeeded
    return wilson_lower_bound(sum(samples.values()), len(samples))


def _uptime_share(probes: tuple[Probe, ...]) -> float:
    """Failed probes count in the bound only: how long a failure took must not make the answers look quicker."""
    answered = sorted(probe.seconds or 0.0 for probe in probes if probe.ok)
    if not answered:
        return 0.0
    p95 = answered[math.ceil(0.95 * len(answered)) - 1]
    quickness = min(1.0, max(0.0, (SLOW_SECONDS - p95) / (SLOW_SECONDS - QUICK_SECONDS)))
    return wilson_lower_bound(len(answered), len(probes)) * quickness


def _signature_share(releases: tuple[str, ...]) -> float:
    if not releases:
        return 0.0
    return math.fsum(RELEASE_CREDIT.get(level, 0.0) for level in releases) / len(releases)


def _age_share(verifications: Iterable[tuple[float, bool]]) -> float:
    days = {int(when // DAY_SECONDS) for when, succeeded in verifications if succeeded}
    return 1 - math.exp(-len(days) / AGE_SCALE_DAYS)


def _subscriber_share(subscribers: int) -> float:
    return min(1.0, math.log2(1 + max(0, subscribers)) / SUBSCRIBER_DOUBLINGS)
