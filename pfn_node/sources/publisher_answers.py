"""Reading what a publisher answers, as if it wanted to hurt us.

A publisher is a stranger's server. Whatever it sends is bounded bytes first (outbound.py), then strict UTF-8, then
JSON that may be nested as deep as its sender likes, then values of any type. What comes out of this module is typed,
bounded text that fits the statements nodes exchange, or a sentence about what is wrong with it.

One bad entry never spoils the list: it becomes a `SkippedEntry` with its reason, which a subscriber gets to see.
Unknown fields are ignored. Nothing in an answer is believed about any other origin than the one that was asked:
`nodeUrl`, `publicKey` and the author's own name for itself are display, never identity.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pfn_node.sources.outcomes import AuthorInfo, PublisherFailed
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import (
    description_chars_max,
    keybinds_max,
    name_chars_max,
    notices_at_once_max,
    publisher_envelope_bytes_max,
    signature_bytes,
    tag_chars_max,
    tags_max,
)
from pfn_protocol.names import check_slug, check_version, parse_asset_url
from pfn_protocol.publisher import metadata_from_author_data, raw_member

AUTHOR_FIELD_CHARS_MAX = 300  # a URL of somebody's home page; it is shown, never fetched
ICONS_MAX = 4
ICON_URL_CHARS_MAX = 512
FEATURES_MAX = 32
SKIPPED_NAME_CHARS_MAX = 80  # how much of a bad slug is shown back
# C0, DEL, C1, and halves of surrogate pairs: none of them can be shown, and the halves cannot be stored as UTF-8.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_UNSHOWABLE_IN_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Signed:
    """Envelopes about keys and releases that a publisher gives beside an answer; nothing of them is checked yet."""

    notices: tuple[bytes, ...] = ()  # rotations first, then revocations, yanks and advisories
    keybinds: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class FederationInfo:
    """Where a publisher keeps its zips. `asset_problem` says why its own word on that was not taken."""

    asset_domain: str | None
    asset_naming_scheme: str | None
    asset_problem: str | None
    features: tuple[str, ...]
    signed: Signed = Signed()


@dataclass(frozen=True, slots=True)
class AuthorEntry:
    """One plugin or theme of an author, at the one version that the publisher offers now.

    `metadata` is the exact message that the original's signature covers, made from the fields as given;
    `name` and `description` are those fields made fit for storing. `problem` says why its signatures are no good.
    """

    slug: str
    version: str
    name: str
    description: str | None
    tags: tuple[str, ...]
    type: str | None  # plugin, theme; None: the publisher does not say
    icons: dict[str, str]
    metadata: bytes | None  # None: the fields are not of the kind that can be signed
    rebuildable: bool  # whether `metadata` can be made again from slug, name, version and description above
    signature: bytes | None = None
    release: bytes | None = None  # pfn/release/2 envelope
    keybind: bytes | None = None
    head: bytes | None = None
    sha384_signature: bytes | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SkippedEntry:
    """An entry of author-data that cannot be used, and why."""

    slug: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuthorData:
    """What an author offers now."""

    author: AuthorInfo
    entries: tuple[AuthorEntry, ...]
    skipped: tuple[SkippedEntry, ...] = ()
    etag: str | None = None
    signed: Signed = Signed()

    @property
    def keybinds(self) -> list[bytes]:
        """Those of the author and those of single plugins: a release key has to be known to be revoked (R142)."""
        of_plugins = (entry.keybind for entry in self.entries if entry.keybind is not None)
        return list(dict.fromkeys((*self.signed.keybinds, *of_plugins)))[:keybinds_max]


@dataclass(frozen=True, slots=True)
class PluginData:
    """The signed description of one plugin: the raw text that was signed, and what of it is needed here."""

    text: bytes
    signature: bytes | None
    slug: str | None
    version: str | None
    problem: str | None = None


@dataclass(slots=True)
class _Envelopes:
    """The signatures that ride along in an entry, and the first thing that is wrong with them."""

    found: dict[str, bytes] = field(default_factory=dict)
    problem: str | None = None


def parse_json(body: bytes, what: str) -> Any:
    """The JSON value in `body`; raises PublisherFailed that names `what` was asked for."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not JSON, or a number of thousands of digits. RecursionError: nested without end.
        raise PublisherFailed(f"the publisher's {what} is not JSON in UTF-8") from error


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `body`; raises PublisherFailed."""
    value = parse_json(body, what)
    if not isinstance(value, dict):
        raise PublisherFailed(f"the publisher's {what} is not a JSON object")
    return value


def parse_federation_info(body: bytes) -> FederationInfo:
    """Read /federation-info. A bad `assetInfo` is left out with a reason: the instance itself serves zips as well."""
    info = parse_object(body, "federation-info")
    features = tuple(text for text in _texts(info.get("features"))[:FEATURES_MAX])
    signed = parse_signed(info)
    assets = info.get("assetInfo")
    if assets is None:
        return FederationInfo(None, None, "federation-info has no assetInfo", features, signed)
    domain = assets.get("domain") if isinstance(assets, dict) else None
    scheme = assets.get("namingScheme") if isinstance(assets, dict) else None
    if not isinstance(domain, str) or not isinstance(scheme, str):
        return FederationInfo(None, None, "assetInfo names no domain and namingScheme", features, signed)
    try:
        parse_asset_url(domain, scheme, "author", "slug", "1.0")
    except Refusal as refusal:
        return FederationInfo(None, None, refusal.sentence, features, signed)
    return FederationInfo(domain, scheme, None, features, signed)


def parse_signed(answer: Mapping[str, object]) -> Signed:
    """The notices in an answer, in the order in which they have to be looked at; what is no envelope is left out."""
    notices: list[bytes] = []
    for member in ("rotations_v2", "revocations_v2", "yanks_v2", "advisories_v2"):
        for text in _texts(answer.get(member))[: notices_at_once_max - len(notices)]:
            envelope = _decoded(text, publisher_envelope_bytes_max, exactly=False)
            if envelope is not None:
                notices.append(envelope)
    keybind = _decoded(answer.get("keybind_v2"), publisher_envelope_bytes_max, exactly=False)
    return Signed(tuple(notices), () if keybind is None else (keybind,))


def parse_proof(body: bytes) -> bytes | None:
    """The signature in an answer of /verify-ownership; None if there is none of 64 bytes in it."""
    try:
        signature = parse_object(body, "verify-ownership").get("signature")
    except PublisherFailed:
        return None
    return _decoded(signature, signature_bytes, exactly=True)


def parse_author_data(body: bytes, *, plugins_max: int, etag: str | None = None) -> AuthorData:
    """Read /author-data: at most `plugins_max` entries, each whole or skipped with its reason."""
    data = parse_object(body, "author-data")
    listed = data.get("plugins", data.get("themes", []))
    if not isinstance(listed, list):
        raise PublisherFailed("the publisher's author-data has no list of plugins")
    entries: dict[str, AuthorEntry] = {}
    skipped: list[SkippedEntry] = []
    # What is the same for all of an author's releases may be given once, beside the list.
    shared = {member: data[member] for member in ("keybind_v2", "head_v2") if member in data}
    for position, raw in enumerate(listed[:plugins_max]):
        signed_v2 = isinstance(raw, dict) and raw.get("release_v2")
        parsed = _parse_entry({**shared, **raw} if signed_v2 else raw, position)
        if isinstance(parsed, SkippedEntry):
            skipped.append(parsed)
        elif parsed.slug in entries:
            skipped.append(SkippedEntry(parsed.slug, "the publisher lists it twice; its first entry counts"))
        else:
            entries[parsed.slug] = parsed
    if len(listed) > plugins_max:
        skipped.append(SkippedEntry("", f"{len(listed) - plugins_max} more than the {plugins_max} that are taken"))
    return AuthorData(_author(data), tuple(entries.values()), tuple(skipped), etag, parse_signed(data))


def parse_well_known(body: bytes) -> bytes | None:
    """The keybind envelope in /.well-known/pfn-publisher.json; None if there is none in it."""
    try:
        keybind = parse_object(body, "pfn-publisher.json").get("keybind_v2")
    except PublisherFailed:
        return None
    return _decoded(keybind, publisher_envelope_bytes_max, exactly=False)


def parse_plugin_data(body: bytes) -> PluginData:
    """Read /federated/plugin-data, keeping the text of `data` as it came: the signature is over exactly that."""
    parsed = parse_object(body, "federated/plugin-data")
    try:
        text = raw_member(body.decode("utf-8"), "data").encode("utf-8")
    except Refusal as refusal:
        raise PublisherFailed(f"the publisher's federated/plugin-data is unusable: {refusal.sentence}") from refusal
    described = parsed["data"][0] if isinstance(parsed["data"], list) and parsed["data"] else parsed["data"]
    fields = described if isinstance(described, dict) else {}
    given = parsed.get("signature")
    signature = _decoded(given, signature_bytes, exactly=True)
    problem = "its signature is not base64 of 64 bytes" if given not in (None, "") and signature is None else None
    slug, version = fields.get("slug"), fields.get("version")
    return PluginData(
        text,
        signature,
        slug if isinstance(slug, str) else None,
        version if isinstance(version, str) else None,
        problem,
    )


def _parse_entry(raw: object, position: int) -> AuthorEntry | SkippedEntry:
    if not isinstance(raw, dict):
        return SkippedEntry(f"#{position + 1}", "the entry is not a JSON object")
    slug, version = raw.get("slug"), raw.get("version")
    shown = clean_text(slug, SKIPPED_NAME_CHARS_MAX) if isinstance(slug, str) else f"#{position + 1}"
    if not isinstance(slug, str) or not isinstance(version, str):
        return SkippedEntry(shown, "slug and version must both be given, as text")
    try:
        check_slug(slug)
        check_version(version)
    except Refusal as refusal:
        return SkippedEntry(shown, refusal.sentence)
    name, description = raw.get("name"), raw.get("short_description")
    if not isinstance(name, str) or not name.strip():
        return SkippedEntry(shown, "it has no name")
    envelopes = _envelopes(raw)
    shown_name = clean_text(name, name_chars_max)
    shown_description = (
        clean_text(description, description_chars_max, lines=True) if isinstance(description, str) else None
    )
    return AuthorEntry(
        slug,
        version,
        shown_name,
        shown_description,
        _tags(raw.get("tags")),
        raw["type"] if raw.get("type") in ("plugin", "theme") else None,
        _icons(raw.get("icons")),
        _metadata(raw),
        rebuildable=shown_name == name and shown_description == description,
        signature=envelopes.found.get("signature"),
        release=envelopes.found.get("release_v2"),
        keybind=envelopes.found.get("keybind_v2"),
        head=envelopes.found.get("head_v2"),
        sha384_signature=envelopes.found.get("signature_sha384"),
        problem=envelopes.problem,
    )


def _metadata(raw: Mapping[str, object]) -> bytes | None:
    """The message of the original's metadata signature; None where a field is not text: that is never guessed."""
    try:
        return metadata_from_author_data(raw)
    except Refusal:
        return None


def _envelopes(raw: Mapping[str, object]) -> _Envelopes:
    envelopes = _Envelopes()
    lengths = {
        "signature": (signature_bytes, True),
        "signature_sha384": (signature_bytes, True),
        "release_v2": (publisher_envelope_bytes_max, False),
        "keybind_v2": (publisher_envelope_bytes_max, False),
        "head_v2": (publisher_envelope_bytes_max, False),
    }
    for member, (length, exactly) in lengths.items():
        given = raw.get(member)
        if given is None or given == "":
            continue
        decoded = _decoded(given, length, exactly=exactly)
        if decoded is None:
            envelopes.problem = f"its {member} is not base64 of {'' if exactly else 'at most '}{length} bytes"
        else:
            envelopes.found[member] = decoded
    return envelopes


def _decoded(value: object, length: int, *, exactly: bool) -> bytes | None:
    """Base64 of exactly, or of at most, `length` bytes; None for anything else."""
    if not isinstance(value, str) or len(value) > 4 * (length // 3 + 1):
        return None
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    fits = len(decoded) == length if exactly else 0 < len(decoded) <= length
    return decoded if fits else None


def _author(data: Mapping[str, object]) -> AuthorInfo:
    def shown(member: str) -> str | None:
        value = data.get(member)
        return clean_text(value, AUTHOR_FIELD_CHARS_MAX) if isinstance(value, str) else None

    return AuthorInfo(shown("username"), shown("member_since"), shown("website"), shown("github"), shown("twitter"))


def _tags(value: object) -> tuple[str, ...]:
    """Tags come as an object (the values count), as an array, or not at all."""
    cleaned = (clean_text(text, tag_chars_max) for text in _texts(value))
    return tuple(dict.fromkeys(text for text in cleaned if text))[:tags_max]


def _icons(value: object) -> dict[str, str]:
    """Only addresses a page may show; this node never fetches them."""
    if not isinstance(value, dict):
        return {}
    found = {
        clean_text(size, 8): url
        for size, url in value.items()
        if isinstance(url, str)
        and url.startswith(("https://", "http://"))
        and len(url) <= ICON_URL_CHARS_MAX
        and not _UNSHOWABLE.search(url)
    }
    return dict(list(found.items())[:ICONS_MAX])


def _texts(value: object) -> list[str]:
    members: Iterable[object] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [member for member in members if isinstance(member, str)]


def clean_text(text: str, chars_max: int, *, lines: bool = False) -> str:
    """`text` without what cannot be shown or stored, at most `chars_max` characters; unchanged if it is fine.

    `lines` keeps tabs and line breaks.
    """
    return (_UNSHOWABLE_IN_LINES if lines else _UNSHOWABLE).sub(" ", text)[:chars_max]
