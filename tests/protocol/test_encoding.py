"""Canonical bytes and the envelope, beyond the vectors: properties, and every signature against every verifier."""

import base64
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_protocol import publisher
from pfn_protocol.acceptance import accept, announce
from pfn_protocol.announcements import Kind
from pfn_protocol.encoding import Value, open_envelope, pack, preimage, seal, unpack
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.export_index import ExportIndex, open_index, sign_index
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import HaveAnswer, HaveRequest
from pfn_protocol.publisher_notices import Advisory, Notice, Revocation, Rotation, Yank, open_notice
from tests.protocol.vectors.announcement_cases import (
    ADVISORY,
    MIRROR,
    NODE,
    REVOKE,
    SOURCE,
    SUCCESSION,
    SUCCESSOR,
    VERSION,
    YANK,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, MESH, NOW_MS
from tests.protocol.vectors.notice_cases import ADVISED, REVOKED, ROTATED, YANKED
from tests.protocol.vectors.publisher_cases import HEAD, ORIGIN, RELEASE

LEAVES = st.none() | st.booleans() | st.integers(0, 2**53 - 1) | st.text(max_size=40) | st.binary(max_size=300)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=20).map(tuple), max_leaves=30)
NONCE = bytes(16)


def depth_of(value: object) -> int:
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, tuple) else 0


@settings(derandomize=True, max_examples=200)
@given(VALUES.filter(lambda value: depth_of(value) <= 8))
def test_every_value_comes_back_as_it_was(value: Value) -> None:
    back = unpack(pack(value), 100_000)

    assert back == value
    assert repr(back) == repr(value)  # True is not 1


@settings(derandomize=True, max_examples=500)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_canonical_value_or_refused(data: bytes) -> None:
    try:
        value = unpack(data, 60)
    except Refusal:
        return
    assert pack(value) == data


@pytest.mark.parametrize("value", [-1, 2**53, 1.5, {}, [], {1: 2}, object()])
def test_what_is_no_value_is_not_encoded(value: Value) -> None:
    with pytest.raises(Refusal, match="R10"):
        pack((value,))


def test_half_a_surrogate_pair_is_not_encoded() -> None:
    with pytest.raises(Refusal, match="R12"):
        pack("\ud83c")


def test_a_list_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(Refusal, match="R10"):
        pack((None,) * 4_097)


def test_a_mesh_without_a_proper_name_signs_nothing() -> None:
    with pytest.raises(Refusal, match="R7"):
        seal(ALICE, "pfn/node/1", "Main Mesh", ())


def test_lists_that_claim_to_be_long_reserve_no_memory_worth_mentioning() -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(Refusal, match="R11"):
        unpack(bytes.fromhex("dc1000") * 300_000, 1_000_000)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 64 * 2**20


def test_a_million_empty_maps_are_refused_at_the_first() -> None:
    started = time.process_time()
    with pytest.raises(Refusal, match="R10"):
        unpack(bytes.fromhex("dc1000") + b"\x80" * 1_000_000, 2_000_000)

    assert time.process_time() - started < 1


def test_a_preimage_never_begins_like_a_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        preimage("pfn/node/1", MESH, b"")[:1].decode("utf-8")


def test_no_envelope_survives_the_change_of_a_single_bit() -> None:
    sealed = seal(ALICE, "pfn/node/1", MESH, ("hello", 7, (b"\x01",)))

    for position in range(8 * len(sealed.raw)):
        changed = bytearray(sealed.raw)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(Refusal):
            open_envelope(bytes(changed), mesh=MESH, domain="pfn/node/1", bytes_max=4_096)


def test_a_wrong_signature_is_hostile_and_a_wrong_form_is_not() -> None:
    sealed = seal(ALICE, "pfn/node/1", "other", 1)

    with pytest.raises(Refusal) as wrong_mesh:
        open_envelope(sealed.raw, mesh=MESH, domain="pfn/node/1", bytes_max=4_096)
    with pytest.raises(Refusal) as wrong_domain:
        open_envelope(sealed.raw, mesh="other", domain=("pfn/source/1", "pfn/mirror/1"), bytes_max=4_096)

    assert wrong_mesh.value.severity is Severity.HOSTILE
    assert wrong_domain.value.severity is Severity.FAULTY
    assert str(wrong_domain.value).startswith("R8: this is signed as 'pfn/node/1'")


def accepts_as(kind: str) -> Callable[[bytes], object]:
    def check(raw: bytes) -> object:
        found = accept(raw, mesh=MESH, now_ms=NOW_MS)
        if found.kind != kind:
            raise Refusal("R8", "another kind")
        return found

    return check


def opens_as(kind: type[Notice]) -> Callable[[bytes], object]:
    def check(raw: bytes) -> object:
        found = open_notice(raw)
        if not isinstance(found.notice, kind):
            raise Refusal("R8", "another kind")
        return found

    return check


def opens_as_export(raw: bytes) -> object:
    """The envelope as it is, and in the place of the one in the file of an index."""
    shown = json.loads(sign_index(ALICE, MESH, EXPORT))
    return open_index(json.dumps(shown | {"envelope": base64.b64encode(raw).decode()}, indent=1).encode() + b"\n")


EXPORT = ExportIndex(NOW_MS, 7, "https://files.test", 0, 0, ())
EXPORTED = base64.b64decode(json.loads(sign_index(ALICE, MESH, EXPORT))["envelope"])
SIGNED: dict[str, bytes] = {
    "node": announce(ALICE, MESH, NODE, 0, NOW_MS).raw,
    "source": announce(ALICE, MESH, SOURCE, 0, NOW_MS).raw,
    "version": announce(ALICE, MESH, VERSION, 0, NOW_MS).raw,
    "mirror": announce(ALICE, MESH, MIRROR, 0, NOW_MS).raw,
    "yank": announce(ALICE, MESH, YANK, 0, NOW_MS).raw,
    "advisory": announce(ALICE, MESH, ADVISORY, 0, NOW_MS).raw,
    "revoke": announce(ALICE, MESH, REVOKE, 0, NOW_MS).raw,
    "successor": announce(ALICE, MESH, SUCCESSOR, 0, NOW_MS).raw,
    "succession": announce(ALICE, MESH, SUCCESSION, 0, NOW_MS).raw,
    "request": seal_request(ALICE, mesh=MESH, to=BOB.public, message=HaveRequest(()), now_ms=NOW_MS, nonce16=NONCE),
    "answer": seal_answer(ALICE, mesh=MESH, nonce=NONCE, message=HaveAnswer(())),
    "release": publisher.sign_release(CAROL, RELEASE).raw,
    "head": publisher.sign_head(CAROL, HEAD).raw,
    "keybind": publisher.sign_keybind(ALICE, CAROL, ORIGIN).raw,
    "publisher's rotation": ROTATED,
    "publisher's revocation": REVOKED,
    "publisher's yank": YANKED,
    "publisher's advisory": ADVISED,
    "metadata": publisher.metadata_message("a", "b", "c", None),
    "sha384": CAROL.sign(bytes(48)),
    "export": EXPORTED,
}
VERIFIERS: dict[str, Callable[[bytes], object]] = {
    **{kind: accepts_as(kind) for kind in Kind},
    "request": lambda raw: open_request(raw, mesh=MESH, path="have", me=BOB.public, now_ms=NOW_MS),
    "answer": lambda raw: open_answer(raw, mesh=MESH, nonce=NONCE, sender_expected=ALICE.public, path="have"),
    "release": publisher.open_release,
    "head": publisher.open_head,
    "keybind": publisher.open_keybind,
    "publisher's rotation": opens_as(Rotation),
    "publisher's revocation": opens_as(Revocation),
    "publisher's yank": opens_as(Yank),
    "publisher's advisory": opens_as(Advisory),
    "export": opens_as_export,
}


@pytest.mark.parametrize("signed", SIGNED)
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_signature_counts_for_the_one_thing_that_it_was_made_for(signed: str, verifier: str) -> None:
    if signed == verifier:
        assert VERIFIERS[verifier](SIGNED[signed])
    else:
        with pytest.raises(Refusal):
            VERIFIERS[verifier](SIGNED[signed])
