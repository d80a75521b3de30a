"""/composer/*: the node as a Composer v2 repository, for `composer require pfn/<source>--<slug>`.

What is listed is backed and A1 or better, nothing speaks against it, and its zip was read here: Composer checks SHA-1,
which nobody announces. So a package whose newest zip was never here is fetched when somebody asks for it, as a download
would; what was yanked is not listed, and given to those whose lock file names its bytes.
"""

import fnmatch
from typing import Any, Final
from urllib.parse import parse_qsl

import sqlite_utils
from pydantic import BaseModel, ConfigDict, Field
from quart import Response, request

from pfn_node import package_facts
from pfn_node.store import catalogue, packages
from pfn_node.store.changes import is_listable
from pfn_node.store.packages import Package
from pfn_node.store.rows import PackageFacts, Release
from pfn_node.web.consumers import composer_answers
from pfn_node.web.consumers.composer_versions import normalize
from pfn_node.web.consumers.conditional_answer import answer_unless_known
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_releases import ZIP, measured, serve_release
from pfn_node.web.routes import Bytes, Routes, read_body
from pfn_node.web.schemas import QUERY_CHARACTERS_MAX
from pfn_node.web.services import Services
from pfn_protocol.limits import version_chars_max
from pfn_protocol.versions import newest

routes = Routes("composer")

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
NAME_CHARACTERS_MAX: Final = 300
RESULTS_MAX: Final = 50  # of a search; Composer shows them all, and asks for no second page
PACKAGES_ASKED_MAX: Final = 1_000  # of one project, in one call about advisories or downloads
PACKAGES_COUNTED_MAX: Final = 200  # of those that were installed, in one call
WILDCARDS_MAX: Final = 3  # of a filter: it is tried on every name
# Zips that one call reads through; what is left is listed once another call has read it.
MEASURED_AT_ONCE_MAX: Final = 20


class Search(BaseModel):
    """What `composer search` asks."""

    model_config = ConfigDict(extra="ignore")
    q: str = Field("", max_length=QUERY_CHARACTERS_MAX)
    type: str = Field("", max_length=NAME_CHARACTERS_MAX)


class NameFilter(BaseModel):
    """Which names a list shall have: `*` stands for any text."""

    model_config = ConfigDict(extra="ignore")
    filter: str = Field("*", max_length=NAME_CHARACTERS_MAX, pattern=rf"^[^*]*(\*[^*]*){{0,{WILDCARDS_MAX}}}$")


class Download(BaseModel):
    """One package that was installed."""

    name: str = Field(max_length=NAME_CHARACTERS_MAX)
    version: str = Field(max_length=2 * version_chars_max)  # normalized: up to three numbers longer


class Downloads(BaseModel):
    """What Composer tells after installing."""

    downloads: list[Download] = Field(max_length=PACKAGES_ASKED_MAX)


class Taken(BaseModel):
    status: str


@routes.get("/composer/packages.json", answer=Bytes(JSON), in_document=False)
async def show_composer_root(services: Services) -> Response:
    """Where everything else of the repository is."""
    return _answer(services, composer_answers.root(own_url(services)))


@routes.get("/composer/p2/pfn/<name>.json", answer=Bytes(JSON), errors=(404,), in_document=False)
async def show_composer_package(services: Services, name: str) -> Response:
    """The versions of one package that may be installed."""
    name = f"pfn/{name}"
    found = await services.database.read(lambda db: packages.package_named(db, name))
    if found is not None and await _read_zips(services, found):
        found = await services.database.read(lambda db: packages.package_named(db, name))
    if found is None:
        raise ApiError(404, "No such package is known here, or nothing of it may be installed.")
    return _answer(services, composer_answers.package(name, found, own_url(services)))


async def _read_zips(services: Services, package: Package) -> bool:
    """Read the zips that were not read yet, if they are here; the newest is fetched. Whether anything was learned."""
    unread = [one for one in package.releases if one.sha256 not in package.facts]
    if not unread:
        return False
    newest = package.releases[0]
    if unread[0] is newest and not _is_here(services, newest):
        await services.want(newest, anonymous=True)
    learned: dict[bytes, PackageFacts] = {}
    for release in [one for one in unread if _is_here(services, one)][:MEASURED_AT_ONCE_MAX]:
        digest = release.sha256
        assert digest is not None, "only what has one is here"
        read = await measured(services, lambda digest=digest: package_facts.measure(services.artifacts, digest))  # type: ignore[misc]
        if read is not None:
            learned[digest] = read
    if learned:
        await services.database.write(lambda db: packages.keep_facts(db, learned))
    return bool(learned)


def _is_here(services: Services, release: Release) -> bool:
    return release.sha256 is not None and services.artifacts.has(release.sha256)


@routes.get("/composer/search.json", query=Search, answer=Bytes(JSON), in_document=False)
async def search_composer_packages(services: Services, query: Search) -> Response:
    """Packages by words: the plugins that a search of the catalogue finds, if they may be installed."""
    kinds = {composer_type: kind for kind, composer_type in composer_answers.TYPES.items()}
    if query.type and query.type not in kinds:
        return _answer(services, {"results": [], "total": 0})
    question = catalogue.PluginQuery(
        q=query.q or None, type=kinds.get(query.type), min_assurance="A1", limit=RESULTS_MAX
    )
    now, base = int(services.now()), own_url(services)

    def search(db: sqlite_utils.Database) -> list[dict[str, Any]]:
        plugins, _, _ = catalogue.search_plugins(db, question, now=now)
        shown = [one for one in plugins if is_listable(one.release)]
        return [composer_answers.search_result(one.release, one.downloads, base) for one in shown]

    results = await services.database.read(search)
    return _answer(services, {"results": results, "total": len(results)})


@routes.get("/composer/list.json", query=NameFilter, answer=Bytes(JSON), in_document=False)
async def list_composer_packages(services: Services, query: NameFilter) -> Response:
    """The names of all packages."""
    names = await services.database.read(services.package_names.read)
    if query.filter != "*":
        names = fnmatch.filter(names, query.filter)
    return _answer(services, {"packageNames": names})


@routes.post(
    "/composer/security-advisories", body=Bytes(FORM), answer=Bytes(JSON), errors=(400, 413), in_document=False
)
async def show_composer_advisories(services: Services) -> Response:
    """The advisories about the packages that are asked about, and about no others: those would crash Composer 2.5."""
    asked = await _packages_asked(services)
    base = own_url(services)

    def read(db: sqlite_utils.Database) -> dict[str, list[dict[str, Any]]]:
        found = {name: packages.advisories_named(db, name) for name in asked}
        return {
            name: [composer_answers.advisory(name, *one, base=base) for one in about]
            for name, about in found.items()
            if about
        }

    advisories = await services.database.read(read)
    # PHP takes an empty list and an empty object for the same.
    return _answer(services, {"advisories": advisories})


async def _packages_asked(services: Services) -> list[str]:
    raw = await read_body(services.settings.body_bytes_max)
    try:
        pairs = parse_qsl(raw.decode("ascii"), errors="strict", max_num_fields=PACKAGES_ASKED_MAX)
    except ValueError:  # also of decoding
        raise ApiError(
            400, f"The body has to be a form with at most {PACKAGES_ASKED_MAX} fields: packages[0]=NAME and so on."
        ) from None
    return list(dict.fromkeys(name for field, name in pairs if field.startswith("packages[")))


@routes.post("/composer/downloads", body=Downloads, answer=Taken, errors=(400, 413), in_document=False)
async def count_composer_downloads(services: Services, body: Downloads) -> Taken:
    """Count what was installed. Who installed it is neither asked nor kept."""

    told = [(one.name, one.version) for one in body.downloads]
    names = list(dict.fromkeys(name for name, _ in told))[:PACKAGES_COUNTED_MAX]

    def known(db: sqlite_utils.Database) -> dict[str, tuple[str, str, list[str]]]:
        found = ((name, packages.versions_named(db, name)) for name in names)
        return {name: package for name, package in found if package is not None}

    found = await services.database.read(known)
    for name, version in told:
        source_id, plugin_id, versions = found.get(name, ("", "", []))
        announced = _announced(versions, version)
        if announced is not None:
            services.downloads.add((source_id, plugin_id, announced), 1)
    return Taken(status="success")


def _announced(versions: list[str], version: str) -> str | None:
    """What Composer means by a version, as it was announced: it may have written it anew."""
    if version in versions:
        return version
    return newest(one for one in versions if normalize(one) == version)


@routes.get(
    f"{composer_answers.MIRROR_PATH}/pfn/<name>/<version>/<reference>.zip",
    answer=Bytes(ZIP),
    errors=(404, 410, 416, 422, 502),
    in_document=False,
)
async def download_composer_dist(services: Services, name: str, version: str, reference: str) -> Response:
    """The zip with this digest, if it is what the package has under this version."""
    release = await services.database.read(lambda db: _release_named(db, f"pfn/{name}", version, reference))
    if release is None:
        raise ApiError(404, "This package has no such version with these bytes.")
    # Composer itself tells what it installed, wherever it had it from: counted here, it would count twice.
    return await serve_release(services, release, anonymous=True, named=True, exactly=True, counted=False)


def _release_named(db: sqlite_utils.Database, name: str, version: str, reference: str) -> Release | None:
    try:
        digest = bytes.fromhex(reference)
    except ValueError:
        return None
    found = packages.releases_of_bytes(db, name, digest)
    return next((one for one in found if version in (one.version, normalize(one.version))), None)


def _answer(services: Services, answer: dict[str, Any]) -> Response:
    """The answer as JSON; 304 to a client that has it already."""
    body = composer_answers.encode(answer)
    if request.method not in ("GET", "HEAD"):
        return Response(body, content_type=JSON)
    return answer_unless_known(services, body, JSON)
