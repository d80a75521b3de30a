"""Ready answers, written before any routing: a request that is nothing special is answered from its bytes alone.

An answer that is public and not ready is made here by the handler of its route, found in the map of routes, once the
usual way has shown how answers of that route begin; whatever goes wrong is left to the usual way.

The server shows the front what came on a connection where no other request is under way. It answers if that is
exactly one request, made of header fields that this module knows: a GET or HEAD for an answer that is ready
(ready_answers.py) or can be made ready, or a POST that came whole, of a route that wants no more than its body;
everything else takes the usual way, which gives the same answer. So nothing has to be refused here, and whoever is
over a limit, names another Host or shows a key is dealt with where all are.

What the usual way does to a request is done here too: the check of the Host, the rate of the address and the figures
by the very objects of gate.py; the id of the request, Date and Content-Length are written anew; all other fields, CORS
and security among them, are those with which the usual way gave the answer.
"""

import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote

import trio
from pydantic import BaseModel
from werkzeug.routing import MapAdapter

from pfn_node.http1 import date_field
from pfn_node.safe_quart import MakeAnswer, WholeAnswer
from pfn_node.store.database import StoreError
from pfn_node.web.consumers.conditional import tag_of
from pfn_node.web.gate import Gate
from pfn_node.web.ready_answers import Making, ReadyAnswer, is_known
from pfn_node.web.routes import OPERATION_ATTRIBUTE, Operation, read_query
from pfn_node.web.services import Services

HEAD_BYTES_MAX: Final = 4_096
FIELDS_MAX: Final = 40
_MADE_BELOW: Final = ("/federation/", "/plugins/update-check/")

Clock = Callable[[], float]

_REMEMBERED_MAX: Final = 1_024  # Hosts, clients, and heads of requests; each some hundred bytes, 8 KiB at most

# The head of a request and nothing behind it, in the strictest form that there is. Each part begins with what the one
# before it cannot contain: the time to read it grows with its length alone.
REQUEST_HEAD: Final = re.compile(rb"(GET|HEAD|POST) (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n")
# Fields that change nothing of an answer that is the same for everybody. What frames a body, ends the connection, or
# shows a key or a session is not among them, nor is what nobody here has thought of.
_IDLE_FIELDS: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language cache-control content-type dnt forwarded from origin "
    b"pragma priority referer save-data sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode "
    b"sec-fetch-site sec-fetch-user sec-gpc traceparent tracestate user-agent via x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-real-ip".split()
)


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """What a request says that matters here."""

    method: str
    target: str
    host: str
    forwarded: tuple[str, ...]  # the values of X-Forwarded-For
    known: str | None  # If-None-Match
    length: int  # of the body, in bytes


def read_plain(head: bytes) -> PlainRequest | None:
    """The request that begins with this head, if there is nothing special about it."""
    if len(head) > HEAD_BYTES_MAX:
        return None
    found = REQUEST_HEAD.fullmatch(head)
    if found is None:
        return None
    host: str | None = None
    known: str | None = None
    length: int | None = None
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
        elif name == b"content-length" and length is None and text.strip().isdigit():
            length = int(text)
        elif name != b"connection" or text.strip().lower() != b"keep-alive":
            return None
    # A POST has a body, and nothing else here has one.
    if host is None or (length is not None) != (found[1] == b"POST"):
        return None
    method, target = found[1].decode("ascii"), found[2].decode("ascii")
    return PlainRequest(method, target, host, tuple(forwarded), known, length or 0)


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
        self._read = lru_cache(_REMEMBERED_MAX)(read_plain)  # a client's requests begin alike
        self._under_way: dict[str, trio.Event] = {}  # what is being made, by target

    def __call__(self, data: bytes, peer: str) -> WholeAnswer | MakeAnswer | None:
        """The whole answer to what came from an address; or how to make it; None: it takes the usual way."""
        started = self._clock()
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
        plain = self._read(data[:end])
        if plain is None or len(data) - end != plain.length or not self._is_allowed(plain.host):
            return None
        bucket = self._bucket_of(peer, plain.forwarded)
        try:
            ready = None if plain.method == "POST" else self._services.ready.find(plain.target, self._services.now())
        except (StoreError, sqlite3.Error):
            return None  # the usual way says what is wrong with the store
        if ready is None:
            if not plain.target.startswith(_MADE_BELOW) or not self._gate.rates.would_admit(bucket):
                return None
            if plain.method == "POST":
                return partial(self._make, plain, data[end:], bucket, started)
            return partial(self._make_once, plain, bucket, started)
        return self._written(plain, bucket, ready, started)

    async def _make_once(self, plain: PlainRequest, bucket: str | None, started: float) -> WholeAnswer | None:
        """As `_make`; but whoever asks the same meanwhile waits for the first: every commit finds many who ask."""
        under_way = self._under_way.get(plain.target)
        if under_way is not None:
            await under_way.wait()
            with suppress(StoreError, sqlite3.Error):
                if (ready := self._services.ready.find(plain.target, self._services.now())) is not None:
                    return self._written(plain, bucket, ready, started)
        done = self._under_way[plain.target] = trio.Event()
        try:
            return await self._make(plain, b"", bucket, started)
        finally:
            done.set()
            if self._under_way.get(plain.target) is done:
                del self._under_way[plain.target]

    async def _make(self, plain: PlainRequest, body: bytes, bucket: str | None, started: float) -> WholeAnswer | None:
        """The answer, made as the usual way makes it, and kept; None: that one has to say why there is none."""
        kept = self._services.ready
        try:
            making = Making(kept.version(), self._services.now())
            operation, given = self._operation_of(plain, body)
            answer = await operation.handler(self._services, **given)
        except Exception:  # it happens again in the usual way, where errors are answered
            return None
        assert isinstance(answer, BaseModel)
        text = answer.model_dump_json().encode("utf-8")
        heads = kept.heads[operation.path]
        if not operation.ready:
            return self._written(plain, bucket, ReadyAnswer(operation.path, None, heads, text, making.made_at), started)
        ready = ReadyAnswer(operation.path, tag_of(text), heads, text, making.made_at)
        kept.keep(plain.target, ready, making.version)
        return self._written(plain, bucket, ready, started)

    def _operation_of(self, plain: PlainRequest, body: bytes) -> tuple[Operation, dict[str, Any]]:
        """The operation that is asked for, and what its handler is given. Raises where none wants only that."""
        path, _, query = plain.target.partition("?")
        method = "GET" if plain.method == "HEAD" else plain.method
        endpoint, parts = self._routes.match(unquote(path, errors="strict"), method)
        operation = getattr(self._views[endpoint], OPERATION_ATTRIBUTE)
        assert isinstance(operation, Operation)
        if not operation.is_plain or operation.path not in self._services.ready.heads:
            raise LookupError(path)
        given: dict[str, Any] = dict(parts)
        if operation.query is not None:
            given["query"] = read_query(operation.query, query.encode("ascii"))
        if operation.body is not None:
            if len(body) > self._services.settings.body_bytes_max:
                raise LookupError(path)
            given["body"] = body
        return operation, given

    def _written(
        self, plain: PlainRequest, bucket: str | None, ready: ReadyAnswer, started: float
    ) -> WholeAnswer | None:
        if not self._gate.rates.admit(bucket):
            return None
        is_short = ready.etag is not None and is_known(plain.known, ready.etag)
        each_time = b"x-request-id: %b\r\ndate: %b\r\n" % (
            secrets.token_hex(8).encode("ascii"),
            date_field(int(time.time())),
        )
        if ready.etag is not None:
            each_time = b"etag: %b\r\n%b" % (ready.etag.encode("ascii"), each_time)
        self._gate.metrics.count(ready.route, plain.method, 304 if is_short else 200, self._clock() - started)
        if is_short:
            return b"%b%b\r\n" % (ready.heads.known, each_time), b""
        body = b"" if plain.method == "HEAD" else ready.body
        return b"%b%bcontent-length: %d\r\n\r\n" % (ready.heads.whole, each_time, len(ready.body)), body
