"""What a worker is told at its start: on its standard input, and by descriptors that it inherits."""

import math
from typing import Any

from pydantic import BaseModel

from pfn_node.server import ServerLimits, connections_that_fit
from pfn_node.settings import Settings
from pfn_node.store.downloads import Version
from pfn_node.web.rate_limits import SharedRateLimit

# What only the node may know.
_SECRET_SETTINGS = {"master_key", "private_key"}


class Rate(BaseModel):
    """Where requests by address are counted: a file that is inherited, and the secret of its places."""

    file: int
    secret: bytes

    def limit(self, settings: Settings) -> SharedRateLimit:
        """The limit that all processes count."""
        return SharedRateLimit(settings.requests_per_minute, self.file, self.secret)


class Start(BaseModel):
    """What a worker is told. Numbers of descriptors are its own."""

    settings: dict[str, Any]
    node_id: str  # hex
    url: str | None
    listener: int
    channel: int
    rate: Rate


def told(settings: Settings) -> dict[str, Any]:
    """The settings as a worker is told them."""
    return settings.model_dump(mode="json", exclude=_SECRET_SETTINGS)


def limits_of_worker(settings: Settings) -> ServerLimits:
    """A worker's part of the connections, for nobody chooses at which one he arrives."""
    return ServerLimits(
        connections_that_fit(math.ceil(settings.connections_max / settings.workers)),
        math.ceil(settings.connections_per_address_max / settings.workers),
        proxies=settings.trusted_proxy,
        shutdown_seconds=settings.stop_seconds,
    )


class Downloaded(BaseModel):
    """Zips that were had: versions, and how often."""

    versions: list[tuple[Version, int]]
