"""Ed25519 keys: how they are held, checked, written and read.

A key is 32 bytes on the wire and `did:key:z…` in text for people. Publishers of the original network exchange their
keys as PEM (SPKI), so both forms are read. A public key is accepted only if it is the canonical encoding of a point
of the prime-order group: with a small-order key one signature verifies over every message, and two encodings of one
point would be two identities for one key.
"""

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from pfn_protocol.errors import Refusal
from pfn_protocol.limits import key_bytes, signature_bytes

# The fixed DER bytes before the 32 bytes of an Ed25519 key (RFC 8410).
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_PKCS8_PREFIX: Final = bytes.fromhex("302e020100300506032b657004220420")
# Multicodec "ed25519-pub", as an unsigned varint.
_DID_MULTICODEC: Final = b"\xed\x01"
_DID_PREFIX: Final = "did:key:z"
_BASE58_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_INDEX: Final = {character: index for index, character in enumerate(_BASE58_ALPHABET)}
# 34 bytes in base58 are 47 characters; a longer text is refused before any arithmetic.
_DID_CHARS_MAX: Final = 64
_PEM_CHARS_MAX: Final = 1_024
# Keys of peers and sources that are seen again and again; 64 bytes each.
_CHECKED_KEYS_MAX: Final = 16_384

_PEM: Final = re.compile(r"\s*-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----\s*")


class PrivateKey:
    """A node's or publisher's own key, made from its 32-byte seed."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == key_bytes, "an Ed25519 seed has 32 bytes"
        self.seed = seed
        self.public, self._secret = crypto_sign_seed_keypair(seed)

    def __repr__(self) -> str:
        return f"PrivateKey(of {did_key(self.public)})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over exactly these bytes."""
        return crypto_sign(message, self._secret)[:signature_bytes]

    @classmethod
    def from_pem(cls, text: str) -> "PrivateKey":
        """Read a PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` writes it; raise `Refusal` (R3) otherwise."""
        der = _pem_bytes(text, "PRIVATE KEY")
        if der is None or len(der) != len(_PKCS8_PREFIX) + key_bytes or not der.startswith(_PKCS8_PREFIX):
            raise Refusal("R3", "this is not an unencrypted Ed25519 private key in PKCS#8 PEM form")
        return cls(der[len(_PKCS8_PREFIX) :])

    def to_pem(self) -> str:
        """Return the PKCS#8 PEM, ending with a newline."""
        return _pem_text("PRIVATE KEY", _PKCS8_PREFIX + self.seed)


@lru_cache(maxsize=_CHECKED_KEYS_MAX)
def _is_sound(public: bytes) -> bool:
    # libsodium checks: canonical encoding, on the curve, not of small order, in the prime-order group.
    return len(public) == key_bytes and crypto_core_ed25519_is_valid_point(public)


def check_public_key(public: bytes) -> None:
    """Raise `Refusal` (R1) unless the bytes are a canonical point of the prime-order group."""
    if not _is_sound(public):
        raise Refusal(
            "R1", "this is not an Ed25519 public key: 32 bytes, canonical, and not of small order are required"
        )


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s over exactly `message`; never raises, whatever the bytes are."""
    if len(signature) != signature_bytes or not _is_sound(public):
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def did_key(public: bytes) -> str:
    """Return the W3C text form, `did:key:z6Mk…`."""
    assert len(public) == key_bytes, "a public key has 32 bytes"
    number = int.from_bytes(_DID_MULTICODEC + public, "big")
    characters: list[str] = []
    while number:
        number, remainder = divmod(number, 58)
        characters.append(_BASE58_ALPHABET[remainder])
    return _DID_PREFIX + "".join(reversed(characters))


def parse_did_key(text: str) -> bytes:
    """Return the 32 bytes of a `did:key:z…`; raise `Refusal` (R2, or R1 for an unsound key)."""
    if not text.startswith(_DID_PREFIX) or len(text) > _DID_CHARS_MAX:
        raise Refusal("R2", "a node id looks like did:key:z6Mk… (47 characters after did:key:)")
    number = 0
    for character in text[len(_DID_PREFIX) :]:
        if character not in _BASE58_INDEX:
            raise Refusal("R2", f"a node id is written in base58, which has no {character!r}")
        number = number * 58 + _BASE58_INDEX[character]
    decoded = number.to_bytes((number.bit_length() + 7) // 8, "big")
    public = decoded[len(_DID_MULTICODEC) :]
    if len(decoded) != len(_DID_MULTICODEC) + key_bytes or not decoded.startswith(_DID_MULTICODEC):
        raise Refusal("R2", "this did:key is not one of an Ed25519 key (those begin with did:key:z6Mk)")
    if did_key(public) != text:
        # Leading "1"s are zero bytes in base58: they would be a second text for the same key.
        raise Refusal("R2", "this did:key is not in its shortest form")
    check_public_key(public)
    return public


def short_did(text: str) -> str:
    """Shorten a node id for display: enough of both ends to tell nodes apart, never to be read back."""
    value = text.removeprefix("did:key:")
    return value if len(value) <= 16 else f"{value[:10]}…{value[-4:]}"


def parse_public_key(text: str) -> bytes:
    """Return the 32 bytes of a key given as SPKI PEM or as base64 of the raw key; raise `Refusal` (R3, R1)."""
    public = _public_from_pem(text) if "-----" in text else _public_from_base64(text)
    if public is None:
        raise Refusal(
            "R3", "expected an Ed25519 public key: PEM (-----BEGIN PUBLIC KEY-----) or base64 of its 32 bytes"
        )
    check_public_key(public)
    return public


def public_key_pem(public: bytes) -> str:
    """Return the SPKI PEM, ending with a newline, as publishers of the original network write it."""
    assert len(public) == key_bytes, "a public key has 32 bytes"
    return _pem_text("PUBLIC KEY", _SPKI_PREFIX + public)


def key_fingerprint(public: bytes) -> str:
    """Return the SHA-256 of the key in hex, for comparing by eye."""
    return hashlib.sha256(public).hexdigest()


def _public_from_pem(text: str) -> bytes | None:
    der = _pem_bytes(text, "PUBLIC KEY")
    if der is None or not der.startswith(_SPKI_PREFIX) or len(der) != len(_SPKI_PREFIX) + key_bytes:
        return None
    return der[len(_SPKI_PREFIX) :]


def _public_from_base64(text: str) -> bytes | None:
    if len(text) > _PEM_CHARS_MAX:
        return None
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    # A whole SPKI structure without its PEM lines is what some publishers paste.
    if len(decoded) == len(_SPKI_PREFIX) + key_bytes and decoded.startswith(_SPKI_PREFIX):
        return decoded[len(_SPKI_PREFIX) :]
    return decoded if len(decoded) == key_bytes else None


def _pem_bytes(text: str, label: str) -> bytes | None:
    # Some publishers' configuration keeps the line breaks of a PEM as the two characters "\n".
    unfolded = text.replace("\\n", "\n")
    match = _PEM.fullmatch(unfolded) if len(text) <= _PEM_CHARS_MAX else None
    if match is None or match.group(1) != label:
        return None
    try:
        return base64.b64decode("".join(match.group(2).split()), validate=True)
    except binascii.Error:
        return None


def _pem_text(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode('ascii')}\n-----END {label}-----\n"
