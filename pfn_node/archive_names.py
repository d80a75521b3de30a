"""File names inside a zip: harmless wherever they are unpacked, and one file for each name."""

import unicodedata
from collections.abc import Iterable
from typing import Final

from pfn_node.archive_errors import ArchiveRefused

NAME_BYTES_MAX: Final = 1024  # longer than any path that WordPress could unpack
NAME_DEPTH_MAX: Final = 24  # vendor folders in vendor folders come to half of it
FOLDERS_MAX: Final = 20_000  # twice as many as files

# Control and format characters (bidi overrides among them), surrogates, separators: they make a name look like another.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# Windows opens a device under these names, in every folder and with any ending.
_DEVICES: Final = frozenset(
    (
        "con",
        "prn",
        "aux",
        "nul",
        *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"),
    )
)


def decode_name(raw: bytes) -> str:
    """The name of an entry; many tools write UTF-8 without saying so. Raises ArchiveRefused."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArchiveRefused("name", f"A file name is not UTF-8: {raw[:80]!r}.") from error


def check_name(raw: bytes) -> str:
    """The name of an entry that leads, and looks, nowhere else on any system. Raises ArchiveRefused."""
    name = decode_name(raw)
    parts = name.removesuffix("/").split("/")
    if (
        len(raw) > NAME_BYTES_MAX
        or len(parts) > NAME_DEPTH_MAX
        or "\\" in name
        or ":" in name
        or any(unicodedata.category(character) in _UNSEEN for character in set(name))
        or name.rstrip("0123456789").endswith(";")  # unzip takes "x.php;1" for a version of x.php, as VMS wrote them
        or any(not part.strip(". ") for part in parts)  # "", ".", "..", and what Windows takes for them
        or any(part.partition(".")[0].rstrip().lower() in _DEVICES for part in parts)
    ):
        raise ArchiveRefused("name", f"The file name {name[:80]!r} is not allowed in a plugin zip.")
    return name


def check_names(names: Iterable[bytes]) -> str:
    """No two names that any file system would take for one; -> the one top folder (macOS' own beside it is ignored).

    What is remembered of a name is its hash: ten thousand long names would take tens of megabytes. Two names with one
    hash would be refused without need, once in a hundred billion zips of that size.
    """
    files: set[int] = set()
    listed: set[int] = set()  # folders that have an entry of their own
    folders: set[int] = set()
    top = ""
    for raw in names:
        name = decode_name(raw)
        key = _key(name)
        known = listed if key.endswith("/") else files
        if (mark := hash(key.removesuffix("/"))) in known:
            raise ArchiveRefused("duplicate", f"The file name {name!r} occurs twice (capitals do not count).")
        known.add(mark)
        _add_folders(folders, key)
        first, slash, _ = name.partition("/")
        if first != "__MACOSX" or not slash:
            if not slash or top not in ("", first):
                raise ArchiveRefused("layout", "All files must lie in one top folder that is named after the plugin.")
            top = first
    if not files.isdisjoint(folders):
        raise ArchiveRefused("duplicate", "One name is used for a file as well as for a folder.")
    if not top:
        raise ArchiveRefused("layout", "The zip holds nothing but what macOS adds.")
    return top


def _add_folders(folders: set[int], key: str) -> None:
    """The folders that a name lies in, and, for a folder, itself; those above a known one are known."""
    at = key.rfind("/")
    while at > 0 and (mark := hash(key[:at])) not in folders:
        folders.add(mark)
        if len(folders) > FOLDERS_MAX:
            raise ArchiveRefused("entries", f"The zip has more than {FOLDERS_MAX} folders.")
        at = key.rfind("/", 0, at)


def _key(name: str) -> str:
    """What file systems compare, all of them together: capitals, composition, and dots and spaces at an end are one."""
    if name.isascii():
        folded = name.lower()
    else:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    if "./" in folded or " /" in folded or folded.endswith((".", " ")):
        return "/".join(part.rstrip(". ") for part in folded.split("/"))
    return folded
