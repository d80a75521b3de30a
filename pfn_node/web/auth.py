"""API keys: how they are made, kept, and checked.

A key reads `fadmin_<id>_<secret>`: the id is public (8 characters), the secret 32 random bytes in base62 and six
characters of checksum, so that secret scanners can tell a real one. Kept are the id and SHA-256 of the secret: with
256 bits of chance in it no slow hash is needed. A key is looked up by its id, and hashes of fixed length are
compared in constant time, against a dummy where the id is unknown. Failed attempts are counted per address; past
the limit even a right key gets 429, and the first refusal of that kind is shown in the activity.

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

from pydantic import SecretStr

from pfn_node.store import registry
from pfn_node.store.database import Database
from pfn_node.store.rows import ApiKey
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.rate_limits import RateLimit

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

# Enough for typing errors of a person, hopeless for guessing.
FAILURES_PER_MINUTE = 10

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


class Authenticator:
    """Says whose key a request carries. One per app: it counts the failures."""

    def __init__(self, database: Database, master_key: SecretStr | None, now: Callable[[], float]) -> None:
        self._database = database
        self._master_hash = hashlib.sha256(master_key.get_secret_value().encode()).digest() if master_key else None
        self._now = now
        self._failures = RateLimit(FAILURES_PER_MINUTE)

    async def require(self, header: str | None, scope: Scope | None, address: str | None) -> ApiKey:
        """The key of the request; raises ApiError 401, 403 (its scopes lack `scope`) or 429."""
        key = await self._checked(header, address)
        if scope is not None and scope not in key.scopes:
            raise ApiError(
                403,
                f"This key lacks the scope '{scope}'. Make one that has it with POST /federation/create-admin-key.",
                details={"needed": scope, "scopes": list(key.scopes)},
            )
        return key

    async def optional(self, header: str | None, address: str | None) -> ApiKey | None:
        """The key of a request to a call that anybody may make; a bad key counts as none."""
        if header is None:
            return None
        try:
            return await self._checked(header, address)
        except ApiError:
            return None

    async def require_master(self, header: str | None, address: str | None) -> None:
        """Raises ApiError unless the request carries the master key: 403 if the node has none, else 401 or 429."""
        if self._master_hash is None:
            raise ApiError(
                403,
                "This node makes no keys: it has no master key. Set PFN_MASTER_KEY (32 or more characters), restart.",
            )
        self._check_attempts(address)
        token = bearer(header)
        if token is None:
            raise ApiError(401, "Give the node's master key in the header: Authorization: Bearer ...")
        if not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._master_hash):
            await self._count_failure(address)
            raise ApiError(401, "This is not the node's master key (an API key cannot make others).")

    async def _checked(self, header: str | None, address: str | None) -> ApiKey:
        if bearer(header) is None:
            raise ApiError(401, "Give an API key in the header: Authorization: Bearer fadmin_...")
        self._check_attempts(address)
        key = self._look_up(bearer(header) or "")
        if key is None:
            await self._count_failure(address)
            raise ApiError(401, "This API key is not valid here: it is unknown, or it has expired or been revoked.")
        await self._note_use(key)
        return key

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

    def _check_attempts(self, address: str | None) -> None:
        wait = self._failures.wait(address, self._now()) if address else 0.0
        if wait:
            raise too_many("Too many wrong keys came from this address; wait before trying again.", wait)

    async def _count_failure(self, address: str | None) -> None:
        if address is None:
            return
        self._failures.take(address, self._now())
        if self._failures.wait(address, self._now()):
            message = f"{FAILURES_PER_MINUTE} wrong keys within a minute from {address}"
            at = int(self._now())
            await self._database.write(lambda db: registry.record_activity(db, "security", message, at=at))

    async def _note_use(self, key: ApiKey) -> None:
        at = int(self._now())
        if key.last_used is None or at - key.last_used >= LAST_USED_SECONDS:
            await self._database.write(lambda db: registry.touch_key(db, key.id, at))


def is_live(key: ApiKey, now: float) -> bool:
    """Whether a key works now. `revoked` may lie ahead: a rotated key overlaps with its successor."""
    return (key.expires is None or now < key.expires) and (key.revoked is None or now < key.revoked)
