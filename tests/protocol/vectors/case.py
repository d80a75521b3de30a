"""One case, the keys that all of them use, and how values are written in JSON."""

import dataclasses
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pfn_protocol.encoding import Value
from pfn_protocol.identity import PrivateKey

MESH = "main"
NOW_MS = 1_764_000_000_000
ALICE = PrivateKey(bytes([1]) * 32)
BOB = PrivateKey(bytes([2]) * 32)
CAROL = PrivateKey(bytes([3]) * 32)


# Longer inputs are written with their runs of one byte counted, or a few cases would be megabytes.
_PLAIN_BYTES_MAX = 1_024
_RUN = re.compile(rb"(.)\1{63,}", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """`check` names the operation (checks.py), `given` its arguments; exactly one of accepted and refused is set."""

    name: str
    rule: str
    check: str
    given: dict[str, Any]
    accepted: Any = None
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        outcome = {"accepted": self.accepted} if self.refused is None else {"refused": self.refused}
        return {"name": self.name, "rule": self.rule, "check": self.check, **self.given, **outcome}


def plain_input(data: bytes) -> Any:
    """The bytes as hex; long ones as a list of [hex, how often]."""
    if len(data) <= _PLAIN_BYTES_MAX:
        return data.hex()
    parts: list[tuple[str, int]] = []
    at = 0
    for run in _RUN.finditer(data):
        parts += [(data[at : run.start()].hex(), 1), (run.group(1).hex(), len(run.group()))]
        at = run.end()
    return [list(part) for part in [*parts, (data[at:].hex(), 1)] if part[0]]


def read_input(written: Any) -> bytes:
    """The bytes that `plain_input` wrote."""
    parts = [(written, 1)] if isinstance(written, str) else written
    return b"".join(bytes.fromhex(text) * count for text, count in parts)


def plain(value: Any) -> Any:
    """The value as JSON: bytes as hex, structures as objects, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def plain_value(value: Value) -> Any:
    """A decoded msgpack value as JSON: bytes as {"hex": ...}, so that they differ from texts."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return [plain_value(item) for item in value] if isinstance(value, tuple) else value
