"""An object store by its URL: the only module that speaks to one (obstore: S3, GCS, Azure, or a mounted folder)
but for what an export writes (export/places.py).

Every call has a deadline, and is tried again a few times where that cannot do harm. Whatever goes wrong is said as
StoreUnavailable; then the store is left alone for a moment, and calls fail at once meanwhile, so that nobody waits in
vain. That an object is missing is only believed of a store that is the right one: it has the object MARK, which this
node put there first. So neither a bucket that was swapped nor a folder that is not mounted looks like a loss.

Secrets come from the environment alone (the names that obstore reads, AWS_* for S3); a URL that holds any is refused.
Nothing of what a store answers is shown but the first line of a failure: the rest may repeat what it was asked.

Everything here blocks and may be called from any thread.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from pfn_node.artifacts.errors import ArtifactError, ArtifactMissing, StoreUnavailable
from pfn_node.store_urls import check_store_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# One request with its answer. A part of an upload has to pass in this time: at 256 kB/s it does.
CALL_SECONDS: Final = 20
CONNECT_SECONDS: Final = 3
RETRIES_MAX: Final = 2
RETRY_SECONDS_MAX: Final = 8  # no further try after this
PAUSE_SECONDS: Final = 5.0  # after a failure; what a client is told to wait, too
PART_BYTES: Final = 5 * 2**20  # the least that S3 takes as a part; the memory of an upload is a few of them
PARTS_AT_ONCE: Final = 2
UPLOADS_MAX: Final = 8  # at once, and so some 80 MiB
UPLOAD_BYTES_PER_SECOND_MIN: Final = 64 * 2**10  # over a whole upload, with the time of one call for free
SENTENCE_CHARACTERS_MAX: Final = 160

MARK: Final = "pfn-artifacts"
_MARK_TEXT: Final = b"Plugin zips of a Plugin Federation Network node, named by their SHA-256.\n"
# A browser that is sent here saves the file and does not look into it.
_ATTRIBUTES: Final = {"Content-Type": "application/zip", "Content-Disposition": "attachment"}

log = structlog.get_logger()

Backend = S3Store | GCSStore | AzureStore | LocalStore


def connect(url: str) -> Backend:
    """What obstore makes of the URL and the environment. Raises ArtifactError."""
    options: ClientConfig = {
        "timeout": timedelta(seconds=CALL_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        # These options replace those of the environment, so what it says of http has to be said again.
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
    }
    retries: RetryConfig = {
        "max_retries": RETRIES_MAX,
        "retry_timeout": timedelta(seconds=RETRY_SECONDS_MAX),
        "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
    }
    try:
        if url.startswith("file:"):
            return LocalStore.from_url(url, mkdir=True)
        store = from_url(url, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ArtifactError(f"{url} is no object store that can be used: {_first_line(error)}") from None
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        raise ArtifactError(f"{url} is no object store (S3, GCS, Azure), such as s3://bucket/prefix")
    return store


class ObjectStore:
    """Objects by their keys. All methods raise StoreUnavailable; those that look one up, ArtifactMissing too.

    `problem` is what is wrong with the store now, as a sentence; `failures` counts calls that failed since start.
    `may_mark` allows to make one that is not marked yet this node's own.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Connects to nothing yet. Raises ValueError for a URL that may not be shown, ArtifactError for others."""
        self.url = check_store_url(url)
        self.problem: str | None = None
        self.failures = 0
        self.may_mark = False
        self._backend = connect(self.url)
        self._clock = clock
        self._rests_until = 0.0
        self._is_ours = False
        self._closed = False
        self._uploads = threading.BoundedSemaphore(UPLOADS_MAX)

    def look(self) -> None:
        """See whether it answers, and is the right one. A pause does not count, and is over if it does."""
        with self._called(although_it_rests=True):
            self._find_mark()

    def close(self) -> None:
        """Ends uploads between two of their parts; nothing of them is to be seen in the store."""
        self._closed = True

    def put(self, key: str, path: Path) -> str:
        """Stores a file under this key, whatever was there; its ETag. The whole of it is there, or nothing."""
        size = path.stat().st_size
        with self._uploads, path.open("rb") as file, self._called():
            if not self._is_ours:
                self._find_mark()
            parts = self._parts(file, self._clock() + CALL_SECONDS + size / UPLOAD_BYTES_PER_SECOND_MIN)
            answer = obstore.put(
                self._backend,
                key,
                b"".join(parts) if size <= PART_BYTES else parts,
                attributes=None if isinstance(self._backend, LocalStore) else _ATTRIBUTES,  # a folder has none
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        return answer["e_tag"] or ""

    def read(self, key: str, begin: int, end: int) -> bytes:
        """The bytes from `begin` up to, not including, `end`; fewer if it is shorter."""
        with self._called():
            try:
                return bytes(obstore.get_range(self._backend, key, start=begin, end=end))
            except FileNotFoundError:
                raise self._missing(key) from None
            except BaseError as error:
                if "416" in _first_line(error):  # it is shorter than where the range begins
                    return b""
                raise

    def facts(self, key: str) -> tuple[int, str]:
        """The size in bytes and the ETag of an object."""
        with self._called():
            try:
                found = obstore.head(self._backend, key)
            except FileNotFoundError:
                raise self._missing(key) from None
        return found["size"], found["e_tag"] or ""

    def delete(self, key: str) -> None:
        """Nothing to do if it is not there."""
        with self._called():
            try:
                obstore.delete(self._backend, key)
            except FileNotFoundError:
                self._find_mark()

    def everything(self) -> Iterator[tuple[str, int]]:
        """The keys and sizes of everything under the URL, in pieces of what one answer holds."""
        with self._called():
            for page in obstore.list(self._backend):
                yield from ((entry["path"], entry["size"]) for entry in page)

    def signed_url(self, key: str, seconds: int) -> str | None:
        """A URL with which anybody may read the object for so long; None: this kind of store has none."""
        if isinstance(self._backend, LocalStore):
            return None
        with self._called():
            return obstore.sign(self._backend, "GET", key, timedelta(seconds=seconds))

    def _parts(self, file: BinaryIO, until: float) -> Iterator[bytes]:
        while part := file.read(PART_BYTES):
            if self._closed:
                raise StoreUnavailable("An upload was given up, since the node stops.", PAUSE_SECONDS)
            if self._clock() > until:
                raise StoreUnavailable(f"An upload to {self.url} took too long.", PAUSE_SECONDS)
            yield part

    def _missing(self, key: str) -> ArtifactMissing:
        """What to raise for an object that is not there, if the store is the right one."""
        self._find_mark()
        return ArtifactMissing(f"The object {key} is not in {self.url} any more.")

    def _find_mark(self) -> None:
        try:
            obstore.head(self._backend, MARK)
        except FileNotFoundError:
            if not self.may_mark:
                raise StoreUnavailable(
                    f"{self.url} is not the store that this node put its artifacts into: the object {MARK} is missing "
                    "there.",
                    PAUSE_SECONDS,
                ) from None
            obstore.put(self._backend, MARK, _MARK_TEXT)
        self._is_ours, self.may_mark = True, False

    @contextmanager
    def _called(self, *, although_it_rests: bool = False) -> Iterator[None]:
        """Around everything that is asked of the store: says failures in our words, and remembers them."""
        rests = self._rests_until - self._clock()
        if rests > 0 and not although_it_rests:
            raise StoreUnavailable(self.problem or "The object store failed a moment ago.", rests)
        try:
            yield
        except ArtifactMissing:
            self._note(None)
            raise
        except StoreUnavailable as error:
            self._note(str(error))
            raise
        except (BaseError, OSError, ValueError, NotImplementedError) as error:
            problem = f"{self.url} {_why(error)}"
            self._note(problem)
            raise StoreUnavailable(problem, PAUSE_SECONDS) from None
        self._note(None)

    def _note(self, problem: str | None) -> None:
        before, self.problem = self.problem, problem
        if problem is None:
            self._rests_until = 0.0
            if before is not None:
                log.info("object_store_answers_again", store=self.url)
        elif not self._closed:
            self.failures += 1
            self._rests_until = self._clock() + PAUSE_SECONDS
            if before is None:
                log.warning("object_store_failed", store=self.url, reason=problem)


def _why(error: Exception) -> str:
    match error:
        case PermissionDeniedError() | UnauthenticatedError():
            return "refuses what this node asks: look at its credentials and what they are allowed."
        case FileNotFoundError():
            return "cannot be found: is there such a bucket?"
        case _:
            return f"cannot be used now ({_first_line(error)})."


def _first_line(error: Exception) -> str:
    """Without the answer itself, which may repeat what it was asked, and without addresses."""
    line = str(error).partition("\n")[0].partition("<")[0]
    return line.rpartition(" - ")[2].strip(" :")[:SENTENCE_CHARACTERS_MAX] or type(error).__name__
