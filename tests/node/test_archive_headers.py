"""Headers are read as WordPress reads them; the cases were compared with WordPress 6.1's own get_file_data."""

from pathlib import Path

import pytest

from pfn_node.archive import ArchiveFacts, inspect
from pfn_node.plugin_headers import PLUGIN_LABELS, read_header, read_headers
from tests.node.zip_forge import HEADER, Forged, forge


@pytest.mark.parametrize(
    ("head", "version"),
    [
        (b"<?php\n/*\n * Version: 1.2.3\n */", "1.2.3"),
        (b"<?php // no\n/* version:1.2.3*/", "1.2.3"),
        (b"<?php /* Version: 1.2 */", "1.2"),
        (b" \t<?php # Version: 1.2", "1.2"),
        (b"@Version:  1.2  ?> tail", "1.2"),
        (b"<?php\r * Version: 1.2\r * Author: x", "1.2"),
        (b"Version: 1.2 \x0c*/", "1.2"),
        (b"Version: \xc3\xa9\xff", "\u00e9\ufffd"),
        (b"Version: 1\nVersion: 2", "1"),
        (b"Version:\nVersion: 2", ""),
        (b"Version:0", ""),
        (b"Version: 0", "0"),
        (b"My Version: 1", ""),
        (b"Version : 1", ""),
        (b"", ""),
        (b"x" * 8180 + b"\nVersion: 1.2.3", "1."),
    ],
)
def test_a_header_is_found_where_wordpress_finds_it(head: bytes, version: str) -> None:
    assert read_header(head, "Version") == version


def test_headers_without_a_value_are_left_out() -> None:
    head = b"<?php\n/* Plugin Name: A\n * Version: 2\n * Author:\n */"

    assert read_headers(head, PLUGIN_LABELS) == {"Plugin Name": "A", "Version": "2"}


def _facts(tmp_path: Path, *files: tuple[str, bytes]) -> ArchiveFacts:
    path = tmp_path / "plugin.zip"
    path.write_bytes(forge([Forged(name, data) for name, data in files]))
    return inspect(path)


def test_the_file_named_like_the_folder_speaks_for_a_plugin(tmp_path: Path) -> None:
    other = HEADER.replace(b"Forged", b"Other")

    assert _facts(tmp_path, ("forged/a.php", other), ("forged/forged.php", HEADER)).name == "Forged"
    assert _facts(tmp_path, ("forged/forged.php", HEADER), ("forged/a.php", other)).name == "Forged"


def test_else_the_first_by_name_does(tmp_path: Path) -> None:
    other = HEADER.replace(b"Forged", b"Other")

    assert (
        _facts(tmp_path, ("forged/z.php", HEADER), ("forged/b.php", other), ("forged/.a.php", HEADER)).name == "Other"
    )


def test_a_theme_is_known_by_its_style(tmp_path: Path) -> None:
    style = b"/*\nTheme Name: Paper\nVersion: 3.1\nTags: blog\nAuthor: A\n*/"

    facts = _facts(tmp_path, ("paper/style.css", style), ("paper/index.php", b"<?php"))

    assert (facts.type, facts.name, facts.version, facts.folder) == ("theme", "Paper", "3.1", "paper")
    assert facts.headers["Tags"] == "blog"


def test_a_plugin_with_a_style_is_still_a_plugin(tmp_path: Path) -> None:
    facts = _facts(tmp_path, ("forged/style.css", b"/* Theme Name: T\nVersion: 1 */"), ("forged/forged.php", HEADER))

    assert facts.type == "plugin"
