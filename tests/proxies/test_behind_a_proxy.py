"""What a visitor has of a node through nginx and Caddy as they are shipped: everything, and as himself."""

from hashlib import sha256
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.conformance.hostile_publisher import HONEST_SLUG
from tests.conformance.node_process import bearer
from tests.proxies.conftest import VISITOR, Proxied
from tests.proxies.programs import NAME

ORIGIN = {"Origin": f"https://{NAME}"}


def test_a_node_is_the_same_behind_a_proxy(proxied: Proxied) -> None:
    for path in ("/federation/plugins", "/federation/sources", "/composer/packages.json", "/feeds/releases.json"):
        through, direct = proxied.client.get(path), proxied.node.ask("GET", path, headers={"Host": NAME})

        assert (through.status_code, through.content) == (direct.status, direct.body), path
        assert through.headers["Cache-Control"] == direct.headers["cache-control"]
    assert "<html" in proxied.client.get("/", headers={"Accept": "text/html"}).text


def test_another_name_is_refused_by_proxy_or_node(proxied: Proxied) -> None:
    refused = proxied.client.get("/federation/plugins", headers={"Host": "rebound.example"})

    assert refused.status_code == 421 or not refused.content


def test_downloads_are_whole_in_parts_and_not_sent_again(proxied: Proxied) -> None:
    digest = sha256(proxied.zip).hexdigest()
    whole = proxied.download()
    part = proxied.download(Range="bytes=100000-400000")
    last = proxied.download(Range="bytes=-500", If_Range=f'"{digest}"')

    assert (whole.status_code, whole.content, whole.headers["ETag"]) == (200, proxied.zip, f'"{digest}"')
    assert int(whole.headers["Content-Length"]) == len(proxied.zip)
    assert (part.status_code, part.content) == (206, proxied.zip[100000:400001])
    assert part.headers["Content-Range"] == f"bytes 100000-400000/{len(proxied.zip)}"
    assert (last.status_code, last.content) == (206, proxied.zip[-500:])
    assert proxied.download(Range="bytes=900000-").status_code == 416
    known = proxied.download(If_None_Match=f'"{digest}"')
    assert (known.status_code, known.content) == (304, b"")


def test_the_node_sees_the_address_of_the_visitor_whatever_he_says(proxied: Proxied) -> None:
    for said in ({}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"}):
        headers = {**bearer(proxied.node.key), **said, "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
        owner = {"slug": HONEST_SLUG, "sourceId": proxied.source}
        assert proxied.client.post("/federation/slugs", json=owner, headers=headers).status_code == 200

        newest = proxied.node.get("audit", key=proxied.node.key, limit=100).json["entries"][-1]
        assert (newest["action"], newest["address"]) == ("POST /federation/slugs", VISITOR)


def test_a_session_is_bound_to_https_which_the_proxy_speaks(proxied: Proxied) -> None:
    lying = {"X-Forwarded-Proto": "http"}
    began = proxied.client.post("/session", headers={**bearer(proxied.node.key), **ORIGIN, **lying})
    cookie = SimpleCookie(began.headers["Set-Cookie"])
    (name,) = cookie
    held = {"Cookie": f"{name}={cookie[name].value}"}

    assert name.startswith("__Host-") and cookie[name]["secure"]
    assert proxied.client.get("/session", headers=held).json()["csrf_token"] == began.json()["csrf_token"]
    proxied.client.cookies.clear()
    assert proxied.client.get("/session").status_code == 401


def test_bodies_are_limited_where_the_node_limits_them(proxied: Proxied) -> None:
    small, large = b" " * 2_000_000, bytes(2_000_000)
    refused = proxied.client.post("/federation/add-source", content=small, headers=bearer(proxied.node.key))
    looked_at = proxied.client.post("/federation/verify", content=large, headers={"Content-Type": "application/zip"})

    assert refused.status_code == 413
    assert (looked_at.status_code, looked_at.json()["valid"]) == (200, False)
    verified = proxied.client.post("/federation/verify", content=proxied.zip)
    assert verified.json()["valid"] is True


def test_an_event_arrives_when_it_happens(proxied: Proxied) -> None:
    node = proxied.node
    with proxied.client.stream("GET", "/federation/events", headers=bearer(node.key)) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")  # it has begun
        node.post("slugs", {"slug": HONEST_SLUG, "sourceId": proxied.source})

        assert "honest-tool belongs to" in next(line for line in lines if line.startswith("data:"))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_methods_that_a_call_has_not_are_refused_by_the_node(proxied: Proxied, method: str) -> None:
    assert proxied.client.request(method, "/federation/plugins").status_code == httpx.codes.METHOD_NOT_ALLOWED
