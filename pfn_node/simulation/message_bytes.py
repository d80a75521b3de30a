"""What messages weigh on the wire, exactly, without signing them.

A size follows from the shape of a message: how many ids it has, how long each body is, how wide its numbers are. Most
messages of a large mesh have one of a few shapes, so the size of a shape is taken from the real encoding once.
"""

from typing import Any, Final

from pfn_protocol.answer_fields import ANSWER_PATHS, encode_answer
from pfn_protocol.encoding import Value, pack
from pfn_protocol.limits import key_bytes, nonce_bytes, signature_bytes
from pfn_protocol.messages import Answer, GossipAnswer, GossipRequest, Request
from pfn_protocol.request_fields import encode_request

_KEY: Final = bytes(key_bytes)
_NONCE: Final = bytes(nonce_bytes)
_SIGNATURE: Final = bytes(signature_bytes)
# Any moment of this century is as wide.
_TIME_MS: Final = 1_800_000_000_000
# Shapes that are remembered; counts of a growing set make new ones.
_SHAPES_MAX: Final = 50_000


class MessageBytes:
    """The sizes of whole messages, envelope and signature included."""

    def __init__(self) -> None:
        self._sizes: dict[Any, int] = {}
        self._of_ids: dict[int, int] = {}  # by how many: messages that tell ids and nothing else
        self._receipt = _answer_bytes(GossipAnswer((), (), None))

    def of_request(self, message: Request) -> int:
        """The bytes of the POST's body."""
        if type(message) is not GossipRequest:
            return _request_bytes(message)
        status = message.status
        if status is None and not message.push and not message.offer and not message.wait_seconds:
            ids = len(message.have)
            return self._of_ids.get(ids) or self._of_ids.setdefault(ids, _request_bytes(message))
        lengths = tuple(map(len, message.push))
        count = -1 if status is None else status.count
        shape = (lengths, len(message.have), count, message.wait_seconds, len(message.offer))
        size = self._sizes.get(shape)
        if size is None:
            size = self._learn(shape, _request_bytes(message))
        return size

    def of_answer(self, message: Answer) -> int:
        """The bytes of the answer's body."""
        if type(message) is not GossipAnswer:
            return _answer_bytes(message)
        status = message.status
        if status is None and not message.push and not message.want:
            return self._receipt
        lengths = tuple(map(len, message.push))
        shape = (lengths, len(message.want), -1 if status is None else status.count)
        size = self._sizes.get(shape)
        if size is None:
            size = self._learn(shape, _answer_bytes(message))
        return size

    def _learn(self, shape: Any, size: int) -> int:
        if len(self._sizes) >= _SHAPES_MAX:
            self._sizes.clear()
        self._sizes[shape] = size
        return size


def _request_bytes(message: Request) -> int:
    return _sealed_bytes("pfn/request/1", (message.path, _KEY, _TIME_MS, _NONCE, encode_request(message)))


def _answer_bytes(message: Answer) -> int:
    return _sealed_bytes("pfn/response/1", (ANSWER_PATHS[type(message)], _NONCE, encode_answer(message)))


def _sealed_bytes(domain: str, content: Value) -> int:
    return len(pack((1, domain, _KEY, pack(content), _SIGNATURE)))
