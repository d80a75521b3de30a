"""A node with a release, and each of the shipped proxies before it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conformance.hostile_publisher import HONEST_SLUG, Listing, Publisher, plugin_zip, subscribe
from tests.conformance.node_process import Node
from tests.proxies.programs import NAME, shipped_caddy, shipped_nginx
from tests.proxies.visitor import visitor

PROXIES: Final[dict[str, Callable[[Path, int], AbstractContextManager[int]]]] = {
    "nginx": shipped_nginx,
    "caddy": shipped_caddy,
}
FILLER: Final = "x" * 600_000  # a zip of some pieces
VISITOR: Final = "127.0.0.2"  # not the address of the proxy, so that it shows which of them the node sees


@dataclass(frozen=True)
class Proxied:
    """A node that holds one release, and a client that reaches it through a proxy."""

    node: Node
    source: str
    zip: bytes
    client: httpx.Client

    def download(self, **headers: str) -> httpx.Response:
        asked = {"sourceId": self.source, "plugin": HONEST_SLUG}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get("/federation/download", params=asked, headers=named)


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, str, bytes]]:
    """A node that stands behind a proxy as the examples say, and holds a release of this source with this zip."""
    flags = ("--allow-private-networks", "--url", f"https://{NAME}", "--trusted-proxy", "127.0.0.1/32")
    node = Node(tmp_path_factory.mktemp("node") / "data", flags)
    with Publisher(listings=[Listing(HONEST_SLUG, zip=plugin_zip(HONEST_SLUG, "1.0", FILLER))]) as publisher:
        node.start()
        subscribe(node, publisher)
        yield node, publisher.source, publisher.zip_of(HONEST_SLUG)
        node.stop()


@contextmanager
def _proxied(held: tuple[Node, str, bytes], proxy: str, folder: Path) -> Iterator[Proxied]:
    node, source, content = held
    with PROXIES[proxy](folder, node.port) as port, visitor(folder, port, VISITOR) as client:
        yield Proxied(node, source, content, client)


@pytest.fixture(scope="session", params=PROXIES)
def proxied(
    request: pytest.FixtureRequest, held: tuple[Node, str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    with _proxied(held, request.param, tmp_path_factory.mktemp("proxy")) as proxied:
        yield proxied


@pytest.fixture
def behind_nginx(held: tuple[Node, str, bytes], tmp_path: Path) -> Iterator[Proxied]:
    """Behind an nginx of its own, which has kept nothing yet."""
    with _proxied(held, "nginx", tmp_path) as proxied:
        yield proxied
