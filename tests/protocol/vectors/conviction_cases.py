"""Epochs, equivocation and convictions: R29, R37, R38."""

from collections.abc import Iterator
from dataclasses import replace

from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Statement
from pfn_protocol.encoding import Value, pack
from pfn_protocol.equivocation import convict
from pfn_protocol.identity import PrivateKey
from tests.protocol.vectors.announcement_cases import MIRROR, NODE, SOURCE, VERSION
from tests.protocol.vectors.case import ALICE, BOB, MESH, NOW_MS, Case, plain, plain_input

EPOCH = 3_700_000_000_000_000
CHANGED = replace(VERSION, sha256=b"\x16" * 32)
DECLARED = replace(CHANGED, replaces=b"\x15" * 32)


def cases() -> Iterator[Case]:
    yield from _epochs()
    yield from _proofs()
    yield from _no_proofs()
    yield from _shapes()


def _epochs() -> Iterator[Case]:
    by_the_clock = NOW_MS // 1_000 * 2**21
    for name, known, now_ms, chance, epoch in (
        ("the first run", 0, NOW_MS, 5, by_the_clock + 5),
        ("a run after another one", by_the_clock - 1, NOW_MS + 999, 0, by_the_clock),
        ("a run in the same second", by_the_clock + 77, NOW_MS, 3, by_the_clock + 81),
        ("a run after one whose clock was ahead", 2 * by_the_clock, NOW_MS, 2**21 - 1, 2 * by_the_clock + 2**21),
        ("a clock before 1970", 0, -5_000, 9, 10),
    ):
        yield Case(name, "R29", "epoch", {"known": known, "now": now_ms, "chance": chance}, epoch)


def _proofs() -> Iterator[Case]:
    for name, one, other in (
        ("two nodes at one place", _said(NODE), _said(replace(NODE, url="https://other.example"))),
        ("two sources at one place", _said(SOURCE), _said(replace(SOURCE, verified=False))),
        ("two mirrors at one place", _said(MIRROR), _said(replace(MIRROR, count=4))),
        ("one release described in two ways at one place", _said(VERSION), _said(replace(VERSION, name="Other"))),
        ("a change at the same place that is declared", _said(VERSION), _said(DECLARED)),
        ("a version rewritten", _said(VERSION), _said(CHANGED, NOW_MS + 9)),
        ("a version rewritten after a change", _said(DECLARED), _said(VERSION, NOW_MS + 9)),
        ("a version rewritten before", _said(CHANGED, NOW_MS + 9), _said(VERSION)),
        ("stories that have expired", _said(NODE, 1_600_000_000_000), _said(replace(NODE, url=""), 1_600_000_000_000)),
        ("stories from the far future", _said(MIRROR, 2**50), _said(replace(MIRROR, count=4), 2**50)),
    ):
        conviction = convict(one, other)
        accepted = {
            "id": conviction.id.hex(),
            "author": ALICE.public.hex(),
            "subject": "",
            "epoch": 0,
            "seq": 0,
            "statement": plain(conviction.statement),
        }
        yield _conviction(name, "R37", conviction.raw, accepted)


def _no_proofs() -> Iterator[Case]:
    for name, one, other in (
        ("a version rewritten in another epoch", _said(VERSION), _said(CHANGED, NOW_MS + 9, EPOCH + 1)),
        ("one place in two epochs", _said(MIRROR), _said(replace(MIRROR, count=4), NOW_MS, EPOCH + 1)),
        ("a change that is declared", _said(VERSION), _said(DECLARED, NOW_MS + 9)),
        ("the same bytes announced again", _said(VERSION), _said(replace(VERSION, name="Other"), NOW_MS + 9)),
        ("a newer source", _said(SOURCE), _said(replace(SOURCE, verified=False), NOW_MS + 9)),
        ("two slots at one place", _said(VERSION), _said(replace(VERSION, version="2.0"))),
        ("two kinds of one subject at one place", _said(MIRROR), _said(SOURCE)),
        ("one announcement twice", _said(VERSION), _said(VERSION)),
        ("two authors", _said(VERSION), _said(CHANGED, key=BOB)),
    ):
        yield _conviction(f"no proof: {name}", "R37", convict(one, other).raw, refused="R38")


def _shapes() -> Iterator[Case]:
    small, great = sorted((_said(VERSION), _said(CHANGED)), key=lambda one: one.id)
    forged = great.raw[:-1] + bytes([great.raw[-1] ^ 1])
    advisory: Value = small.raw.replace(b"pfn/version/1", b"pfn/adviser/1")
    for name, raw, refused in (
        ("the greater id first", pack((great.raw, small.raw)), "R38"),
        ("a signature that does not verify", pack((small.raw, forged)), "R5"),
        ("a domain that is none of an announcement", pack((advisory, great.raw)), "R8"),
        ("a conviction in a conviction", pack((convict(small, great).raw, great.raw)), "R4"),
        ("a text", pack((small.raw, "")), "R38"),
        ("too long a story", pack((small.raw, b"\x00" * 4_097)), "R38"),
        ("too many bytes", pack((b"\x00" * 4_097, b"\x00" * 4_097)), "R9"),
        ("a wide length", b"\x92\xc6\x00\x00" + pack((small.raw, great.raw))[2:], "R11"),
        ("another mesh's stories", pack((small.raw, _said(CHANGED, mesh="other").raw)), "R5"),
    ):
        yield _conviction(name, "R38", raw, refused=refused)


def _said(
    statement: Statement, seq: int = NOW_MS, epoch: int = EPOCH, key: PrivateKey = ALICE, mesh: str = MESH
) -> AcceptedAnnouncement:
    return announce(key, mesh, statement, epoch, seq)


def _conviction(name: str, rule: str, raw: bytes, accepted: object = None, refused: str | None = None) -> Case:
    return Case(name, rule, "announcement", {"input": plain_input(raw), "mesh": MESH, "now": NOW_MS}, accepted, refused)
