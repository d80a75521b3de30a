"""Sources that peers told us of: which of their claims is shown, and when one is forgotten.

Every node may say anything about a source, so a discovered source is no more than the best claim about it: of a
pinned node that verified the key, then of any pinned node, then the earliest whose key this node has not found to be
wrong. Of a source that was relied on here before, only a claim of a key of its chain is shown. As soon as an admin
registers the source, or this node verifies it, no claim changes it any more. A verification that failed fixes nothing:
it speaks against the claim, and the next one is heard.

With a source that is forgotten goes what was kept of its keys and notices (statements_kept.py), or strangers could fill
the disk with sources that come and go.
"""

import json
import time
from typing import Final

import sqlite_utils

from pfn_node.store import releases
from pfn_node.store.facts import delete_fact, get_fact, set_fact
from pfn_node.store.key_changes import hear_key
from pfn_node.store.notices import look_again
from pfn_node.store.queries import Row, change, select, select_one, to_json, value
from pfn_node.store.statements_kept import forget_statements
from pfn_protocol.identity import public_key_pem

# Sources that are only heard of: as many as a registry page could still show; strangers must not fill the disk.
DISCOVERED_MAX: Final = 10_000
# Keys of one source that its publisher could not prove. A liar pays with one of its announcements for each.
DISPROVED_MAX: Final = 256


def reconsider(db: sqlite_utils.Database, source_id: str, before: Row | None) -> None:
    """Show a source as its best claim says, or forget it; judge its releases if its standing is not `before` any more.

    `before` is its standing before the claims about it changed.
    """
    known = select_one(db, "SELECT registered, verified_at, status, key_raw FROM sources WHERE id = ?", (source_id,))
    is_hearsay = known is not None and not known["registered"] and known["verified_at"] is None
    if known is None or (is_hearsay and known["status"] in ("discovered", "error")):
        claim = _best_claim(db, source_id)
        if claim is not None:
            _show(db, source_id, claim, is_new=known is None)
            if known is None or known["key_raw"] != claim["public_key"]:
                hear_key(db, source_id, claim["received_at"])
        elif known is not None:
            _forget(db, source_id)
    if standing(db, source_id) != before:
        look_again(db, source_id, int(time.time()))
        releases.refresh_source(db, source_id)


def reconsider_observer(db: sqlite_utils.Database, node_id: bytes) -> None:
    """Do so for every source that a node spoke of, because the operator's opinion of that node changed."""
    for row in select(db, "SELECT source_id FROM attestations WHERE observer = ?", (node_id,)):
        reconsider(db, row["source_id"], standing(db, row["source_id"]))


def disprove(db: sqlite_utils.Database, source_id: str, public_key: bytes) -> None:
    """Note that the publisher did not prove this key: if it is one that was only heard, the next claim is shown."""
    keys = [key for key in _disproved(db, source_id) if key != public_key.hex()]
    set_fact(db, _disproved_fact(source_id), json.dumps([*keys, public_key.hex()][-DISPROVED_MAX:]))
    reconsider(db, source_id, standing(db, source_id))


def _disproved(db: sqlite_utils.Database, source_id: str) -> list[str]:
    return list(json.loads(get_fact(db, _disproved_fact(source_id)) or "[]"))


def _disproved_fact(source_id: str) -> str:
    return f"disproved:{source_id}"


def standing(db: sqlite_utils.Database, source_id: str) -> Row | None:
    """What of a source decides about its releases: a key that does not count decides nothing, whatever it is."""
    return select_one(
        db,
        "SELECT CASE WHEN attested THEN key_raw END AS key, attested, oracle_in_force FROM known_sources WHERE id = ?",
        (source_id,),
    )


def _best_claim(db: sqlite_utils.Database, source_id: str) -> Row | None:
    return select_one(
        db,
        """
        SELECT a.*, coalesce(peers.pinned, 0) AS by_pinned
        FROM attestations AS a LEFT JOIN peers ON peers.node_id = a.observer
        WHERE a.source_id = ? AND a.admitted AND NOT coalesce(peers.blocked, 0)
          AND (NOT EXISTS (SELECT 1 FROM key_roots WHERE source_id = a.source_id AND relied) OR EXISTS (
            SELECT 1 FROM source_keys WHERE source_id = a.source_id AND key = a.public_key AND is_identity))
        ORDER BY coalesce(peers.pinned, 0) AND a.verified DESC, coalesce(peers.pinned, 0) DESC,
                 lower(hex(a.public_key)) IN (SELECT value FROM json_each(?)), a.received_at, a.observer
        LIMIT 1
        """,
        (source_id, to_json(_disproved(db, source_id))),
    )


def _show(db: sqlite_utils.Database, source_id: str, claim: Row, *, is_new: bool) -> None:
    is_full = is_new and value(db, "SELECT count(*) FROM sources WHERE status = 'discovered'") >= DISCOVERED_MAX
    if is_full and not (claim["by_pinned"] and _make_room(db)):
        return
    # Another id at the same URL and username cannot come from an accepted announcement; then the first one stays.
    change(
        db,
        """
        INSERT INTO sources (id, instance_url, username, public_key, status, created_at, asset_domain,
                             asset_naming_scheme, key_raw, host)
        VALUES (:id, :url, :username, :pem, 'discovered', :at, :domain, :scheme, :key, :host)
        ON CONFLICT (id) DO UPDATE SET
            status = CASE WHEN key_raw = excluded.key_raw AND instance_url = excluded.instance_url THEN status
                          ELSE excluded.status END,
            instance_url = excluded.instance_url, public_key = excluded.public_key, key_raw = excluded.key_raw,
            asset_domain = excluded.asset_domain, asset_naming_scheme = excluded.asset_naming_scheme
        ON CONFLICT DO NOTHING
        """,
        {
            "id": source_id,
            "url": claim["instance_url"],
            "username": claim["username"],
            "pem": public_key_pem(claim["public_key"]),
            "at": claim["received_at"],
            "domain": claim["asset_domain"] or None,
            "scheme": claim["asset_naming_scheme"] or None,
            "key": claim["public_key"],
            "host": source_id.partition("@")[2],
        },
    )


def _make_room(db: sqlite_utils.Database) -> bool:
    """Forget the newest source that only strangers spoke of; False if there is none."""
    newest = value(
        db,
        """
        SELECT id FROM sources AS s
        WHERE status = 'discovered' AND NOT registered AND verified_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE source_id = s.id)
          AND NOT EXISTS (SELECT 1 FROM mirrored_plugins WHERE source_id = s.id)
          AND NOT EXISTS (
            SELECT 1 FROM attestations JOIN peers ON peers.node_id = observer
            WHERE attestations.source_id = s.id AND admitted AND pinned AND NOT blocked)
        ORDER BY created_at DESC, id DESC LIMIT 1
        """,
    )
    return newest is not None and _forget(db, newest)


def _forget(db: sqlite_utils.Database, source_id: str) -> bool:
    """Forget a source and what was kept of it, unless it is in use; return whether it is gone."""
    gone = change(
        db,
        """
        DELETE FROM sources WHERE id = :id
          AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE source_id = :id)
          AND NOT EXISTS (SELECT 1 FROM mirrored_plugins WHERE source_id = :id)
        """,
        {"id": source_id},
    )
    if gone:
        forget_statements(db, source_id)
        delete_fact(db, _disproved_fact(source_id))
    return bool(gone)
