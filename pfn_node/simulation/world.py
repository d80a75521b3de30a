"""What every simulated run takes as given: the mesh's name, when time begins, everybody's key, what a release is."""

from hashlib import sha256

from pfn_protocol.announcements import VersionStatement
from pfn_protocol.identity import PrivateKey

START_MS = 1_800_000_000_000
MESH = "test"


class InvariantBroken(AssertionError):
    """Something happened that must never happen; the run ends here, and its seed repeats it."""


def key_of(name: str) -> PrivateKey:
    """Everybody's key follows from the name, so ids are the same in every run."""
    return PrivateKey(sha256(name.encode()).digest())


def version_statement(
    slug: str, version: str = "1.0", content: str = "", source: str = "dev@pub.test"
) -> VersionStatement:
    """A release as somebody saw it; other `content` is other bytes."""
    return VersionStatement(
        source_id=source,
        plugin_id=slug,
        version=version,
        type="plugin",
        name=slug.title(),
        description=None,
        tags=(),
        sha256=sha256(f"{slug} {version} {content}".encode()).digest(),
        size=1_000,
        observed_at=START_MS // 1_000,
        evidence=(),
    )
