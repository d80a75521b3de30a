"""What publishers sign about keys and releases that are out, R66 to R69."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pfn_protocol.encoding import Value, pack, preimage, seal
from pfn_protocol.publisher_notices import (
    Advisory,
    Notice,
    Revocation,
    Rotation,
    Yank,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, NOW_MS, Case, plain, plain_input

ORIGIN = "https://publisher.example"
NOW_S = NOW_MS // 1_000
ROTATION = Rotation(
    *(ORIGIN, "bilbo", "identity", ALICE.public, BOB.public, 1, "a new machine", NOW_S),
    recovery_hash=b"",
    voucher=ALICE.public,
)
REVOCATION = Revocation(ORIGIN, "bilbo", ALICE.public, "lost", NOW_S)
YANK = Yank(ORIGIN, "bilbo", "hello", "1.0.0", "eats posts", NOW_MS, False)
ADVISORY = Advisory(
    *(
        ORIGIN,
        "bilbo",
        "hello",
        "GHSA-aaaa-bbbb-cccc",
        "high",
        "Anybody may delete 🌱.",
        (("1.0", "1.4.2"), ("2.0-beta", "")),
    ),
    *("https://publisher.example/advisories/1?a=b#c", ("CVE-2026-1234",), NOW_MS, False),
)
ROTATED = sign_rotation(BOB, ALICE, ROTATION).raw
REVOKED = sign_revocation(BOB, REVOCATION).raw
YANKED = sign_yank(CAROL, YANK).raw
ADVISED = sign_advisory(CAROL, ADVISORY).raw


def cases() -> Iterator[Case]:
    yield from _rotations()
    yield from _revocations()
    yield from _yanks()
    yield from _advisories()
    yield from _ranges()


def _accepts(name: str, rule: str, raw: bytes, notice: Notice, signer: bytes) -> Case:
    accepted = {"statement": plain(notice), "signer": signer.hex()}
    return Case(name, rule, "notice", {"input": plain_input(raw)}, accepted)


def _refuses(name: str, rule: str, domain: str, body: Value, refused: str | None = None) -> Case:
    raw = seal(CAROL, domain, "", body).raw
    return Case(name, rule, "notice", {"input": plain_input(raw)}, refused=refused or rule)


def _fields(notice: Notice, **changes: Any) -> tuple[Value, ...]:
    changed = replace(notice, **changes)
    return tuple(getattr(changed, name) for name in notice.__dataclass_fields__)


def _rotation_body(signer_of_voucher: Any = ALICE, **changes: Any) -> tuple[Value, ...]:
    body = _fields(replace(ROTATION, new_key=CAROL.public), **changes)
    return (*body, signer_of_voucher.sign(preimage("pfn/rotate/2", "", pack(body))))


def _rotations() -> Iterator[Case]:
    yield _accepts("a rotation", "R66", ROTATED, ROTATION, BOB.public)
    by_recovery = replace(
        ROTATION, voucher=CAROL.public, epoch=2, reason="", recovery_hash=hashlib.sha256(b"k").digest()
    )
    raw = sign_rotation(BOB, CAROL, by_recovery).raw
    yield _accepts("a rotation that a recovery key vouches for", "R66", raw, by_recovery, BOB.public)
    committed = replace(ROTATION, new_key=ALICE.public, recovery_hash=hashlib.sha256(CAROL.public).digest())
    raw = sign_rotation(ALICE, ALICE, committed).raw
    yield _accepts("a commitment to a recovery key", "R66", raw, committed, ALICE.public)
    release = replace(ROTATION, role="release")
    yield _accepts("of a release key", "R66", sign_rotation(BOB, ALICE, release).raw, release, BOB.public)
    in_mesh = seal(CAROL, "pfn/rotate/2", "main", _rotation_body()).raw
    yield Case("a rotation in a mesh", "R7", "notice", {"input": in_mesh.hex()}, refused="R5")
    for name, change, refused in (
        ("an unknown role", {"role": "both"}, "R66"),
        ("another new key", {"new_key": BOB.public}, "R66"),
        ("an old key of small order", {"old_key": bytes(32)}, "R1"),
        ("a voucher of small order", {"voucher": bytes(32)}, "R1"),
        ("an epoch of 0", {"epoch": 0}, "R66"),
        ("a time in milliseconds", {"effective_s": NOW_MS * 100}, "R66"),
        ("a reason in two lines", {"reason": "a\nb"}, "R66"),
        ("a reason of 301 characters", {"reason": "r" * 301}, "R66"),
        ("half a recovery hash", {"recovery_hash": bytes(16)}, "R66"),
        ("an origin with a trailing slash", {"origin": ORIGIN + "/"}, "R66"),
        ("an author with a slash", {"author": "bil/bo"}, "R59"),
    ):
        yield _refuses(f"a rotation with {name}", "R66", "pfn/rotate/2", _rotation_body(**change), refused)
    body = _rotation_body()
    yield _refuses("a rotation of ten fields", "R66", "pfn/rotate/2", body[:10])
    yield _refuses("a rotation that nobody vouches for", "R66", "pfn/rotate/2", (*body[:10], b""))
    yield _refuses("a rotation that another key vouches for", "R66", "pfn/rotate/2", _rotation_body(BOB))
    moved = (*_rotation_body(epoch=2)[:10], body[10])
    yield _refuses("a rotation whose epoch was changed", "R66", "pfn/rotate/2", moved)


def _revocations() -> Iterator[Case]:
    yield _accepts("a revocation", "R67", REVOKED, REVOCATION, BOB.public)
    for name, change, refused in (
        ("a key of small order", {"key": bytes(32)}, "R1"),
        ("a time in milliseconds", {"not_after_s": NOW_MS * 100}, "R67"),
        ("an origin in another spelling", {"origin": ORIGIN + ":443"}, "R67"),
    ):
        yield _refuses(f"a revocation with {name}", "R67", "pfn/revoke/2", _fields(REVOCATION, **change), refused)
    yield _refuses("a revocation of four fields", "R67", "pfn/revoke/2", _fields(REVOCATION)[:4])


def _yanks() -> Iterator[Case]:
    yield _accepts("a yank", "R68", YANKED, YANK, CAROL.public)
    back = replace(YANK, reason="", withdrawn=True)
    yield _accepts("a yank that is taken back", "R68", sign_yank(CAROL, back).raw, back, CAROL.public)
    for name, change, refused in (
        ("a slug in capitals", {"slug": "Hello"}, "R60"),
        ("no version", {"version": ""}, "R61"),
        ("a seq of 1970", {"seq": 1}, "R68"),
        ("1 for withdrawn", {"withdrawn": 1}, "R68"),
        ("an author with white space", {"author": "bil bo"}, "R59"),
    ):
        yield _refuses(f"a yank with {name}", "R68", "pfn/yank/2", _fields(YANK, **change), refused)
    long = seal(CAROL, "pfn/yank/2", "", (*_fields(YANK), "x" * 2_048)).raw
    yield Case("a notice of more than 2,048 bytes", "R68", "notice", {"input": plain_input(long)}, refused="R9")
    head = seal(CAROL, "pfn/head/2", "", _fields(YANK)).raw
    yield Case("a head for a notice", "R8", "notice", {"input": head.hex()}, refused="R8")


def _advisories() -> Iterator[Case]:
    yield _accepts("an advisory", "R69", ADVISED, ADVISORY, CAROL.public)
    bare = replace(ADVISORY, url="", aliases=(), ranges=(("", ""),), withdrawn=True)
    yield _accepts("an advisory about everything", "R69", sign_advisory(CAROL, bare).raw, bare, CAROL.public)
    for name, change, refused in (
        ("an id with white space", {"advisory_id": "GHSA 1"}, "R69"),
        ("no id", {"advisory_id": ""}, "R69"),
        ("an unknown severity", {"severity": "bad"}, "R69"),
        ("no summary", {"summary": ""}, "R69"),
        ("no ranges", {"ranges": ()}, "R69"),
        ("17 ranges", {"ranges": (("1.0", "2.0"),) * 17}, "R69"),
        ("a range that descends", {"ranges": (("2.0", "1.0"),)}, "R69"),
        ("a range of nothing", {"ranges": (("1.0", "1.0"),)}, "R69"),
        ("a range of one version", {"ranges": (("1.0",),)}, "R69"),
        ("a version that begins with a dot", {"ranges": ((".1", ""),)}, "R61"),
        ("a URL that is a script", {"url": "javascript:alert(1)"}, "R69"),
        ("a URL with white space", {"url": "https://a.example/ b"}, "R69"),
        ("an alias with white space", {"aliases": ("CVE 1",)}, "R69"),
        ("nine aliases", {"aliases": ("a", "b", "c", "d", "e", "f", "g", "h", "i")}, "R69"),
        ("a slug in capitals", {"slug": "Hello"}, "R60"),
        ("a seq of 1970", {"seq": 1}, "R69"),
    ):
        yield _refuses(f"an advisory with {name}", "R69", "pfn/advisory/2", _fields(ADVISORY, **change), refused)


def _ranges() -> Iterator[Case]:
    ranges = [["1.0", "1.4.2"], ["2.0-beta", ""]]
    for version, inside in (
        ("1.0", True),
        ("1.0-rc.1", False),
        ("1.4.1", True),
        ("1.4.2", False),
        ("1.10", False),
        ("2.0-alpha", False),
        ("2.0-beta", True),
        ("99", True),
    ):
        yield Case(f"{version} in two ranges", "R69", "affects", {"ranges": ranges, "version": version}, inside)
    yield Case("before until", "R69", "affects", {"ranges": [["", "2.0"]], "version": "0.1"}, True)
    yield Case("until itself", "R69", "affects", {"ranges": [["", "2.0"]], "version": "2.0"}, False)
