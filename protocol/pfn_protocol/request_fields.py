"""The contents of requests as lists of fields, and back (SPEC.md, R77)."""

from collections.abc import Callable
from typing import Final, assert_never

from pfn_protocol.encoding import Value
from pfn_protocol.errors import Refusal
from pfn_protocol.fields import FieldReader
from pfn_protocol.limits import (
    authors_page_max,
    gossip_bytes_max,
    gossip_ids_max,
    gossip_push_max,
    have_max,
    left_out_max,
    offered_ids_max,
    salt_name_bytes,
    scope_bytes,
    sketch_batch_max,
    sketch_cells_max,
    source_id_chars_max,
    url_chars_max,
    wait_seconds_max,
)
from pfn_protocol.message_parts import (
    encode_status,
    encode_view,
    read_bodies,
    read_key,
    read_short_after,
    read_status,
    read_url,
    read_view,
    read_wanted,
)
from pfn_protocol.messages import (
    AuthorsRequest,
    CellsRequest,
    FetchRequest,
    GossipRequest,
    HaveRequest,
    IdsRequest,
    LinkRequest,
    Request,
    SnapshotRequest,
)


def encode_request(message: Request) -> Value:
    match message:
        case LinkRequest():
            view, key, nonce = encode_view(message.view), message.key, message.nonce
            return (message.url, view, message.left_out, key, nonce, message.compare_only)
        case GossipRequest():
            status = encode_status(message.status)
            return (message.push, message.have, status, message.wait_seconds, message.offer, message.graft)
        case FetchRequest():
            return (message.ids,)
        case AuthorsRequest():
            return (message.after, message.mine, message.is_last)
        case CellsRequest():
            return (message.set_name, message.salt, message.scope, message.start, message.count)
        case IdsRequest():
            return (message.author, message.cap, message.after)
        case SnapshotRequest():
            return (message.after, message.author, message.until)
        case HaveRequest():
            return (message.digests,)
        case _:
            assert_never(message)


def read_request(path: str, content: Value) -> Request:
    reader = _REQUEST_READERS.get(path)
    if reader is None:
        raise Refusal("R71", f"there is no request {path!r}")
    return reader(content)


def _read_link_request(content: Value) -> LinkRequest:
    reader = FieldReader(content, 6, "R77", "a link request")
    url = reader.text("url", url_chars_max)
    return LinkRequest(
        url and read_url(reader, url),
        read_view(reader),
        reader.sorted_digests("left_out", left_out_max),
        *read_key(reader),
        compare_only=reader.boolean("compare_only"),
    )


def _read_gossip_request(content: Value) -> GossipRequest:
    reader = FieldReader(content, 6, "R77", "a gossip request")
    return GossipRequest(
        push=read_bodies(reader, "push", gossip_push_max, gossip_bytes_max),
        have=reader.digests("have", gossip_ids_max),
        status=read_status(reader),
        wait_seconds=reader.integer("wait_seconds", 0, wait_seconds_max),
        offer=reader.digests("offer", offered_ids_max),
        graft=reader.boolean("graft"),
    )


def _read_fetch_request(content: Value) -> FetchRequest:
    reader = FieldReader(content, 1, "R77", "a fetch request")
    return FetchRequest(read_wanted(reader, "ids"))


def _read_authors_request(content: Value) -> AuthorsRequest:
    reader = FieldReader(content, 3, "R77", "an authors request")
    after = reader.optional_digest("after")
    mine = tuple(_read_told_author(item) for item in reader.items("mine", authors_page_max))
    reader.check_ascending("mine", [author for author, _ in mine])
    return AuthorsRequest(after, mine, reader.boolean("is_last"))


def _read_told_author(value: Value) -> tuple[bytes, int]:
    reader = FieldReader(value, 2, "R77", "an author and its cap")
    return reader.digest("author"), reader.integer("cap", 1)


def _read_cells_request(content: Value) -> CellsRequest:
    reader = FieldReader(content, 5, "R77", "a cells request")
    return CellsRequest(
        set_name=reader.text("set", source_id_chars_max),
        salt=reader.byte_string("salt", salt_name_bytes, bytes_min=salt_name_bytes),
        scope=reader.byte_string("scope", scope_bytes, bytes_min=scope_bytes),
        start=reader.integer("start", 0, sketch_cells_max - 1),
        count=reader.integer("count", 1, sketch_batch_max),
    )


def _read_ids_request(content: Value) -> IdsRequest:
    reader = FieldReader(content, 3, "R77", "an ids request")
    return IdsRequest(reader.optional_digest("author"), reader.integer("cap"), read_short_after(reader))


def _read_snapshot_request(content: Value) -> SnapshotRequest:
    reader = FieldReader(content, 3, "R77", "a snapshot request")
    after, author, until = (reader.optional_digest(field) for field in ("after", "author", "until"))
    return SnapshotRequest(after, author, until)


def _read_have_request(content: Value) -> HaveRequest:
    return HaveRequest(FieldReader(content, 1, "R77", "a have request").digests("digests", have_max))


_REQUEST_READERS: Final[dict[str, Callable[[Value], Request]]] = {
    LinkRequest.path: _read_link_request,
    GossipRequest.path: _read_gossip_request,
    FetchRequest.path: _read_fetch_request,
    CellsRequest.path: _read_cells_request,
    AuthorsRequest.path: _read_authors_request,
    IdsRequest.path: _read_ids_request,
    SnapshotRequest.path: _read_snapshot_request,
    HaveRequest.path: _read_have_request,
}
