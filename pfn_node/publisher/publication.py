"""Everything a publisher says, made once per change of its folder: the routes only hand it out.

Three profiles. `v2` signs everything, bytes included. `original` is the original publisher as it really is: nothing
signed in author-data, tags as an object, an asset domain that does not answer for this author, answers that may be
cached for an hour; what it signs is the text of plugin-data. `none` signs nothing but challenges.
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from pfn_node.publisher.catalogue import Listing, Offer
from pfn_node.publisher.signing import ReleaseFacts, SignedRelease, Signer
from pfn_protocol.encoding import Envelope
from pfn_protocol.identity import did_key, public_key_pem

ASSET_FOLDER = "plugins"
NAMING_SCHEME = f"{ASSET_FOLDER}/author/slug/version/slug.zip"
ORIGINAL_NAMING_SCHEME = "author/slug/slug.zip"
ORIGINAL_ASSET_DOMAIN = "https://assets.publisher.invalid"  # RFC 2606: no such host can exist
ORIGINAL_CACHE_CONTROL = "public, max-age=3600"
_FEATURES = ["plugin-sync", "key-verification", "plugin-mirroring"]


class Profile(StrEnum):
    """How much a publisher signs."""

    V2 = "v2"
    ORIGINAL = "original"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Publication:
    """The answers, as texts ready to be sent."""

    listing: Listing
    federation_info: str
    author_data: str
    author_data_etag: str
    plugin_data: dict[str, str]  # by slug
    well_known: str | None  # only profile v2
    sha384_signatures: dict[tuple[str, str], str]  # by (slug, version), base64; only profile v2


def publish(
    listing: Listing, signer: Signer, profile: Profile, now_ms: int, notices: dict[str, list[str]] | None = None
) -> Publication:
    """Signs and writes down what there is to say about a listing. Blocks (key operations, the ledger)."""
    offers = [offer for offers in listing.offers.values() for offer in offers]
    signed: dict[tuple[str, str], SignedRelease] = {}
    extras: dict[str, str] = {}
    said: dict[str, list[str]] = {}
    if profile is Profile.V2:
        releases = signer.sign((_facts(offer) for offer in offers), now_ms)
        signed = {(offer.slug, offer.version): release for offer, release in zip(offers, releases, strict=True)}
        head = signer.sign_head(releases, now_ms)
        extras = {"keybind_v2": _text_of(signer.keybind), "head_v2": _text_of(head)}
        said = notices or {}
    author_data = _author_data(listing, signer, profile, signed, extras, said)
    return Publication(
        listing=listing,
        federation_info=_json(_federation_info(listing, signer, profile, now_ms) | extras | _about_keys(said)),
        author_data=author_data,
        author_data_etag=sha256(author_data.encode()).hexdigest(),
        plugin_data={offer.slug: _plugin_data(listing, offer, signer, profile) for offer in listing.current()},
        well_known=_json(_well_known(signer, extras) | said) if profile is Profile.V2 else None,
        sha384_signatures={key: _base64(release.sha384_signature) for key, release in signed.items()},
    )


def _about_keys(said: dict[str, list[str]]) -> dict[str, list[str]]:
    """What a node has to know before it asks for a proof of the key; the rest comes with the list of releases."""
    return {name: texts for name, texts in said.items() if name in ("rotations_v2", "revocations_v2")}


def asset_path(author: str, offer: Offer) -> str:
    """Where the zip of one version lies, relative to the origin; NAMING_SCHEME filled in."""
    return f"{ASSET_FOLDER}/{quote(author, safe='')}/{offer.slug}/{offer.version}/{offer.slug}.zip"


def _facts(offer: Offer) -> ReleaseFacts:
    return ReleaseFacts(
        offer.slug, offer.version, offer.name, offer.short_description, offer.sha256, offer.sha384, offer.size
    )


def _federation_info(listing: Listing, signer: Signer, profile: Profile, now_ms: int) -> dict[str, Any]:
    original = profile is Profile.ORIGINAL
    features = _FEATURES if profile is Profile.NONE else [*_FEATURES, "signature-verification"]
    return {
        "version": "1.0.0",
        "nodeId": did_key(signer.keys.identity.public),
        "nodeUrl": signer.origin,
        "features": [*features, "publisher-v2"] if profile is Profile.V2 else features,
        "publicKey": public_key_pem(signer.keys.identity.public),
        "stats": {"plugins": {"total": len(listing.offers)}, "authors": {"total": 1}},
        "health": {"status": "healthy", "lastCheck": now_ms},
        "assetInfo": {
            "domain": ORIGINAL_ASSET_DOMAIN if original else signer.origin,
            "namingScheme": ORIGINAL_NAMING_SCHEME if original else NAMING_SCHEME,
        },
        "timestamp": now_ms,
    }


def _author_data(
    listing: Listing,
    signer: Signer,
    profile: Profile,
    signed: dict[tuple[str, str], SignedRelease],
    extras: dict[str, str],
    said: dict[str, list[str]],
) -> str:
    entries = []
    for offer in listing.current():
        entry = {
            "slug": offer.slug,
            "name": offer.name,
            "version": offer.version,
            "type": offer.type,
            "short_description": offer.short_description,
            "tags": _tags(offer, profile),
            "icons": {},
            "rating": 0,
            "active_installs": 0,
        }
        release = signed.get((offer.slug, offer.version))
        if release is not None:
            entry |= {
                "signature": _base64(release.metadata_signature),
                "signature_sha384": _base64(release.sha384_signature),
                "release_v2": _text_of(release.release),
                **extras,
            }
        entries.append(entry)
    changes = [offer.changed_at for offers in listing.offers.values() for offer in offers]
    since = datetime.fromtimestamp(min(changes), UTC).date().isoformat() if changes else ""
    author = {"username": signer.author, "member_since": since, "website": "", "github": "", "twitter": ""}
    return _json(author | {"plugins": entries} | extras | said)


def _plugin_data(listing: Listing, offer: Offer, signer: Signer, profile: Profile) -> str:
    """`{data, signature}`: the signature is over the very characters of `data` in this text."""
    readme, headers = offer.readme, offer.headers
    links = {
        known.version: f"{signer.origin}/{asset_path(signer.author, known)}" for known in listing.offers[offer.slug]
    }
    described = {
        "name": offer.name,
        "slug": offer.slug,
        "version": offer.version,
        "type": offer.type,
        "author": signer.author,
        "requires": headers.get("Requires at least") or readme.headers.get("requires at least", ""),
        "tested": headers.get("Tested up to") or readme.headers.get("tested up to", ""),
        "requires_php": headers.get("Requires PHP") or readme.headers.get("requires php", ""),
        "homepage": headers.get("Plugin URI") or headers.get("Theme URI", ""),
        "last_updated": f"{datetime.fromtimestamp(offer.changed_at, UTC):%Y-%m-%d %H:%M} GMT",
        "short_description": offer.short_description,
        "sections": readme.sections,
        "tags": _tags(offer, profile),
        "download_link": links[offer.version],
        "versions": links,
        "icons": {},
    }
    data = _json([described])
    if profile is Profile.NONE:
        return f'{{"data":{data}}}'
    return f'{{"data":{data},"signature":"{_base64(signer.keys.identity.sign(data.encode()))}"}}'


def _well_known(signer: Signer, extras: dict[str, str]) -> dict[str, Any]:
    return {
        "profile": 2,
        "origin": signer.origin,
        "author": signer.author,
        "identity_key": did_key(signer.keys.identity.public),
        "release_key": did_key(signer.keys.release.public),
        **extras,
    }


def _tags(offer: Offer, profile: Profile) -> list[str] | dict[str, str]:
    if profile is Profile.ORIGINAL:
        return {f"tag{number}": tag for number, tag in enumerate(offer.tags, 1)}
    return list(offer.tags)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text_of(envelope: Envelope) -> str:
    return _base64(envelope.raw)
