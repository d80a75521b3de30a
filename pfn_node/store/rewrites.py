"""What the operator is told when a version has other bytes than it had: that is never an accident of this node."""

import sqlite_utils

from pfn_node.store.activity import record_activity
from pfn_node.store.queries import Row
from pfn_node.store.rows import Observation


def report_rewrite(db: sqlite_utils.Database, observation: Observation, at: int) -> None:
    """Tell that the publisher put other bytes under a version that this node saw."""
    record_activity(
        db,
        "security",
        f"the publisher served other bytes as {observation.plugin_id} {observation.version}, which was seen with "
        "different ones before; the first ones stay",
        at=at,
        source_id=observation.source_id,
        plugin_id=observation.plugin_id,
        plugin_name=observation.name,
        new_version=observation.version,
    )


def report_conflict(db: sqlite_utils.Database, shown: Row, at: int) -> None:
    """Tell that nodes whose word counts saw different bytes under a version."""
    record_activity(
        db,
        "security",
        f"nodes whose word counts here saw different bytes as {shown['plugin_id']} {shown['version']}; "
        "the first ones stay",
        at=at,
        source_id=shown["source_id"],
        plugin_id=shown["plugin_id"],
        plugin_name=shown["name"],
        new_version=shown["version"],
    )
