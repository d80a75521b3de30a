"""/session: an API key exchanged for a session, so that no page has to keep the key.

The session's token is in a cookie that no script can read; see session_tokens.py. It is begun over https, or on this
machine, or with `allow_private_networks`: over plain http anybody on the way could read it.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlite_utils
from quart import Response, g, request

from pfn_node.store import sessions
from pfn_node.store.rows import ApiKey, Session
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
    check_may_begin(services)
    begun = await begin(services, key)
    response = json_response(SessionView.of(key, begun.session, csrf_token(begun.token)))
    begun.set_cookie(response)
    return response


@dataclass(frozen=True, slots=True)
class Begun:
    """A new session. Its token goes into a cookie, and is kept nowhere else."""

    session: Session
    token: str
    cookie: str
    secure: bool

    def set_cookie(self, response: Response) -> None:
        """Let the browser keep the token for as long as the session lasts."""
        seconds = self.session.expires - self.session.created
        _set_cookie(response, self.cookie, self.token, secure=self.secure, seconds=seconds)


def check_may_begin(services: Services) -> None:
    """Raises ApiError 403 where a page of another origin asks, or others could read the token on its way."""
    host, secure = request.headers.get("Host", ""), is_secure(services)
    origin, fetch_site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if is_foreign(origin, fetch_site, host, secure=secure):
        raise ApiError(403, "A session is begun by a page of this node, not by one of another origin.")
    if not (secure or services.settings.allow_private_networks or _is_this_machine(host)):
        raise ApiError(403, "A session is begun over https, or on the node's own machine: here others could read it.")


async def begin(services: Services, key: ApiKey) -> Begun:
    """Begin a session for a key, and note it in the audit log. The one that the browser had before ends: nobody could
    sign out of it any more."""
    now = int(services.now())
    host, secure = request.headers.get("Host", ""), is_secure(services)
    before = token_in(request.cookies, host, secure=secure)
    expires = now + SESSION_SECONDS if key.expires is None else min(now + SESSION_SECONDS, key.expires)
    token = new_token()

    def write(db: sqlite_utils.Database) -> Session:
        if before is not None:
            sessions.delete_session(db, hash_token(before))
        return sessions.insert_session(db, hash_token(token), key.id, now, expires)

    session = await services.database.write(write)
    note(target=key.id)
    return Begun(session, token, cookie_name(host, secure=secure), secure)


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
    response = json_response(Done(success=True, message="The session has ended."))
    await end(services, g.caller, response)
    return response


async def end(services: Services, caller: Caller, response: Response) -> None:
    """End the caller's session, and let the browser forget it. Raises ApiError 401 if the caller has none."""
    session = caller.session
    if session is None:
        raise _no_session()
    await services.database.write(lambda db: sessions.delete_session(db, session.token_hash))
    note(target=caller.key.id)
    secure = is_secure(services)
    _set_cookie(response, cookie_name(request.headers.get("Host", ""), secure=secure), "", secure=secure, seconds=0)


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
