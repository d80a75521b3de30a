"""A small internet in memory: names that resolve as a test says, and machines that answer as a test says.

It stands where the operating system stands (below the guard of `outbound.py`), and keeps a list of every address that
was dialled, so that a test can show that something was never contacted.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import httpcore
import trio
import trio.testing

Machine = Callable[[trio.abc.Stream], Awaitable[None]]
IPv4Record = tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]
IPv6Record = tuple[
    Literal[socket.AddressFamily.AF_INET6],
    socket.SocketKind,
    int,
    str,
    tuple[str, int, int, int] | tuple[int, bytes],
]
PUBLIC = "93.184.216.34"
PUBLIC_6 = "2606:2800:220:1::1"


class FakeNames(trio.abc.HostnameResolver):
    """Resolves from a table. Each look-up of a name takes the next of its answers; the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.lookups: list[str] = []
        self.seconds = 0.0

    def add(self, name: str, *answers: Iterable[str]) -> None:
        self.answers[name] = [list(answer) for answer in answers]

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[IPv4Record | IPv6Record]:
        name = (host or b"").decode()
        self.lookups.append(name)
        await trio.sleep(self.seconds)
        if name not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        rest = self.answers[name]
        addresses = rest.pop(0) if len(rest) > 1 else rest[0]
        return [_record(address) for address in addresses]

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        raise NotImplementedError("nobody asks for names of addresses")


def _record(address: str) -> IPv4Record | IPv6Record:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 443, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))


class FakeStream(httpcore.AsyncNetworkStream):
    """One end of a connection in memory. TLS is believed, and what was asked of it is noted."""

    def __init__(self, stream: trio.abc.Stream, internet: "FakeInternet") -> None:
        self._stream = stream
        self._internet = internet

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError as error:
            raise httpcore.ReadTimeout from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self._internet.handshakes.append((ssl_context, server_hostname))
        return self

    def get_extra_info(self, info: str) -> object:
        return None


class FakeInternet(httpcore.AsyncNetworkBackend):
    """Connects an address to the machine that a test put there."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.names = FakeNames()
        self.machines: dict[str, Machine] = {}
        self.dialled: list[tuple[str, int]] = []
        self.handshakes: list[tuple[ssl.SSLContext, str | None]] = []
        trio.socket.set_custom_hostname_resolver(self.names)

    def put(self, name: str, machine: Machine, address: str = PUBLIC) -> None:
        """A machine at an address, and a name that leads there."""
        self.names.add(name, [address])
        self.machines[address] = machine

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        if host not in self.machines:
            raise httpcore.ConnectError("connection refused")
        ours, theirs = trio.testing.lockstep_stream_pair()
        self._nursery.start_soon(self._answer, self.machines[host], theirs)
        return FakeStream(ours, self)

    async def _answer(self, machine: Machine, stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                await machine(stream)
        except trio.BrokenResourceError:
            pass  # the client hung up, as it may


async def read_head(stream: trio.abc.Stream) -> bytes:
    """What a client sends up to the end of its header; empty if it hung up."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(65536)
        if not data:
            return b""
        head += data
    return head


class Answers:
    """A machine that gives one fixed answer to every request, and remembers the requests."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []

    async def __call__(self, stream: trio.abc.Stream) -> None:
        while head := await read_head(stream):
            self.requests.append(head)
            await stream.send_all(self.answer)


def answer(body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> bytes:
    """A complete HTTP answer."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body
