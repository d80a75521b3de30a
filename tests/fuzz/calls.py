"""Requests to every route of a node: valid ones changed as a seed says, in path, query, body, headers, or raw bytes."""

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar, Final, get_args
from urllib.parse import quote

from pydantic import AliasChoices, BaseModel

from pfn_node.web.pages.assets import Assets
from pfn_node.web.pages.page_routes import Form
from pfn_node.web.session_tokens import cookie_name, csrf_token
from pfn_protocol.encoding import seal
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem
from pfn_protocol.messages import GossipRequest, Request
from pfn_protocol.publisher import sign_keybind, sign_release
from pfn_protocol.publisher_notices import sign_yank
from pfn_protocol.request_fields import encode_request
from tests.fuzz.mutation import TEXTS, json_bytes, mutated_bytes, mutated_text, mutated_value
from tests.node.attack_zips import HONEST
from tests.node.page_reader import SUBJECTS
from tests.node.web_node import BILBO, MASTER_KEY, NODE, PUBLISHER, STRANGER, URL
from tests.protocol.vectors.message_cases import NONCE, REQUESTS
from tests.protocol.vectors.notice_cases import YANK
from tests.protocol.vectors.publisher_cases import RELEASE

PEER: Final = PrivateKey(b"\x2a" * 32)
RELEASE_TEXT: Final = base64.b64encode(sign_release(PUBLISHER, RELEASE).raw).decode()
KEYBIND_TEXT: Final = base64.b64encode(sign_keybind(PUBLISHER, STRANGER, URL).raw).decode()
NOTICE_TEXT: Final = base64.b64encode(sign_yank(PUBLISHER, replace(YANK, origin=URL)).raw).decode()
PART: Final = re.compile(r"<(?:\w+:)?(\w+)>")  # of a declared path
UNKNOWN: Final = "nobody@elsewhere.test"
# What fields of queries, paths and bodies are like when they are right.
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "sourceId": (BILBO, UNKNOWN),
    "source_id": (BILBO, UNKNOWN),
    "source": (BILBO, UNKNOWN),
    "plugin_id": ("hello-signal", "nothing"),
    "plugin": ("hello-signal", "nothing"),
    "slug": ("hello-signal", "hello"),
    "version": ("1.0.0", "1.1.0", "2.0.0"),
    "sha256": ("0" * 64, "ff" * 32),
    "q": ("hello", "signal says"),
    "tag": ("Utilities",),
    "type": ("plugin", "theme", "sync"),
    "status": ("verified", "pending"),
    "min_assurance": ("A1", "A4"),
    "sort": ("name", "updated"),
    "limit": ("5", "100"),
    "offset": ("0", "7"),
    "since": ("1700000000",),
    "cursor": ("WyJuYW1lIiwgImEiXQ",),
    "instance_url": (URL, "https://new.test", "https://b.test/x"),
    "username": ("bilbo", "frodo"),
    "public_key": (public_key_pem(PUBLISHER.public), base64.b64encode(STRANGER.public).decode()),
    "allow_unsigned": (True, False),
    "purge": (False,),
    "filters": ({"types": ["plugin"], "tags": ["Utilities"], "excludeTags": ["x"]}, {}),
    "release_v2": (RELEASE_TEXT,),
    "keybind_v2": (KEYBIND_TEXT,),
    "artifact_url": (f"{URL}/a.zip",),
    "action": ("join", "pin", "unpin", "block", "unblock"),
    "url": ("https://node.test", "https://other.test:8470"),
    "node_id": (did_key(STRANGER.public), did_key(PEER.public)),
    "description": ("a key",),
    "scopes": (["read"], ["sources", "subscribe"]),
    "expires_in_days": (30,),
    "id": ("AAAAAAAA", "0123abcd"),
    "overlap_hours": (1,),
    "bundle": ("1",),
    "after": ("0", "3"),
    "notices_v2": ([NOTICE_TEXT], [NOTICE_TEXT, RELEASE_TEXT]),
    "reason": ("it deletes what it should not",),
    "withdrawn": (True, False),
    "advisory_id": ("PFN-2026-1", "CVE-2026-12345"),
    "severity": ("low", "critical"),
    "summary": ("anybody may read everything",),
    "ranges": ([{"from": "", "until": "1.1.0"}], [{"from": "1.0.0"}]),
    "aliases": (["CVE-2026-12345"],),
    "events": (["release.added"], ["release.yanked", "source.changed"]),
    "before": ("3", "1700000000"),
    "actor": ("AAAAAAAA",),
    "outcome": ("done", "refused"),
    "first": ("", "1.0.0"),
    "until": ("1.1.0",),
    "more_ranges": ("1.0.0 1.1.0", "2.0.0"),
    "page": ("1", "2"),
    "show": ("linked", "pinned"),
    "tags": (["Utilities"],),
    "types": (["plugin"],),
    "slugs": (["hello-signal"],),
    "exclude": (["nothing"],),
    "excludeTags": (["x"],),
    "next": ("/", "/docs", "//elsewhere.test/"),
    "log": ("0123abcd",),
}
HEADERS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "Range",
        ("bytes=0-10", "bytes=-5", "bytes=5-", "bytes=9-1", "bytes=0-0,2-3", "lines=1-2", "bytes=" + "9" * 30 + "-"),
    ),
    ("If-None-Match", ('"abc"', "*", 'W/"x"', '"' + "0" * 64 + '"')),
    ("If-Range", ('"abc"', "Wed, 21 Oct 2015 07:28:00 GMT")),
    ("Content-Type", ("application/json", "text/plain", "multipart/form-data; boundary=x", "application/zip", "")),
    ("Accept", ("text/html", "application/json;q=0.1", "*/*, a/b;q=x")),
    ("Host", ("localhost", "evil.example", "127.0.0.1:99999", "[::1", "")),
    ("X-Forwarded-For", ("1.2.3.4", "::1, 10.0.0.1", "x" * 200)),
    ("Last-Event-ID", ("5", "-1", "9" * 40)),
    ("Cookie", ("session=x", "a=b; a=c")),
    ("Expect", ("100-continue", "x")),
    ("Upgrade", ("h2c", "websocket")),
    ("Transfer-Encoding", ("gzip", "identity")),
)


# Forms that have to do with a publisher, which may not answer: 502, as from the API.
ASK_PUBLISHERS: Final = ("/admin/subscriptions", "/admin/sources/", "/sources/")
# A neighbour that asks for more pages than it may have is to ask again later.
PUT_OFF: Final = frozenset((503,))
LAST: Final = ("remove-source", "remove", "revoke-key", "revoke", "rotate-key", "rotate", "sign-out")


@dataclass(frozen=True)
class Session:
    """What a browser has that is signed in at 127.0.0.1, port 80 by the Host that is sent."""

    token: str
    headers: ClassVar[dict[str, str]] = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}

    @property
    def cookie(self) -> str:
        return f"{cookie_name('127.0.0.1', secure=False)}={self.token}"


@dataclass(frozen=True)
class Call:
    """One route, and what a valid request to it holds."""

    method: str
    path: str
    parameters: tuple[str, ...] = ()
    body_fields: tuple[str, ...] = ()
    raw_bodies: tuple[bytes, ...] = ()
    message: str = ""  # the name of a signed request between nodes
    is_page: bool = False  # for people: asked for with a session
    form: Form | None = None
    errors: frozenset[int] = field(default_factory=frozenset)  # statuses of 500 and more that the document names for it

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def last(self) -> bool:
        """Whether it takes away what other calls need."""
        return self.path.rpartition("/")[2] in LAST


def calls_of(document: dict[str, Any]) -> list[Call]:
    """Every call of the OpenAPI document, and those that are not in it."""
    found = [
        *(Call("POST", f"/node/v1/{path}", message=path, errors=PUT_OFF) for path in {one.path: 0 for one in REQUESTS}),
        *(Call("GET", path) for path in (Assets().path_of("style.css"), "/openapi.json", "/metrics")),
        Call("GET", "/federation/events", errors=frozenset((503,))),
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            found.append(
                Call(
                    method.upper(),
                    path,
                    tuple(parameter["name"] for parameter in operation.get("parameters", ())),
                    tuple(schema.get("properties", ())),
                    (HONEST, b"PK\x03\x04", b"") if content and "application/json" not in content else (),
                    errors=frozenset(int(status) for status in operation["responses"] if status == "502"),
                )
            )
    return sorted([*found, *_calls_of_pages()], key=lambda call: call.last)


def _calls_of_pages() -> Iterator[Call]:
    for subject in SUBJECTS:
        for page in subject.declared:
            query = tuple(_asked(page.query)) if page.query else ()
            yield Call("GET", _braced(page.path), (*PART.findall(page.path), *query), is_page=True)
        for form in subject.forms:
            parts = tuple(PART.findall(form.path))
            fields = tuple(name for name in _fields_of(form.body) if name not in parts)
            errors = frozenset((502,)) if form.path.startswith(ASK_PUBLISHERS) else frozenset[int]()
            yield Call("POST", _braced(form.path), parts, fields, is_page=True, form=form, errors=errors)


def _braced(path: str) -> str:
    return PART.sub(r"{\1}", path)


def _asked(query: type[BaseModel]) -> Iterator[str]:
    """The names of a page's parameters as addresses spell them: each by all of its names."""
    for name, described in query.model_fields.items():
        alias = described.validation_alias
        yield from alias.choices if isinstance(alias, AliasChoices) else (alias or name,)  # type: ignore[misc]


def _fields_of(body: type[BaseModel]) -> Iterator[str]:
    """The names of a form's fields; those of an inner object with a dot."""
    for name, described in body.model_fields.items():
        inner = [kind for kind in (described.annotation, *get_args(described.annotation)) if _is_model(kind)]
        shown = described.alias or name
        yield from (f"{shown}.{field}" for field in _fields_of(inner[0])) if inner else (shown,)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _answered_at_once(message: Request) -> Request:
    """What may be held until there is something to say, without the wait: it would be held for most of a minute."""
    return replace(message, wait_seconds=0) if isinstance(message, GossipRequest) else message


def values_of(name: str) -> tuple[Any, ...]:
    """What a field or parameter may be; that of an inner object by its own name. Raises KeyError for an unknown one."""
    return VALUES[name.rpartition(".")[2]]


class Maker:
    """Makes requests for a call. `key` is what mostly stands in Authorization, `session` in the cookies for pages."""

    def __init__(self, rng: Random, key: str, session: Session) -> None:
        self._rng = rng
        self._key = key
        self._session = session
        self._keys = (f"Bearer {key}",) * 8 + (f"Bearer {MASTER_KEY}", f"Bearer {key[:-3]}", "Basic eA==", "Bearer", "")

    def request(self, call: Call) -> bytes:
        """A request that is well framed, whatever it says."""
        head, body = self._parts(call)
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1", "replace") + body

    def broken(self, call: Call) -> bytes:
        """The same with some of its bytes changed, or several at once, or in chunks."""
        raw = self.request(call)
        match self._rng.randrange(4):
            case 0:
                return raw + raw[: self._rng.randrange(len(raw))]
            case 1:
                head, body = self._parts(call)
                at = self._rng.randrange(len(body) + 1)
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part)
                raw = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1", "replace") + chunks + b"0\r\n\r\n"
        return mutated_bytes(self._rng, raw, (raw,))

    def _parts(self, call: Call) -> tuple[str, bytes]:
        rng = self._rng
        method = call.method if rng.random() < 0.95 else rng.choice(("GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"))
        headers = {"Host": "127.0.0.1"}
        master = call.path.endswith("create-admin-key") and rng.random() < 0.7
        authorization = f"Bearer {MASTER_KEY}" if master else rng.choice(self._keys)
        if call.is_page and rng.random() < 0.9:
            headers |= {"Accept": "text/html", "Cookie": self._session.cookie, **self._session.headers}
        elif authorization:
            headers["Authorization"] = authorization
        while rng.random() < 0.25:
            name, values = rng.choice(HEADERS)
            value = rng.choice(values) if rng.random() < 0.8 else mutated_text(rng, rng.choice(values))
            headers[name] = "".join(character for character in value if character not in "\r\n\0")
        if headers.pop("Transfer-Encoding", None):
            headers["TE"] = "gzip"  # what is not well framed belongs to `broken`
        headers.pop("Expect", None)
        body = self._body(call) if method == call.method and method == "POST" else b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {self._target(call)} HTTP/1.1\r\n{lines}", body

    def _target(self, call: Call) -> str:
        path, pairs = call.path, []
        for name in call.parameters:
            if "{" + name + "}" in path:
                path = path.replace("{" + name + "}", self._quoted(name))
            elif self._rng.random() < 0.7:
                pairs.append(f"{quote(name, safe='')}={self._quoted(name)}")
        if self._rng.random() < 0.1:
            pairs.append(
                f"{quote(self._rng.choice(TEXTS), errors='replace')}={quote(self._rng.choice(TEXTS), errors='replace')}"
            )
        self._rng.shuffle(pairs)
        target = path + ("?" + "&".join(pairs) if pairs else "")
        return target[:60_000] if self._rng.random() < 0.95 else target[: self._rng.randrange(1, len(target) + 1)]

    def _quoted(self, name: str) -> str:
        value = str(self._rng.choice(values_of(name)))
        if self._rng.random() < 0.3:
            value = mutated_text(self._rng, value)[:4000]
        return self._escaped(value)

    def _body(self, call: Call) -> bytes:
        rng = self._rng
        if call.raw_bodies:
            return mutated_bytes(rng, rng.choice(call.raw_bodies), call.raw_bodies)
        if call.message:
            return self._message(call.message)
        if call.form:
            return self._form(call)
        fields = {name: rng.choice(VALUES[name]) for name in call.body_fields if rng.random() < 0.9}
        return json.dumps(fields).encode() if rng.random() < 0.3 else json_bytes(rng, fields)

    def _form(self, call: Call) -> bytes:
        """A form as a browser sends it: mostly with the token of the session, some fields changed or left out."""
        rng = self._rng
        pairs = [("csrf_token", csrf_token(self._session.token))] if rng.random() < 0.9 else []
        for name in call.body_fields:
            if rng.random() < 0.9:
                pairs += [(name, text) for text in self._typed(call, name)]
        if rng.random() < 0.1:
            pairs.append((rng.choice(TEXTS), rng.choice(TEXTS)))
        return "&".join(f"{self._escaped(name)}={self._escaped(text)}" for name, text in pairs).encode()

    def _typed(self, call: Call, name: str) -> list[str]:
        """What somebody types into a field."""
        assert call.form is not None
        key = MASTER_KEY if call.form.needs_master else self._key
        value = key if name == call.form.key_field else self._rng.choice(values_of(name))
        texts = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        if name not in call.form.many:
            texts = [", ".join(texts)]
        return [mutated_text(self._rng, text)[:4000] if self._rng.random() < 0.3 else text for text in texts]

    def _escaped(self, text: str) -> str:
        return quote(text.encode("utf-8", "surrogatepass"), safe=self._rng.choice(("", "/@:")))

    def _message(self, path: str) -> bytes:
        """A request that PEER signed for this node: mostly with its content changed, else afterwards."""
        rng = self._rng
        content = encode_request(_answered_at_once(rng.choice([one for one in REQUESTS if one.path == path])))
        body = (path, NODE.public, int(time.time() * 1000), rng.randbytes(len(NONCE)), content)
        if rng.random() < 0.2:
            return mutated_bytes(rng, seal(PEER, "pfn/request/1", "main", body).raw)
        try:
            changed = mutated_value(rng, content) if rng.random() < 0.8 else content
            return seal(PEER, "pfn/request/1", "main", (*body[:4], changed)).raw
        except Refusal:  # it came out too deep
            return seal(PEER, "pfn/request/1", "main", body).raw
