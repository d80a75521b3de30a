"""Where a source stands: its status, derived from what happened, and the trust score that follows.

A status is never switched by hand. After every verification, health check and sync, `settle` reads the record and says
what it amounts to, in the transaction that extended the record (and where a key ends, store/key_changes.py says so at
that very moment):

    revoked    its key was revoked, and no other follows it
    conflict   two successors of its key were signed, or its key was proved at another host as well: a proof shows
               that the key is held, not whose it is
    error      the last verification failed; or three failures of sync and health within a day, counted since each of
               them last succeeded
    verified   otherwise, once a verification here has succeeded
    pending    nothing has been proved yet (`discovered` if nobody registered it here)

So a success clears what it disproves and nothing else: a publisher that answers health checks but cannot sign stays in
error until it signs.

A source that proves the key of one that is relied on here is in conflict alone: anybody can relay a challenge, and an
outsider must not be able to take the standing away from a source that an admin registered, or, less than that, that is
subscribed to here or was verified by a node that this one pins.
"""

import json
from typing import Any, Final

import sqlite_utils

from pfn_node.sources.trust import VERIFICATION_WINDOW_SECONDS, History, Probe, trust_score
from pfn_node.sources.trust_explained import explain
from pfn_node.store import holdings
from pfn_node.store.activity import record_activity
from pfn_node.store.changes import note_source_change
from pfn_node.store.facts import get_fact, own_id, set_fact
from pfn_node.store.key_changes import state_of
from pfn_node.store.rows import Source, Verification
from pfn_node.store.sources import (
    VERIFICATIONS_MAX,
    get_source,
    health_checks,
    host_of,
    update_source,
    verifications,
)
from pfn_node.store.subscriptions import failures, subscriber_count
from pfn_protocol.identity import parse_public_key

DAY_SECONDS: Final = 86400
FAILURES_FOR_ERROR: Final = 3
HEALTH_WINDOW_SECONDS: Final = 7 * DAY_SECONDS  # the publisher as it is now; the verifications remember longer
RETRY_SECONDS: Final = tuple(hours * 3600 for hours in (1, 2, 4, 8, 16))  # as the original retries
# How the details of a verification begin in which the publisher answered, and did not prove the key.
NO_PROOF: Final = "the publisher did not prove that it holds the key"
SKIPPED_MAX: Final = 500  # kept for display, of one source
SKIPPED_TOLD_MAX: Final = 50  # a publisher cannot flood the activity with one answer
assert HEALTH_WINDOW_SECONDS < VERIFICATION_WINDOW_SECONDS


def settle(db: sqlite_utils.Database, source_id: str, now: int) -> Source:
    """Derive the source's status and trust again, write them, and record a change of status. To be run in a write."""
    source = get_source(db, source_id)
    assert source is not None, "only a source that is there is settled"
    status = derive_status(db, source, now)
    history = _history(db, source, status, now)
    trust = trust_score(history, now)
    explained = [part.as_json() for part in explain(history, trust, now)]
    columns: dict[str, Any] = {"trust_score": trust.score, "trust": trust.parts, "trust_explained": explained}
    if status != source.status:
        # Writing the status judges all releases of the source again, so it is written only when it changes.
        columns["status"] = status
        record_activity(
            db,
            "security" if status == "conflict" else "source_health",
            f"the source's status changed from {source.status} to {status}",
            at=now,
            source_id=source_id,
        )
        note_source_change(db, source_id, status, now)
    return update_source(db, source_id, **columns)


def settle_sharing(db: sqlite_utils.Database, public_key: bytes, now: int) -> None:
    """Settle every source that has this key: what happened to one may begin or end a conflict of the others."""
    for source in holdings.sources_with_key(db, public_key):
        settle(db, source.id, now)


def derive_status(db: sqlite_utils.Database, source: Source, now: int) -> str:
    """What the record of the source amounts to."""
    state = state_of(db, source.id)
    if source.status == "revoked" or state == "revoked":
        return "revoked"
    if state == "frozen":
        return "conflict"
    if _in_conflict(db, source):
        return "conflict"
    last = last_verification(db, source)
    if last is not None and last.result != "success":
        return "error"
    if last is None or source.verified_at is None:
        return "pending" if source.registered else "discovered"
    return "error" if recent_failures(db, source.id, now) >= FAILURES_FOR_ERROR else "verified"


def last_verification(db: sqlite_utils.Database, source: Source) -> Verification | None:
    """How this node's last verification of the source went. What was proved before `created_at` was another key."""
    newest = verifications(db, source.id, limit=1)
    return newest[0] if newest and newest[0].verified_at >= source.created_at else None


def failed_in_a_row(db: sqlite_utils.Database, source: Source) -> int:
    """How many verifications have failed since the last success; counted no further than the retries go."""
    count = 0
    for verification in verifications(db, source.id, limit=len(RETRY_SECONDS)):
        if verification.result == "success" or verification.verified_at < source.created_at:
            break
        count += 1
    return count


def recent_failures(db: sqlite_utils.Database, source_id: str, now: int) -> int:
    """Failures of sync and of health within a day, each counted since its own last success.

    A verification that succeeded counts as a success of both: the publisher is there, and itself.
    """
    proved = next((one.verified_at for one in verifications(db, source_id, limit=1) if one.result == "success"), 0)
    since = max(now - DAY_SECONDS, proved)
    syncs = sum(1 for failure in failures(db, source_id) if failure.created_at > since)
    checks = 0
    for check in health_checks(db, source_id, since=since + 1):
        if check.ok:
            break
        checks += 1
    return syncs + checks


def last_answer(db: sqlite_utils.Database, source: Source) -> Verification | None:
    """The last verification in which the publisher was there: proved, or disproved with an answer of its own."""
    for verification in verifications(db, source.id, limit=VERIFICATIONS_MAX):
        if verification.verified_at < source.created_at:
            break
        if verification.result == "success" or (verification.details or "").startswith(NO_PROOF):
            return verification
    return None


def remember_skipped(db: sqlite_utils.Database, source_id: str, skipped: list[tuple[str, str, str]], now: int) -> None:
    """Keep what the last sync left out, (slug, version, reason) each; record what is new of it in the activity."""
    before = set(skipped_of(db, source_id))
    news = [one for one in skipped[:SKIPPED_MAX] if one not in before]
    # The alarming ones first, should there be more of them than are told.
    for slug, version, reason in sorted(news, key=lambda one: not is_alarming(one[2]))[:SKIPPED_TOLD_MAX]:
        record_activity(
            db,
            "security" if is_alarming(reason) else "federation_event",
            f"{slug} {version} was not mirrored: {reason}".replace("  ", " "),
            at=now,
            source_id=source_id,
            plugin_id=slug,
            new_version=version or None,
        )
    if before or skipped:
        set_fact(db, _skipped_fact(source_id), json.dumps(skipped[:SKIPPED_MAX]))


def skipped_of(db: sqlite_utils.Database, source_id: str) -> list[tuple[str, str, str]]:
    """What the last sync of a source left out: (slug, version, reason)."""
    return [
        (slug, version, reason) for slug, version, reason in json.loads(get_fact(db, _skipped_fact(source_id)) or "[]")
    ]


def is_alarming(reason: str) -> bool:
    """Whether a reason for leaving something out hints at more than a fault."""
    return reason.startswith(("invalid signature", "conflict"))


def _skipped_fact(source_id: str) -> str:
    return f"skipped:{source_id}"


def _in_conflict(db: sqlite_utils.Database, source: Source) -> bool:
    """Whether another host, relied on no less, proved the same key.

    Authors of one host may share its key, as in the original publisher. A host that only passed challenges on (R153)
    puts nothing in doubt of which the origin itself says that the key is its own.
    """
    if source.verified_at is None:
        return False
    return any(
        other.verified_at is not None
        and host_of(other.id) != host_of(source.id)
        and _reliance(db, other) >= _reliance(db, source)
        and (other.origin_bound or not source.origin_bound)
        for other in holdings.sources_with_key(db, parse_public_key(source.public_key))
    )


def _reliance(db: sqlite_utils.Database, source: Source) -> int:
    """How much this node relies on a source: 2 registered by an admin, 1 subscribed to or attested, 0 only heard of."""
    if source.registered:
        return 2
    return 1 if source.attested or subscriber_count(db, source.id) else 0


def _history(db: sqlite_utils.Database, source: Source, status: str, now: int) -> History:
    """Everything this node itself knows about the source; what peers say is not in it."""
    invalid = {(slug, version) for slug, version, reason in skipped_of(db, source.id) if reason.startswith("invalid")}
    seen = holdings.assurances_seen_by(db, source.id, own_id(db))
    checks = health_checks(db, source.id, since=max(source.created_at, now - HEALTH_WINDOW_SECONDS))
    return History(
        status=status,
        created_at=source.created_at,
        oracle=source.oracle,
        verifications=tuple(
            (float(one.verified_at), one.result == "success")
            for one in verifications(db, source.id, limit=VERIFICATIONS_MAX)
            if one.verified_at >= source.created_at
        ),
        probes=tuple(Probe(check.ok, check.seconds) for check in checks),
        releases=(*seen, *("invalid" for _ in invalid)),
        subscribers=subscriber_count(db, source.id),
    )
