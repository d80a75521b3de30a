"""What the calls about webhooks take and answer."""

from typing import Annotated, Literal, get_args

from pydantic import AliasChoices, Field

from pfn_node.store.webhooks import Attempt, Delivery, Webhook
from pfn_node.web.answers import Answer, Done
from pfn_node.web.schemas import DESCRIPTION_CHARACTERS_MAX, ONE_LINE_PATTERN, Body, InstanceUrl, KeyId, Query
from pfn_protocol.limits import slug_chars_max, source_id_chars_max

Event = Literal["release.added", "release.yanked", "advisory.added", "source.changed"]
EVENTS: tuple[Event, ...] = get_args(Event)

WebhookId = KeyId  # made of the same letters


class AddWebhook(Body):
    url: InstanceUrl
    description: str | None = Field(None, max_length=DESCRIPTION_CHARACTERS_MAX, pattern=ONE_LINE_PATTERN)
    events: Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))] | None = Field(
        None, description="Left out = all."
    )
    source_id: str | None = Field(
        None,
        min_length=1,
        max_length=source_id_chars_max,
        validation_alias=AliasChoices("sourceId", "source_id"),
        description="Only of this source.",
    )
    tag: str | None = Field(
        None, min_length=1, max_length=slug_chars_max, description="Only plugins with this tag; sources have none."
    )


class NameWebhook(Body):
    id: WebhookId = Field(description="Of the webhook.")


class DeliveriesQuery(Query):
    id: WebhookId = Field(description="Of the webhook.")


class WebhookRow(Answer):
    id: str
    url: str
    description: str
    events: list[str]
    source_id: str | None
    tag: str | None
    made_by: str = Field(description="The id of the API key.")
    created: int
    failing_since: int | None = Field(description="The first failure since the last success.")
    disabled: str | None = Field(description="Why nothing is sent any more; a test that succeeds enables it again.")
    waiting: int = Field(description="Messages that were not delivered yet.")

    @classmethod
    def of(cls, webhook: Webhook, waiting: int) -> "WebhookRow":
        names = cls.model_fields.keys() - {"events", "waiting"}
        return cls(**{name: getattr(webhook, name) for name in names}, events=list(webhook.events), waiting=waiting)


class WebhookList(Answer):
    """All webhooks, without their secrets."""

    webhooks: list[WebhookRow]


class WebhookAdded(WebhookRow):
    """A webhook with its secret, which is shown this once."""

    secret: str


class AttemptView(Answer):
    at: int
    status: int | None
    error: str | None = Field(description="null: it was taken.")

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptView":
        return cls(at=attempt.at, status=attempt.status, error=attempt.error)


class DeliveryView(Answer):
    id: str = Field(description="The message's webhook-id.")
    type: str
    created: int
    state: str = Field(description="waiting, delivered or given up.")
    next_at: int | None = Field(description="When the next attempt is due.")
    attempts: list[AttemptView]

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryView":
        settled = "given up" if delivery.delivered is None else "delivered"
        return cls(
            id=delivery.id,
            type=delivery.type,
            created=delivery.created,
            state="waiting" if delivery.next_at is not None else settled,
            next_at=delivery.next_at,
            attempts=[AttemptView.of(one) for one in delivery.attempts],
        )


class Deliveries(Answer):
    """What one webhook was told, newest first: all that waits, and the last that are settled."""

    deliveries: list[DeliveryView]


class WebhookTested(Done):
    """`success` says whether the receiver took it."""

    status: int | None
