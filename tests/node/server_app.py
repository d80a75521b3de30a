"""An application with a route for every way to treat a server badly."""

from collections.abc import AsyncIterator

import trio
from quart import Response, request
from quart.typing import ResponseReturnValue

from pfn_node.server import SafeQuart

BIG_BYTES = 30 * 2**20
PIECE = b"x" * 65536


class Watched:
    """What the routes of one application have seen."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.ended = trio.Event()
        self.go_on = trio.Event()
        self.pieces = 0
        self.most_waiting = 0


def create_app() -> tuple[SafeQuart, Watched]:
    """The application and its memory."""
    app = SafeQuart("attacked")
    watched = Watched()

    @app.get("/")
    async def root() -> ResponseReturnValue:
        return "well"

    @app.get("/host")
    async def host() -> ResponseReturnValue:
        return request.headers["Host"]

    @app.post("/whole")
    async def whole() -> ResponseReturnValue:
        watched.begun.set()
        return str(len(await request.get_data()))

    @app.post("/pieces")
    async def pieces() -> ResponseReturnValue:
        watched.begun.set()
        await watched.go_on.wait()
        total = 0
        async for piece in request.body:
            total += len(piece)
            watched.most_waiting = max(watched.most_waiting, len(piece))
        return str(total)

    @app.post("/early")
    async def early() -> ResponseReturnValue:
        return "no, thank you", 403

    @app.post("/late")
    async def late() -> ResponseReturnValue:
        watched.begun.set()
        await watched.go_on.wait()
        return "no, thank you", 403

    @app.get("/big")
    async def big() -> ResponseReturnValue:
        async def produce() -> AsyncIterator[bytes]:
            try:
                for _ in range(BIG_BYTES // len(PIECE)):
                    watched.pieces += 1
                    watched.begun.set()
                    yield PIECE
            finally:
                watched.ended.set()

        return Response(produce(), headers={"Content-Length": str(BIG_BYTES)})

    @app.get("/events")
    async def events() -> ResponseReturnValue:
        async def produce() -> AsyncIterator[bytes]:
            try:
                yield b": hello\n\n"
                watched.begun.set()
                await trio.sleep_forever()
            finally:
                watched.ended.set()

        return Response(produce(), mimetype="text/event-stream")

    @app.get("/hang")
    async def hang() -> ResponseReturnValue:
        watched.begun.set()
        try:
            await watched.go_on.wait()
        finally:
            watched.ended.set()
        return "at last"

    @app.get("/boom")
    async def boom() -> ResponseReturnValue:
        raise RuntimeError("a bug in a route")

    @app.get("/half")
    async def half() -> ResponseReturnValue:
        async def produce() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("a bug in a body")

        return Response(produce(), headers={"Content-Length": "8"})

    @app.get("/wrong-length")
    async def wrong_length() -> ResponseReturnValue:
        return "four", 200, {"Content-Length": "40"}

    @app.get("/bad-header")
    async def bad_header() -> ResponseReturnValue:
        response = app.response_class("x")
        response.headers._list.append(("x-bad", "a\x00b"))
        return response

    @app.get("/empty/<int:status>")
    async def empty(status: int) -> ResponseReturnValue:
        return app.response_class(status=status)

    @app.get("/asyncio")
    async def asyncio_only() -> ResponseReturnValue:
        return Response(status=204)

    @app.get("/unknown")
    async def unknown() -> ResponseReturnValue:
        return "", 304, {"ETag": '"1"'}

    return app, watched
