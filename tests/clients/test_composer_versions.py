"""Composer's own parser of versions, beside ours."""

import json
import subprocess
from pathlib import Path

from pfn_node.web.consumers.composer_versions import normalize
from tests.clients.conftest import need
from tests.node.test_composer_versions import READ, UNREAD

PARSER = Path("/usr/share/php/Composer/Semver/VersionParser.php")
PROGRAM = """
require $argv[1];
$parser = new Composer\\Semver\\VersionParser();
$found = [];
foreach (json_decode(stream_get_contents(STDIN)) as $version) {
    try { $found[] = $parser->normalize($version); } catch (UnexpectedValueException $error) { $found[] = null; }
}
echo json_encode($found);
"""
STEMS = (
    "1",
    "1.2",
    "v1.2.3",
    "1.2.3.4",
    "1.2.3.4.5",
    "99999",
    "100000",
    "20240131",
    "2024.01.31",
    "2024-1-31",
    "1.",
    "1-2",
)
MARKS = ("a", "b", "beta", "alpha", "RC", "rc", "p", "pl", "patch", "stable", "STABLE", "Beta", "final", "dev", "x", "")
ENDS = ("", "1", ".2", "-3", "_4", "-dev", ".dev", "dev", "1.2.3", "+5", "+a b", " ", ".")


def test_versions_are_read_as_composer_reads_them() -> None:
    need("php", "composer")
    made = [
        f"{stem}{sign}{mark}{end}" for stem in STEMS for sign in ("", "-", ".", "_") for mark in MARKS for end in ENDS
    ]
    # Blanks around a version are cut off there; here they make it none, as they do in our own versions.
    asked = [version for version in [*READ, *UNREAD, *made] if version == version.strip()]

    done = subprocess.run(
        ["php", "-r", PROGRAM, str(PARSER)], input=json.dumps(asked), capture_output=True, text=True, check=True
    )

    theirs = dict(zip(asked, json.loads(done.stdout), strict=True))
    releases = {version: None if text is None or "dev" in text.lower() else text for version, text in theirs.items()}
    assert {version: normalize(version) for version in asked} == releases
    assert sum(text is not None for text in releases.values()) > 500
