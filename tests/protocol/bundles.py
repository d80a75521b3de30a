"""A whole and honest evidence bundle, to be changed by tests: carol publishes, dora is her release key, nodes watch."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import EvidenceForm, SourceStatement, VersionStatement
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.evidence_bundle import EvidenceBundle, SignedPiece, write_bundle
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import (
    HeadStatement,
    ReleaseStatement,
    metadata_message,
    sign_head,
    sign_keybind,
    sign_release,
    sign_sha384,
)
from pfn_protocol.publisher_notices import (
    Advisory,
    Revocation,
    Rotation,
    Yank,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)

MESH = "main"
NOW_MS = 1_764_000_000_000
ORIGIN = "https://publisher.example"
CAROL, DORA, MALLORY = (PrivateKey(bytes([number]) * 32) for number in (3, 4, 5))
SECOND, THIRD, RECOVERY = (PrivateKey(bytes([number]) * 32) for number in (13, 14, 15))
ALICE, BOB, ERIN, FRANK = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 6, 7))
ZIP = b"PK\x03\x04 the bytes of a plugin"
TEXT = metadata_message("hello", "Hello", "1.0.0", "It says hello.")
DESCRIPTION = b'[{"slug": "hello", "version": "1.0.0", "changelog": "long"}]'
RELEASE = ReleaseStatement(
    ORIGIN,
    "carol",
    "hello",
    "1.0.0",
    hashlib.sha256(ZIP).digest(),
    len(ZIP),
    0,
    NOW_MS,
    hashlib.sha256(TEXT).digest(),
)
HEAD = HeadStatement(bytes(32), 1, NOW_MS, NOW_MS // 1_000 + 86_400)
SEEN = VersionStatement(
    source_id="carol@publisher.example",
    plugin_id="hello",
    version="1.0.0",
    type="plugin",
    name="Hello",
    description="It says hello.",
    tags=(),
    sha256=RELEASE.sha256,
    size=RELEASE.size,
    observed_at=NOW_MS // 1_000,
    evidence=(),
)
ATTESTED = SourceStatement(
    source_id=SEEN.source_id,
    instance_url=ORIGIN,
    username="carol",
    public_key=CAROL.public,
    asset_domain="",
    asset_naming_scheme="",
    verified=True,
    verified_at=NOW_MS // 1_000,
    oracle="none",
)


def measured(data: bytes = ZIP) -> Measured:
    return Measured(hashlib.sha256(data).digest(), hashlib.sha384(data).digest(), len(data))


def saw(node: PrivateKey, *, mesh: str = MESH, seq: int = NOW_MS, **fields: Any) -> bytes:
    """What a node announces that it saw at the publisher."""
    return announce(node, mesh, replace(SEEN, **fields), 0, seq).raw


def attests(node: PrivateKey, *, mesh: str = MESH, seq: int = NOW_MS, **fields: Any) -> bytes:
    """What a node announces of the publisher's key."""
    return announce(node, mesh, replace(ATTESTED, **fields), 0, seq).raw


def released(key: PrivateKey = DORA, **fields: Any) -> SignedPiece:
    return SignedPiece(EvidenceForm.RELEASE, sign_release(key, replace(RELEASE, **fields)).raw)


def bound(identity: PrivateKey = CAROL, release: PrivateKey = DORA, origin: str = ORIGIN) -> SignedPiece:
    return SignedPiece(EvidenceForm.KEYBIND, sign_keybind(identity, release, origin).raw)


def head(key: PrivateKey = DORA, **fields: Any) -> SignedPiece:
    return SignedPiece(EvidenceForm.HEAD, sign_head(key, replace(HEAD, **fields)).raw)


def described(text: bytes = TEXT, form: EvidenceForm = EvidenceForm.METADATA, key: PrivateKey = CAROL) -> SignedPiece:
    return SignedPiece(form, key.sign(text), text)


def rotated(
    old: PrivateKey,
    new: PrivateKey,
    epoch: int = 1,
    *,
    voucher: PrivateKey | None = None,
    recovery: PrivateKey | None = None,
    **fields: Any,
) -> bytes:
    """The old key is followed by the new one, as the old one or `voucher` says."""
    rotation = Rotation(
        *(ORIGIN, "carol", "identity", old.public, new.public, epoch, "", NOW_MS // 1_000),
        recovery_hash=hashlib.sha256(recovery.public).digest() if recovery else b"",
        voucher=(voucher or old).public,
    )
    return sign_rotation(new, voucher or old, replace(rotation, **fields)).raw


def revoked(key: PrivateKey, signer: PrivateKey | None = None, **fields: Any) -> bytes:
    revocation = Revocation(ORIGIN, "carol", key.public, "", NOW_MS // 1_000)
    return sign_revocation(signer or key, replace(revocation, **fields)).raw


def yanked(key: PrivateKey = DORA, **fields: Any) -> bytes:
    yank = Yank(ORIGIN, "carol", "hello", "1.0.0", "it eats posts", NOW_MS, False)
    return sign_yank(key, replace(yank, **fields)).raw


def advised(key: PrivateKey = DORA, **fields: Any) -> bytes:
    ranges = (("", "1.0.1"),)
    advisory = Advisory(
        *(ORIGIN, "carol", "hello", "PFN-1", "high", "Anybody may post.", ranges, "", (), NOW_MS, False)
    )
    return sign_advisory(key, replace(advisory, **fields)).raw


def bundle(**fields: Any) -> EvidenceBundle:
    """Everything that there can be, so that A4 may be claimed by who trusts carol's key, alice, bob and erin."""
    return replace(
        EvidenceBundle(
            mesh=MESH,
            source_id=SEEN.source_id,
            instance_url=ORIGIN,
            public_key=CAROL.public,
            plugin_id="hello",
            version="1.0.0",
            sha256=RELEASE.sha256,
            size=RELEASE.size,
            oracle="none",
            evidence=(
                released(),
                bound(),
                head(),
                described(),
                described(DESCRIPTION, EvidenceForm.PLUGIN_DATA),
                SignedPiece(EvidenceForm.SHA384, sign_sha384(CAROL, hashlib.sha384(ZIP).digest())),
            ),
            witnesses=tuple(saw(node) for node in (ALICE, BOB, ERIN)),
            attestations=(attests(ALICE), attests(BOB)),
        ),
        **fields,
    )


def written(made: EvidenceBundle | None = None) -> bytes:
    """The bytes of a bundle's file."""
    return json.dumps(write_bundle(made or bundle())).encode()
