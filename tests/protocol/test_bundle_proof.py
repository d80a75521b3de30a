"""What an evidence bundle proves to whom: every level with exactly what it needs, and nothing more for any forgery."""

import base64
import hashlib
import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.bundle_notices import OMITTED
from pfn_protocol.bundle_proof import LEVELS, Measured, Proof, TrustRoots, prove
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import EvidenceBundle, SignedPiece, read_bundle, write_bundle
from pfn_protocol.identity import PrivateKey
from tests.protocol.bundles import (
    ALICE,
    BOB,
    CAROL,
    DESCRIPTION,
    DORA,
    ERIN,
    FRANK,
    MALLORY,
    NOW_MS,
    TEXT,
    ZIP,
    advised,
    attests,
    bound,
    bundle,
    described,
    head,
    measured,
    released,
    revoked,
    rotated,
    saw,
    written,
    yanked,
)

DAY_MS = 86_400_000
KEY = TrustRoots(key=CAROL.public)
NODES = TrustRoots(nodes=frozenset({ALICE.public, BOB.public, ERIN.public}))
BOTH = TrustRoots(CAROL.public, NODES.nodes)
OTHER = hashlib.sha256(b"other bytes").digest()


def proof(
    made: EvidenceBundle | None = None,
    roots: TrustRoots = BOTH,
    zip_: Measured | None = None,
    *,
    later_ms: int = 0,
    **fields: Any,
) -> Proof:
    """What a bundle, with some members changed, proves to those who trust carol's key, alice, bob and erin."""
    read = read_bundle(written(replace(made or bundle(), **fields)))
    return prove(read, zip_ or measured(), roots, NOW_MS + later_ms)


def without(*forms: EvidenceForm) -> tuple[SignedPiece, ...]:
    return tuple(piece for piece in bundle().evidence if piece.form not in forms)


def with_release(*pieces: SignedPiece) -> tuple[SignedPiece, ...]:
    return (*without(EvidenceForm.RELEASE, EvidenceForm.KEYBIND, EvidenceForm.HEAD), *pieces)


def signer(found: Proof) -> bytes | None:
    """Whose release covers the bytes."""
    return None if found.release is None else found.release.key


def mentions(found: Proof, *parts: str) -> bool:
    return all(any(part in caveat for caveat in found.caveats) for part in parts)


# What may be claimed


def test_everything_together_is_signed_and_witnessed() -> None:
    found = proof()

    assert (found.level, found.covers_bytes, found.caveats) == ("A4", True, (OMITTED,))
    assert (found.key.public, found.key.known, signer(found)) == (CAROL.public, "given", DORA.public)
    assert found.witnesses.all == tuple(sorted(key.public for key in (ALICE, BOB, ERIN)))
    assert found.witnesses.trusted == found.witnesses.all
    assert (found.key.oracle, found.key.oracle_attested) == ("none", True)


def test_with_nothing_but_the_publishers_key_a_release_is_signed_as_long_as_the_oracle_is_as_the_bundle_says() -> None:
    found = proof(roots=KEY, witnesses=(), attestations=())

    assert (found.level, found.covers_bytes, found.key.known) == ("A3", True, "given")
    assert (found.key.oracle, found.key.oracle_attested) == ("none", False)
    assert mentions(found, "only what the bundle claims (oracle: none)", "this is no A3")


def test_without_any_root_of_trust_nothing_is_claimed() -> None:
    found = proof(roots=TrustRoots())

    assert (found.level, found.covers_bytes, found.key.known) == ("reported", False, None)
    assert signer(found) == DORA.public, "who signed is shown all the same"
    assert mentions(found, "only what the bundle claims; give the one that you know")


def test_trusted_nodes_make_the_bundles_key_known() -> None:
    found = proof(roots=NODES)

    assert (found.level, found.key.known) == ("A4", "attested")
    assert any("2 nodes that you trust attest" in sentence for sentence in found.evidence)


@pytest.mark.parametrize(
    ("level", "fields"),
    [
        ("A3", {"evidence": without(EvidenceForm.HEAD)}),
        ("A3", {"evidence": with_release(released(CAROL), head(CAROL))}),
        ("A3", {"witnesses": (saw(ALICE), saw(BOB))}),
        ("A3", {"witnesses": (saw(ALICE), saw(BOB), saw(FRANK), saw(MALLORY))}),
        ("A3", {"evidence": with_release(released(), bound(), head(seq=NOW_MS - 1))}),
        ("A2", {"evidence": ()}),
        ("A1", {"evidence": (described(),), "witnesses": (saw(ALICE),)}),
        ("A1", {"evidence": (described(DESCRIPTION, EvidenceForm.PLUGIN_DATA),), "witnesses": (saw(ALICE), saw(BOB))}),
        ("A0", {"evidence": (), "witnesses": (saw(ALICE),)}),
        ("A0", {"evidence": (described(),), "witnesses": (saw(ALICE),), "keys": (b"a form to come",)}),
        ("A0", {"evidence": (), "witnesses": (saw(ALICE), saw(BOB), saw(FRANK), saw(MALLORY))}),
        ("reported", {"evidence": (), "witnesses": ()}),
        ("reported", {"evidence": (described(),), "witnesses": (saw(CAROL), saw(FRANK), saw(MALLORY))}),
    ],
)
def test_each_level_takes_exactly_what_it_takes(level: str, fields: dict[str, Any]) -> None:
    found = proof(**fields)

    assert found.level == level
    assert found.covers_bytes == (level in ("A3", "A4"))
    assert [demanded for demanded in LEVELS if found.reaches(demanded)] == list(LEVELS[: LEVELS.index(level) + 1])


@pytest.mark.parametrize(
    ("claimed", "attested", "level"),
    [
        ("none", "raw", "A2"),
        ("raw", "none", "A4"),
        ("raw", "", "A2"),
        ("", "", "A2"),
        ("", "utf8", "A4"),
        ("utf8", "", "A4"),
    ],
)
def test_a_release_counts_only_of_a_publisher_that_signs_no_raw_bytes(claimed: str, attested: str, level: str) -> None:
    found = proof(oracle=claimed, attestations=(attests(ALICE), attests(BOB, oracle=attested))[1:])

    assert found.level == level
    assert found.key.oracle_attested == bool(attested)


def test_the_worst_that_a_trusted_node_found_counts_and_who_lost_the_proof_may_warn_but_not_clear() -> None:
    worst = proof(attestations=(attests(ALICE, oracle="none"), attests(BOB, oracle="raw", verified=False)))
    cleared = proof(oracle="raw", attestations=(attests(ALICE, oracle="none", verified=False),))
    strangers = proof(attestations=(attests(FRANK, oracle="raw"),))

    assert [found.level for found in (worst, cleared, strangers)] == ["A2", "A2", "A4"]


# Time


def test_an_expired_head_takes_the_top_level_and_no_more() -> None:
    assert proof(later_ms=DAY_MS - 1_000).level == "A4"
    late = proof(later_ms=DAY_MS)

    assert late.level == "A3"
    assert mentions(late, "no head of the release key is fresh")


def test_a_head_that_promises_for_longer_than_it_may_is_not_fresh() -> None:
    years = proof(evidence=with_release(released(), bound(), head(expires_s=2**33)))

    assert years.level == "A3"


def test_attestations_expire_and_what_nodes_saw_does_not() -> None:
    week_later = proof(roots=NODES, later_ms=7 * DAY_MS)

    assert (week_later.level, week_later.key.known) == ("A2", None)
    assert mentions(week_later, "2 of the attestations do not count (R41)")


def test_announcements_from_the_future_do_not_count() -> None:
    found = proof(evidence=(), witnesses=tuple(saw(node, seq=NOW_MS + DAY_MS // 2) for node in (ALICE, BOB, ERIN)))

    assert (found.level, found.witnesses.all) == ("reported", ())
    assert mentions(found, "3 of the witnesses do not count (R42)")


# Forgeries


@pytest.mark.parametrize("data", [ZIP[:-1], ZIP + b"\n", b"", ZIP[:-1] + b"!", b"PK" * 100])
def test_other_bytes_prove_nothing_whatever_the_bundle_holds(data: bytes) -> None:
    found = proof(zip_=measured(data))

    assert (found.level, found.covers_bytes) == ("unknown", False)
    assert mentions(found, f"the file has {len(data)} bytes")


def test_bytes_of_the_same_digest_and_another_size_are_others() -> None:
    assert proof(zip_=replace(measured(), size=1)).level == "unknown"


@pytest.mark.parametrize(
    "evidence",
    [
        with_release(released(version="1.0.1"), bound()),
        with_release(released(slug="other"), bound()),
        with_release(released(author="eve"), bound()),
        with_release(released(origin="https://other.example"), bound(origin="https://other.example")),
        with_release(released(sha256=OTHER), bound()),
        with_release(released(size=1), bound()),
        with_release(released()),
        with_release(released(MALLORY), bound()),
        with_release(released(), bound(MALLORY)),
        with_release(released(), bound(origin="https://other.example")),
        with_release(released(), bound(origin="https://publisher.example/elsewhere")),
        with_release(released(), bound(release=MALLORY)),
        with_release(replace(released(), form=EvidenceForm.HEAD), bound()),
        with_release(replace(bound(), form=EvidenceForm.RELEASE), bound()),
        with_release(replace(head(), form=EvidenceForm.KEYBIND), released()),
        with_release(SignedPiece(EvidenceForm.RELEASE, b"no envelope"), SignedPiece(EvidenceForm.KEYBIND, b"none")),
    ],
)
def test_a_release_of_something_else_or_of_an_unbound_key_lifts_nothing(evidence: tuple[SignedPiece, ...]) -> None:
    found = proof(evidence=evidence)

    assert (found.level, found.covers_bytes, signer(found)) == ("A2", False, None)
    assert mentions(found, "no signature of the publisher says that these bytes are this version")


def test_a_genuine_release_beside_a_forged_one_counts_and_the_forged_one_is_named() -> None:
    found = proof(evidence=(released(MALLORY), *bundle().evidence))

    assert found.level == "A4"
    assert mentions(found, "signed by did:key:")


def test_of_two_releases_the_one_by_the_separate_key_counts() -> None:
    for both in ((released(), released(CAROL)), (released(CAROL), released())):
        assert proof(evidence=with_release(*both, bound(), head())).level == "A4"


@pytest.mark.parametrize(
    "forged", [head(MALLORY), head(CAROL), SignedPiece(EvidenceForm.HEAD, b"no envelope"), released()]
)
def test_a_head_of_another_key_makes_nothing_fresh(forged: SignedPiece) -> None:
    found = proof(evidence=with_release(released(), bound(), replace(forged, form=EvidenceForm.HEAD)))

    assert found.level == "A3"


@pytest.mark.parametrize(
    "piece",
    [
        described(key=MALLORY),
        replace(described(), text=TEXT + b" "),
        described(b'{"id":"hello","name":"Hello","version":"1.0.1"}'),
        described(b'{"id":"other","name":"Hello","version":"1.0.0"}'),
        described(b'[{"slug":"hello","version":"1.0.0"},{}]'),
        described(b'"hello 1.0.0"'),
        described(b"[" * 100_000),
        described(b"\xff"),
        replace(described(), text=DESCRIPTION),
        replace(described(DESCRIPTION, EvidenceForm.PLUGIN_DATA), text=TEXT),
    ],
)
def test_a_text_that_is_swapped_or_speaks_of_something_else_does_not_count(piece: SignedPiece) -> None:
    found = proof(evidence=(piece,), witnesses=(saw(ALICE),))

    assert found.level == "A0"
    assert mentions(found, "signature is not one of this key over this version")


def test_a_signature_over_the_sha384_says_nothing_about_which_release_it_is() -> None:
    alone = proof(evidence=bundle().evidence[-1:], witnesses=())
    forged = proof(evidence=(SignedPiece(EvidenceForm.SHA384, bytes(64)),), witnesses=())

    assert [found.level for found in (alone, forged)] == ["reported", "reported"]
    assert any("not which release they are" in sentence for sentence in alone.evidence)
    assert mentions(forged, "SHA-384")


def test_a_given_key_outweighs_the_bundles() -> None:
    swapped = proof(roots=TrustRoots(MALLORY.public))

    assert (swapped.level, swapped.key.public) == ("reported", MALLORY.public)
    assert mentions(swapped, "the bundle is about another key")


def test_a_bundle_made_for_the_forgers_own_key_proves_nothing_to_who_knows_the_publishers() -> None:
    made = bundle(
        public_key=MALLORY.public,
        evidence=(released(MALLORY), head(MALLORY), described(key=MALLORY)),
        attestations=(attests(FRANK, public_key=MALLORY.public),),
        witnesses=(saw(CAROL), saw(FRANK), saw(MALLORY)),
    )

    assert [proof(made, roots).level for roots in (KEY, NODES, BOTH, TrustRoots())] == ["reported"] * 4


def test_a_key_that_trusted_nodes_disagree_about_is_not_known() -> None:
    attested = (attests(ALICE), attests(BOB, public_key=MALLORY.public))

    divided, given = proof(roots=NODES, attestations=attested), proof(attestations=attested)

    assert (divided.level, divided.key.known) == ("A2", None)
    assert (given.level, given.key.known) == ("A4", "given")
    assert mentions(divided, "1 nodes that you trust attest another key")
    assert mentions(given, "1 nodes that you trust attest another key")


def test_the_last_word_of_a_node_about_a_key_counts_in_whatever_order() -> None:
    first, last = attests(ALICE), attests(ALICE, verified=False, seq=NOW_MS + 1)

    for words in ((first, last), (last, first)):
        assert proof(roots=NODES, attestations=words).key.known is None


@pytest.mark.parametrize(
    "attestation",
    [
        attests(ALICE, mesh="other"),
        attests(FRANK),
        attests(ALICE, verified=False),
        attests(ALICE, source_id="eve@publisher.example", username="eve"),
        saw(ALICE),
        b"no envelope",
    ],
)
def test_what_does_not_attest_this_key_makes_none_known(attestation: bytes) -> None:
    assert proof(roots=NODES, attestations=(attestation,)).key.known is None


@pytest.mark.parametrize(
    "forged",
    [
        saw(BOB, mesh="other"),
        saw(BOB, version="1.0.1"),
        saw(BOB, plugin_id="other"),
        saw(BOB, source_id="eve@publisher.example"),
        attests(BOB),
        saw(ALICE),
        saw(ALICE, seq=NOW_MS + 1),
        saw(BOB)[:-1] + bytes([saw(BOB)[-1] ^ 1]),
        b"no envelope",
    ],
)
def test_an_announcement_of_something_else_or_once_more_is_no_witness(forged: bytes) -> None:
    found = proof(evidence=(), witnesses=(saw(ALICE), forged, saw(ERIN)))

    assert found.level == "A0"
    assert found.witnesses.all == tuple(sorted((ALICE.public, ERIN.public)))


def test_what_nodes_announced_in_one_mesh_counts_in_no_other() -> None:
    found = proof(roots=NODES, mesh="other")

    assert (found.level, found.witnesses.all, found.key.known) == ("reported", (), None)
    assert mentions(found, "3 of the witnesses do not count (R5)", "2 of the attestations do not count (R5)")


def test_many_repetitions_of_one_node_are_one_witness() -> None:
    found = proof(evidence=(), witnesses=(saw(ALICE),) * 64)

    assert (found.level, found.witnesses.all) == ("A0", (ALICE.public,))


def test_a_node_that_saw_two_digests_is_no_witness_of_either() -> None:
    twice = saw(BOB, sha256=OTHER, seq=NOW_MS + 1)

    found = proof(evidence=(), witnesses=(saw(ALICE), saw(BOB), twice, saw(ERIN)))

    assert found.witnesses.all == tuple(sorted((ALICE.public, ERIN.public)))
    assert (found.level, found.witnesses.disputed_by) == ("reported", (BOB.public,))
    assert mentions(found, "1 nodes saw other bytes under this version, among them nodes that you trust")


def test_who_did_not_fetch_the_bytes_is_no_witness_whatever_it_passes_on() -> None:
    passed_on = [saw(node, observed_at=0) for node in (BOB, ERIN)]

    found = proof(evidence=(), witnesses=(saw(ALICE), *passed_on))
    fetched_later = proof(evidence=(), witnesses=(saw(ALICE), *passed_on, saw(BOB, seq=NOW_MS + 1), saw(ERIN)))
    other_bytes = proof(evidence=(), witnesses=(saw(ALICE), saw(BOB, observed_at=0, sha256=OTHER)))

    assert (found.level, found.witnesses.all) == ("A0", (ALICE.public,))
    assert fetched_later.level == "A2"
    assert (other_bytes.level, other_bytes.witnesses.disputed_by) == ("reported", (BOB.public,))


def test_strangers_that_dispute_downgrade_nothing_and_trusted_ones_do() -> None:
    by_stranger = proof(witnesses=(*bundle().witnesses, saw(FRANK, sha256=OTHER)))
    trusted = TrustRoots(CAROL.public, BOTH.nodes | {FRANK.public})
    by_trusted = proof(roots=trusted, witnesses=(*bundle().witnesses, saw(FRANK, size=1)))

    assert (by_stranger.level, by_stranger.witnesses.disputed_by) == ("A4", (FRANK.public,))
    assert by_trusted.level == "A3", "what the publisher signed stands above what nodes saw"


def test_statements_about_keys_that_cannot_be_read_are_never_passed_over() -> None:
    found = proof(keys=(b"a form to come",))

    assert (found.level, found.key.known, found.covers_bytes) == ("A2", None, False)
    assert mentions(found, "1 statements of the publisher are of a form that is not known here")


# Every byte


def _rank(found: Proof) -> int:
    return LEVELS.index(found.level)


def _overstates(found: Proof, honest: Proof) -> bool:
    return (
        _rank(found) > _rank(honest)
        or not set(found.witnesses.all) <= set(honest.witnesses.all)
        or (found.key.known is not None and found.key.public != honest.key.public)
        or signer(found) not in (None, signer(honest))
    )


def _claim(made: EvidenceBundle) -> tuple[Any, ...]:
    return (made.source_id, made.plugin_id, made.version, made.sha256, made.size)


@pytest.mark.parametrize("roots", [KEY, NODES, BOTH, TrustRoots()], ids=["key", "nodes", "both", "none"])
def test_no_single_changed_byte_proves_more_or_something_else(roots: TrustRoots) -> None:
    random, raw = Random(7), written()
    honest = prove(read_bundle(raw), measured(), roots, NOW_MS)
    claim, read = _claim(bundle()), 0

    for at in random.sample(range(len(raw)), 600):
        changed = raw[:at] + bytes([raw[at] ^ random.choice((1, 2, 4, 8, 16, 32))]) + raw[at + 1 :]
        try:
            made = read_bundle(changed)
        except Refusal:
            continue
        read += 1
        found = prove(made, measured(), roots, NOW_MS)
        assert not _overstates(found, honest), at
        assert _claim(made) == claim or not found.reaches("A0"), at

    assert read > 100, "most changes of base64 are read, and then found out"


def _leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every base64 text of a bundle."""
    if isinstance(document, str):
        return [path]
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [leaf for step, value in items for leaf in _leaves(value, (*path, step))]


def _with_changed_byte(document: dict[str, Any], path: tuple[Any, ...], at: int) -> bytes:
    changed = json.loads(json.dumps(document))
    inside = changed
    for step in path[:-1]:
        inside = inside[step]
    data = bytearray(base64.b64decode(inside[path[-1]]))
    data[at] ^= 64
    inside[path[-1]] = base64.b64encode(data).decode()
    return json.dumps(changed).encode()


def test_no_byte_inside_a_signed_member_can_change_and_still_count() -> None:
    keys, notices = (bound(release=FRANK).data, rotated(CAROL, CAROL), revoked(MALLORY)), (advised(), yanked())
    made, random = bundle(attestations=(attests(ALICE),), keys=keys, notices=notices), Random(11)
    document, honest = write_bundle(made), prove(made, measured(), NODES, NOW_MS).caveats
    signed = [
        path
        for path in _leaves(document)
        if path[0] in ("evidence", "witnesses", "attestations", "keys", "notices") and path[-1] != "form"
    ]
    tried = 0

    for path in signed:
        original = _value_at(document, path)
        for at in random.sample(range(len(original)), min(12, len(original))):
            raw = _with_changed_byte(document, path, at)
            found = prove(read_bundle(raw), measured(), NODES, NOW_MS)
            tried += 1
            assert found.caveats != honest, (path, at)

    assert tried > 100


def _value_at(document: Any, path: tuple[Any, ...]) -> bytes:
    for step in path:
        document = document[step]
    return base64.b64decode(document)


def test_the_node_that_attests_is_the_one_that_signed() -> None:
    stranger = PrivateKey(bytes([9]) * 32)

    assert proof(roots=TrustRoots(nodes=frozenset({stranger.public}))).level == "reported"
