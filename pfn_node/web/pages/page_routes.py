"""What a page is, and what a form on it does; declared once, as `pfn_node.web.routes` declares the API's calls.

    @pages.get("/sources/<source_id>", "source.html", twin="/federation/source-status?source_id={source_id}")
    async def show_source(services: Services, visitor: Visitor, source_id: str) -> Mapping[str, Any]: ...

    @pages.form("/sources/<source_id>/verify", page=show_source, body=VerifySource, scope="sources")
    async def verify(services: Services, visitor: Visitor, body: VerifySource) -> Done: ...

A page's handler answers what its template is given. A form's handler mostly hands its body to the very handler of the
API, so that both do the same; what it answers is said on the page that the browser is sent back to. Where the input is
wrong, the page is shown again with the sentence beside the field, and with what was typed.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from quart import Response

from pfn_node.store.rows import ApiKey
from pfn_node.web.auth import Caller, Scope
from pfn_node.web.errors import ApiError, for_people
from pfn_node.web.schemas import ADVISORY_ID_PATTERN, NODE_ID_PATTERN, ONE_LINE_PATTERN, SLUG_PATTERN, VERSION_PATTERN
from pfn_node.web.session_tokens import csrf_token

_VERSION_WORDS = "a version is digits, letters and dots, as in 1.2.0"
_WRITTEN = {
    SLUG_PATTERN: "a slug is small letters, digits and hyphens, as in hello-signal",
    VERSION_PATTERN: _VERSION_WORDS,
    f"^$|{VERSION_PATTERN}": _VERSION_WORDS,
    NODE_ID_PATTERN: "the id of a node begins with did:key:z6Mk",
    ADVISORY_ID_PATTERN: "an id of an advisory is letters, digits and hyphens, as in PFN-2026-001",
    ONE_LINE_PATTERN: "this has to be one line",
}
_ENTRY_NUMBER = re.compile(r"\.[0-9]+$")

H = TypeVar("H", bound=Callable[..., Any])
PageHandler = Callable[..., Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page: somebody with a session, or anybody."""

    caller: Caller | None = None
    token: str | None = None  # of the session

    @property
    def key(self) -> ApiKey | None:
        return self.caller.key if self.caller else None

    @property
    def csrf_token(self) -> str:
        """What a form of the visitor carries; empty without a session."""
        return csrf_token(self.token) if self.token else ""

    def may(self, scope: Scope) -> bool:
        """Whether the visitor's key has a scope: what it lacks is not offered."""
        return self.key is not None and scope in self.key.scopes


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `twin` is the path of its JSON in the API, with the parts of the page's own path in braces; `menu` is
    where its `title` is a link on every page: for everybody, or for those who may see it."""

    path: str
    handler: PageHandler
    template: str
    title: str = ""
    menu: Literal["main", "admin"] | None = None
    query: type[BaseModel] | None = None
    scope: Scope | None = None
    needs_session: bool = False
    twin: str | None = None

    @property
    def protected(self) -> bool:
        return self.needs_session or self.scope is not None


@dataclass(frozen=True, slots=True)
class Form:
    """A form that is sent to `path` and stands on `page`, whose path has no part that this one lacks.

    `lines`: fields that hold several entries, separated by commas or line ends. `many`: fields that may occur several
    times. A name with a dot is a field of an inner object. `then`: the path to go to when it is done, with the parts
    of the path and the fields of the body in braces; by default the page's. `key_field`: the field with the API key
    (or the master key, where `needs_master`) that is to count in the place of a session; never shown again.
    """

    path: str
    handler: Callable[..., Awaitable[Any]]
    page: PageHandler
    body: type[BaseModel]
    scope: Scope | None = None
    key_field: str | None = None
    needs_master: bool = False
    lines: tuple[str, ...] = ()
    many: tuple[str, ...] = ()
    then: str | None = None

    @property
    def name(self) -> str:
        return self.handler.__name__


@dataclass(frozen=True, slots=True)
class Shown:
    """What a form's handler answers in the place of a sentence, where a page has to be shown at once (a new secret)."""

    template: str
    context: Mapping[str, Any]


class Elsewhere(Exception):
    """Raised by a page's handler: what was asked for is shown at another path of this node."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a form was not taken, for the page that shows it again."""

    form: str
    error: ApiError
    values: Mapping[str, Any]

    @property
    def fields(self) -> Mapping[str, str]:
        """What is wrong with each field that is to blame; of a field with several entries, with the first wrong one."""
        named = self.error.details.get("fields", ())
        found: dict[str, str] = {}
        for entry in named if isinstance(named, list) else ():
            found.setdefault(_ENTRY_NUMBER.sub("", entry["field"]), _said_plainly(entry["problem"]))
        return found

    @property
    def sentence(self) -> str:
        return "Please look at the marked fields." if self.fields else for_people(self.error.sentence)


def _said_plainly(problem: str) -> str:
    """A pattern tells a program what is wrong, and a person nothing."""
    if "match pattern" not in problem:
        return for_people(problem)
    known = (words for pattern, words in _WRITTEN.items() if problem.endswith(f"'{pattern}'"))
    return next(known, "this cannot be written like that")


@dataclass(slots=True)
class Pages:
    """The pages and forms of one subject."""

    declared: list[Page] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)

    def get(self, path: str, template: str, **declared: Any) -> Callable[[H], H]:
        """Declare a page; the keywords are fields of Page."""

        def keep(handler: H) -> H:
            self.declared.append(Page(path, handler, template, **declared))
            return handler

        return keep

    def form(self, path: str, page: PageHandler, body: type[BaseModel], **declared: Any) -> Callable[[H], H]:
        """Declare a form of a page; the keywords are fields of Form. Its handler answers an answer of the API with a
        `message`, a sentence, a Response, or `Shown`."""

        def keep(handler: H) -> H:
            self.forms.append(Form(path, handler, page, body, **declared))
            return handler

        return keep


FormAnswer = str | BaseModel | Response | Shown
