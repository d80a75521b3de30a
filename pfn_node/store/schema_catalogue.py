"""What pages of the catalogue count and sort by, kept as it changes: a page that counted 60,000 rows would be slow."""

from typing import Final

# How many listed plugins have each tag, source, type and rank of assurance; triggers keep it, whoever writes.
FACETS: Final = (
    """
    CREATE TABLE plugin_facets (
        facet TEXT NOT NULL CHECK (facet IN ('tag', 'source', 'type', 'assurance')),
        value TEXT NOT NULL,
        plugins INTEGER NOT NULL,
        PRIMARY KEY (facet, value)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX plugin_facets_by_count ON plugin_facets (facet, plugins DESC, value)",
    "INSERT INTO plugin_facets SELECT 'tag', tag, count(*) FROM plugin_tags GROUP BY tag",
    "INSERT INTO plugin_facets SELECT 'source', source_id, count(*) FROM plugins GROUP BY source_id",
    "INSERT INTO plugin_facets SELECT 'type', type, count(*) FROM plugins GROUP BY type",
    """
    INSERT INTO plugin_facets
    SELECT 'assurance', CAST(assurance_rank AS TEXT), count(*) FROM plugins GROUP BY assurance_rank
    """,
    """
    CREATE TRIGGER plugin_facets_listed AFTER INSERT ON plugins BEGIN
        INSERT INTO plugin_facets (facet, value, plugins)
        VALUES ('source', new.source_id, 1), ('type', new.type, 1), ('assurance', CAST(new.assurance_rank AS TEXT), 1)
        ON CONFLICT (facet, value) DO UPDATE SET plugins = plugins + 1;
    END
    """,
    """
    CREATE TRIGGER plugin_facets_unlisted AFTER DELETE ON plugins BEGIN
        UPDATE plugin_facets SET plugins = plugins - 1 WHERE (facet, value) IN (VALUES
            ('source', old.source_id), ('type', old.type), ('assurance', CAST(old.assurance_rank AS TEXT)));
        DELETE FROM plugin_facets WHERE plugins < 1 AND (facet, value) IN (VALUES
            ('source', old.source_id), ('type', old.type), ('assurance', CAST(old.assurance_rank AS TEXT)));
    END
    """,
    """
    CREATE TRIGGER plugin_facets_judged AFTER UPDATE OF type, assurance_rank ON plugins
    WHEN old.type <> new.type OR old.assurance_rank <> new.assurance_rank BEGIN
        INSERT INTO plugin_facets (facet, value, plugins)
        VALUES ('type', new.type, 1), ('assurance', CAST(new.assurance_rank AS TEXT), 1)
        ON CONFLICT (facet, value) DO UPDATE SET plugins = plugins + 1;
        UPDATE plugin_facets SET plugins = plugins - 1 WHERE (facet, value) IN (VALUES
            ('type', old.type), ('assurance', CAST(old.assurance_rank AS TEXT)));
        DELETE FROM plugin_facets WHERE plugins < 1 AND (facet, value) IN (VALUES
            ('type', old.type), ('assurance', CAST(old.assurance_rank AS TEXT)));
    END
    """,
    """
    CREATE TRIGGER plugin_facets_tagged AFTER INSERT ON plugin_tags BEGIN
        INSERT INTO plugin_facets (facet, value, plugins) VALUES ('tag', new.tag, 1)
        ON CONFLICT (facet, value) DO UPDATE SET plugins = plugins + 1;
    END
    """,
    """
    CREATE TRIGGER plugin_facets_untagged AFTER DELETE ON plugin_tags BEGIN
        UPDATE plugin_facets SET plugins = plugins - 1 WHERE facet = 'tag' AND value = old.tag;
        DELETE FROM plugin_facets WHERE plugins < 1 AND facet = 'tag' AND value = old.tag;
    END
    """,
)

CATALOGUE_PAGES: Final = (
    *FACETS,
    "CREATE INDEX plugins_by_assurance ON plugins (assurance_rank, updated_at, id)",
    "CREATE INDEX plugins_by_slug ON plugins (plugin_id)",
    "CREATE INDEX mirrored_plugins_by_plugin ON mirrored_plugins (source_id, plugin_id, mirror_date)",
    "CREATE INDEX sources_by_trust ON sources (trust_score) WHERE status = 'verified'",
)
