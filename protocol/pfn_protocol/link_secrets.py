"""A secret for each link, known to its two sides only; the salts of their sketches come out of it.

Both sides send a fresh X25519 key and a nonce when the link is made. Without a secret salt anyone could grind ids
whose cells never decode (sketch_walk.py). A link may do without: then it is reconciled by pages of ids. The last two
secrets of a link count, because both sides may ask for it at the same time and see the answers in another order.
"""

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Final

from nacl import exceptions
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from pfn_protocol.limits import key_bytes, nonce_bytes, salt_bytes, salt_name_bytes
from pfn_protocol.messages import LinkAnswer, LinkRequest

# A first salt, and one for another try when a sketch of the first did not decode, or decoded to something wrong.
SALTS: Final = 2
_SECRETS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Salt:
    """The key of a sketch's hashes, and what it is called on the wire."""

    key: bytes
    name: bytes


class LinkSecrets:
    """The secrets of all links."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._offered: dict[bytes, tuple[bytes, bytes]] = {}  # peer -> the private and public key of the last request
        self._salts: dict[bytes, list[tuple[Salt, ...]]] = {}  # peer -> of each secret, the newest first

    def offer(self, peer: bytes, *, is_linked: bool) -> tuple[bytes, bytes]:
        """Key and nonce for a request for a link; both empty if the secret that there is shall stay."""
        if is_linked and peer in self._salts:
            return b"", b""
        private = self._rng.randbytes(key_bytes)
        public = crypto_scalarmult_base(private)
        self._offered[peer] = (private, public)
        return public, self._rng.randbytes(nonce_bytes)

    def answer(self, peer: bytes, request: LinkRequest) -> tuple[bytes, bytes]:
        """Key and nonce for the answer to a request for a link; both empty if it brought none."""
        if not request.key:
            return b"", b""
        private, nonce = self._rng.randbytes(key_bytes), self._rng.randbytes(nonce_bytes)
        self._agree(peer, private, request.key, request.nonce + nonce)
        return crypto_scalarmult_base(private), nonce

    def answered(self, peer: bytes, request: LinkRequest, answer: LinkAnswer) -> None:
        """A request for a link was granted."""
        private, public = self._offered.pop(peer, (b"", b""))
        if answer.key and request.key == public:
            self._agree(peer, private, answer.key, request.nonce + answer.nonce)

    def salt(self, peer: bytes, number: int) -> Salt | None:
        """The salt of this number, 0 or 1, out of the newest secret; None if the link has none."""
        salts = self._salts.get(peer)
        return salts[0][number] if salts else None

    def salt_named(self, peer: bytes, name: bytes) -> Salt | None:
        """The salt that the other side means."""
        return next((salt for salts in self._salts.get(peer, []) for salt in salts if salt.name == name), None)

    def salts(self, peer: bytes) -> list[bytes]:
        """The keys of all salts that count."""
        return [salt.key for salts in self._salts.get(peer, []) for salt in salts]

    def forget(self, peer: bytes) -> None:
        """The link is over, or the other side does not know the secret any more."""
        self._salts.pop(peer, None)

    def _agree(self, peer: bytes, private: bytes, public: bytes, nonces: bytes) -> None:
        secret = shared_secret(private, public, nonces)
        if secret is None:
            return
        salts = tuple(salt_of(secret, number) for number in range(SALTS))
        self._salts[peer] = [salts, *self._salts.get(peer, [])][:_SECRETS_MAX]


def shared_secret(private: bytes, public: bytes, nonces: bytes) -> bytes | None:
    """What both sides know and nobody else; None of a key of small order, which gives nothing secret."""
    try:
        shared = crypto_scalarmult(private, public)
    except exceptions.RuntimeError:
        return None
    return hashlib.blake2b(shared + nonces, digest_size=salt_bytes, person=b"pfn/link/1").digest()


def salt_of(secret: bytes, number: int) -> Salt:
    """One of the salts that come out of a secret."""
    data = bytes([number])
    key = hashlib.blake2b(data, digest_size=salt_bytes, key=secret, person=b"pfn/salt/1").digest()
    name = hashlib.blake2b(data, digest_size=salt_name_bytes, key=secret, person=b"pfn/name/1").digest()
    return Salt(key, name)
