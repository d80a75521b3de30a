"""The node's folder: its key, its lock, and where the database and the artifacts lie.

One process at a time: two nodes with one key would contradict each other in front of the whole mesh, so the folder is
locked before anything in it is read.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pfn_node.durable_files import flush_folder
from pfn_node.settings import Settings
from pfn_protocol.announcements import KeyStatement, SuccessionStatement, SuccessorStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.succession import commit_to, sign_succession

KEY_FILE = "node.key"
DATABASE_FILE = "node.db"
NEXT_KEY_FILE = "node-next.key"  # committed to, and secret until it takes over (R45)
FORMER_KEY_FILE = "node-former.key"
SUCCESSION_FILE = "node-succession.json"
LOCK_FILE = "lock"
# As `write_secret` names what has not got its name yet.
_UNFINISHED = re.compile(rf"({'|'.join(map(re.escape, (KEY_FILE, NEXT_KEY_FILE, SUCCESSION_FILE)))})\.[0-9a-f]{{8}}")


class DataFolderError(Exception):
    """The folder cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A locked data folder and the key that lives in it."""

    path: Path
    key: PrivateKey
    succession: SuccessionStatement | None = None  # what the key before this one signed for it
    successor: SuccessorStatement | None = None  # which key is to follow this one

    @property
    def key_statements(self) -> tuple[KeyStatement, ...]:
        """What this node says about its own keys at every start."""
        return tuple(one for one in (self.succession, self.successor) if one is not None)

    @property
    def database(self) -> Path:
        return self.path / DATABASE_FILE

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a data folder, if no node does: whether it is held now. Raises DataFolderError."""
    try:
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataFolderError(f"cannot write to the data folder {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except BlockingIOError:
        held = False
    try:
        yield held
    finally:
        os.close(lock)


@contextmanager
def open_data_folder(settings: Settings) -> Iterator[DataFolder]:
    """Make the folder and its key at the first start; hold its lock until the block ends.

    Raises DataFolderError if another process holds it, if the key cannot be read, or if the folder cannot be written.
    """
    path = settings.data
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataFolderError(f"cannot write to the data folder {path}: {error.strerror}") from error
    with hold_lock(path) as is_held:
        if not is_held:
            raise DataFolderError(
                f"another process uses the data folder {path}; stop it, or give this one another --data"
            )
        pem = settings.private_key.get_secret_value() if settings.private_key else None
        _remove_unfinished(path)
        _finish_succession(path)
        key = load_or_make_key(path, pem)
        _refuse_former(path, key)
        following = next_key(path)
        successor = None if following is None else commit_to(following.public)
        yield DataFolder(path, key, _succession_to(path, key), successor)


def load_or_make_key(path: Path, pem: str | None = None) -> PrivateKey:
    """The key in the folder; at the first start a new one, or the one given as PKCS8 PEM.

    A given key that differs from the one in the folder is an error: a node never changes its name by accident.
    """
    given = _parse(pem, "PFN_PRIVATE_KEY") if pem else None
    file = path / KEY_FILE
    if file.exists():
        key = _parse(_read(file), str(file))
        if given is not None and given.public != key.public:
            raise DataFolderError(
                f"PFN_PRIVATE_KEY is not the key in {file}; unset it, or use a new --data folder for the other node"
            )
        return key
    if (path / NEXT_KEY_FILE).exists():
        raise DataFolderError(f"{file} is missing beside {NEXT_KEY_FILE}; if a succession was cut off, start the node")
    key = given or PrivateKey(secrets.token_bytes(32))
    write_secret(file, key.to_pem())
    return key


def next_key(path: Path) -> PrivateKey | None:
    """The key that is to follow the one in the folder, if there is one."""
    file = path / NEXT_KEY_FILE
    return _parse(_read(file), str(file)) if file.exists() else None


def make_next_key(path: Path) -> PrivateKey:
    """Make the key that is to follow; raises DataFolderError if there is one already."""
    key = PrivateKey(secrets.token_bytes(32))
    write_secret(path / NEXT_KEY_FILE, key.to_pem())
    return key


def succeed(folder: DataFolder, mesh: str) -> PrivateKey:
    """Have the key in a locked folder sign for the next one, put that in its place, and return it.

    What is cut off here is finished when the folder is opened the next time. Raises DataFolderError without a next key.
    """
    key = next_key(folder.path)
    if key is None:
        raise DataFolderError(f"there is no {NEXT_KEY_FILE} in {folder.path}; put back the one that was committed to")
    signed = sign_succession(folder.key, key.public, mesh)
    facts = {"old": signed.old_key.hex(), "new": key.public.hex(), "signature": signed.old_signature.hex()}
    (folder.path / SUCCESSION_FILE).unlink(missing_ok=True)  # of the succession before this one, which is over
    write_secret(folder.path / SUCCESSION_FILE, json.dumps(facts))
    _finish_succession(folder.path)
    return key


def _finish_succession(path: Path) -> None:
    """Put the key that was signed for in its place, from wherever that was cut off."""
    facts, key = _read_succession(path), next_key(path)
    if facts is None or key is None or facts["new"] != key.public.hex():
        return
    flush_folder(path)  # the signature is on the disk before the key that made it is put aside
    if (path / KEY_FILE).exists():
        os.replace(path / KEY_FILE, path / FORMER_KEY_FILE)
    os.replace(path / NEXT_KEY_FILE, path / KEY_FILE)
    flush_folder(path)


def _refuse_former(path: Path, key: PrivateKey) -> None:
    """An old backup of the key brings a name back that the mesh has passed on: nobody pins it, and nobody links it."""
    facts = _read_succession(path)
    if facts is not None and facts["old"] == key.public.hex():
        raise DataFolderError(
            f"{path / KEY_FILE} is the key that {did_key(bytes.fromhex(facts['new']))} has followed; put that one back "
            f"(or, if nobody was ever told of it, take {SUCCESSION_FILE} away)"
        )


def _succession_to(path: Path, key: PrivateKey) -> SuccessionStatement | None:
    facts = _read_succession(path)
    if facts is None or facts["new"] != key.public.hex():
        return None
    return SuccessionStatement(bytes.fromhex(facts["old"]), bytes.fromhex(facts["signature"]))


def _read_succession(path: Path) -> dict[str, str] | None:
    file = path / SUCCESSION_FILE
    if not file.exists():
        return None
    try:
        facts = json.loads(file.read_text())
        return {name: bytes.fromhex(facts[name]).hex() for name in ("old", "new", "signature")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(f"{file} cannot be read; restore it from a backup, or take it away") from error


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
        flush_folder(file.parent)  # a key that a power cut takes away is a node with another name
    except FileExistsError as error:
        raise DataFolderError(f"{file} exists already; it is not overwritten") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_unfinished(path: Path) -> None:
    """Copies of secrets that a power cut, or the disk itself, kept us from removing."""
    with suppress(OSError):  # then the next start tries again
        for file in path.iterdir():
            if _UNFINISHED.fullmatch(file.name):
                file.unlink()


def _read(file: Path) -> str:
    return file.read_text(errors="replace")  # what is no text is no key either, and is said to be none


def _parse(pem: str, origin: str) -> PrivateKey:
    try:
        return PrivateKey.from_pem(pem)
    except Refusal as refusal:
        raise DataFolderError(
            f"{origin} holds no Ed25519 private key in PKCS8 PEM form: {refusal.sentence}"
        ) from refusal
