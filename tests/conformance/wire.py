"""HTTP by hand: a client whose requests may be as wrong as a case wants them, over plain sockets."""

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

# A case that waits longer than this has found a wait without an end. Subscribing may take 55 s.
SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of an error."""
        sentence: str = self.json["error"]
        return sentence


def request(
    method: str, target: str, host: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A well-formed request that closes its connection, unless its headers say otherwise."""
    fields = {"Host": host, "Connection": "close", **(headers or {})}
    if (body or method == "POST") and not {"Content-Length", "Transfer-Encoding"} & fields.keys():
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def ask(
    host: str, port: int, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send one well-formed request, and read its whole answer."""
    raw = exchange(host, port, request(method, target, f"{host}:{port}", headers=headers, body=body))
    return parse(raw, bodiless=method == "HEAD")


def exchange(host: str, port: int, *parts: bytes, half_close: bool = False, seconds: float = SECONDS_MAX) -> bytes:
    """Send these bytes on one connection, and take what comes until the other side closes."""
    with socket.create_connection((host, port), seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough
        return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything up to the end; a reset is an end as well."""
    received = bytearray()
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return bytes(received)


def read(stream: BinaryIO) -> Answer:
    """One answer with a length, from a connection that stays open."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        assert line, "the connection was closed"
        head += line
    length = parse(head, bodiless=True).headers["content-length"]
    return parse(head + stream.read(int(length)))


def parse(raw: bytes, *, bodiless: bool = False) -> Answer:
    """The first answer in these bytes."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), f"no HTTP answer: {raw[:200]!r}"
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        rest = _unchunked(rest)
    elif "content-length" in headers and not bodiless:
        length = int(headers["content-length"])
        assert len(rest) >= length, f"the answer was cut: {len(rest)} of {length} bytes"
        rest = rest[:length]
    return Answer(int(first.split(" ")[1]), headers, rest)


def _unchunked(rest: bytes) -> bytes:
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body
        body, rest = body + rest[:length], rest[length + 2 :]


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
