"""FAIR's documents, out of what a publisher signed: nothing in them is this node's word about somebody else.

A plugin is FAIR's if its publisher made it so. Its zip names a DID and whom to tell about holes (the headers `Plugin
ID` and `Security`), a licence and an author; and the publisher's identity key signed the SHA-384 of that zip. So the
key vouches for the DID, and belongs among the keys of its DID document, by which FAIR's clients check the same
signature. What lacks any of this is not shown.
"""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pfn_node.own_paths import download_path
from pfn_node.store.fair import Claim
from pfn_node.store.rows import PackageFacts, Release
from pfn_protocol.identity import did_key, parse_public_key
from pfn_protocol.publisher import verify_sha384

TYPES: Final = {"wp-plugin": "plugin", "wp-theme": "theme"}
CONTEXT: Final = "https://fair.pm/ns/metadata/v1"
DESCRIPTION_CHARACTERS_MAX: Final = 140  # as FAIR says
KEYWORDS_MAX: Final = 5

_DID: Final = re.compile(r"did:plc:[a-z2-7]{24}|did:web:[a-z0-9.-]+(%3A[0-9]{1,5})?(:[A-Za-z0-9._-]+)*")
_NUMBERS: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3}){0,2}")
_MAIL: Final = re.compile(r"[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+")
_REQUIREMENTS: Final = {"env:php": "Requires PHP", "env:wp": "Requires at least"}
_WORST_FIRST: Final = ("critical", "high", "medium", "low")


@dataclass(frozen=True, slots=True)
class FairRelease:
    """A release whose zip names the DID, and the signature of the publisher's identity key over that zip."""

    release: Release
    facts: PackageFacts
    signature: bytes


@dataclass(frozen=True, slots=True)
class FairPackage:
    """A plugin that its publisher made FAIR's; every signature has just been verified."""

    did: str
    claim: Claim
    releases: list[FairRelease]  # newest first


def fair_package(claim: Claim, base: str | None) -> FairPackage | None:
    """What a claim is worth; None: nothing. `base` is the node's own URL, where some DIDs may be.

    The newest signed release says which DID it is. A publisher that signs texts or bytes for whoever asks has vouched
    for nothing: 48 bytes that happen to be a text can be found.
    """
    source = claim.source
    if not source.key_known or source.oracle_in_force != "none":
        return None
    key = parse_public_key(source.public_key)
    releases: list[FairRelease] = []
    for release in claim.releases:
        facts = claim.facts.get(release.sha256 or b"")
        if facts is None or not is_complete(facts.headers):
            continue
        for signature in claim.signatures.get(release.version, ()):
            if verify_sha384(key, facts.sha384, signature):
                releases.append(FairRelease(release, facts, signature))
                break
    if not releases:
        return None
    did = did_of(releases[0].facts)
    if not is_at_home(did, source.instance_url, base):
        return None
    return FairPackage(did, claim, [one for one in releases if did_of(one.facts) == did])


def did_of(facts: PackageFacts) -> str:
    """The DID that a zip names; empty: none that FAIR's clients take."""
    named = facts.headers.get("Plugin ID") or facts.headers.get("Theme ID") or ""
    return named if _DID.fullmatch(named) else ""


def is_complete(headers: dict[str, str]) -> bool:
    """Whether the headers hold what a metadata document must have; nothing of it is ever made up."""
    return bool(headers.get("License") and headers.get("Author") and _contact(headers.get("Security", "")))


def is_at_home(did: str, instance_url: str, base: str | None) -> bool:
    """Whether whoever has this origin may have this DID: one of the web is its host's (or this node's) to give."""
    method, _, rest = did.removeprefix("did:").partition(":")
    if method != "web":
        return bool(did)
    host = unquote(rest.partition(":")[0])
    return host in (urlsplit(instance_url).netloc, urlsplit(base or "").netloc)


def metadata(package: FairPackage, base: str) -> dict[str, Any]:
    """The metadata document. `base` is the node's URL."""
    newest = package.releases[0]
    release, headers = newest.release, newest.facts.headers
    return {
        "@context": CONTEXT,
        "id": package.did,
        "type": next(name for name, kind in TYPES.items() if kind == release.type),
        "slug": release.plugin_id,
        "name": release.name,
        "description": (release.description or "")[:DESCRIPTION_CHARACTERS_MAX],
        "license": headers["License"],
        "authors": [_author(headers)],
        "security": [_contact(headers["Security"])],
        "keywords": list(release.tags[:KEYWORDS_MAX]),
        "last_updated": _moment(release.observed_at),
        "releases": [_release(one, base) for one in package.releases],
    }


def _release(one: FairRelease, base: str) -> dict[str, Any]:
    release, headers = one.release, one.facts.headers
    assert release.sha256 is not None, "what may be installed has a digest"
    return {
        "version": release.version,
        "artifacts": {
            "package": [
                {
                    "url": base + download_path(release),
                    "content-type": "application/zip",
                    "signature": base64.urlsafe_b64encode(one.signature).rstrip(b"=").decode("ascii"),
                    "checksum": f"sha256:{release.sha256.hex()}",
                }
            ]
        },
        "requires": {
            name: f">={headers[label]}"
            for name, label in _REQUIREMENTS.items()
            if _NUMBERS.fullmatch(headers.get(label, ""))
        },
    }


def _author(headers: dict[str, str]) -> dict[str, str]:
    url = headers.get("Author URI", "")
    return {"name": headers["Author"]} | ({"url": url} if url.startswith(("https://", "http://")) else {})


def _contact(text: str) -> dict[str, str] | None:
    """Where to tell of a hole; None: that is neither an address on the web nor one of mail."""
    if text.startswith("https://"):
        return {"url": text}
    return {"email": text} if _MAIL.fullmatch(text) else None


def did_document(package: FairPackage, base: str) -> dict[str, Any]:
    """The DID document of a DID that this node's own name makes, with the publisher's key as its only one."""
    key = did_key(parse_public_key(package.claim.source.public_key)).removeprefix("did:key:")
    return {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": package.did,
        "verificationMethod": [
            {
                "id": f"{package.did}#fair_identity",
                "type": "Multikey",
                "controller": package.did,
                "publicKeyMultibase": key,
            }
        ],
        "service": [
            {
                "id": f"{package.did}#fairpm_repo",
                "type": "FairPackageManagementRepo",
                "serviceEndpoint": f"{base}/packages/{package.did.replace('%', '%25')}",
            }
        ],
    }


def labels(
    did: str, releases: list[Release], signed: set[str], source: str, base: str, now: int
) -> list[dict[str, Any]]:
    """What this node says of releases: blocked, warned of, vulnerable, verified. `source` is the node's name."""
    found = []
    for release in releases:
        page = f"{base}/plugins/{release.source_id}/{release.plugin_id}"
        for value, message, url in _said(release, release.version in signed):
            found.append(
                {
                    "source": source,
                    "subject": f"fairpm:{did}/releases/{release.version}",
                    "value": value,
                    "context": {"message": message, "url": url or page},
                    "date": _moment(now),
                }
            )
    return found


def _said(release: Release, is_signed: bool) -> list[tuple[str, str, str]]:
    said = []
    if release.taken_down is not None or release.revoked_key:
        why = release.taken_down if release.taken_down is not None else "only a revoked key vouches for it"
        said.append(("!block", why or "an admin of this node took it down", ""))
    elif release.yanked is not None:
        said.append(("!warn", release.yanked or "it was yanked", ""))
    if release.advisories:
        worst = min(release.advisories, key=lambda one: _WORST_FIRST.index(one["severity"]))
        said.append((f"vulnerable:{worst['severity']}", worst["summary"], worst["url"]))
    if is_signed and not said:
        said.append(("verified", "its publisher's key signed these bytes, as this node checked just now", ""))
    return said


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
