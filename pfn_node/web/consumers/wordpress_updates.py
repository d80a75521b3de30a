"""Which of the plugins on a site have a newer version, for WordPress' update-check.

Whatever is answered for a file is installed in its place, so whose it is comes first (wordpress_installed.py). Of files
that name nobody, or WordPress' own directory, the upstream is asked, if there is one, unless an admin said that their
slug means a publisher's plugin here. What the upstream says of any other file is dropped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import sqlite_utils
from quart import Response

from pfn_node.store import catalogue, wordpress
from pfn_node.web.consumers import wordpress_answers as answers
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.consumers.upstream import Upstream
from pfn_node.web.consumers.wordpress import FORM, JSON, json_answer, read_question
from pfn_node.web.consumers.wordpress_installed import (
    Installed,
    NotInstalled,
    installed,
    read_plugins,
    whose_id,
    whose_uri,
)
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes, read_body
from pfn_node.web.services import Services
from pfn_protocol.versions import compare

routes = Routes("wordpress")

PATH: Final = "/plugins/update-check/1.1/"
# WordPress waits three seconds, and one more for ten plugins: what this node knows itself shall not come too late.
UPSTREAM_SECONDS_MAX: Final = 2.5
# Each takes about 60 us, by keys and indexes; more of them are looked up in a thread.
LOOKED_UP_AT_ONCE: Final = 50

Headers = Mapping[str, Mapping[str, Any]]  # by file


@dataclass(frozen=True, slots=True)
class Update:
    """What is said of one installed plugin."""

    said: Mapping[str, Any]
    is_newer: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What this node says of the plugins on a site."""

    updates: list[tuple[Installed, Update]]
    others: list[str]  # files that the upstream may know


@routes.post(PATH, body=Bytes(FORM), answer=Bytes(JSON), errors=(400, 413), in_document=False)
async def check_wordpress_updates(services: Services) -> Response:
    """Which of a site's plugins have a newer version."""
    form = read_question(await read_body(services.settings.body_bytes_max))
    try:
        plugins = read_plugins(str(form.get("plugins", "")))
    except NotInstalled as error:
        raise ApiError(400, f"The question cannot be read: {error}.") from None
    base = own_url(services)
    found = await _found(services, [installed(*one) for one in plugins.items()], base)
    answer: dict[str, Any] = {"plugins": {}, "no_update": {}, "translations": []}
    if services.upstream is not None and found.others:
        answer = await _of_others(services.upstream, form, {file: plugins[file] for file in found.others})
    for one, update in found.updates:
        answer["plugins" if update.is_newer else "no_update"][one.file] = update.said
    return json_answer(answer)


async def _found(services: Services, plugins: list[Installed], base: str) -> Found:
    """What is known of these; what was found for other sites is kept until something changes."""
    kept = services.updates
    version = kept.version()
    known = {one: update for one in plugins if (update := kept.find((base, one))) is not None}
    missing = [one for one in plugins if one not in known]
    if not missing:
        return Found(list(known.items()), [])
    if len(missing) <= LOOKED_UP_AT_ONCE:
        found = services.database.read_now(lambda db: _find(db, missing, base))
    else:
        found = await services.database.read(lambda db: _find(db, missing, base))
    kept.keep({(base, one): update for one, update in found.updates}, version)
    known.update(found.updates)
    return Found([(one, known[one]) for one in plugins if one in known], found.others)


def _find(db: sqlite_utils.Database, plugins: list[Installed], base: str) -> Found:
    updates, others = [], []
    for one in plugins:
        source_id = _source_of(db, one, base)
        if source_id is None:
            if one.may_be_wordpress_orgs:
                others.append(one.file)
        elif one.slug is not None and (offer := wordpress.newest_offer(db, source_id, one.slug)) is not None:
            # WordPress installs whatever is among `plugins`, and compares nothing itself.
            newer = compare(offer.release.version, one.version) > 0
            updates.append((one, Update(answers.update(one.file, offer, base), newer)))
    return Found(updates, others)


def _source_of(db: sqlite_utils.Database, one: Installed, base: str) -> str | None:
    """Whose it is, as its headers say, or an admin where they say nothing; None: nobody's that is known here."""
    if one.slug is None:
        return None
    owner = catalogue.slug_owner(db, one.slug)
    if one.names_nobody:
        return owner
    named = whose_uri(one.update_uri, one.slug, base) if one.update_uri else whose_id(one.plugin_id)
    if named is None:
        return None
    sources = wordpress.sources_listing(
        db, one.slug, source_id=named.source_id, instance_url=named.instance_url, public_key=named.public_key
    )
    if len(sources) == 1:
        return sources.pop()
    return owner if owner in sources else None


async def _of_others(upstream: Upstream, form: Mapping[str, Any], plugins: Headers) -> dict[str, Any]:
    """What the upstream says of these files, and of no others; nothing where it does not answer in time."""
    fields = {name: text for name, text in form.items() if name in ("translations", "locale", "all")}
    asked = json.dumps({"plugins": plugins, "active": list(plugins)})
    sent = urlencode(fields | {"plugins": asked}).encode("ascii")
    answer = await upstream.ask(PATH, form=sent, seconds_max=UPSTREAM_SECONDS_MAX)
    try:
        said = json.loads(answer.body) if answer is not None and answer.status == 200 else None
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    kept: dict[str, Any] = {name: _of_files(said.get(name), plugins) for name in ("plugins", "no_update")}
    translations = said.get("translations")
    return kept | {"translations": translations if isinstance(translations, list) else []}


def _of_files(said: object, plugins: Headers) -> dict[str, Any]:
    found = said if isinstance(said, dict) else {}
    return {file: one for file, one in found.items() if file in plugins and isinstance(one, dict)}
