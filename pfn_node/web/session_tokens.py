"""Sessions in a browser: the token in the cookie, the token against forged requests, and whose page is asking.

A cookie goes along whoever makes the browser ask, so it alone may only read. What changes something has to come from
a page of this node, in two ways that a foreign page cannot have: the browser itself says so (`Sec-Fetch-Site`,
`Origin`), and the request carries in `X-CSRF-Token` what only a page of this node could read (GET /session). That token
follows from the session's by a one-way function, so nothing of it is stored either.

Over https the cookie's name begins with `__Host-`: browsers then take it from this very host alone. They refuse such a
name over plain http; there it carries the port instead, for all ports of a host share their cookies.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

COOKIE = "__Host-pfn_session"
PLAIN_COOKIE = "pfn_session"
CSRF_HEADER = "X-CSRF-Token"
SESSION_SECONDS = 8 * 3600

_TOKEN = re.compile("[A-Za-z0-9_-]{43}")  # 32 bytes in base64url
_CSRF_DOMAIN = b"pfn/csrf/1"
_DEFAULT_PORTS = {"https": 443, "http": 80}


def new_token() -> str:
    """The secret of a new session."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """What of a token is kept."""
    return hashlib.sha256(token.encode("ascii")).digest()


def csrf_token(token: str) -> str:
    """What a page has to send along with what changes something."""
    digest = hmac.digest(token.encode("ascii"), _CSRF_DOMAIN, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def is_csrf_token(given: str | None, token: str) -> bool:
    """Whether the token against forged requests belongs to the session's."""
    return given is not None and hmac.compare_digest(given.encode(), csrf_token(token).encode())


def origin_of(host: str, *, secure: bool) -> tuple[str, str, int] | None:
    """The origin that a browser sees behind a Host header, as (scheme, host, port)."""
    return _parsed(f"{'https' if secure else 'http'}://{host}")


def cookie_name(host: str, *, secure: bool) -> str:
    """The name of the session's cookie at this origin."""
    if secure:
        return COOKIE
    origin = origin_of(host, secure=False)
    return f"{PLAIN_COOKIE}_{origin[2] if origin else 80}"


def token_in(cookies: Mapping[str, str], host: str, *, secure: bool) -> str | None:
    """The session token that a browser sent along, if it has the form of one."""
    given = cookies.get(cookie_name(host, secure=secure), "")
    return given if _TOKEN.fullmatch(given) else None


def is_same_origin(origin: str | None, fetch_site: str | None, host: str, *, secure: bool) -> bool:
    """Whether a browser says that a page of this very origin makes the request; silence says nothing.

    `origin` and `fetch_site` are the headers Origin and Sec-Fetch-Site.
    """
    if origin is None and fetch_site is None:
        return False
    if fetch_site is not None and fetch_site != "same-origin":
        return False
    return origin is None or (_parsed(origin) is not None and _parsed(origin) == origin_of(host, secure=secure))


def is_foreign(origin: str | None, fetch_site: str | None, host: str, *, secure: bool) -> bool:
    """Whether a browser says that a page of another origin makes the request."""
    return (origin, fetch_site) != (None, None) and not is_same_origin(origin, fetch_site, host, secure=secure)


def _parsed(origin: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path or parts.query or parts.username:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]
