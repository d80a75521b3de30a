"""/admin/webhooks: whom this node tells of news, and how that goes."""

from typing import Annotated, Any

from pydantic import Field

from pfn_node.store import webhooks
from pfn_node.web.answers import Done
from pfn_node.web.federation_webhooks import (
    add_webhook,
    list_deliveries,
    list_webhooks,
    remove_webhook,
    test_webhook,
)
from pfn_node.web.pages.page_routes import Pages, Shown, Visitor
from pfn_node.web.schemas import Query
from pfn_node.web.services import Services
from pfn_node.web.webhook_schemas import (
    EVENTS,
    AddWebhook,
    DeliveriesQuery,
    Event,
    NameWebhook,
    WebhookId,
    WebhookTested,
)

pages = Pages()

EVENT_WORDS = {
    "release.added": "a release may be installed from here",
    "release.yanked": "a release should not be installed any more",
    "advisory.added": "somebody whose word acts here warns of a weakness",
    "source.changed": "a publisher's status or a key of it changed",
}
DELIVERIES_SHOWN_MAX = 100


class WebhooksPageQuery(Query):
    log: WebhookId | None = Field(None, description="The webhook whose deliveries are shown.")


class MakeWebhook(AddWebhook):
    """On a page every event is ticked on purpose, so none at all is a mistake and not "everything"."""

    events: Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))]


@pages.get(
    "/admin/webhooks",
    "webhooks.html",
    title="Webhooks",
    menu="admin",
    scope="read",
    query=WebhooksPageQuery,
    twin="/federation/webhooks",
)
async def show_webhooks(services: Services, visitor: Visitor, query: WebhooksPageQuery) -> dict[str, Any]:
    assert visitor.key is not None
    found = await list_webhooks(services, key=visitor.key)
    shown = next((one for one in found.webhooks if one.id == query.log), None)
    deliveries = None
    if shown is not None:
        deliveries = await list_deliveries(services, key=visitor.key, query=DeliveriesQuery(id=shown.id))
    return {
        "webhooks": found.webhooks,
        "webhooks_max": webhooks.WEBHOOKS_MAX,
        "event_words": EVENT_WORDS,
        "shown": shown,
        "deliveries": deliveries.deliveries[:DELIVERIES_SHOWN_MAX] if deliveries else [],
    }


@pages.form("/admin/webhooks", page=show_webhooks, body=MakeWebhook, scope="sources", many=("events",))
async def make_webhook(services: Services, visitor: Visitor, body: MakeWebhook) -> Shown:
    """Add a webhook, and show its secret this once."""
    assert visitor.key is not None
    return Shown("webhook_made.html", {"made": await add_webhook(services, key=visitor.key, body=body)})


@pages.form("/admin/webhooks/test", page=show_webhooks, body=NameWebhook, scope="sources")
async def send_test(services: Services, visitor: Visitor, body: NameWebhook) -> WebhookTested:
    """Send a webhook a message that says only that it is a test."""
    assert visitor.key is not None
    return await test_webhook(services, key=visitor.key, body=body)


@pages.form("/admin/webhooks/remove", page=show_webhooks, body=NameWebhook, scope="sources")
async def remove(services: Services, visitor: Visitor, body: NameWebhook) -> Done:
    """Send a webhook nothing any more."""
    assert visitor.key is not None
    return await remove_webhook(services, key=visitor.key, body=body)
