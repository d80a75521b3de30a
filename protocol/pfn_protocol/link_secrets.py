"""A secret for each link, known to its two sides only; the salts of their sketches come out of it.

Both sides send an X25519 key, one for each run of a node, and a fresh nonce when the link is made. Without a secret
salt anyone could grind ids whose cells never decode (sketch_walk.py). A link may do without: then it is reconciled by
pages of ids. The last two secrets of a link count, because both sides may ask for it at the same time and see the
answers in another order. A secret is worked out when sketches need it: most links never do, and who asks for many links
shall not make this node calculate.
"""

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Final

from nacl import exceptions
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from pfn_protocol.limits import key_bytes, nonce_bytes, peers_known_max, salt_bytes, salt_name_bytes
from pfn_protocol.messages import LinkAnswer, LinkRequest

# A first salt, and one for another try when a sketch of the first did not decode, or decoded to something wrong.
SALTS: Final = 2
_SECRETS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Salt:
    """The key of a sketch's hashes, and what it is called on the wire."""

    key: bytes
    name: bytes


@dataclass(slots=True)
class _Agreement:
    """What a secret follows from, and the salts that come out of it; none of them from a key that gives no secret."""

    public: bytes  # the other side's
    nonces: bytes
    salts: tuple[Salt, ...] | None = None  # None: not worked out yet


class LinkSecrets:
    """The secrets of all links."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._private = rng.randbytes(key_bytes)
        self._public: bytes | None = None  # worked out with the first link
        self._offered: dict[bytes, bytes] = {}  # peer -> the nonce of the last request
        self._agreements: dict[bytes, list[_Agreement]] = {}  # peer -> the newest first

    def offer(self, peer: bytes, *, is_linked: bool) -> tuple[bytes, bytes]:
        """Key and nonce for a request for a link; both empty if the secret that there is shall stay."""
        if is_linked and peer in self._agreements:
            return b"", b""
        self._offered.pop(peer, None)
        if len(self._offered) >= peers_known_max:  # the oldest was not answered, or refused
            del self._offered[next(iter(self._offered))]
        nonce = self._offered[peer] = self._rng.randbytes(nonce_bytes)
        return self._own_key(), nonce

    def answer(self, peer: bytes, request: LinkRequest) -> tuple[bytes, bytes]:
        """Key and nonce for the answer to a request for a link; both empty if it brought none."""
        if not request.key:
            return b"", b""
        nonce = self._rng.randbytes(nonce_bytes)
        self._agree(peer, request.key, request.nonce + nonce)
        return self._own_key(), nonce

    def answered(self, peer: bytes, request: LinkRequest, answer: LinkAnswer) -> None:
        """A request for a link was granted."""
        offered = self._offered.pop(peer, None)
        if answer.key and request.nonce == offered:
            self._agree(peer, answer.key, request.nonce + answer.nonce)

    def salt(self, peer: bytes, number: int) -> Salt | None:
        """The salt of this number, 0 or 1, out of the newest secret; None if the link has none."""
        salts = self._salts(peer)
        return salts[number] if salts else None

    def salt_named(self, peer: bytes, name: bytes) -> Salt | None:
        """The salt that the other side means."""
        return next((salt for salt in self._salts(peer) if salt.name == name), None)

    def salts(self, peer: bytes) -> list[bytes]:
        """The keys of all salts that count."""
        return [salt.key for salt in self._salts(peer)]

    def forget(self, peer: bytes) -> None:
        """The link is over, or the other side does not know the secret any more."""
        self._agreements.pop(peer, None)

    def _own_key(self) -> bytes:
        if self._public is None:
            self._public = crypto_scalarmult_base(self._private)
        return self._public

    def _agree(self, peer: bytes, public: bytes, nonces: bytes) -> None:
        agreements = [_Agreement(public, nonces), *self._agreements.get(peer, [])]
        self._agreements[peer] = agreements[:_SECRETS_MAX]

    def _salts(self, peer: bytes) -> list[Salt]:
        """The salts of the secrets that count, the newest first."""
        salts: list[Salt] = []
        for agreement in self._agreements.get(peer, ()):
            if agreement.salts is None:
                secret = shared_secret(self._private, agreement.public, agreement.nonces)
                agreement.salts = tuple(salt_of(secret, number) for number in range(SALTS)) if secret else ()
            salts += agreement.salts
        return salts


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
