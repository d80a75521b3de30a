"""What Composer is told of packages: its own fields, out of releases and of what was read in their zips."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pfn_node.composer_names import composer_name
from pfn_node.own_paths import plugin_path
from pfn_node.store.packages import Package
from pfn_node.store.rows import PackageFacts, Release, Source
from pfn_node.web.consumers.composer_versions import normalize
from pfn_node.zip_addresses import zip_addresses

TYPES: Final = {"plugin": "wordpress-plugin", "theme": "wordpress-theme"}
MIRROR_PATH: Final = "/composer/mirror"

_PHP_VERSION: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3}){0,2}")
_CVE: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")


def root(base: str) -> dict[str, Any]:
    """packages.json: where everything else is. `base` is the node's URL."""
    return {
        "packages": [],
        "metadata-url": "/composer/p2/%package%.json",
        "available-package-patterns": ["pfn/*"],
        "search": "/composer/search.json?q=%query%&type=%type%",
        "list": "/composer/list.json",
        "notify-batch": "/composer/downloads",
        "metadata-changes-url": "/composer/changes.json",
        "mirrors": [
            {"dist-url": f"{base}{MIRROR_PATH}/%package%/%version%/%reference%.%type%", "preferred": False},
        ],
        "security-advisories": {"metadata": True, "api-url": f"{base}/composer/security-advisories"},
    }


def root_of_files(base: str) -> dict[str, Any]:
    """packages.json where `base` is a folder of files: it names none of the calls that only a node answers."""
    only_calls = ("search", "notify-batch", "metadata-changes-url")
    named = {label: each for label, each in root(base).items() if label not in only_calls}
    # A path would be one of the host, and the folder may stand below it.
    at_base = {label: base + named[label] for label in ("metadata-url", "list")}
    return named | at_base | {"security-advisories": {"metadata": True}}


def encode(answer: dict[str, Any]) -> bytes:
    """An answer as it is sent."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def package(name: str, found: Package, base: str) -> dict[str, Any]:
    """p2/NAME.json: versions that Composer can read and whose zip was read here, newest first, and advisories."""
    entries: dict[str, dict[str, Any]] = {}
    for release in found.releases:
        version, facts = normalize(release.version), found.facts.get(release.sha256 or b"")
        # Two versions may be one to Composer ("1.0", "1.0.0"): the newer one is it.
        if version is not None and facts is not None and version not in entries:
            entries[version] = _entry(name, version, release, facts, found.source, base)
    advisories = [
        {"advisoryId": one["advisory_id"], "affectedVersions": affected_versions(one)} for one in found.advisories
    ]
    return {"packages": {name: list(entries.values())}, "security-advisories": advisories}


def _entry(
    name: str, version: str, release: Release, facts: PackageFacts, source: Source | None, base: str
) -> dict[str, Any]:
    assert release.sha256 is not None, "what may be installed has a digest"
    headers, reference = facts.headers, release.sha256.hex()
    require = {"composer/installers": "^1.0 || ^2.0"}
    if _PHP_VERSION.fullmatch(headers.get("Requires PHP", "")):
        require = {"php": f">={headers['Requires PHP']}", **require}
    entry: dict[str, Any] = {
        "name": name,
        "version": release.version,
        "version_normalized": version,
        "type": TYPES[release.type],
        "description": release.description or "",
        "time": datetime.fromtimestamp(release.observed_at, UTC).isoformat(),
        "require": require,
        "dist": {
            "type": "zip",
            "url": _dist_url(name, version, release, source, base),
            "reference": reference,
            "shasum": facts.sha1.hex(),
        },
        "extra": {"installer-name": release.plugin_id},
    }
    homepage = _web_address(headers.get("Plugin URI") or headers.get("Theme URI") or "")
    given = {
        "license": [headers["License"]] if "License" in headers else None,
        "homepage": homepage,
        "authors": [_author(headers)] if "Author" in headers else None,
    }
    return entry | {label: each for label, each in given.items() if each}


def _author(headers: dict[str, str]) -> dict[str, str]:
    homepage = _web_address(headers.get("Author URI", ""))
    return {"name": headers["Author"]} | ({"homepage": homepage} if homepage else {})


def _web_address(text: str) -> str | None:
    return text if text.startswith(("https://", "http://")) else None


def _dist_url(name: str, version: str, release: Release, source: Source | None, base: str) -> str:
    """The publisher's own address if its key is known, and the node is its mirror; else this node's."""
    if source is not None and source.key_known:
        return zip_addresses(source, release.plugin_id, release.version)[0]
    assert release.sha256 is not None, "what may be installed has a digest"
    return f"{base}{MIRROR_PATH}/{name}/{quote(version)}/{release.sha256.hex()}.zip"


def affected_versions(advisory: dict[str, Any]) -> str:
    """What an advisory is about as Composer's constraint.

    Where Composer cannot read a bound, the range is open at that end: rather too many versions than one too few.
    """
    spans = []
    for span in advisory["ranges"]:
        low, high = normalize(span["from"]), normalize(span["until"])
        bounds = [f">={low}"] if low else []
        bounds += [f"<{high}"] if high else []
        spans.append(",".join(bounds) or "*")
    return "|".join(spans) or "*"


def advisory(name: str, one: dict[str, Any], source_id: str, plugin_id: str, heard: int, base: str) -> dict[str, Any]:
    """One entry of security-advisories."""
    cve = next((alias for alias in one["aliases"] if _CVE.fullmatch(alias)), None)
    page = base + plugin_path(source_id, plugin_id)
    return {
        "advisoryId": one["advisory_id"],
        "packageName": name,
        "remoteId": one["advisory_id"],
        "title": one["summary"],
        "link": _web_address(one["url"]) or page,
        "cve": cve,
        "affectedVersions": affected_versions(one),
        "source": one["by"],
        "reportedAt": datetime.fromtimestamp(heard, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "composerRepository": f"{base}/composer",
        "severity": one["severity"],
        "sources": [{"name": one["by"], "remoteId": one["advisory_id"]}],
    }


def search_result(release: Release, downloads: int, base: str) -> dict[str, Any]:
    """One entry of search.json."""
    page = base + plugin_path(release.source_id, release.plugin_id)
    return {
        "name": composer_name(release.source_id, release.plugin_id),
        "description": release.description or "",
        "url": page,
        "repository": page,
        "downloads": downloads,
        "favers": 0,
    }
