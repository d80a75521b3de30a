"""/session: an API key exchanged for a session, so that no page has to keep the key.

The session's token is in a cookie that no script can read; see session_tokens.py. It is begun over https, or on this
machine, or with `allow_private_networks`: over plain http anybody on the way could read it.
"""

import ipaddress
from urllib.parse import urlsplit

from quart import Response, g, request

from pfn_node.store import sessions
from pfn_node.store.rows import ApiKey
from pfn_node.web.access_answers import SessionView
from pfn_node.web.answers import Done
from pfn_node.web.auditing import note
from pfn_node.web.auth import Caller
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Routes, is_secure, json_response
from pfn_node.web.services import Services
from pfn_node.web.session_tokens import (
    SESSION_SECONDS,
    cookie_name,
    csrf_token,
    hash_token,
    is_foreign,
    new_token,
    token_in,
)

routes = Routes("keys")


@routes.post("/session", answer=SessionView, needs_key=True, takes_session=False)
async def begin_session(services: Services, key: ApiKey) -> Response:
    """Exchange the API key in the header for a session of 8 hours, or less if the key ends before."""
    host, secure = request.headers.get("Host", ""), is_secure(services)
    origin, fetch_site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if is_foreign(origin, fetch_site, host, secure=secure):
        raise ApiError(403, "A session is begun by a page of this node, not by one of another origin.")
    if not (secure or services.settings.allow_private_networks or _is_this_machine(host)):
        raise ApiError(403, "A session is begun over https, or on the node's own machine: here others could read it.")
    now = int(services.now())
    expires = now + SESSION_SECONDS if key.expires is None else min(now + SESSION_SECONDS, key.expires)
    token = new_token()
    session = await services.database.write(
        lambda db: sessions.insert_session(db, hash_token(token), key.id, now, expires)
    )
    note(target=key.id)
    response = json_response(SessionView.of(key, session, csrf_token(token)))
    _set_cookie(response, cookie_name(host, secure=secure), token, secure=secure, seconds=expires - now)
    return response


@routes.get("/session", answer=SessionView, needs_key=True)
async def show_session(services: Services, key: ApiKey) -> SessionView:
    """Whose session this is, until when, and the token that goes along with what changes something."""
    caller: Caller = g.caller
    token = token_in(request.cookies, request.headers.get("Host", ""), secure=is_secure(services))
    if caller.session is None or token is None:
        raise _no_session()
    return SessionView.of(key, caller.session, csrf_token(token))


@routes.delete("/session", answer=Done, needs_key=True)
async def end_session(services: Services, key: ApiKey) -> Response:
    """End the session; its cookie is worthless at once."""
    caller: Caller = g.caller
    session = caller.session
    if session is None:
        raise _no_session()
    await services.database.write(lambda db: sessions.delete_session(db, session.token_hash))
    note(target=key.id)
    secure = is_secure(services)
    response = json_response(Done(success=True, message="The session has ended."))
    _set_cookie(response, cookie_name(request.headers.get("Host", ""), secure=secure), "", secure=secure, seconds=0)
    return response


def _no_session() -> ApiError:
    return ApiError(401, "There is no session here: begin one with POST /session and an API key.")


def _set_cookie(response: Response, name: str, token: str, *, secure: bool, seconds: int) -> None:
    response.set_cookie(name, token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="Strict")


def _is_this_machine(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
