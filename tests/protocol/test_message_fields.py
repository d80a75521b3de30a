"""Messages, beyond the vectors: what one's own side refuses to send, and how bad a wrong one is."""

import pytest

from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.limits import bodies_bytes_max, request_bytes_max
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    FetchRequest,
    GossipRequest,
    HaveAnswer,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, MESH, NOW_MS
from tests.protocol.vectors.message_cases import ANSWERS, NONCE, REQUESTS


def send(message: Request, now_ms: int = NOW_MS) -> bytes:
    return seal_request(ALICE, mesh=MESH, to=BOB.public, message=message, now_ms=now_ms, nonce16=NONCE)


@pytest.mark.parametrize("message", REQUESTS)
def test_a_request_arrives_as_it_was_sent(message: Request) -> None:
    received = open_request(send(message), mesh=MESH, path=message.path, me=BOB.public, now_ms=NOW_MS)

    assert (received.sender, received.nonce, received.message) == (ALICE.public, NONCE, message)


@pytest.mark.parametrize(("path", "message"), ANSWERS)
def test_an_answer_arrives_as_it_was_sent(path: str, message: Answer) -> None:
    raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=message)

    assert open_answer(raw, mesh=MESH, nonce=NONCE, sender_expected=BOB.public, path=path) == message


def test_a_full_gossip_request_and_a_full_page_fit_their_limits() -> None:
    body = b"\x91" * 4_096
    request = GossipRequest((body,) * 64, tuple(bytes([n // 256, n % 256]) * 16 for n in range(1_024)), None, 0)
    page = SnapshotAnswer((body,) * (bodies_bytes_max // 4_096), b"")

    assert len(send(request)) <= request_bytes_max
    raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=page)
    assert open_answer(raw, mesh=MESH, nonce=NONCE, sender_expected=BOB.public, path="snapshot") == page


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    with pytest.raises(Refusal, match="R77"):
        send(FetchRequest((b"\x01" * 32,) * 257))
    with pytest.raises(Refusal, match="R78"):
        seal_answer(BOB, mesh=MESH, nonce=NONCE, message=SnapshotAnswer((b"\x91" * 4_096,) * 257, b""))
    with pytest.raises(Refusal, match="R79"):
        seal_answer(BOB, mesh=MESH, nonce=NONCE, message=RefusedAnswer("R73", "s" * 501, NOW_MS))


def test_a_skewed_clock_is_harmless_and_is_told_the_time() -> None:
    with pytest.raises(Refusal) as refused:
        open_request(send(FetchRequest(()), NOW_MS - 121_000), mesh=MESH, path="fetch", me=BOB.public, now_ms=NOW_MS)

    assert refused.value.severity is Severity.HARMLESS
    assert str(NOW_MS) in refused.value.sentence


def test_answers_of_others_and_to_others_are_hostile() -> None:
    raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=HaveAnswer(()))

    for nonce, sender in ((bytes(16), BOB.public), (NONCE, CAROL.public)):
        with pytest.raises(Refusal) as refused:
            open_answer(raw, mesh=MESH, nonce=nonce, sender_expected=sender, path="have")
        assert refused.value.severity is Severity.HOSTILE


def test_an_empty_page_of_authors_is_an_answer() -> None:
    raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=AuthorsAnswer((), False))

    answer = open_answer(raw, mesh=MESH, nonce=NONCE, sender_expected=BOB.public, path="authors")

    assert answer == AuthorsAnswer((), False)
