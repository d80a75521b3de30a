"""Which files an export has, and what is in them: the node's own answers, made by the functions that make those.

Whatever names a zip is written only if the zip is: a plugin that this node knows from others alone is in the catalogue,
and not offered for installing.
"""

import importlib.resources
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import sqlite_utils

from pfn_node import package_facts
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.composer_names import composer_name
from pfn_node.store import catalogue, news, packages, registry, wordpress
from pfn_node.store.changes import is_listable, last_change
from pfn_node.store.rows import PackageFacts, Release, Source
from pfn_node.web.bundling import envelopes_about, make_bundle
from pfn_node.web.consumers import composer_answers, wordpress_answers
from pfn_node.web.consumers.composer_versions import normalize
from pfn_node.web.consumers.export import line_of
from pfn_node.web.consumers.feed_forms import Feed, atom, json_feed
from pfn_node.web.consumers.feeds import ENTRIES_MAX
from pfn_node.web.consumers.wordpress import plugin_information
from pfn_node.web.consumers.wordpress_connector import connector
from pfn_node.web.consumers.wordpress_zips import signature_lines
from pfn_node.web.errors import ApiError
from pfn_node.web.evidence import measure_artifact, text_lookup
from pfn_node.web.federation_plugins import plugin_view
from pfn_protocol.bundle_proof import Measured

ATOM: Final = "feeds/releases.atom"
JSON_FEED: Final = "feeds/releases.json"


@dataclass(frozen=True, slots=True)
class Text:
    """A file that is made here."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Zip:
    """A file that is the artifact of this digest."""

    path: str
    sha256: bytes


File = Text | Zip
# Puts a zip where it is wanted; whether it is there now.
Put = Callable[[Zip], bool]


@dataclass(slots=True)
class Answers:
    """A node's answers, as if it were at `base`; read from its database, which may change between two calls."""

    db: sqlite_utils.Database
    artifacts: Artifacts
    mesh: str
    node_id: bytes
    base: str
    now: int  # seconds since 1970
    _measured: dict[bytes, PackageFacts] = field(default_factory=dict)  # of the plugin at hand
    _exported: set[bytes] = field(default_factory=set)  # digests of zips that were put

    def general(self) -> Iterator[Text]:
        """What is of no one plugin."""
        yield Text("composer/packages.json", composer_answers.encode(composer_answers.root_of_files(self.base)))
        names = {"packageNames": packages.package_names(self.db)}
        yield Text("composer/list.json", composer_answers.encode(names))
        yield Text("wordpress/pfn-connector.zip", connector().zip)
        icon = importlib.resources.files("pfn_node.web").joinpath("static", "icon.svg")
        yield Text("static/icon.svg", icon.read_bytes())

    def feeds(self) -> Iterator[Text]:
        """The newest releases whose zips were put: so this comes after the plugins."""
        yield Text(ATOM, atom(self._feed(ATOM)))
        yield Text(JSON_FEED, json_feed(self._feed(JSON_FEED)))

    def _feed(self, path: str) -> Feed:
        newest = news.releases_added(self.db, None, None, ENTRIES_MAX)
        added = [one for one in newest if one.release.sha256 in self._exported]
        return Feed(self.node_id, self.base, f"/{path}", None, None, added, lambda release: f"/{zip_path(release)}")

    def of_plugin(self, name: str, source_id: str, plugin_id: str, put: Put) -> Iterator[Text]:
        """What is about one plugin, of this Composer name; its zips are put before what names them."""
        self._measured.clear()
        plugin = catalogue.get_plugin(self.db, source_id, plugin_id, now=self.now)
        source = registry.get_source(self.db, source_id)
        if plugin is None or source is None:
            return  # it went since the names were read
        there: dict[str, Release] = {}
        for release in _distinct(catalogue.releases_of(self.db, source_id, plugin_id)):
            if is_listable(release) and put(Zip(zip_path(release), _digest(release))):
                there[release.version] = release
                self._exported.add(_digest(release))
            if release.version in there or self._may_be_shown(release):
                yield self._evidence(release, source)
        yield Text(f"catalogue/{name}.json", plugin_view(self.db, plugin, self.now).model_dump_json().encode())
        yield from self._composer(name, there)
        if plugin.release.type == "plugin" and wordpress.meaning_of(self.db, plugin_id).source_id == source_id:
            yield from self._wordpress(plugin_id, there, put)

    def line_of(self, source_id: str, plugin_id: str) -> bytes:
        """What a mirror of the catalogue is told of a plugin; nothing of one that went since the names were read."""
        last = last_change(self.db, source_id, plugin_id)
        return b"" if last is None or last.gone else line_of(self.db, last)

    def _may_be_shown(self, release: Release) -> bool:
        """Whether evidence stays for who has the zip, though it is not offered: a yank is in it."""
        refused = release.taken_down is not None or release.revoked_key or release.held_back is not None
        return release.backed and not refused and release.sha256 is not None and self.artifacts.has(release.sha256)

    def _evidence(self, release: Release, source: Source) -> Text:
        observations = catalogue.observations_of(self.db, release.source_id, release.plugin_id, release.version)
        envelopes = envelopes_about(self.db, release, source)
        facts = self._facts(release)
        measured = None if facts is None else Measured(_digest(release), facts.sha384, release.size)
        texts = text_lookup(self.artifacts)
        bundle = make_bundle(self.mesh, release, source, observations, envelopes, texts, measured)
        return Text(evidence_path(release), json.dumps(bundle).encode())

    def _facts(self, release: Release) -> PackageFacts | None:
        """What the node knows of a zip, or what is read in it now, if its bytes are the right ones."""
        digest = _digest(release)
        if digest not in self._measured:
            self._measured |= packages.facts_of(self.db, release.source_id, release.plugin_id)
        if digest not in self._measured:
            with suppress(OSError):  # one that cannot be read is as one that is not here
                self._measure(digest)
        return self._measured.get(digest)

    def _measure(self, digest: bytes) -> None:
        whole = measure_artifact(self.artifacts, digest)
        if whole is not None and whole.sha256 == digest:
            read = package_facts.measure(self.artifacts, digest)
            self._measured |= {} if read is None else {digest: read}

    def _composer(self, name: str, there: dict[str, Release]) -> Iterator[Text]:
        found = packages.package_named(self.db, name)
        if found is None:
            return
        facts = {_digest(one): self._facts(one) for one in found.releases if one.version in there}
        known = replace(found, facts={digest: one for digest, one in facts.items() if one is not None})
        answer = composer_answers.package(name, known, self.base)
        if answer["packages"][name]:
            yield Text(f"composer/p2/{name}.json", composer_answers.encode(answer))

    def _wordpress(self, slug: str, there: dict[str, Release], put: Put) -> Iterator[Text]:
        for version, release in there.items():
            path = f"download/plugin/{slug}.{version}.zip"
            facts = self._facts(release)
            if put(Zip(path, _digest(release))) and facts is not None:
                lines = signature_lines(self.db, release, facts.sha384)
                if lines:
                    yield Text(f"{path}.sig", lines.encode("ascii"))
        try:
            answer, _ = plugin_information(self.db, slug, {}, self.base)
        except ApiError:
            return  # nothing of it may be installed, and nobody took it down
        if "versions" in answer:
            answer["versions"] = {version: url for version, url in answer["versions"].items() if version in there}
        # What was taken down says so, for good.
        if answer.get("closed") or answer.get("version") in there:
            yield Text(f"plugins/info/1.0/{slug}.json", wordpress_answers.encode(answer).encode("ascii"))


def zip_path(release: Release) -> str:
    """Where a release's zip is, as Composer asks for it."""
    return f"composer/mirror/{_release_path(release)}.zip"


def evidence_path(release: Release) -> str:
    """Where a release's evidence bundle is."""
    return f"evidence/{_release_path(release)}.json"


def _release_path(release: Release) -> str:
    version = normalize(release.version) or release.version
    return f"{composer_name(release.source_id, release.plugin_id)}/{version}/{_digest(release).hex()}"


def _digest(release: Release) -> bytes:
    assert release.sha256 is not None, "only what has a digest is exported"
    return release.sha256


def _distinct(releases: list[Release]) -> Iterator[Release]:
    """Those with a digest, the newest of each name: some file systems do not tell 1.0-RC1 from 1.0-rc1."""
    seen: set[str] = set()
    for release in releases:
        if release.sha256 is not None and (name := release.version.lower()) not in seen:
            seen.add(name)
            yield release
