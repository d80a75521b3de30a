"""What WordPress' own client asks api.wordpress.org, for sites that are pointed at this node instead.

What is listed is backed and A1 or better, and nothing speaks against it (store/packages.py). A site knows plugins by a
bare slug: where several publishers have it, none is picked (store/wordpress.py). A plugin that is not known here is the
upstream's, if there is one (wordpress_passing.py).
"""

from collections.abc import Mapping
from typing import Any, Final

import sqlite_utils
from quart import Response, request

from pfn_node.store import wordpress
from pfn_node.store.wordpress import Question
from pfn_node.web.consumers import wordpress_answers as answers
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.consumers.php_form import NoForm, number_of, parts_of, read_form, text_of
from pfn_node.web.consumers.wordpress_passing import passed_on
from pfn_node.web.consumers.wordpress_zips import PluginUnknown, source_meant
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes, read_body
from pfn_node.web.schemas import QUERY_CHARACTERS_MAX
from pfn_node.web.services import Services
from pfn_protocol.limits import slug_chars_max, source_id_chars_max, tag_chars_max

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
    return await _info(services, read_question(request.query_string))


@routes.post("/plugins/info/1.2/", body=Bytes(FORM), answer=Bytes(JSON), errors=(400, 404, 413), in_document=False)
async def post_wordpress_info(services: Services) -> Response:
    """The same for clients that send a form."""
    return await _info(services, read_question(await read_body(services.settings.body_bytes_max)))


@routes.get("/plugins/info/1.0/<slug>.json", answer=Bytes(JSON), errors=(404,), in_document=False)
async def show_wordpress_plugin(services: Services, slug: str) -> Response:
    """One plugin, as older clients ask for it."""
    return await _plugin_information(services, {"slug": slug})


def read_question(raw: bytes) -> dict[str, Any]:
    """The fields of a query or a form. Raises ApiError 400."""
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
            return json_answer(answers.tags(await services.database.read(lambda db: wordpress.hot_tags(db, number))))
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
        return json_answer(answers.listing([], 0, page, per_page, ""))
    offers, total = await services.database.read(lambda db: wordpress.search_offers(db, question))
    return json_answer(answers.listing(offers, total, page, per_page, own_url(services)))


async def _plugin_information(services: Services, asked: dict[str, Any]) -> Response:
    slug = text_of(asked, "slug", slug_chars_max + 1) or ""
    fields = {name: turned not in ("0", "false", "") for name, turned in parts_of(asked, "fields").items()}
    base = own_url(services)

    try:
        return json_answer(*await services.database.read(lambda db: plugin_information(db, slug, fields, base)))
    except PluginUnknown:
        passed = await passed_on(services) if request.method == "GET" else None
        if passed is None:
            raise
        return passed


def plugin_information(
    db: sqlite_utils.Database, slug: str, fields: Mapping[str, bool], base: str
) -> tuple[dict[str, Any], int]:
    """What is known of the plugin that a slug means, and the status. Raises ApiError 404 where it means none."""
    source_id = source_meant(db, slug)
    versions = wordpress.offered_releases(db, source_id, slug)
    if versions:
        return answers.information(wordpress.offer_of(db, versions[0]), versions, fields, base), 200
    gone = wordpress.closed(db, source_id, slug)
    if gone is None:
        raise PluginUnknown
    return answers.closed(gone), 404


def json_answer(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(answers.encode(answer), status=status, content_type=JSON)
