"""The pages that a person sees: a home page, and the API's document made readable. No scripts; all text is escaped."""

import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2
import sqlite_utils
from quart import Quart, Response

from pfn_node.store import catalogue
from pfn_node.store.rows import Plugin
from pfn_node.web import gate
from pfn_node.web.federation_peers import VERSION, node_view
from pfn_node.web.federation_plugins import download_path
from pfn_node.web.services import Services
from pfn_protocol.identity import short_did

PLUGINS_SHOWN = 10
PEERS_SHOWN = 50
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ShownOperation:
    """One call of the API, for the page that lists them."""

    method: str
    path: str
    summary: str
    description: str
    who: str
    parameters: list[dict[str, Any]]
    body: list[dict[str, Any]]
    answers: list[tuple[str, str]]


def moment(seconds: int) -> str:
    """A time as a person reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def environment() -> jinja2.Environment:
    """Templates with everything escaped, and missing values an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pfn_node.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"moment": moment, "short_did": short_did}
    made.globals["version"] = VERSION
    return made


def install(app: Quart, services: Services, document: Mapping[str, Any]) -> None:
    """Serve /, /docs and /static/style.css."""
    templates = environment()
    docs = templates.get_template("docs.html").render(document=document, groups=_groups(document))
    style = importlib.resources.files("pfn_node.web").joinpath("static/style.css").read_text("utf-8")

    async def home() -> Response:
        now = int(services.now())
        counts, plugins = await services.database.read(lambda db: _newest(db, now))
        text = templates.get_template("home.html").render(
            node=node_view(services),
            counts=counts,
            plugins=[{"release": plugin.release, "download": download_path(plugin.release)} for plugin in plugins],
            peers=list(services.mesh.peers())[:PEERS_SHOWN],
        )
        return Response(text, content_type=HTML)

    async def show_docs() -> Response:
        return Response(docs, content_type=HTML)

    async def show_style() -> Response:
        response = Response(style, content_type="text/css; charset=utf-8")
        response.headers["Cache-Control"] = f"public, max-age={gate.PUBLIC_SECONDS}"
        return response

    app.add_url_rule("/", "home", home, methods=["GET"])
    app.add_url_rule("/docs", "docs", show_docs, methods=["GET"], strict_slashes=False)
    app.add_url_rule("/static/style.css", "style", show_style, methods=["GET"])


def _newest(db: sqlite_utils.Database, now: int) -> tuple[dict[str, int], list[Plugin]]:
    query = catalogue.PluginQuery(sort="updated", limit=PLUGINS_SHOWN)
    found, _, _ = catalogue.search_plugins(db, query, now=now)
    return dict(catalogue.counts(db)), found


def _groups(document: Mapping[str, Any]) -> dict[str, list[ShownOperation]]:
    groups: dict[str, list[ShownOperation]] = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            group = groups.setdefault(described["tags"][0], [])
            group.append(_shown(document, path, method, described))
    return groups


def _shown(document: Mapping[str, Any], path: str, method: str, described: Mapping[str, Any]) -> ShownOperation:
    scope = described.get("x-scope")
    return ShownOperation(
        method=method.upper(),
        path=path,
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        who=f"needs {scope}" if scope else "anyone",
        parameters=[_field(each["name"], each, each["schema"]) for each in described["parameters"]],
        body=list(_body_fields(document, described.get("requestBody"))),
        answers=[(status, answer["description"]) for status, answer in sorted(described["responses"].items())],
    )


def _body_fields(document: Mapping[str, Any], body: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for content_type, content in (body or {"content": {}})["content"].items():
        schema = content["schema"]
        if "properties" not in schema:
            yield {"name": content_type, "required": True, "says": "", "type": "bytes"}
        for name, field in schema.get("properties", {}).items():
            yield _field(name, {"required": name in schema.get("required", ())}, field)


def _field(name: str, declared: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    says = declared.get("description") or schema.get("description", "")
    return {"name": name, "required": declared.get("required", False), "says": says, "type": _type_words(schema)}


def _type_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        words = [_type_words(choice) for choice in schema["anyOf"]]
        return " or ".join(dict.fromkeys(word for word in words if word not in ("null", "")))
    return str(schema.get("type", schema.get("$ref", "").rpartition("/")[2]))
