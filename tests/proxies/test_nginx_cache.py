"""nginx as it is shipped keeps what the node lets it keep, for as long as it says, and nothing that is one person's."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conformance.hostile_server import Asked, HostileServer, answer
from tests.proxies.programs import shipped_nginx
from tests.proxies.visitor import eventually, visitor

KEPT = "public, s-maxage=60"
BRIEFLY = "public, s-maxage=1"
MANY = 8
LOOKED_FOR_SECONDS = 0.5  # for what must not come
PERSONAL = [{"Authorization": "Bearer fadmin_x"}, {"Cookie": "__Host-pfn_session=x"}, {"Cookie": "other=1"}]


class Origin(HostileServer):
    """In the place of a node: gives `body` under its ETag, with `headers`; waits while it is `held`."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.body = "first"
        self.headers = {"Cache-Control": KEPT}
        self.held = threading.Event()
        self.held.set()
        self.again = threading.Event()  # it was asked while it waited

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        if len(self.asked) > 1:
            self.again.set()
        self.held.wait()
        tag = f'"{self.body}"'
        known = asked.headers.get("if-none-match") == tag
        headers = {"ETag": tag, "Accept-Ranges": "bytes", **self.headers}
        body = "" if known or asked.method == "HEAD" else f"{self.body} of {asked.path}"
        return [answer(304 if known else 200, body, headers=headers)]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin
        origin.held.set()


@pytest.fixture
def client(origin: Origin, tmp_path: Path) -> Iterator[httpx.Client]:
    with shipped_nginx(tmp_path, origin.port) as port, visitor(tmp_path, port) as client:
        yield client


def test_what_may_be_kept_is_asked_once(origin: Origin, client: httpx.Client) -> None:
    for method in ("GET", "GET", "HEAD"):
        assert client.request(method, "/federation/plugins?q=a").status_code == 200
    part = client.get("/federation/plugins?q=a", headers={"Range": "bytes=0-4"})
    known = client.get("/federation/plugins?q=a", headers={"If-None-Match": '"first"'})

    assert (part.status_code, part.text) == (206, "first")
    assert (known.status_code, known.headers["X-Cache"]) == (304, "HIT")
    assert origin.paths() == ["/federation/plugins"]
    client.get("/federation/plugins?q=b")
    assert len(origin.asked) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "no-store"},
        {"Cache-Control": "private, max-age=60"},
        {"Cache-Control": "no-cache"},
        {"Cache-Control": KEPT, "Set-Cookie": "a=b"},
        {"Cache-Control": KEPT, "Vary": "*"},
        {},
    ],
)
def test_what_may_not_be_kept_is_asked_each_time(origin: Origin, client: httpx.Client, headers: dict[str, str]) -> None:
    origin.headers = headers

    for _ in range(3):
        assert client.get("/").status_code == 200

    assert len(origin.asked) == 3


def test_a_post_is_never_kept(origin: Origin, client: httpx.Client) -> None:
    for _ in range(2):
        client.post("/plugins/update-check/1.1/", content=b"plugins=1")

    assert len(origin.asked) == 2


@pytest.mark.parametrize("personal", PERSONAL)
def test_what_comes_with_a_key_or_a_cookie_is_neither_taken_from_the_cache_nor_put_into_it(
    origin: Origin, client: httpx.Client, personal: dict[str, str]
) -> None:
    client.get("/federation/sources", headers=personal)
    anybody = client.get("/federation/sources")
    origin.body = "personal"
    keyed = client.get("/federation/sources", headers=personal)

    assert (anybody.headers["X-Cache"], keyed.headers["X-Cache"]) == ("MISS", "BYPASS")
    assert keyed.text.startswith("personal")
    assert client.get("/federation/sources").text.startswith("first")


def test_many_who_want_the_same_are_one_request(origin: Origin, client: httpx.Client) -> None:
    origin.held.clear()
    with ThreadPoolExecutor(MANY) as pool:
        answers = [pool.submit(client.get, "/") for _ in range(MANY)]
        assert not origin.again.wait(LOOKED_FOR_SECONDS)
        origin.held.set()

    assert {answer.result().text for answer in answers} == {"first of /"}
    assert len(origin.asked) == 1


def test_what_is_too_old_is_asked_for_by_its_etag(origin: Origin, client: httpx.Client) -> None:
    origin.headers = {"Cache-Control": BRIEFLY}
    client.get("/")

    eventually(lambda: client.get("/").headers["X-Cache"] == "REVALIDATED")

    assert origin.asked[-1].headers["if-none-match"] == '"first"'
    assert client.get("/").text == "first of /"


def test_a_change_is_seen_as_soon_as_the_answer_before_is_too_old(origin: Origin, client: httpx.Client) -> None:
    origin.headers = {"Cache-Control": BRIEFLY}
    client.get("/")
    origin.body = "second"
    seen: list[tuple[str, str]] = []

    def changed() -> bool:
        got = client.get("/")
        seen.append((got.headers["X-Cache"], got.text))
        return got.text.startswith("second")

    eventually(changed)

    assert set(seen[:-1]) <= {("HIT", "first of /")}
    assert seen[-1] == ("EXPIRED", "second of /")


def test_while_a_new_answer_is_fetched_the_old_one_is_given_if_the_node_allows_that(
    origin: Origin, client: httpx.Client
) -> None:
    origin.headers = {"Cache-Control": f"{BRIEFLY}, stale-while-revalidate=60"}
    client.get("/")
    origin.body = "second"
    origin.held.clear()

    # nginx takes no further request on a connection until what it does behind that one is done.
    alone = {"Connection": "close"}
    eventually(lambda: client.get("/", headers=alone).headers["X-Cache"] == "STALE")
    assert client.get("/", headers=alone).text == "first of /"
    origin.held.set()

    eventually(lambda: client.get("/").text == "second of /")


def test_while_the_node_is_away_what_was_kept_is_given(origin: Origin, client: httpx.Client) -> None:
    origin.headers = {"Cache-Control": BRIEFLY}
    client.get("/")
    origin.close()

    eventually(lambda: client.get("/").headers["X-Cache"] == "STALE")

    assert client.get("/").text == "first of /"
    assert client.get("/something-else").status_code == 502
    assert client.get("/", headers=PERSONAL[0]).status_code == 502


def test_zips_by_name_are_asked_of_the_node_which_counts_them(origin: Origin, client: httpx.Client) -> None:
    for path in ("/federation/download?plugin=a", "/download/plugin/a.1.0.zip", "/composer/mirror/pfn/a/1.0/00.zip"):
        for _ in range(2):
            client.get(path)

    assert [path.rpartition("/")[2] for path in origin.paths()] == ["download"] * 2 + ["a.1.0.zip"] * 2 + ["00.zip"]


def test_data_is_compressed_but_no_page(origin: Origin, client: httpx.Client) -> None:
    origin.body = "x" * 2000
    packed = {"Accept-Encoding": "gzip"}

    assert client.get("/composer/packages.json", headers=packed).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in client.get("/plugins", headers=packed).headers
