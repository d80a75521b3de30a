"""What an administrator does with sources: adding, verifying, changing and removing them."""

from typing import Any
from urllib.parse import quote

from pydantic import Field
from quart import Response

from pfn_node.sources.outcomes import SourceConflict
from pfn_node.web import federation_sources
from pfn_node.web.answers import Done, SourceUpdated
from pfn_node.web.pages.blaming import blamed_on, check_fields
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.sources import pages as source_pages
from pfn_node.web.pages.sources import show_source
from pfn_node.web.schemas import (
    PUBLIC_KEY_CHARACTERS_MAX,
    AddSource,
    Query,
    RemoveSource,
    UpdateSource,
    VerifySource,
)
from pfn_node.web.services import Services
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import url_chars_max, username_chars_max
from pfn_protocol.names import check_username, parse_instance_url

pages = Pages()


class AddQuery(Query):
    """What the form begins with: a source that is known from other nodes is registered without typing."""

    instance_url: str = Field("", max_length=url_chars_max)
    username: str = Field("", max_length=username_chars_max)
    public_key: str = Field("", max_length=PUBLIC_KEY_CHARACTERS_MAX)


@pages.get("/admin/sources/add", "source_add.html", title="Add a source", scope="sources", query=AddQuery)
async def show_add(services: Services, visitor: Visitor, query: AddQuery) -> dict[str, Any]:
    return {"query": query, "http_allowed": services.settings.allow_private_networks}


class NewSource(AddSource):
    """A source, whose fields are all checked before the first is blamed."""

    username: str = Field(min_length=1)


@pages.form("/admin/sources/add", page=show_add, body=NewSource, scope="sources")
async def add(services: Services, visitor: Visitor, body: NewSource) -> Response:
    """Register a publisher, and show how its verification goes."""
    assert visitor.key is not None
    check_fields(
        {
            "instance_url": lambda: _is_url(services, body.instance_url),
            "username": lambda: check_username(body.username),
            "public_key": lambda: parse_public_key(body.public_key),
        }
    )
    with blamed_on("instance_url", SourceConflict, Refusal):
        added = await federation_sources.add_source(services, key=visitor.key, body=body)
    return Response("", status=303, headers={"Location": f"/sources/{quote(added.source_id, safe='@:')}"})


@source_pages.form("/sources/<source_id>/verify", page=show_source, body=VerifySource, scope="sources")
async def verify(services: Services, visitor: Visitor, body: VerifySource) -> str:
    """Let the publisher prove its key again; the page shows each step as it is taken."""
    await services.sources.start_verification(body.source_id)
    return "The verification has begun; its steps are shown below."


@source_pages.form("/sources/<source_id>/update", page=show_source, body=UpdateSource, scope="sources")
async def update(services: Services, visitor: Visitor, body: UpdateSource) -> SourceUpdated:
    """Change what differs, and read the publisher's asset info again."""
    assert visitor.key is not None
    source = await federation_sources.known_source(services, body.source_id)
    check_fields(
        {
            "instance_url": lambda: _is_url(services, body.instance_url or source.instance_url),
            "public_key": lambda: parse_public_key(body.public_key or source.public_key),
        }
    )
    changed = UpdateSource(
        source_id=source.id,
        instance_url=None if body.instance_url == source.instance_url else body.instance_url,
        public_key=body.public_key,
        allow_unsigned=None if body.allow_unsigned == source.allow_unsigned else body.allow_unsigned,
    )
    with blamed_on("instance_url", SourceConflict, Refusal):
        return await federation_sources.update_source(services, key=visitor.key, body=changed)


@source_pages.form("/sources/<source_id>/remove", page=show_source, body=RemoveSource, scope="sources", then="/sources")
async def remove(services: Services, visitor: Visitor, body: RemoveSource) -> Done:
    """Stop following a publisher; with `purge` forget its releases and files too."""
    assert visitor.key is not None
    return await federation_sources.remove_source(services, key=visitor.key, body=body)


def _is_url(services: Services, text: str) -> object:
    return parse_instance_url(text, allow_http=services.settings.allow_private_networks)
