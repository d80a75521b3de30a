"""What a route is: a path, who may call it, what it takes and answers; declared once, used for serving and documenting.

    @routes.post("/federation/add-source", body=AddSource, answer=SourceAdded, scope="sources", errors=(409,))
    async def add_source(services: Services, body: AddSource) -> SourceAdded: ...

A handler gets what it declared, checked, by name: `body`, `query`, `key` (the caller's API key), parts of the path.
It returns the answer's model, or a Response where it streams. The order is fixed: who are you (401, 403), then what
do you want (400, 413). Wherever a key is taken, a session is; what changes something with either is audited.
A JSON body is read as JSON whatever its content type says; it is read up to a limit, in a deadline.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import pydantic
import trio
from pydantic import BaseModel
from quart import Quart, Response, g, request
from quart_schema.validation import (
    QUART_SCHEMA_QUERYSTRING_ATTRIBUTE,
    QUART_SCHEMA_REQUEST_ATTRIBUTE,
    QUART_SCHEMA_RESPONSE_ATTRIBUTE,
    DataSource,
)
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from pfn_node.artifacts.artifacts import OpenArtifact
from pfn_node.artifacts.response import artifact_response
from pfn_node.artifacts.store import StoredArtifact
from pfn_node.artifacts.stored_body import StoredBody
from pfn_node.safe_quart import SafeBody
from pfn_node.web.auditing import Auditing, Facts
from pfn_node.web.auth import Authenticator, Presented, Scope
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.percent import read_fields
from pfn_node.web.rate_limits import RateLimit, client_address
from pfn_node.web.ready_answers import Making
from pfn_node.web.services import Services
from pfn_node.web.session_tokens import CSRF_HEADER, is_same_origin, token_in

Handler = Callable[..., Awaitable[BaseModel | Response]]
H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=BaseModel)

OPERATION_ATTRIBUTE: Final = "_pfn_operation"

# A client that cannot send a megabyte in this time holds a connection for nothing.
BODY_SECONDS_MAX = 30.0
QUERY_FIELDS_MAX = 50
# Who has the zip of a digest has it for good. A cache that many share asks again after this time: what was taken down
# has to go from there too.
ZIP_SHARED_SECONDS = 60
KEPT_BY_DIGEST = f"public, max-age=31536000, s-maxage={ZIP_SHARED_SECONDS}, immutable"
KEPT_BY_NAME = f"public, max-age={ZIP_SHARED_SECONDS}"  # a version may get other bytes, when its publisher is asked
FIELDS_NAMED_MAX = 10  # wrong fields that an answer names


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that is not JSON, on the way in or out."""

    content_type: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One documented call."""

    method: str
    path: str
    handler: Handler
    answer: type[BaseModel] | Bytes
    tag: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | Bytes | None = None
    scope: Scope | None = None
    needs_key: bool = False  # any key will do, whatever its scopes
    needs_master: bool = False
    takes_key: bool = False  # anybody may call; a key changes the answer
    takes_session: bool = True  # in the place of the key
    verifies: bool = False  # anybody may call, and it costs signature checks or reading a file: fewer a minute
    ready: bool = False  # made of the store and the time alone: kept as bytes until either changes (ready_answers.py)
    plain: bool = False  # made of nothing of a request but what is declared here; anybody may call
    errors: tuple[int, ...] = ()
    in_document: bool = True

    @property
    def protected(self) -> bool:
        return self.needs_key or self.needs_master or self.scope is not None

    @property
    def is_plain(self) -> bool:
        """Whether the front may have the handler answer (front.py)."""
        return self.ready or self.plain

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET"


@dataclass(slots=True)
class Routes:
    """The calls of one subject."""

    tag: str
    operations: list[Operation] = field(default_factory=list)

    def get(self, path: str, **declared: Any) -> Callable[[H], H]:
        """Declare a GET (and with it a HEAD); the keywords are fields of Operation."""
        return self._declare("GET", path, declared)

    def post(self, path: str, **declared: Any) -> Callable[[H], H]:
        """Declare a POST."""
        return self._declare("POST", path, declared)

    def delete(self, path: str, **declared: Any) -> Callable[[H], H]:
        """Declare a DELETE."""
        return self._declare("DELETE", path, declared)

    def _declare(self, method: str, path: str, declared: Mapping[str, Any]) -> Callable[[H], H]:
        def keep(handler: H) -> H:
            self.operations.append(Operation(method, path, handler, tag=self.tag, **declared))
            return handler

        return keep


@dataclass(frozen=True, slots=True)
class Checks:
    """What stands between a request and its handler, one for the whole app."""

    authenticator: Authenticator
    auditing: Auditing
    verifications: RateLimit  # calls that make the node check signatures, by address


def install(app: Quart, services: Services, checks: Checks, operation: Operation) -> None:
    """Make the app serve an operation."""
    assert not (operation.is_plain and (operation.protected or operation.takes_key)), "these answers are everybody's"

    async def answer_to(parts: Mapping[str, Any], facts: Facts) -> Response:
        given: dict[str, Any] = dict(parts)
        if operation.protected or operation.takes_key:
            given |= await _identify(services, checks.authenticator, operation, facts)
        if operation.query is not None:
            given["query"] = read_query(operation.query, request.query_string)
        if isinstance(operation.body, type):
            given["body"] = await read_json(operation.body, services.settings.body_bytes_max)
            facts.note_body(given["body"])
        elif operation.plain and operation.body is not None:
            given["body"] = await read_body(services.settings.body_bytes_max)
        answer = await operation.handler(services, **given)
        return answer if isinstance(answer, Response) else json_response(answer)

    async def view(**parts: Any) -> Response:
        if operation.ready:
            g.making = Making(services.ready.version(), services.now())
        g.is_plain = operation.is_plain
        if operation.verifies:
            _take_verification(checks.verifications)
        facts = Facts(f"{operation.method} {operation.path}", g.address)
        if operation.protected and not operation.reads:
            return await checks.auditing.watch(facts, lambda: answer_to(parts, facts))
        return await answer_to(parts, facts)

    view.__name__ = operation.handler.__name__
    view.__doc__ = operation.handler.__doc__
    _describe(view, operation)
    app.add_url_rule(
        operation.path,
        f"{operation.method.lower()}_{operation.handler.__name__}",
        view,
        methods=[operation.method],
        strict_slashes=False,
    )


def _take_verification(limit: RateLimit) -> None:
    wait = limit.take(g.bucket, trio.current_time()) if g.bucket else 0.0
    if wait:
        raise too_many(f"More than {limit.per_minute} calls a minute that verify came from this address.", wait)


async def _identify(
    services: Services, authenticator: Authenticator, operation: Operation, facts: Facts
) -> dict[str, Any]:
    """Who makes the request, as the handler wants it; `g.caller` tells it whether through a session."""
    who = presented(
        services,
        facts,
        reads=operation.reads,
        takes_session=operation.takes_session and not operation.needs_master,
    )
    if operation.needs_master:
        await authenticator.require_master(who)
        return {}
    g.caller = await (
        authenticator.optional(who) if operation.takes_key else authenticator.require(who, operation.scope)
    )
    return {"key": g.caller.key if g.caller else None}


def presented(
    services: Services, facts: Facts, *, reads: bool, takes_session: bool = True, csrf: str | None = None
) -> Presented:
    """What the request shows of who makes it. `csrf` is the token that a form carries in the header's place."""
    headers = request.headers
    host, secure = headers.get("Host", ""), is_secure(services)
    return Presented(
        authorization=headers.get("Authorization"),
        session=token_in(request.cookies, host, secure=secure) if takes_session else None,
        csrf=csrf or headers.get(CSRF_HEADER),
        same_origin=is_same_origin(headers.get("Origin"), headers.get("Sec-Fetch-Site"), host, secure=secure),
        reads=reads,
        bucket=g.bucket,
        facts=facts,
    )


def is_secure(services: Services) -> bool:
    """Whether the browser speaks https: to a proxy in front that says so, or at the node's own URL."""
    peer = client_address(request.remote_addr, (), ())
    trusted = services.settings.trusted_proxy
    if peer is not None and any(peer in network for network in trusted) and "X-Forwarded-Proto" in request.headers:
        return request.headers["X-Forwarded-Proto"].strip().lower() == "https"
    url = urlsplit(services.url or "")
    return url.scheme == "https" and url.netloc.lower() == request.headers.get("Host", "").lower()


def _describe(view: Any, operation: Operation) -> None:
    """Leave what quart-schema looks for when it makes the document."""
    setattr(view, OPERATION_ATTRIBUTE, operation)
    if operation.query is not None:
        setattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, operation.query)
    if isinstance(operation.body, type):
        setattr(view, QUART_SCHEMA_REQUEST_ATTRIBUTE, (operation.body, DataSource.JSON))
    if isinstance(operation.answer, type):
        setattr(view, QUART_SCHEMA_RESPONSE_ATTRIBUTE, {200: (operation.answer, None)})


def json_response(answer: BaseModel, status: int = 200) -> Response:
    """An answer as JSON."""
    return Response(answer.model_dump_json(), status=status, content_type="application/json")


def read_query(model: type[M], query_string: bytes) -> M:
    """The query string as its model; the first of a repeated field counts. Raises ApiError 400."""
    try:
        pairs = read_fields(query_string, QUERY_FIELDS_MAX)
    except ValueError:
        raise ApiError(
            400,
            "The query string cannot be read: percent-encoded UTF-8 is expected, and at most "
            f"{QUERY_FIELDS_MAX} fields.",
        ) from None
    given: dict[str, str] = {}
    for name, text in pairs:
        given.setdefault(name, text)
    try:
        return model.model_validate(given)
    except pydantic.ValidationError as error:
        raise refused(error, "The query") from None


async def read_json(model: type[M], bytes_max: int) -> M:
    """The body of the request as its model. Raises ApiError 400, 408 or 413."""
    raw = await read_body(bytes_max)
    if not raw:
        raise ApiError(400, "The body is empty; a JSON object is expected.")
    try:
        return model.model_validate_json(raw)
    except pydantic.ValidationError as error:
        raise refused(error, "The body") from None


async def read_body(bytes_max: int, seconds_max: float = BODY_SECONDS_MAX) -> bytes:
    """The whole body of the request, in memory. Raises ApiError 408 or 413."""
    parts: list[bytes] = []
    await stream_body(parts.append, bytes_max, seconds_max)
    return b"".join(parts)


async def stream_body(sink: Callable[[bytes], object], bytes_max: int, seconds_max: float) -> int:
    """Give the body to `sink` as it comes; return its size. Raises ApiError 408 or 413, before reading where it can."""
    too_large = ApiError(413, f"The body is larger than the {bytes_max} bytes that this call takes.")
    if request.content_length is not None and request.content_length > bytes_max:
        raise too_large
    request.max_content_length = bytes_max
    body = request.body
    if isinstance(body, SafeBody):
        body.deadlines = replace(body.deadlines, total_seconds=seconds_max)
    size = 0
    try:
        async for chunk in body:
            size += len(chunk)
            sink(chunk)
    except RequestEntityTooLarge:
        raise too_large from None
    except RequestTimeout:
        raise ApiError(408, f"The body did not come within {seconds_max:g} seconds, or it stalled.") from None
    return size


async def file_response(
    opened: OpenArtifact | StoredArtifact,
    *,
    etag: str,
    filename: str,
    headers: Mapping[str, str],
    redirect: bool = False,
) -> Response:
    """An artifact with ranges and conditions; a range outside of it is our own kind of error. Closes the descriptor.

    `redirect`: what lies in an object store is fetched there, if it can be. Raises ArtifactError of what lies there.
    """
    response = await artifact_response(opened, etag=etag, filename=filename, headers=headers)
    if response.status_code == 416:
        raise ApiError(
            416,
            f"The range lies outside of the file, which has {opened.size} bytes.",
            headers={"Content-Range": response.headers["Content-Range"]},
        )
    body = response.response
    if isinstance(body, StoredBody) and request.method == "GET":
        url = await body.signed_url() if redirect else None
        if url is not None:
            # Who is sent there and does not check what he gets has headers here that say what it has to be.
            return Response("", 302, {**headers, "Location": url, "ETag": f'"{etag}"', "Cache-Control": "no-store"})
        await body.prepare()
    return response


def refused(error: pydantic.ValidationError, what: str) -> ApiError:
    """The 400 for input that does not fit its model: names fields and rules, never quotes the input."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:FIELDS_NAMED_MAX]
    if problems[0]["type"] == "json_invalid":
        return ApiError(400, f"{what} is not JSON in UTF-8: {problems[0]['msg'].removeprefix('Invalid JSON: ')}.")
    if problems[0]["type"] == "model_type" and not problems[0]["loc"]:
        return ApiError(400, f"{what} has to be a JSON object.")
    fields = [{"field": ".".join(map(str, found["loc"])), "problem": _problem(found["msg"])} for found in problems]
    listed = "; ".join(
        f"{entry['field']}: {entry['problem']}" if entry["field"] else entry["problem"] for entry in fields
    )
    return ApiError(400, f"{what} is not as expected: {listed}.", details={"fields": fields})


def _problem(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]
