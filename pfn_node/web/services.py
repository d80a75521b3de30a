"""What the web room is given by `node.py`: the store, the artifacts, and the rooms that act, as small interfaces.

Routes never reach for a global: everything they use is here, so that a test hands in fakes of the parts that would
dial out, and consumers' paths (catalogue, artifacts) visibly need neither sources nor mesh.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import sqlite_utils
import trio

from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.metrics import Metrics
from pfn_node.settings import Settings
from pfn_node.sources.outcomes import NoticeOutcome, SyncResult, VerificationOutcome
from pfn_node.sources.previewing import Preview
from pfn_node.sources.progress import Progress
from pfn_node.store.database import Database
from pfn_node.store.packages import Names
from pfn_node.store.rows import Filters, Release, Source
from pfn_node.store.webhooks import Attempt
from pfn_node.web.consumers.conditional import Answered
from pfn_node.web.consumers.upstream import Upstream
from pfn_node.web.download_counting import Downloads
from pfn_node.web.rate_limits import RateLimit
from pfn_node.web.ready_answers import KeptUntilChange, ReadyAnswers
from pfn_node.web.stopping import Stopping
from pfn_protocol.announcements import NoticeStatement

T = TypeVar("T")


class SourcesRoom(Protocol):
    """What the API asks of `pfn_node.sources`; the exceptions are that room's own."""

    @property
    def progress(self) -> Progress: ...
    async def add(self, instance_url: str, username: str, public_key: str) -> tuple[Source, bool]: ...
    async def verify(self, source_id: str, type: Literal["manual"]) -> VerificationOutcome: ...
    async def start_verification(self, source_id: str) -> None: ...
    async def update(
        self,
        source_id: str,
        *,
        instance_url: str | None = None,
        public_key: str | None = None,
        allow_unsigned: bool | None = None,
    ) -> Source: ...
    async def remove(self, source_id: str, purge: bool) -> None: ...
    async def preview(self, source_id: str, filters: Filters) -> Preview: ...
    async def subscribe(
        self, source_id: str, subscriber: str, filters: Filters, *, seconds_max: float = 55.0
    ) -> SyncResult: ...
    async def unsubscribe(self, source_id: str, subscriber: str) -> bool: ...
    async def accept_release(self, envelope: bytes, keybind: bytes | None, artifact_url: str | None) -> Release: ...
    async def accept_notices(self, envelopes: Sequence[bytes], keybinds: Sequence[bytes]) -> list[NoticeOutcome]: ...
    async def say(self, statement: NoticeStatement) -> bool: ...


class PeerView(Protocol):
    """One other node, for display. Ids are did:key texts, times seconds since 1970."""

    @property
    def node_id(self) -> str: ...
    @property
    def url(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def provisional(self) -> bool: ...
    @property
    def blocked(self) -> bool: ...
    @property
    def joined(self) -> bool: ...
    @property
    def trusted_via(self) -> tuple[str, ...]: ...
    @property
    def last_seen(self) -> int | None: ...
    @property
    def round_trip_ms(self) -> int | None: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def announcements(self) -> int: ...
    @property
    def links(self) -> tuple[str, ...]: ...
    @property
    def outbound(self) -> bool: ...
    @property
    def announcements_sent(self) -> int: ...
    @property
    def announcements_received(self) -> int: ...
    @property
    def differences_found(self) -> int: ...
    @property
    def announced(self) -> int | None: ...
    @property
    def held(self) -> int: ...
    @property
    def incomplete(self) -> bool: ...
    @property
    def convicted(self) -> bool: ...
    @property
    def proof(self) -> tuple[str, ...]: ...
    @property
    def bytes_last_minute(self) -> int: ...


class JoinView(Protocol):
    """A URL that the operator joined: who is there, and why it is not reached where it was not yet."""

    @property
    def url(self) -> str: ...
    @property
    def node_id(self) -> str | None: ...
    @property
    def problem(self) -> str | None: ...


class MeshRoom(Protocol):
    """What the API asks of `pfn_node.mesh`."""

    async def handle(self, path: str, raw: bytes) -> tuple[int, bytes]: ...
    async def join(self, url: str, key: bytes | None) -> bytes | None: ...
    async def joins(self) -> Sequence[JoinView]: ...
    async def leave(self, url: str | None, node_id: bytes | None) -> Sequence[str]: ...
    async def set_policy(self, node_id: bytes, *, pinned: bool | None = None, blocked: bool | None = None) -> None: ...
    def peers(self) -> Sequence[PeerView]: ...
    def status(self) -> Mapping[str, Any]: ...


class Want(Protocol):
    """Get the bytes of a release here (read-through), within a deadline of its own.

    The release as it stands afterwards (perhaps with another digest), its bytes here; None if they cannot be had.
    """

    def __call__(self, release: Release, *, anonymous: bool) -> Awaitable[Release | None]: ...


class WebhooksRoom(Protocol):
    """What the API asks of `pfn_node.webhooks`; the exceptions are that room's own, and those of `outbound`."""

    def check_url(self, text: str) -> str: ...
    def look_soon(self) -> None: ...
    async def test(self, webhook_id: str) -> Attempt: ...


MEASURING_MAX = 2
STREAMS_MAX = 100
FIGURES_KEPT_MAX = 16
UPDATES_KEPT_MAX = 2_048  # a kilobyte or two each
MAP_STREAMS_MAX = 50  # for visitors, who take nothing from the streams of those with a key


@dataclass(slots=True)
class Looks:
    """What all live maps share: one look at the peers, and who has how many streams open."""

    peers: Sequence[PeerView] = ()
    due: float = 0.0  # when to look again, in trio's time
    streams: Counter[str | None] = field(default_factory=Counter)  # by address; None = exempt from limits by address


@dataclass(slots=True)
class Services:
    """Everything that a route may use."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    sources: SourcesRoom
    mesh: MeshRoom
    node_id: bytes
    url: str | None  # the node's own
    want: Want
    webhooks: WebhooksRoom
    examine: Examine  # looks at a zip
    now: Callable[[], float] = field(default=time.time)  # seconds since 1970
    # Reading an artifact through costs a core: so many at once, whoever asks.
    measuring: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(MEASURING_MAX))
    # Open event streams: each costs a task and a connection.
    streams: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(STREAMS_MAX))
    looks: Looks = field(default_factory=Looks)
    metrics: Metrics = field(default_factory=Metrics)
    stopping: Stopping = field(default_factory=Stopping)
    answered: Answered = field(default_factory=Answered)
    package_names: Names = field(default_factory=Names)
    upstream: Upstream | None = None  # what sites ask and this node does not know; None: nobody is asked
    rate: RateLimit | None = None  # of requests by address, where several processes count them
    verifications: RateLimit | None = None  # of calls that verify something; None: each app has its own
    downloads: Downloads = field(init=False)
    ready: ReadyAnswers = field(init=False)
    figures: KeptUntilChange[str, Any] = field(init=False)  # by name: `figure`
    updates: KeptUntilChange[Any, Any] = field(init=False)  # by what is installed: wordpress_updates.py

    def __post_init__(self) -> None:
        self.downloads = Downloads(self.database)
        self.ready = ReadyAnswers(self.database)
        self.figures = KeptUntilChange(self.database, FIGURES_KEPT_MAX)
        self.updates = KeptUntilChange(self.database, UPDATES_KEPT_MAX)

    async def figure(self, name: str, read: Callable[[sqlite_utils.Database], T]) -> T:
        """What is counted over whole tables, and anybody may ask for: counted once for each change of the store."""
        version = self.figures.version()
        found: T | None = self.figures.find(name)
        if found is None:
            found = await self.database.read(read)
            self.figures.keep({name: found}, version)
        return found
