"""Keys: known answers of RFC 8032, RFC 8410 and the did:key specification, and what is no key."""

import pytest

from pfn_protocol.errors import Refusal
from pfn_protocol.identity import (
    PrivateKey,
    check_public_key,
    did_key,
    key_fingerprint,
    parse_did_key,
    parse_public_key,
    public_key_pem,
    short_did,
    verify,
)
from tests.protocol.vectors.encoding_cases import SMALL_ORDER_KEYS

# RFC 8032, section 7.1, tests 1 and 2.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
# RFC 8410, section 10.
RFC_8410_PRIVATE = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n"
)
RFC_8410_PUBLIC = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n"
)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_the_standard(seed: str, public: str, message: str, signature: str) -> None:
    key = PrivateKey(bytes.fromhex(seed))

    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


def test_keys_are_read_and_written_as_the_standard_writes_them() -> None:
    key = PrivateKey.from_pem(RFC_8410_PRIVATE)

    assert key.to_pem() == RFC_8410_PRIVATE
    assert public_key_pem(key.public) == RFC_8410_PUBLIC
    assert parse_public_key(RFC_8410_PUBLIC) == key.public


def test_a_bare_spki_structure_in_base64_is_a_public_key() -> None:
    key = PrivateKey.from_pem(RFC_8410_PRIVATE)

    assert parse_public_key(RFC_8410_PUBLIC.splitlines()[1]) == key.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 2_000,
        "é" * 44,
        RFC_8410_PUBLIC.replace("MCow", "MCox"),
        RFC_8410_PUBLIC.replace("uE=", "uE"),
        RFC_8410_PUBLIC + RFC_8410_PUBLIC,
        RFC_8410_PUBLIC.replace("\n", "\n" * 600),
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="R3"):
        parse_public_key(text)


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS)
def test_nothing_verifies_under_a_key_of_small_order(key: str) -> None:
    public = bytes.fromhex(key)

    with pytest.raises(Refusal, match="R1"):
        check_public_key(public)
    # R the neutral element, S zero: under such a key this would be a signature over every message.
    assert not verify(public, b"anything", b"\x01" + bytes(63))
    assert not verify(public, b"anything", bytes(64))


def test_the_twin_of_a_key_with_a_small_order_part_added_is_refused() -> None:
    # The point of order 8 added to an honest key: a second key under which some of its signatures would verify.
    from nacl.bindings import crypto_core_ed25519_add

    public = PrivateKey(bytes(32)).public
    order_eight = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")

    with pytest.raises(Refusal, match="R1"):
        check_public_key(crypto_core_ed25519_add(public, order_eight))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_does_not_verify(length: int) -> None:
    assert not verify(PrivateKey(bytes(32)).public, b"", bytes(length))


def test_a_key_of_another_length_verifies_nothing() -> None:
    assert not verify(b"", b"", bytes(64))


def test_a_node_id_is_written_as_the_did_key_specification_writes_it() -> None:
    # The first Ed25519 example of the did:key specification; its seed is 32 zero bytes.
    text = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"

    assert did_key(PrivateKey(bytes(32)).public) == text
    assert parse_did_key(text) == PrivateKey(bytes(32)).public


def test_a_node_id_of_an_unsound_key_is_refused() -> None:
    with pytest.raises(Refusal, match="R1"):
        parse_did_key(did_key(bytes(32)))


def test_a_shortened_id_keeps_both_ends() -> None:
    assert short_did(did_key(PrivateKey(bytes(32)).public)) == "z6MkiTBz1y…ooWp"
    assert short_did("did:key:zShort") == "zShort"


def test_a_private_key_shows_only_its_public_half() -> None:
    key = PrivateKey(b"\x07" * 32)

    assert repr(key) == f"PrivateKey(of {did_key(key.public)})"
    assert key.seed.hex() not in repr(key)


def test_a_fingerprint_is_the_digest_of_the_key() -> None:
    assert key_fingerprint(b"").startswith("e3b0c442")
