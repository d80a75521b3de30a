"""What every request passes, and every answer gets: Host, rates, request ids, security headers, CORS.

Host: a page in somebody's browser can make a name of its own point at this node (DNS rebinding), and would then
read as if it were of the same origin. So only names that are the node's are answered: any IP literal (a page cannot
own one), localhost, the host of `--url`, and `--allowed-host`; else 421.

Rates: requests by address; and from an address that sent many requests of nodes whose signature was wrong, each of
which cost a check, none is heard for a while.

CORS: what anybody may read may be read by any page; nothing may be written by one. A key in a header makes a
browser ask first (preflight), and writes are refused there.
"""

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
import trio
from quart import Quart, Response, g, request

from pfn_node.settings import Settings
from pfn_node.web.errors import ApiError, as_api_error, error_response, too_many
from pfn_node.web.rate_limits import Address, RateLimit, bucket_name, client_address, is_trusted_proxy
from pfn_node.web.ready_answers import settle
from pfn_node.web.services import Services

# Nodes of a mesh talk more than people do; one node may be many behind one address.
NODE_RATE_FACTOR = 10
PREFLIGHT_SECONDS = 86_400

NODE_PREFIX = "/node/"
SESSION_PATH = "/session"  # what it answers is for pages of this node
_READ_METHODS = ("GET", "HEAD")

# Scripts come from files of the node alone, and no text ever becomes markup or script (Trusted Types without a policy).
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Read whole: a reader of URLs takes `[::1].evil.example` and `evil.example@localhost` for names of this node.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:@/\\?#]*)(?::[0-9]*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")  # what proxies make: hex digits, or a UUID
_CORS_EXPOSED = "ETag, Content-Range, Content-Disposition, PFN-Assurance, Repr-Digest, Retry-After, X-Request-ID"
_CORS_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID, Range"


def allowed_hosts(services: Services) -> frozenset[str]:
    """The names that the node answers to, besides IP literals."""
    named = {"localhost", services.settings.host, *services.settings.allowed_host}
    for url in (services.url, services.settings.url):
        named.add((urlsplit(url).hostname or "") if url else "")
    return frozenset(name.lower().rstrip(".") for name in named if name)


def host_is_allowed(header: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header names this node, and is nothing but a name or address, and a port."""
    parts = _HOST.fullmatch(header)
    if parts is None:
        return False
    host = parts[1].strip("[]").lower()
    if host.rstrip(".") in allowed:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Rates:
    """How much one address may ask. `bucket` is the name that it is counted under; None = exempt."""

    def __init__(self, settings: Settings, clock: Callable[[], float], counted: RateLimit | None = None) -> None:
        self._clock = clock
        self._all = counted or RateLimit(settings.requests_per_minute)
        self._of_nodes = RateLimit(settings.requests_per_minute * NODE_RATE_FACTOR)
        self._forged = RateLimit(settings.verifications_per_minute)

    def would_admit(self, bucket: str | None) -> bool:
        """Whether a request that no node makes would be none too many; it is not counted."""
        return bucket is None or not self._all.wait(bucket, self._clock())

    def admit(self, bucket: str | None) -> bool:
        """Count a request that no node makes; whether it is none too many."""
        return bucket is None or not self._all.take(bucket, self._clock())

    def check(self, path: str, bucket: str | None) -> None:
        """Count a request. Raises ApiError 429 for one too many."""
        if bucket is None:
            return
        of_node = path.startswith(NODE_PREFIX)
        limit = self._of_nodes if of_node else self._all
        wait = limit.take(bucket, self._clock())
        if wait:
            raise too_many(f"More than {limit.per_minute} requests a minute came from this address.", wait)
        wait = self._forged.wait(bucket, self._clock()) if of_node else 0.0
        if wait:
            raise too_many("Too many wrongly signed requests came from this address.", wait)

    def note(self, path: str, bucket: str | None, status: int) -> None:
        """Count what a node's request was answered with: 401 where its signature is wrong."""
        if bucket is not None and path.startswith(NODE_PREFIX) and status == HTTPStatus.UNAUTHORIZED:
            self._forged.take(bucket, self._clock())


def _request_id(settings: Settings) -> str:
    """The one that a trusted proxy gave, so that its log and ours tell of the same request; else a new one."""
    given = request.headers.get("X-Request-ID", "")
    if _REQUEST_ID.fullmatch(given) and is_trusted_proxy(request.remote_addr, settings.trusted_proxy):
        return given
    return secrets.token_hex(8)


ShowError = Callable[[ApiError, str], Awaitable[Response]]


async def show_data(error: ApiError, request_id: str) -> Response:
    """An error as the API's JSON."""
    return error_response(error, request_id)


class Gate:
    """What a request has to pass, and where it is counted."""

    def __init__(self, services: Services, clock: Callable[[], float]) -> None:
        self._trusted = services.settings.trusted_proxy
        self._hosts = allowed_hosts(services)
        self.rates = Rates(services.settings, clock, services.rate)
        self.metrics = services.metrics

    def allows(self, host: str) -> bool:
        """Whether a Host header names this node."""
        return host_is_allowed(host, self._hosts)

    def address_of(self, peer: str | None, forwarded: Sequence[str]) -> Address | None:
        """Who asks, where a peer and the values of X-Forwarded-For say so; None = not an IP connection."""
        return client_address(peer, forwarded, self._trusted)

    def bucket_of(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """The name under which the requests of who asks are counted; None = exempt."""
        return bucket_name(self.address_of(peer, forwarded))


def install(
    app: Quart,
    services: Services,
    show_error: ShowError = show_data,
    clock: Callable[[], float] = trio.current_time,
) -> Gate:
    """Put the gate before, and the finish behind, every route of the app. `show_error` makes an answer of an error and
    the id of its request."""
    gate = Gate(services, clock)

    async def enter() -> None:
        g.request_id = _request_id(services.settings)
        # Whatever is logged on the way, also in threads and in work that goes on afterwards, carries it.
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        g.started = clock()
        address = gate.address_of(request.remote_addr, request.headers.getlist("X-Forwarded-For"))
        g.address = None if address is None else str(address)
        g.bucket = bucket_name(address)
        if not gate.allows(request.headers.get("Host", "")):
            raise ApiError(
                421,
                "This node does not answer to that Host name. Use its address or its URL, or start it with "
                "--allowed-host NAME.",
            )
        gate.rates.check(request.path, g.bucket)

    async def leave(response: Response) -> Response:
        finish(response)
        route = request.url_rule.rule if request.url_rule else "none"
        response = await settle(response, services.ready, route)
        gate.rates.note(request.path, g.bucket, response.status_code)
        services.metrics.count(route, request.method, response.status_code, clock() - g.started)
        return response

    async def fail(error: Exception) -> Response:
        return await show_error(as_api_error(error), g.request_id)

    app.before_request(enter)
    app.after_request(leave)
    app.register_error_handler(Exception, fail)
    return gate


def finish(response: Response) -> None:
    """Give an answer the headers that it has to have."""
    headers = response.headers
    headers["X-Request-ID"] = g.request_id
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    is_page = response.mimetype == "text/html" and request.method != "OPTIONS"
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else DATA_POLICY)
    # With "no-referrer" browsers say "Origin: null" of a page's own forms.
    headers.setdefault("Referrer-Policy", "same-origin" if is_page else "no-referrer")
    shared = not (is_page or request.path.startswith((NODE_PREFIX, SESSION_PATH)))
    headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin" if shared else "same-origin")
    if shared and request.method in (*_READ_METHODS, "OPTIONS"):
        headers["Access-Control-Allow-Origin"] = "*"
        headers["Access-Control-Expose-Headers"] = _CORS_EXPOSED
    if shared and request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = ", ".join(_READ_METHODS)
        headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
