"""Delivering: news become messages, and each message is tried until it is taken, or for about a day.

Everything that is to be done stands in the store, so a restart forgets nothing; what was being sent when the node
stopped is sent again, with the same id. A receiver takes a message by answering 2xx in time. Everything else is a
failure: another status, a redirect (none is followed: it could lead anywhere), an address that this node does not dial
(outbound.py), no answer. Then it is tried again after growing pauses, each shortened or lengthened by chance.

A webhook gets one message at a time, so that one that hangs has one place and no more. One that answers 410, or fails
for days, is disabled and the operator told; a test that succeeds enables it again, for what comes from then on.
"""

import random
from collections.abc import Callable
from typing import Final

import sqlite_utils
import structlog
import trio

from pfn_node.outbound import Busy, Outbound, OutboundError
from pfn_node.store import news, webhooks
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database, DatabaseClosed
from pfn_node.store.webhooks import Attempt, Delivery, Webhook
from pfn_node.webhooks.messages import TEST, made, message_for
from pfn_node.webhooks.signing import new_message_id, signed_headers

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0  # how often is looked whether there are news
AT_ONCE_MAX: Final = 8
NEWS_AT_ONCE_MAX: Final = 200
SECONDS_MAX: Final = 15.0  # for an answer
ANSWER_BYTES_MAX: Final = 64 * 2**10  # which nobody reads
# After the first attempt, the second, and so on; a day in all, and then it is given up.
RETRY_SECONDS: Final = (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 28_800)
JITTER: Final = 0.2
BUSY_SECONDS: Final = 30  # the node had no place for the request
DISABLED_AFTER_SECONDS: Final = 3 * 86_400
GONE: Final = 410


class UnknownWebhook(Exception):
    """There is no webhook with this id."""


class Webhooks:
    """The room's front: what the API asks of it, and its loop. `base` is the node's URL, empty if not known."""

    def __init__(
        self, database: Database, outbound: Outbound, base: str, *, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._base = base
        self._clock = clock
        self._rng = rng
        self._places = trio.CapacityLimiter(AT_ONCE_MAX)
        self._under_way: set[str] = set()  # webhooks that are being sent something
        self._wake = trio.Event()

    def check_url(self, text: str) -> str:
        """The URL as it will be dialled. Raises AddressRefused."""
        return self._outbound.check_url(text)

    def look_soon(self) -> None:
        """Look at once for what is to be done."""
        self._wake.set()

    async def test(self, webhook_id: str) -> Attempt:
        """Send a message that says only that it is a test, once, and note how it went. Raises UnknownWebhook."""
        webhook = await self._database.read(lambda db: webhooks.get_webhook(db, webhook_id))
        if webhook is None:
            raise UnknownWebhook(webhook_id)
        at = int(self._clock())
        delivery = Delivery(
            new_message_id(), webhook.id, TEST, made(TEST, at, {"webhook_id": webhook.id}), at, (), None, None
        )
        async with self._places:
            attempt = await self._send(webhook, delivery)

        def note(db: sqlite_utils.Database) -> None:
            if webhooks.get_webhook(db, webhook.id) is None:
                return
            webhooks.insert_delivery(db, delivery)
            webhooks.note_attempt(db, delivery, attempt, None)
            if attempt.succeeded and webhook.disabled is not None:
                webhooks.enable(db, webhook.id, news.newest_news(db))

        await self._database.write(note)
        return attempt

    async def run(self) -> None:
        """Deliver what is to be delivered, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                try:
                    pause = await self._look(nursery)
                except DatabaseClosed:
                    return  # the node stops
                except Exception as error:  # The task boundary: a store in trouble must not end the node.
                    pause = LOOK_SECONDS
                    log.exception("webhooks_not_looked_at", error=str(error))
                with trio.move_on_after(pause):
                    await self._wake.wait()

    async def _look(self, nursery: trio.Nursery) -> float:
        """Queue news, begin what is due, and return after how many seconds to look again."""
        now = int(self._clock())
        more = await self._database.read(_has_news) and await self._database.write(lambda db: self._queue(db, now))
        due, then = await self._database.read(lambda db: (webhooks.due_deliveries(db, now), webhooks.next_due(db, now)))
        for delivery in due:
            if delivery.webhook_id not in self._under_way:
                self._under_way.add(delivery.webhook_id)
                nursery.start_soon(self._deliver, delivery)
        if more:
            return 0.0
        return LOOK_SECONDS if then is None else min(LOOK_SECONDS, then - now)

    def _queue(self, db: sqlite_utils.Database, now: int) -> bool:
        """Make messages of news; return whether there are more that there is room for."""
        more = False
        for webhook in webhooks.webhooks(db):
            room = webhooks.WAITING_MAX - webhooks.waiting(db, webhook.id)
            if webhook.disabled is not None or room <= 0:
                continue
            found = news.news_after(db, webhook.after, min(room, NEWS_AT_ONCE_MAX))
            for one in found:
                body = message_for(db, webhook, one, self._base)
                if body is not None:
                    waiting = Delivery(new_message_id(), webhook.id, one.type, body, now, (), now, None)
                    webhooks.insert_delivery(db, waiting)
            if found:
                webhooks.looked_at(db, webhook.id, found[-1].id)
            more |= len(found) == NEWS_AT_ONCE_MAX
        return more

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._try_to_deliver(delivery)
        except DatabaseClosed:
            pass  # the node stops; what was being sent is sent again
        except Exception as error:  # The task boundary: trouble with one delivery must not end the others.
            log.exception("webhook_delivery_failed", webhook=delivery.webhook_id, error=str(error))
            await trio.sleep(BUSY_SECONDS)  # it is still due, and would fail again at once
        finally:
            self._under_way.discard(delivery.webhook_id)
            self._wake.set()

    async def _try_to_deliver(self, delivery: Delivery) -> None:
        try:
            async with self._places:
                webhook = await self._database.read(lambda db: webhooks.get_webhook(db, delivery.webhook_id))
                if webhook is None or webhook.disabled is not None:
                    return
                attempt = await self._send(webhook, delivery)
        except Busy:
            later = int(self._clock()) + BUSY_SECONDS
            await self._database.write(lambda db: webhooks.put_off(db, delivery.id, later))
        else:
            await self._database.write(lambda db: self._note(db, webhook, delivery, attempt))

    async def _send(self, webhook: Webhook, delivery: Delivery) -> Attempt:
        """Try once. Raises Busy where this node has no room for it."""
        at = int(self._clock())
        try:
            reply = await self._outbound.fetch(
                "POST",
                webhook.url,
                headers=signed_headers(webhook.secret, delivery.id, at, delivery.body),
                content=delivery.body,
                bytes_max=ANSWER_BYTES_MAX,
                seconds_max=SECONDS_MAX,
            )
        except Busy:
            raise
        except OutboundError as error:
            return Attempt(at, None, error.sentence)
        taken = 200 <= reply.status < 300
        return Attempt(at, reply.status, None if taken else f"It answered {reply.status}.")

    def _note(self, db: sqlite_utils.Database, webhook: Webhook, delivery: Delivery, attempt: Attempt) -> None:
        tried = len(delivery.attempts)
        next_at = None
        if not attempt.succeeded and tried < len(RETRY_SECONDS):
            next_at = attempt.at + round(RETRY_SECONDS[tried] * self._rng.uniform(1 - JITTER, 1 + JITTER))
        webhooks.note_attempt(db, delivery, attempt, next_at)
        why = _reason_to_disable(webhook, attempt)
        if why is not None:
            webhooks.disable(db, webhook.id, why)
            record_activity(db, "federation_event", f"the webhook {webhook.id} was disabled: {why}", at=attempt.at)


def _has_news(db: sqlite_utils.Database) -> bool:
    newest = news.newest_news(db)
    return any(one.disabled is None and one.after < newest for one in webhooks.webhooks(db))


def _reason_to_disable(webhook: Webhook, attempt: Attempt) -> str | None:
    if attempt.status == GONE:
        return "its receiver answered 410: it wants nothing any more"
    if attempt.succeeded or webhook.failing_since is None:
        return None
    if attempt.at - webhook.failing_since < DISABLED_AFTER_SECONDS:
        return None
    return f"nothing was taken for {DISABLED_AFTER_SECONDS // 86_400} days"
