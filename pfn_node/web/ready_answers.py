"""Answers of hot public reads, kept as ready bytes for as long as nothing that they say can have changed.

An answer is made of the store and of the time, and of nothing else: not of a key, a session or any header. So it is
kept until the next commit, whoever makes it (`Database.version`): one older than a change that was acknowledged is
never given. What an answer says of the time (stale for 48 hours, up to date, the average of a day) it may say
`KEPT_SECONDS` late.

The tag of an answer is a digest of its bytes. So clients that have it are told so after a restart as well, and by a
node that made the same answer anew.

Whoever stands in front (a proxy, a CDN) may give it for as long as `Cache-Control` says, and cannot know of a commit:
there a change is seen `SHARED_SECONDS` later, and once more `SHARED_STALE_SECONDS` where nobody asked in between.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from quart import Response, g, request

from pfn_node.store.database import Database
from pfn_node.web.consumers.conditional import tag_of

KEPT_SECONDS: Final = 5
SHARED_SECONDS: Final = 5
SHARED_STALE_SECONDS: Final = 5
# The pages that are asked for all the time are dozens; a flood of different questions pushes them out at most.
KEPT_BYTES_MAX: Final = 16 * 2**20
ANSWER_BYTES_MAX: Final = 2**20
_ENTRY_BYTES: Final = 1_000  # what Python needs around one

CACHE_CONTROL: Final = f"public, max-age=0, s-maxage={SHARED_SECONDS}, stale-while-revalidate={SHARED_STALE_SECONDS}"
# They differ from one answer to the next; `front.py` writes them anew.
_OF_ONE_REQUEST: Final = ("x-request-id", "content-length", "etag")
_NOT_OF_304: Final = ("content-type",)


K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Heads:
    """What all answers of a route begin with: without what differs each time, and without their ends."""

    whole: bytes
    known: bytes  # of the 304


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """One answer as it is written."""

    route: str  # as the figures name it
    etag: str | None  # None: it is given once
    heads: Heads
    body: bytes
    made_at: float  # seconds since 1970

    @property
    def size(self) -> int:
        """About the memory that it takes, in bytes."""
        return len(self.body) + _ENTRY_BYTES


def _one(key: object, value: object) -> int:
    return 1


class KeptUntilChange(Generic[K, V]):
    """What was found in the store, kept until the next commit; `most` in entries, or in what `cost` says of each."""

    def __init__(self, database: Database, most: int, cost: Callable[[K, V], int] = _one) -> None:
        self._database = database
        self._most = most
        self._cost = cost
        self._version = -1
        self._kept: OrderedDict[K, V] = OrderedDict()
        self.size = 0  # what all entries cost

    def version(self) -> int:
        """The state of the store of now; what was found in an earlier one is forgotten."""
        version = self._database.version()
        if version != self._version:
            self._version = version
            self._kept.clear()
            self.size = 0
        return version

    def find(self, key: K) -> V | None:
        """What is kept of the state that `version` gave last."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, found: Mapping[K, V], version: int) -> None:
        """Keep what was found in the store as it was at `version`, or later; what was used longest ago makes room."""
        if version != self.version():
            return
        for key, value in found.items():
            self._drop(key)
            self._kept[key] = value
            self.size += self._cost(key, value)
        while self.size > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: K) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self.size -= self._cost(key, dropped)


class ReadyAnswers:
    """The kept answers, by what was asked: path and query, as they were sent."""

    def __init__(self, database: Database) -> None:
        self._kept: KeptUntilChange[str, ReadyAnswer] = KeptUntilChange(database, KEPT_BYTES_MAX, _bytes_of)
        self.heads: dict[str, Heads] = {}  # of each route that was answered in the usual way

    @property
    def size(self) -> int:
        """About the memory that all of them take, in bytes."""
        return self._kept.size

    def version(self) -> int:
        """The state of the store of now; what was made of an earlier one is forgotten."""
        return self._kept.version()

    def find(self, target: str, now: float) -> ReadyAnswer | None:
        """The answer, if it is still what would be made now."""
        self.version()
        found = self._kept.find(target)
        # A clock that was put back makes an answer of the future; that is not given either.
        if found is None or not 0 <= now - found.made_at < KEPT_SECONDS:
            return None
        return found

    def keep(self, target: str, answer: ReadyAnswer, version: int) -> None:
        """Keep an answer that was made of the store as it was at `version`, or later."""
        if _bytes_of(target, answer) <= ANSWER_BYTES_MAX:
            self._kept.keep({target: answer}, version)


def _bytes_of(target: str, answer: ReadyAnswer) -> int:
    return answer.size + len(target)


@dataclass(frozen=True, slots=True)
class Making:
    """An answer that is being made, and may be kept: of which state, and since when."""

    version: int
    made_at: float


def target_of_request() -> str:
    """What is asked, as it was sent."""
    raw = request.scope["raw_path"]
    query = request.query_string
    return (raw + b"?" + query if query else raw).decode("latin-1")


async def settle(response: Response, answers: ReadyAnswers, route: str) -> Response:
    """Give an answer that is ready for all (`g.making`) its tag, keep it, and make it a 304 for who has it already.

    Of all that the front may give it is remembered how they begin.
    """
    if response.status_code != 200 or not g.get("is_plain"):
        return response
    making: Making | None = g.get("making")
    if making is not None:
        response.headers["Cache-Control"] = CACHE_CONTROL
    heads = answers.heads[route] = Heads(_head(200, response), _head(304, response, _NOT_OF_304))
    if making is None:
        return response
    body = await response.get_data(as_text=False)
    etag = tag_of(body)
    response.headers["ETag"] = etag
    answer = ReadyAnswer(route, etag, heads, body, making.made_at)
    answers.keep(target_of_request(), answer, making.version)
    if is_known(request.headers.get("If-None-Match"), etag):
        response.status_code = 304
        response.set_data(b"")
        for name in ("Content-Type", "Content-Length"):
            response.headers.pop(name, None)
    return response


def is_known(tags: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names an answer (RFC 9110, 13.1.2: `*`, or a list, compared weakly)."""
    if tags is None:
        return False
    return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))


def _head(status: int, response: Response, without: tuple[str, ...] = ()) -> bytes:
    """The head of an answer up to what differs each time, as the server's HTTP machine would write it."""
    left_out = (*_OF_ONE_REQUEST, *without)
    fields = [(name.lower(), text) for name, text in response.headers.items()]
    lines = [f"{name}: {text}\r\n" for name, text in fields if name not in left_out]
    return "".join([f"HTTP/1.1 {status} \r\n", *lines]).encode("latin-1")
