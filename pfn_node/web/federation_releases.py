"""/federation/*: the zip of a release, the evidence for it, and statements that authors hand in."""

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils
import trio
from quart import Response

from pfn_node import archive
from pfn_node.store import catalogue, registry
from pfn_node.store.rows import ApiKey, Observation, Release, Source
from pfn_node.web.bundling import Envelopes, envelopes_about, make_bundle
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.evidence import judge_release, measure, measure_artifact, text_lookup
from pfn_node.web.federation_plugins import unknown_plugin
from pfn_node.web.release_answers import Assurance, ReleaseAccepted, ReleaseChecked
from pfn_node.web.routes import Bytes, Routes, file_response, stream_body
from pfn_node.web.schemas import HandInRelease, ReleaseQuery, VerifyQuery
from pfn_node.web.services import Services
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal

routes = Routes("releases")

ZIP = "application/zip"

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
    errors=(404, 416, 422, 502),
)
async def download(services: Services, key: ApiKey | None, query: ReleaseQuery) -> Response:
    """The zip of a release; if it is not here but backed, it is fetched from a mirror, checked, kept and served."""
    release = await _release(services, query)
    if release.backed and release.sha256 and services.artifacts.has(release.sha256):
        served = release
    else:
        wanted = await services.want(release, anonymous=key is None)
        if wanted is None or wanted.sha256 is None or not wanted.backed:
            raise _not_to_be_had(release)
        served = wanted
    assert served.sha256 is not None
    opened = services.artifacts.open(served.sha256)
    return await file_response(
        opened,
        etag=served.sha256.hex(),
        filename=f"{served.plugin_id}.{served.version}.zip",
        headers={
            "Content-Security-Policy": "sandbox",
            "PFN-Assurance": served.assurance,
            "Repr-Digest": f"sha-256=:{base64.b64encode(served.sha256).decode('ascii')}:",
        },
    )


async def _release(services: Services, query: ReleaseQuery) -> Release:
    release = services.database.read_now(
        lambda db: catalogue.get_release(db, query.source_id, query.plugin, query.version)
    )
    if release is None:
        raise unknown_plugin(query.source_id, query.plugin, query.version)
    return release


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
            claimed = await _measured(services, lambda: _claims(writer.path))
            return _stranger(claimed, sha256, size)
        return await _checked(services, release, lambda: measure(os.open(writer.path, os.O_RDONLY | os.O_CLOEXEC)))


async def _checked(
    services: Services, release: Release, read: Callable[[], Measured | None], *, with_bundle: bool = False
) -> ReleaseChecked:
    def evidence(db: sqlite_utils.Database) -> tuple[Source | None, list[Observation], Envelopes | None]:
        observations = catalogue.observations_of(db, release.source_id, release.plugin_id, release.version)
        source = registry.get_source(db, release.source_id)
        envelopes = envelopes_about(db, release, source) if with_bundle and source and release.sha256 else None
        return source, observations, envelopes

    source, observations, envelopes = await services.database.read(evidence)
    if source is None:
        raise unknown_plugin(release.source_id, release.plugin_id, release.version)
    texts = text_lookup(services.artifacts)

    def judge() -> ReleaseChecked:
        measured = read()
        checked = judge_release(release, source, observations, texts, measured)
        if envelopes is None:
            return checked
        bundle = make_bundle(services.settings.mesh, release, source, observations, envelopes, texts, measured)
        return checked.model_copy(update={"bundle": bundle})

    return await _measured(services, judge)


async def _measured(services: Services, work: Callable[[], T]) -> T:
    """Do what takes a core for a while in a thread: few at once, and few wait for it."""
    if services.measuring.statistics().tasks_waiting >= MEASURING_WAITING_MAX:
        raise too_many("Other files are being checked now; try again later.", MEASURING_RETRY_SECONDS, 503)
    return await trio.to_thread.run_sync(work, limiter=services.measuring)


def _claims(path: Path) -> str:
    """What an unknown zip says about itself (blocking)."""
    try:
        facts = archive.inspect(path)
    except archive.ArchiveRefused as refused:
        return f"it is not a zip that this node would keep: {refused.sentence}"
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
    envelope = _decoded("release_v2", body.release_v2)
    keybind = None if body.keybind_v2 is None else _decoded("keybind_v2", body.keybind_v2)
    try:
        release = await services.sources.accept_release(envelope, keybind, body.artifact_url)
    except Refusal as refusal:
        raise ApiError(
            403, f"The statement does not prove itself: {refusal.sentence}.", details={"rule": refusal.rule}
        ) from refusal
    return ReleaseAccepted(accepted=True, assurance=release.assurance)


def _decoded(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ApiError(400, f"{field} is not base64.") from None
