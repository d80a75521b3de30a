"""The node's folder: its key, its lock, and where the database and the artifacts lie.

One process at a time: two nodes with one key would contradict each other in front of the whole mesh, so the folder is
locked before anything in it is read.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pfn_node.settings import Settings
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey

KEY_FILE = "node.key"
LOCK_FILE = "lock"


class DataFolderError(Exception):
    """The folder cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A locked data folder and the key that lives in it."""

    path: Path
    key: PrivateKey

    @property
    def database(self) -> Path:
        return self.path / "node.db"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"


@contextmanager
def open_data_folder(settings: Settings) -> Iterator[DataFolder]:
    """Make the folder and its key at the first start; hold its lock until the block ends.

    Raises DataFolderError if another process holds it, if the key cannot be read, or if the folder cannot be written.
    """
    path = settings.data
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataFolderError(f"cannot write to the data folder {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderError(
                f"another process uses the data folder {path}; stop it, or give this one another --data"
            ) from error
        pem = settings.private_key.get_secret_value() if settings.private_key else None
        yield DataFolder(path, load_or_make_key(path, pem))
    finally:
        os.close(lock)


def load_or_make_key(path: Path, pem: str | None = None) -> PrivateKey:
    """The key in the folder; at the first start a new one, or the one given as PKCS8 PEM.

    A given key that differs from the one in the folder is an error: a node never changes its name by accident.
    """
    given = _parse(pem, "PFN_PRIVATE_KEY") if pem else None
    file = path / KEY_FILE
    if file.exists():
        key = _parse(file.read_text(), str(file))
        if given is not None and given.public != key.public:
            raise DataFolderError(
                f"PFN_PRIVATE_KEY is not the key in {file}; unset it, or use a new --data folder for the other node"
            )
        return key
    key = given or PrivateKey(secrets.token_bytes(32))
    write_secret(file, key.to_pem())
    return key


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read, durably, and never over an existing one."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, file)
    except FileExistsError as error:
        raise DataFolderError(f"{file} exists already; it is not overwritten") from error
    finally:
        temporary.unlink(missing_ok=True)


def _parse(pem: str, origin: str) -> PrivateKey:
    try:
        return PrivateKey.from_pem(pem)
    except Refusal as refusal:
        raise DataFolderError(
            f"{origin} holds no Ed25519 private key in PKCS8 PEM form: {refusal.sentence}"
        ) from refusal
