"""What an operator and this node's own work are kept as, under one name: `registry.get_source`, `registry.set_fact`.

Each subject has its own module (sources, subscriptions, activity, keys, peers, facts); this one only gathers them,
for the rooms that deal with several at once.
"""

from pfn_node.store.activity import activities, activity_page, record_activity
from pfn_node.store.facts import get_fact, own_id, set_fact, set_identity, trust_depth
from pfn_node.store.keys import expire_key, find_key, insert_key, list_keys, revoke_key, touch_key
from pfn_node.store.peers import (
    add_join_target,
    forget_peer,
    get_peer,
    join_targets,
    peers,
    save_peer,
    set_peer_policy,
)
from pfn_node.store.sources import (
    SourceExists,
    delete_source,
    find_source_by_url,
    get_source,
    health_checks,
    insert_source,
    list_sources,
    record_health,
    record_verification,
    sources_of_host,
    summary_of,
    update_source,
    verifications,
)
from pfn_node.store.subscriptions import (
    clear_failures,
    delete_subscription,
    failures,
    hand_over_subscriptions,
    record_failure,
    set_subscription,
    subscriber_count,
    subscriptions,
)

__all__ = [
    "SourceExists",
    "activities",
    "activity_page",
    "add_join_target",
    "clear_failures",
    "delete_source",
    "delete_subscription",
    "expire_key",
    "failures",
    "find_key",
    "find_source_by_url",
    "forget_peer",
    "get_fact",
    "get_peer",
    "get_source",
    "hand_over_subscriptions",
    "health_checks",
    "insert_key",
    "insert_source",
    "join_targets",
    "list_keys",
    "list_sources",
    "own_id",
    "peers",
    "record_activity",
    "record_failure",
    "record_health",
    "record_verification",
    "revoke_key",
    "save_peer",
    "set_fact",
    "set_identity",
    "set_peer_policy",
    "set_subscription",
    "sources_of_host",
    "subscriber_count",
    "subscriptions",
    "summary_of",
    "touch_key",
    "trust_depth",
    "update_source",
    "verifications",
]
