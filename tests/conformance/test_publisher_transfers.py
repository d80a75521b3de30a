"""A hostile publisher sends too much, too little, too slowly, or something else than it says."""

import gzip
import secrets
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from tests.conformance.conftest import StartNode
from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    HOSTILE_SLUG,
    Listing,
    Publisher,
    assert_left_out,
    assert_only_the_honest_one_is_held,
    digest,
    plugin_zip,
    register,
    subscribe,
    try_to_subscribe,
    verify,
)
from tests.conformance.hostile_server import RESET, Asked, HostileServer, Script, always, answer, redirect
from tests.conformance.node_process import Node

Beside = Callable[..., list[Listing]]

BYTES_MAX = 256 * 1024
SECONDS_MAX = 2
CHUNK = bytes(4096)
ZIP_HEAD = b"PK\3\4"


@pytest.fixture(scope="module")
def node(start_node: StartNode) -> Node:
    """A node with a short deadline, and a small cap on zips."""
    return start_node(PFN_ARTIFACT_BYTES_MAX=str(BYTES_MAX), PFN_ARTIFACT_SECONDS_MAX=str(SECONDS_MAX))


def raw(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def endless(asked: Asked) -> Iterator[bytes]:
    yield raw("Content-Type: application/zip", "Transfer-Encoding: chunked")
    yield chunk(ZIP_HEAD)
    for _ in range(100_000):
        yield chunk(CHUNK)


def too_large(publisher: Publisher) -> Script:
    """An honest zip, but for its size; and chunks do not say beforehand how many there will be."""
    publisher.listings[1].zip = data = plugin_zip(HOSTILE_SLUG, "1.0", secrets.token_hex(BYTES_MAX // 2 + 100))
    return lambda asked: [raw("Transfer-Encoding: chunked") + chunk(data) + b"0\r\n\r\n"]


def beyond_its_length(asked: Asked) -> Iterator[bytes]:
    yield raw("Content-Type: application/zip", f"Content-Length: {BYTES_MAX + 1}")
    yield ZIP_HEAD
    for _ in range(BYTES_MAX // len(CHUNK) + 1):
        yield CHUNK


def cut(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        data = publisher.zip_of(HOSTILE_SLUG)
        yield raw("Content-Type: application/zip", f"Content-Length: {len(data)}")
        yield data[:-10]

    return script


def cut_chunks(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        yield raw("Content-Type: application/zip", "Transfer-Encoding: chunked")
        yield chunk(publisher.zip_of(HOSTILE_SLUG))
        # and no last chunk

    return script


def two_lengths(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        data = publisher.zip_of(HOSTILE_SLUG)
        yield raw("Content-Type: application/zip", f"Content-Length: {len(data)}", "Content-Length: 5") + data

    return script


def length_and_chunks(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        data = publisher.zip_of(HOSTILE_SLUG)
        yield raw("Content-Length: 5", "Transfer-Encoding: chunked") + chunk(data)[:-2] + b"\r\n0\r\n"  # and no end

    return script


def wrong_chunk_size(publisher: Publisher) -> Script:
    return lambda asked: [raw("Transfer-Encoding: chunked") + b"-1\r\n" + publisher.zip_of(HOSTILE_SLUG)]


def compressed(publisher: Publisher, encoding: str, squeeze: Callable[[bytes], bytes]) -> Script:
    return lambda asked: [
        answer(200, squeeze(publisher.zip_of(HOSTILE_SLUG)), "application/zip", {"Content-Encoding": encoding})
    ]


def reset_midway(publisher: Publisher) -> Script:
    return lambda asked: [raw("Content-Length: 100000") + ZIP_HEAD + CHUNK, RESET]


def header_flood(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        for number in range(100_000):
            yield f"X-{number}: {'a' * 100}\r\n".encode()

    return script


def one_long_header(publisher: Publisher) -> Script:
    data = publisher.zip_of(HOSTILE_SLUG)
    return lambda asked: [answer(200, data, "application/zip", {"X-Long": "a" * 100_000})]


def informational_flood(publisher: Publisher) -> Script:
    def script(asked: Asked) -> Iterator[bytes]:
        for _ in range(100_000):
            yield b"HTTP/1.1 103 Early Hints\r\nX-Long: " + b"a" * 1000 + b"\r\n\r\n"

    return script


def no_http(publisher: Publisher) -> Script:
    return lambda asked: [b"220 mail.example ESMTP\r\n" * 10]


def partial(publisher: Publisher) -> Script:
    data = publisher.zip_of(HOSTILE_SLUG)
    return always(answer(206, data, "application/zip", {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}))


ATTACKS: dict[str, Callable[[Publisher], Script]] = {
    "never ends": lambda publisher: endless,
    "is a good zip over the cap": too_large,
    "says that it is one byte over the cap": lambda publisher: beyond_its_length,
    "ends before its length": cut,
    "ends without a last chunk": cut_chunks,
    "has two lengths": two_lengths,
    "has a length and chunks": length_and_chunks,
    "has a chunk of a negative size": wrong_chunk_size,
    "is compressed with gzip, unasked": lambda publisher: compressed(publisher, "gzip", gzip.compress),
    "is compressed with deflate, unasked": lambda publisher: compressed(publisher, "deflate", zlib.compress),
    "claims an encoding that nobody knows": lambda publisher: compressed(publisher, "br", bytes),
    "is a bomb in gzip": lambda publisher: compressed(publisher, "gzip", lambda data: gzip.compress(bytes(2**27))),
    "breaks off with a reset": reset_midway,
    "begins with headers without end": header_flood,
    "has a header of a hundred kilobytes": one_long_header,
    "is preceded by interim answers without end": informational_flood,
    "is no HTTP": no_http,
    "is only a part": partial,
    "is refused with a server error": lambda publisher: always(answer(500, publisher.zip_of(HOSTILE_SLUG))),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_download_is_given_up_that(node: Node, publisher: Publisher, beside: Beside, attack: str) -> None:
    publisher.listings = beside()
    publisher.listings[1].script = ATTACKS[attack](publisher)

    assert_only_the_honest_one_is_held(node, publisher, "")
    assert node.is_well()


def drip(publisher: Publisher, head: bytes) -> Script:
    """A byte at a time: no read ever times out."""

    def script(asked: Asked) -> Iterator[bytes]:
        yield head
        while not publisher.closing.wait(0.05):
            yield b"0"

    return script


ZIP_BEGINS = raw("Content-Type: application/zip", "Content-Length: 100000") + ZIP_HEAD
HEADER_BEGINS = b"HTTP/1.1 200 OK\r\nX-Slow: "


def test_a_download_that_dribbles_ends_at_its_deadline(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside(script=drip(publisher, ZIP_BEGINS))
    started = monotonic()

    assert_left_out(subscribe(node, publisher), HOSTILE_SLUG, "")

    assert monotonic() - started < 3 * SECONDS_MAX + 10
    assert node.download(publisher.source, HONEST_SLUG).status == 200


def test_headers_that_dribble_end_at_the_deadline(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside(script=drip(publisher, HEADER_BEGINS))
    started = monotonic()

    assert_left_out(subscribe(node, publisher), HOSTILE_SLUG, "")

    assert monotonic() - started < 4 * SECONDS_MAX + 10


def test_a_publisher_that_hangs_keeps_nobody_waiting_and_is_given_up(node: Node, publisher: Publisher) -> None:
    publisher.answers["/federation-info"] = drip(publisher, HEADER_BEGINS)
    started = monotonic()
    with ThreadPoolExecutor() as threads, Publisher() as honest:
        hanging = threads.submit(verify, node, publisher)
        register(node, honest)

        assert subscribe(node, honest)["mirroredCount"] == 1

        assert not hanging.done()
        assert hanging.result()["success"] is False
    assert monotonic() - started < 30


# --- Redirects ------------------------------------------------------------------------------------------------------


def test_a_question_is_never_redirected(node: Node, publisher: Publisher) -> None:
    with Publisher(key=publisher.key, author=publisher.author) as other:
        publisher.answers["/author-data"] = redirect(f"{other.url}/author-data?author={other.author}")

        assert try_to_subscribe(node, publisher).status == 502
        assert other.connections == 0


def test_a_zip_that_is_redirected_is_judged_by_its_bytes_all_the_same(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    evil = always(answer(200, b"PK\3\4 evil", "application/zip"))
    with HostileServer(script=evil) as elsewhere:
        publisher.listings = beside(script=redirect(f"{elsewhere.url}/evil.zip"))

        assert_only_the_honest_one_is_held(node, publisher, "zip", hostile=b"PK\3\4 evil")
        assert elsewhere.connections >= 1


def test_a_redirect_in_a_circle_ends(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside()
    publisher.listings[1].script = redirect(f"{publisher.url}/federated/download?slug={HOSTILE_SLUG}")

    assert_only_the_honest_one_is_held(node, publisher, "")
    assert len(publisher.asked) < 30


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/evil.zip",
        "gopher://127.0.0.1:70/_evil",
        "http://user:secret@127.0.0.1/evil.zip",
        "//",
        "http://[::1",
        "\x01",
    ],
    ids=["a file", "FTP", "gopher", "a password", "nowhere", "a broken address", "a control character"],
)
def test_a_zip_is_not_looked_for_behind_a_redirect_to(
    node: Node, publisher: Publisher, beside: Beside, location: str
) -> None:
    publisher.listings = beside(script=redirect(location))

    assert_only_the_honest_one_is_held(node, publisher, "")
    assert node.is_well()


def test_no_key_and_no_cookie_goes_along_on_a_redirect(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside()
    data = publisher.zip_of(HOSTILE_SLUG)
    with HostileServer(script=always(answer(200, data, "application/zip"))) as elsewhere:
        sets_cookie = answer(302, headers={"Location": f"{elsewhere.url}/a.zip", "Set-Cookie": "track=1; Path=/"})
        publisher.listings[1].script = always(sets_cookie)

        assert subscribe(node, publisher)["mirroredCount"] == 2

        assert node.artifact(digest(data)).status == 200
        sent = {name for asked in (*elsewhere.asked, *publisher.asked) for name in asked.headers}
    assert not sent & {"cookie", "authorization", "proxy-authorization"}
    assert all(asked.headers["accept-encoding"] == "identity" for asked in elsewhere.asked)
