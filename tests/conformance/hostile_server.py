"""A server that answers whatever a case wants, byte by byte: what hostile publishers, peers and mirrors are made of."""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from tests.conformance.wire import reset

REQUEST_BYTES_MAX = 4 * 2**20
STALLED_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Asked:
    """What somebody asked of the server."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


# What is sent, piece by piece; the connection closes behind the last one. RESET ends it with RST.
Script = Callable[[Asked], Iterable[bytes]]
RESET = b"(reset)"


def answer(
    status: int,
    body: bytes | str = b"",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A well-formed answer, unless its headers say otherwise."""
    raw = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": content_type, "Content-Length": str(len(raw)), "Connection": "close", **(headers or {})}
    lines = [f"HTTP/1.1 {status} Answer", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + raw


def as_json(value: object, status: int = 200, **headers: str) -> bytes:
    return answer(status, json.dumps(value), headers=headers)


def always(raw: bytes) -> Script:
    """The same answer to everything."""
    return lambda asked: [raw]


def redirect(location: str, status: int = 302) -> Script:
    return always(answer(status, headers={"Location": location}))


def _nothing_here(asked: Asked) -> Iterable[bytes]:
    return [answer(404, "{}")]


@dataclass
class HostileServer:
    """`script` says what is answered. Use it as a context manager."""

    script: Script = _nothing_here
    listens: tuple[str, int] = ("127.0.0.1", 0)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0  # how often anybody connected, whether or not anything was asked
    broken: list[BaseException] = field(default_factory=list)  # what went wrong in a script itself

    def __enter__(self) -> Self:
        self._listener = socket.create_server(self.listens)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.closing = threading.Event()  # scripts that wait, wait on this
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            assert not self.broken, self.broken

    def close(self) -> None:
        """Nobody answers here any more."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # gone already
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """What was asked for, queries left out."""
        return [asked.path for asked in self.asked]

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(STALLED_SECONDS_MAX)
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            asked = _read(connection)
            if asked is not None:
                self.asked.append(asked)
                self._play(connection, asked)
        except OSError:
            pass  # the other side has heard enough: what cases look at is what it says of it
        except Exception as error:
            self.broken.append(error)
        finally:
            self._open.discard(connection)
            connection.close()

    def _play(self, connection: socket.socket, asked: Asked) -> None:
        for piece in self.script(asked):
            if piece is RESET:
                reset(connection)
                return
            connection.sendall(piece)


def _read(connection: socket.socket) -> Asked | None:
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        if not data:
            return None
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < min(int(headers.get("content-length", "0")), REQUEST_BYTES_MAX):
        data = connection.recv(65536)
        if not data:
            return None  # who asked has died
        body += data
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers, body)
