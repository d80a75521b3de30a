"""The publisher's two keys, and what they sign.

`publisher.key` is the identity: nodes know the author by it, and it answers challenges on a server that faces the
internet. `release.key` vouches for bytes, and could be kept somewhere else; the keybind, signed by both, says that it
speaks for the identity. Both are PKCS8 PEM files in the data folder, mode 0600, made in a new folder and never again.

`releases.json` beside them remembers which sequence number a release was signed with. The same bytes are always signed
with the same number, so that a restart says nothing new; other bytes under an old version get a greater one, and no
number is ever used twice, even if the clock goes back.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfn_node.data_folder import DataFolderError, write_secret
from pfn_protocol.encoding import Envelope
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import head_lifetime_seconds_max
from pfn_protocol.publisher import (
    HeadStatement,
    ReleaseStatement,
    metadata_message,
    sign_head,
    sign_keybind,
    sign_release,
    sign_sha384,
)
from pfn_protocol.set_digest import SetDigest

IDENTITY_FILE, RELEASE_FILE, LEDGER_FILE, LOCK_FILE = "publisher.key", "release.key", "releases.json", "releases.lock"
NOTICES_FILE = "notices.json"
HEAD_LIFETIME_SECONDS = head_lifetime_seconds_max // 2  # renewed daily, so a publisher may be away for six days
LEDGER_ENTRIES_MAX = 20_000  # the oldest are forgotten first; their versions would then be signed anew


class PublisherError(Exception):
    """The publisher cannot start or sign; `args[0]` says why, and what to do."""


@dataclass(frozen=True, slots=True)
class PublisherKeys:
    identity: PrivateKey
    release: PrivateKey


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What of a release is signed."""

    slug: str
    version: str
    name: str
    short_description: str
    sha256: bytes
    sha384: bytes
    size: int


@dataclass(frozen=True, slots=True)
class SignedRelease:
    release: Envelope
    metadata_signature: bytes  # the original's form: says nothing about the bytes
    sha384_signature: bytes  # the form of WordPress 6.1 and FAIR


def open_or_make_keys(data: Path) -> PublisherKeys:
    """The keys in the data folder; in one that was never used, those that are not there are made.

    A key that is gone from a folder with a past is an error: nodes know the publisher by the one that was there.
    Raises PublisherError.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (data / LEDGER_FILE).exists() and not (data / NOTICES_FILE).exists():
            # The identity is made first: without it, a release key is what is left of another publisher.
            if not (data / RELEASE_FILE).exists():
                _make_key(data / IDENTITY_FILE)
            _make_key(data / RELEASE_FILE)
        return open_keys(data)
    except OSError as error:
        raise PublisherError(f"The data folder {data} cannot be used: {error.strerror}.") from error


def open_keys(data: Path) -> PublisherKeys:
    """The keys in the data folder. Raises PublisherError if one is missing."""
    return PublisherKeys(open_key(data / IDENTITY_FILE), open_key(data / RELEASE_FILE))


def _make_key(file: Path) -> None:
    if not file.exists():
        try:
            write_secret(file, PrivateKey(secrets.token_bytes(32)).to_pem())
        except DataFolderError:
            pass  # another process made it a moment ago: its key is the key


def open_key(file: Path) -> PrivateKey:
    """The private key in a file. Raises PublisherError."""
    try:
        return PrivateKey.from_pem(file.read_text())
    except FileNotFoundError as error:
        raise PublisherError(
            f"{file} is missing. If {file.parent} is the right folder, put the key back; "
            "`pfn publisher serve` makes keys only in a new one."
        ) from error
    except OSError as error:
        raise PublisherError(f"{file} cannot be read: {error.strerror}.") from error
    except (Refusal, UnicodeDecodeError) as error:
        raise PublisherError(f"{file} holds no Ed25519 private key in PKCS8 PEM form; restore it.") from error


class Signer:
    """Signs as one author at one origin (the publisher's URL, as nodes know it). Raises Refusal for a bad origin.

    `epoch` is that of the last rotation of a key, 0 before the first.
    """

    def __init__(self, keys: PublisherKeys, data: Path, *, author: str, origin: str, epoch: int = 0) -> None:
        self.keys = keys
        self.author = author
        self.origin = origin
        self.keybind = sign_keybind(keys.identity, keys.release, origin)
        self._data = data
        self._epoch = epoch

    def sign(self, releases: Iterable[ReleaseFacts], now_ms: int) -> list[SignedRelease]:
        """Signs releases, each with its own sequence number; durable before it returns. Blocks."""
        with open_ledger(self._data) as ledger:
            return [self._sign(release, ledger, now_ms) for release in releases]

    def sign_head(self, releases: Iterable[SignedRelease], now_ms: int) -> Envelope:
        """All releases together, and until when that holds. Blocks."""
        digest = SetDigest(signed.release.id for signed in releases)
        with open_ledger(self._data) as ledger:
            seq = ledger.next(now_ms)
        expires_s = now_ms // 1000 + HEAD_LIFETIME_SECONDS
        return sign_head(self.keys.release, HeadStatement(digest.digest(), digest.count, seq, expires_s))

    def _sign(self, facts: ReleaseFacts, ledger: "Ledger", now_ms: int) -> SignedRelease:
        metadata = metadata_message(facts.slug, facts.name, facts.version, facts.short_description)
        metadata_sha256 = hashlib.sha256(metadata).digest()
        subject = json.dumps([self.origin, self.author, facts.slug, facts.version])
        statement = ReleaseStatement(
            self.origin,
            self.author,
            facts.slug,
            facts.version,
            facts.sha256,
            facts.size,
            self._epoch,
            ledger.seq(subject, (facts.sha256 + metadata_sha256).hex(), now_ms),
            metadata_sha256,
        )
        return SignedRelease(
            sign_release(self.keys.release, statement),
            self.keys.identity.sign(metadata),
            sign_sha384(self.keys.identity, facts.sha384),
        )


@dataclass(slots=True)
class Ledger:
    """Sequence numbers by subject, each with what was signed under it."""

    last: int = 0
    releases: dict[str, tuple[str, int]] = field(default_factory=dict)

    def next(self, now_ms: int) -> int:
        """A number that was never used."""
        self.last = max(self.last + 1, now_ms)
        return self.last

    def seq(self, subject: str, content: str, now_ms: int) -> int:
        """The number of this content, old or new."""
        known = self.releases.get(subject)
        if known is None or known[0] != content:
            known = self.releases[subject] = (content, self.next(now_ms))
        return known[1]


@contextmanager
def open_ledger(data: Path) -> Iterator[Ledger]:
    """The ledger, locked against other processes; written back, durably, if the block ends well and changed it."""
    lock = os.open(data / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = data / LEDGER_FILE
        before = file.read_text() if file.exists() else ""
        ledger = _parse_ledger(before, file)
        yield ledger
        if len(ledger.releases) > LEDGER_ENTRIES_MAX:
            newest = sorted(ledger.releases.items(), key=lambda item: -item[1][1])
            ledger.releases = dict(newest[:LEDGER_ENTRIES_MAX])
        after = json.dumps({"last": ledger.last, "releases": ledger.releases})
        if after != before:
            replace_file(file, after)
    finally:
        os.close(lock)


def _parse_ledger(text: str, file: Path) -> Ledger:
    if not text:
        return Ledger()
    try:
        parsed: dict[str, Any] = json.loads(text)
        releases = {str(subject): (str(content), int(seq)) for subject, (content, seq) in parsed["releases"].items()}
        return Ledger(int(parsed["last"]), releases)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublisherError(
            f"{file} is damaged; restore it, or remove it to have every release signed with a new sequence number."
        ) from error


def replace_file(file: Path, text: str) -> None:
    """Put a text in the place of a file's, durably, or leave the file as it was."""
    temporary = file.with_suffix(".new")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
