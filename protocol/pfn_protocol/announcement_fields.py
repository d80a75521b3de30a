"""Announcements as lists of fields, in the order of the tables of SPEC.md, and back.

`decode` is the schema: whatever comes out of it has every text, list and number within its bounds, every name in its
one spelling and every sorted list sorted. Nothing here looks at a clock or a signature (acceptance.py does).
"""

from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Final, assert_never

from pfn_protocol.announcements import (
    AdvisoryStatement,
    Evidence,
    EvidenceForm,
    Kind,
    MirrorStatement,
    NodeStatement,
    RevokeStatement,
    SignedKind,
    SourceStatement,
    Statement,
    SuccessionStatement,
    SuccessorStatement,
    VersionStatement,
    YankStatement,
)
from pfn_protocol.encoding import Value, pack
from pfn_protocol.errors import Refusal
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import check_public_key
from pfn_protocol.limits import (
    announcement_bytes_max,
    artifact_size_bytes_max,
    description_chars_max,
    epoch_max,
    evidence_bytes_max,
    evidence_max,
    feature_chars_max,
    features_max,
    integer_max,
    name_chars_max,
    naming_scheme_chars_max,
    oracle_chars_max,
    pins_max,
    publisher_envelope_bytes_max,
    reason_chars_max,
    seq_min_ms,
    signature_bytes,
    software_chars_max,
    source_id_chars_max,
    sponsored_max,
    summary_chars_max,
    tag_chars_max,
    tags_max,
    time_seconds_max,
    url_chars_max,
    username_chars_max,
    word_chars_max,
)
from pfn_protocol.names import (
    check_slug,
    check_source_id,
    check_version,
    parse_instance_url,
    source_id_of,
)
from pfn_protocol.notice_fields import (
    read_advisory_id,
    read_aliases,
    read_ranges,
    read_severity,
    read_shown_url,
)

RELEASE_TYPES: Final = ("plugin", "theme")
# What a probe found that a publisher signs for anybody; empty: not probed.
ORACLES: Final = ("", "none", "utf8", "raw")
# What a publisher may say about its keys: a new one follows, or one no longer counts.
KEY_CHANGES: Final = ("rotate", "revoke")
# Evidence that is one bare signature; the other forms are whole envelopes.
_SIGNATURE_FORMS: Final = frozenset({EvidenceForm.METADATA, EvidenceForm.PLUGIN_DATA, EvidenceForm.SHA384})
# (epoch, seq) come first in every announcement.
_ORDER_FIELDS: Final = 2
# Where a version's body has its sha256, and what it replaces.
_SHA256_PLACE: Final = 9
_REPLACES_PLACE: Final = 13
# What an envelope adds around a body: version, domain, key, signature and the headers of each (120 bytes, rounded up).
_ENVELOPE_BYTES: Final = 160
# What (epoch, seq) take at most.
_ORDER_BYTES: Final = 18


def encode(statement: Statement, epoch: int, seq: int) -> Value:
    """Return the body of an announcement of the statement, in the order of its table."""
    match statement:
        case NodeStatement():
            fields = _encode_node(statement)
        case SourceStatement():
            fields = _encode_source(statement)
        case VersionStatement():
            fields = _encode_version(statement)
        case MirrorStatement():
            fields = (statement.source_id, statement.count, statement.digest)
        case SuccessorStatement():
            fields = (statement.key_sha256,)
        case SuccessionStatement():
            fields = (statement.old_key, statement.old_signature)
        case YankStatement() | AdvisoryStatement() | RevokeStatement():
            fields = tuple(getattr(statement, field.name) for field in dataclass_fields(statement))
        case _:
            assert_never(statement)
    return (epoch, seq, *fields)


def decode(kind: SignedKind, value: Value) -> tuple[int, int, Statement]:
    """Return (epoch, seq, statement) of a body; raise `Refusal` (R22-R28, and the rules of names)."""
    match kind:
        case Kind.NODE:
            return _decode_node(value)
        case Kind.SOURCE:
            return _decode_source(value)
        case Kind.VERSION:
            return _decode_version(value)
        case Kind.MIRROR:
            return _decode_mirror(value)
        case Kind.YANK:
            return _decode_yank(value)
        case Kind.ADVISORY:
            return _decode_advisory(value)
        case Kind.REVOKE:
            return _decode_revoke(value)
        case Kind.SUCCESSOR:
            return _decode_successor(value)
        case Kind.SUCCESSION:
            return _decode_succession(value)
        case _:
            assert_never(kind)


def shortened(statement: VersionStatement) -> VersionStatement:
    """Return the statement with so much of its description, then of its tags, cut off that its announcement fits.

    Only for a statement whose metadata evidence, if it has any, names its text by `text_sha256`: otherwise the
    description is part of what the publisher signed, and the text must be put aside first.
    """
    description, tags = statement.description, statement.tags[:tags_max]
    if description is not None:
        description = description[:description_chars_max]
    candidate = replace(statement, description=description, tags=tags)
    while description and (excess := _excess_bytes(candidate)) > 0:
        # A character has at most four bytes: this takes off too little at a time, never too much.
        description = description[: -max(1, excess // 4)]
        candidate = replace(candidate, description=description)
    while tags and _excess_bytes(candidate) > 0:
        tags = tags[:-1]
        candidate = replace(candidate, tags=tags)
    return candidate


def _excess_bytes(statement: Statement) -> int:
    return len(pack(encode(statement, 0, 0))) + _ORDER_BYTES + _ENVELOPE_BYTES - announcement_bytes_max


def _encode_node(statement: NodeStatement) -> tuple[Value, ...]:
    return (
        statement.url,
        statement.software,
        statement.features,
        statement.pins,
        statement.sponsored,
        statement.count,
        statement.root,
        statement.left,
    )


def _encode_source(statement: SourceStatement) -> tuple[Value, ...]:
    return (
        statement.source_id,
        statement.instance_url,
        statement.username,
        statement.public_key,
        statement.asset_domain,
        statement.asset_naming_scheme,
        statement.verified,
        statement.verified_at,
        statement.oracle,
    )


def _encode_version(statement: VersionStatement) -> tuple[Value, ...]:
    return (
        statement.source_id,
        statement.plugin_id,
        statement.version,
        statement.type,
        statement.name,
        statement.description,
        statement.tags,
        statement.sha256,
        statement.size,
        statement.observed_at,
        tuple((str(item.form), item.data, item.text_sha256) for item in statement.evidence),
        statement.replaces,
    )


def _open(value: Value, kind: Kind, rule: str, fields: int) -> tuple[FieldReader, int, int]:
    reader = FieldReader(value, _ORDER_FIELDS + fields, rule, f"a {kind} announcement")
    order = FieldReader((reader.value(), reader.value()), _ORDER_FIELDS, "R22", f"a {kind} announcement")
    return reader, order.integer("epoch", 0, epoch_max), order.integer("seq", seq_min_ms, integer_max)


def _decode_node(value: Value) -> tuple[int, int, NodeStatement]:
    reader, epoch, seq = _open(value, Kind.NODE, "R23", 8)
    url = reader.text("url", url_chars_max)
    if url:
        _check_url(reader, "url", url)
    return (
        epoch,
        seq,
        NodeStatement(
            url=url,
            software=reader.text("software", software_chars_max),
            features=reader.texts("features", features_max, feature_chars_max),
            pins=reader.sorted_digests("pins", pins_max),
            sponsored=reader.sorted_digests("sponsored", sponsored_max),
            count=reader.integer("count"),
            root=reader.digest("root"),
            left=reader.boolean("left"),
        ),
    )


def _decode_source(value: Value) -> tuple[int, int, SourceStatement]:
    reader, epoch, seq = _open(value, Kind.SOURCE, "R24", 9)
    statement = SourceStatement(
        source_id=reader.text("source_id", source_id_chars_max),
        instance_url=reader.text("instance_url", url_chars_max),
        username=reader.text("username", username_chars_max),
        public_key=reader.digest("public_key"),
        asset_domain=reader.text("asset_domain", url_chars_max),
        asset_naming_scheme=reader.text("asset_naming_scheme", naming_scheme_chars_max),
        verified=reader.boolean("verified"),
        verified_at=reader.integer("verified_at", 0, time_seconds_max),
        oracle=reader.text("oracle", oracle_chars_max),
    )
    _check_url(reader, "instance_url", statement.instance_url)
    if statement.source_id != source_id_of(statement.instance_url, statement.username):
        raise reader.refusal("source_id", "username@host of its own instance_url and username")
    if statement.oracle not in ORACLES:
        raise reader.refusal("oracle", "none, utf8, raw or empty")
    check_public_key(statement.public_key)
    return epoch, seq, statement


def marks_of_version(value: Value) -> tuple[bytes, bytes]:
    """Return (sha256, replaces) of a version's body that `decode` has accepted before.

    Nothing is checked again: a node that starts reads a million of them.
    """
    assert isinstance(value, tuple), "it was accepted"
    sha256, replaces = value[_SHA256_PLACE], value[_REPLACES_PLACE]
    assert isinstance(sha256, bytes) and isinstance(replaces, bytes), "it was accepted"
    return sha256, replaces


def _decode_version(value: Value) -> tuple[int, int, VersionStatement]:
    reader, epoch, seq = _open(value, Kind.VERSION, "R25", 12)
    statement = VersionStatement(
        source_id=reader.text("source_id", source_id_chars_max),
        plugin_id=reader.text("plugin_id", url_chars_max),
        version=reader.text("version", url_chars_max),
        type=reader.text("type", url_chars_max),
        name=reader.text("name", name_chars_max, chars_min=1),
        description=reader.optional_text("description", description_chars_max, lines=True),
        tags=reader.texts("tags", tags_max, tag_chars_max),
        sha256=reader.digest("sha256"),
        size=reader.integer("size", 1, artifact_size_bytes_max),
        observed_at=reader.integer("observed_at", 0, time_seconds_max),
        evidence=_decode_evidence(reader.items("evidence", evidence_max)),
        replaces=reader.optional_digest("replaces"),
    )
    check_source_id(statement.source_id)
    check_slug(statement.plugin_id)
    check_version(statement.version)
    if statement.type not in RELEASE_TYPES:
        raise reader.refusal("type", "plugin or theme")
    return epoch, seq, statement


def _decode_evidence(items: tuple[Value, ...]) -> tuple[Evidence, ...]:
    evidence = tuple(_decode_piece(item) for item in items)
    if len({piece.form for piece in evidence}) != len(evidence):
        raise Refusal("R27", "one form of evidence is given twice")
    return evidence


def _decode_piece(value: Value) -> Evidence:
    reader = FieldReader(value, 3, "R27", "a piece of evidence")
    name = reader.text("form", url_chars_max)
    if name not in list(EvidenceForm):
        raise reader.refusal("form", "one of " + ", ".join(EvidenceForm))
    form = EvidenceForm(name)
    is_signature = form in _SIGNATURE_FORMS
    data = reader.byte_string(
        "data",
        signature_bytes if is_signature else evidence_bytes_max,
        bytes_min=signature_bytes if is_signature else 1,
    )
    text_sha256 = reader.optional_digest("text_sha256")
    if form is EvidenceForm.PLUGIN_DATA and not text_sha256:
        raise reader.refusal("text_sha256", "given for plugin-data, whose text never rides along")
    if form not in (EvidenceForm.PLUGIN_DATA, EvidenceForm.METADATA) and text_sha256:
        raise reader.refusal("text_sha256", "empty for a form that has no text of its own")
    return Evidence(form, data, text_sha256)


def _decode_mirror(value: Value) -> tuple[int, int, MirrorStatement]:
    reader, epoch, seq = _open(value, Kind.MIRROR, "R26", 3)
    statement = MirrorStatement(
        source_id=reader.text("source_id", source_id_chars_max),
        count=reader.integer("count"),
        digest=reader.digest("digest"),
    )
    check_source_id(statement.source_id)
    return epoch, seq, statement


def _decode_yank(value: Value) -> tuple[int, int, YankStatement]:
    reader, epoch, seq = _open(value, Kind.YANK, "R137", 7)
    source_id, plugin_id = _read_about(reader)
    version = reader.text("version", url_chars_max)
    check_version(version)
    evidence, keybind = _read_notice_evidence(reader)
    if evidence:
        _read_empty(reader, ("reason", ""), ("withdrawn", False))
        return epoch, seq, YankStatement(source_id, plugin_id, version, evidence, keybind)
    reason, withdrawn = reader.text("reason", reason_chars_max), reader.boolean("withdrawn")
    return epoch, seq, YankStatement(source_id, plugin_id, version, reason=reason, withdrawn=withdrawn)


def _decode_advisory(value: Value) -> tuple[int, int, AdvisoryStatement]:
    reader, epoch, seq = _open(value, Kind.ADVISORY, "R138", 11)
    source_id, plugin_id = _read_about(reader)
    advisory_id = read_advisory_id(reader)
    evidence, keybind = _read_notice_evidence(reader)
    if evidence:
        texts = (("severity", ""), ("summary", ""), ("ranges", ()), ("url", ""), ("aliases", ()))
        _read_empty(reader, *texts, ("withdrawn", False))
        return epoch, seq, AdvisoryStatement(source_id, plugin_id, advisory_id, evidence, keybind)
    statement = AdvisoryStatement(
        source_id,
        plugin_id,
        advisory_id,
        severity=read_severity(reader),
        summary=reader.text("summary", summary_chars_max, chars_min=1),
        ranges=read_ranges(reader, "R138"),
        url=read_shown_url(reader),
        aliases=read_aliases(reader),
        withdrawn=reader.boolean("withdrawn"),
    )
    return epoch, seq, statement


def _decode_revoke(value: Value) -> tuple[int, int, RevokeStatement]:
    reader, epoch, seq = _open(value, Kind.REVOKE, "R139", 5)
    source_id = reader.text("source_id", source_id_chars_max)
    check_source_id(source_id)
    change, key = reader.text("change", word_chars_max), reader.digest("key")
    if change not in KEY_CHANGES:
        raise reader.refusal("change", "rotate or revoke")
    evidence, keybind = _read_notice_evidence(reader)
    if not evidence:
        raise reader.refusal("evidence", "the publisher's envelope")
    return epoch, seq, RevokeStatement(source_id, change, key, evidence, keybind)


def _decode_successor(value: Value) -> tuple[int, int, SuccessorStatement]:
    reader, epoch, seq = _open(value, Kind.SUCCESSOR, "R45", 1)
    return epoch, seq, SuccessorStatement(reader.digest("key_sha256"))


def _decode_succession(value: Value) -> tuple[int, int, SuccessionStatement]:
    reader, epoch, seq = _open(value, Kind.SUCCESSION, "R46", 2)
    old_key = reader.digest("old_key")
    check_public_key(old_key)
    signature = reader.byte_string("old_signature", signature_bytes, bytes_min=signature_bytes)
    return epoch, seq, SuccessionStatement(old_key, signature)


def _read_about(reader: FieldReader) -> tuple[str, str]:
    source_id = reader.text("source_id", source_id_chars_max)
    plugin_id = reader.text("plugin_id", url_chars_max)
    check_source_id(source_id)
    check_slug(plugin_id)
    return source_id, plugin_id


def _read_notice_evidence(reader: FieldReader) -> tuple[bytes, bytes]:
    evidence = reader.byte_string("evidence", publisher_envelope_bytes_max)
    keybind = reader.byte_string("keybind", evidence_bytes_max)
    if keybind and not evidence:
        raise reader.refusal("keybind", "empty without evidence")
    return evidence, keybind


def _read_empty(reader: FieldReader, *fields: tuple[str, Value]) -> None:
    """What the publisher's envelope says is not said a second time: there is nothing that could contradict it."""
    for field, empty in fields:
        value = reader.value()
        if value != empty or type(value) is not type(empty):
            raise reader.refusal(field, "empty, because the evidence says it")


def _check_url(reader: FieldReader, field: str, url: str) -> None:
    # Whether http:// is dialled is each node's own policy; the statement itself may name it.
    if parse_instance_url(url, allow_http=True) != url:
        raise reader.refusal(field, f"in its one spelling, {parse_instance_url(url, allow_http=True)!r}")
