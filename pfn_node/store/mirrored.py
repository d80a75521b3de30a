"""The original's tables of what is mirrored: kept in step with the conclusions of releases.py.

A row of `mirrored_plugins` says that the bytes of a backed version are kept here (not merely cached for anonymous
demand). A row of `version_updates`, and one activity, says that a version newer than all before it came.
"""

import base64
from typing import Final

import sqlite_utils

from pfn_node.store.activity import record_activity
from pfn_node.store.observations import observation_from
from pfn_node.store.queries import Row, change, select
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.versions import newest

# What `version_updates` says was there before the first version, as the original does.
NO_VERSION: Final = "0.0.0"
# The original knows one signature of a plugin: that of its metadata, or where there is none that of its data.
_SIGNATURES_SHOWN: Final = (EvidenceForm.METADATA, EvidenceForm.PLUGIN_DATA)


def store_mirrored(db: sqlite_utils.Database, shown: Row, artifact: Row | None) -> None:
    """Keep the original's tables in step: what is mirrored here, and that a newer version came."""
    key = (shown["source_id"], shown["plugin_id"], shown["version"])
    if artifact is None or artifact["cached"]:
        change(db, "DELETE FROM mirrored_plugins WHERE source_id = ? AND plugin_id = ? AND version = ?", key)
        return
    digest = shown["sha256"].hex()
    change(
        db,
        """
        INSERT INTO mirrored_plugins (plugin_id, source_id, name, version, description, local_path, signature,
                                      mirror_date)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (plugin_id, source_id, version) DO UPDATE SET
            name = excluded.name, description = excluded.description, signature = excluded.signature,
            mirror_date = CASE local_path WHEN excluded.local_path THEN mirror_date ELSE excluded.mirror_date END,
            local_path = excluded.local_path
        """,
        (
            shown["plugin_id"],
            shown["source_id"],
            shown["name"],
            shown["version"],
            shown["description"],
            f"{digest[:2]}/{digest[2:]}",
            _signature_of(shown),
            artifact["stored_at"],
        ),
    )
    _note_update(db, shown, artifact["stored_at"])


def _signature_of(shown: Row) -> str | None:
    """Return the publisher's own signature in base64, as the original's table holds it."""
    pieces = {piece.form: piece.data for piece in observation_from(shown).evidence}
    found = next((pieces[form] for form in _SIGNATURES_SHOWN if form in pieces), None)
    return None if found is None else base64.b64encode(found).decode("ascii")


def _note_update(db: sqlite_utils.Database, shown: Row, at: int) -> None:
    """Record that a version newer than all that were mirrored before is here; once for each version."""
    rows = select(
        db,
        """
        SELECT version FROM mirrored_plugins WHERE source_id = :source AND plugin_id = :plugin
        UNION SELECT new_version FROM version_updates WHERE source_id = :source AND plugin_id = :plugin
        """,
        {"source": shown["source_id"], "plugin": shown["plugin_id"]},
    )
    versions = {row["version"] for row in rows}
    if newest(versions) != shown["version"]:
        return
    old_version = newest(versions - {shown["version"]}) or NO_VERSION
    added = change(
        db,
        """
        INSERT INTO version_updates (plugin_id, source_id, old_version, new_version, update_time) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (source_id, plugin_id, new_version) DO NOTHING
        """,
        (shown["plugin_id"], shown["source_id"], old_version, shown["version"], at),
    )
    if added:
        record_activity(
            db,
            "version_update",
            f"{shown['name']} {shown['version']} is mirrored here",
            at=at,
            source_id=shown["source_id"],
            plugin_id=shown["plugin_id"],
            plugin_name=shown["name"],
            old_version=old_version,
            new_version=shown["version"],
        )
