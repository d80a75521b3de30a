"""The Composer repository over HTTP, with a real store, real zips and no Composer: shapes, 304s, what is unsafe."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
import sqlite_utils

from pfn_node.composer_names import composer_name
from pfn_node.store import catalogue, downloads, packages, registry
from pfn_node.store.rows import PackageFacts
from pfn_node.store.schema_composer import add_composer
from pfn_node.web.consumers import composer
from pfn_node.web.consumers.composer_answers import affected_versions
from pfn_node.web.consumers.conditional import REMEMBERED_MAX, Answered, http_date
from pfn_protocol.identity import public_key_pem
from tests.node.web_node import BILBO, NOW, PUBLISHER, URL, Got, WebNode, web_node

NAME = composer_name(BILBO, "hello-signal")
P2 = f"/composer/p2/{NAME}.json"
REQUIRED = {
    "name", "version", "version_normalized", "type", "description", "license", "homepage", "authors", "time", "require",
    "dist", "extra",
}  # fmt: skip
NOTICE = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.1.0"}


def a_zip(version: str = "1.0.0", headers: str = "") -> bytes:
    """A plugin's zip; the same bytes each time."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        text = f"<?php\n/*\n * Plugin Name: Hello\n * Version: {version}\n{headers} */\n"
        file.writestr(zipfile.ZipInfo("hello-signal/hello-signal.php"), text)
    return data.getvalue()


HEADERS = (
    " * Requires PHP: 7.4\n * License: GPL-2.0-or-later\n * Author: Bilbo\n * Author URI: https://bilbo.test\n"
    " * Plugin URI: https://plugin.test/hello\n"
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def entries(node: WebNode, path: str = P2) -> list[dict[str, Any]]:
    got = await node.get(path)
    assert got.status == 200, got.body
    (name,) = got.json["packages"]
    assert f"/composer/p2/{name}.json" == path
    listed: list[dict[str, Any]] = got.json["packages"][name]
    return listed


async def versions(node: WebNode) -> list[str]:
    return [entry["version"] for entry in await entries(node)]


async def test_the_root_names_every_other_address(node: WebNode) -> None:
    got = await node.get("/composer/packages.json")

    assert got.json == {
        "packages": [],
        "metadata-url": "/composer/p2/%package%.json",
        "available-package-patterns": ["pfn/*"],
        "search": "/composer/search.json?q=%query%&type=%type%",
        "list": "/composer/list.json",
        "notify-batch": "/composer/downloads",
        "metadata-changes-url": "/composer/changes.json",
        "mirrors": [
            {
                "dist-url": "https://node.test/composer/mirror/%package%/%version%/%reference%.%type%",
                "preferred": False,
            }
        ],
        "security-advisories": {"metadata": True, "api-url": "https://node.test/composer/security-advisories"},
    }


async def test_an_entry_has_every_field_that_composer_needs(node: WebNode) -> None:
    data = a_zip(headers=HEADERS)
    await node.add_release(data)

    (entry,) = await entries(node)

    assert set(entry) == REQUIRED
    assert entry == {
        "name": NAME,
        "version": "1.0.0",
        "version_normalized": "1.0.0.0",
        "type": "wordpress-plugin",
        "description": "It says hello.",
        "license": ["GPL-2.0-or-later"],
        "homepage": "https://plugin.test/hello",
        "authors": [{"name": "Bilbo", "homepage": "https://bilbo.test"}],
        "time": "2026-11-23T08:00:00+00:00",
        "require": {"php": ">=7.4", "composer/installers": "^1.0 || ^2.0"},
        "dist": {
            "type": "zip",
            "url": f"{URL}/federated/download?author=bilbo&slug=hello-signal&version=1.0.0",
            "reference": hashlib.sha256(data).hexdigest(),
            "shasum": hashlib.sha1(data).hexdigest(),
        },
        "extra": {"installer-name": "hello-signal"},
    }


async def test_headers_that_composer_could_not_read_are_left_out(node: WebNode) -> None:
    await node.add_release(a_zip(headers=" * Requires PHP: 7.4 || evil\n * Plugin URI: javascript:alert(1)\n"))

    (entry,) = await entries(node)

    assert entry["require"] == {"composer/installers": "^1.0 || ^2.0"}
    assert not set(entry) & {"homepage", "authors", "license"}


async def test_bytes_that_are_no_zip_have_digests_all_the_same(node: WebNode) -> None:
    await node.add_release(b"no zip")

    assert (await entries(node))[0]["dist"]["shasum"] == hashlib.sha1(b"no zip").hexdigest()


async def test_versions_come_newest_first_and_each_only_once_as_composer_counts(node: WebNode) -> None:
    for version in ("1.0", "1.0.0", "1.10.0", "1.9.0", "2.x-dev", "one"):
        await node.add_release(a_zip(version), version=version)

    assert await versions(node) == ["1.10.0", "1.9.0", "1.0.0"]


async def test_a_source_whose_key_is_not_known_is_not_sent_to(node: WebNode) -> None:
    data = a_zip()
    await node.add_release(data)
    await node.services.database.write(lambda db: db.execute("UPDATE sources SET verified_at = NULL"))

    url = (await entries(node))[0]["dist"]["url"]

    assert url == f"https://node.test/composer/mirror/{NAME}/1.0.0.0/{hashlib.sha256(data).hexdigest()}.zip"
    assert (await node.get(urlsplit(url).path)).body == data


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Modified-Since"])
async def test_who_has_an_answer_is_told_so_until_it_changes(node: WebNode, condition: str) -> None:
    await node.add_release(a_zip())
    await node.get(P2)
    node.services.now = lambda: NOW + 1.0
    first = await node.get(P2)
    seen = {
        "If-None-Match": {"If-None-Match": first.headers["ETag"]},
        "If-Modified-Since": {"If-Modified-Since": first.headers["Last-Modified"]},
    }[condition]

    again = await node.get(P2, headers=seen)
    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    changed = await node.get(P2, headers=seen)

    assert (first.status, again.status, changed.status) == (200, 304, 200)
    assert (again.body, again.headers["ETag"]) == (b"", first.headers["ETag"])
    node.services.now = lambda: NOW + 9.0
    later = await node.get(P2)
    assert later.headers["Last-Modified"] != first.headers["Last-Modified"]
    assert len(changed.json["packages"][NAME]) == 2


async def test_an_answer_is_given_no_time_before_its_second_is_over(node: WebNode) -> None:
    """Another process of this node may answer with something else in that same second."""
    await node.add_release(a_zip())

    first = await node.get(P2)
    node.services.now = lambda: NOW + 1.0
    later = await node.get(P2)

    assert "Last-Modified" not in first.headers and first.headers["ETag"]
    assert later.headers["Last-Modified"] == http_date(NOW)


async def test_a_yank_is_seen_whichever_process_of_the_node_answers(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await node.add_bilbo()
        for version in ("1.0.0", "1.1.0"):
            await node.add_release(a_zip(version), version=version)
        await node.post("/federation/yank", NOTICE)
        other = Answered()  # what another process remembers: it answered with the yank
        services, own = node.services, node.services.answered

        async def ask(at: int, answered: Answered, since: str | None = None) -> Got:
            services.now, services.answered = lambda: float(at), answered
            return await node.get(P2, headers={} if since is None else {"If-Modified-Since": since})

        await ask(NOW, other)
        await node.post("/federation/yank", NOTICE | {"withdrawn": True})
        await ask(NOW + 10, own)
        whole = await ask(NOW + 20, own)
        await node.post("/federation/yank", NOTICE)
        got = await ask(NOW + 30, other, whole.headers["Last-Modified"])

        assert [one["version"] for one in whole.json["packages"][NAME]] == ["1.1.0", "1.0.0"]
        assert (got.status, [one["version"] for one in got.json["packages"][NAME]]) == (200, ["1.0.0"])


async def test_a_condition_that_is_none_is_ignored(node: WebNode) -> None:
    await node.add_release(a_zip())

    too_large = f"Mon, 01 Jan 2020 00:00:00 +{'9' * 30}"
    for headers in (
        {"If-Modified-Since": "yesterday"},
        {"If-Modified-Since": too_large},
        {"If-None-Match": '"other"'},
    ):
        assert (await node.get(P2, headers=headers)).status == 200


def test_what_was_answered_is_remembered_of_so_many_paths_only() -> None:
    answered = Answered()
    for number in range(REMEMBERED_MAX + 1):
        answered.since(f"/{number}", '"tag"', NOW)

    assert answered.since("/1", '"tag"', NOW + 9) == NOW
    assert answered.since("/0", '"tag"', NOW + 9) == NOW + 9


@pytest.mark.parametrize("name", ["hello-signal", "unknown", f"{NAME.removeprefix('pfn/')}~dev"])
async def test_packages_that_are_none_are_404(node: WebNode, name: str) -> None:
    await node.add_release(a_zip())

    assert (await node.get(f"/composer/p2/pfn/{name}.json")).sentence


@pytest.mark.parametrize(
    ("column", "value", "status"),
    [
        ("yanked", "it eats posts", 200),
        ("taken_down", "malware", 410),
        ("revoked_key", 1, 410),
        ("held_back", "it is not signed", 422),
        ("cooldown_until", NOW + 9, 200),
        ("assurance", "A0", 200),
        ("backed", 0, 502),
    ],
)
async def test_what_is_unsafe_is_not_listed_and_had_as_a_download_would_be(
    node: WebNode, column: str, value: object, status: int
) -> None:
    for version in ("1.0.0", "1.1.0"):
        await node.add_release(a_zip(version), version=version)
    assert await versions(node) == ["1.1.0", "1.0.0"]

    def mark(db: Any) -> None:
        db.execute(" ".join(("UPDATE releases SET", column, "= ? WHERE version = '1.1.0'")), (value,))

    await node.services.database.write(mark)

    assert await versions(node) == ["1.0.0"]
    digest = hashlib.sha256(a_zip("1.1.0")).hexdigest()
    got = await node.get(f"/composer/mirror/{NAME}/1.1.0.0/{digest}.zip")
    as_download = await node.get(f"/federation/download?sourceId={BILBO}&plugin=hello-signal&version=1.1.0")
    assert got.status == as_download.status
    assert got.status == (422 if column == "backed" else status)


async def test_what_is_below_a1_or_only_reported_is_no_package(node: WebNode) -> None:
    await node.add_report(a_zip())

    assert (await node.get(P2)).status == 404
    assert (await node.get("/composer/list.json")).json == {"packageNames": []}
    assert (await node.get("/composer/search.json")).json == {"results": [], "total": 0}


async def test_the_mirror_gives_a_zip_by_package_version_and_digest_only(node: WebNode) -> None:
    data = a_zip()
    await node.add_release(data)
    digest = hashlib.sha256(data).hexdigest()

    got = await node.get(f"/composer/mirror/{NAME}/1.0.0.0/{digest}.zip")

    assert (got.status, got.body, got.headers["ETag"]) == (200, data, f'"{digest}"')
    assert got.headers["Cache-Control"] == "public, max-age=31536000, s-maxage=60, immutable"
    for wrong in (f"{NAME}/1.0.0.1/{digest}", f"{NAME}x/1.0.0.0/{digest}", f"{NAME}/1.0.0.0/{'0' * 64}", f"{NAME}/1/x"):
        assert (await node.get(f"/composer/mirror/{wrong}.zip")).status == 404


async def test_others_that_report_the_same_bytes_keep_nobody_from_a_package(node: WebNode) -> None:
    data = a_zip()
    for number in range(packages.SAME_BYTES_MAX + 1):
        await node.add_report(data, plugin_id=f"another-{number}")
    await node.add_release(data)

    got = await node.get(f"/composer/mirror/{NAME}/1.0.0.0/{hashlib.sha256(data).hexdigest()}.zip")

    assert (got.status, got.body) == (200, data)


async def test_the_mirror_never_gives_other_bytes_than_those_named(node: WebNode) -> None:
    data = a_zip()
    await node.add_release(data, kept=False)
    release = await node.services.database.read(lambda db: catalogue.get_release(db, BILBO, "hello-signal"))
    assert release is not None
    node.want.found = replace(release, sha256=node.services.artifacts.put_bytes(b"other bytes"))

    got = await node.get(f"/composer/mirror/{NAME}/1.0.0.0/{hashlib.sha256(data).hexdigest()}.zip")

    assert (got.status, len(node.want.asked)) == (502, 1)


async def test_the_newest_is_fetched_if_it_is_not_here_and_not_listed_before(node: WebNode) -> None:
    for version in ("1.0.0", "1.1.0"):
        await node.add_release(a_zip(version), version=version, kept=False)

    assert await entries(node) == []
    assert [(one.version, anonymous) for one, anonymous in node.want.asked] == [("1.1.0", True)]

    node.services.artifacts.put_bytes(a_zip("1.1.0"))
    assert await versions(node) == ["1.1.0"]


async def test_a_zip_is_read_once_and_never_again(node: WebNode) -> None:
    data = a_zip()
    await node.add_release(data)
    before = await entries(node)

    node.services.artifacts.delete(hashlib.sha256(data).digest())

    assert await entries(node) == before
    assert node.want.asked == []


async def test_one_slug_at_two_sources_is_two_packages(node: WebNode) -> None:
    frodo = "frodo@publisher.test"
    pem = public_key_pem(PUBLISHER.public)

    def register(db: Any) -> None:
        registry.insert_source(db, id=frodo, instance_url=URL, username="frodo", public_key=pem, created_at=NOW)
        registry.update_source(db, frodo, status="verified", verified_at=NOW, oracle="none")

    await node.services.database.write(register)
    await node.add_release(a_zip())
    await node.add_release(a_zip("2.0"), source_id=frodo, version="2.0")
    other = composer_name(frodo, "hello-signal")

    assert (await node.get("/composer/list.json")).json == {"packageNames": sorted([NAME, other])}
    assert await versions(node) == ["1.0.0"]
    assert [one["version"] for one in await entries(node, f"/composer/p2/{other}.json")] == ["2.0"]


async def test_a_name_that_two_plugins_have_is_nobodys(node: WebNode) -> None:
    await node.add_release(a_zip())
    await node.add_release(a_zip("2.0"), plugin_id="other", version="2.0")
    await node.services.database.write(lambda db: db.execute("UPDATE plugins SET composer_name = ?", (NAME,)))

    assert (await node.get(P2)).status == 404


async def test_packages_are_found_by_words_and_by_type(node: WebNode) -> None:
    await node.add_release(a_zip())

    found = (await node.get("/composer/search.json?q=signal&type=wordpress-plugin")).json
    page = "https://node.test/plugins/bilbo@publisher.test/hello-signal"

    assert found == {
        "results": [
            {
                "name": NAME,
                "description": "It says hello.",
                "url": page,
                "repository": page,
                "downloads": 0,
                "favers": 0,
            }
        ],
        "total": 1,
    }
    assert (await node.get(urlsplit(page).path)).status == 200
    for nothing in ("q=unheard", "q=signal&type=wordpress-theme", "q=signal&type=library"):
        assert (await node.get(f"/composer/search.json?{nothing}")).json == {"results": [], "total": 0}


async def test_what_is_yanked_in_every_version_is_not_found(node: WebNode) -> None:
    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    assert (await node.get("/composer/search.json?q=signal")).json["total"] == 1

    await node.post("/federation/yank", NOTICE)

    assert (await node.get("/composer/search.json?q=signal")).json == {"results": [], "total": 0}
    assert (await node.get("/composer/list.json")).json == {"packageNames": []}


async def test_the_list_of_names_can_be_filtered(node: WebNode) -> None:
    await node.add_release(a_zip())

    for pattern, names in (("pfn/*", [NAME]), ("*signal", [NAME]), ("other/*", [])):
        assert (await node.get(f"/composer/list.json?filter={pattern}")).json == {"packageNames": names}


@pytest.mark.parametrize("pattern", ["*a*b*c*d", "x" * 301])
async def test_a_filter_that_would_take_long_on_every_name_is_refused(node: WebNode, pattern: str) -> None:
    assert (await node.get(f"/composer/list.json?filter={pattern}")).status == 400


async def test_names_are_read_once_until_something_changes(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await node.add_release(a_zip())
    read = Mock(wraps=packages.package_names)
    monkeypatch.setattr(packages, "package_names", read)

    async def names() -> list[str]:
        listed: list[str] = (await node.get("/composer/list.json")).json["packageNames"]
        return listed

    assert [await names(), await names(), read.call_count] == [[NAME], [NAME], 1]
    assert (await node.post("/federation/yank", NOTICE | {"version": "1.0.0"})).status == 200
    assert [await names(), await names(), read.call_count] == [[], [], 2]


async def advise(node: WebNode, **fields: Any) -> None:
    body = {
        "sourceId": BILBO,
        "plugin": "hello-signal",
        "advisory_id": "PFN-1",
        "severity": "high",
        "summary": "A hole.",
        "ranges": [{"from": "1.0", "until": "1.1.0"}],
        "aliases": ["GHSA-1", "CVE-2026-12345"],
    }
    assert (await node.post("/federation/advisories", body | fields)).status == 200


async def test_advisories_are_told_of_packages_that_are_asked_about_and_of_no_others(node: WebNode) -> None:
    await node.add_release(a_zip())
    await node.add_release(a_zip("2.0"), plugin_id="other", version="2.0")
    await advise(node)
    await advise(node, plugin="other", advisory_id="PFN-2")
    other = composer_name(BILBO, "other")

    async def ask(*names: str) -> Any:
        form = {f"packages[{number}]": name for number, name in enumerate(names)}
        got = await node.call("POST", "/composer/security-advisories", form=form)
        assert got.status == 200, got.body
        return got.json["advisories"]

    assert await ask("composer/installers", "pfn/unknown") == {}
    assert set(await ask(other, other)) == {other}
    (advisory,) = (await ask(NAME, "composer/installers"))[NAME]
    assert advisory == {
        "advisoryId": "PFN-1",
        "packageName": NAME,
        "remoteId": "PFN-1",
        "title": "A hole.",
        "link": "https://node.test/plugins/bilbo@publisher.test/hello-signal",
        "cve": "CVE-2026-12345",
        "affectedVersions": ">=1.0.0.0,<1.1.0.0",
        "source": "this node",
        "reportedAt": "2026-11-23 08:00:00",
        "composerRepository": "https://node.test/composer",
        "severity": "high",
        "sources": [{"name": "this node", "remoteId": "PFN-1"}],
    }
    assert (await node.get(P2)).json["security-advisories"] == [
        {"advisoryId": "PFN-1", "affectedVersions": ">=1.0.0.0,<1.1.0.0"}
    ]


async def test_who_has_what_was_taken_down_is_still_warned(node: WebNode) -> None:
    await node.add_release(a_zip())
    await advise(node)
    await node.post("/federation/takedown", NOTICE | {"version": "1.0.0"})

    got = await node.call("POST", "/composer/security-advisories", form={"packages[0]": NAME})

    assert (await node.get(P2)).status == 404
    assert [one["advisoryId"] for one in got.json["advisories"][NAME]] == ["PFN-1"]


@pytest.mark.parametrize("body", [b"\xff", "&".join(f"packages[{n}]=pfn/x" for n in range(1_001)).encode()])
async def test_more_packages_than_a_project_has_are_refused(node: WebNode, body: bytes) -> None:
    got = await node.call("POST", "/composer/security-advisories", data=body)

    assert (got.status, bool(got.sentence)) == (400, True)


@pytest.mark.parametrize(
    ("ranges", "constraint"),
    [
        ([("", "1.4")], "<1.4.0.0"),
        ([("1.0", "")], ">=1.0.0.0"),
        ([("", "")], "*"),
        ([("1.0", "1.1"), ("2.0-rc1", "2.0")], ">=1.0.0.0,<1.1.0.0|>=2.0.0.0-RC1,<2.0.0.0"),
        ([("one", "2.0")], "<2.0.0.0"),
        ([("one", "two")], "*"),
    ],
)
def test_a_range_is_a_constraint_and_open_where_composer_cannot_read_it(
    ranges: list[tuple[str, str]], constraint: str
) -> None:
    assert affected_versions({"ranges": [{"from": low, "until": high} for low, high in ranges]}) == constraint


async def test_downloads_are_counted_by_version_and_nothing_else_is_kept(node: WebNode) -> None:
    await node.add_release(a_zip())
    told = [
        {"name": NAME, "version": "1.0.0.0"},
        {"name": NAME, "version": "1.0.0"},
        {"name": NAME, "version": "9.9"},
        {"name": "pfn/unknown", "version": "1.0.0.0"},
    ]

    got = await node.call("POST", "/composer/downloads", json={"downloads": told})

    assert got.status == 200
    await node.services.downloads.keep()
    counted = await node.services.database.read(
        lambda db: [tuple(row) for row in db.execute("SELECT * FROM download_counts").fetchall()]
    )
    assert counted == [(BILBO, "hello-signal", "1.0.0", 2)]
    assert (await node.get("/composer/search.json?q=signal")).json["results"][0]["downloads"] == 2


async def test_counting_looks_at_few_packages_and_reads_none_of_them_whole(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_release(a_zip())
    asked = Mock(wraps=packages.versions_named)
    monkeypatch.setattr(packages, "versions_named", asked)
    monkeypatch.setattr(packages, "package_named", Mock(side_effect=AssertionError))
    told = [{"name": f"pfn/x{number}", "version": "1"} for number in range(1_000)]

    assert (await node.call("POST", "/composer/downloads", json={"downloads": told})).status == 200
    assert asked.call_count == composer.PACKAGES_COUNTED_MAX


async def test_no_more_versions_are_counted_than_there_is_room_for(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "COUNTED_MAX", 1)
    for version in ("1.0.0", "1.1.0"):
        await node.add_release(a_zip(version), version=version)
        told = [{"name": NAME, "version": version}] * 2
        assert (await node.call("POST", "/composer/downloads", json={"downloads": told})).status == 200
        await node.services.downloads.keep()

    counted = await node.services.database.read(lambda db: downloads.downloads_of(db, BILBO, "hello-signal"))
    assert counted == {"1.0.0": 2}


async def test_facts_of_zips_that_are_no_release_make_room(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "FACTS_MAX", 1)
    monkeypatch.setattr(packages, "SAMPLE", (b"\xff" * 33, 1))
    gone = PackageFacts(bytes(20), bytes(48), {})
    await node.services.database.write(lambda db: packages.keep_facts(db, {bytes(32): gone}))
    await node.add_release(a_zip())

    assert await versions(node) == ["1.0.0"]
    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    assert await versions(node) == ["1.0.0"]


async def test_how_many_facts_there_are_is_seen_by_a_part_of_them(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [hashlib.sha256(b"zip %d" % number).digest() for number in range(20_000)]
    facts = dict.fromkeys(digests, PackageFacts(bytes(20), bytes(48), {}))
    monkeypatch.setattr(packages, "FACTS_MAX", 16_000)
    late = {bytes([255]) * 32: PackageFacts(bytes(20), bytes(48), {})}

    def fill(db: sqlite_utils.Database) -> tuple[int, int]:
        packages.keep_facts(db, facts)
        full = db.execute("SELECT count(*) FROM package_facts").fetchone()[0]
        packages.keep_facts(db, late)  # no zip of these is a release: all of them make room
        return full, db.execute("SELECT count(*) FROM package_facts").fetchone()[0]

    assert await node.services.database.write(fill) == (20_000, 1)


async def test_a_node_without_a_url_names_the_one_that_it_is_asked_by(tmp_path: Path) -> None:
    async with web_node(tmp_path, url=None) as node:
        root = (await node.get("/composer/packages.json", headers={"Host": "127.0.0.1:8470"})).json

    assert root["security-advisories"]["api-url"] == "http://127.0.0.1:8470/composer/security-advisories"


def test_plugins_of_an_older_database_get_their_names() -> None:
    db = sqlite_utils.Database(memory=True)
    db.execute("CREATE TABLE plugins (id INTEGER PRIMARY KEY, source_id TEXT, plugin_id TEXT)")
    db.execute("INSERT INTO plugins VALUES (1, ?, 'hello-signal')", (BILBO,))

    add_composer(db)

    assert db.execute("SELECT composer_name FROM plugins").fetchall() == [(NAME,)]
    db.close()
