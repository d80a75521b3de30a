"""What a site asks api.wordpress.org besides plugins, passed on to the upstream where the operator set one.

Without it a site that is pointed at this node hears nothing of new versions of WordPress itself, of themes, and of
plugins that come from elsewhere. Not passed on is secret-key: whoever hands out the secrets of new sites knows them;
WordPress makes its own then.
"""

import re
from typing import Final

from quart import Response, request

from pfn_node.web.consumers.upstream import FORM
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes, read_body
from pfn_node.web.services import Services

routes = Routes("wordpress")

TEXT: Final = "text/plain; charset=utf-8"
AREAS: Final = "<any(core,themes,translations,events,patterns):area>"
QUERY_CHARACTERS_MAX: Final = 8_192
_PART: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
_PATH: Final = re.compile(rf"(/{_PART}){{1,6}}/?")
_QUERY: Final = re.compile(r"[!$-~]*")  # ASCII that is seen, but for quotes and the sign that ends a query


@routes.get(f"/{AREAS}/<path:rest>", answer=Bytes(TEXT), errors=(404, 502), in_document=False)
async def pass_wordpress_question(services: Services, area: str, rest: str) -> Response:
    """What the upstream says."""
    return await _pass_on(services, None)


@routes.post(f"/{AREAS}/<path:rest>", body=Bytes(FORM), answer=Bytes(TEXT), errors=(404, 413, 502), in_document=False)
async def pass_wordpress_form(services: Services, area: str, rest: str) -> Response:
    """The same for what is asked with a form."""
    return await _pass_on(services, await read_body(services.settings.body_bytes_max))


async def _pass_on(services: Services, form: bytes | None) -> Response:
    if services.upstream is None:
        raise ApiError(
            404,
            "This node answers for plugins only: its operator named no upstream for anything else "
            "(PFN_WORDPRESS_UPSTREAM).",
        )
    answer = await passed_on(services, form)
    if answer is None:
        raise ApiError(502, "The upstream gave no answer.")
    return answer


async def passed_on(services: Services, form: bytes | None = None) -> Response | None:
    """The upstream's answer to the request, as JSON or text and never as a page; None: there is none.

    Raises ApiError 404 for a path or query that the upstream cannot have.
    """
    query = request.query_string.decode("latin-1")
    is_sound = len(query) <= QUERY_CHARACTERS_MAX and _QUERY.fullmatch(query) and _PATH.fullmatch(request.path)
    if services.upstream is None:
        return None
    if not is_sound:
        raise ApiError(404, "There is nothing at this path.")
    answer = await services.upstream.ask(request.path, query, form)
    if answer is None:
        return None
    return Response(answer.body, status=answer.status, content_type="application/json" if answer.is_json else TEXT)
