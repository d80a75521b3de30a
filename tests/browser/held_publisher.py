"""A real publisher over HTTP whose answers wait at a gate, to look at a page in the middle of something."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qsl, urlsplit

from tests.node.fake_outbound import Request
from tests.node.sources_room import Publisher

# Whoever forgets to open a gate must not hang the tests.
GATE_SECONDS_MAX = 30.0


class HeldPublisher:
    """`publisher` says what is answered; `hold(path)` closes the gate before it, `release(path)` opens it."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.publisher = Publisher(seed=41, author="ann", url=self.url)
        self._gates: dict[str, Event] = {}

    def hold(self, path: str) -> None:
        """Let requests for a path wait from now on."""
        self._gates[path] = Event()

    def release(self, path: str) -> None:
        """Answer those that wait, and all that come."""
        self._gates[path].set()

    def release_all(self) -> None:
        """Open every gate."""
        for gate in self._gates.values():
            gate.set()

    def wait_at_gate(self, path: str) -> None:
        """What a request does before it is answered."""
        gate = self._gates.get(path)
        if gate is not None:
            gate.wait(GATE_SECONDS_MAX)


@contextmanager
def held_publisher() -> Iterator[HeldPublisher]:
    """A publisher on a free port of loopback, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    held = HeldPublisher(server)
    server.held = held  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield held
    finally:
        held.release_all()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        held: HeldPublisher = self.server.held  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        held.wait_at_gate(parts.path)
        headers = {name.lower(): text for name, text in self.headers.items()}
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body, held.url + self.path)
        content, status, answer_headers = held.publisher.answer(request)
        sent = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, text in {**answer_headers, "Content-Length": str(len(sent))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""
