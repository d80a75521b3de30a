"""The form of evidence bundles: one spelling, and nothing but a bundle or a refusal for whatever bytes there are."""

import json
from random import Random
from typing import Any

import pytest

from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SignedPiece, read_bundle, write_bundle
from pfn_protocol.limits import (
    artifact_size_bytes_max,
    bundle_attestations_max,
    bundle_bytes_max,
    bundle_keys_max,
    bundle_notices_max,
    bundle_pieces_max,
    bundle_witnesses_max,
    evidence_text_bytes_max,
)
from tests.protocol.bundles import bundle, written

PIECE = {"form": "head/2", "data": "AA==", "text": ""}


def changed(**members: Any) -> bytes:
    return json.dumps(write_bundle(bundle()) | members).encode()


def test_what_is_written_is_what_is_read() -> None:
    whole = bundle(keys=(b"a rotation",), notices=(b"a yank",))

    assert read_bundle(written(whole)) == whole


@pytest.mark.parametrize(
    ("rule", "members"),
    [
        ("R160", {"format": "pfn-evidence/1"}),
        ("R160", {"format": None}),
        ("R160", {"made_by": "somebody"}),
        ("R7", {"mesh": "Main!"}),
        ("R160", {"mesh": 1}),
        ("R57", {"source_id": "carol"}),
        ("R59", {"source_id": "@publisher.example"}),
        ("R160", {"source_id": "carol@other.example"}),
        ("R160", {"instance_url": "https://publisher.example/"}),
        ("R58", {"instance_url": "ftp://publisher.example"}),
        ("R160", {"public_key": "AAAA"}),
        ("R1", {"public_key": "A" * 43 + "="}),
        ("R60", {"plugin_id": "../x"}),
        ("R61", {"version": ""}),
        ("R160", {"sha256": "AB" * 32}),
        ("R160", {"sha256": "ab" * 31}),
        ("R160", {"size": 0}),
        ("R160", {"size": True}),
        ("R160", {"size": "5"}),
        ("R160", {"size": artifact_size_bytes_max + 1}),
        ("R160", {"oracle": "perhaps"}),
        ("R160", {"oracle": None}),
        ("R160", {"evidence": {}}),
        ("R160", {"evidence": ["release/2"]}),
        ("R160", {"evidence": [{"form": "release/2", "data": "AA=="}]}),
        ("R160", {"evidence": [PIECE | {"form": "release/3"}]}),
        ("R160", {"evidence": [PIECE | {"form": ["release/2"]}]}),
        ("R160", {"evidence": [PIECE | {"text": "AA=="}]}),
        ("R160", {"evidence": [PIECE | {"form": "metadata"}]}),
        ("R160", {"evidence": [PIECE] * (bundle_pieces_max + 1)}),
        ("R160", {"witnesses": ["not base64"]}),
        ("R160", {"witnesses": ["é"]}),
        ("R160", {"witnesses": ["AB=="]}),
        ("R160", {"witnesses": [""]}),
        ("R160", {"witnesses": [None]}),
        ("R160", {"witnesses": ["AA=="] * (bundle_witnesses_max + 1)}),
        ("R160", {"attestations": ["AA=="] * (bundle_attestations_max + 1)}),
        ("R160", {"keys": ["AA=="] * (bundle_keys_max + 1)}),
        ("R160", {"keys": ["A" * 4 * 1024]}),
        ("R160", {"notices": ["AA=="] * (bundle_notices_max + 1)}),
        ("R160", {"notices": ["A" * 4 * 1024]}),
    ],
)
def test_a_member_that_is_not_as_it_should_be_is_refused(rule: str, members: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        read_bundle(changed(**members))

    assert refused.value.rule == rule


@pytest.mark.parametrize("missing", write_bundle(bundle()))
def test_every_member_has_to_be_there(missing: str) -> None:
    document = write_bundle(bundle())
    del document[missing]

    with pytest.raises(Refusal, match="exactly these members"):
        read_bundle(json.dumps(document).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"\xef\xbb\xbf" + written(),
        written() + b"{}",
        written()[:-1],
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b"9" * 10_000,
        b'{"size": 1e400}',
        b'{"size": NaN}',
        written()[:-1] + b', "size": 5}',
        written().replace(b'"text": ""', b'"text": "", "text": ""', 1),
        written() + b" " * bundle_bytes_max,
        b'"' + b"\\ud800" * 1_000 + b'"',
    ],
    ids=range(16),
)
def test_what_is_no_such_document_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal, match="R160"):
        read_bundle(raw)


def test_halves_of_surrogate_pairs_are_refused_wherever_they_stand() -> None:
    for name, value in write_bundle(bundle()).items():
        if isinstance(value, str):
            with pytest.raises(Refusal):
                read_bundle(changed(**{name: value + "\ud800"}))


def test_a_bundle_at_its_limits_is_read() -> None:
    whole = bundle(
        evidence=bundle().evidence[:1] * (bundle_pieces_max - 2)
        + tuple(SignedPiece(EvidenceForm.METADATA, b"s" * 64, b"t" * evidence_text_bytes_max) for _ in range(2)),
        witnesses=(b"w" * 4_096,) * bundle_witnesses_max,
        attestations=(b"a" * 4_096,) * bundle_attestations_max,
        keys=(b"k" * 2_048,) * bundle_keys_max,
        notices=(b"n" * 2_048,) * bundle_notices_max,
    )

    assert read_bundle(written(whole)) == whole


def test_random_damage_gives_a_bundle_or_a_refusal() -> None:
    random, raw = Random(1), written()
    refused = 0

    for _ in range(3_000):
        damaged = bytearray(raw)
        for _ in range(random.choice((1, 1, 2, 40))):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        start = random.randrange(len(raw)) if random.random() < 0.1 else 0
        try:
            read_bundle(bytes(damaged[start:]))
        except Refusal:
            refused += 1

    assert refused > 300
