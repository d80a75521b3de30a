"""API keys: how they are made, kept, and checked.

A key reads `fadmin_<id>_<secret>`: the id is public (8 characters), the secret 32 random bytes in base62 and six
characters of checksum, so that secret scanners can tell a real one. Kept are the id and SHA-256 of the secret: with
256 bits of chance in it no slow hash is needed. A key is looked up by its id, and hashes of fixed length are
compared in constant time, against a dummy where the id is unknown. Failed attempts are counted per address; past
the limit even a right key gets 429, and the first refusal of that kind is shown in the activity.

A session (session_tokens.py) stands for the key that it was begun with, wherever a key is taken, for as long as that
key lives. A request that carries a key is judged by the key alone.

The master key only ever makes API keys. Without one that call is off.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import sqlite_utils

from pfn_node.settings import Settings
from pfn_node.store import audit, registry, sessions
from pfn_node.store.database import Database
from pfn_node.store.outlasting import note
from pfn_node.store.rows import ApiKey, Session
from pfn_node.web.auditing import Auditing, Facts
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.rate_limits import RateLimit
from pfn_node.web.session_tokens import CSRF_HEADER, hash_token, is_csrf_token

Scope = Literal["sources", "subscribe", "read", "peers", "keys", "advisories"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARACTERS = 8
_SECRET_CHARACTERS = 43  # 62**43 > 2**256
_CHECKSUM_CHARACTERS = 6  # 62**6 > 2**32
_KEY = re.compile(
    rf"fadmin_([0-9A-Za-z]{{{_ID_CHARACTERS}}})_([0-9A-Za-z]{{{_SECRET_CHARACTERS + _CHECKSUM_CHARACTERS}}})"
)
_UNKNOWN_HASH = hashlib.sha256(b"no key has this secret").digest()

# Many addresses that try keys shall not push everything else out of the activity.
ALERTS_PER_MINUTE = 5

# "Last used" is for spotting forgotten keys: an hour is fine enough, and a key in use costs one write an hour.
LAST_USED_SECONDS = 3600

# No header that carries a key of ours is longer.
_HEADER_CHARACTERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key; `text` is shown once and kept nowhere."""

    id: str
    text: str
    secret_hash: bytes


def mint() -> MintedKey:
    """A new random key."""
    key_id = "".join(secrets.choice(_BASE62) for _ in range(_ID_CHARACTERS))
    secret = _base62(int.from_bytes(secrets.token_bytes(32), "big"), _SECRET_CHARACTERS)
    secret += _checksum(key_id, secret)
    return MintedKey(key_id, f"fadmin_{key_id}_{secret}", hash_secret(secret))


def hash_secret(secret: str) -> bytes:
    """What of a secret is kept."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def parse_key(text: str) -> tuple[str, str] | None:
    """(id, secret) of a well-formed key, else None."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    key_id, secret = match.groups()
    if not hmac.compare_digest(secret[-_CHECKSUM_CHARACTERS:], _checksum(key_id, secret[:-_CHECKSUM_CHARACTERS])):
        return None
    return key_id, secret


def _checksum(key_id: str, secret: str) -> str:
    return _base62(zlib.crc32(f"{key_id}_{secret}".encode("ascii")), _CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer ...` header; the scheme's case does not matter."""
    if header is None or len(header) > _HEADER_CHARACTERS_MAX:
        return None
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of who makes it."""

    authorization: str | None  # the header
    session: str | None  # the token in the cookie
    csrf: str | None  # the header that has to go along with it
    same_origin: bool  # a page of this node makes the request, as the browser says
    reads: bool  # the request changes nothing
    bucket: str | None  # under what its address is counted; None = exempt
    facts: Facts


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: a key, by itself or through a session."""

    key: ApiKey
    session: Session | None = None


class Authenticator:
    """Says who makes a request. One per app: it counts the failures, and the calls of each key."""

    def __init__(
        self,
        database: Database,
        auditing: Auditing,
        settings: Settings,
        now: Callable[[], float],
    ) -> None:
        master_key = settings.master_key
        self._database = database
        self._auditing = auditing
        self._master_hash = hashlib.sha256(master_key.get_secret_value().encode()).digest() if master_key else None
        self._now = now
        self._failures = RateLimit(settings.auth_failures_per_minute)
        self._calls = RateLimit(settings.key_requests_per_minute)
        self._alerts = RateLimit(ALERTS_PER_MINUTE, addresses_max=1)

    async def require(self, presented: Presented, scope: Scope | None) -> Caller:
        """The caller; raises ApiError 401, 403 (the key's scopes lack `scope`, or the request is forged) or 429."""
        caller = await self._identified(presented)
        presented.facts.actor = caller.key.id
        if caller.session is not None and not presented.reads:
            _check_not_forged(presented)
        if scope is not None and scope not in caller.key.scopes:
            raise ApiError(
                403,
                f"This key lacks the scope '{scope}'. Make one that has it with POST /federation/create-admin-key.",
                details={"needed": scope, "scopes": list(caller.key.scopes)},
            )
        return caller

    async def optional(self, presented: Presented) -> Caller | None:
        """The caller of something that anybody may call; a bad key or session counts as none."""
        if presented.authorization is None and presented.session is None:
            return None
        try:
            return await self._identified(presented)
        except ApiError:
            return None

    async def require_master(self, presented: Presented) -> None:
        """Raises ApiError unless the request carries the master key: 403 if the node has none, else 401 or 429."""
        if self._master_hash is None:
            raise ApiError(
                403,
                "This node makes no keys: it has no master key. Set PFN_MASTER_KEY (32 or more characters), restart.",
            )
        self._check_attempts(presented.bucket)
        token = bearer(presented.authorization)
        if token is None:
            raise ApiError(401, "Give the node's master key in the header: Authorization: Bearer ...")
        if not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._master_hash):
            await self._count_failure(presented, token)
            raise ApiError(401, "This is not the node's master key (an API key cannot make others).")
        presented.facts.actor = audit.MASTER

    async def _identified(self, presented: Presented) -> Caller:
        """The caller by the header if there is one, else by the cookie."""
        if presented.authorization is None and presented.session is not None:
            caller = self._of_session(presented.session)
        else:
            caller = await self._of_header(presented)
        wait = self._calls.take(caller.key.id, self._now()) if presented.bucket else 0.0
        if wait:
            raise too_many(f"More than {self._calls.per_minute} requests a minute came with this key.", wait)
        await self._note_use(caller.key)
        return caller

    def _of_session(self, token: str) -> Caller:
        now = self._now()

        def find(db: sqlite_utils.Database) -> Caller | None:
            session = sessions.find_session(db, hash_token(token))
            found = registry.find_key(db, session.key_id) if session else None
            return Caller(found[0], session) if found else None

        caller = self._database.read_now(find)
        if caller is None or caller.session is None or now >= caller.session.expires or not is_live(caller.key, now):
            raise ApiError(401, "This session has ended, or the key that it was begun with has. Sign in again.")
        return caller

    async def _of_header(self, presented: Presented) -> Caller:
        token = bearer(presented.authorization)
        if token is None:
            raise ApiError(401, "Give an API key in the header: Authorization: Bearer fadmin_...")
        self._check_attempts(presented.bucket)
        key = self._look_up(token)
        if key is None:
            await self._count_failure(presented, token)
            raise ApiError(401, "This API key is not valid here: it is unknown, or it has expired or been revoked.")
        return Caller(key)

    def _look_up(self, token: str) -> ApiKey | None:
        parsed = parse_key(token)
        if parsed is None:
            return None
        key_id, secret = parsed
        found = self._database.read_now(lambda db: registry.find_key(db, key_id))
        key, expected = found if found else (None, _UNKNOWN_HASH)
        if not hmac.compare_digest(hash_secret(secret), expected) or key is None:
            return None
        return key if is_live(key, self._now()) else None

    def _check_attempts(self, bucket: str | None) -> None:
        wait = self._failures.wait(bucket, self._now()) if bucket else 0.0
        if wait:
            raise too_many("Too many wrong keys came from this address; wait before trying again.", wait)

    async def _count_failure(self, presented: Presented, token: str) -> None:
        parsed = parse_key(token)
        attempt = Facts("authenticate", presented.facts.address, target=parsed[0] if parsed else None)
        await self._auditing.record_refusal(attempt)
        if presented.bucket is None:
            return
        self._failures.take(presented.bucket, self._now())
        if self._failures.wait(presented.bucket, self._now()) and not self._alerts.take("", self._now()):
            message = f"{self._failures.per_minute} wrong keys within a minute from {presented.bucket}"
            at = int(self._now())
            await self._database.write(lambda db: registry.record_activity(db, "security", message, at=at))

    async def _note_use(self, key: ApiKey) -> None:
        at = int(self._now())
        if key.last_used is None or at - key.last_used >= LAST_USED_SECONDS:
            await note(self._database, lambda db: registry.touch_key(db, key.id, at))  # who reads need not write


def _check_not_forged(presented: Presented) -> None:
    """Raises ApiError 403 unless a page of this node makes the request: a cookie alone proves nothing."""
    if not presented.same_origin:
        raise ApiError(403, "With a session only pages of this node may change anything; use an API key instead.")
    assert presented.session is not None
    if not is_csrf_token(presented.csrf, presented.session):
        raise ApiError(
            403,
            "This was sent from a page of another session. Open the page again, and send it from there; "
            f"a program sends the csrf_token of GET /session in the header {CSRF_HEADER}.",
        )


def is_live(key: ApiKey, now: float) -> bool:
    """Whether a key works now. `revoked` may lie ahead: a rotated key overlaps with its successor."""
    return (key.expires is None or now < key.expires) and (key.revoked is None or now < key.revoked)
