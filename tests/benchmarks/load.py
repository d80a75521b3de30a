"""A client that asks as fast as a server answers: raw sockets in a process of its own, a dozen microseconds a request.

`python -m tests.benchmarks.load` reads one JSON object on stdin (host, port, connections, seconds, requests: a list of
texts, and the status that each has to be answered with) and writes one on stdout: how many were answered, and in how
many seconds. Each connection takes the requests in turn, one at a time.
"""

import json
import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class _Asking:
    """A connection with one request under way."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)


class WrongAnswer(Exception):
    """The server answered with something else than it should: then its figures mean nothing."""


def measure(
    host: str, port: int, connections: int, seconds: float, requests: list[str], status: int
) -> dict[str, float | int]:
    """Ask for so many seconds. Raises WrongAnswer."""
    asked = cycle([text.encode("ascii") for text in requests])
    expected = f"HTTP/1.1 {status} ".encode()
    with selectors.DefaultSelector() as waiting:
        for _ in range(connections):
            one = _Asking(socket.create_connection((host, port)))
            one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting.register(one.socket, selectors.EVENT_READ, one)
            one.socket.sendall(next(asked))
        answered = 0
        started = time.perf_counter()
        until = started + seconds
        while time.perf_counter() < until:
            for key, _ in waiting.select(timeout=1.0):
                if _take(key.data, expected, has_body=status != 304):
                    answered += 1
                    key.data.socket.sendall(next(asked))
        took = time.perf_counter() - started
        for open_one in list(waiting.get_map().values()):
            open_one.data.socket.close()
    return {"answered": answered, "seconds": took}


def _take(one: _Asking, expected: bytes, *, has_body: bool) -> bool:
    """Reads what came; -> whether the answer is whole."""
    data = one.socket.recv(262_144)
    if not data:
        raise WrongAnswer("the server closed the connection")
    one.received += data
    end = one.received.find(b"\r\n\r\n")
    if end < 0:
        return False
    if not one.received.startswith(expected):
        raise WrongAnswer(bytes(one.received[:500]).decode("latin-1"))
    length = _LENGTH.search(one.received, 0, end)
    size = end + 4 + (int(length[1]) if length and has_body else 0)
    if len(one.received) < size:
        return False
    if len(one.received) > size:
        raise WrongAnswer("more came than one answer")
    one.received.clear()
    return True


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(**json.load(sys.stdin))) + "\n")
