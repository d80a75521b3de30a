"""How a message is signed: Standard Webhooks 1.0 (https://www.standardwebhooks.com), symmetric.

webhook-id         the message's id, the same in every attempt: whoever has it already ignores it
webhook-timestamp  when it was sent, in seconds since 1970: whoever gets an old one ignores it
webhook-signature  v1,<base64 of HMAC-SHA256 over "id.timestamp.body">
"""

import base64
import hashlib
import hmac
import secrets
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how secrets begin, not one
SECRET_BYTES: Final = 32  # the specification asks for 24 to 64
_ID_BYTES: Final = 18
_ID_CHARACTERS: Final = 8
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_secret() -> bytes:
    """A new random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """A secret as receivers write it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode("ascii")


def new_message_id() -> str:
    """An id that no other message has."""
    return f"msg_{secrets.token_urlsafe(_ID_BYTES)}"


def new_webhook_id() -> str:
    """An id for a webhook; no secret."""
    return "".join(secrets.choice(_BASE62) for _ in range(_ID_CHARACTERS))


def signed_headers(secret: bytes, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a message that is sent at a time (seconds since 1970)."""
    mac = hmac.new(secret, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode('ascii')}",
    }
