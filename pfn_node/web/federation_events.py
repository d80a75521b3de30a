"""GET /federation/events: the activity as Server-Sent Events.

Each event's id is the row's id, so a client that lost its connection goes on from `Last-Event-ID` and misses
nothing that is still kept. Every 15 seconds without news a comment keeps proxies from closing the line. Streams are
few and counted: one more than the limit gets 503. A stream ends when its key or session does, and when the node stops.
"""

import json
from collections.abc import AsyncIterator

import trio
from quart import Response, current_app, g, request

from pfn_node.store import registry, sessions
from pfn_node.store.database import DatabaseClosed
from pfn_node.store.rows import Activity, ApiKey, Session
from pfn_node.web.answers import ActivityRow
from pfn_node.web.auth import is_live
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.services import STREAMS_MAX, Services

routes = Routes("activity")

KEEP_ALIVE_SECONDS = 15.0
EVENTS_AT_ONCE_MAX = 100
LAST_EVENT_ID_CHARACTERS_MAX = 16
# EventSource waits this long before it connects again.
RETRY_MILLISECONDS = 3000


@routes.get(
    "/federation/events",
    answer=Bytes("text/event-stream", "One event for each activity, from Last-Event-ID or now on; ids go up."),
    scope="read",
    errors=(400, 503),
    in_document=False,
)
async def stream_events(services: Services, key: ApiKey) -> Response:
    """The activity as Server-Sent Events, resumable with Last-Event-ID."""
    after = await _start(services, request.headers.get("Last-Event-ID"))
    if services.streams.available_tokens < 1:
        raise too_many(f"{STREAMS_MAX} event streams are open already; try again later.", KEEP_ALIVE_SECONDS, 503)
    response: Response = current_app.response_class(
        events(services, key, after, g.caller.session), content_type="text/event-stream"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    response.timeout = None
    return response


async def _start(services: Services, last_event_id: str | None) -> int:
    if last_event_id:
        digits = last_event_id.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= LAST_EVENT_ID_CHARACTERS_MAX):
            raise ApiError(400, "Last-Event-ID has to be the id of an event of this stream: a whole number.")
        return int(digits)
    newest, _ = await services.database.read(lambda db: registry.activities(db, limit=1))
    return newest[0].id if newest else 0


async def events(services: Services, key: ApiKey, after: int, session: Session | None = None) -> AsyncIterator[bytes]:
    try:
        services.streams.acquire_on_behalf_of_nowait(key_of_stream := object())
    except trio.WouldBlock:
        return  # another stream took the last place between the check and now; the client connects again
    try:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        rows: list[Activity] | None = None
        while _still_counts(services, key, session):  # looked at after the wait, before anything is told
            for row in rows or ():
                after = row.id
                yield _event(row)
            if rows == []:
                yield b": still here\n\n"
            rows = await _next_rows(services, after)
    except DatabaseClosed:
        return  # the node stops
    finally:
        services.streams.release_on_behalf_of(key_of_stream)


def _still_counts(services: Services, key: ApiKey, session: Session | None) -> bool:
    """Whether the node goes on, and key and session work now; they may have been ended since the stream began."""
    if services.stopping.begun:
        return False
    found = services.database.read_now(lambda db: registry.find_key(db, key.id))
    if found is None or not is_live(found[0], services.now()):
        return False
    return session is None or (
        services.now() < session.expires
        and services.database.read_now(lambda db: sessions.find_session(db, session.token_hash)) is not None
    )


async def _next_rows(services: Services, after: int) -> list[Activity]:
    """What came after a row; waits for it, at most until the next sign of life is due."""
    with services.stopping.wait_at_most(KEEP_ALIVE_SECONDS):
        await services.database.wait_for_activity(after)
    rows, _ = await services.database.read(lambda db: registry.activities(db, after_id=after, limit=EVENTS_AT_ONCE_MAX))
    return rows


def _event(row: Activity) -> bytes:
    data = json.dumps(ActivityRow.of(row).model_dump(), separators=(",", ":"))  # ASCII: no line ends inside
    return f"id: {row.id}\nevent: {row.type}\ndata: {data}\n\n".encode()
