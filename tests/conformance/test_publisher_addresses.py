"""A hostile publisher, or a careless operator, names addresses that the node must not dial."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.conftest import StartNode
from tests.conformance.hostile_publisher import HONEST_SLUG, Publisher, new_key, register, subscribe, verify
from tests.conformance.hostile_server import HostileServer
from tests.conformance.node_process import Node, b64


@pytest.fixture
def victim() -> Iterator[HostileServer]:
    """What nobody may connect to."""
    with HostileServer() as victim:
        yield victim
        assert victim.connections == 0


@pytest.mark.parametrize(
    "scheme",
    [
        "{victim}/author/slug.zip",
        "//{host}/author/slug.zip",
        "../../admin/slug.zip",
        "author/../../slug.zip",
        "author/./slug.zip",
        "author//slug.zip",
        "author\\..\\slug.zip",
        "author/slug.zip?to={victim}",
        "author/slug.zip#fragment",
        "author/%2e%2e/slug.zip",
        "author@{host}/slug.zip:",
        "author/slug\r\nHost: evil",
        "a" * 300,
    ],
    ids=[
        "absolute",
        "of another host",
        "climbing",
        "climbing inside",
        "with a dot",
        "with an empty part",
        "with backslashes",
        "with a query",
        "with a fragment",
        "climbing when decoded",
        "with a port",
        "with a line break",
        "too long",
    ],
)
def test_a_naming_scheme_is_not_followed_that_is(
    node: Node, publisher: Publisher, victim: HostileServer, scheme: str
) -> None:
    """The instance itself is asked instead, and nobody else."""
    scheme = scheme.format(victim=victim.url, host=f"127.0.0.1:{victim.port}")
    publisher.assets = {"domain": publisher.url, "namingScheme": scheme}

    assert verify(node, publisher)["success"]
    assert subscribe(node, publisher)["mirroredCount"] == 1

    assert [path for path in publisher.paths() if path.endswith(("zip", "download"))] == ["/federated/download"]


@pytest.mark.parametrize(
    "domain",
    [
        "http://user:secret@{host}",
        "{victim}?",
        "{victim}#",
        "file://{host}",
        "ftp://{host}",
        "{victim}/../",
        "http://[::1",
        "javascript:alert(1)",
    ],
    ids=["a password", "a query", "a fragment", "a file", "FTP", "a climbing path", "a broken address", "a script"],
)
def test_an_asset_domain_is_not_dialled_with(
    node: Node, publisher: Publisher, victim: HostileServer, domain: str
) -> None:
    domain = domain.format(victim=victim.url, host=f"127.0.0.1:{victim.port}")
    publisher.assets = {"domain": domain, "namingScheme": "author/slug.zip"}

    assert verify(node, publisher)["success"]
    assert subscribe(node, publisher)["mirroredCount"] == 1


def test_an_asset_domain_that_serves_something_else_leaves_the_instance_to_ask(
    node: Node, publisher: Publisher
) -> None:
    with HostileServer() as elsewhere:
        publisher.assets = {"domain": elsewhere.url, "namingScheme": "author/slug.zip"}

        assert subscribe(node, publisher)["mirroredCount"] == 1

        assert elsewhere.paths() == [f"/{publisher.author}/{HONEST_SLUG}.zip"]


@pytest.mark.parametrize("assets", [7, [], {}, {"domain": 7, "namingScheme": []}, None], ids=repr)
def test_what_is_no_asset_info_does_no_harm(node: Node, publisher: Publisher, assets: object) -> None:
    publisher.assets = {"domain": assets} if assets is None else assets  # type: ignore[assignment]

    assert subscribe(node, publisher)["mirroredCount"] == 1


# --- A node that dials public addresses only ------------------------------------------------------------------------


@pytest.fixture
def victims() -> Iterator[list[HostileServer]]:
    """What nobody may connect to; on the port of https too, where the machine allows that."""
    with ExitStack() as open_now:
        victims = [open_now.enter_context(HostileServer())]
        try:
            victims.append(open_now.enter_context(HostileServer(listens=("", 443))))
        except PermissionError:
            pass  # then the other port has to show it
        yield victims
        assert [victim.connections for victim in victims] == [0] * len(victims)


@pytest.fixture(scope="module")
def strict(start_node: StartNode) -> Node:
    """A node as it stands on the internet."""
    return start_node(private=False)


HOSTS = {
    "loopback": "https://127.0.0.1",
    "another loopback": "https://127.9.9.9",
    "a name of loopback": "https://localhost",
    "a name below it": "https://x.localhost",
    "loopback in one number": "https://2130706433",
    "loopback in octal": "https://0177.0.0.1",
    "loopback in hex": "https://0x7f.1",
    "a short loopback": "https://127.1",
    "no address": "https://0.0.0.0",
    "loopback in IPv6": "https://[::1]",
    "loopback mapped into IPv6": "https://[::ffff:127.0.0.1]",
    "loopback behind 6to4": "https://[2002:7f00:1::]",
    "loopback behind NAT64": "https://[64:ff9b::7f00:1]",
    "a private network": "https://10.0.0.1",
    "the metadata service of clouds": "https://169.254.169.254",
    "the metadata service in IPv6": "https://[fd00:ec2::254]",
    "carrier-grade NAT": "https://100.64.0.1",
    "multicast": "https://224.0.0.1",
    "a trailing dot": "https://localhost.",
    "full-width digits": "https://\uff11\uff12\uff17.0.0.1",
    "plain http": "http://127.0.0.1",
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_node_on_the_internet_does_not_dial(strict: Node, victims: list[HostileServer], name: str) -> None:
    """Named as a publisher, by somebody with a key: refused at once, or never reached."""
    for victim in victims:
        url = f"{HOSTS[name]}:{victim.port}"
        key = b64(new_key().public)
        added = strict.post("add-source", {"instance_url": url, "username": "inside", "public_key": key})
        if added.status == 200:
            said = strict.post("verify-source", {"sourceId": added.json["source_id"]}).json
            assert said["success"] is False


@pytest.mark.parametrize("name", ["loopback", "a name of loopback", "the metadata service of clouds", "plain http"])
def test_a_node_on_the_internet_does_not_join(strict: Node, victims: list[HostileServer], name: str) -> None:
    for victim in victims:
        answered = strict.post("peers", {"action": "join", "url": f"{HOSTS[name]}:{victim.port}"})

        assert answered.status in (200, 400, 403, 409, 502)
        assert answered.status != 200 or answered.json["node_id"] is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example",
        "file:///etc/passwd",
        "https://user:secret@a.example",
        "https://a.example/?q=1",
        "https://a.example/#x",
        "https://a.example/../x",
        "https://a.example:99999",
        "https://a b.example",
        "https://a.example\\@b.example",
        "https://",
        "a.example",
        "https://a.example/" + "x" * 600,
    ],
    ids=[
        "FTP",
        "a file",
        "a password",
        "a query",
        "a fragment",
        "a climbing path",
        "no port",
        "a space",
        "a backslash",
        "no host",
        "no scheme",
        "six hundred characters",
    ],
)
def test_a_publisher_is_not_registered_under_a_url_with(node: Node, url: str) -> None:
    body = {"instance_url": url, "username": "x", "public_key": b64(new_key().public)}

    assert node.post("add-source", body).status in (400, 403)


def test_a_second_publisher_at_one_host_that_differs_by_its_path_is_a_conflict(
    node: Node, publisher: Publisher
) -> None:
    register(node, publisher)
    body = {
        "instance_url": f"{publisher.url}/other",
        "username": publisher.author,
        "public_key": b64(new_key().public),
    }

    assert node.post("add-source", body).status == 409


def test_a_source_is_not_moved_to_another_host(node: Node, publisher: Publisher) -> None:
    register(node, publisher)
    with Publisher() as elsewhere:
        moved = node.post("update-source", {"sourceId": publisher.source, "instance_url": elsewhere.url})

        assert moved.status in (400, 403, 409)
        assert elsewhere.connections == 0


def test_a_registered_source_is_not_registered_again(node: Node, publisher: Publisher) -> None:
    register(node, publisher)
    body = {"instance_url": publisher.url, "username": publisher.author, "public_key": b64(new_key().public)}

    assert node.post("add-source", body).status == 409
    assert subscribe(node, publisher)["mirroredCount"] == 1  # the key that was registered first stands
