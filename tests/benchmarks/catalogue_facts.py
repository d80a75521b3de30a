"""A database with as many plugins and sources as a large mesh has, out of facts of real ones, or made up.

The facts are one JSON object a line (gzip): slug, name, version, author, tags, last_updated. Without a file of them,
names are made of a vocabulary whose words are as unevenly frequent as those of real texts are.
"""

import gzip
import hashlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

import sqlite_utils

from pfn_node.store.listing import list_plugin
from pfn_node.store.schema import migrations
from pfn_protocol.identity import PrivateKey, public_key_pem

PLUGINS = 60_000
SOURCES = 1_000
LEVELS = (("A1", "self", 70), ("A3", "release", 18), ("A2", "self", 6), ("reported", None, 4), ("A0", "self", 2))
FACTS_VARIABLE = "PFN_PLUGIN_FACTS"
_KEY = PrivateKey(bytes([2]) * 32)
_TEXT = """
    the for and with wordpress woocommerce post posts page pages simple admin widget content block form contact user
    image gallery menu slider seo security backup cache email login comment custom type field shortcode editor theme
    payment shipping product order analytics social share video map calendar event booking chat popup cookie redirect
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Facts:
    slug: str
    name: str
    version: str
    description: str
    tags: tuple[str, ...]
    updated_at: int


def load(db: sqlite_utils.Database, now: int, sources: int = SOURCES, plugins: int = PLUGINS) -> None:
    """Fill an empty database: all plugins mirrored and listed, all sources verified and trusted differently."""
    dice = random.Random(1)
    migrations.apply(db)
    with db.atomic():
        for number in range(sources):
            _insert_source(db, number, now, dice)
        for facts in islice(plugin_facts(now), plugins):
            # Some publishers have hundreds of plugins, most have a few.
            _insert_release(db, facts, int(sources * dice.random() ** 2), dice)


def plugin_facts(now: int) -> Iterator[Facts]:
    """Facts of `PLUGINS` plugins: of real ones as far as they reach, then made-up ones."""
    path = os.environ.get(FACTS_VARIABLE)
    dice = random.Random(2)
    real = _real(Path(path)) if path else iter(())
    made_up = (_made_up(number, now, dice) for number in range(PLUGINS))
    return islice(chain(real, made_up), PLUGINS)


def _real(path: Path) -> Iterator[Facts]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            fact = json.loads(line)
            updated = datetime.fromisoformat(fact["last_updated"] or "2010-01-01").replace(tzinfo=UTC)
            tags = tuple(fact["tags"])[:12]
            # Descriptions are left out of the facts; the name and the tags of real ones stand for their words.
            description = f"{fact['name']} by {fact['author']}: {', '.join(tags)}."
            yield Facts(fact["slug"], fact["name"], fact["version"], description, tags, int(updated.timestamp()))


def _made_up(number: int, now: int, dice: random.Random) -> Facts:
    words = [_WORDS[int(len(_WORDS) * dice.random() ** 2)] for _ in range(20)]
    name = " ".join(words[:4]).title()
    tags = tuple(dict.fromkeys(words[4:9]))
    updated_at = now - int(dice.random() ** 2 * 10 * 365 * 86_400)
    return Facts(f"made-up-{number}", name, f"1.{number % 50}.0", " ".join(words), tags, updated_at)


def source_id(number: int) -> str:
    return f"author-{number}@plugins-{number % 300}.example"


def _insert_source(db: sqlite_utils.Database, number: int, now: int, dice: random.Random) -> None:
    host = f"plugins-{number % 300}.example"
    db.table("sources").insert(
        {
            "id": source_id(number),
            "instance_url": f"https://{host}",
            "username": f"author-{number}",
            "public_key": public_key_pem(_KEY.public),
            "status": "verified" if number % 20 else "error",
            "trust_score": round(dice.random(), 4),
            "created_at": now - int(dice.random() * 60 * 86_400),
            "last_sync": now - number,
            "key_raw": _KEY.public,
            "host": host,
            "registered": 1,
            "verified_at": now - 3600,
        }
    )


def _insert_release(db: sqlite_utils.Database, facts: Facts, source: int, dice: random.Random) -> None:
    level, backed_by, _ = dice.choices(LEVELS, weights=[weight for _, _, weight in LEVELS])[0]
    sha256 = hashlib.sha256(f"{source} {facts.slug}".encode()).digest()
    held = backed_by is not None and dice.random() < 0.9
    described = {
        "source_id": source_id(source),
        "plugin_id": facts.slug,
        "version": facts.version,
        "name": facts.name,
        "description": facts.description,
    }
    db.table("releases").insert(
        described
        | {
            "type": "plugin" if dice.random() < 0.95 else "theme",
            "tags": json.dumps(facts.tags),
            "sha256": sha256,
            "size": int(10 ** (3 + 4 * dice.random())),
            "assurance": level,
            "backed": backed_by is not None,
            "mirrored": held,
            "conflict": 0,
            "disputed_by": "[]",
            "reported_by": "[]",
            "backed_by": backed_by,
            "icons": "{}",
            "observed_at": facts.updated_at,
        },
        replace=True,
    )
    if held:
        db.table("mirrored_plugins").insert(
            described | {"local_path": sha256.hex(), "mirror_date": facts.updated_at}, ignore=True
        )
    list_plugin(db, source_id(source), facts.slug, facts.updated_at)
