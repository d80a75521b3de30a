"""Zips as WordPress fetches them: by a bare slug and a version, and the publisher's signature beside each.

What may be served is decided as for every other download. A signature is there only where the publisher made one over
the SHA-384 of these bytes: this node signs nothing in its place.
"""

import base64
from typing import Final

import sqlite_utils
from pydantic import BaseModel, ConfigDict, Field
from quart import Response

from pfn_node import package_facts
from pfn_node.store import catalogue, packages, registry, wordpress
from pfn_node.store.key_changes import former_keys
from pfn_node.store.rows import Release
from pfn_node.web.consumers.wordpress_answers import NOT_FOUND
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_releases import ZIP, measured, serve_release
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.services import Services
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import source_id_chars_max
from pfn_protocol.publisher import verify_sha384

routes = Routes("wordpress")

TEXT: Final = "text/plain; charset=utf-8"


class PluginUnknown(ApiError):
    """There is no such plugin here, in the words that WordPress knows."""

    def __init__(self) -> None:
        super().__init__(404, NOT_FOUND)


class ZipQuery(BaseModel):
    """Whose plugin; without it the slug's meaning decides."""

    model_config = ConfigDict(extra="ignore")
    source: str | None = Field(None, min_length=1, max_length=source_id_chars_max)


@routes.get(
    "/download/plugin/<name>.zip",
    query=ZipQuery,
    answer=Bytes(ZIP),
    errors=(404, 410, 416, 422, 502),
    in_document=False,
)
async def download_wordpress_plugin(services: Services, name: str, query: ZipQuery) -> Response:
    """The zip of a version, by `<slug>.<version>`."""
    release = await services.database.read(lambda db: _release_named(db, name, query.source))
    return await serve_release(services, release, anonymous=True, named=True)


@routes.get(
    "/download/plugin/<name>.zip.sig",
    query=ZipQuery,
    answer=Bytes(TEXT),
    errors=(404,),
    verifies=True,
    in_document=False,
)
async def download_wordpress_signature(services: Services, name: str, query: ZipQuery) -> Response:
    """The publisher's signatures over the SHA-384 of a zip, one a line, as WordPress 6.1 reads them."""
    release = await services.database.read(lambda db: _release_named(db, name, query.source))
    digest = await _sha384(services, release)
    lines = await services.database.read(lambda db: signature_lines(db, release, digest)) if digest else ""
    if not lines:
        raise ApiError(404, "The publisher made no signature over the SHA-384 of this zip that could be checked here.")
    return Response(lines, content_type=TEXT)


def _release_named(db: sqlite_utils.Database, name: str, source_id: str | None) -> Release:
    slug, _, version = name.partition(".")  # a slug has no dot (R60)
    release = catalogue.get_release(db, source_id or source_meant(db, slug), slug, version)
    if release is None or release.type != "plugin":
        raise ApiError(404, "This plugin has no such version here.")
    return release


def source_meant(db: sqlite_utils.Database, slug: str) -> str:
    """Whose plugin a slug means. Raises ApiError 404, which lists the choices where there are several."""
    meaning = wordpress.meaning_of(db, slug)
    if meaning.choices:
        named = "; ".join(f"{one.source_id} ({one.name} {one.version}, {one.assurance})" for one in meaning.choices)
        raise ApiError(
            404,
            f"Several publishers have a plugin with the slug {slug}: {named}. Nobody said yet whose is meant; an "
            "operator of this node does (POST /federation/slugs).",
            details={"sources": [one.source_id for one in meaning.choices]},
        )
    if meaning.source_id is None:
        raise PluginUnknown
    return meaning.source_id


async def _sha384(services: Services, release: Release) -> bytes | None:
    """The digest of the zip that would be served; None: none would be now, or it is not here."""
    digest = release.sha256
    if not release.backed or digest is None:
        return None
    known = await services.database.read(lambda db: wordpress.sha384_of(db, digest))
    if known is not None:
        return known
    read = await measured(services, lambda: package_facts.measure(services.artifacts, digest))
    return read.sha384 if read else None


def signature_lines(db: sqlite_utils.Database, release: Release, digest: bytes) -> str:
    """A line for each signature over a zip's SHA-384 by the source's key, or one that it follows; empty: none holds."""
    source = registry.get_source(db, release.source_id)
    if source is None or not source.key_known:
        return ""
    keys = [parse_public_key(source.public_key), *former_keys(db, source.id)]
    given = packages.sha384_signatures(db, release)
    holding = [one for one in given if any(verify_sha384(key, digest, one) for key in keys)]
    return "".join(f"{base64.b64encode(signature).decode('ascii')}\n" for signature in holding)
