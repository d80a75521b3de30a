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

from pfn_node.store import catalogue, wordpress
from pfn_node.web.answers import Answer
from pfn_node.web.consumers import wordpress_answers as answers
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.consumers.upstream import Upstream
from pfn_node.web.consumers.wordpress import FORM, JSON, read_question
from pfn_node.web.consumers.wordpress_installed import (
    Installed,
    NotInstalled,
    installed,
    read_plugins,
    whose_id,
    whose_uri,
)
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes
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

    said: str  # a member of a JSON object: the file, and what there is of it
    is_newer: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What this node says of the plugins on a site."""

    updates: list[Update]
    others: list[str]  # files that the upstream may know


class WrittenUpdates(Answer):
    """The answer, of what was written as JSON before."""

    plugins: list[str]
    no_update: list[str]
    translations: list[Any]

    def model_dump_json(self, **options: Any) -> str:
        """The object that WordPress expects: each file by its name."""
        plugins, no_update, translations = ",".join(self.plugins), ",".join(self.no_update), _json(self.translations)
        return f'{{"plugins":{{{plugins}}},"no_update":{{{no_update}}},"translations":{translations}}}'


@routes.post(PATH, body=Bytes(FORM), answer=Bytes(JSON), plain=True, errors=(400, 413), in_document=False)
async def check_wordpress_updates(services: Services, body: bytes) -> WrittenUpdates:
    """Which of a site's plugins have a newer version."""
    base = own_url(services)
    form = read_question(body)
    try:
        plugins = read_plugins(str(form.get("plugins", "")))
    except NotInstalled as error:
        raise ApiError(400, f"The question cannot be read: {error}.") from None
    found = await _found(services, [installed(*one) for one in plugins.items()], base)
    answer = WrittenUpdates(
        plugins=[update.said for update in found.updates if update.is_newer],
        no_update=[update.said for update in found.updates if not update.is_newer],
        translations=[],
    )
    if services.upstream is None or not found.others:
        return answer
    others = await _of_others(services.upstream, form, {file: plugins[file] for file in found.others})
    return WrittenUpdates(
        plugins=[*others.plugins, *answer.plugins],
        no_update=[*others.no_update, *answer.no_update],
        translations=others.translations,
    )


async def _found(services: Services, plugins: list[Installed], base: str) -> Found:
    """What is known of these; what was found for other sites is kept until something changes."""
    kept = services.updates
    version = kept.version()
    known = {one: update for one in plugins if (update := kept.find((base, one))) is not None}
    missing = [one for one in plugins if one not in known]
    if not missing:
        return Found(list(known.values()), [])
    if len(missing) <= LOOKED_UP_AT_ONCE:
        found, others = services.database.read_now(lambda db: _find(db, missing, base))
    else:
        found, others = await services.database.read(lambda db: _find(db, missing, base))
    kept.keep({(base, one): update for one, update in found.items()}, version)
    return Found([*known.values(), *found.values()], others)


def _find(db: sqlite_utils.Database, plugins: list[Installed], base: str) -> tuple[dict[Installed, Update], list[str]]:
    updates, others = {}, []
    for one in plugins:
        source_id = _source_of(db, one, base)
        if source_id is None:
            if one.may_be_wordpress_orgs:
                others.append(one.file)
        elif one.slug is not None and (offer := wordpress.newest_offer(db, source_id, one.slug)) is not None:
            # WordPress installs whatever is among `plugins`, and compares nothing itself.
            newer = compare(offer.release.version, one.version) > 0
            updates[one] = Update(_member(one.file, answers.update(one.file, offer, base)), newer)
    return updates, others


def _source_of(db: sqlite_utils.Database, one: Installed, base: str) -> str | None:
    """Whose it is, as its headers say, or an admin where they say nothing; None: nobody's that is known here."""
    if one.slug is None:
        return None
    if one.names_nobody:
        return catalogue.slug_owner(db, one.slug)
    named = whose_uri(one.update_uri, one.slug, base) if one.update_uri else whose_id(one.plugin_id)
    if named is None:
        return None
    sources = wordpress.sources_listing(
        db, one.slug, source_id=named.source_id, instance_url=named.instance_url, public_key=named.public_key
    )
    if len(sources) == 1:
        return sources.pop()
    owner = catalogue.slug_owner(db, one.slug)
    return owner if owner in sources else None


async def _of_others(upstream: Upstream, form: Mapping[str, Any], plugins: Headers) -> WrittenUpdates:
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
    translations = said.get("translations")
    return WrittenUpdates(
        plugins=_of_files(said.get("plugins"), plugins),
        no_update=_of_files(said.get("no_update"), plugins),
        translations=translations if isinstance(translations, list) else [],
    )


def _of_files(said: object, plugins: Headers) -> list[str]:
    found = said if isinstance(said, dict) else {}
    return [_member(file, one) for file, one in found.items() if file in plugins and isinstance(one, dict)]


def _member(file: str, said: Mapping[str, Any]) -> str:
    return f"{_json(file)}:{_json(said)}"


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))
