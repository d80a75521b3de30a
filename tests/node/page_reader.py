"""Reading a page as a browser would, and signing in to see those of an administrator."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from pfn_node.web.pages import docs, site
from tests.node.web_node import Got, WebNode

ORIGIN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


async def _no_document() -> dict[str, Any]:
    return {"paths": {}}


# All that a site declares, and the pages of the API.
SUBJECTS = (*site.SUBJECTS, docs.make_pages(_no_document))


class Reader(HTMLParser):
    """Tags, links, texts and form fields of a page. Refuses inline scripts and styles, which the policy forbids."""

    def __init__(self, got: Got) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.forms: list[str] = []
        self.values: dict[str, str] = {}
        self._texts: list[str] = []
        assert got.headers["Content-Type"] == "text/html; charset=utf-8"
        self.feed(got.body.decode())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag == "form":
            self.forms.append(given.get("action", ""))
        if tag in ("input", "textarea", "select") and "name" in given:
            self.values[given["name"]] = given.get("value", "")
        assert not any(name.startswith("on") or name == "style" for name in given), "inline script or style"
        assert tag not in ("style", "iframe", "object", "embed", "base"), tag
        assert tag != "script" or given.get("src", "").startswith("/static/"), "a script that is not a file of the node"

    def handle_data(self, data: str) -> None:
        assert not (self.tags and self.tags[-1] == "script" and data.strip()), "an inline script"
        self._texts.append(data)


@dataclass
class Browser:
    """Asks a node as a browser with cookies does."""

    node: WebNode
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def open(self, path: str, **headers: str) -> Got:
        got = await self.node.get(path, headers={"Accept": "text/html", **self._cookie(), **headers})
        self._keep(got)
        return got

    async def read(self, path: str) -> Reader:
        got = await self.open(path)
        assert got.status == 200, got.body
        return Reader(got)

    async def send(self, path: str, *, csrf: str | None = None, **fields: str | list[str]) -> Got:
        """Send a form from a page of the node, with the token of the session."""
        body = urlencode({"csrf_token": self.token if csrf is None else csrf, **fields}, doseq=True)
        got = await self.node.call("POST", path, data=body, headers=self._cookie() | ORIGIN | {"Accept": "text/html"})
        self._keep(got)
        return got

    async def sign_in(self, key: str | None = None) -> None:
        """Begin a session with the node's key, or another."""
        got = await self.send("/sign-in", key=key or self.node.key)
        assert got.status == 303, got.body
        self.token = Reader(await self.open("/sign-in")).values["csrf_token"]

    def _cookie(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    def _keep(self, got: Got) -> None:
        for header in got.headers.getlist("Set-Cookie"):
            name, _, rest = header.partition("=")
            value = rest.partition(";")[0]
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
