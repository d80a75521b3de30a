"""GET /mesh/live: what changes between this node and its peers, as Server-Sent Events for the map.

Anybody may look, so it is bounded apart from the streams of those with a key: so many streams in all, a few for each
address. All streams share one look at the mesh, taken at most every LOOK_SECONDS, and more rarely where a look takes
long; each then tells what differs from what it told before. The first event tells of the linked peers as they are.
A stream ends when the node stops.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import trio
from quart import Response, current_app, g

from pfn_node.store.database import DatabaseClosed
from pfn_node.web.errors import ApiError, too_many
from pfn_node.web.pages import peer_figures
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.services import MAP_STREAMS_MAX, Looks, PeerView, Services

routes = Routes("mesh")

LOOK_SECONDS = 0.5
LOOK_SHARE_MAX = 0.05  # of the time that goes into looking
STREAMS_OF_ADDRESS_MAX = 6  # a browser keeps no more lines to one host
KEEP_ALIVE_SECONDS = 15.0
# EventSource waits this long before it connects again.
RETRY_MILLISECONDS = 5000


@routes.get(
    "/mesh/live",
    answer=Bytes("text/event-stream", "The figures of peers as they change; the first event tells of linked ones."),
    errors=(429, 503),
    in_document=False,
)
async def stream_mesh(services: Services) -> Response:
    """What changes between this node and its peers, as Server-Sent Events."""
    if refusal := _refusal(services.looks, g.bucket):
        raise refusal
    response: Response = current_app.response_class(events(services, g.bucket), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    response.timeout = None
    return response


def _refusal(looks: Looks, bucket: str | None) -> ApiError | None:
    """Why one more stream for an address is too many, if it is. None in the address' place: it is exempt."""
    if sum(looks.streams.values()) >= MAP_STREAMS_MAX:
        return too_many(f"{MAP_STREAMS_MAX} maps are live already; try again later.", KEEP_ALIVE_SECONDS, 503)
    if bucket is not None and looks.streams[bucket] >= STREAMS_OF_ADDRESS_MAX:
        sentence = f"{STREAMS_OF_ADDRESS_MAX} maps at your address are live already; close one."
        return too_many(sentence, KEEP_ALIVE_SECONDS)
    return None


async def events(services: Services, bucket: str | None) -> AsyncIterator[bytes]:
    """The stream itself."""
    streams = services.looks.streams
    if _refusal(services.looks, bucket):
        return  # another stream took the last place between the check and now; the client connects again
    streams[bucket] += 1
    try:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        told: dict[str, PeerView] | None = None
        while not services.stopping.begun:
            peers = await _changed(services, told)
            if peers is None:
                yield b": still here\n\n"
                continue
            news = [peer for peer in peers if (peer.links if told is None else told.get(peer.node_id) != peer)]
            told = {peer.node_id: peer for peer in peers}
            yield _event(peers, news)
    except DatabaseClosed:
        return  # the node stops
    finally:
        streams[bucket] -= 1
        if not streams[bucket]:
            del streams[bucket]


async def _changed(services: Services, told: Mapping[str, PeerView] | None) -> Sequence[PeerView] | None:
    """The peers as soon as they differ from what was told; None when a sign of life is due first."""
    with services.stopping.wait_at_most(KEEP_ALIVE_SECONDS):
        while True:
            peers = await _look(services)
            if told is None or {peer.node_id: peer for peer in peers} != told:
                return peers
            await trio.sleep(LOOK_SECONDS)
    return None


async def _look(services: Services) -> Sequence[PeerView]:
    """The peers as they were within the last LOOK_SECONDS. Raises DatabaseClosed when the node stops."""
    looks: Looks = services.looks
    if trio.current_time() >= looks.due:
        started = time.perf_counter()
        looks.peers = tuple(services.mesh.peers())
        looks.due = trio.current_time() + max(LOOK_SECONDS, (time.perf_counter() - started) / LOOK_SHARE_MAX)
    await trio.lowlevel.checkpoint()
    return looks.peers


def _event(peers: Sequence[PeerView], changed: Sequence[PeerView]) -> bytes:
    told = {"shape": peer_figures.shape(peers), "peers": [peer_figures.live(peer) for peer in changed]}
    return f"event: peers\ndata: {json.dumps(told, separators=(',', ':'))}\n\n".encode()  # ASCII: no line ends inside
