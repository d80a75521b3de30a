"""The reference publisher as a running program: its routes, and the loop that watches its folder.

It never stops serving because of what lies in the folder: a listing is replaced as a whole, and only by a listing that
could be read. The URL that its statements name is the one that it is told (`url`), or the address that it is bound to;
it is never taken from a request, whose Host header anybody may choose.
"""

import base64
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog
import trio
from quart import Response, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound

from pfn_node.archive import ArchiveRefused
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactMismatch, ArtifactMissing
from pfn_node.artifacts.response import artifact_response
from pfn_node.publisher.catalogue import Catalogue, Offer, describe
from pfn_node.publisher.challenges import is_strict_challenge, javascript_text
from pfn_node.publisher.notices import NoticeBook, check_current, finish_rotation, read_notices
from pfn_node.publisher.publication import (
    ASSET_FOLDER,
    ORIGINAL_CACHE_CONTROL,
    Profile,
    Publication,
    publish,
)
from pfn_node.publisher.signing import (
    NOTICES_FILE,
    PublisherError,
    PublisherKeys,
    ReleaseFacts,
    Signer,
    open_keys,
    open_or_make_keys,
)
from pfn_node.server import SafeQuart, bind, serve
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import public_key_pem
from pfn_protocol.names import check_username, parse_instance_url

__all__ = ["Profile", "Publisher", "PublisherError", "serve_publisher", "sign_zip"]

BODY_BYTES_MAX = 64 * 1024  # a challenge is 36 characters; the original is sent longer ones, to probe it
POLL_SECONDS = 1.0  # how often the folder is looked at ...
POLL_REST = 20  # ... but for this many times as long as looking took, it is left alone
RENEWAL_SECONDS = 24 * 3600  # a head is renewed long before it expires
_COPY_BYTES = 256 * 1024

log = structlog.get_logger()

Answer = tuple[str, int, dict[str, str]]


@dataclass(slots=True)
class Publisher:
    """One author, one folder, one profile. `open_at` comes before the first request."""

    catalogue: Catalogue
    artifacts: Artifacts
    keys: PublisherKeys
    data: Path
    author: str
    profile: Profile
    clock: Callable[[], float] = time.time
    origin: str = ""
    signer: Signer | None = None
    publication: Publication | None = None
    published_at: float = 0.0
    notices: NoticeBook = field(default_factory=NoticeBook)
    notices_print: tuple[int, int] | None = None  # of the file that they were read from

    async def open_at(self, origin: str) -> None:
        """Publish what lies in the folder, signed for this URL. Raises PublisherError for a URL no node would take."""
        try:
            self.origin = parse_instance_url(origin, allow_http=True)
            self._open_signer()
        except Refusal as refusal:
            raise PublisherError(f"The publisher's URL {origin!r} cannot be used: {refusal.sentence}.") from refusal
        await self.refresh()

    def _open_signer(self) -> None:
        """With the keys, and what was said about keys and releases, as they lie in the data folder now. Blocks."""
        finish_rotation(self.data)
        self.keys, self.notices = open_keys(self.data), read_notices(self.data)
        check_current(self.keys, self.notices, self.data)
        self.notices_print = _print_of(self.data / NOTICES_FILE)
        self.signer = Signer(self.keys, self.data, author=self.author, origin=self.origin, epoch=self.notices.epoch)

    async def refresh(self) -> None:
        """Look at the folder; sign and publish anew if it changed, or if the head grows old."""
        try:
            changed = await trio.to_thread.run_sync(self.catalogue.refresh)
        except OSError as error:
            log.warning("publisher_folder_unreadable", error=str(error))
            changed = False
        if _print_of(self.data / NOTICES_FILE) != self.notices_print:
            try:
                await trio.to_thread.run_sync(self._open_signer)
                changed = True
            except PublisherError as error:
                log.warning("publisher_notices_unreadable", error=str(error))
        now = self.clock()
        if self.publication is None or changed or now - self.published_at > RENEWAL_SECONDS:
            assert self.signer is not None, "open_at comes first"
            listing = self.catalogue.listing
            self.publication = await trio.to_thread.run_sync(
                publish, listing, self.signer, self.profile, int(now * 1000), self.notices.extras()
            )
            self.published_at = now
            log.info("published", plugins=len(listing.offers), skipped=len(listing.skipped), profile=self.profile.value)

    async def watch(self, shutdown: trio.Event) -> None:
        """Refresh again and again until `shutdown`."""
        took = 0.0
        while not shutdown.is_set():
            with trio.move_on_after(max(POLL_SECONDS, POLL_REST * took)):
                await shutdown.wait()
                return
            started = trio.current_time()
            await self.refresh()
            took = trio.current_time() - started

    def app(self) -> SafeQuart:
        """The routes."""
        app = SafeQuart(__name__)
        app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
        app.before_request(self._before)
        app.after_request(_allow_any_origin)
        app.register_error_handler(HTTPException, _problem)
        app.add_url_rule("/federation-info", view_func=self._federation_info)
        app.add_url_rule("/verify-ownership", view_func=self._verify_ownership, methods=["POST"])
        app.add_url_rule("/author-data", view_func=self._author_data)
        app.add_url_rule("/federated/plugin-data", view_func=self._plugin_data)
        app.add_url_rule("/federated/download", view_func=self._download)
        app.add_url_rule("/.well-known/pfn-publisher.json", view_func=self._well_known)
        app.add_url_rule(f"/{ASSET_FOLDER}/<author>/<slug>/<file>", "asset", self._asset)
        app.add_url_rule(f"/{ASSET_FOLDER}/<author>/<slug>/<version>/<file>", "versioned_asset", self._asset)
        return app

    async def _before(self) -> None:
        if self.profile is Profile.ORIGINAL and request.method == "HEAD":
            raise MethodNotAllowed

    @property
    def _said(self) -> Publication:
        assert self.publication is not None, "open_at comes first"
        return self.publication

    async def _federation_info(self) -> Answer:
        return _json(self._said.federation_info)

    async def _verify_ownership(self) -> Answer:
        try:
            asked = json.loads(await request.get_data(True, False, False))
        except (ValueError, RecursionError) as error:
            raise BadRequest("The body is not JSON; send {username, challenge}.") from error
        if self.profile is Profile.ORIGINAL:
            message = javascript_text(asked.get("challenge", "") if isinstance(asked, dict) else "")
        else:
            message = self._strict_challenge(asked)
        signature = base64.b64encode(self.keys.identity.sign(message)).decode()
        return _json(json.dumps({"signature": signature, "timestamp": int(self.clock() * 1000)}))

    def _strict_challenge(self, asked: object) -> bytes:
        """The bytes of a challenge that can be nothing else than a challenge."""
        if not isinstance(asked, dict) or not isinstance(asked.get("username"), str):
            raise BadRequest("Send a JSON object with username and challenge, both text.")
        if asked["username"] != self.author:
            raise NotFound("There is no such author here.")
        if not is_strict_challenge(asked.get("challenge")):
            raise BadRequest("The challenge must be a UUIDv4 in lower case; nothing else is signed here.")
        challenge: str = asked["challenge"]
        return challenge.encode()

    async def _author_data(self) -> Answer:
        self._check_author(_wanted("author")[0])
        text, status, headers = _json(self._said.author_data)
        if self.profile is Profile.ORIGINAL:
            return text, status, headers | {"Cache-Control": ORIGINAL_CACHE_CONTROL}
        etag = self._said.author_data_etag
        headers |= {"Cache-Control": "no-cache", "ETag": f'"{etag}"'}
        return ("", 304, headers) if request.if_none_match.contains_weak(etag) else (text, status, headers)

    async def _plugin_data(self) -> Answer:
        author, slug = _wanted("author", "slug")
        self._check_author(author)
        text = self._said.plugin_data.get(slug)
        if text is None:
            raise NotFound("There is no such plugin here.")
        return _json(text)

    async def _download(self) -> Response:
        original = self.profile is Profile.ORIGINAL
        author, slug = _wanted("author", "slug", "version")[:2] if original else _wanted("author", "slug")
        self._check_author(author)
        # The original sends the current zip, whatever version it is asked for.
        version = None if original else request.args.get("version")
        return await self._zip(self._find(slug, version))

    async def _asset(self, author: str, slug: str, file: str, version: str | None = None) -> Response | Answer:
        if self.profile is Profile.ORIGINAL:  # its assets lie on another host
            raise NotFound
        self._check_author(author)
        offer = self._find(slug, version)
        if file == f"{slug}.zip":
            return await self._zip(offer)
        signature = self._said.sha384_signatures.get((offer.slug, offer.version))
        if file != f"{slug}.zip.sig" or signature is None:
            raise NotFound("There is no such file here.")
        return signature, 200, {"Content-Type": "text/plain; charset=utf-8"}

    async def _well_known(self) -> Answer:
        if self._said.well_known is None:
            raise NotFound("This publisher signs no releases.")
        return _json(self._said.well_known)

    async def _zip(self, offer: Offer) -> Response:
        signature = self._said.sha384_signatures.get((offer.slug, offer.version))
        try:
            artifact = await trio.to_thread.run_sync(self.artifacts.open, offer.sha256)
        except (ArtifactMissing, ArtifactMismatch) as error:
            raise NotFound("This version was taken away a moment ago.") from error
        return await artifact_response(
            artifact,
            etag=offer.sha256.hex(),
            filename=f"{offer.slug}.{offer.version}.zip",
            headers={"X-Content-Signature": signature} if signature else {},  # where WordPress looks first
        )

    def _check_author(self, author: str) -> None:
        if author != self.author:
            raise NotFound("There is no such author here.")

    def _find(self, slug: str, version: str | None) -> Offer:
        offer = self._said.listing.find(slug, version)
        if offer is None:
            raise NotFound("There is no such plugin here, or not in this version.")
        return offer


async def serve_publisher(
    folder: Path,
    *,
    author: str,
    data: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    profile: Profile = Profile.V2,
    shutdown: trio.Event,
    url: str | None = None,
    ready: Callable[[str, int], None] = lambda host, port: None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the plugins in `folder` until `shutdown`. `ready` and the started value get the bound address.

    `url` is the publisher's public URL where it differs from the bound address. Raises PublisherError, ServerError.
    """
    if url is None and _is_wildcard(host):
        raise PublisherError(f"With the address {host} nodes cannot know where to come back to: give the URL too.")
    with _locked(data):
        publisher = await trio.to_thread.run_sync(_prepare, folder, author, data, profile)
        with bind(host, port) as listener:
            host, port = listener.host, listener.port
            await publisher.open_at(url or f"http://{f'[{host}]' if ':' in host else host}:{port}")
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, publisher.app(), listener=listener, shutdown=shutdown))
                ready(host, port)
                task_status.started((host, port))
                nursery.start_soon(publisher.watch, shutdown)


def _prepare(folder: Path, author: str, data: Path, profile: Profile) -> Publisher:
    """Keys, store and catalogue of a publisher that does not answer yet. Raises PublisherError. Blocks."""
    try:
        check_username(author)
    except Refusal as refusal:
        raise PublisherError(f"The author {author!r} cannot be used: {refusal.sentence}.") from refusal
    if not folder.is_dir():
        raise PublisherError(f"{folder} is not a folder; give one that holds plugin folders or zips.")
    keys = open_or_make_keys(data)
    artifacts = Artifacts(data / "artifacts", cache_bytes_max=0)
    artifacts.start()
    return Publisher(Catalogue(folder, artifacts), artifacts, keys, data, author, profile)


def sign_zip(zip_path: Path, *, author: str, origin: str, data: Path, now_ms: int | None = None) -> dict[str, Any]:
    """Sign one release offline; -> what `POST /federation/releases` of any node takes, and what else is signed.

    `origin` is the publisher's URL as nodes know it. Raises PublisherError. Blocks.
    """
    keys, book = open_or_make_keys(data), read_notices(data)
    check_current(keys, book, data)
    try:
        spelling = parse_instance_url(origin, allow_http=True)
        signer = Signer(keys, data, author=author, origin=spelling, epoch=book.epoch)
        digests = hashlib.sha256(), hashlib.sha384()
        with zip_path.open("rb") as file:
            while chunk := file.read(_COPY_BYTES):
                for digest in digests:
                    digest.update(chunk)
        offer = describe(zip_path, digests[0].digest(), digests[1].digest(), zip_path.stat().st_mtime_ns)
        facts = ReleaseFacts(
            offer.slug, offer.version, offer.name, offer.short_description, offer.sha256, offer.sha384, offer.size
        )
        (signed,) = signer.sign([facts], int(time.time() * 1000) if now_ms is None else now_ms)
    except (ArchiveRefused, Refusal) as refusal:
        raise PublisherError(f"{zip_path.name} cannot be signed: {refusal.sentence}") from refusal
    except OSError as error:
        raise PublisherError(f"{zip_path} cannot be read: {error.strerror}.") from error
    return {
        "slug": offer.slug,
        "version": offer.version,
        "sha256": offer.sha256.hex(),
        "size": offer.size,
        "release_v2": base64.b64encode(signed.release.raw).decode(),
        "keybind_v2": base64.b64encode(signer.keybind.raw).decode(),
        "signature": base64.b64encode(signed.metadata_signature).decode(),
        "signature_sha384": base64.b64encode(signed.sha384_signature).decode(),
        "public_key": public_key_pem(keys.identity.public),
    }


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One publisher per data folder: two would delete each other's zips."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PublisherError(f"The data folder {data} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PublisherError(f"Another publisher uses {data}; stop it, or give this one another folder.") from error
        yield
    finally:
        os.close(lock)


def _print_of(file: Path) -> tuple[int, int] | None:
    """What tells that a file has changed; None: there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _wanted(*names: str) -> list[str]:
    """These query parameters, all of them. Raises BadRequest."""
    values = [request.args.get(name, "") for name in names]
    if not all(values):
        raise BadRequest(f"Give the parameters {', '.join(names)}.")
    return values


def _json(text: str) -> Answer:
    return text, 200, {"Content-Type": "application/json"}


async def _problem(error: HTTPException) -> Answer:
    return json.dumps({"error": error.description}), error.code or 500, {"Content-Type": "application/json"}


async def _allow_any_origin(response: Response) -> Response:
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
