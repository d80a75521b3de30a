"""Changes valid inputs as a seed says: bytes, texts, JSON, and the lists that msgpack bodies are made of.

Everything is a function of the generator that is given, so an input comes back with its seed.
"""

import json
from random import Random
from typing import Any, Final

from pfn_protocol.encoding import Value

NUMBERS: Final = (
    0,
    1,
    2,
    63,
    127,
    128,
    255,
    256,
    2**16 - 1,
    2**16,
    2**31,
    2**32 - 1,
    2**53 - 1,
    2**53,
    2**63,
    2**64 - 1,
)
TEXTS: Final = (
    *(
        "",
        " ",
        "0",
        "-1",
        "null",
        "a" * 65,
        "a" * 5000,
        "\x00",
        "\r\n",
        "\u202e",
        "\ud800",
        "\U0001f600",
        "\u0130",
        "%00",
    ),
    *("../../etc/passwd", "..\\x", "'); DROP TABLE sources;--", '"*^NEAR(', "<script>", "${jndi:ldap://x}", "{{7*7}}"),
    *("https://a.localhost", "http://[::1]:1/", "did:key:z6Mk", "1e309", "NaN", "\ufeff", "e\u0301" * 40, "=" * 44),
)
BYTES: Final = (
    b"",
    b"\x00",
    b"\xff" * 4,
    b"PK\x03\x04",
    b"\xc1",
    b"\xdc\xff\xff",
    b"{",
    b"[" * 40,
    b"\r\n\r\n",
    b"%",
    b"\x80",
)
CHANGES_MAX: Final = 4


def mutated_bytes(rng: Random, data: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """The data with one to four changes: bits, bytes, pieces gone, repeated, put in, or taken from another input."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, CHANGES_MAX)):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice((1, 1, 2, 4, 8, 32, 200)))
        match rng.randrange(8):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1 if changed:
                changed[at % len(changed)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end] * rng.choice((1, 1, 2, 50))
            case 4:
                changed[at:at] = rng.choice(BYTES)
            case 5:
                changed[at:end] = rng.randbytes(end - at)
            case 6 if others:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                changed[at:end] = other[start : start + rng.choice((1, 8, 100))]
            case 7:
                del changed[at:]
            case _:
                changed[at:end] = rng.choice(NUMBERS).to_bytes(8, rng.choice(("little", "big")))[: end - at]
    return bytes(changed)


def mutated_text(rng: Random, text: str) -> str:
    """The text with a change, or another one."""
    match rng.randrange(5):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            at = rng.randrange(len(text) + 1)
            return text[:at] + rng.choice(TEXTS) + text[at:]
        case 2:
            return text * rng.choice((0, 2, 100))
        case 3:
            return text.swapcase()
        case _:
            return mutated_bytes(rng, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def mutated_value(rng: Random, value: Value) -> Value:
    """A body with one to three of its parts changed, so that it can still be packed and signed."""
    for _ in range(rng.randint(1, 3)):
        value = _changed(rng, value, 0)
    return value


def _changed(rng: Random, value: Value, depth: int) -> Value:
    if isinstance(value, tuple) and value and rng.random() < 0.85:
        items = list(value)
        at = rng.randrange(len(items))
        match rng.randrange(12):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[rng.randrange(len(items))])
            case 2:
                other = rng.randrange(len(items))
                items[at], items[other] = items[other], items[at]
            case 3:
                items[at:at] = [items[at]] * rng.choice((2, 40, 1100))
            case _:
                items[at] = _changed(rng, items[at], depth + 1)
        return tuple(items[:4096])
    return _leaf(rng, value)


def _leaf(rng: Random, value: Value) -> Value:
    """Another value of the same kind, or of another kind."""
    if isinstance(value, bytes) and rng.random() < 0.7:
        return rng.choice((mutated_bytes(rng, value), rng.randbytes(len(value)), bytes(len(value))))
    if isinstance(value, str) and rng.random() < 0.7:
        return _sound(mutated_text(rng, value))
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.7:
        return rng.choice((value + 1, max(0, value - 1), min(rng.choice(NUMBERS), 2**53 - 1)))
    nested: Value = ()
    for _ in range(rng.randrange(4)):
        nested = (nested,)
    return rng.choice((None, True, False, 0, 2**53 - 1, b"", bytes(32), _sound(rng.choice(TEXTS)), nested))


def _sound(text: str) -> str:
    """Without halves of surrogate pairs, which cannot be packed at all."""
    return text.encode("utf-8", "replace").decode()


def mutated_json(rng: Random, value: Any) -> Any:
    """A JSON value with one to three of its parts changed."""
    for _ in range(rng.randint(1, 3)):
        value = _changed_json(rng, value)
    return value


def _changed_json(rng: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {key: item for key, item in value.items() if key != name}
            case 1:
                return {**value, mutated_text(rng, name): value[name]}
            case _:
                return {**value, name: _changed_json(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value * rng.choice((2, 30))
            case _:
                return [*value[:at], _changed_json(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.8:
        return mutated_text(rng, value)
    return rng.choice(
        (None, True, {}, [], "", 0, -1, 1.5, 1e308, 10**30, rng.choice(NUMBERS), rng.choice(TEXTS), [[[]]])
    )


def json_bytes(rng: Random, value: Any, others: tuple[bytes, ...] = ()) -> bytes:
    """The bytes of a changed JSON value; sometimes the bytes themselves are changed as well."""
    text = json.dumps(mutated_json(rng, value), ensure_ascii=rng.random() < 0.5)
    data = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data, others) if rng.random() < 0.3 else data
