"""What pages of the catalogue look up and sort by: none of them may read 60,000 rows."""

from typing import Final

CATALOGUE_PAGES: Final = (
    "CREATE INDEX plugins_by_assurance ON plugins (assurance_rank, updated_at, id)",
    "CREATE INDEX plugins_by_slug ON plugins (plugin_id)",
    "CREATE INDEX mirrored_plugins_by_plugin ON mirrored_plugins (source_id, plugin_id, mirror_date)",
    "CREATE INDEX sources_by_trust ON sources (trust_score) WHERE status = 'verified'",
)
