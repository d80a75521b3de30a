"""/sign-in and /sign-out: an API key exchanged for a session."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from quart import Response, g

from pfn_node.web import sessions
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.showing import local_path
from pfn_node.web.services import Services

pages = Pages()

KEY_CHARACTERS_MAX = 200


class Next(BaseModel):
    """Where the visitor wanted to go."""

    model_config = ConfigDict(frozen=True)

    next: str = Field("/", max_length=2000)


class SignIn(Next):
    """The key is only ever compared, never kept or shown again."""

    key: SecretStr = Field(max_length=KEY_CHARACTERS_MAX)


class SignOut(BaseModel):
    """Nothing has to be said."""


@pages.get("/sign-in", "sign_in.html", title="Sign in", query=Next)
async def show_sign_in(services: Services, visitor: Visitor, query: Next) -> dict[str, Any]:
    return {"next": local_path(query.next), "master_key": services.settings.master_key is not None}


@pages.form("/sign-in", page=show_sign_in, body=SignIn, key_field="key")
async def sign_in(services: Services, visitor: Visitor, body: SignIn) -> Response:
    """Begin a session with the key that was typed."""
    sessions.check_may_begin(services)
    assert visitor.key is not None
    begun = await sessions.begin(services, visitor.key)
    response = Response("", status=303, headers={"Location": local_path(body.next)})
    begun.set_cookie(response)
    return response


@pages.form("/sign-out", page=show_sign_in, body=SignOut)
async def sign_out(services: Services, visitor: Visitor, body: SignOut) -> Response:
    """End the session of the visitor."""
    response = Response("", status=303, headers={"Location": "/"})
    await sessions.end(services, g.caller, response)
    return response
