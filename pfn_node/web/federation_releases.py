"""/federation/*: the zip of a release, the evidence for it, and statements that authors hand in."""

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlite_utils
import trio
from quart import Response

from pfn_node.archive_errors import ArchiveRefused
from pfn_node.artifacts.errors import ArtifactMismatch, ArtifactMissing
from pfn_node.store import catalogue, registry
from pfn_node.store.freshness import is_stale
from pfn_node.store.heads import HeadComparison, compare_heads
from pfn_node.store.key_changes import former_keys
from pfn_node.store.rows import ApiKey, Observation, Release, Source
from pfn_node.web.bundling import Envelopes, envelopes_about, make_bundle
from pfn_node.web.download_counting import begins_download
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.evidence import is_sound_here, judge_release, measure, measure_artifact, text_lookup
from pfn_node.web.federation_plugins import unknown_plugin
from pfn_node.web.release_answers import Assurance, ReleaseAccepted, ReleaseChecked
from pfn_node.web.routes import KEPT_BY_DIGEST, KEPT_BY_NAME, Bytes, Routes, file_response, stream_body
from pfn_node.web.schemas import HandInRelease, ReleaseQuery, VerifyQuery
from pfn_node.web.services import Services
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal

routes = Routes("releases")

ZIP = "application/zip"
EVIDENCE = "application/json"

# Who waits behind so many has given up before his turn comes: an artifact takes up to a second.
MEASURING_WAITING_MAX = 30
MEASURING_RETRY_SECONDS = 10

T = TypeVar("T")

# Reporters that a refusal names; the plugin's page has them all.
REPORTERS_NAMED_MAX = 5


@routes.get(
    "/federation/download",
    query=ReleaseQuery,
    answer=Bytes(ZIP, "The zip. ETag is its sha256; PFN-Assurance says what is known about it."),
    takes_key=True,
    errors=(404, 410, 416, 422, 502),
)
async def download(services: Services, key: ApiKey | None, query: ReleaseQuery) -> Response:
    """The zip of a release; if it is not here but backed, it is fetched from a mirror, checked, kept and served."""
    release = await _release(services, query)
    return await serve_release(services, release, anonymous=key is None, named=query.version is not None)


async def serve_release(
    services: Services, release: Release, *, anonymous: bool, named: bool, exactly: bool = False, counted: bool = True
) -> Response:
    """The zip of a release, if it may be served; `named`: by its version. `exactly`: no other bytes than its digest's.
    Unless `counted` is false, it is one download more.

    Raises ApiError 410, 422 or 502.
    """
    _refuse_unsafe(release, named=named)
    if release.held_back is not None:
        raise _held_back(release)
    if release.backed and release.sha256 and await is_sound_here(services.artifacts, release.sha256):
        served = release
    else:
        served = await _brought(services, release, anonymous=anonymous, named=named, exactly=exactly)
    kept = _kept(anonymous=anonymous, exactly=exactly)
    try:
        response = await _zip_of(services, served, kept)
    except (ArtifactMissing, ArtifactMismatch):
        # Gone or damaged where it was kept on purpose: so it is kept again, from wherever it can be had.
        served = await _brought(services, release, anonymous=False, named=named, exactly=exactly)
        response = await _zip_of(services, served, kept)
    if counted and begins_download(response):
        services.downloads.count(served)
    return response


async def _brought(services: Services, release: Release, *, anonymous: bool, named: bool, exactly: bool) -> Release:
    """The release with bytes that are here now, from the mesh or its publisher. Raises ApiError 410, 422 or 502."""
    wanted = await services.want(release, anonymous=anonymous)
    if wanted is None or wanted.sha256 is None or not wanted.backed or (exactly and wanted.sha256 != release.sha256):
        raise _not_to_be_had(release)
    _refuse_unsafe(wanted, named=named)
    return wanted


async def _zip_of(services: Services, served: Release, kept: Mapping[str, str]) -> Response:
    """The answer with its zip; `kept`: headers that say how long it may be. Raises ArtifactError."""
    assert served.sha256 is not None
    return await file_response(
        services.artifacts.serve(served.sha256),
        etag=served.sha256.hex(),
        filename=f"{served.plugin_id}.{served.version}.zip",
        headers={
            "Content-Security-Policy": "sandbox",
            "PFN-Assurance": served.assurance,
            "Repr-Digest": f"sha-256=:{base64.b64encode(served.sha256).decode('ascii')}:",
            **_warnings(served),
            **kept,
        },
        redirect=services.settings.artifact_delivery == "redirect",
    )


def _refuse_unsafe(release: Release, *, named: bool) -> None:
    """Raise the 410 for what was taken down, is vouched for by a revoked key only, or is yanked and not asked for."""
    what = f"Version {release.version} of {release.plugin_id}"
    if release.taken_down is not None:
        why = f": {release.taken_down}" if release.taken_down else ""
        raise ApiError(410, f"{what} was taken down by an admin of this node{why}.", details={"reason": "taken_down"})
    if release.revoked_key:
        raise ApiError(
            410,
            f"{what} is vouched for only by a key that was revoked before it was first seen here; it is not served.",
            details={"reason": "revoked_key"},
        )
    if release.yanked is not None and not named:
        raise ApiError(
            410,
            "Every version that could be served was yanked; name a version to have it all the same.",
            details={"reason": "yanked", "version": release.version, "yanked": release.yanked},
        )


def _warnings(release: Release) -> dict[str, str]:
    """Headers that say what a consumer should know before it installs the zip."""
    headers = {}
    if release.yanked is not None:
        headers["PFN-Yanked"] = quote(release.yanked, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~") or "yanked"
        headers["Warning"] = '299 - "This release was yanked: it should not be installed"'
    if release.cooldown_until is not None:
        headers["PFN-Cooldown"] = str(release.cooldown_until)
    if release.advisories:
        headers["PFN-Advisories"] = ", ".join(one["advisory_id"] for one in release.advisories)
    return headers


def _kept(*, anonymous: bool, exactly: bool) -> dict[str, str]:
    """How long the zip may be kept, if it was given to nobody in particular; the gate forbids the rest."""
    return {"Cache-Control": KEPT_BY_DIGEST if exactly else KEPT_BY_NAME} if anonymous else {}


async def _release(services: Services, query: ReleaseQuery) -> Release:
    release = services.database.read_now(
        lambda db: catalogue.get_release(db, query.source_id, query.plugin, query.version)
    )
    if release is None:
        raise unknown_plugin(query.source_id, query.plugin, query.version)
    return release


def _held_back(release: Release) -> ApiError:
    return ApiError(
        422,
        f"Version {release.version} of {release.plugin_id} is held back: {release.held_back}. It is served as soon as "
        "its author signs it, or an admin approves it (POST /federation/approve-release).",
        details={"held_back": release.held_back, "backed_by": release.backed_by},
    )


def _not_to_be_had(release: Release) -> ApiError:
    what = f"Version {release.version} of {release.plugin_id}"
    details: dict[str, Any] = {"reported_by": list(release.reported_by), "backed_by": release.backed_by}
    if release.backed:
        return ApiError(
            502,
            f"{what} is backed, but neither a mirror nor its publisher gave the bytes now; try later.",
            details=details,
        )
    reporters = ", ".join(release.reported_by[:REPORTERS_NAMED_MAX]) or "other nodes"
    more = len(release.reported_by) - REPORTERS_NAMED_MAX
    return ApiError(
        422,
        f"{what} is only reported, by {reporters}{f' and {more} more' if more > 0 else ''}, and its publisher could "
        "not be asked now. It is served here as soon as something backs its bytes: an operator of this node pins one "
        "of those nodes (POST /federation/peers), this node sees the bytes at the publisher itself, or the author "
        "hands in a signed v2 release (POST /federation/releases) for a source whose key is known here.",
        details=details,
    )


@routes.get("/federation/verify", query=VerifyQuery, answer=ReleaseChecked, errors=(404,), verifies=True)
async def verify_release(services: Services, query: VerifyQuery) -> ReleaseChecked:
    """The evidence for a release, checked again now: stored bytes are read and hashed, signatures verified."""
    release = await _release(services, query)
    return await _checked(
        services,
        release,
        lambda: measure_artifact(services.artifacts, release.sha256),
        with_bundle=query.bundle is not None,
    )


@routes.get(
    "/federation/evidence",
    query=ReleaseQuery,
    answer=Bytes(EVIDENCE, "The evidence bundle (pfn-evidence/2) as a file, for `pfn verify --evidence`."),
    errors=(404,),
    verifies=True,
)
async def download_evidence(services: Services, query: ReleaseQuery) -> Response:
    """What is known of a release as one file, with which its zip is checked without any node."""
    asked = VerifyQuery.model_validate(query.model_dump() | {"bundle": "1"})
    checked = await verify_release(services, asked)
    name = f"{checked.plugin_id}.{checked.version}.evidence"
    return Response(
        json.dumps(checked.bundle),
        content_type=EVIDENCE,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@routes.post("/federation/verify", body=Bytes(ZIP, "A plugin or theme as a zip."), answer=ReleaseChecked, verifies=True)
async def verify_zip(services: Services) -> ReleaseChecked:
    """Say which release a zip is, and whether it is genuine. The zip is not kept."""
    with services.artifacts.writer() as writer:
        size = await stream_body(
            writer.write, services.settings.artifact_bytes_max, services.settings.artifact_seconds_max
        )
        if not size:
            raise ApiError(400, "The body is empty; send the zip itself as the body of the request.")
        sha256 = writer.digest()
        release = await services.database.read(lambda db: catalogue.release_by_digest(db, sha256))
        if release is None:
            claimed = await _claims(services, writer.path)
            return _stranger(claimed, sha256, size)
        return await _checked(services, release, lambda: measure(os.open(writer.path, os.O_RDONLY | os.O_CLOEXEC)))


async def _checked(
    services: Services, release: Release, read: Callable[[], Measured | None], *, with_bundle: bool = False
) -> ReleaseChecked:
    now = int(services.now())
    known = await services.database.read(lambda db: _known_of(db, release, now, with_bundle))
    source = known.source
    if source is None:
        raise unknown_plugin(release.source_id, release.plugin_id, release.version)
    texts = text_lookup(services.artifacts)

    def judge() -> ReleaseChecked:
        measured = read()
        checked = judge_release(
            release,
            source,
            known.observations,
            texts,
            measured,
            heads=known.heads,
            stale=known.stale,
            former_keys=known.former_keys,
        )
        if known.envelopes is None:
            return checked
        bundle = make_bundle(
            services.settings.mesh, release, source, known.observations, known.envelopes, texts, measured
        )
        return checked.model_copy(update={"bundle": bundle})

    return await measured(services, judge)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database holds about a release."""

    source: Source | None
    observations: list[Observation]
    heads: list[HeadComparison]
    stale: bool
    envelopes: Envelopes | None
    former_keys: list[bytes]


def _known_of(db: sqlite_utils.Database, release: Release, now: int, with_bundle: bool) -> _Known:
    source = registry.get_source(db, release.source_id)
    return _Known(
        source,
        catalogue.observations_of(db, release.source_id, release.plugin_id, release.version),
        compare_heads(db, release.source_id, now),
        is_stale(db, release.source_id, now),
        envelopes_about(db, release, source) if with_bundle and source and release.sha256 else None,
        former_keys(db, release.source_id),
    )


async def measured(services: Services, work: Callable[[], T]) -> T:
    """Do what takes a core for a while in a thread: few at once, and few wait for it."""
    _require_place(services)
    return await trio.to_thread.run_sync(work, limiter=services.measuring)


def _require_place(services: Services) -> None:
    if services.measuring.statistics().tasks_waiting >= MEASURING_WAITING_MAX:
        raise too_many("Other files are being checked now; try again later.", MEASURING_RETRY_SECONDS, 503)


async def _claims(services: Services, path: Path) -> str:
    """What an unknown zip says about itself."""
    _require_place(services)
    try:
        async with services.measuring:  # so that uploads leave some of the processes that read zips to the syncs
            facts = (await services.examine(path)).facts
    except ArchiveRefused as refused:
        return f"it is not a zip that this node would keep: {refused.sentence}"
    except OSError as failure:
        raise ApiError(
            503, f"This node could not look at the zip: {failure.strerror or failure}; try later."
        ) from failure
    return f"it calls itself the {facts.type} {facts.name} {facts.version}, in the folder {facts.folder}"


def _stranger(claimed: str, sha256: bytes, size: int) -> ReleaseChecked:
    caveats = ["no release with exactly these bytes is known here", claimed]
    return ReleaseChecked(
        valid=False,
        source_id=None,
        plugin_id=None,
        version=None,
        assurance=Assurance(level="unknown", covers_bytes=False, evidence=[], caveats=caveats),
        sha256=sha256.hex(),
        size=size,
        signatures=[],
        witnesses=[],
    )


@routes.post(
    "/federation/releases", body=HandInRelease, answer=ReleaseAccepted, errors=(403, 404, 409, 422, 502), verifies=True
)
async def hand_in_release(services: Services, body: HandInRelease) -> ReleaseAccepted:
    """Hand in a release statement that its author signed, perhaps offline. One that does not prove itself gets 403."""
    envelope = decoded("release_v2", body.release_v2)
    keybind = None if body.keybind_v2 is None else decoded("keybind_v2", body.keybind_v2)
    try:
        release = await services.sources.accept_release(envelope, keybind, body.artifact_url)
    except Refusal as refusal:
        raise ApiError(
            403, f"The statement does not prove itself: {refusal.sentence}.", details={"rule": refusal.rule}
        ) from refusal
    return ReleaseAccepted(accepted=True, assurance=release.assurance)


def decoded(field: str, text: str) -> bytes:
    """The bytes of a field in base64. Raises ApiError 400."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ApiError(400, f"{field} is not base64.") from None
