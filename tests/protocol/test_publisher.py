"""What publishers sign, beyond the vectors."""

from dataclasses import replace

import pytest

from pfn_protocol import publisher
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.limits import head_lifetime_seconds_max, metadata_bytes_max
from tests.protocol.vectors.case import ALICE, BOB, CAROL, NOW_MS
from tests.protocol.vectors.publisher_cases import HEAD, ORIGIN, RELEASE


def test_a_metadata_signature_is_over_all_four_texts() -> None:
    signature = CAROL.sign(publisher.metadata_message("hello", "Hello", "1.0", "d"))

    assert publisher.verify_metadata(CAROL.public, "hello", "Hello", "1.0", "d", signature)
    assert not publisher.verify_metadata(CAROL.public, "other", "Hello", "1.0", "d", signature)
    assert not publisher.verify_metadata(CAROL.public, "hello", "Hello", "1.1", "d", signature)
    assert not publisher.verify_metadata(CAROL.public, "hello", "Hello", "1.0", None, signature)
    assert not publisher.verify_metadata(BOB.public, "hello", "Hello", "1.0", "d", signature)


def test_texts_beyond_the_limit_are_never_signed_metadata() -> None:
    long = "n" * metadata_bytes_max

    assert not publisher.verify_metadata(CAROL.public, "hello", long, "1.0", None, bytes(64))
    with pytest.raises(Refusal, match="R50"):
        publisher.metadata_message("hello", long, "1.0", None)


def test_a_signature_over_the_sha384_of_a_zip_is_over_its_raw_bytes() -> None:
    digest = bytes(range(48))

    signature = publisher.sign_sha384(CAROL, digest)

    assert publisher.verify_sha384(CAROL.public, digest, signature)
    assert not publisher.verify_sha384(CAROL.public, digest[::-1], signature)
    assert not publisher.verify_sha384(CAROL.public, digest.hex().encode(), signature)


def test_a_publisher_does_not_sign_what_nodes_would_refuse() -> None:
    with pytest.raises(Refusal, match="R60"):
        publisher.sign_release(CAROL, replace(RELEASE, slug="Hello"))
    with pytest.raises(Refusal, match="R54"):
        publisher.sign_head(CAROL, replace(HEAD, seq=1))
    with pytest.raises(Refusal, match="R55"):
        publisher.sign_keybind(ALICE, CAROL, ORIGIN + "/")


def test_a_statement_comes_back_with_the_key_that_signed_it() -> None:
    assert publisher.open_release(publisher.sign_release(CAROL, RELEASE).raw) == (RELEASE, CAROL.public)
    assert publisher.open_head(publisher.sign_head(CAROL, HEAD).raw) == (HEAD, CAROL.public)
    bound, key = publisher.open_keybind(publisher.sign_keybind(ALICE, CAROL, ORIGIN).raw)
    assert (bound.origin, bound.identity_key, bound.release_key, key) == (
        ORIGIN,
        ALICE.public,
        CAROL.public,
        CAROL.public,
    )


def test_a_stolen_identity_signature_is_hostile() -> None:
    from pfn_protocol.encoding import seal

    taken = publisher.sign_keybind(ALICE, BOB, ORIGIN).value
    assert isinstance(taken, tuple)
    forged = seal(CAROL, "pfn/keybind/2", "", (ORIGIN, ALICE.public, CAROL.public, taken[3]))

    with pytest.raises(Refusal) as refused:
        publisher.open_keybind(forged.raw)

    assert (refused.value.rule, refused.value.severity) == ("R55", Severity.HOSTILE)


def test_a_head_counts_until_it_expires() -> None:
    assert publisher.head_is_fresh(HEAD, NOW_MS)
    assert not publisher.head_is_fresh(replace(HEAD, expires_s=NOW_MS // 1_000), NOW_MS)


def test_a_head_that_promises_more_than_two_weeks_does_not_count() -> None:
    longest = NOW_MS // 1_000 + head_lifetime_seconds_max

    assert publisher.head_is_fresh(replace(HEAD, expires_s=longest), NOW_MS)
    assert not publisher.head_is_fresh(replace(HEAD, expires_s=longest + 1), NOW_MS)
