"""What this node asks a publisher, one method a question. Answers are typed and bounded (publisher_answers.py).

Everything goes through `Outbound`, which decides what may be dialled, and never follows a redirect for a question: an
answer counts for the origin that was asked. A zip may be redirected (to a CDN), since it is judged by its bytes.

A zip's address is the publisher's asset domain with its naming scheme filled in. The original publisher names a domain
there that serves only its author, so what is missing there is asked of the instance itself. That costs the publisher a
download out of five an hour, so it is done only where the first address gave no zip at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

from prometheus_client import Counter

from pfn_node.metrics import Metrics
from pfn_node.outbound import Busy, Outbound, OutboundError, Reply
from pfn_node.settings import Settings
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_answers import (
    AuthorData,
    FederationInfo,
    PluginData,
    parse_author_data,
    parse_federation_info,
    parse_plugin_data,
    parse_proof,
    parse_well_known,
)
from pfn_node.store.rows import Source
from pfn_node.zip_addresses import zip_addresses
from pfn_protocol.limits import evidence_text_bytes_max

INFO_BYTES_MAX: Final = 256 * 1024  # the original's has 1.3 KB, and grows with its recent activity only
PROOF_BYTES_MAX: Final = 16 * 1024
WELL_KNOWN: Final = "/.well-known/pfn-publisher.json"
AUTHOR_DATA_BYTES_MAX: Final = 4 * 2**20  # 500 plugins with the longest descriptions and all v2 envelopes: 3 MB
PLUGIN_DATA_BYTES_MAX: Final = evidence_text_bytes_max  # what is signed in it must fit among the kept texts
QUESTION_SECONDS_MAX: Final = 15.0  # a publisher that takes longer to say who it is counts as down
LIST_SECONDS_MAX: Final = 30.0
ETAG_CHARS_MAX: Final = 256
RETRY_AFTER_SECONDS_MAX: Final = 86400  # nobody may put us off for longer than a day
RETRY_AFTER_SECONDS_DEFAULT: Final = 3600  # what the original says when it limits downloads
ZIP_MAGIC: Final = b"PK\x03\x04"
_LATER: Final = (408, 429)


class ByteSink(Protocol):
    """Where a download goes. It gets the bytes of one zip, or of none."""

    def write(self, chunk: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A zip has arrived. `etag` is the publisher's own name for these bytes at `url`, if it gave one."""

    url: str
    etag: str | None


class NotModified(Exception):
    """The zip at `url` is still the one whose ETag was sent along; nothing was transferred."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class TransferFailed(PublisherFailed):
    """A zip began to arrive and was given up: too large, too slow, broken off. Another address would be no better."""


class _NotAZip(Exception):
    """What is being sent does not begin as a zip does; reading on would be a waste."""


class PublisherClient:
    """Asks publishers. Holds no state of its own; safe to share between tasks."""

    def __init__(self, outbound: Outbound, settings: Settings, metrics: Metrics | None = None) -> None:
        self._outbound = outbound
        self._fetched = (metrics or Metrics()).artifact_bytes.labels("publisher")
        self._settings = settings

    async def federation_info(self, instance_url: str) -> FederationInfo:
        """Where the publisher keeps its zips. Raises PublisherFailed."""
        return parse_federation_info(
            (await self._get(f"{instance_url}/federation-info", INFO_BYTES_MAX, "federation-info")).body
        )

    async def prove(self, instance_url: str, body: bytes) -> bytes | None:
        """Ask for a signature over the challenge in `body` (JSON); None if the answer holds no signature.

        Raises PublisherFailed if there was no answer, or one that says nothing of the challenge: that the publisher is
        in trouble, or was asked too often. To refuse a challenge is an answer.
        """
        reply = await self._fetch(
            "POST",
            f"{instance_url}/verify-ownership",
            bytes_max=PROOF_BYTES_MAX,
            seconds_max=QUESTION_SECONDS_MAX,
            headers={"Content-Type": "application/json"},
            content=body,
        )
        if _is_put_off(reply.status):
            raise PublisherFailed(f"verify-ownership answered HTTP {reply.status}", status=reply.status)
        return parse_proof(reply.body) if reply.status == 200 else None

    async def well_known(self, instance_url: str) -> bytes | None:
        """The keybind that the origin itself publishes, at the root of the host; None if it publishes none.

        Raises PublisherFailed if there was no answer, or one that says nothing of it.
        """
        parts = urlsplit(instance_url)
        url = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}"
        reply = await self._fetch("GET", url, bytes_max=PROOF_BYTES_MAX, seconds_max=QUESTION_SECONDS_MAX)
        if _is_put_off(reply.status):
            raise PublisherFailed(f"{WELL_KNOWN} answered HTTP {reply.status}", status=reply.status)
        return parse_well_known(reply.body) if reply.status == 200 else None

    async def author_data(self, instance_url: str, username: str, *, etag: str | None = None) -> AuthorData | None:
        """What the author offers; None if that is unchanged since the answer with `etag`. Raises PublisherFailed."""
        url = f"{instance_url}/author-data?author={quote(username, safe='')}"
        reply = await self._fetch(
            "GET", url, bytes_max=AUTHOR_DATA_BYTES_MAX, seconds_max=LIST_SECONDS_MAX, headers=_unless(etag)
        )
        if reply.status == 304 and etag:
            return None
        _require_ok(reply, "author-data")
        return parse_author_data(reply.body, plugins_max=self._settings.source_plugins_max, etag=_etag(reply))

    async def plugin_data(self, instance_url: str, username: str, slug: str) -> PluginData | None:
        """The signed description of a plugin; None if the publisher does not speak of it. Raises PublisherFailed."""
        url = f"{instance_url}/federated/plugin-data?author={quote(username, safe='')}&slug={quote(slug, safe='')}"
        reply = await self._fetch("GET", url, bytes_max=PLUGIN_DATA_BYTES_MAX, seconds_max=QUESTION_SECONDS_MAX)
        if reply.status in (404, 405, 410, 501):
            return None
        _require_ok(reply, "federated/plugin-data")
        return parse_plugin_data(reply.body)

    async def download(
        self, source: Source, slug: str, version: str, sink: ByteSink, *, known: Callable[[str], str | None]
    ) -> Downloaded:
        """Stream the zip of a release into `sink`, from the asset domain or else from the instance.

        `known(url)` gives the ETag of bytes at that address that were judged already. Raises NotModified if they are
        still there, PublisherFailed if no address gives a zip.
        """
        failures: list[PublisherFailed] = []
        for url in zip_addresses(source, slug, version):
            try:
                return await self.download_from(url, sink, etag=known(url))
            except TransferFailed:
                raise
            except PublisherFailed as failure:
                failures.append(failure)
        limited = next((failure for failure in failures if failure.retry_after is not None), None)
        raise limited or failures[-1]

    async def download_from(self, url: str, sink: ByteSink, *, etag: str | None = None) -> Downloaded:
        """Stream the zip at one address into `sink`, which receives nothing of what is no zip.

        Raises NotModified (only if an `etag` was given) or PublisherFailed.
        """
        zip_only = _ZipOnly(sink, self._fetched)
        try:
            reply = await self._outbound.download(
                url,
                zip_only.receive,
                headers=_unless(etag),
                bytes_max=self._settings.artifact_bytes_max,
                seconds_max=self._settings.artifact_seconds_max,
                bytes_per_second_min=self._settings.transfer_bytes_per_second_min,
            )
        except OutboundError as error:
            failed = TransferFailed if zip_only.began else PublisherFailed
            ours = isinstance(error, Busy)
            raise failed(f"the zip could not be fetched: {error.sentence}", answered=False, ours=ours) from error
        except _NotAZip:
            raise PublisherFailed(f"what {url} serves is not a zip") from None
        if reply.status == 304 and etag:
            raise NotModified(url)
        _require_ok(reply, "zip")
        if not zip_only.began:
            raise PublisherFailed(f"what {url} serves is not a zip")
        return Downloaded(url, _etag(reply))

    async def _get(self, url: str, bytes_max: int, what: str) -> Reply:
        reply = await self._fetch("GET", url, bytes_max=bytes_max, seconds_max=QUESTION_SECONDS_MAX)
        _require_ok(reply, what)
        return reply

    async def _fetch(
        self,
        method: str,
        url: str,
        *,
        bytes_max: int,
        seconds_max: float,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> Reply:
        try:
            return await self._outbound.fetch(
                method, url, headers=headers, content=content, bytes_max=bytes_max, seconds_max=seconds_max
            )
        except OutboundError as error:
            ours = isinstance(error, Busy)
            raise PublisherFailed(f"no answer to {_path(url)}: {error.sentence}", answered=False, ours=ours) from error


class _ZipOnly:
    """Passes a zip on, and raises _NotAZip before the first byte of anything else is passed."""

    def __init__(self, sink: ByteSink, fetched: Counter) -> None:
        self._sink = sink
        self._fetched = fetched
        self._head = b""
        self.began = False

    def receive(self, chunk: bytes) -> None:
        self._fetched.inc(len(chunk))
        if not self.began:
            self._head += chunk
            if not self._head.startswith(ZIP_MAGIC[: len(self._head)]):
                raise _NotAZip
            if len(self._head) < len(ZIP_MAGIC):
                return
            self.began, chunk = True, self._head
        self._sink.write(chunk)


def _path(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2].partition("?")[0]


def _require_ok(reply: Reply, what: str) -> None:
    """Raises PublisherFailed unless the status is 200."""
    if reply.status == 200:
        return
    if reply.status == 429:
        seconds = _retry_after(reply)
        raise PublisherFailed(
            f"the publisher limits how often its {what} may be asked for; it says to wait {seconds} s",
            status=429,
            retry_after=seconds,
        )
    raise PublisherFailed(f"the publisher's {what} answered HTTP {reply.status}", status=reply.status)


def _retry_after(reply: Reply) -> int:
    given = reply.headers.get("retry-after", "")
    if given.isascii() and given.isdigit() and len(given) < 10:
        return min(int(given), RETRY_AFTER_SECONDS_MAX)
    return RETRY_AFTER_SECONDS_DEFAULT


def _is_put_off(status: int) -> bool:
    """Whether the publisher is in trouble, or was asked too often: what is asked is answered another time."""
    return status >= 500 or status in _LATER


def _unless(etag: str | None) -> dict[str, str]:
    """Asks for what is not the same any more. What is not ASCII cannot be said back."""
    return {"If-None-Match": etag} if etag and etag.isascii() else {}


def _etag(reply: Reply) -> str | None:
    etag = reply.headers.get("etag", "")
    return etag if 0 < len(etag) <= ETAG_CHARS_MAX and etag.isprintable() else None
