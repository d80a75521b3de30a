"""How pages are served and forms taken: who looks, what is asked, and what is shown when something is wrong.

A form is taken as a call of the API is: the session is known, the request comes from a page of this node and carries
the token of the session, the key has the scope, the body fits its model; then it is done, audited, and the browser is
sent back (303), so that a reload repeats nothing. The sentence that says so waits in a cookie for the next page.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import jinja2
import pydantic
from pydantic import AliasChoices, BaseModel
from quart import Quart, Response, g, request
from werkzeug.datastructures import MultiDict

from pfn_node.web.auditing import Facts
from pfn_node.web.errors import ApiError, error_response, for_people
from pfn_node.web.pages.page_routes import Elsewhere, Form, FormAnswer, Page, Pages, Shown, Trouble, Visitor
from pfn_node.web.pages.rendering import render
from pfn_node.web.routes import Checks, is_secure, presented, read_body, read_query, refused
from pfn_node.web.services import Services
from pfn_node.web.session_tokens import cookie_name

HTML = "text/html; charset=utf-8"
SIGN_IN = "/sign-in"
CSRF_FIELD = "csrf_token"
FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 200
SAID_SECONDS, SAID_CHARACTERS_MAX = 60, 500
_PART = re.compile(r"<(?:\w+:)?(\w+)>")
_OF_URLS = "!#$%&'()*+,/:;=?@[]~"  # what stays as it is in the text of a path and a query
_NEVER_PAGES = ("/federation/", "/node/", "/static/", "/session", "/openapi.json", "/metrics")


@dataclasses.dataclass(frozen=True, slots=True)
class Showing:
    """Serves the pages of one app."""

    services: Services
    checks: Checks
    templates: jinja2.Environment
    menu: tuple[Page, ...]

    def install(self, app: Quart, pages: Pages) -> None:
        """Serve the pages and forms of a subject."""
        of_handler = {page.handler: page for page in pages.declared}
        shown = {page.path for page in pages.declared}
        for page in pages.declared:
            app.add_url_rule(page.path, f"page {page.path}", self._view(page), methods=["GET"], strict_slashes=False)
        for form in pages.forms:
            take = self._taker(form, of_handler[form.page])
            app.add_url_rule(form.path, f"form {form.path}", take, methods=["POST"], strict_slashes=False)
            if form.path not in shown:
                back = self._leader_back(of_handler[form.page])
                app.add_url_rule(form.path, f"back {form.path}", back, methods=["GET"], strict_slashes=False)

    def _view(self, page: Page) -> Any:
        async def view(**parts: str) -> Response:
            if page.twin and _wants_json():
                return _redirect(_twin_path(page, parts))
            return await self._show(page, parts)

        return view

    def _leader_back(self, page: Page) -> Any:
        """What a form's path answers to a reload, once the page was shown there with what is wrong."""

        async def lead_back(**parts: str) -> Response:
            return _redirect(_filled(page.path, parts))

        return lead_back

    def _taker(self, form: Form, page: Page) -> Any:
        async def take(**parts: str) -> Response:
            fields = await read_form()
            try:
                answer = await self._act(form, parts, fields)
            except ApiError as error:
                if error.status == 401 and form.key_field is None:
                    return self._to_sign_in(page, parts)
                return await self._show(
                    page, parts, Trouble(form.name, error, _shown_again(form, fields)), error.status
                )
            return await self._answer(form, page, parts, fields, answer)

        return take

    async def _act(self, form: Form, parts: Mapping[str, str], fields: MultiDict[str, str]) -> FormAnswer:
        facts = Facts(f"POST {form.path}", g.address)

        async def act() -> FormAnswer:
            visitor = await self._identify(form, fields, facts)
            g.caller = visitor.caller
            body = read_fields(form, parts, fields)
            facts.note_body(body)
            answer: FormAnswer = await form.handler(self.services, visitor, body=body)
            return answer

        return await self.checks.auditing.watch(facts, act)

    async def _identify(self, form: Form, fields: MultiDict[str, str], facts: Facts) -> Visitor:
        """Who sends a form. Raises ApiError 401, 403 or 429."""
        who = presented(self.services, facts, reads=False, csrf=fields.get(CSRF_FIELD))
        authenticator = self.checks.authenticator
        if form.key_field is None:
            return Visitor(await authenticator.require(who, form.scope), who.session)
        if not who.same_origin:
            raise ApiError(403, "Only a page of this node may send this form; open the page here and try again.")
        who = dataclasses.replace(who, authorization=f"Bearer {fields.get(form.key_field, '')}", session=None)
        if form.needs_master:
            await authenticator.require_master(who)
            return Visitor()
        return Visitor(await authenticator.require(who, form.scope))

    async def _answer(
        self, form: Form, page: Page, parts: Mapping[str, str], fields: MultiDict[str, str], answer: FormAnswer
    ) -> Response:
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, Shown):
            return self._render(answer.template, answer.context, await self._visitor(page.path), page, parts)
        said = answer if isinstance(answer, str) else str(getattr(answer, "message", ""))
        may_see = page.scope is None or Visitor(g.caller).may(page.scope)
        response = _redirect(_filled(form.then or page.path, {**fields.to_dict(), **parts}) if may_see else "/")
        self._say(response, said)
        return response

    async def _show(
        self, page: Page, parts: Mapping[str, str], trouble: Trouble | None = None, status: int = 200
    ) -> Response:
        visitor = await self._visitor(page.path)
        if page.protected and visitor.key is None:
            return self._to_sign_in(page, parts)
        if page.scope is not None and not visitor.may(page.scope):
            if trouble is not None:
                raise trouble.error  # who may send the form need not see its page
            raise ApiError(403, f"The key of this session lacks the scope '{page.scope}' that this page needs.")
        given: dict[str, Any] = {name: parts[name] for name in _PART.findall(page.path)}
        if page.query is not None:
            given["query"] = read_query(page.query, b"" if trouble else request.query_string)
        try:
            context = await page.handler(self.services, visitor, **given)
        except Elsewhere as there:
            return _redirect(there.path)
        return self._render(page.template, context, visitor, page, parts, trouble=trouble, status=status)

    async def _visitor(self, path: str) -> Visitor:
        who = presented(self.services, Facts(f"GET {path}", g.address), reads=True)
        caller = await self.checks.authenticator.optional(who)
        g.visitor = Visitor(caller, who.session) if caller and caller.session else Visitor()
        return g.visitor  # type: ignore[no-any-return]

    def _render(
        self,
        template: str,
        context: Mapping[str, Any],
        visitor: Visitor,
        page: Page | None,
        parts: Mapping[str, str],
        *,
        trouble: Trouble | None = None,
        status: int = 200,
    ) -> Response:
        said = unquote(request.cookies.get(self._said_cookie(), ""))[:SAID_CHARACTERS_MAX]
        frame = {
            "visitor": visitor,
            "trouble": trouble,
            "said": said,
            "now": self.services.now(),
            "menu": self.menu,
            "here": page.path if page else "",
            "twin": _twin_path(page, parts) if page and page.twin else None,
            "mesh_name": self.services.settings.mesh,
        }
        response = Response(render(self.templates, template, frame | dict(context)), status=status, content_type=HTML)
        if said:
            response.delete_cookie(self._said_cookie(), path="/")
        return response

    async def show_error(self, error: ApiError, request_id: str) -> Response:
        """An error as a page for a browser that asked for one, else as the API's JSON."""
        if "text/html" not in request.headers.get("Accept", "") or request.path.startswith(_NEVER_PAGES):
            return error_response(error, request_id)
        context = {"error": error, "sentence": for_people(error.sentence), "request_id": request_id}
        visitor = g.get("visitor") or (await self._visitor("none") if error.status < 500 else Visitor())
        response = self._render("error.html", context, visitor, None, {}, status=error.status)
        response.headers.extend(error.headers)
        return response

    def _to_sign_in(self, page: Page, parts: Mapping[str, str]) -> Response:
        back = _filled(page.path, parts)
        if request.method == "GET" and request.query_string:
            back += f"?{request.query_string.decode('ascii', 'replace')}"
        return _redirect(f"{SIGN_IN}?{urlencode({'next': back})}")

    def _said_cookie(self) -> str:
        host = request.headers.get("Host", "")
        return f"{cookie_name(host, secure=is_secure(self.services))}_said"

    def _say(self, response: Response, said: str) -> None:
        if said:
            response.set_cookie(
                self._said_cookie(),
                quote(said[:SAID_CHARACTERS_MAX]),
                max_age=SAID_SECONDS,
                path="/",
                secure=is_secure(self.services),
                httponly=True,
                samesite="Strict",
            )


async def read_form() -> MultiDict[str, str]:
    """The fields of the form that was sent, without those left empty. Raises ApiError 400 or 413."""
    raw = await read_body(FORM_BYTES_MAX)
    try:
        pairs = parse_qsl(raw.decode("ascii"), errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise ApiError(
            400, f"The form cannot be read: urlencoded UTF-8 is expected, and at most {FORM_FIELDS_MAX} fields."
        ) from None
    return MultiDict((name, text.strip()) for name, text in pairs if text.strip())


def read_fields(form: Form, parts: Mapping[str, str], fields: MultiDict[str, str]) -> BaseModel:
    """The form's fields as its body; parts of the path are fields too. Raises ApiError 400."""
    of_path = {spelling for part in parts for spelling in _spellings(form.body, part)}
    given: dict[str, Any] = {}
    for name in fields:
        if name != CSRF_FIELD and name not in of_path:
            _place(given, name, _value(form, name, fields))
    try:
        return form.body.model_validate(given | dict(parts), strict=False)  # everything typed is text
    except pydantic.ValidationError as error:
        raise refused(error, "The form") from None


def _spellings(body: type[BaseModel], name: str) -> set[str]:
    """A field's name, and its aliases: what the path says is not said otherwise by a field of the form."""
    alias = body.model_fields[name].validation_alias if name in body.model_fields else None
    return {name, *(str(spelling) for spelling in alias.choices)} if isinstance(alias, AliasChoices) else {name}


def _shown_again(form: Form, fields: MultiDict[str, str]) -> dict[str, str | list[str]]:
    """What was typed; never a key, nor the token of the session."""
    return {
        name: fields.getlist(name) if name in form.many else text
        for name, text in fields.items()
        if name not in (CSRF_FIELD, form.key_field)
    }


def _value(form: Form, name: str, fields: MultiDict[str, str]) -> str | list[str]:
    if name in form.many:
        return fields.getlist(name)
    if name in form.lines:
        return [entry.strip() for entry in re.split(r"[,\n]", fields[name]) if entry.strip()]
    return fields[name]


def _place(given: dict[str, Any], name: str, value: str | list[str]) -> None:
    outer, _, inner = name.partition(".")
    if not inner:
        given[outer] = value
        return
    nested = given.setdefault(outer, {})
    if isinstance(nested, dict):
        nested[inner] = value


def _redirect(path: str) -> Response:
    return Response("", status=303, headers={"Location": path})


def _wants_json() -> bool:
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept


def _filled(path: str, values: Mapping[str, str]) -> str:
    """A path with its parts in place, percent-encoded."""
    filled = _PART.sub(lambda found: quote(values[found[1]], safe="@:"), path)
    return re.sub(r"\{(\w+)\}", lambda found: quote(values.get(found[1], ""), safe="@:"), filled)


def _twin_path(page: Page, parts: Mapping[str, str]) -> str:
    assert page.twin is not None
    path = _filled(page.twin, parts)
    if "?" in path or not request.query_string or page.query is None:
        return path
    return f"{path}?{request.query_string.decode('ascii', 'replace')}"


def local_path(text: str | None) -> str:
    """Where a visitor wanted to go, if that is a path of this node; else home. Never another host."""
    if text is None or not re.fullmatch(r"/(?![/\\])[^\s\\\x00-\x1f]*", text):
        return "/"
    return quote(text, safe=_OF_URLS)
