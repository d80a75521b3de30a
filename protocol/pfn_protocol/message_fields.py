"""Requests and answers between nodes as signed bytes, and back.

A request says for whom it is, for which path, when, and with which nonce; its answer repeats nonce and path. So
neither is of use to anybody else: not to another node, not at another time, not as the answer to another question.
Remembering the nonces (for `nonce_memory_ms`) is the receiver's part, since only it has a memory.
"""

from dataclasses import dataclass
from typing import Final

from pfn_protocol.answer_fields import ANSWER_PATHS, REFUSED, encode_answer, read_answer
from pfn_protocol.encoding import Envelope, open_envelope, seal
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import answer_bytes_max, key_bytes, nonce_bytes, request_bytes_max, skew_ms_max
from pfn_protocol.messages import Answer, Request
from pfn_protocol.request_fields import encode_request, read_request

_REQUEST_DOMAIN: Final = "pfn/request/1"
_ANSWER_DOMAIN: Final = "pfn/response/1"
_PATH_CHARS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request whose signature, recipient, path and time are right. Whether its nonce is new is still to be asked."""

    sender: bytes
    nonce: bytes
    message: Request


def seal_request(key: PrivateKey, *, mesh: str, to: bytes, message: Request, now_ms: int, nonce16: bytes) -> bytes:
    """Return the body of the POST to `/node/v1/<path>`; raise `Refusal` if the message is beyond a limit."""
    assert len(nonce16) == nonce_bytes, "a nonce has 16 bytes"
    content = encode_request(message)
    read_request(message.path, content)
    raw = seal(key, _REQUEST_DOMAIN, mesh, (message.path, to, now_ms, nonce16, content)).raw
    assert len(raw) <= request_bytes_max, "the limits of R77 keep every request within that of R78"
    return raw


def open_request(raw: bytes, *, mesh: str, path: str, me: bytes, now_ms: int) -> ReceivedRequest:
    """Check a request that came to `path`; raise `Refusal` (R70-R74, R77, R78).

    R73 (the clocks differ) is harmless; the refusal tells the sender the time here.
    """
    envelope = open_envelope(raw, mesh=mesh, domain=_REQUEST_DOMAIN, bytes_max=request_bytes_max)
    reader = FieldReader(envelope.value, 5, "R70", "a request")
    named_path = reader.text("path", _PATH_CHARS_MAX)
    recipient = reader.byte_string("to", key_bytes, bytes_min=key_bytes)
    sent_ms = reader.integer("time")
    nonce = reader.byte_string("nonce", nonce_bytes, bytes_min=nonce_bytes)
    if named_path != path:  # R71
        raise Refusal(
            "R71", f"the request is signed for the path {named_path!r}, and came to {path!r}", Severity.HOSTILE
        )
    if recipient != me:  # R72
        raise Refusal("R72", "the request is signed for another node than this one")
    if abs(sent_ms - now_ms) > skew_ms_max:  # R73
        raise Refusal("R73", f"the request's time differs from the time here, {now_ms} ms", Severity.HARMLESS)
    return ReceivedRequest(envelope.author, nonce, read_request(path, reader.value()))


def seal_answer(key: PrivateKey, *, mesh: str, nonce: bytes, message: Answer) -> bytes:
    """Return the answer to the request that had this nonce; raise `Refusal` if the message is beyond a limit."""
    assert len(nonce) == nonce_bytes, "a nonce has 16 bytes"
    path, content = ANSWER_PATHS[type(message)], encode_answer(message)
    read_answer(path, content)
    raw = seal(key, _ANSWER_DOMAIN, mesh, (path, nonce, content)).raw
    assert len(raw) <= answer_bytes_max, "the limits of R77 keep every answer within that of R78"
    return raw


def open_answer(raw: bytes, *, mesh: str, nonce: bytes, sender_expected: bytes, path: str) -> Answer:
    """Check the answer to one's own request; raise `Refusal` (R75-R78). A `RefusedAnswer` may come on every path."""
    envelope = _open_answer_envelope(raw, mesh, sender_expected)
    reader = FieldReader(envelope.value, 3, "R75", "an answer")
    named_path = reader.text("path", _PATH_CHARS_MAX)
    named_nonce = reader.byte_string("nonce", nonce_bytes, bytes_min=nonce_bytes)
    if named_nonce != nonce or named_path not in (path, REFUSED):
        raise Refusal("R75", "this is the answer to another request", Severity.HOSTILE)
    return read_answer(named_path, reader.value())


def _open_answer_envelope(raw: bytes, mesh: str, sender_expected: bytes) -> Envelope:
    envelope = open_envelope(raw, mesh=mesh, domain=_ANSWER_DOMAIN, bytes_max=answer_bytes_max)
    if envelope.author != sender_expected:
        raise Refusal("R76", "the answer is signed by another node than the one that was asked", Severity.HOSTILE)
    return envelope
