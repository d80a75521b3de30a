"""/about/...: what the words on the other pages mean, each with an example out of this very node."""

from typing import Any

import sqlite_utils

from pfn_node.sources.trust import NEWCOMER_CAP, ORACLE_CAP, WEIGHTS
from pfn_node.store import showcase
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.rendering import LEVELS
from pfn_node.web.services import Services

pages = Pages()

# How each level is reached (SPEC.md, R94 and R150 to R154).
REACHED = {
    "reported": "A node that nobody here pins announced it. Pin a node that saw it, let this node see it at its "
    "publisher, or have its author hand in a signed release.",
    "A0": "This node, or one that it pins, fetched the bytes from the publisher’s own server.",
    "A1": "As A0; and the publisher’s key, which is known here, signed the name, version and description.",
    "A2": "Three nodes fetched the same bytes from the publisher: two of them this one or pinned here, the third "
    "pinned by a pinned one at least; and no pinned node got others.",
    "A3": "The publisher signed a statement (profile v2) that names this digest. Its key is known here, and it is "
    "known to sign nothing that a stranger hands it.",
    "A4": "As A3, signed by a release key of its own; besides, three nodes witnessed the bytes, and the publisher’s "
    "signed list of all its releases is not older than two weeks.",
}
# What each part of the trust score asks.
PARTS = {
    "verifications": ("Verifications", "Does the publisher prove its key whenever it is asked, over 90 days?"),
    "uptime": ("Uptime", "Does its server answer, and quickly?"),
    "signatures": ("Signatures", "How well are the releases signed that this node saw itself?"),
    "age": ("Age", "On how many days has it proved its key so far? A half is reached after about 83."),
    "subscribers": ("Subscribers", "How many keys of this node subscribe to it? They give a tenth at most."),
}


@pages.get("/about/assurance", "about_assurance.html", title="Assurance", twin="/federation/plugins")
async def show_assurance(services: Services, visitor: Visitor) -> dict[str, Any]:
    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        return {
            "examples": {level: showcase.newest_at(db, level) for level in LEVELS},
            "having": showcase.plugins_at(db),
        }

    return await services.database.read(read) | {"reached": REACHED}


@pages.get("/about/trust", "about_trust.html", title="Trust", twin="/federation/sources")
async def show_trust(services: Services, visitor: Visitor) -> dict[str, Any]:
    best = await services.database.read(lambda db: showcase.most_trusted(db, 1))
    source = best[0][0] if best else None
    explained = {part["part"]: part for part in source.trust_explained} if source else {}
    return {
        "source": source,
        "explained": explained,
        "parts_of_trust": [(name, *PARTS[name], weight) for name, weight in WEIGHTS.items()],
        "newcomer_cap": NEWCOMER_CAP,
        "oracle_cap": ORACLE_CAP,
    }
