"""Ready answers, written before any routing: a request that is nothing special is answered from its bytes alone.

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
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import trio

from pfn_node.http1 import date_field
from pfn_node.web.gate import Gate
from pfn_node.web.ready_answers import is_known
from pfn_node.web.services import Services

HEAD_BYTES_MAX: Final = 4_096
FIELDS_MAX: Final = 40
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
    b"x-real-ip x-request-id".split()
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
    """Answers what is ready."""

    def __init__(self, services: Services, gate: Gate, clock: Callable[[], float] = trio.current_time) -> None:
        self._services = services
        self._gate = gate
        self._clock = clock
        self._is_allowed = lru_cache(_REMEMBERED_MAX)(gate.allows)
        self._bucket_of = lru_cache(_REMEMBERED_MAX)(gate.bucket_of)

    def __call__(self, data: bytes, peer: str) -> bytes | None:
        """The whole answer to what came from an address; None: it takes the usual way."""
        started = self._clock()
        plain = read_plain(data)
        if plain is None:
            return None
        ready = self._services.ready.find(plain.target, self._services.now())
        if ready is None or not self._is_allowed(plain.host):
            return None
        if not self._gate.rates.admit(self._bucket_of(peer, plain.forwarded)):
            return None
        is_short = is_known(plain.known, ready.etag)
        each_time = b"x-request-id: %b\r\ndate: %b\r\n" % (
            secrets.token_hex(8).encode("ascii"),
            date_field(int(time.time())),
        )
        self._gate.figures.count(ready.route, plain.method, 304 if is_short else 200, self._clock() - started)
        if is_short:
            return b"%b%b\r\n" % (ready.known_head, each_time)
        body = b"" if plain.method == "HEAD" else ready.body
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (ready.head, each_time, len(ready.body), body)
