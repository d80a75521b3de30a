"""What the rows of a version mean here: who saw what, how near its observer is, and what its evidence proves."""

from collections.abc import Set
from dataclasses import replace

import sqlite_utils

from pfn_node.store.evidence import Findings, no_texts
from pfn_node.store.heads import is_headed
from pfn_node.store.observations import observation_from, record_findings
from pfn_node.store.queries import Row
from pfn_node.store.safety import KeysThen, seen_at
from pfn_node.store.standpoint import Standpoint, pinned_by_pinned
from pfn_protocol.backing import Relation, Sighting
from pfn_protocol.limits import witnesses_trusted_min


def sightings_of(
    db: sqlite_utils.Database,
    point: Standpoint,
    rows: list[Row],
    source: Row | None,
    keys: KeysThen | None,
    here: Set[bytes],
) -> list[Sighting]:
    """Return a sighting for each row, in their order; `here`: the digests of which the bytes are on this node.

    What evidence proves is recorded with the row, and each row is told whether the publisher signed its words
    (`vouched`).
    """
    sightings = [
        _sighting(db, point, row, source, keys, place, row["sha256"] in here) for place, row in enumerate(rows)
    ]
    return _each_node_once(rows, _with_far_witnesses(db, rows, sightings))


def _sighting(
    db: sqlite_utils.Database,
    point: Standpoint,
    row: Row,
    source: Row | None,
    keys: KeysThen | None,
    place: int,
    is_here: bool,
) -> Sighting:
    findings = _findings(db, point, row, source, keys)
    observer: bytes = row["observer"]
    # Who did not fetch the bytes from the publisher (R36) has only the publisher's own word to bring.
    saw_it = row["observed_at"] > 0
    relation = witness = point.relation(observer, bool(row["pinned"])) if saw_it else Relation.STRANGER
    path_keys = point.paths.get(observer, frozenset())
    if is_here and row["standing"] > relation:
        relation = Relation(row["standing"])
        # The path that there was is gone; as its own path it stays apart from every other observer.
        path_keys = frozenset({observer})
    row |= {"vouched": findings.vouched, "released": findings.released, "release_key": findings.release_key}
    released = findings.released and keys is not None and keys.may_release(seen_at(row))
    return Sighting(
        observer=observer,
        relation=relation,
        sha256=row["sha256"],
        size=row["size"],
        signed=findings.signed is True,
        release=released,
        # The order in which they came: an observer's own clock must not make it the first to have seen something.
        observed_at=place,
        path_keys=path_keys,
        witness=witness,
        headed=released and _is_headed(db, row, source, findings),
    )


def _is_headed(db: sqlite_utils.Database, row: Row, source: Row | None, findings: Findings) -> bool:
    assert source is not None and findings.release_key is not None and findings.release_seq is not None, "released"
    return is_headed(db, row["source_id"], source["key_raw"], findings.release_key, findings.release_seq)


def _with_far_witnesses(db: sqlite_utils.Database, rows: list[Row], sightings: list[Sighting]) -> list[Sighting]:
    """Let those witness too whom only pinned nodes pin, where they could be the third."""
    near = sum(1 for sighting in sightings if sighting.witness >= Relation.PIN)
    if near < witnesses_trusted_min or all(sighting.witness >= Relation.PIN for sighting in sightings):
        return sightings
    reached = set(pinned_by_pinned(db))
    return [
        replace(sighting, witness=Relation.DEPTH)
        if sighting.witness is Relation.STRANGER and row["observed_at"] > 0 and sighting.observer in reached
        else sighting
        for row, sighting in zip(rows, sightings, strict=True)
    ]


def _each_node_once(rows: list[Row], sightings: list[Sighting]) -> list[Sighting]:
    """Let a key that passed its name on witness nothing that another key of the same node witnesses too (R156)."""
    if all(row["heir"] is None for row in rows):
        return sightings
    once: list[Sighting] = []
    said: set[tuple[bytes, bytes, int]] = set()
    for row, sighting in sorted(zip(rows, sightings, strict=True), key=lambda pair: -pair[1].witness):
        mark = (row["heir"] or sighting.observer, sighting.sha256, sighting.size)
        is_repeated = sighting.witness is not Relation.STRANGER and mark in said
        said.add(mark)
        once.append(replace(sighting, witness=Relation.STRANGER) if is_repeated else sighting)
    return sorted(once, key=lambda sighting: sighting.observed_at)


def _findings(
    db: sqlite_utils.Database, point: Standpoint, row: Row, source: Row | None, keys: KeysThen | None
) -> Findings:
    """What the evidence proves: as found before with this key, or checked now."""
    if source is None or keys is None:
        return Findings(signed=None, released=False, vouched=False)
    is_checked = row["checked_key"] == source["key_raw"]
    if is_checked and (row["signed"] is not None or point.text is no_texts):
        signed = None if row["signed"] is None else bool(row["signed"])
        return Findings(
            signed,
            bool(row["released"]),
            bool(row["vouched"]),
            row["release_id"],
            row["release_key"],
            row["release_seq"],
        )
    findings = keys.examined(observation_from(row), point.text, seen_at(row))
    record_findings(db, row, source["key_raw"], findings)
    return findings
