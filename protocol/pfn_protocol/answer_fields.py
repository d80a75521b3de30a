"""The contents of answers as lists of fields, and back (SPEC.md, R77 and R79)."""

from collections.abc import Callable
from typing import Final, assert_never

from pfn_protocol.encoding import Value
from pfn_protocol.fields import FieldReader
from pfn_protocol.limits import (
    authors_page_max,
    back_off_seconds_max,
    bodies_bytes_max,
    fetch_bodies_max,
    gossip_bytes_max,
    gossip_ids_max,
    gossip_push_max,
    have_max,
    ids_page_max,
    left_out_max,
    refusal_rule_chars_max,
    refusal_sentence_chars_max,
    sketch_batch_max,
    sketch_cell_bytes,
    snapshot_page_max,
)
from pfn_protocol.message_parts import (
    encode_status,
    encode_view,
    read_bodies,
    read_key,
    read_short_ids,
    read_status,
    read_view,
    read_wanted,
)
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorSummary,
    CellsAnswer,
    FetchAnswer,
    GossipAnswer,
    HaveAnswer,
    IdsAnswer,
    LinkAnswer,
    RefusedAnswer,
    SnapshotAnswer,
)

# What a refusal says in place of the path.
REFUSED: Final = "refused"
ANSWER_PATHS: Final[dict[type[Answer], str]] = {
    LinkAnswer: "link",
    GossipAnswer: "gossip",
    FetchAnswer: "fetch",
    CellsAnswer: "cells",
    AuthorsAnswer: "authors",
    IdsAnswer: "ids",
    SnapshotAnswer: "snapshot",
    HaveAnswer: "have",
    RefusedAnswer: REFUSED,
}


def encode_answer(message: Answer) -> Value:
    match message:
        case LinkAnswer():
            view = encode_view(message.view)
            left_out, key, nonce = message.left_out, message.key, message.nonce
            return (message.accepted, message.back_off_seconds, view, left_out, key, nonce)
        case GossipAnswer():
            return (message.push, message.want, encode_status(message.status), message.prune)
        case FetchAnswer():
            return (message.announcements, message.missing)
        case CellsAnswer():
            return (message.cells, message.count, message.digest)
        case AuthorsAnswer():
            return (tuple((item.author, item.cap, item.count, item.digest) for item in message.authors), message.more)
        case IdsAnswer():
            return (b"".join(message.ids), message.more)
        case SnapshotAnswer():
            return (message.announcements, message.after)
        case HaveAnswer():
            return (message.digests,)
        case RefusedAnswer():
            return (message.rule, message.sentence, message.now_ms)
        case _:
            assert_never(message)


def read_answer(path: str, content: Value) -> Answer:
    reader = _ANSWER_READERS.get(path)
    assert reader is not None, "the path is that of one's own request"
    return reader(content)


def _read_link_answer(content: Value) -> LinkAnswer:
    reader = FieldReader(content, 6, "R77", "a link answer")
    return LinkAnswer(
        reader.boolean("accepted"),
        reader.integer("back_off_seconds", 0, back_off_seconds_max),
        read_view(reader),
        reader.sorted_digests("left_out", left_out_max),
        *read_key(reader),
    )


def _read_gossip_answer(content: Value) -> GossipAnswer:
    reader = FieldReader(content, 4, "R77", "a gossip answer")
    return GossipAnswer(
        push=read_bodies(reader, "push", gossip_push_max, gossip_bytes_max),
        want=reader.digests("want", gossip_ids_max),
        status=read_status(reader),
        prune=reader.boolean("prune"),
    )


def _read_fetch_answer(content: Value) -> FetchAnswer:
    reader = FieldReader(content, 2, "R77", "a fetch answer")
    return FetchAnswer(
        announcements=read_bodies(reader, "announcements", fetch_bodies_max, bodies_bytes_max),
        missing=read_wanted(reader, "missing"),
    )


def _read_cells_answer(content: Value) -> CellsAnswer:
    reader = FieldReader(content, 3, "R77", "a cells answer")
    cells = reader.byte_string("cells", sketch_batch_max * sketch_cell_bytes)
    if len(cells) % sketch_cell_bytes:
        raise reader.refusal("cells", f"whole cells of {sketch_cell_bytes} bytes")
    return CellsAnswer(cells, reader.integer("count"), reader.digest("digest"))


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
    return IdsAnswer(read_short_ids(reader, "ids", ids_page_max), reader.boolean("more"))


def _read_snapshot_answer(content: Value) -> SnapshotAnswer:
    reader = FieldReader(content, 2, "R77", "a snapshot answer")
    return SnapshotAnswer(
        announcements=read_bodies(reader, "announcements", snapshot_page_max, bodies_bytes_max),
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
    "cells": _read_cells_answer,
    "authors": _read_authors_answer,
    "ids": _read_ids_answer,
    "snapshot": _read_snapshot_answer,
    "have": _read_have_answer,
    REFUSED: _read_refused_answer,
}
