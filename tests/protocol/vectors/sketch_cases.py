"""Sketches and the secrets of links: R111 to R113."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from pfn_protocol.link_secrets import salt_of, shared_secret
from pfn_protocol.sketch import Cells, reference_cells
from tests.protocol.vectors.case import Case

SALT = bytes(range(32))
NONCES = bytes(range(32))


def short_ids(name: str, count: int) -> list[bytes]:
    return [sha256(f"{name} {number}".encode()).digest()[:16] for number in range(count)]


def cases() -> Iterator[Case]:
    for name, ids, length in (
        ("no ids", [], 4),
        ("one id", short_ids("a", 1), 64),
        ("three ids", short_ids("a", 3), 32),
        ("300 ids: counts go round", short_ids("a", 300), 8),
    ):
        given = {"salt": SALT.hex(), "length": length, "ids": [one.hex() for one in ids]}
        yield Case(name, "R111", "cells", given, reference_cells(ids, SALT, length).hex())
    other = {**_cells_given("another salt", 2, 8), "salt": bytes(32).hex()}
    yield Case(
        "another salt", "R111", "cells", other, reference_cells(short_ids("another salt", 2), bytes(32), 8).hex()
    )
    yield from _differences()
    for name, private, public, accepted in (
        ("a secret", b"\x01" * 32, b"\x09" + bytes(31), True),
        ("a key of small order", b"\x01" * 32, bytes(32), False),
    ):
        secret = shared_secret(private, public, NONCES)
        salts = (
            None if secret is None else [[salt_of(secret, n).name.hex(), salt_of(secret, n).key.hex()] for n in (0, 1)]
        )
        assert (salts is not None) == accepted
        given = {"private": private.hex(), "public": public.hex(), "nonces": NONCES.hex()}
        yield Case(name, "R113", "link-secret", given, salts)


def _cells_given(name: str, count: int, length: int) -> dict[str, Any]:
    return {"salt": SALT.hex(), "length": length, "ids": [one.hex() for one in short_ids(name, count)]}


def _differences() -> Iterator[Case]:
    both, theirs, mine = short_ids("both", 20), short_ids("theirs", 6), short_ids("mine", 3)
    decoded = [sorted(one.hex() for one in theirs), sorted(one.hex() for one in mine)]
    for name, length, outcome in (("nine differences", 32, decoded), ("too few cells", 5, None)):
        given = {
            "salt": SALT.hex(),
            "theirs": reference_cells(both + theirs, SALT, length).hex(),
            "mine": reference_cells(both + mine, SALT, length).hex(),
        }
        yield Case(name, "R112", "cells-difference", given, outcome)
    same = reference_cells(both, SALT, 8)
    given = {"salt": SALT.hex(), "theirs": same.hex(), "mine": same.hex()}
    yield Case("no difference", "R112", "cells-difference", given, [[], []])
    wrong = bytearray(same)
    wrong[21 * 3] ^= 1
    yield Case("a wrong cell", "R112", "cells-difference", {**given, "theirs": wrong.hex()}, None)
    twice = Cells(8)
    twice.add([theirs[0]], SALT)
    lie = twice.part(0, 1).joined(twice.part(0, 1)).joined(twice.part(0, 6))
    yield Case(
        "an id twice",
        "R112",
        "cells-difference",
        {**given, "theirs": lie.to_bytes().hex(), "mine": bytes(21 * 8).hex()},
        None,
    )
