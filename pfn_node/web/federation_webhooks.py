"""/federation/*: webhooks: whom to tell of news, and how that goes.

Whoever adds one makes this node send requests to a place of his choice, as adding a source does: it takes the same
scope. Reading takes `read`.
"""

import sqlite_utils

from pfn_node.outbound import AddressRefused
from pfn_node.store import news, webhooks
from pfn_node.store.rows import ApiKey
from pfn_node.store.webhooks import LOG_MAX, WAITING_MAX, WEBHOOKS_MAX, Webhook
from pfn_node.web.answers import Done
from pfn_node.web.auditing import note
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Routes
from pfn_node.web.services import Services
from pfn_node.web.webhook_schemas import (
    EVENTS,
    AddWebhook,
    Deliveries,
    DeliveriesQuery,
    DeliveryView,
    NameWebhook,
    WebhookAdded,
    WebhookList,
    WebhookRow,
    WebhookTested,
)
from pfn_node.webhooks.delivering import UnknownWebhook
from pfn_node.webhooks.signing import new_secret, new_webhook_id, secret_text

routes = Routes("webhooks")


@routes.get("/federation/webhooks", answer=WebhookList, scope="read")
async def list_webhooks(services: Services, key: ApiKey) -> WebhookList:
    """All webhooks, without their secrets."""

    def read(db: sqlite_utils.Database) -> list[WebhookRow]:
        return [WebhookRow.of(one, webhooks.waiting(db, one.id)) for one in webhooks.webhooks(db)]

    return WebhookList(webhooks=await services.database.read(read))


@routes.post("/federation/webhooks", body=AddWebhook, answer=WebhookAdded, scope="sources", errors=(409,))
async def add_webhook(services: Services, key: ApiKey, body: AddWebhook) -> WebhookAdded:
    """Tell a URL of what happens from now on. The secret that its messages are signed with is shown this once."""
    try:
        url = services.webhooks.check_url(body.url)
    except AddressRefused as refused:
        problem = [{"field": "url", "problem": refused.sentence}]
        raise ApiError(403, refused.sentence, details={"fields": problem}) from refused
    now, secret = int(services.now()), new_secret()

    def add(db: sqlite_utils.Database) -> Webhook:
        webhook = Webhook(
            id=new_webhook_id(),
            url=url,
            description=body.description or "",
            secret=secret,
            events=tuple(event for event in EVENTS if body.events is None or event in body.events),
            source_id=body.source_id,
            tag=body.tag,
            made_by=key.id,
            created=now,
            after=news.newest_news(db),
            failing_since=None,
            disabled=None,
        )
        if not webhooks.insert_webhook(db, webhook):
            raise ApiError(409, f"There are {WEBHOOKS_MAX} webhooks already; remove one first.")
        return webhook

    added = await services.database.write(add)
    note(target=added.id)
    return WebhookAdded(**WebhookRow.of(added, 0).model_dump(), secret=secret_text(secret))


@routes.post("/federation/remove-webhook", body=NameWebhook, answer=Done, scope="sources", errors=(404,))
async def remove_webhook(services: Services, key: ApiKey, body: NameWebhook) -> Done:
    """Send a webhook nothing any more, and forget what it was told."""
    if not await services.database.write(lambda db: webhooks.delete_webhook(db, body.id)):
        raise _unknown(body.id)
    return Done(success=True, message=f"The webhook {body.id} is removed.")


@routes.post("/federation/test-webhook", body=NameWebhook, answer=WebhookTested, scope="sources", errors=(404,))
async def test_webhook(services: Services, key: ApiKey, body: NameWebhook) -> WebhookTested:
    """Send a message of the type `webhook.test` at once, once. Where it is taken, a disabled webhook is enabled."""
    try:
        attempt = await services.webhooks.test(body.id)
    except UnknownWebhook as unknown:
        raise _unknown(body.id) from unknown
    said = "The receiver took the message." if attempt.error is None else attempt.error
    return WebhookTested(success=attempt.succeeded, message=said, status=attempt.status)


@routes.get("/federation/webhook-deliveries", query=DeliveriesQuery, answer=Deliveries, scope="read", errors=(404,))
async def list_deliveries(services: Services, key: ApiKey, query: DeliveriesQuery) -> Deliveries:
    """What a webhook was told, with every attempt, newest first."""

    def read(db: sqlite_utils.Database) -> list[DeliveryView]:
        if webhooks.get_webhook(db, query.id) is None:
            raise _unknown(query.id)
        return [DeliveryView.of(one) for one in webhooks.deliveries_of(db, query.id, LOG_MAX + WAITING_MAX)]

    return Deliveries(deliveries=await services.database.read(read))


def _unknown(webhook_id: str) -> ApiError:
    return ApiError(404, f"There is no webhook {webhook_id}; GET /federation/webhooks lists those that there are.")
