"""What a publisher offers: every plugin and theme in one folder, in every version that lies there.

An entry of the folder is a plugin's own folder (zipped here, deterministically), a finished zip (served as it is), or
a single `*.php` file with a plugin header, as WordPress still allows (zipped in a folder named after the plugin, as
WordPress.org does). Several versions of one plugin may lie side by side, `name-1.0/`, `name-1.1.zip`; the version in
the header counts, not the one in the name.

Each entry passes the same gate as on a node, so a publisher never offers what nodes would refuse: a bad one is left
out with a sentence, and the rest is served. Bytes are copied into a store by digest before they are offered, so what
is signed is what is sent, whatever happens in the folder meanwhile. An entry is read again only when the names, sizes
or times of its files changed, and were the same at two looks: what is being copied into the folder is not half signed,
since another zip under the same version would count against the publisher for ever. Until then the entry stays what it
was. What lies there at the first look is taken as finished.

Everything here blocks; only one thread at a time may call `refresh`.
"""

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

import structlog

from pfn_node.archive import ArchiveFacts, ArchiveRefused, inspect
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.plugin_headers import HEADER_BYTES_READ, PLUGIN_LABELS, MainFile, read_headers
from pfn_node.publisher.packing import PackedFile, Unpackable, list_files, pack
from pfn_node.publisher.readme import README_BYTES_READ, Readme, parse_readme, split_tags
from pfn_protocol import versions
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import description_chars_max, name_chars_max, tag_chars_max
from pfn_protocol.names import check_slug, check_version

ENTRIES_MAX = 2_000  # of the folder; nodes take at most 500 plugins of one author
ZIP_BYTES_MAX = 100 * 2**20  # what nodes mirror by default
_COPY_BYTES = 256 * 1024

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of one plugin or theme, ready to be served."""

    slug: str
    version: str
    type: Literal["plugin", "theme"]
    name: str
    short_description: str
    tags: tuple[str, ...]
    headers: dict[str, str]  # of the main file, by WordPress' labels
    readme: Readme
    sha256: bytes
    sha384: bytes
    size: int
    changed_at: int  # newest file of it, seconds since 1970


@dataclass(frozen=True, slots=True)
class Listing:
    """All offers of one moment; never changed, only replaced."""

    offers: dict[str, tuple[Offer, ...]]  # by slug, in the order of slugs; newest version first
    skipped: dict[str, str]  # entry of the folder -> why it is not offered

    def current(self) -> tuple[Offer, ...]:
        """The newest version of each."""
        return tuple(offers[0] for offers in self.offers.values())

    def find(self, slug: str, version: str | None = None) -> Offer | None:
        """That version, or the newest."""
        offers = self.offers.get(slug, ())
        return next((offer for offer in offers if version in (None, offer.version)), None)


class _Skipped(Exception):
    """This entry is not offered; `args[0]` is a sentence."""


# What tells that an entry changed: the names, sizes and times of its files, or why they cannot be listed.
Print: TypeAlias = tuple[tuple[str, int, int], ...] | str
# With it what is offered, or why nothing is.
Found: TypeAlias = tuple[Print, Offer | str]


class Catalogue:
    """The folder as a Listing, kept up to date by `refresh`."""

    def __init__(self, folder: Path, artifacts: Artifacts) -> None:
        self._folder = folder
        self._artifacts = artifacts
        self._known: dict[str, Found] = {}
        self._changing: dict[str, Print] = {}  # entries that had just changed at the last look
        self._has_looked = False
        self.listing = Listing({}, {})

    def refresh(self) -> bool:
        """Looks at the folder again; -> whether the listing changed. Raises OSError if the folder cannot be read."""
        entries = sorted(path for path in self._folder.iterdir() if not _is_ignored(path.name))
        if len(entries) > ENTRIES_MAX:
            log.warning("publisher_folder_too_large", folder=str(self._folder), entries=len(entries), read=ENTRIES_MAX)
        shown = {os.fsencode(path.name).decode("utf-8", "replace"): path for path in entries[:ENTRIES_MAX]}
        before, self._changing = self._changing, {}
        looked = {name: self._look_at(name, path, before.get(name)) for name, path in shown.items()}
        self._has_looked = True
        self._known = {name: found for name, found in looked.items() if found is not None}
        listing = _list((name, result) for name, (_, result) in self._known.items())
        if changed := listing != self.listing:
            self._tell(listing)
            self.listing = listing
        wanted = {result.sha256 for _, result in self._known.values() if isinstance(result, Offer)}
        for sha256 in self._artifacts.digests():
            if sha256 not in wanted:
                self._artifacts.delete(sha256)
        return changed

    def _tell(self, listing: Listing) -> None:
        """Logs what is newly left out."""
        for name, sentence in listing.skipped.items():
            if self.listing.skipped.get(name) != sentence:
                log.warning("publisher_entry_skipped", entry=name, reason=sentence)

    def _look_at(self, name: str, path: Path, before: Print | None) -> Found | None:
        """One entry, from memory if nothing about it changed; None: it is new, and changing.

        `before`: what it had just changed to at the last look.
        """
        known = self._known.get(name)
        files, current = _listed(path)
        if known is not None and known[0] == current:
            return known
        if self._has_looked and before != current:
            return self._wait_for(name, current, before)
        found = self._judged(name, path, files, current)
        _, after = _listed(path)
        return found if after == current else self._wait_for(name, after, before)

    def _wait_for(self, name: str, current: Print, before: Print | None) -> Found | None:
        """An entry that changes stays what it was, until it is found the same again."""
        if before is None:
            log.info("publisher_entry_changes", entry=name)
        self._changing[name] = current
        return self._known.get(name)

    def _judged(self, name: str, path: Path, files: tuple[PackedFile, ...], current: Print) -> Found:
        if isinstance(current, str):
            return current, current
        try:
            return current, self._offer(path, files)
        except (_Skipped, ArchiveRefused, Refusal) as refusal:
            return current, getattr(refusal, "sentence", str(refusal))
        except OSError as error:
            self._changing[name] = current  # tried again at the next look: the disk may have room by then
            return _why(error), _why(error)

    def _offer(self, path: Path, files: tuple[PackedFile, ...]) -> Offer:
        """Makes the zip if need be, stores it, and reads it back through the gate."""
        with tempfile.TemporaryFile() as made:
            if not files:
                raise _Skipped("the folder is empty.")
            if path.is_dir() or path.suffix != ".zip":
                top, files = _top_folder(path, files)
                pack(files, top, made)
                made.seek(0)
                return self._store(made, max(file.changed_ns for file in files))
        with path.open("rb") as given:
            return self._store(given, files[0].changed_ns)

    def _store(self, source: IO[bytes], changed_ns: int) -> Offer:
        sha384 = hashlib.sha384()
        with self._artifacts.writer() as writer:
            while chunk := source.read(_COPY_BYTES):
                if writer.size + len(chunk) > ZIP_BYTES_MAX:
                    raise _Skipped(f"its zip is larger than {ZIP_BYTES_MAX // 2**20} MiB, which no node would mirror.")
                writer.write(chunk)
                sha384.update(chunk)
            offer = describe(writer.path, writer.digest(), sha384.digest(), changed_ns)
            writer.keep()
            return offer


def describe(path: Path, sha256: bytes, sha384: bytes, changed_ns: int) -> Offer:
    """A zip file as an offer. Raises ArchiveRefused, Refusal (slug, version, name), OSError. Blocks."""
    facts = inspect(path)
    readme = _read_readme(path, facts)
    slug = _slug(facts.folder, facts.version)
    check_slug(slug)
    check_version(facts.version)
    if len(facts.name) > name_chars_max:
        raise ArchiveRefused("name", f"The name in its header has more than {name_chars_max} characters.")
    return Offer(
        slug,
        facts.version,
        facts.type,
        facts.name,
        (readme.short_description or facts.headers.get("Description", ""))[:description_chars_max],
        tuple(tag for tag in _tags(facts, readme) if len(tag) <= tag_chars_max),
        facts.headers,
        readme,
        sha256,
        sha384,
        path.stat().st_size,
        changed_ns // 10**9,
    )


def _is_ignored(name: str) -> bool:
    """Hidden files, and the empty index.php that WordPress puts into every folder."""
    return name.startswith(".") or name == "index.php"


def _list(results: Iterable[tuple[str, Offer | str]]) -> Listing:
    """Groups offers by slug; of one version the first entry counts."""
    offers: dict[str, dict[str, Offer]] = {}
    skipped: dict[str, str] = {}
    for entry, result in results:
        if isinstance(result, str):
            skipped[entry] = result
        elif result.version in (known := offers.setdefault(result.slug, {})):
            skipped[entry] = f"{result.slug} {result.version} lies in the folder twice; change the version of one."
        else:
            known[result.version] = result
    return Listing(
        {
            slug: tuple(sorted(known.values(), key=lambda offer: versions.sort_key(offer.version), reverse=True))
            for slug, known in sorted(offers.items())
        },
        skipped,
    )


def _files_of(path: Path) -> tuple[PackedFile, ...]:
    """The files of an entry; the entry itself may be a link (the operator put it there)."""
    if path.is_dir():
        return list_files(path)
    status = path.stat()
    return (PackedFile(path.name, path, status.st_size, status.st_mtime_ns),)


def _listed(path: Path) -> tuple[tuple[PackedFile, ...], Print]:
    """The files of an entry, and what tells that it changed."""
    try:
        files = _files_of(path)
    except (Unpackable, OSError) as error:
        return (), _why(error)
    return files, tuple((file.name, file.size, file.changed_ns) for file in files)


def _why(error: Unpackable | OSError) -> str:
    return f"it cannot be read or stored: {error.strerror}" if isinstance(error, OSError) else str(error)


def _top_folder(path: Path, files: tuple[PackedFile, ...]) -> tuple[str, tuple[PackedFile, ...]]:
    """The name of the top folder in the zip to be made: the plugin's slug, without a version."""
    if not path.is_dir():
        headers = read_headers(_head(path), PLUGIN_LABELS) if path.suffix == ".php" else {}
        if not headers.get("Plugin Name"):
            raise _Skipped("it is neither a plugin folder, nor a zip, nor a PHP file with a 'Plugin Name:' header.")
        return _dashed(headers.get("Text Domain") or headers["Plugin Name"]), files
    main = MainFile(path.name)
    for file in files:
        if "/" not in file.name and file.name.endswith((".php", "style.css")):
            main.consider(f"{path.name}/{file.name}", _head(file.path))
    return _slug(path.name, main.found()[1].get("Version", "")), files


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES_READ)


def _slug(folder: str, version: str) -> str:
    """`reading-time-1.2.0` of version 1.2.0 is the plugin `reading-time`."""
    slug = folder.lower()
    for suffix in (f"-{version}", f"-v{version}", f".{version}"):
        slug = slug.removesuffix(suffix.lower()) if version else slug
    return slug


def _dashed(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _tags(facts: ArchiveFacts, readme: Readme) -> tuple[str, ...]:
    """A theme names its tags in style.css, a plugin in readme.txt."""
    return readme.tags or split_tags(facts.headers.get("Tags", ""))


def _read_readme(path: Path, facts: ArchiveFacts) -> Readme:
    """The readme.txt in a zip that has passed the gate, so its names and sizes can be believed."""
    wanted = f"{facts.folder}/readme.txt".lower()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.lower() == wanted:
                with archive.open(name) as file:
                    return parse_readme(file.read(README_BYTES_READ))
    return Readme()
