"""Extra fields of zip entries: what readers take from them must not change what an entry is.

Most are times and owners, which matter to nobody here. But some readers find a second name in them, larger numbers, or
that the entry is a link (APPNOTE.TXT 4.5 and 4.6; Info-ZIP's `proginfo/extrafld.txt`; libarchive's `zip` format).
"""

import stat
import struct
from typing import Final

from pfn_node.archive_errors import ArchiveRefused

FIELDS_MAX: Final = 32  # of one header; tools write up to five, and one header has room for 16,000

_MASKED: Final = 0xFFFFFFFF  # "see the zip64 field"
_ZIP64, _AES = 0x0001, 0x9901
_UNICODE_PATH: Final = 0x7075  # Info-ZIP
_ASI_UNIX: Final = 0x756E  # Ant writes it; Info-ZIP's unzip believes its mode where the directory gives none
_LIBARCHIVE: Final = 0x6C78  # bsdtar writes it before the data, where the directory is not at hand yet
_MODE_UNKNOWN: Final = 0o170000  # no kind of file: Maven writes it for folders, whose slash tells what they are


def check_extra(extra: bytes, name: str) -> bytes | None:
    """The zip64 field of an extra block, if any. What would change an entry's name or meaning is refused."""
    zip64, at, fields = None, 0, 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        value = extra[at + 4 : at + 4 + size]
        at += 4 + size
        fields += 1
        if fields > FIELDS_MAX:
            raise ArchiveRefused("extra", f"{name!r} has more than {FIELDS_MAX} extra fields.")
        if kind == _AES:
            raise ArchiveRefused("encrypted", f"{name!r} is encrypted; send a zip without a password.")
        if kind == _UNICODE_PATH and value[5:] != name.encode():
            raise ArchiveRefused("name", f"{name!r} has a second name, so readers would disagree about it.")
        if kind in (_ASI_UNIX, _LIBARCHIVE):
            check_mode(_asi_mode(value) if kind == _ASI_UNIX else _libarchive_mode(value), name)
        if kind == _ZIP64:
            if zip64 is not None:
                raise ArchiveRefused("zip64", f"{name!r} has two zip64 fields.")
            zip64 = value
    if at > len(extra):
        raise ArchiveRefused("extra", f"An extra field of {name!r} is cut off.")
    return zip64


def check_mode(mode: int, name: str) -> None:
    """A mode of Unix, which says nothing, or that the entry is the plain file or folder that its name says it is."""
    kinds = (0, stat.S_IFDIR, _MODE_UNKNOWN) if name.endswith("/") else (0, stat.S_IFREG)
    if stat.S_IFMT(mode) not in kinds:
        raise ArchiveRefused("special", f"{name!r} is neither a plain file nor a folder; links are not allowed.")


def _asi_mode(value: bytes) -> int:
    """Checksum (4), mode (2), and what does not matter here."""
    return int.from_bytes(value[4:6], "little") if len(value) >= 6 else _MODE_UNKNOWN


def _libarchive_mode(value: bytes) -> int:
    """Which parts follow (1), who made it (2), internal attributes (2), external attributes (4), comment."""
    if not value or value[0] & 0x80:  # the last: there are parts that this cannot know
        return _MODE_UNKNOWN
    if not value[0] & 4:
        return 0
    at = 1 + 2 * (value[0] & 1) + (value[0] & 2)
    return int.from_bytes(value[at + 2 : at + 4], "little") if len(value) >= at + 4 else _MODE_UNKNOWN


def unmask(values: list[int], zip64: bytes | None, name: str) -> list[int]:
    """Puts the zip64 field's numbers in the place of the masked ones, in order; Bazel repeats those that are not."""
    if zip64 and zip64 == b"".join(value.to_bytes(8, "little") for value in values):
        return values
    for index, value in enumerate(values):
        if value == _MASKED:
            if zip64 is None or len(zip64) < 8:
                raise ArchiveRefused("zip64", f"The zip64 field of {name!r} is missing or cut off.")
            values[index] = int.from_bytes(zip64[:8], "little")
            zip64 = zip64[8:]
    if zip64:
        raise ArchiveRefused("zip64", f"The zip64 field of {name!r} says more than it is asked for.")
    return values
