"""The headers of plugins and themes, read as WordPress' `get_file_data` reads them.

Only the first 8 KiB of a file count; a header stands at the start of a line behind comment signs; the first line that
fits wins, even if it is empty; bytes are matched, not characters. Being stricter or laxer than WordPress would mean
that this node and WordPress see two versions in one zip.
"""

import re
from typing import Literal

HEADER_BYTES_READ = 8 * 1024

PLUGIN_LABELS = (
    "Plugin Name", "Plugin URI", "Version", "Description", "Author", "Author URI", "Text Domain", "Domain Path",
    "Network", "Requires at least", "Tested up to", "Requires PHP", "Update URI", "Requires Plugins", "License",
    "Plugin ID", "Security",
)  # fmt: skip
THEME_LABELS = (
    "Theme Name", "Theme URI", "Version", "Description", "Author", "Author URI", "Template", "Tags", "Text Domain",
    "Domain Path", "Requires at least", "Tested up to", "Requires PHP", "Update URI", "License",
    "Theme ID", "Security",
)  # fmt: skip

_PHP_TRIM = b" \t\n\r\0\x0b"
_COMMENT_END = re.compile(rb"\*/|\?>")
_LINES = {
    label: re.compile(
        rb"^(?:[ \t]*<\?php)?[ \t/*#@]*" + re.escape(label).encode() + rb":(.*)$", re.MULTILINE | re.IGNORECASE
    )
    for label in {*PLUGIN_LABELS, *THEME_LABELS}
}


def read_header(head: bytes, label: str) -> str:
    """The value of one header in the beginning of a file; "" if there is none."""
    head = head[:HEADER_BYTES_READ]
    if label.encode().lower() + b":" not in head.lower():
        return ""  # without it no line fits, and most files have few of the headers: looking is faster than matching
    match = _LINES[label].search(head.replace(b"\r", b"\n"))
    if match is None or match[1] == b"0":  # PHP takes the text "0" for nothing
        return ""
    value, *rest = _COMMENT_END.split(match[1], maxsplit=1)
    if rest:
        value = value.rstrip()  # white space before the end of the comment goes with it
    return value.strip(_PHP_TRIM).decode("utf-8", "replace")


def read_headers(head: bytes, labels: tuple[str, ...]) -> dict[str, str]:
    """Those of `labels` that have a value."""
    return {label: value for label in labels if (value := read_header(head, label))}


class MainFile:
    """Finds the file whose headers speak for a whole plugin or theme, among those directly in its folder.

    A plugin's is the one named like its folder if that has a header, else the first by name; a theme's is style.css.
    Only the best so far is kept, however many files there are.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._plugin: tuple[bool, str, bytes] | None = None  # the smallest wins: (is not folder.php, name, head)
        self._style = b""

    def consider(self, name: str, head: bytes) -> None:
        """A file by its path, top folder included, and (at least) its first 8 KiB."""
        top, _, file = name.partition("/")
        if top != self.folder or "/" in file or file.startswith("."):
            return
        if file == "style.css":
            self._style = head
        elif file.endswith(".php") and read_header(head, "Plugin Name"):
            candidate = (file != f"{self.folder}.php", file, head)
            self._plugin = min(self._plugin or candidate, candidate)

    def found(self) -> tuple[Literal["plugin", "theme"], dict[str, str]]:
        """The kind, and the headers by WordPress' labels; the name among them may be missing."""
        if self._plugin:
            return "plugin", read_headers(self._plugin[2], PLUGIN_LABELS)
        return "theme", read_headers(self._style, THEME_LABELS)
