"""/packages/* and /labels/*: plugins that their publishers made FAIR's, as an aggregator and a labeler of FAIR's.

Only what a publisher supplied itself is shown (fair_answers.py). DIDs are not resolved here, as FAIR asks of caches: a
client resolves the DID and checks the signature by the keys that it finds there.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

import sqlite_utils
from pydantic import BaseModel, ConfigDict, Field
from quart import Response, request

from pfn_node.store import fair
from pfn_node.store.fair import Claim
from pfn_node.store.rows import Release
from pfn_node.web.consumers import fair_answers
from pfn_node.web.consumers.fair_answers import FairPackage, fair_package
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.schemas import QUERY_CHARACTERS_MAX, QueryInteger
from pfn_node.web.services import Services
from pfn_protocol.identity import did_key

routes = Routes("fair")

JSON: Final = "application/json"
FAIR_JSON: Final = "application/json+fair"
DID_JSON: Final = "application/did+ld+json"
PER_PAGE_MAX: Final = 100  # as AspireCloud has it
PER_PAGE_DEFAULT: Final = 24
PAGE_MAX: Final = fair.CLAIMS_MAX
SUBJECTS_MAX: Final = 10  # of one question for labels: each may mean that many signatures are verified

_SUBJECT: Final = re.compile(r"fairpm:(did:[^/\s]{1,400})(?:/releases/([^/\s]{1,128}))?")


class PackagesQuery(BaseModel):
    """Which packages of a type are asked for."""

    model_config = ConfigDict(extra="ignore")
    q: str | None = Field(None, max_length=QUERY_CHARACTERS_MAX)
    page: QueryInteger = Field(1, ge=1, le=PAGE_MAX)
    per_page: QueryInteger = Field(PER_PAGE_DEFAULT, ge=1, le=PER_PAGE_MAX)


@routes.get("/packages/<name>", query=PackagesQuery, answer=Bytes(JSON), errors=(404, 409, 410), in_document=False)
async def show_fair_packages(services: Services, name: str, query: PackagesQuery) -> Response:
    """One package by its DID, or those of a type, each with its newest releases alone. `total` counts those that name
    a DID; without a good signature they are not shown.
    """
    if name.startswith("did:"):
        return _answer(fair_answers.metadata(await _package(services, name), own_url(services)), FAIR_JSON)
    kind = fair_answers.TYPES.get(name)
    if kind is None:
        raise ApiError(404, f"There are no packages of this type here, only {' and '.join(fair_answers.TYPES)}.")
    start = (query.page - 1) * query.per_page

    def claiming(db: sqlite_utils.Database) -> list[tuple[str, str]]:
        return fair.claiming(db, kind, query.q or None)

    # Without words it is asked for page after page.
    named = await (services.database.read(claiming) if query.q else services.figure(f"FAIR {kind}", claiming))

    def read(db: sqlite_utils.Database) -> list[FairPackage | None]:
        claims = fair.claims_of(db, named[start : start + query.per_page], releases_max=fair.LISTED_RELEASES_MAX)
        return [fair_package(claim, services.url) for claim in claims]  # in the thread: it takes long

    shown = await services.database.read(read)
    total, base = len(named), own_url(services)
    pages = -(-total // query.per_page)
    info = {"page": query.page, "per_page": query.per_page, "total": total, "pages": pages}
    return _answer({"info": info, "packages": [fair_answers.metadata(one, base) for one in shown if one]}, JSON)


@routes.get("/packages/<name>/<slug>/did.json", answer=Bytes(DID_JSON), errors=(404, 409, 410), in_document=False)
async def show_fair_did_document(services: Services, name: str, slug: str) -> Response:
    """The document of a DID that is made of this node's own name, if a publisher chose it; no other is ours to give."""
    if services.url is None:
        raise ApiError(404, "This node has no name of its own (--url), so there are no DIDs of its name.")
    host = urlsplit(services.url).netloc.replace(":", "%3A")
    package = await _package(services, f"did:web:{host}:packages:{name}:{slug}")
    return _answer(fair_answers.did_document(package, services.url), DID_JSON)


async def _package(services: Services, did: str) -> FairPackage:
    """The one plugin that has this DID. Raises ApiError 404, 409 or 410."""

    def read(db: sqlite_utils.Database) -> tuple[list[tuple[str, str]], Claim | None, bool]:
        named = fair.claimants(db, did)
        if not named:
            former = fair.claims_of(db, fair.former_claimants(db, did), installable=False)
            return named, None, bool(former) and all(map(_is_gone, former))
        return named, fair.claim_of(db, *named[0]) if len(named) == 1 else None, False

    named, claim, is_gone = await services.database.read(read)
    if len(named) > 1:
        raise ApiError(
            409,
            "Several plugins say that this DID is theirs, and which of them is right is not for this node to pick: "
            f"{', '.join('/'.join(one) for one in named)}.",
        )
    package = None if claim is None else fair_package(claim, services.url)
    if package is not None and package.did == did:
        return package
    if is_gone:
        raise ApiError(410, "This package was taken back by its publisher, or taken down here.")
    raise ApiError(404, "No package here has this DID, with its publisher's signature over the SHA-384 of its zip.")


def _is_gone(claim: Claim) -> bool:
    """Whether nothing is left of a plugin, and on purpose."""
    return all(one.yanked is not None or one.taken_down is not None or one.revoked_key for one in claim.releases)


@routes.get("/labels/", answer=Bytes(JSON), in_document=False)
async def show_fair_labeler(services: Services) -> Response:
    """What this labeler is. Reports are not taken: advisories of publishers and nodes are what it tells of."""
    return _answer({"name": f"PFN node {did_key(services.node_id)}", "supports": ["query"], "reasons": []}, JSON)


@routes.get("/labels/query", answer=Bytes(JSON), errors=(400,), in_document=False)
async def query_fair_labels(services: Services) -> Response:
    """What this node says of packages or single releases of theirs."""
    asked = [_subject(text) for text in dict.fromkeys(request.args.getlist("ids"))]
    if not 1 <= len(asked) <= SUBJECTS_MAX:
        raise ApiError(400, f"Give from one to {SUBJECTS_MAX} ids: ids=fairpm:DID or ids=fairpm:DID/releases/VERSION.")
    base, name, now = own_url(services), did_key(services.node_id), int(services.now())

    def read(db: sqlite_utils.Database) -> list[dict[str, Any]]:
        found = []
        for did, version in asked:
            named = fair.claimants(db, did) or fair.former_claimants(db, did)
            claim = fair.claim_of(db, *named[0], installable=False, version=version) if len(named) == 1 else None
            if claim is None:
                continue
            package = fair_package(claim, services.url)
            releases = [one for one in claim.releases if _names(claim, one, did)]
            signed = {one.release.version for one in package.releases} if package and package.did == did else set()
            found += fair_answers.labels(did, releases, signed, name, base, now)
        return found

    return _answer(await services.database.read(read), JSON)


def _names(claim: Claim, release: Release, did: str) -> bool:
    facts = claim.facts.get(release.sha256 or b"")
    return facts is not None and fair_answers.did_of(facts) == did


def _subject(text: str) -> tuple[str, str | None]:
    match = _SUBJECT.fullmatch(text)
    if match is None:
        raise ApiError(400, "An id looks like fairpm:DID or fairpm:DID/releases/VERSION.")
    return match[1], match[2]


def _answer(answer: Any, content_type: str) -> Response:
    return Response(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"), content_type=content_type)
