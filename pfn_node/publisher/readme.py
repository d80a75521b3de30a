"""readme.txt as WordPress.org's plugin directory reads it: headers, one short description, sections.

Only what a catalogue shows is taken. Everything is optional: a plugin without a readme is still a plugin.
"""

import re
from dataclasses import dataclass, field

README_BYTES_READ = 256 * 1024  # the longest readme in the directory is below this
SHORT_DESCRIPTION_CHARS_MAX = 150  # the directory cuts there too
SECTION_CHARS_MAX = 20_000
SECTIONS_MAX = 16
TAGS_MAX = 12  # the directory shows five; older plugins list more

_TITLE = re.compile(r"^===\s*(.*?)\s*===\s*$")
_SECTION = re.compile(r"^==\s*([^=].*?)\s*==\s*$")
_HEADER = re.compile(r"^([A-Za-z][A-Za-z ]{1,40}):\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Readme:
    headers: dict[str, str] = field(default_factory=dict)  # labels in lower case: "tested up to"
    short_description: str = ""
    sections: dict[str, str] = field(default_factory=dict)  # "description", "changelog", ... as written

    @property
    def tags(self) -> tuple[str, ...]:
        """Each tag once, in the order given."""
        return split_tags(self.headers.get("tags", ""))


def split_tags(text: str) -> tuple[str, ...]:
    """Tags out of a comma-separated line, each once."""
    tags = (tag.strip() for tag in text.split(","))
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:TAGS_MAX]


def parse_readme(data: bytes) -> Readme:
    """Whatever can be understood of a readme.txt; nothing in it is an error."""
    lines = data[:README_BYTES_READ].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    headers: dict[str, str] = {}
    short: list[str] = []
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        if (section := _SECTION.match(line)) and len(sections) < SECTIONS_MAX:
            current = sections.setdefault(section[1].lower().replace(" ", "_"), [])
        elif current is not None:
            current.append(line)
        elif not short and (header := _HEADER.match(line)):
            headers.setdefault(header[1].lower(), header[2].strip())
        elif line.strip() and not _TITLE.match(line):
            short.append(line.strip())
    texts = {name: "\n".join(body).strip()[:SECTION_CHARS_MAX] for name, body in sections.items()}
    return Readme(headers, " ".join(short)[:SHORT_DESCRIPTION_CHARS_MAX].strip(), texts)
