"""What a node shows of itself at first sight: a few numbers with their history, and whom it trusts most."""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.catalogue import release_from
from pfn_node.store.listing import ASSURANCE_RANKS
from pfn_node.store.queries import select, select_one, value
from pfn_node.store.rows import Release, Source
from pfn_node.store.sources import source_from

DAY_SECONDS: Final = 86_400
HISTORY_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class SourceStates:
    """How many sources stand how."""

    registered: int  # by an admin here
    verified: int
    failing: int  # registered, and their key could not be proved
    discovered: int  # heard of from peers


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers, and how each was at the end of the last `HISTORY_DAYS` days, oldest first."""

    sources: SourceStates
    plugins: int
    plugins_held: int
    last_sync: int | None  # seconds since 1970
    verified_history: list[int]
    held_history: list[int]
    releases_history: list[int]  # listed with each day


def figures(db: sqlite_utils.Database, now: int) -> Figures:
    """Count; `now` in seconds."""
    states = source_states(db)
    held = int(value(db, "SELECT count(*) FROM (SELECT DISTINCT source_id, plugin_id FROM mirrored_plugins)"))
    return Figures(
        sources=states,
        plugins=int(value(db, "SELECT count(*) FROM plugins")),
        plugins_held=held,
        last_sync=value(db, "SELECT max(last_sync) FROM sources"),
        verified_history=_grown_to(states.verified, _a_day(db, _VERIFIED_A_DAY, now)),
        held_history=_grown_to(held, _a_day(db, _HELD_A_DAY, now)),
        releases_history=_a_day(db, _LISTED_A_DAY, now),
    )


def source_states(db: sqlite_utils.Database) -> SourceStates:
    """Count the sources by how they stand."""
    rows = select(db, "SELECT status, count(*) AS n FROM sources GROUP BY status")
    states = {row["status"]: int(row["n"]) for row in rows}
    discovered = states.get("discovered", 0)
    return SourceStates(
        registered=sum(states.values()) - discovered,
        verified=states.get("verified", 0),
        failing=states.get("error", 0) + states.get("conflict", 0),
        discovered=discovered,
    )


def most_trusted(db: sqlite_utils.Database, limit: int) -> list[tuple[Source, int]]:
    """Return the verified sources with the best scores, and how many plugins of each are listed."""
    rows = select(
        db,
        """
        SELECT known_sources.* FROM known_sources JOIN (
            SELECT id, trust_score FROM sources WHERE status = 'verified' ORDER BY trust_score DESC LIMIT ?
        ) AS best ON best.id = known_sources.id ORDER BY best.trust_score DESC, best.id
        """,
        (limit,),
    )
    counting = "SELECT count(*) FROM plugins WHERE source_id = ?"
    return [(source_from(row), int(value(db, counting, (row["id"],)))) for row in rows]


def plugins_at(db: sqlite_utils.Database) -> dict[str, int]:
    """Return how many plugins are listed with a release of each level of assurance."""
    rows = select(db, "SELECT assurance_rank, count(*) AS n FROM plugins GROUP BY assurance_rank")
    counted = {row["assurance_rank"]: int(row["n"]) for row in rows}
    return {level: counted.get(rank, 0) for level, rank in ASSURANCE_RANKS.items()}


def newest_at(db: sqlite_utils.Database, level: str) -> Release | None:
    """Return the newest listed release that reached just this level of assurance."""
    row = select_one(
        db,
        """
        SELECT r.* FROM plugins AS p JOIN releases AS r
          ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
        WHERE p.assurance_rank = ? ORDER BY p.updated_at DESC, p.id DESC LIMIT 1
        """,
        (ASSURANCE_RANKS[level],),
    )
    return None if row is None else release_from(row)


_VERIFIED_A_DAY: Final = """
    SELECT created_at / :day AS at, count(*) AS n FROM sources
    WHERE status = 'verified' AND created_at >= :since GROUP BY 1
"""
_HELD_A_DAY: Final = """
    SELECT first / :day AS at, count(*) AS n FROM (
        SELECT min(mirror_date) AS first FROM mirrored_plugins GROUP BY source_id, plugin_id
    ) WHERE first >= :since GROUP BY 1
"""
_LISTED_A_DAY: Final = (
    "SELECT updated_at / :day AS at, count(*) AS n FROM plugins WHERE updated_at >= :since GROUP BY 1"
)


def _a_day(db: sqlite_utils.Database, counting: str, now: int) -> list[int]:
    """How many on each of the last days, today last."""
    today = now // DAY_SECONDS
    first = today - HISTORY_DAYS + 1
    rows = select(db, counting, {"day": DAY_SECONDS, "since": first * DAY_SECONDS})
    counted = {row["at"]: row["n"] for row in rows}
    return [counted.get(day, 0) for day in range(first, today + 1)]


def _grown_to(total: int, a_day: list[int]) -> list[int]:
    """What had come at the end of each day, if `total` is here now; what went meanwhile is not known any more."""
    history = [total]
    for count in reversed(a_day[1:]):
        history.append(max(0, history[-1] - count))
    return history[::-1]
