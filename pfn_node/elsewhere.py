"""How a process that shares a port with another one leaves a connection to it."""

import socket
from dataclasses import dataclass
from typing import Protocol

import trio


class Elsewhere(BaseException):
    """A request needs what this process has not: it is another one's to answer.

    Raised before anything was answered. It is no Exception, so that nothing on its way makes an answer of it, or goes
    on without what it asked for.
    """


class Passing(Protocol):
    """What a server is told that answers a part of the requests alone."""

    def takes(self, data: bytes) -> bool:
        """Whether what came on a connection that waits for a request is one whole request that may be tried here."""
        ...

    def refuse(self, data: bytes) -> None:
        """Hear that it was not for here after all."""
        ...

    async def pass_on(self, connection: trio.socket.SocketType, data: bytes) -> None:
        """Give a connection, and what was read of it, to the other process. Raises OSError where that is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Passed:
    """What a server is told that others pass connections on to."""

    connections: trio.MemoryReceiveChannel[tuple[socket.socket, bytes]]  # with what was read of each
    alone: trio.Event  # set when no other process accepts connections
