"""Judging a zip that a publisher gave, and keeping it if it is what was listed and signed.

A zip is read through in another process (archive_readers.py), and kept by a thread, which waits for the disk.
"""

from dataclasses import dataclass
from typing import Final

from pfn_node import package_facts
from pfn_node.archive import ArchiveRefused
from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.writer import ArtifactWriter
from pfn_node.sources.bringing import Skipped
from pfn_node.sources.evidence import check_bytes
from pfn_node.sources.publisher_answers import AuthorEntry
from pfn_node.store.rows import PackageFacts, Source
from pfn_protocol.announcements import Evidence
from pfn_protocol.bundle_proof import Measured

NOT_STORED: Final = "this node could not store it: its disk or its cache is full, or its object store is down"


class ZipRefused(Exception):
    """The zip is not accepted, or not the one that the list speaks of; `reason` is what the subscriber gets to read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Judged:
    """A zip that is what was listed. `evidence`: the signatures that cover it, and what belongs to them."""

    type: str
    evidence: tuple[Evidence, ...]
    read: PackageFacts


@dataclass(frozen=True, slots=True)
class Keeping:
    """How a zip is kept. `text`: a signed text that describes it, to be kept as long. `cache`: it need not stay."""

    text: bytes | None
    cache: bool


async def judge(examine: Examine, source: Source, entry: AuthorEntry, writer: ArtifactWriter) -> Judged:
    """What a zip is, if it passes the gate and says what the list says.

    Raises ZipRefused, InvalidSignature, and Skipped where this node could not look at it.
    """
    try:
        examined = await examine(writer.path)
    except ArchiveRefused as refused:
        raise ZipRefused(f"the zip is not accepted: {refused.sentence}") from refused
    except OSError as failure:
        raise Skipped(f"this node could not look at it: {failure.strerror or failure}") from failure
    facts, read = examined.facts, package_facts.facts_of(examined)
    if facts.version != entry.version:
        raise ZipRefused(f"version mismatch: the zip says {facts.version[:40]!r}, the list says {entry.version!r}")
    if entry.type is not None and facts.type != entry.type:
        raise ZipRefused(f"type mismatch: the zip holds a {facts.type}, the list says {entry.type}")
    evidence = check_bytes(entry, source, Measured(writer.digest(), read.sha384, writer.size))
    return Judged(facts.type, evidence, read)


def keep(artifacts: Artifacts, writer: ArtifactWriter, keeping: Keeping) -> bytes:
    """Keep a zip, and as long as that its signed text; the text's SHA-256, empty without one. Raises Skipped.

    The text goes first: no row would ever name a zip whose text could not be kept, and nothing would delete it.
    """
    text_sha256 = b""
    try:
        if keeping.text is not None:
            with artifacts.writer(local=True) as beside:
                beside.write(keeping.text)
                text_sha256 = beside.keep(cache=keeping.cache)
        writer.keep(cache=keeping.cache)
        return text_sha256
    except (ArtifactError, OSError) as error:
        raise Skipped(NOT_STORED) from error
