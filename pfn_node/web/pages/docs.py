"""/docs: the API's document made readable."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.services import Services

AskDocument = Callable[[], Awaitable[Mapping[str, Any]]]


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


def make_pages(ask: AskDocument) -> Pages:
    """The page that shows the API's document to people."""
    pages = Pages()

    @pages.get("/docs", "docs.html", title="API", twin="/openapi.json")
    async def show_docs(services: Services, visitor: Visitor) -> dict[str, Any]:
        document = await ask()
        return {"document": document, "groups": _groups(document)}

    return pages


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
