"""Parts of several messages: views, statuses, bodies, keys, ids (SPEC.md, R77 and R78)."""

from pfn_protocol.encoding import Value
from pfn_protocol.errors import Refusal
from pfn_protocol.fields import FieldReader
from pfn_protocol.limits import (
    conviction_bytes_max,
    digest_bytes,
    fetch_ids_max,
    key_bytes,
    nonce_bytes,
    scope_bytes,
    sketch_id_bytes,
    url_chars_max,
    view_max,
)
from pfn_protocol.messages import PeerAddress, SetStatus
from pfn_protocol.names import parse_instance_url


def encode_view(view: tuple[PeerAddress, ...]) -> Value:
    return tuple((peer.node_id, peer.url) for peer in view)


def read_view(reader: FieldReader) -> tuple[PeerAddress, ...]:
    return tuple(_read_peer(item) for item in reader.items("view", view_max))


def _read_peer(value: Value) -> PeerAddress:
    reader = FieldReader(value, 2, "R77", "a node's address")
    return PeerAddress(reader.digest("node_id"), read_url(reader, reader.text("url", url_chars_max)))


def read_key(reader: FieldReader) -> tuple[bytes, bytes]:
    """A key for the link's secret and its nonce, or neither."""
    key, nonce = reader.byte_string("key", key_bytes), reader.byte_string("nonce", nonce_bytes)
    if (len(key), len(nonce)) not in ((0, 0), (key_bytes, nonce_bytes)):
        raise reader.refusal("key", f"{key_bytes} bytes beside a nonce of {nonce_bytes}, or empty beside an empty one")
    return key, nonce


def read_url(reader: FieldReader, url: str) -> str:
    if parse_instance_url(url, allow_http=True) != url:
        raise reader.refusal("url", "in its one spelling (R58)")
    return url


def encode_status(status: SetStatus | None) -> Value:
    return None if status is None else (status.count, status.digest, status.scope)


def read_status(reader: FieldReader) -> SetStatus | None:
    value = reader.value()
    if value is None:
        return None
    status = FieldReader(value, 3, "R77", "a set's status")
    scope = status.byte_string
    return SetStatus(
        status.integer("count"), status.digest("digest"), scope("scope", scope_bytes, bytes_min=scope_bytes)
    )


def read_bodies(reader: FieldReader, field: str, items_max: int, bytes_max: int) -> tuple[bytes, ...]:
    bodies = reader.byte_strings(field, items_max, conviction_bytes_max)
    if sum(len(body) for body in bodies) > bytes_max:  # R78
        raise Refusal("R78", f"the announcements in {field} have more than {bytes_max} bytes together")
    return bodies


def read_short_after(reader: FieldReader) -> bytes:
    """The first 16 bytes of the id to go on from, or none at all."""
    after = reader.byte_string("after", sketch_id_bytes)
    if len(after) not in (0, sketch_id_bytes):
        raise reader.refusal("after", f"{sketch_id_bytes} bytes, or empty")
    return after


def read_short_ids(reader: FieldReader, field: str, items_max: int) -> tuple[bytes, ...]:
    """Shortened ids, one after the other in one byte string, ascending."""
    joined = reader.byte_string(field, items_max * sketch_id_bytes)
    if len(joined) % sketch_id_bytes:
        raise reader.refusal(field, f"ids of {sketch_id_bytes} bytes")
    ids = tuple(joined[at : at + sketch_id_bytes] for at in range(0, len(joined), sketch_id_bytes))
    reader.check_ascending(field, ids)
    return ids


def read_wanted(reader: FieldReader, field: str) -> tuple[bytes, ...]:
    """Ids that are whole or shortened."""
    ids = reader.byte_strings(field, fetch_ids_max, digest_bytes)
    if any(len(one) not in (sketch_id_bytes, digest_bytes) for one in ids):
        raise reader.refusal(field, f"ids of {digest_bytes} bytes, or their first {sketch_id_bytes}")
    return ids
