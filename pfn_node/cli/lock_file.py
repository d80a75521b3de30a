"""The lock file: which releases exactly, whose key each source has, and the evidence for both, in one JSON file.

Whoever has it needs to trust no node any more: the digest says which bytes, and the evidence in it is proved again with
the locked key whenever it is used (`proved`). It is the same text for the same content, so that a diff shows a change
and nothing else; evidence is not replaced while its release stays the same.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pfn_node.cli.failing import NOT_VERIFIED, WRONG_USAGE
from pfn_node.cli.wanted import Found, NotGot, Terms, Wanted, judge, parse_wanted
from pfn_protocol.bundle_proof import LEVELS, TrustRoots
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, write_bundle
from pfn_protocol.identity import did_key, parse_did_key

FORMAT: Final = "pfn-lock/1"
LOCK_BYTES_MAX: Final = 64 * 2**20  # thousands of plugins; a bundle without signed texts has some kilobytes
# What a signature of the publisher proves stays proved. What nodes attest counts for a week, so below A3 it is the
# digest alone that is held to later.
_LASTING: Final = "A3"


@dataclass(frozen=True, slots=True)
class Locked:
    """One release, as it was proved when it was locked."""

    source_id: str
    plugin_id: str
    version: str
    named: bool  # the version was asked for by its number: an update keeps to it
    sha256: bytes
    size: int
    assurance: str
    evidence: dict[str, Any]

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.source_id, self.plugin_id, self.version)

    @property
    def is_signed(self) -> bool:
        return LEVELS.index(self.assurance) >= LEVELS.index(_LASTING)


@dataclass(slots=True)
class Lock:
    """The content of a lock file: releases by SOURCE/PLUGIN, and identity keys by source."""

    keys: dict[str, bytes] = field(default_factory=dict)
    plugins: dict[str, Locked] = field(default_factory=dict)


def lock_of(found: Found, *, named: bool) -> Locked:
    """What is kept of a release; the texts that an A3 does not rest on are not."""
    bundle, level = found.bundle, found.proof.level
    locked = Locked(
        bundle.source_id,
        bundle.plugin_id,
        bundle.version,
        named,
        bundle.sha256,
        bundle.size,
        level,
        found.document,
    )
    if not locked.is_signed:
        return locked
    slim = replace(bundle, evidence=tuple(piece for piece in bundle.evidence if piece.form not in SIGNED_TEXTS))
    return replace(locked, evidence=write_bundle(slim))


def lasting_level(locked: Locked) -> str:
    """What its evidence has to prove whenever it is used."""
    return _LASTING if locked.is_signed else LEVELS[0]


def proved(lock: Lock, locked: Locked) -> Found:
    """The locked release with its evidence, proved again without any node; raise `NotGot` if it is not."""
    key = lock.keys.get(locked.source_id)
    terms = Terms(TrustRoots(key), lasting_level(locked), "the lock file")
    if key is None:
        raise NotGot(NOT_VERIFIED, f"the lock file has no key of {locked.source_id}")
    try:
        found = judge(locked.evidence, locked.wanted, terms)
    except NotGot as failure:
        raise NotGot(failure.code, f"what is locked of {locked.wanted} is not proved: {failure}") from None
    if (found.bundle.sha256, found.bundle.size) != (locked.sha256, locked.size):
        raise NotGot(NOT_VERIFIED, f"what is locked of {locked.wanted} and its evidence are about different bytes")
    return found


def write_lock(path: Path, lock: Lock) -> None:
    """Write the file whole or not at all; raise `OSError`."""
    document = {
        "format": FORMAT,
        "sources": {source: {"identity_key": did_key(key)} for source, key in lock.keys.items()},
        "plugins": {
            name: {
                "version": one.version,
                "version_named": one.named,
                "sha256": one.sha256.hex(),
                "size": one.size,
                "assurance": one.assurance,
                "evidence": one.evidence,
            }
            for name, one in lock.plugins.items()
        },
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def read_lock(path: Path) -> Lock:
    """Read the file; raise `NotGot` if it is none, `FileNotFoundError` if it is not there."""
    try:
        with path.open("rb") as file:
            raw = file.read(LOCK_BYTES_MAX + 1)
        if len(raw) > LOCK_BYTES_MAX:
            raise ValueError("it is too long")
        return _lock(json.loads(raw))
    except FileNotFoundError:
        raise
    except (OSError, Refusal, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise NotGot(WRONG_USAGE, f"{path} cannot be read as a lock file ({FORMAT}): {error}") from None


def _lock(document: Any) -> Lock:
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r}")
    return Lock(
        {source: parse_did_key(one["identity_key"]) for source, one in document["sources"].items()},
        {name: _locked(name, one) for name, one in document["plugins"].items()},
    )


def _locked(name: str, one: dict[str, Any]) -> Locked:
    if one["assurance"] not in LEVELS:
        raise ValueError(f"{one['assurance']!r} is no assurance")
    wanted = parse_wanted(f"{name}@{one['version']}")
    assert wanted.version is not None
    return Locked(
        wanted.source_id,
        wanted.plugin_id,
        wanted.version,
        one["version_named"] is True,
        bytes.fromhex(one["sha256"]),
        int(one["size"]),
        one["assurance"],
        dict(one["evidence"]),
    )
