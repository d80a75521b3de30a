"""What messages weigh on the wire: taken from the real encoding once, then added up."""

from pfn_protocol.identity import PrivateKey
from pfn_protocol.message_fields import seal_answer, seal_request
from pfn_protocol.messages import Answer, GossipAnswer, GossipRequest, Request, SetStatus

_KEY = PrivateKey(bytes(range(32)))
_NONCE = bytes(16)
_ID = bytes(32)
_TIME_MS = 1_800_000_000_000


class MessageBytes:
    """The bytes of gossip messages without the announcements that they carry, envelope and signature included."""

    def __init__(self) -> None:
        self._request = _request_bytes(GossipRequest((), (), None, 0))
        self._answer = _answer_bytes(GossipAnswer((), (), None))
        self._id = _request_bytes(GossipRequest((), (_ID,), None, 0)) - self._request
        self._status = _request_bytes(GossipRequest((), (), SetStatus(1, _ID), 0)) - self._request

    def of_request(self, message: GossipRequest) -> int:
        status = self._status if message.status is not None else 0
        return self._request + status + self._id * (len(message.have) + len(message.offer))

    def of_answer(self, message: GossipAnswer) -> int:
        status = self._status if message.status is not None else 0
        return self._answer + status + self._id * len(message.want)


def _request_bytes(message: Request) -> int:
    return len(seal_request(_KEY, mesh="main", to=_ID, message=message, now_ms=_TIME_MS, nonce16=_NONCE))


def _answer_bytes(message: Answer) -> int:
    return len(seal_answer(_KEY, mesh="main", nonce=_NONCE, message=message))
