"""Requests and answers between nodes as signed bytes, and back.

A request says for whom it is, for which path, when, and with which nonce; its answer repeats nonce and path. So
neither is of use to anybody else: not to another node, not at another time, not as the answer to another question.
Remembering the nonces (for `nonce_memory_ms`) is the receiver's part, since only it has a memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from pfn_protocol.encoding import Envelope, Value, open_envelope, seal
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import (
    announcement_bytes_max,
    answer_bytes_max,
    authors_page_max,
    back_off_seconds_max,
    bodies_bytes_max,
    fetch_bodies_max,
    fetch_ids_max,
    gossip_bytes_max,
    gossip_ids_max,
    gossip_push_max,
    have_max,
    ids_page_max,
    key_bytes,
    left_out_max,
    nonce_bytes,
    offered_ids_max,
    refusal_rule_chars_max,
    refusal_sentence_chars_max,
    request_bytes_max,
    skew_ms_max,
    snapshot_page_max,
    url_chars_max,
    view_max,
    wait_seconds_max,
)
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.names import parse_instance_url

_REQUEST_DOMAIN: Final = "pfn/request/1"
_ANSWER_DOMAIN: Final = "pfn/response/1"
# What a refusal says in place of the path.
_REFUSED: Final = "refused"
_PATH_CHARS_MAX: Final = 16
_ANSWER_PATHS: Final[dict[type[Answer], str]] = {
    LinkAnswer: "link",
    GossipAnswer: "gossip",
    FetchAnswer: "fetch",
    AuthorsAnswer: "authors",
    IdsAnswer: "ids",
    SnapshotAnswer: "snapshot",
    HaveAnswer: "have",
    RefusedAnswer: _REFUSED,
}


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request whose signature, recipient, path and time are right. Whether its nonce is new is still to be asked."""

    sender: bytes
    nonce: bytes
    message: Request


def seal_request(key: PrivateKey, *, mesh: str, to: bytes, message: Request, now_ms: int, nonce16: bytes) -> bytes:
    """Return the body of the POST to `/node/v1/<path>`; raise `Refusal` if the message is beyond a limit."""
    assert len(nonce16) == nonce_bytes, "a nonce has 16 bytes"
    content = _encode_request(message)
    _read_request(message.path, content)
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
    return ReceivedRequest(envelope.author, nonce, _read_request(path, reader.value()))


def seal_answer(key: PrivateKey, *, mesh: str, nonce: bytes, message: Answer) -> bytes:
    """Return the answer to the request that had this nonce; raise `Refusal` if the message is beyond a limit."""
    assert len(nonce) == nonce_bytes, "a nonce has 16 bytes"
    path, content = _ANSWER_PATHS[type(message)], _encode_answer(message)
    _read_answer(path, content)
    raw = seal(key, _ANSWER_DOMAIN, mesh, (path, nonce, content)).raw
    assert len(raw) <= answer_bytes_max, "the limits of R77 keep every answer within that of R78"
    return raw


def open_answer(raw: bytes, *, mesh: str, nonce: bytes, sender_expected: bytes, path: str) -> Answer:
    """Check the answer to one's own request; raise `Refusal` (R75-R78). A `RefusedAnswer` may come on every path."""
    envelope = _open_answer_envelope(raw, mesh, sender_expected)
    reader = FieldReader(envelope.value, 3, "R75", "an answer")
    named_path = reader.text("path", _PATH_CHARS_MAX)
    named_nonce = reader.byte_string("nonce", nonce_bytes, bytes_min=nonce_bytes)
    if named_nonce != nonce or named_path not in (path, _REFUSED):
        raise Refusal("R75", "this is the answer to another request", Severity.HOSTILE)
    return _read_answer(named_path, reader.value())


def _open_answer_envelope(raw: bytes, mesh: str, sender_expected: bytes) -> Envelope:
    envelope = open_envelope(raw, mesh=mesh, domain=_ANSWER_DOMAIN, bytes_max=answer_bytes_max)
    if envelope.author != sender_expected:
        raise Refusal("R76", "the answer is signed by another node than the one that was asked", Severity.HOSTILE)
    return envelope


# --- Requests -------------------------------------------------------------------------------------------------------


def _encode_request(message: Request) -> Value:
    match message:
        case LinkRequest():
            return (message.url, _encode_view(message.view), message.left_out, message.compare_only)
        case GossipRequest():
            status = _encode_status(message.status)
            return (message.push, message.have, status, message.wait_seconds, message.offer, message.graft)
        case FetchRequest():
            return (message.ids,)
        case AuthorsRequest():
            return (message.after,)
        case IdsRequest():
            return (message.author, message.cap, message.after)
        case SnapshotRequest():
            return (message.after, message.author)
        case HaveRequest():
            return (message.digests,)
        case _:
            assert_never(message)


def _read_request(path: str, content: Value) -> Request:
    reader = _REQUEST_READERS.get(path)
    if reader is None:
        raise Refusal("R71", f"there is no request {path!r}")
    return reader(content)


def _read_link_request(content: Value) -> LinkRequest:
    reader = FieldReader(content, 4, "R77", "a link request")
    url = reader.text("url", url_chars_max)
    return LinkRequest(
        url=url and _read_url(reader, url),
        view=_read_view(reader),
        left_out=reader.sorted_digests("left_out", left_out_max),
        compare_only=reader.boolean("compare_only"),
    )


def _read_gossip_request(content: Value) -> GossipRequest:
    reader = FieldReader(content, 6, "R77", "a gossip request")
    return GossipRequest(
        push=_read_bodies(reader, "push", gossip_push_max, gossip_bytes_max),
        have=reader.digests("have", gossip_ids_max),
        status=_read_status(reader),
        wait_seconds=reader.integer("wait_seconds", 0, wait_seconds_max),
        offer=reader.digests("offer", offered_ids_max),
        graft=reader.boolean("graft"),
    )


def _read_fetch_request(content: Value) -> FetchRequest:
    return FetchRequest(FieldReader(content, 1, "R77", "a fetch request").digests("ids", fetch_ids_max))


def _read_authors_request(content: Value) -> AuthorsRequest:
    return AuthorsRequest(FieldReader(content, 1, "R77", "an authors request").optional_digest("after"))


def _read_ids_request(content: Value) -> IdsRequest:
    reader = FieldReader(content, 3, "R77", "an ids request")
    return IdsRequest(reader.digest("author"), reader.integer("cap"), reader.optional_digest("after"))


def _read_snapshot_request(content: Value) -> SnapshotRequest:
    reader = FieldReader(content, 2, "R77", "a snapshot request")
    return SnapshotRequest(reader.optional_digest("after"), reader.optional_digest("author"))


def _read_have_request(content: Value) -> HaveRequest:
    return HaveRequest(FieldReader(content, 1, "R77", "a have request").digests("digests", have_max))


_REQUEST_READERS: Final[dict[str, Callable[[Value], Request]]] = {
    LinkRequest.path: _read_link_request,
    GossipRequest.path: _read_gossip_request,
    FetchRequest.path: _read_fetch_request,
    AuthorsRequest.path: _read_authors_request,
    IdsRequest.path: _read_ids_request,
    SnapshotRequest.path: _read_snapshot_request,
    HaveRequest.path: _read_have_request,
}


# --- Answers --------------------------------------------------------------------------------------------------------


def _encode_answer(message: Answer) -> Value:
    match message:
        case LinkAnswer():
            return (message.accepted, message.back_off_seconds, _encode_view(message.view), message.left_out)
        case GossipAnswer():
            return (message.push, message.want, _encode_status(message.status), message.prune)
        case FetchAnswer():
            return (message.announcements, message.missing)
        case AuthorsAnswer():
            return (tuple((item.author, item.cap, item.count, item.digest) for item in message.authors), message.more)
        case IdsAnswer():
            return (message.ids, message.more)
        case SnapshotAnswer():
            return (message.announcements, message.after)
        case HaveAnswer():
            return (message.digests,)
        case RefusedAnswer():
            return (message.rule, message.sentence, message.now_ms)
        case _:
            assert_never(message)


def _read_answer(path: str, content: Value) -> Answer:
    reader = _ANSWER_READERS.get(path)
    assert reader is not None, "the path is that of one's own request"
    return reader(content)


def _read_link_answer(content: Value) -> LinkAnswer:
    reader = FieldReader(content, 4, "R77", "a link answer")
    return LinkAnswer(
        accepted=reader.boolean("accepted"),
        back_off_seconds=reader.integer("back_off_seconds", 0, back_off_seconds_max),
        view=_read_view(reader),
        left_out=reader.sorted_digests("left_out", left_out_max),
    )


def _read_gossip_answer(content: Value) -> GossipAnswer:
    reader = FieldReader(content, 4, "R77", "a gossip answer")
    return GossipAnswer(
        push=_read_bodies(reader, "push", gossip_push_max, gossip_bytes_max),
        want=reader.digests("want", gossip_ids_max),
        status=_read_status(reader),
        prune=reader.boolean("prune"),
    )


def _read_fetch_answer(content: Value) -> FetchAnswer:
    reader = FieldReader(content, 2, "R77", "a fetch answer")
    return FetchAnswer(
        announcements=_read_bodies(reader, "announcements", fetch_bodies_max, bodies_bytes_max),
        missing=reader.digests("missing", fetch_ids_max),
    )


def _read_authors_answer(content: Value) -> AuthorsAnswer:
    reader = FieldReader(content, 2, "R77", "an authors answer")
    authors = tuple(_read_author(item) for item in reader.items("authors", authors_page_max))
    reader.check_ascending("authors", [item.author for item in authors])
    return AuthorsAnswer(authors, reader.boolean("more"))


def _read_author(value: Value) -> AuthorSummary:
    reader = FieldReader(value, 4, "R77", "an author's summary")
    return AuthorSummary(
        author=reader.digest("author"),
        cap=reader.integer("cap"),
        count=reader.integer("count"),
        digest=reader.digest("digest"),
    )


def _read_ids_answer(content: Value) -> IdsAnswer:
    reader = FieldReader(content, 2, "R77", "an ids answer")
    return IdsAnswer(reader.sorted_digests("ids", ids_page_max), reader.boolean("more"))


def _read_snapshot_answer(content: Value) -> SnapshotAnswer:
    reader = FieldReader(content, 2, "R77", "a snapshot answer")
    return SnapshotAnswer(
        announcements=_read_bodies(reader, "announcements", snapshot_page_max, bodies_bytes_max),
        after=reader.optional_digest("after"),
    )


def _read_have_answer(content: Value) -> HaveAnswer:
    return HaveAnswer(FieldReader(content, 1, "R77", "a have answer").digests("digests", have_max))


def _read_refused_answer(content: Value) -> RefusedAnswer:
    reader = FieldReader(content, 3, "R79", "a refusal")
    return RefusedAnswer(
        rule=reader.text("rule", refusal_rule_chars_max),
        sentence=reader.text("sentence", refusal_sentence_chars_max),
        now_ms=reader.integer("now_ms"),
    )


_ANSWER_READERS: Final[dict[str, Callable[[Value], Answer]]] = {
    "link": _read_link_answer,
    "gossip": _read_gossip_answer,
    "fetch": _read_fetch_answer,
    "authors": _read_authors_answer,
    "ids": _read_ids_answer,
    "snapshot": _read_snapshot_answer,
    "have": _read_have_answer,
    _REFUSED: _read_refused_answer,
}


# --- Parts of both --------------------------------------------------------------------------------------------------


def _encode_view(view: tuple[PeerAddress, ...]) -> Value:
    return tuple((peer.node_id, peer.url) for peer in view)


def _read_view(reader: FieldReader) -> tuple[PeerAddress, ...]:
    return tuple(_read_peer(item) for item in reader.items("view", view_max))


def _read_peer(value: Value) -> PeerAddress:
    reader = FieldReader(value, 2, "R77", "a node's address")
    return PeerAddress(reader.digest("node_id"), _read_url(reader, reader.text("url", url_chars_max)))


def _read_url(reader: FieldReader, url: str) -> str:
    if parse_instance_url(url, allow_http=True) != url:
        raise reader.refusal("url", "in its one spelling (R58)")
    return url


def _encode_status(status: SetStatus | None) -> Value:
    return None if status is None else (status.count, status.digest)


def _read_status(reader: FieldReader) -> SetStatus | None:
    value = reader.value()
    if value is None:
        return None
    status = FieldReader(value, 2, "R77", "a set's status")
    return SetStatus(status.integer("count"), status.digest("digest"))


def _read_bodies(reader: FieldReader, field: str, items_max: int, bytes_max: int) -> tuple[bytes, ...]:
    bodies = reader.byte_strings(field, items_max, announcement_bytes_max)
    if sum(len(body) for body in bodies) > bytes_max:  # R78
        raise Refusal("R78", f"the announcements in {field} have more than {bytes_max} bytes together")
    return bodies
