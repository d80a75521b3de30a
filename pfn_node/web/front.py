"""Ready answers, written before any routing: a request that is nothing special is answered from its bytes alone.

An answer that is public and not ready is made here by the handler of its route, found in the map of routes, once the
usual way has shown how answers of that route begin; whatever goes wrong is left to the usual way.

The server shows the front what came on a connection where no other request is under way. It answers if that is
exactly one GET or HEAD, made of header fields that this module knows, for an answer that is ready (ready_answers.py);
everything else takes the usual way, which gives the same answer. So nothing has to be refused here, and whoever is
over a limit, names another Host or shows a key is dealt with where all are.

What the usual way does to a request is done here too: the check of the Host, the rate of the address and the figures
by the very objects of gate.py; the id of the request, Date and Content-Length are written anew; all other fields, CORS
and security among them, are those with which the usual way gave the answer.
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote

from pydantic import BaseModel
from werkzeug.routing import MapAdapter

from pfn_node.http1 import date_field
from pfn_node.safe_quart import MakeAnswer
from pfn_node.web.consumers.conditional import tag_of
from pfn_node.web.gate import Gate
from pfn_node.web.ready_answers import Making, ReadyAnswer, is_known
from pfn_node.web.routes import OPERATION_ATTRIBUTE, Operation, read_query
from pfn_node.web.services import Services

HEAD_BYTES_MAX: Final = 4_096
FIELDS_MAX: Final = 40
_MADE_BELOW: Final = "/federation/"

Clock = Callable[[], float]

_REMEMBERED_MAX: Final = 1_024  # Hosts, and clients; each some hundred bytes

# One request and nothing behind it, in the strictest form that there is. Each part begins with what the one before it
# cannot contain: the time to read it grows with its length alone.
_HEAD: Final = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n")
# Fields that change nothing of an answer that is the same for everybody. What frames a body, ends the connection, or
# shows a key or a session is not among them, nor is what nobody here has thought of.
_IDLE_FIELDS: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language cache-control dnt forwarded from origin pragma priority "
    b"referer save-data sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site "
    b"sec-fetch-user sec-gpc traceparent tracestate user-agent via x-forwarded-host x-forwarded-port x-forwarded-proto "
    b"x-real-ip".split()
)


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """What a request says that matters here."""

    method: str
    target: str
    host: str
    forwarded: tuple[str, ...]  # the values of X-Forwarded-For
    known: str | None  # If-None-Match


def read_plain(data: bytes) -> PlainRequest | None:
    """The request that these bytes are, if they are one and there is nothing special about it."""
    if len(data) > HEAD_BYTES_MAX:
        return None
    found = _HEAD.fullmatch(data)
    if found is None:
        return None
    host: str | None = None
    known: str | None = None
    forwarded: list[str] = []
    lines = found[3].split(b"\r\n")
    if len(lines) > FIELDS_MAX:
        return None
    for line in lines[:-1]:
        name, _, text = line.partition(b":")
        name = name.lower()
        if name in _IDLE_FIELDS:
            continue
        if name == b"host" and host is None:
            host = text.strip().decode("ascii")
        elif name == b"if-none-match" and known is None:
            known = text.strip().decode("ascii")
        elif name == b"x-forwarded-for":
            forwarded.append(text.strip().decode("ascii"))
        elif name != b"connection" or text.strip().lower() != b"keep-alive":
            return None
    if host is None:
        return None
    return PlainRequest(found[1].decode("ascii"), found[2].decode("ascii"), host, tuple(forwarded), known)


class Front:
    """Answers what is ready, or can be made by the handler of a route whose answers begin as they always do."""

    def __init__(
        self, services: Services, gate: Gate, routes: MapAdapter, views: Mapping[str, object], clock: Clock
    ) -> None:
        self._services = services
        self._gate = gate
        self._routes = routes
        self._views = views
        self._clock = clock
        self._is_allowed = lru_cache(_REMEMBERED_MAX)(gate.allows)
        self._bucket_of = lru_cache(_REMEMBERED_MAX)(gate.bucket_of)

    def __call__(self, data: bytes, peer: str) -> bytes | MakeAnswer | None:
        """The whole answer to what came from an address; or how to make it; None: it takes the usual way."""
        started = self._clock()
        plain = read_plain(data)
        if plain is None or not self._is_allowed(plain.host):
            return None
        bucket = self._bucket_of(peer, plain.forwarded)
        ready = self._services.ready.find(plain.target, self._services.now())
        if ready is None:
            may_be_made = plain.target.startswith(_MADE_BELOW) and self._gate.rates.would_admit(bucket)
            return partial(self._make, plain, bucket, started) if may_be_made else None
        return self._written(plain, bucket, ready, started)

    async def _make(self, plain: PlainRequest, bucket: str | None, started: float) -> bytes | None:
        """The answer, made as the usual way makes it, and kept; None: that one has to say why there is none."""
        path, _, query = plain.target.partition("?")
        making = Making(self._services.ready.version(), self._services.now())
        try:
            operation, given = self._operation_at(path)
            if operation.query is not None:
                given["query"] = read_query(operation.query, query.encode("ascii"))
            answer = await operation.handler(self._services, **given)
        except Exception:  # it happens again in the usual way, where errors are answered
            return None
        assert isinstance(answer, BaseModel)
        body = answer.model_dump_json().encode("utf-8")
        heads = self._services.ready.heads[operation.path]
        ready = ReadyAnswer(operation.path, tag_of(body), heads, body, making.made_at)
        self._services.ready.keep(plain.target, ready, making.version)
        return self._written(plain, bucket, ready, started)

    def _operation_at(self, path: str) -> tuple[Operation, dict[str, Any]]:
        """The operation that is ready for all at a path, and the parts of the path. Raises where there is none."""
        endpoint, parts = self._routes.match(unquote(path, errors="strict"), "GET")
        operation = getattr(self._views[endpoint], OPERATION_ATTRIBUTE)
        assert isinstance(operation, Operation)
        if not operation.ready or operation.path not in self._services.ready.heads:
            raise LookupError(path)
        return operation, dict(parts)

    def _written(self, plain: PlainRequest, bucket: str | None, ready: ReadyAnswer, started: float) -> bytes | None:
        if not self._gate.rates.admit(bucket):
            return None
        is_short = is_known(plain.known, ready.etag)
        each_time = b"etag: %b\r\nx-request-id: %b\r\ndate: %b\r\n" % (
            ready.etag.encode("ascii"),
            secrets.token_hex(8).encode("ascii"),
            date_field(int(time.time())),
        )
        self._gate.metrics.count(ready.route, plain.method, 304 if is_short else 200, self._clock() - started)
        if is_short:
            return b"%b%b\r\n" % (ready.heads.known, each_time)
        body = b"" if plain.method == "HEAD" else ready.body
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (ready.heads.whole, each_time, len(ready.body), body)
