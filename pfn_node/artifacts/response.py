"""The answer that carries an artifact: a file that never changes, known by its sha256.

Fault 8 of the list in server.py: Quart answers `Range: bytes=-500` with 500, and a range past the end with a body that
does not fit its length. So conditions and ranges are judged here, from RFC 9110: If-None-Match first (304), then Range
together with If-Range. One satisfiable range gives 206, one past the end 416; several ranges, a malformed one or one of
another unit give the whole file, as the RFC allows.

The bytes are read in pieces of 256 KiB, the next one when the client has taken the last: what the kernel holds in
memory at once, since a thread costs more than copying that; what has to come from the disk in a thread, since a disk
may be slow. The descriptor was opened by the store, so the file may be replaced or deleted while it is being sent.
Each piece is compared with what it was when the file was checked (checks.py), and is not sent if it is another
one.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

import trio
from quart import Response, current_app, request
from quart.wrappers.response import ResponseBody

from pfn_node.artifacts.stored_body import StoredBody, StoredFile

PIECE_BYTES: Final = 256 * 2**10
READS_MAX: Final = 8  # threads that read artifacts at once; the others wait, and leave threads to the database
FILENAME_CHARACTERS_MAX: Final = 128

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_reads: Final = trio.CapacityLimiter(READS_MAX)


# Whether the block of PIECE_BYTES with this number is what it has to be.
IsSound = Callable[[int, bytes], bool]


class OpenFile(Protocol):
    """A descriptor for reading, and the size of the file in bytes; of an artifact also whether blocks are sound."""

    @property
    def fd(self) -> int:
        """The descriptor."""
        ...

    @property
    def size(self) -> int:
        """The size in bytes."""
        ...

    @property
    def is_sound(self) -> IsSound:
        """Says of a block whether it may be sent."""
        ...


class ArtifactTruncated(Exception):
    """A file has fewer bytes than it had when it was opened."""


class ArtifactDamaged(Exception):
    """A block of a file is not what it was when the file was checked."""


class ArtifactBody(ResponseBody):
    """The bytes of a descriptor, which it owns and closes."""

    def __init__(self, fd: int, size: int, is_sound: IsSound = lambda number, block: True) -> None:
        self._fd: int | None = fd
        self._size = size
        self._is_sound = is_sound
        self.narrow(0, size)

    def narrow(self, begin: int, end: int) -> None:
        """Sends only the bytes from `begin` up to, not including, `end`."""
        self._position = begin
        self._end = end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._end:
            raise StopAsyncIteration
        assert self._fd is not None, "a body is read once"
        # Always a whole block, also of a range that begins or ends within it: nothing else can be checked.
        number, skipped = divmod(self._position, PIECE_BYTES)
        begin = number * PIECE_BYTES
        wanted = min(PIECE_BYTES, self._size - begin)
        block = _in_memory(self._fd, wanted, begin)
        if block is None:
            block = await trio.to_thread.run_sync(os.pread, self._fd, wanted, begin, limiter=_reads)
        if len(block) <= skipped:
            # Ending here would look like a complete answer to some clients; failing cuts the connection.
            raise ArtifactTruncated("The file of an artifact became shorter while it was sent.")
        if not self._is_sound(number, block):
            raise ArtifactDamaged("The file of an artifact was damaged since it was checked; nothing of that is sent.")
        piece = block[skipped : self._end - begin]
        self._position += len(piece)
        return piece

    def close(self) -> None:
        """Closes the descriptor; more than once does no harm."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        # An answer that is replaced or dropped before it is sent is never entered, so nothing else would close it.
        self.close()


def _in_memory(fd: int, wanted: int, position: int) -> bytes | None:
    """All of it, if that can be read without waiting for a disk. Half a block is none: its checksum would not agree."""
    piece = bytearray(wanted)
    try:
        read = os.preadv(fd, [piece], position, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot say; else reading it says it again
        return None
    return bytes(piece) if read == wanted else None


async def artifact_response(
    open_artifact: OpenFile | StoredFile,
    *,
    etag: str,
    filename: str,
    headers: Mapping[str, str] | None = None,
    mimetype: str = "application/zip",
) -> Response:
    """The answer to the current request for this artifact. Takes over the descriptor, and closes it in every case.

    `etag` is the sha256 in hex. `filename` is proposed to browsers, cleaned. `headers` are added to every status.
    """
    size = open_artifact.size
    body = (
        StoredBody(open_artifact)
        if isinstance(open_artifact, StoredFile)
        else ArtifactBody(open_artifact.fd, size, open_artifact.is_sound)
    )
    tag = f'"{etag}"'
    response: Response = current_app.response_class(body, mimetype=mimetype)
    response.timeout = None
    response.headers["ETag"] = tag
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Disposition"] = f'attachment; filename="{safe_filename(filename)}"'
    response.content_length = size
    response.headers.update(dict(headers or {}))
    if _is_known(request.headers.get("If-None-Match"), tag):
        body.close()
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Length"]
        del response.headers["Content-Type"]
        return response
    part = _requested_part(size, tag)
    if part is None:
        return response
    begin, end = part
    if begin >= end:
        body.close()
        response.status_code = 416
        response.set_data(f"The range lies outside of the file, which has {size} bytes.\n")
        response.headers["Content-Range"] = f"bytes */{size}"
        response.mimetype = "text/plain"
        del response.headers["Content-Disposition"]
        return response
    response.status_code = 206
    body.narrow(begin, end)
    response.content_length = end - begin
    response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return response


def _is_known(if_none_match: str | None, tag: str) -> bool:
    if if_none_match is None:
        return False
    # Compared weakly, as the RFC says for this header; our tags contain no commas.
    return any(known.strip() in ("*", tag, f"W/{tag}") for known in if_none_match.split(","))


def _requested_part(size: int, tag: str) -> tuple[int, int] | None:
    """Begin and end of the one range that is asked for, an empty one if it cannot be satisfied; None for the whole."""
    text = request.headers.get("Range")
    if text is None or request.method != "GET" or request.headers.get("If-Range", tag).strip() != tag:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    begin = int(match[1])
    if match[2] and int(match[2]) < begin:
        return None
    return begin, min(size, int(match[2]) + 1) if match[2] else size


def safe_filename(name: str) -> str:
    """The name with everything but letters, digits, dots, underscores and hyphens replaced, without leading dots."""
    return _UNSAFE.sub("_", name)[:FILENAME_CHARACTERS_MAX].lstrip(".") or "download"
