"""Artifacts over HTTP: conditions, ranges, and descriptors that are always closed."""

import gc
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from quart import Response
from structlog.testing import capture_logs

from pfn_node.artifacts.response import PIECE_BYTES, ArtifactBody, IsSound, artifact_response, safe_filename
from pfn_node.server import SafeQuart
from tests.node.serving import Server, get, serving

DIGEST = "ab" * 32
TAG = f'"{DIGEST}"'


@dataclass(frozen=True)
class OpenOne:
    """What the store of artifacts gives."""

    fd: int
    size: int
    is_sound: IsSound = lambda number, block: True


class Shelf:
    """An application that serves one file, and the descriptors that it handed out."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.path = path
        self.content = content
        self.size = len(content)
        self.opened: list[int] = []
        self.app = SafeQuart("shelf")
        self.app.add_url_rule("/a", view_func=self.route)

    async def route(self) -> Response:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.opened.append(fd)
        return await artifact_response(
            OpenOne(fd, self.size), etag=DIGEST, filename='My "plugin".1.0.zip', headers={"Cache-Control": "immutable"}
        )

    def all_closed(self) -> bool:
        gc.collect()
        return not any(_is_open(fd, self.path) for fd in self.opened)


def _is_open(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "artifact", bytes(range(256)) * 8)


@pytest.fixture
async def server(shelf: Shelf) -> AsyncIterator[Server]:
    async with serving(shelf.app) as server:
        yield server
    assert shelf.all_closed()


async def ask(server: Server, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await server.exchange(get("/a", *headers, close=True, method=method))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines), body


async def test_the_whole_artifact(shelf: Shelf, server: Server) -> None:
    status, headers, body = await ask(server)

    assert (status, body) == (200, shelf.content)
    assert headers["etag"] == TAG
    assert headers["content-type"] == "application/zip"
    assert headers["content-length"] == "2048"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == 'attachment; filename="my_plugin_.1.0.zip"'
    assert headers["cache-control"] == "immutable"


async def test_head_gives_the_header_alone(server: Server) -> None:
    status, headers, body = await ask(server, "range: bytes=0-9", method="HEAD")

    assert (status, headers["content-length"], body) == (200, "2048", b"")


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", "*", f'"other", {TAG}', f'"other",W/{TAG} '])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_client_has_is_not_sent_again(server: Server, known: str, method: str) -> None:
    status, headers, body = await ask(server, f"if-none-match: {known}", "range: bytes=0-1", method=method)

    assert (status, body) == (304, b"")
    assert headers["etag"] == TAG
    assert headers["cache-control"] == "immutable"
    assert "content-length" not in headers


@pytest.mark.parametrize("known", ['"other"', DIGEST, "", f'"x{DIGEST}"'])
async def test_what_the_client_has_not_is_sent(shelf: Shelf, server: Server, known: str) -> None:
    status, _, body = await ask(server, f"if-none-match: {known}")

    assert (status, body) == (200, shelf.content)


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 2048),
        ("bytes=5-9", 5, 10),
        ("bytes=2047-", 2047, 2048),
        ("bytes=2000-9999", 2000, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=-1", 2047, 2048),
        ("bytes=-9999", 0, 2048),
        ("Bytes= 1-2 ", 1, 3),
    ],
)
async def test_one_range_is_sent(shelf: Shelf, server: Server, asked: str, begin: int, end: int) -> None:
    status, headers, body = await ask(server, f"range: {asked}")

    assert (status, body) == (206, shelf.content[begin:end])
    assert headers["content-range"] == f"bytes {begin}-{end - 1}/2048"
    assert headers["content-length"] == str(end - begin)
    assert headers["etag"] == TAG


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=2048-2050", "bytes=999999999999999999-", "bytes=-0"])
async def test_a_range_outside_of_the_file_is_416(server: Server, asked: str) -> None:
    status, headers, body = await ask(server, f"range: {asked}")

    assert (status, headers["content-range"]) == (416, "bytes */2048")
    assert body == b"The range lies outside of the file, which has 2048 bytes.\n"
    assert headers["content-length"] == str(len(body))
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=0-1,5-6", "bytes=-", "bytes=", "bytes", "bytes=5-1", "bytes=a-b", "bytes=--5", "items=0-1"),
        *("bytes=0-1-2", "bytes=1e3-", "bytes=" + "9" * 30 + "-", "bytes=" + "0-1," * 500),
    ],
)
async def test_what_is_not_one_range_gives_the_whole(shelf: Shelf, server: Server, asked: str) -> None:
    status, headers, body = await ask(server, f"range: {asked}")

    assert (status, body) == (200, shelf.content)
    assert "content-range" not in headers


@pytest.mark.parametrize(
    ("condition", "status"),
    [(TAG, 206), ('"other"', 200), (f"W/{TAG}", 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)],
)
async def test_a_range_is_sent_only_if_the_artifact_is_still_the_same(
    server: Server, condition: str, status: int
) -> None:
    assert (await ask(server, "range: bytes=0-9", f"if-range: {condition}"))[0] == status


async def test_a_large_artifact_is_sent_in_pieces(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "large", os.urandom(3 * PIECE_BYTES + 17))

    async with serving(shelf.app) as server:
        _, _, whole = await ask(server)
        _, _, part = await ask(server, "range: bytes=1000-800000")

    assert whole == shelf.content
    assert part == shelf.content[1000:800001]
    assert shelf.all_closed()


async def test_what_the_kernel_has_is_read_at_once_and_what_the_disk_has_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "large", os.urandom(3 * PIECE_BYTES + 17))
    in_memory = PIECE_BYTES + 1000
    from_disk: list[tuple[int, bool]] = []
    pread, here = os.pread, threading.get_ident()

    def preadv(fd: int, buffers: Sequence[bytearray], position: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        if position >= in_memory:
            raise BlockingIOError
        data = pread(fd, min(len(buffers[0]), in_memory - position), position)
        buffers[0][: len(data)] = data
        return len(data)

    def pread_seen(fd: int, length: int, position: int) -> bytes:
        from_disk.append((position, threading.get_ident() == here))
        return pread(fd, length, position)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pread", pread_seen)
    async with serving(shelf.app) as server:
        _, _, whole = await ask(server)

    assert whole == shelf.content
    # Whole blocks: of half a block nobody could say whether it is sound.
    assert from_disk == [(number * PIECE_BYTES, False) for number in (1, 2, 3)]


async def test_an_empty_artifact_is_sent_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "empty", b"")

    async with serving(shelf.app) as server:
        assert (await ask(server))[0::2] == (200, b"")
        assert (await ask(server, "range: bytes=0-"))[0] == 416
        assert (await ask(server, "range: bytes=-5"))[0] == 416


async def test_an_artifact_deleted_while_it_is_sent_is_sent_all_the_same(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "large", os.urandom(3 * PIECE_BYTES))
    content = shelf.content

    async with serving(shelf.app) as server, await server.connect() as stream:
        await stream.send_all(get("/a", close=True))
        received = bytearray(await stream.receive_some(1000))
        shelf.path.unlink()
        async for data in stream:
            received += data

    assert received.endswith(content)


@pytest.mark.parametrize("size", [2048, 3 * PIECE_BYTES])
async def test_a_file_that_became_shorter_cuts_the_answer(tmp_path: Path, size: int) -> None:
    shelf = Shelf(tmp_path / "short", b"x" * (size - 10))
    shelf.size = size

    async with serving(shelf.app) as server:
        with capture_logs() as logs:
            _, headers, body = await ask(server)

    assert int(headers["content-length"]) == size
    assert len(body) < size
    assert "ArtifactTruncated" in logs[0]["error"]


async def test_a_client_that_leaves_closes_the_descriptor(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "large", bytes(30 * 2**20))

    async with serving(shelf.app) as server:
        async with await server.connect(receive_buffer=4096) as stream:
            await stream.send_all(get("/a"))
            await stream.receive_some(1000)
        assert shelf.opened

    assert shelf.all_closed()


async def test_an_answer_that_is_never_sent_closes_its_descriptor(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "dropped", b"x")

    @shelf.app.after_request
    async def replace(response: Response) -> Response:
        return Response("something else")

    async with serving(shelf.app) as server:
        assert (await ask(server))[2] == b"something else"

    assert shelf.all_closed()


async def test_a_body_closes_once(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    body = ArtifactBody(os.open(path, os.O_RDONLY), 3)

    async with body as pieces:
        read = [piece async for piece in pieces]
    body.close()

    assert read == [b"abc"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("plugin.1.0.zip", "plugin.1.0.zip"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a"; filename="b.exe', "a_filename_b.exe"),
        ("a\r\nSet-Cookie: x", "a_Set-Cookie_x"),
        ("naïve.zip", "na_ve.zip"),
        (".htaccess", "htaccess"),
        ("", "download"),
        ("...", "download"),
        ("x" * 500, "x" * 128),
    ],
)
def test_a_filename_is_made_safe(name: str, safe: str) -> None:
    assert safe_filename(name) == safe
