"""/admin/keys: API keys, made with the master key, rotated and revoked."""

from typing import Any

from pydantic import Field

from pfn_node.store import registry
from pfn_node.store.rows import ApiKey
from pfn_node.web.answers import Done
from pfn_node.web.auth import SCOPES, Scope, is_live
from pfn_node.web.federation_keys import create_admin_key, revoke_key, rotate_key
from pfn_node.web.pages.page_routes import Pages, Shown, Visitor
from pfn_node.web.schemas import KEY_DAYS_DEFAULT, OVERLAP_HOURS_MAX, CreateKey, RevokeKey, RotateKey
from pfn_node.web.services import Services

pages = Pages()

SCOPE_WORDS = {
    "sources": "add, verify, change and remove sources and webhooks; say who owns a slug",
    "subscribe": "mirror the plugins of a source",
    "read": "see the activity, subscriptions, webhooks, health and storage",
    "peers": "join, leave, pin and block nodes",
    "keys": "see, rotate and revoke keys; see settings and the audit log",
    "advisories": "yank, warn of, take down and approve releases",
}
_ENDING_SOON_SECONDS = 7 * 86_400


class MakeKey(CreateKey):
    """On a page each scope is ticked on purpose, so none at all is a mistake and not "everything"."""

    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES))


@pages.get("/admin/keys", "keys.html", title="API keys", menu="admin", scope="keys", twin="/federation/keys")
async def show_keys(services: Services, visitor: Visitor) -> dict[str, Any]:
    rows = await services.database.read(registry.list_keys)
    now = services.now()
    keys = [{"key": key, "live": is_live(key, now), "state": state_of(key, now)} for key in reversed(rows)]
    keys.sort(key=lambda entry: not entry["live"])
    return {"keys": keys, "overlap_hours": OVERLAP_HOURS_MAX, "scopes": SCOPES}


def state_of(key: ApiKey, now: float) -> tuple[str, str]:
    """How a key stands: the kind of mark and the word."""
    if key.revoked is not None:
        return ("bad", "revoked")
    if not is_live(key, now):
        return ("warn", "expired")
    if key.expires is not None and key.expires - now < _ENDING_SOON_SECONDS:
        return ("warn", "ends soon")
    return ("good", "live")


@pages.get("/admin/keys/new", "key_new.html", title="Make an API key")
async def show_new_key(services: Services, visitor: Visitor) -> dict[str, Any]:
    return {
        "scope_words": SCOPE_WORDS,
        "days": KEY_DAYS_DEFAULT,
        "master_key": services.settings.master_key is not None,
    }


@pages.form(
    "/admin/keys/new", page=show_new_key, body=MakeKey, key_field="master_key", needs_master=True, many=("scopes",)
)
async def make_key(services: Services, visitor: Visitor, body: MakeKey) -> Shown:
    """Make a key, and show it this once."""
    return Shown("key_made.html", {"made": await create_admin_key(services, body=body), "successor_of": None})


@pages.form("/admin/keys/<id>/rotate", page=show_keys, body=RotateKey, scope="keys")
async def rotate(services: Services, visitor: Visitor, body: RotateKey) -> Shown:
    """Make a successor of a key, and show it this once."""
    assert visitor.key is not None
    made = await rotate_key(services, key=visitor.key, body=body)
    return Shown("key_made.html", {"made": made, "successor_of": body.id, "hours": body.overlap_hours})


@pages.form("/admin/keys/<id>/revoke", page=show_keys, body=RevokeKey, scope="keys")
async def revoke(services: Services, visitor: Visitor, body: RevokeKey) -> Done:
    """Make a key worthless at once."""
    assert visitor.key is not None
    return await revoke_key(services, key=visitor.key, body=body)
