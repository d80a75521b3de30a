"""Keys, encoding, envelope: R1 to R12, and the set digest R87."""

import base64
import hashlib
from collections.abc import Iterator

import msgpack

from pfn_protocol.encoding import pack, preimage, seal
from pfn_protocol.identity import did_key, public_key_pem
from tests.protocol.vectors.case import ALICE, BOB, MESH, Case, plain_value

# Every encoding of the eight points of small order; libsodium's own list, and the non-canonical twins.
SMALL_ORDER_KEYS = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
DOMAIN = "pfn/node/1"


def cases() -> Iterator[Case]:
    yield from _keys()
    yield from _key_texts()
    yield from _values()
    yield from _envelopes()
    yield from _set_digests()


def _keys() -> Iterator[Case]:
    yield Case("a key", "R1", "key", {"input": ALICE.public.hex()}, did_key(ALICE.public))
    for number, key in enumerate(SMALL_ORDER_KEYS, 1):
        yield Case(f"a key of small order ({number})", "R1", "key", {"input": key}, refused="R1")
    off_curve = "02" + "00" * 31
    yield Case("no point of the curve", "R1", "key", {"input": off_curve}, refused="R1")
    yield Case("31 bytes", "R1", "key", {"input": ALICE.public[:31].hex()}, refused="R1")


def _key_texts() -> Iterator[Case]:
    text = did_key(ALICE.public)
    yield Case("a did:key", "R2", "did-key", {"text": text}, ALICE.public.hex())
    yield Case("a did:key with a leading 1", "R2", "did-key", {"text": text.replace(":z", ":z1")}, refused="R2")
    yield Case("a did:key in another alphabet", "R2", "did-key", {"text": text[:-1] + "0"}, refused="R2")
    x25519 = "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc"
    yield Case("a did:key of X25519", "R2", "did-key", {"text": x25519}, refused="R2")
    yield Case("a did:web", "R2", "did-key", {"text": "did:web:example.org"}, refused="R2")
    yield Case("a did:key that does not end", "R2", "did-key", {"text": text + "1" * 64}, refused="R2")
    pem, raw = public_key_pem(ALICE.public), base64.b64encode(ALICE.public).decode()
    yield Case("a key as PEM", "R3", "public-key-text", {"text": pem}, ALICE.public.hex())
    folded = pem.replace("\n", "\\n")
    yield Case("a PEM whose line breaks are written out", "R3", "public-key-text", {"text": folded}, ALICE.public.hex())
    yield Case("a key as base64", "R3", "public-key-text", {"text": raw}, ALICE.public.hex())
    yield Case("31 bytes as base64", "R3", "public-key-text", {"text": raw[:-4] + "AA=="}, refused="R3")
    yield Case("no base64", "R3", "public-key-text", {"text": "?" * 44}, refused="R3")
    private = ALICE.to_pem()
    yield Case("a private key", "R3", "private-key-text", {"text": private}, ALICE.seed.hex())
    yield Case("a private key for a public one", "R3", "public-key-text", {"text": private}, refused="R3")
    yield Case("a public key for a private one", "R3", "private-key-text", {"text": pem}, refused="R3")
    yield Case("a mesh name", "R7", "mesh-name", {"text": "main-2"}, "main-2")
    yield Case("the name of no mesh", "R7", "mesh-name", {"text": ""}, "")
    yield Case("a mesh name with a capital", "R7", "mesh-name", {"text": "Main"}, refused="R7")
    yield Case("a long mesh name", "R7", "mesh-name", {"text": "m" * 33}, refused="R7")


def _values() -> Iterator[Case]:
    nested = (None, True, False, 0, 127, 128, 2**53 - 1, "Grüße 🌱", b"\x00\xff", ((), ("a",)))
    yield _value("every kind of value", "R10", pack(nested).hex(), plain_value(nested))
    deepest: tuple[object, ...] = ()
    for _ in range(7):
        deepest = (deepest,)
    yield _value("8 lists in one another", "R10", msgpack.packb(deepest).hex(), plain_value(deepest))  # type: ignore[arg-type]
    yield _value("9 lists in one another", "R10", msgpack.packb((deepest,)).hex(), refused="R10")
    for name, data, rule in (
        ("a float", "cb3ff8000000000000", "R10"),
        ("NaN", "cb7ff8000000000000", "R10"),
        ("a negative integer", "ff", "R10"),
        ("2^53", "cf0020000000000000", "R10"),
        ("an empty map", "80", "R10"),
        ("a map in a list", "9180", "R10"),
        ("a timestamp", "d6ff00000000", "R11"),
        ("an empty extension", "c70005", "R10"),
        ("an integer wider than it needs", "cc01", "R11"),
        ("a list length wider than it needs", "dc000101", "R11"),
        ("a text length wider than it needs", "d90161", "R11"),
        ("a byte length wider than it needs", "c5000161", "R11"),
        ("two values", "0101", "R11"),
        ("no value", "", "R11"),
        ("half a value", "9201", "R11"),
        ("a list that claims four thousand million items", "ddffffffff", "R11"),
        ("a byte that msgpack never uses", "c1", "R11"),
        ("half of a surrogate pair", "a3eda080", "R12"),
        ("no UTF-8", "a1ff", "R12"),
        ("an overlong NUL", "a2c080", "R12"),
    ):
        yield _value(name, rule, data, refused=rule)
    yield _value("2,000 lists in one another", "R11", "91" * 2_000 + "01", refused="R11")
    yield _value("a list of 4,097 items", "R11", "dc1001" + "00" * 4_097, refused="R11")
    yield Case("more bytes than are accepted", "R9", "value", {"input": "93010203", "bytes_max": 3}, refused="R9")


def _value(name: str, rule: str, data: str, accepted: object = None, refused: str | None = None) -> Case:
    return Case(name, rule, "value", {"input": data, "bytes_max": 8_192}, accepted, refused)


def _envelopes() -> Iterator[Case]:
    sealed = seal(ALICE, DOMAIN, MESH, ("hello", 1))
    signed = preimage(DOMAIN, MESH, sealed.body)
    accepted = {
        "author": ALICE.public.hex(),
        "id": hashlib.sha256(signed + ALICE.public).hexdigest(),
        "body": ["hello", 1],
    }
    yield _envelope("an envelope", "R5", sealed.raw, accepted)
    yield _envelope("its id", "R6", sealed.raw, accepted)
    yield _envelope("an envelope of another mesh", "R7", sealed.raw, refused="R5", mesh="other")
    yield _envelope("an envelope of another domain", "R8", seal(ALICE, "pfn/source/1", MESH, 1).raw, refused="R8")
    of_publisher = seal(ALICE, DOMAIN, "", ("hello", 1)).raw
    yield _envelope("an envelope of no mesh", "R7", of_publisher, refused="R5")
    other = bytearray(sealed.raw)
    other[-1] ^= 1
    yield _envelope("a signature with one bit changed", "R5", bytes(other), refused="R5")
    parts = (1, DOMAIN, ALICE.public, sealed.body, sealed.signature)
    yield _envelope("another author", "R5", pack((1, DOMAIN, BOB.public, *parts[3:])), refused="R5")
    yield _envelope("another body", "R5", pack((*parts[:3], pack(2), parts[4])), refused="R5")
    small = bytes.fromhex(SMALL_ORDER_KEYS[2])
    yield _envelope("an author of small order", "R1", pack((1, DOMAIN, small, *parts[3:])), refused="R1")
    yield _envelope("another version", "R4", pack((2, *parts[1:])), refused="R4")
    yield _envelope("true in place of 1", "R4", pack((True, *parts[1:])), refused="R4")
    yield _envelope("four fields", "R4", pack(parts[:4]), refused="R4")
    yield _envelope("six fields", "R4", pack((*parts, 0)), refused="R4")
    yield _envelope("a text as body", "R4", pack((*parts[:3], "hello", parts[4])), refused="R4")
    yield _envelope("a short signature", "R4", pack((*parts[:4], parts[4][:63])), refused="R4")
    yield _envelope("a long domain", "R4", pack((1, "d" * 33, *parts[2:])), refused="R4")
    yield _envelope("no list", "R4", pack("hello"), refused="R4")
    wide = _signed_as_it_is(bytes.fromhex("cc01"))
    yield _envelope("a body that is not canonical", "R11", wide, refused="R11")
    yield _envelope("too many bytes", "R9", sealed.raw, refused="R9", bytes_max=len(sealed.raw) - 1)


def _signed_as_it_is(body: bytes) -> bytes:
    return pack((1, DOMAIN, ALICE.public, body, ALICE.sign(preimage(DOMAIN, MESH, body))))


def _envelope(
    name: str,
    rule: str,
    raw: bytes,
    accepted: object = None,
    refused: str | None = None,
    mesh: str = MESH,
    bytes_max: int = 4_096,
) -> Case:
    given = {"input": raw.hex(), "mesh": mesh, "domain": DOMAIN, "bytes_max": bytes_max}
    return Case(name, rule, "envelope", given, accepted, refused)


def _set_digests() -> Iterator[Case]:
    first, second = b"\x01" * 32, b"\x02" * 32
    numbers = [int.from_bytes(hashlib.shake_128(item).digest(384), "big") for item in (first, second)]
    both = hashlib.sha256((2).to_bytes(8, "big") + (sum(numbers) % 2**3072).to_bytes(384, "big")).hexdigest()
    empty = hashlib.sha256(bytes(8 + 384)).hexdigest()
    yield Case("no ids", "R87", "set-digest", {"ids": []}, empty)
    yield Case("two ids", "R87", "set-digest", {"ids": [first.hex(), second.hex()]}, both)
    yield Case("two ids the other way round", "R87", "set-digest", {"ids": [second.hex(), first.hex()]}, both)
