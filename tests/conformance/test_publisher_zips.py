"""A hostile publisher serves zips that could mean two things, or harm whoever unpacks them: one of each family."""

import zlib
from collections.abc import Callable

import pytest

from tests.conformance.hostile_publisher import HOSTILE_SLUG, Listing, Publisher, assert_only_the_honest_one_is_held
from tests.conformance.node_process import Node
from tests.node.zip_forge import FILE, LINK, Forged, asi_field, forge, with_hidden_zip

Beside = Callable[..., list[Listing]]

TEXT = f"<?php\n/*\n * Plugin Name: {HOSTILE_SLUG}\n * Version: 1.0\n */\n".encode()


def main_file(**changes: object) -> Forged:
    return Forged(**{"name": f"{HOSTILE_SLUG}/tool.php", "data": TEXT, **changes})  # type: ignore[arg-type]


def beside_main(name: str | bytes, data: bytes = b"x", **changes: object) -> bytes:
    return forge([main_file(), Forged(name, data, **changes)])  # type: ignore[arg-type]


HONEST = forge([main_file()])


def overlapping() -> bytes:
    """One piece of packed data that a hundred entries claim."""
    others = [Forged(f"{HOSTILE_SLUG}/{number}.php", TEXT, offset=0, there=False) for number in range(100)]
    return forge([main_file(), *others])


def bomb() -> bytes:
    """300 MB of zeros in 300 KB."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(squeeze.compress(bytes(2**20)) for _ in range(300)) + squeeze.flush()
    size = 300 * 2**20
    entry = Forged(f"{HOSTILE_SLUG}/zeros", b"", packed_data=packed, unpacked=size, crc=0)
    return forge([main_file(), entry])


def hidden_zip() -> bytes:
    return with_hidden_zip(main=main_file(), comment=b"0123456789abcdef0123456789abcdef01234567")


ATTACKS: dict[str, Callable[[], bytes]] = {
    "a web page": lambda: b"<html>sign in to the network</html>",
    "a picture with a script in front of the zip": lambda: b"GIF89a<script>" + HONEST,
    "a zip that is cut off": lambda: HONEST[:-1],
    "bytes behind the end": lambda: HONEST + b"<?php evil();",
    "two zips in one, of which readers see either": lambda: HONEST + HONEST,
    "a second end record in the comment": lambda: forge([main_file()], comment=b"PK\5\6" + bytes(18)),
    "an end record in a file, which WordPress' own unzipper takes for the end": hidden_zip,
    "an entry that the directory does not list": lambda: forge(
        [main_file(), Forged(f"{HOSTILE_SLUG}/hidden.php", TEXT, listed=False)]
    ),
    "a name before the data that is not the directory's": lambda: forge(
        [main_file(local_name=f"{HOSTILE_SLUG}/evil.php".encode())]
    ),
    "the same name twice": lambda: forge([main_file(), main_file(data=TEXT + b"evil();")]),
    "names that one file system takes for the same": lambda: beside_main(f"{HOSTILE_SLUG}/TOOL.php"),
    "a name that climbs": lambda: beside_main(f"{HOSTILE_SLUG}/../../../etc/cron.d/evil"),
    "an absolute name": lambda: beside_main("/etc/cron.d/evil"),
    "a name with a drive letter": lambda: beside_main("C:\\evil.php"),
    "a name with backslashes": lambda: beside_main(f"{HOSTILE_SLUG}\\..\\..\\evil.php"),
    "a name with a NUL": lambda: beside_main(f"{HOSTILE_SLUG}/evil.php\0.txt".encode()),
    "a symbolic link": lambda: beside_main(f"{HOSTILE_SLUG}/link", b"/etc/passwd", attributes=LINK),
    "a link by a field that only unzip looks at": lambda: beside_main(
        f"{HOSTILE_SLUG}/link", b"/etc/passwd", method=0, attributes=0, extra=asi_field(0o120777)
    ),
    "a file that WordPress' own unzipper takes for a folder": lambda: beside_main(
        f"{HOSTILE_SLUG}/guard.php", attributes=FILE | 0x10
    ),
    "a name that unzip takes for a version of another": lambda: beside_main(f"{HOSTILE_SLUG}/tool.php;1", TEXT),
    "thirty megabytes of extra fields": lambda: forge(
        [
            main_file(),
            *(Forged(f"{HOSTILE_SLUG}/{number}", local_extra=b"\xfe\xca\0\0" * 16_000) for number in range(500)),
        ]
    ),
    "an encrypted entry": lambda: forge([main_file(flags=1)]),
    "another packing than deflate": lambda: beside_main(f"{HOSTILE_SLUG}/x", b"x", method=12, packed_data=b"BZh"),
    "a size that is smaller than the data": lambda: forge([main_file(unpacked=5, local_unpacked=5)]),
    "a checksum that is wrong": lambda: forge([main_file(crc=1)]),
    "data that breaks off": lambda: beside_main(f"{HOSTILE_SLUG}/x", b"", packed_data=b"\x4b"),
    "a hundred entries over the same data": overlapping,
    "three hundred megabytes of zeros": bomb,
    "eleven thousand entries": lambda: forge(
        [main_file(), *(Forged(f"{HOSTILE_SLUG}/{number}", b"", method=0) for number in range(11_000))]
    ),
    "two top folders": lambda: beside_main("other/other.php", TEXT),
    "no plugin in it": lambda: forge([Forged(f"{HOSTILE_SLUG}/readme.txt", b"nothing", attributes=FILE)]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_zip_is_not_kept_that_is(node: Node, publisher: Publisher, beside: Beside, attack: str) -> None:
    publisher.listings = beside(zip=ATTACKS[attack]())

    assert_only_the_honest_one_is_held(node, publisher, "zip")
    assert node.is_well()
