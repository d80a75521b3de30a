"""One node for each group of cases, so that the whole is quick; each case brings its own enemies."""

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.hostile_publisher import HONEST_SLUG, HOSTILE_SLUG, Listing, Publisher
from tests.conformance.node_process import Node

StartNode = Callable[..., Node]


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Starts nodes that end with the group."""
    started: list[Node] = []

    def start(*flags: str, private: bool = True, makes_keys: bool = True, **settings: str) -> Node:
        """`private`: whether it dials loopback; `settings` are environment variables."""
        allowing = ("--allow-private-networks",) if private else ()
        node = Node(tmp_path_factory.mktemp("node") / "data", (*allowing, *flags), settings)
        if not makes_keys:
            node.master_key = ""
        started.append(node)
        node.start()
        return node

    yield start
    for node in started:
        node.stop()


@pytest.fixture(scope="module")
def node(start_node: StartNode) -> Node:
    """The node of the group."""
    return start_node()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """A publisher with an honest plugin; a case makes it hostile, and registers it then."""
    with Publisher() as publisher:
        yield publisher


@pytest.fixture
def beside() -> Callable[..., list[Listing]]:
    """The honest plugin and a hostile one beside it."""
    return lambda **hostile: [Listing(HONEST_SLUG), Listing(HOSTILE_SLUG, **hostile)]
