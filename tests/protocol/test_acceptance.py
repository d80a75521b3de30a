"""Acceptance and the making of announcements, beyond the vectors."""

from dataclasses import replace

import pytest

from pfn_protocol.acceptance import accept, announce, expires_ms, lifetime_ms
from pfn_protocol.announcement_fields import shortened
from pfn_protocol.announcements import Evidence, EvidenceForm, Kind, Statement
from pfn_protocol.errors import Parked, Refusal, Severity
from pfn_protocol.limits import announcement_bytes_max, description_chars_max, tags_max
from tests.protocol.vectors.announcement_cases import MIRROR, NODE, SOURCE, VERSION
from tests.protocol.vectors.case import ALICE, MESH, NOW_MS

SIGNATURE = b"\x01" * 64
LONG = replace(
    VERSION,
    description="🌱" * 5_000,
    tags=tuple(f"{number:02}" + "ü" * 60 for number in range(40)),
    evidence=(Evidence(EvidenceForm.METADATA, SIGNATURE, b"\x02" * 32),),
)


@pytest.mark.parametrize("statement", [NODE, SOURCE, VERSION, MIRROR])
def test_what_is_announced_is_what_is_accepted(statement: Statement) -> None:
    made = announce(ALICE, MESH, statement, 3, NOW_MS)

    accepted = accept(made.raw, mesh=MESH, now_ms=NOW_MS)

    assert accepted == made
    assert (accepted.epoch, accepted.seq, accepted.statement) == (3, NOW_MS, statement)
    assert (accepted.kind, accepted.subject) == (statement.kind, statement.subject)


def test_an_early_announcement_comes_along_with_its_refusal() -> None:
    made = announce(ALICE, MESH, MIRROR, 0, NOW_MS)

    with pytest.raises(Parked) as parked:
        accept(made.raw, mesh=MESH, now_ms=NOW_MS - 3_600_000)

    assert parked.value.announcement == made
    assert parked.value.severity is Severity.HARMLESS


def test_an_expired_announcement_is_harmless() -> None:
    made = announce(ALICE, MESH, NODE, 0, NOW_MS)
    expiry_ms = expires_ms(made)
    assert expiry_ms == NOW_MS + (lifetime_ms(Kind.NODE) or 0)

    with pytest.raises(Refusal) as refused:
        accept(made.raw, mesh=MESH, now_ms=expiry_ms)

    assert refused.value.severity is Severity.HARMLESS


def test_a_version_never_expires() -> None:
    assert expires_ms(announce(ALICE, MESH, VERSION, 0, NOW_MS)) is None


def test_a_node_does_not_sign_what_others_would_refuse() -> None:
    with pytest.raises(Refusal, match="R60"):
        announce(ALICE, MESH, replace(VERSION, plugin_id="Not A Slug"), 0, NOW_MS)
    with pytest.raises(Refusal, match="R20"):
        announce(ALICE, MESH, replace(LONG, tags=()), 0, NOW_MS)


def test_a_long_description_is_shortened_before_any_tag_is_lost() -> None:
    short = shortened(replace(LONG, tags=("admin",)))

    assert short.tags == ("admin",)
    assert 800 < len(short.description or "") <= description_chars_max
    # The longest place in the author's order must fit too; what is kept free for the envelope stays below 64 bytes.
    size = len(announce(ALICE, MESH, short, 2**32 - 1, 2**53 - 1).raw)
    assert announcement_bytes_max - 64 < size <= announcement_bytes_max


def test_tags_are_left_out_where_the_description_alone_does_not_help() -> None:
    short = shortened(LONG)

    assert short.description == ""
    assert 0 < len(short.tags) < tags_max
    assert len(announce(ALICE, MESH, short, 0, NOW_MS).raw) <= announcement_bytes_max


def test_what_fits_is_not_shortened() -> None:
    assert shortened(VERSION) == VERSION
    assert shortened(replace(VERSION, description=None)) == replace(VERSION, description=None)
