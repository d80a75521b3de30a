"""/admin/advisories: what is said for people's safety about releases, and what an administrator says and does."""

from typing import Annotated, Any

import pydantic
from pydantic import Field

from pfn_node.store import registry, safety
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_notices import advise, list_notices, take_down, yank_release
from pfn_node.web.notice_answers import Said
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.routes import refused
from pfn_node.web.schemas import (
    Advise,
    AdvisoriesQuery,
    AdvisoryId,
    Body,
    SayYank,
    Slug,
    SourceId,
    TakeDown,
    Version,
    VersionOrEmpty,
)
from pfn_node.web.services import Services
from pfn_protocol.limits import (
    advisory_aliases_max,
    advisory_ranges_max,
    summary_chars_max,
    url_chars_max,
    version_chars_max,
)

pages = Pages()

TAKEDOWNS_SHOWN_MAX = 500
SOURCES_OFFERED_MAX = 200
BETWEEN = ".."  # first version .. first version that is well again


class AdvisoriesPageQuery(AdvisoriesQuery):
    """Which source and plugin; and the version that the forms begin with."""

    version: Version | None = None


@pages.get(
    "/admin/advisories",
    "advisories.html",
    title="Advisories",
    menu="admin",
    scope="advisories",
    query=AdvisoriesPageQuery,
    twin="/federation/advisories",
)
async def show_advisories(services: Services, visitor: Visitor, query: AdvisoriesPageQuery) -> dict[str, Any]:
    said = await list_notices(services, query)
    known = await services.database.read(
        lambda db: {
            "takedowns": safety.tombstones(db, TAKEDOWNS_SHOWN_MAX),
            "sources": [source.id for source in registry.list_sources(db, limit=SOURCES_OFFERED_MAX)],
        }
    )
    pinned = [peer for peer in services.mesh.peers() if peer.pinned and not peer.blocked]
    return known | {"notices": said.notices, "pinned": pinned, "query": query, "between": BETWEEN}


@pages.form("/admin/advisories/yank", page=show_advisories, body=SayYank, scope="advisories")
async def say_yank(services: Services, visitor: Visitor, body: SayYank) -> Said:
    """Say that a release should not be installed, or take that back."""
    assert visitor.key is not None
    return await yank_release(services, key=visitor.key, body=body)


@pages.form("/admin/advisories/takedown", page=show_advisories, body=TakeDown, scope="advisories")
async def say_takedown(services: Services, visitor: Visitor, body: TakeDown) -> Said:
    """Stop serving a release, or bring it back."""
    assert visitor.key is not None
    return await take_down(services, key=visitor.key, body=body)


class SayAdvisory(Body):
    """An advisory as a form gives it: the first range as two fields, more of them as lines."""

    source_id: SourceId
    plugin: Slug
    advisory_id: AdvisoryId
    severity: str
    summary: str = Field(min_length=1, max_length=summary_chars_max)
    first: VersionOrEmpty = ""
    until: VersionOrEmpty = ""
    more_ranges: list[Annotated[str, Field(pattern=r"\.\.", max_length=2 * version_chars_max + 4)]] = Field(
        default_factory=list, max_length=advisory_ranges_max - 1
    )
    url: str | None = Field(None, max_length=url_chars_max)
    aliases: list[str] | None = Field(None, max_length=advisory_aliases_max)
    withdrawn: bool | None = None

    def as_body(self) -> Advise:
        """The same as the API takes it. Raises ApiError 400."""
        ranges = [{"from": self.first, "until": self.until}]
        for line in self.more_ranges:
            first, _, until = line.partition(BETWEEN)
            ranges.append({"from": first.strip(), "until": until.strip()})
        given = self.model_dump(exclude={"first", "until", "more_ranges"}) | {"ranges": ranges}
        try:
            return Advise.model_validate(given)
        except pydantic.ValidationError as error:
            raise _named_as_in_the_form(refused(error, "The advisory")) from None


def _named_as_in_the_form(error: ApiError) -> ApiError:
    found = error.details.get("fields")
    for entry in found if isinstance(found, list) else ():
        if entry["field"].startswith("ranges."):
            entry["field"] = "more_ranges"
    return error


@pages.form(
    "/admin/advisories/advise",
    page=show_advisories,
    body=SayAdvisory,
    scope="advisories",
    lines=("more_ranges", "aliases"),
)
async def say_advisory(services: Services, visitor: Visitor, body: SayAdvisory) -> Said:
    """Say that versions of a plugin have a weakness, or take that back."""
    assert visitor.key is not None
    return await advise(services, key=visitor.key, body=body.as_body())
