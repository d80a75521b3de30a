"""The document of the API (OpenAPI 3.1), made by quart-schema from the types that the routes really use.

What quart-schema does not know is added here: which errors a call can answer, who may make it, bodies that are not
JSON. The event stream and the calls between nodes are not in `paths`: OpenAPI 3.1 cannot describe a stream that
never ends nor an envelope that has to be signed. The first stands under `x-event-streams`, the others in
protocol/SPEC.md.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import CallableProxyType

import trio
from pydantic import TypeAdapter
from quart import Quart
from quart_schema import QuartSchema
from quart_schema.openapi import APIKeySecurityScheme, HttpSecurityScheme, Info, OpenAPIProvider
from werkzeug.routing.rules import Rule

from pfn_node.settings import Settings
from pfn_node.web.answers import Problem
from pfn_node.web.errors import MEANINGS
from pfn_node.web.routes import OPERATION_ATTRIBUTE, Bytes, Operation
from pfn_node.web.schemas import ANY_HTTP_PATTERN, HTTPS_PATTERN, SLUG_PATTERN
from pfn_node.web.session_tokens import COOKIE
from pfn_protocol.limits import source_id_chars_max

TITLE = "PFN node"
DESCRIPTION = (
    "A node of the Plugin Federation Network. Errors are `{error, details, request_id}`. Keys go into the header "
    "`Authorization: Bearer fadmin_...`; pages exchange theirs for a session (POST /session), and then send its "
    "csrf_token in X-CSRF-Token with whatever is not a GET. Times are seconds since 1970, "
    "but for `created` of a new key (milliseconds, as the original). Unknown fields are ignored."
)
_KEY = "apiKey"
_MASTER = "masterKey"
_SESSION = "session"
_COMMON_ERRORS = (400, 421, 429, 503)
_BODY_ERRORS = (408, 413)
_KEY_ERRORS = (401, 403)
_PATH_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "source_id": {"type": "string", "minLength": 1, "maxLength": source_id_chars_max},
    "plugin_id": {"type": "string", "pattern": SLUG_PATTERN},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}


class Document(OpenAPIProvider):
    """quart-schema's provider, taught about our operations."""

    def generate_rules(self) -> Iterable[Rule]:
        for rule in super().generate_rules():
            operation = operation_of(self._app, rule)
            if operation is not None and operation.in_document:
                yield rule

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        operation = operation_of(self._app, rule)
        assert operation is not None
        paths, components = super().build_paths(rule)
        for path_item in paths.values():
            for described in path_item.values():
                complete(described, operation)
        return paths, components

    def operation_id(self, method: str, path: str, func: Callable[..., Any]) -> str | None:
        return func.__name__


def operation_of(app: "Quart | CallableProxyType[Quart]", rule: Rule) -> Operation | None:
    """The operation behind a rule, None if it is one of the framework's."""
    return getattr(app.view_functions[rule.endpoint], OPERATION_ATTRIBUTE, None)


def complete(described: dict[str, Any], operation: Operation) -> None:
    """Add to quart-schema's description of an operation what it cannot know."""
    described["tags"] = [operation.tag]
    if not described.get("description"):
        described.pop("description", None)
    for parameter in described["parameters"]:
        if parameter["in"] == "path":
            parameter["schema"] = dict(_PATH_SCHEMAS[parameter["name"]])
        elif operation.query is not None:
            parameter["required"] = operation.query.model_fields[_field_of(operation, parameter["name"])].is_required()
            parameter["schema"] = _without_null(parameter["schema"])
    if operation.body is not None:
        described["requestBody"] = _request_body(described, operation.body)
    if isinstance(operation.answer, Bytes):
        described["responses"]["200"] = {
            "description": operation.answer.says,
            "content": {operation.answer.content_type: {}},
        }
        if operation.answer.content_type == "application/zip":
            described["responses"]["206"] = {
                "description": "The part asked for with Range.",
                "content": {operation.answer.content_type: {}},
            }
            described["responses"]["304"] = {"description": "The ETag given with If-None-Match still stands."}
    for status in errors_of(operation):
        described["responses"][str(status)] = {
            "description": MEANINGS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    described["responses"] = {str(status): answer for status, answer in described["responses"].items()}
    if operation.protected:
        described["security"] = [{_MASTER: []}] if operation.needs_master else [{_KEY: []}]
        if operation.takes_session and not operation.needs_master:
            described["security"].append({_SESSION: []})
        described["x-scope"] = operation.scope or ("the master key" if operation.needs_master else "any key")


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query field is there or it is not; it cannot be null."""
    kept = {name: value for name, value in schema.items() if not (name == "default" and value is None)}
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    return kept | choices[0] if len(choices) == 1 else kept | ({"anyOf": choices} if choices else {})


def errors_of(operation: Operation) -> list[int]:
    """Every error that the operation can answer, by the node's own doing."""
    errors = {*_COMMON_ERRORS, *operation.errors}
    if operation.body is not None:
        errors.update(_BODY_ERRORS)
    if operation.protected:
        errors.update(_KEY_ERRORS)
    return sorted(errors)


def _field_of(operation: Operation, name: str) -> str:
    assert operation.query is not None
    if name in operation.query.model_fields:
        return name
    return next(
        field
        for field, info in operation.query.model_fields.items()
        if name in (info.alias, *_choices(info.validation_alias))
    )


def _choices(alias: Any) -> list[str]:
    return [choice for choice in getattr(alias, "choices", []) if isinstance(choice, str)]


def _request_body(described: Mapping[str, Any], body: Any) -> dict[str, Any]:
    if isinstance(body, Bytes):
        schema = {"type": "string", "format": "binary", "minLength": 1}
        # The type of a body that is not JSON is not looked at; tools that know no zips send the general one.
        content = {body.content_type: {"schema": schema}, "application/octet-stream": {"schema": schema}}
        return {"description": body.says, "required": True, "content": content}
    return {**described["requestBody"], "required": True}


def add_document(app: Quart, version: str) -> None:
    """Let quart-schema know the app; its own pages stay off (they load scripts from elsewhere)."""
    QuartSchema(
        app,
        openapi_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        info=Info(title=TITLE, version=version, description=DESCRIPTION),
        security_schemes={
            _KEY: HttpSecurityScheme(scheme="bearer", bearer_format="fadmin_..."),
            _MASTER: HttpSecurityScheme(scheme="bearer", bearer_format="PFN_MASTER_KEY"),
            _SESSION: APIKeySecurityScheme(in_="cookie", name=COOKIE),
        },
        conversion_preference="pydantic",
        openapi_provider_class=Document,
    )


class LateDocument:
    """The document of an app, made in a thread when somebody first asks for it: else a start would take half as long
    again for what most nodes are never asked for.
    """

    def __init__(self, app: Quart, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._making = trio.Lock()
        self._made: dict[str, Any] | None = None

    async def get(self) -> dict[str, Any]:
        """As plain values."""
        async with self._making:
            if self._made is None:
                self._made = await trio.to_thread.run_sync(make_document, self._app, self._settings)
            return self._made


def make_document(app: Quart, settings: Settings) -> dict[str, Any]:
    """The whole document, as plain values."""
    schema = app.extensions["QUART_SCHEMA"].openapi_provider.schema()
    schema["components"]["schemas"]["Problem"] = TypeAdapter(Problem).json_schema()
    schema["x-event-streams"] = _streams(app)
    document = json.loads(json.dumps(schema))
    if settings.allow_private_networks:
        _widen_urls(document)
    plain: dict[str, Any] = document
    return plain


def _streams(app: Quart) -> dict[str, Any]:
    streams = {}
    for rule in app.url_map.iter_rules():
        operation = operation_of(app, rule)
        if operation and isinstance(operation.answer, Bytes) and operation.answer.content_type == "text/event-stream":
            streams[operation.path] = {
                "summary": (inspect.getdoc(operation.handler) or "").split("\n")[0],
                "x-scope": operation.scope or "any key",
                "says": operation.answer.says,
            }
    return streams


def _widen_urls(part: Any) -> None:
    """With `allow_private_networks` http is dialled too."""
    if isinstance(part, dict):
        if part.get("pattern") == HTTPS_PATTERN:
            part["pattern"] = ANY_HTTP_PATTERN
        for inner in part.values():
            _widen_urls(inner)
    elif isinstance(part, list):
        for inner in part:
            _widen_urls(inner)
