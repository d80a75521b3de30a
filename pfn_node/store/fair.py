"""Plugins as FAIR knows them: by a DID, which a plugin's own zip names, under the publisher's signature.

That a zip names a DID is a claim. Two plugins that claim one DID are both nobody's: it is answered as ambiguous, never
with a guess. Whether the signatures hold is not looked at here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.store.catalogue import release_from
from pfn_node.store.changes import LISTABLE
from pfn_node.store.matching import match_expression
from pfn_node.store.packages import OF_PLUGIN, facts_about, sha384_signatures
from pfn_node.store.queries import select
from pfn_node.store.rows import PackageFacts, Release, Source
from pfn_node.store.sources import get_source
from pfn_protocol.versions import sort_key

# Versions of one plugin that are told of, the newest; the signature of each is verified for every answer.
RELEASES_MAX: Final = 20
# The same of each plugin of a list, which may have a hundred.
LISTED_RELEASES_MAX: Final = 3
# Plugins with a DID that a list goes through; more than FAIR's directory has today.
CLAIMS_MAX: Final = 10_000
# Who claims one DID: two are one too many already, and the text of the answer names some.
CLAIMANTS_MAX: Final = 5
# Nobody backs what was taken down any more; it was somebody's all the same.
_GONE: Final = "(r.yanked IS NOT NULL OR r.taken_down IS NOT NULL OR r.revoked_key)"


@dataclass(frozen=True, slots=True)
class Claim:
    """One plugin whose zips name a DID: its releases, newest first, what was read in their zips, and signatures."""

    source: Source
    plugin_id: str
    releases: list[Release]
    facts: dict[bytes, PackageFacts]  # by digest
    signatures: dict[str, tuple[bytes, ...]]  # over the SHA-384, by version; as they came


def claimants(db: sqlite_utils.Database, did: str) -> list[tuple[str, str]]:
    """Return (source id, plugin id) of all that have something to install whose zip names this DID."""
    return _naming(db, did, LISTABLE)


def former_claimants(db: sqlite_utils.Database, did: str) -> list[tuple[str, str]]:
    """Return (source id, plugin id) of all that had something whose zip names this DID, and that was taken back."""
    return _naming(db, did, _GONE)


def _naming(db: sqlite_utils.Database, did: str, condition: str) -> list[tuple[str, str]]:
    sql = " ".join(
        (
            "SELECT DISTINCT r.source_id, r.plugin_id FROM package_facts AS f JOIN releases AS r",
            "ON r.sha256 = f.sha256 WHERE f.did = ? AND",
            condition,
            "ORDER BY 1, 2 LIMIT ?",
        )
    )
    return [(row["source_id"], row["plugin_id"]) for row in select(db, sql, (did, CLAIMANTS_MAX))]


def claiming(db: sqlite_utils.Database, type: str, words: str | None) -> list[tuple[str, str]]:
    """Return (source id, plugin id) of all plugins of a type that name a DID and have something to install."""
    sql = [
        "SELECT DISTINCT r.source_id, r.plugin_id FROM package_facts AS f JOIN releases AS r ON r.sha256 = f.sha256",
        "JOIN plugins AS p ON",
        OF_PLUGIN,
        "WHERE f.did IS NOT NULL AND r.type = :type AND",
        LISTABLE,
    ]
    parameters: dict[str, Any] = {"type": type, "limit": CLAIMS_MAX}
    if words is not None:
        parameters["words"] = match_expression(words)
        if not parameters["words"]:
            return []  # punctuation only
        sql.append("AND p.id IN (SELECT rowid FROM plugin_texts WHERE plugin_texts MATCH :words)")
    sql.append("ORDER BY 1, 2 LIMIT :limit")
    return [(row["source_id"], row["plugin_id"]) for row in select(db, " ".join(sql), parameters)]


def claim_of(
    db: sqlite_utils.Database,
    source_id: str,
    plugin_id: str,
    *,
    installable: bool = True,
    version: str | None = None,
    releases_max: int = RELEASES_MAX,
) -> Claim | None:
    """Return a plugin's claim with its newest releases, only those that may be installed unless told otherwise.

    `version`: with this one alone, however old it is.
    """
    source = get_source(db, source_id)
    if source is None:
        return None
    condition = LISTABLE if installable else f"(r.backed OR {_GONE})"
    sql = ["SELECT r.* FROM releases AS r WHERE r.source_id = :source AND r.plugin_id = :plugin AND", condition]
    if version is not None:
        sql.append("AND r.version = :version")
    parameters = {"source": source_id, "plugin": plugin_id, "version": version}
    named = {name: given for name, given in parameters.items() if given is not None}
    releases = [release_from(row) for row in select(db, " ".join(sql), named)]
    releases = sorted(releases, key=lambda one: sort_key(one.version), reverse=True)[:releases_max]
    signatures = {one.version: sha384_signatures(db, one) for one in releases}
    return Claim(source, plugin_id, releases, facts_about(db, releases), signatures)


def claims_of(
    db: sqlite_utils.Database,
    plugins: Sequence[tuple[str, str]],
    *,
    installable: bool = True,
    releases_max: int = RELEASES_MAX,
) -> list[Claim]:
    """Return the claims of several plugins; those of which nobody knows anything any more are left out."""
    found = (claim_of(db, *plugin, installable=installable, releases_max=releases_max) for plugin in plugins)
    return [claim for claim in found if claim is not None]
