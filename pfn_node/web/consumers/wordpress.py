"""What WordPress' own client asks api.wordpress.org, for sites that are pointed at this node instead.

What is listed is backed and A1 or better, and nothing speaks against it (store/packages.py). A site knows plugins by a
bare slug: where several publishers have it, none is picked (store/wordpress.py). What is installed already is only
answered for where it says itself that it comes from here, or an admin said so (wordpress_installed.py).
"""

import json
from typing import Any, Final

import sqlite_utils
from quart import Response, request

from pfn_node.store import catalogue, wordpress
from pfn_node.store.wordpress import Offer, Question
from pfn_node.web.consumers import wordpress_answers as answers
from pfn_node.web.consumers import wordpress_installed as installed
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.consumers.php_form import NoForm, number_of, parts_of, read_form, text_of
from pfn_node.web.consumers.wordpress_installed import Installed
from pfn_node.web.consumers.wordpress_zips import source_meant
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes, read_body
from pfn_node.web.schemas import QUERY_CHARACTERS_MAX
from pfn_node.web.services import Services
from pfn_protocol.limits import slug_chars_max, source_id_chars_max, tag_chars_max
from pfn_protocol.versions import compare

routes = Routes("wordpress")

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
PER_PAGE_DEFAULT: Final = 24
PER_PAGE_MAX: Final = 250
PAGE_MAX: Final = 2_000
TAGS_DEFAULT: Final = 100
TAGS_MAX: Final = 500
ACTION_CHARACTERS_MAX: Final = 64
BROWSE: Final = frozenset({"featured", "popular", "recommended", "new", "updated"})


@routes.get("/plugins/info/1.2/", answer=Bytes(JSON), errors=(400, 404), in_document=False)
async def show_wordpress_info(services: Services) -> Response:
    """Plugins for a site: lists, one plugin, tags."""
    return await _info(services, _form(request.query_string))


@routes.post("/plugins/info/1.2/", body=Bytes(FORM), answer=Bytes(JSON), errors=(400, 404, 413), in_document=False)
async def post_wordpress_info(services: Services) -> Response:
    """The same for clients that send a form."""
    return await _info(services, _form(await read_body(services.settings.body_bytes_max)))


@routes.get("/plugins/info/1.0/<slug>.json", answer=Bytes(JSON), errors=(404,), in_document=False)
async def show_wordpress_plugin(services: Services, slug: str) -> Response:
    """One plugin, as older clients ask for it."""
    return await _plugin_information(services, {"slug": slug})


def _form(raw: bytes) -> dict[str, Any]:
    try:
        return read_form(raw)
    except NoForm as error:
        raise ApiError(400, f"The question cannot be read: {error}.") from None


async def _info(services: Services, given: dict[str, Any]) -> Response:
    asked = parts_of(given, "request")
    match text_of(given, "action", ACTION_CHARACTERS_MAX):
        case "query_plugins":
            return await _query_plugins(services, asked)
        case "plugin_information":
            return await _plugin_information(services, asked)
        case "hot_tags":
            number = number_of(asked, "number", TAGS_DEFAULT, TAGS_MAX)
            return _answer(answers.tags(await services.database.read(lambda db: wordpress.hot_tags(db, number))))
    raise ApiError(400, "The action has to be query_plugins, plugin_information or hot_tags.")


async def _query_plugins(services: Services, asked: dict[str, Any]) -> Response:
    per_page = number_of(asked, "per_page", PER_PAGE_DEFAULT, PER_PAGE_MAX)
    page = number_of(asked, "page", 1, PAGE_MAX)
    browse = text_of(asked, "browse", ACTION_CHARACTERS_MAX)
    question = Question(
        search=text_of(asked, "search", QUERY_CHARACTERS_MAX),
        tag=text_of(asked, "tag", tag_chars_max),
        author=text_of(asked, "author", source_id_chars_max),
        browse=browse if browse in BROWSE else None,
        limit=per_page,
        offset=(page - 1) * per_page,
    )
    # Nobody has favourites here, and no version is out before it is out.
    if "user" in asked or browse in ("favorites", "beta"):
        return _answer(answers.listing([], 0, page, per_page, ""))
    offers, total = await services.database.read(lambda db: wordpress.search_offers(db, question))
    return _answer(answers.listing(offers, total, page, per_page, own_url(services)))


async def _plugin_information(services: Services, asked: dict[str, Any]) -> Response:
    slug = text_of(asked, "slug", slug_chars_max + 1) or ""
    fields = {name: turned not in ("0", "false", "") for name, turned in parts_of(asked, "fields").items()}
    base = own_url(services)

    def read(db: sqlite_utils.Database) -> tuple[dict[str, Any], int]:
        source_id = source_meant(db, slug)
        versions = wordpress.offered_releases(db, source_id, slug)
        if versions:
            return answers.information(wordpress.offer_of(db, versions[0]), versions, fields, base), 200
        gone = wordpress.closed(db, source_id, slug)
        if gone is None:
            raise ApiError(404, answers.NOT_FOUND)
        return answers.closed(gone), 404

    return _answer(*await services.database.read(read))


@routes.post("/plugins/update-check/1.1/", body=Bytes(FORM), answer=Bytes(JSON), errors=(400, 413), in_document=False)
async def check_wordpress_updates(services: Services) -> Response:
    """Which of a site's plugins have a newer version here."""
    given = _form(await read_body(services.settings.body_bytes_max))
    try:
        found = installed.read_installed(str(given.get("plugins", "")))
    except installed.NotInstalled as error:
        raise ApiError(400, f"The question cannot be read: {error}.") from None
    base = own_url(services)
    offers = await services.database.read(lambda db: _offers_for(db, found, base))
    answer: dict[str, dict[str, Any]] = {"plugins": {}, "no_update": {}}
    for one, offer in offers:
        # WordPress installs whatever is among `plugins`, and compares nothing itself.
        newer = compare(offer.release.version, one.version) > 0
        answer["plugins" if newer else "no_update"][one.file] = answers.update(one.file, offer, base)
    return _answer(answer | {"translations": []})


def _offers_for(db: sqlite_utils.Database, found: list[Installed], base: str) -> list[tuple[Installed, Offer]]:
    """What may be installed in the place of each, where this node may say so."""
    offers = []
    for one in found:
        source_id = _source_of(db, one, base)
        if source_id is not None and one.slug is not None:
            offer = wordpress.newest_offer(db, source_id, one.slug)
            if offer is not None:
                offers.append((one, offer))
    return offers


def _source_of(db: sqlite_utils.Database, one: Installed, base: str) -> str | None:
    """Whose plugin it is; None: nobody's that this node may answer for."""
    if one.slug is None:
        return None
    owner = catalogue.slug_owner(db, one.slug)
    if one.names_nobody:
        return owner
    named = installed.whose_uri(one.update_uri, one.slug, base) if one.update_uri else installed.whose_id(one.plugin_id)
    if named is None:
        return None
    sources = wordpress.sources_listing(
        db, one.slug, source_id=named.source_id, instance_url=named.instance_url, public_key=named.public_key
    )
    if len(sources) == 1:
        return sources.pop()
    return owner if owner in sources else None


def _answer(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(answer, separators=(",", ":")), status=status, content_type=JSON)
