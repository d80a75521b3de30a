"""Announcements and their acceptance: R20 to R43."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pfn_protocol.acceptance import announce
from pfn_protocol.announcement_fields import encode
from pfn_protocol.announcements import (
    AdvisoryStatement,
    Evidence,
    EvidenceForm,
    MirrorStatement,
    NodeStatement,
    RevokeStatement,
    SourceStatement,
    Statement,
    VersionStatement,
    YankStatement,
)
from pfn_protocol.encoding import Value, seal
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_keybind, sign_release
from pfn_protocol.succession import commit_to, sign_succession
from tests.protocol.vectors.case import ALICE, BOB, CAROL, MESH, NOW_MS, Case, plain, plain_input
from tests.protocol.vectors.notice_cases import ADVISED, ORIGIN, REVOKED, ROTATED, YANKED

HOUR_MS = 3_600_000
NOW_S = NOW_MS // 1_000

NODE = NodeStatement(
    url="https://alice.example",
    software="pfn-node/0.1.0",
    features=("artifacts", "gossip"),
    pins=tuple(sorted((BOB.public, CAROL.public))),
    sponsored=(),
    count=0,
    root=bytes(32),
)
SOURCE = SourceStatement(
    source_id="bilbo@publisher.example:8443",
    instance_url="https://publisher.example:8443/shop",
    username="bilbo",
    public_key=CAROL.public,
    asset_domain="https://assets.publisher.example",
    asset_naming_scheme="plugins/author/slug/slug.zip",
    verified=True,
    verified_at=NOW_S - 60,
    oracle="utf8",
)
METADATA = metadata_message("hello-signal", "Hello 🌱 Signal", "1.0.0-beta.1", "Shows a status.\nIn two lines.")
RELEASE = sign_release(
    CAROL,
    ReleaseStatement(
        "https://publisher.example",
        "bilbo",
        "hello-signal",
        "1.0.0-beta.1",
        b"\x11" * 32,
        1_038,
        0,
        NOW_MS,
        b"\x12" * 32,
    ),
)
VERSION = VersionStatement(
    source_id="bilbo@publisher.example",
    plugin_id="hello-signal",
    version="1.0.0-beta.1",
    type="plugin",
    name="Hello 🌱 Signal",
    description="Shows a status.\nIn two lines.",
    tags=("admin", "utilities"),
    sha256=b"\x11" * 32,
    size=1_038,
    observed_at=NOW_S,
    evidence=(
        Evidence(EvidenceForm.METADATA, CAROL.sign(METADATA)),
        Evidence(EvidenceForm.PLUGIN_DATA, CAROL.sign(b"[]"), b"\x13" * 32),
        Evidence(EvidenceForm.RELEASE, RELEASE.raw),
    ),
)
MIRROR = MirrorStatement("bilbo@publisher.example", 3, b"\x14" * 32)
KEYBIND = sign_keybind(ALICE, CAROL, ORIGIN).raw
YANK = YankStatement("bilbo@publisher.example", "hello", "1.0.0", YANKED, KEYBIND)
OWN_YANK = replace(YANK, evidence=b"", keybind=b"", reason="malware")
ADVISORY = AdvisoryStatement("bilbo@publisher.example", "hello", "GHSA-aaaa-bbbb-cccc", ADVISED, KEYBIND)
OWN_ADVISORY = AdvisoryStatement(
    "bilbo@publisher.example",
    "hello",
    "PFN-1",
    severity="low",
    summary="Slow.",
    ranges=(("", "2.0"),),
    url="https://a.example",
    aliases=("CVE-2026-1",),
)
REVOKE = RevokeStatement("bilbo@publisher.example", "rotate", BOB.public, ROTATED)
SUCCESSOR = commit_to(BOB.public)
SUCCESSION = sign_succession(BOB, ALICE.public, MESH)


def cases() -> Iterator[Case]:
    yield from _accepted()
    yield from _shapes()
    yield from _nodes()
    yield from _sources()
    yield from _versions()
    yield from _evidence()
    yield from _notices()
    yield from _successions()
    yield from _times()


def _accepted() -> Iterator[Case]:
    for name, rule, statement in (
        ("a node", "R23", NODE),
        ("a node without a URL", "R23", replace(NODE, url="", features=(), pins=())),
        ("a node that left", "R23", replace(NODE, left=True)),
        ("a source", "R24", SOURCE),
        ("a source with a raw oracle", "R24", replace(SOURCE, oracle="raw")),
        ("a source without an oracle", "R24", replace(SOURCE, oracle="none")),
        ("a source of which little is known", "R24", _bare_source()),
        ("a version", "R25", VERSION),
        ("a version without description and evidence", "R25", replace(VERSION, description=None, evidence=(), tags=())),
        ("a theme", "R25", replace(VERSION, type="theme")),
        ("a version that replaces another", "R25", replace(VERSION, replaces=b"\x15" * 32)),
        ("a mirror", "R26", MIRROR),
        ("a mirror of nothing", "R26", replace(MIRROR, count=0)),
    ):
        yield _accepts(name, rule, statement)


def _bare_source() -> SourceStatement:
    return replace(SOURCE, asset_domain="", asset_naming_scheme="", verified=False, verified_at=0, oracle="")


def _shapes() -> Iterator[Case]:
    fields = _fields(MIRROR)
    yield _refuses("too many bytes", "R20", "mirror", (*fields, b"\x00" * 4_096), refused="R9")
    yield _refuses("a field too many", "R26", "mirror", (*fields, 0))
    yield _refuses("a field too few", "R26", "mirror", fields[:-1])
    yield _refuses("no list", "R26", "mirror", "hello")
    yield _refuses("a mirror under the domain of a node", "R23", "node", fields)
    for name, epoch, seq in (
        ("a text for an epoch", "0", NOW_MS),
        ("a seq of 1970", 0, 1),
        ("true for a seq", 0, True),
    ):
        yield _refuses(name, "R22", "mirror", (epoch, seq, *fields[2:]))
    unknown = seal(ALICE, "pfn/rumour/1", MESH, fields).raw
    yield _announcement("a kind that does not exist", "R8", unknown, refused="R8")


def _nodes() -> Iterator[Case]:
    low, high = sorted((BOB.public, CAROL.public))
    for name, change in (
        ("pins in descending order", {"pins": (high, low)}),
        ("a pin twice", {"pins": (low, low)}),
        ("65 pins", {"pins": tuple(bytes([number]) * 32 for number in range(65))}),
        ("a short pin", {"pins": (low[:31],)}),
        ("sponsored in descending order", {"sponsored": (high, low)}),
        ("33 sponsored", {"sponsored": tuple(bytes([number]) * 32 for number in range(33))}),
        ("a root of 31 bytes", {"root": bytes(31)}),
        ("a feature without a name", {"features": ("",)}),
        ("33 features", {"features": ("f",) * 33}),
        ("a URL with a capital", {"url": "https://Alice.example"}),
        ("1 for left", {"left": 1}),
        ("a text for a count", {"count": "0"}),
    ):
        yield _refuses(name, "R23", "node", _fields(NODE, **change))
    yield _refuses("software with a control character", "R28", "node", _fields(NODE, software="pfn\x00"), refused="R23")
    yield _refuses("a URL with a query", "R23", "node", _fields(NODE, url="https://alice.example/?a"), refused="R58")


def _sources() -> Iterator[Case]:
    for name, change, refused in (
        ("an id of another host", {"source_id": "bilbo@other.example"}, "R24"),
        ("an id of another user", {"source_id": "frodo@publisher.example:8443"}, "R24"),
        ("a URL with a trailing slash", {"instance_url": "https://publisher.example:8443/shop/"}, "R24"),
        ("a user name with white space", {"username": "bil bo"}, "R59"),
        ("a key of small order", {"public_key": bytes(32)}, "R1"),
        ("a time in milliseconds", {"verified_at": NOW_MS}, "R24"),
        ("nil for verified", {"verified": None}, "R24"),
        ("a naming scheme without end", {"asset_naming_scheme": "s" * 257}, "R24"),
        ("an unknown oracle", {"oracle": "some"}, "R24"),
        ("an oracle in capitals", {"oracle": "RAW"}, "R24"),
        ("a long oracle", {"oracle": "nonesuch"}, "R24"),
        ("nil for the oracle", {"oracle": None}, "R24"),
    ):
        yield _refuses(name, "R24", "source", _fields(SOURCE, **change), refused=refused)


def _versions() -> Iterator[Case]:
    for name, change, refused in (
        ("an unknown type", {"type": "library"}, "R25"),
        ("no name", {"name": ""}, "R25"),
        ("a name of 201 characters", {"name": "n" * 201}, "R25"),
        ("a description of 2,001 characters", {"description": "d" * 2_001}, "R25"),
        ("33 tags", {"tags": ("t",) * 33}, "R25"),
        ("a tag of 65 characters", {"tags": ("t" * 65,)}, "R25"),
        ("tags as a text", {"tags": "admin"}, "R25"),
        ("a SHA-1", {"sha256": b"\x11" * 20}, "R25"),
        ("a zip of no bytes", {"size": 0}, "R25"),
        ("a zip over a gigabyte", {"size": 2**30 + 1}, "R25"),
        ("half an id to replace", {"replaces": b"\x15" * 16}, "R25"),
        ("a time in milliseconds", {"observed_at": NOW_MS}, "R25"),
        ("a capital in the slug", {"plugin_id": "Hello"}, "R60"),
        ("white space in the version", {"version": "1.0 beta"}, "R61"),
        ("a source id in capitals", {"source_id": "bilbo@Publisher.example"}, "R57"),
    ):
        yield _refuses(name, "R25", "version", _fields(VERSION, **change), refused=refused)
    yield _refuses("a name in two lines", "R28", "version", _fields(VERSION, name="Hello\nSignal"), refused="R25")
    with_nul = _fields(VERSION, description="a\x00b")
    yield _refuses("NUL in a description", "R28", "version", with_nul, refused="R25")


def _evidence() -> Iterator[Case]:
    signature = b"\x01" * 64
    for name, pieces in (
        ("an unknown form", [("pgp", signature, b"")]),
        ("one form twice", [("metadata", signature, b""), ("metadata", signature, b"")]),
        ("a short signature", [("metadata", signature[:63], b"")]),
        ("plugin-data without its text", [("plugin-data", signature, b"")]),
        ("a release with a text", [("release/2", b"\x01", b"\x02" * 32)]),
        ("a release of nothing", [("release/2", b"", b"")]),
        ("a long envelope", [("head/2", b"\x01" * 1_025, b"")]),
        ("half a digest of a text", [("metadata", signature, b"\x02" * 16)]),
        ("a piece of two fields", [("metadata", signature)]),
    ):
        fields = (*_fields(VERSION)[:12], tuple(pieces), b"")
        yield _refuses(name, "R27", "version", fields)
    aside = (Evidence(EvidenceForm.METADATA, signature, b"\x02" * 32),)
    yield _accepts("a metadata text that does not ride along", "R27", replace(VERSION, evidence=aside))
    nine = tuple(("sha384", signature, b"") for _ in range(9))
    yield _refuses("nine pieces", "R27", "version", (*_fields(VERSION)[:12], nine, b""), refused="R25")


def _notices() -> Iterator[Case]:
    for name, rule, statement in (
        ("a yank of the publisher", "R137", YANK),
        ("a yank of its own", "R137", OWN_YANK),
        ("a yank that is taken back", "R137", replace(OWN_YANK, reason="", withdrawn=True)),
        ("an advisory of the publisher", "R138", ADVISORY),
        ("an advisory of its own", "R138", OWN_ADVISORY),
        ("a rotation", "R139", REVOKE),
        ("a revocation", "R139", replace(REVOKE, change="revoke", key=ALICE.public, evidence=REVOKED, keybind=KEYBIND)),
    ):
        yield _accepts(name, rule, statement)
    change: dict[str, Any]
    for name, change, refused in (
        ("a reason beside evidence", {"reason": "because"}, "R137"),
        ("a number for withdrawn beside evidence", {"withdrawn": 0}, "R137"),
        ("long evidence", {"evidence": b"\x01" * 2_049}, "R137"),
        ("a long keybind", {"keybind": b"\x01" * 1_025}, "R137"),
        ("a keybind without evidence", {"evidence": b""}, "R137"),
        ("a source id in capitals", {"source_id": "bilbo@Publisher.example"}, "R57"),
        ("a capital in the slug", {"plugin_id": "Hello"}, "R60"),
        ("no version", {"version": ""}, "R61"),
    ):
        yield _refuses(name, "R137", "yank", _fields(YANK, **change), refused=refused)
    yield _refuses("a long reason", "R137", "yank", _fields(OWN_YANK, reason="r" * 301))
    yield _refuses("1 for withdrawn", "R137", "yank", _fields(OWN_YANK, withdrawn=1))
    for name, change, refused in (
        ("a severity beside evidence", {"severity": "low"}, "R138"),
        ("ranges beside evidence", {"ranges": (("", ""),)}, "R138"),
        ("no id", {"advisory_id": ""}, "R138"),
    ):
        yield _refuses(name, "R138", "advisory", _fields(ADVISORY, **change), refused=refused)
    for name, change, refused in (
        ("no severity", {"severity": ""}, "R138"),
        ("no summary", {"summary": ""}, "R138"),
        ("no ranges", {"ranges": ()}, "R138"),
        ("a version that begins with a dot", {"ranges": ((".1", ""),)}, "R61"),
        ("a URL that is none", {"url": "a.example"}, "R138"),
    ):
        yield _refuses(name, "R138", "advisory", _fields(OWN_ADVISORY, **change), refused=refused)
    for name, change, refused in (
        ("no evidence", {"evidence": b""}, "R139"),
        ("an unknown change", {"change": "forget"}, "R139"),
        ("half a key", {"key": bytes(16)}, "R139"),
        ("an id without a host", {"source_id": "bilbo"}, "R57"),
    ):
        yield _refuses(name, "R139", "revoke", _fields(REVOKE, **change), refused=refused)


def _successions() -> Iterator[Case]:
    yield _accepts("a commitment to a next key", "R45", SUCCESSOR)
    yield _accepts("a succession", "R46", SUCCESSION)
    yield _refuses("half a hash", "R45", "successor", _fields(SUCCESSOR, key_sha256=bytes(16)))
    yield _refuses("a commitment to two keys", "R45", "successor", (*_fields(SUCCESSOR), bytes(32)))
    for name, statement, refused in (
        ("a succession for somebody else", sign_succession(BOB, CAROL.public, MESH), "R46"),
        ("a succession of another mesh", sign_succession(BOB, ALICE.public, "other"), "R46"),
        ("a succession of a key that did not sign", replace(SUCCESSION, old_key=CAROL.public), "R46"),
        ("a key that succeeds itself", sign_succession(ALICE, ALICE.public, MESH), "R46"),
        ("no signature of the old key", replace(SUCCESSION, old_signature=b""), "R46"),
        ("an old key of small order", replace(SUCCESSION, old_key=bytes(32)), "R1"),
        ("half an old key", replace(SUCCESSION, old_key=bytes(16)), "R46"),
    ):
        yield _refuses(name, "R46", "succession", _fields(statement), refused=refused)


def _times() -> Iterator[Case]:
    for name, statement, lifetime_ms in (
        ("a node", NODE, 24 * HOUR_MS),
        ("a source", SOURCE, 7 * 24 * HOUR_MS),
        ("a mirror", MIRROR, 24 * HOUR_MS),
    ):
        yield _accepts(f"{name} in its last millisecond", "R41", statement, now_ms=NOW_MS + lifetime_ms - 1)
        raw = announce(ALICE, MESH, statement, 0, NOW_MS).raw
        yield _announcement(f"{name} that has expired", "R41", raw, refused="R41", now_ms=NOW_MS + lifetime_ms)
    for kind, notice in (("yank", YANK), ("advisory", OWN_ADVISORY), ("revocation", REVOKE), ("commitment", SUCCESSOR)):
        yield _accepts(f"a {kind} after ten years", "R41", notice, now_ms=NOW_MS + 10 * 365 * 24 * HOUR_MS)
    yield _accepts("a version after ten years", "R41", VERSION, now_ms=NOW_MS + 10 * 365 * 24 * HOUR_MS)
    raw = announce(ALICE, MESH, MIRROR, 0, NOW_MS).raw
    yield _accepts("ten minutes ahead", "R42", MIRROR, now_ms=NOW_MS - 600_000)
    yield _announcement("more than ten minutes ahead", "R42", raw, refused="R42", now_ms=NOW_MS - 600_001)
    yield _announcement("a day ahead", "R42", raw, refused="R42", now_ms=NOW_MS - 24 * HOUR_MS)
    yield _announcement("more than a day ahead", "R43", raw, refused="R43", now_ms=NOW_MS - 24 * HOUR_MS - 1)


def _fields(statement: Statement, **changes: Any) -> tuple[Value, ...]:
    fields = encode(replace(statement, **changes), 0, NOW_MS)
    assert isinstance(fields, tuple)
    return fields


def _accepts(name: str, rule: str, statement: Statement, now_ms: int = NOW_MS) -> Case:
    made = announce(ALICE, MESH, statement, 0, NOW_MS)
    accepted = {
        "id": made.id.hex(),
        "author": ALICE.public.hex(),
        "subject": statement.subject,
        "epoch": 0,
        "seq": NOW_MS,
        "statement": plain(statement),
    }
    return _announcement(name, rule, made.raw, accepted, now_ms=now_ms)


def _refuses(name: str, rule: str, kind: str, body: Value, refused: str | None = None) -> Case:
    raw = seal(ALICE, f"pfn/{kind}/1", MESH, body).raw
    return _announcement(f"{kind}: {name}", rule, raw, refused=refused or rule)


def _announcement(
    name: str, rule: str, raw: bytes, accepted: object = None, refused: str | None = None, now_ms: int = NOW_MS
) -> Case:
    return Case(name, rule, "announcement", {"input": plain_input(raw), "mesh": MESH, "now": now_ms}, accepted, refused)
