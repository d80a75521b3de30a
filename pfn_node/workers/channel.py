"""What the node and one of its workers say to each other: messages on a pair of sockets that nobody else can reach.

    worker -> node   CONNECTION  a connection, with what was read of it    COUNTED  figures (metrics.py)
                     DOWNLOADS   zips that were had                        DAMAGED  the digest of an artifact
                     READY       it answers from now on
    node -> worker   STOP        finish what runs, and end

The end of the channel is the end of whoever is at its other side, however that came.
"""

import array
import socket
from dataclasses import dataclass
from typing import Final

import structlog
import trio

READY: Final = b"R"
CONNECTION: Final = b"C"
COUNTED: Final = b"M"
DOWNLOADS: Final = b"D"
DAMAGED: Final = b"X"
STOP: Final = b"S"
# More than the server reads at once. The kernel takes twice as much in one piece, if nobody made that smaller.
MESSAGE_BYTES_MAX: Final = 80 * 2**10
_ONE_DESCRIPTOR: Final = socket.CMSG_SPACE(array.array("i").itemsize)
# Where this process has as many descriptors as it may have, a connection waits so often for one.
DESCRIPTOR_SECONDS: Final = 0.1
DESCRIPTOR_TRIES_MAX: Final = 50

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a connection is the receiver's to close. None came where there was no descriptor for it."""

    kind: bytes
    data: bytes
    connection: socket.socket | None = None


class Channel:
    """One end. Sending and receiving raise OSError once the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._socket = trio.socket.from_stdlib_socket(end)
        self._sending = trio.Lock()  # trio lets one task alone wait until there is room

    async def send(self, kind: bytes, data: bytes = b"", connection: int | None = None) -> None:
        """Send a message, with a descriptor of a connection: the sender closes its own. Waits for room."""
        assert len(data) < MESSAGE_BYTES_MAX
        rights = [] if connection is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection]))]
        async with self._sending:
            await self._socket.sendmsg([kind + data], rights)

    async def receive(self) -> Message | None:
        """The next message; None at the end."""
        received, rights = await self._look()
        if not received:
            return None
        self._end.recv(1)  # it is there; the rest of it goes with its first byte
        descriptors = array.array("i")
        for _, _, data in rights:
            descriptors.frombytes(data)
        return Message(received[:1], received[1:], socket.socket(fileno=descriptors[0]) if descriptors else None)

    async def _look(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The next message, which stays: the kernel closes a connection that it has no descriptor for when it goes."""
        for tries in range(DESCRIPTOR_TRIES_MAX):
            received, rights, flags, _ = await self._socket.recvmsg(
                MESSAGE_BYTES_MAX, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC | socket.MSG_PEEK
            )
            assert not flags & socket.MSG_TRUNC, "messages are no longer than that"
            if not flags & socket.MSG_CTRUNC:
                break
            if not tries:
                log.error("descriptors_used_up", wanted_for="a connection of a worker")
            await trio.sleep(DESCRIPTOR_SECONDS)
        return received, rights

    def close(self) -> None:
        """Close this end; safe to call twice."""
        self._socket.close()


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends; the second one is for a process that is started."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours, theirs
