"""How a node passes its name to another key: the old key commits to the hash of the next one, and later signs for it.

A pin follows only a successor whose hash was committed to long before (R156): who steals a key of today cannot name the
key of tomorrow, for it has been named already. The commitment is an announcement of the old key, the succession one of
the new key that carries the old one's signature.
"""

from hashlib import sha256
from typing import Final

from pfn_protocol.announcements import Statement, SuccessionStatement, SuccessorStatement
from pfn_protocol.encoding import pack, preimage
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.identity import PrivateKey, verify

_DOMAIN: Final = "pfn/succession/1"


def commit_to(new: bytes) -> SuccessorStatement:
    """What the old key says long before: the hash of the key that is to follow (R45)."""
    return SuccessorStatement(sha256(new).digest())


def sign_succession(old: PrivateKey, new: bytes, mesh: str) -> SuccessionStatement:
    """What the new key says once it takes over, with the old key's signature (R46)."""
    return SuccessionStatement(old.public, old.sign(_signed(mesh, old.public, new)))


def check_succession(statement: Statement, author: bytes, mesh: str) -> None:
    """Raise `Refusal` (R46) if this is a succession that the old key has not signed for this author, in this mesh."""
    if not isinstance(statement, SuccessionStatement):
        return
    if statement.old_key == author:
        raise Refusal("R46", "a key cannot succeed itself")
    if not verify(statement.old_key, _signed(mesh, statement.old_key, author), statement.old_signature):
        raise Refusal("R46", "the old key has not signed for this successor in this mesh", Severity.HOSTILE)


def _signed(mesh: str, old: bytes, new: bytes) -> bytes:
    return preimage(_DOMAIN, mesh, pack((old, new)))
