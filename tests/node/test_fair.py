"""FAIR's view over HTTP: what a publisher made FAIR's itself, with its signature as it gave it; labels; tombstones."""

import base64
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import sqlite_utils
from nacl.signing import VerifyKey

from pfn_node import package_facts
from pfn_node.store import fair, packages
from pfn_node.store.schema import migrations
from pfn_node.web.consumers import fair_answers
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.publisher import metadata_message, sign_sha384, verify_sha384
from tests.node.web_node import BILBO, NODE, PUBLISHER, STRANGER, WebNode, web_node

DID = "did:plc:afjf7gsjzsqmgc7dlhb553mv"
PACKAGE = f"/packages/{DID}"
HEADERS = {
    "License": "GPL-2.0-or-later",
    "Author": "Bilbo",
    "Author URI": "https://bilbo.test",
    "Security": "security@bilbo.test",
    "Requires PHP": "7.4",
    "Requires at least": "6.0",
    "Plugin ID": DID,
}
NOTICE = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0"}
# What FAIR's specification says that a metadata document and a release must have.
DOCUMENT_MUST = {"@context", "id", "type", "license", "authors", "security", "releases"}
RELEASE_MUST = {"version", "artifacts"}


def a_zip(headers: dict[str, str], version: str = "1.0.0") -> bytes:
    data = io.BytesIO()
    lines = "".join(f" * {name}: {value}\n" for name, value in headers.items())
    with zipfile.ZipFile(data, "w") as file:
        text = f"<?php\n/*\n * Plugin Name: Hello\n * Version: {version}\n{lines} */\n"
        file.writestr(zipfile.ZipInfo("hello-signal/hello-signal.php"), text)
    return data.getvalue()


async def publish(node: WebNode, *, key: PrivateKey | None = PUBLISHER, version: str = "1.0.0", **fields: Any) -> bytes:
    """A release with FAIR's signature by `key`, whose zip was read as a mirroring node reads it; answers the zip."""
    headers = HEADERS | fields.pop("headers", {})
    data = a_zip({name: value for name, value in headers.items() if value}, version)
    slug = fields.get("plugin_id", "hello-signal")
    message = metadata_message(slug, "Hello <b>Signal</b>", version, "It says hello.")
    evidence = [Evidence(EvidenceForm.METADATA, PUBLISHER.sign(message))]
    if key is not None:
        evidence.append(Evidence(EvidenceForm.SHA384, sign_sha384(key, hashlib.sha384(data).digest())))
    await node.add_release(data, version=version, evidence=tuple(evidence), **fields)
    digest = hashlib.sha256(data).digest()
    facts = package_facts.measure(node.services.artifacts, digest)
    assert facts is not None
    await node.services.database.write(lambda db: packages.keep_facts(db, {digest: facts}))
    return data


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def labels(node: WebNode, *ids: str) -> list[tuple[str, str]]:
    got = await node.get("/labels/query?" + "&".join(f"ids={one}" for one in ids))
    assert got.status == 200, got.body
    assert all(one["source"] == did_key(NODE.public) for one in got.json)
    return [(one["subject"].removeprefix(f"fairpm:{DID}"), one["value"]) for one in got.json]


async def test_the_document_has_what_fair_requires_and_the_publishers_own_signature(node: WebNode) -> None:
    data = await publish(node)

    got = await node.get(PACKAGE)

    assert (got.status, got.headers["Content-Type"]) == (200, "application/json+fair")
    document = got.json
    assert document.keys() >= DOCUMENT_MUST and document["releases"][0].keys() >= RELEASE_MUST
    artifact = document["releases"][0]["artifacts"]["package"][0]
    assert document == {
        "@context": "https://fair.pm/ns/metadata/v1",
        "id": DID,
        "type": "wp-plugin",
        "slug": "hello-signal",
        "name": "Hello <b>Signal</b>",
        "description": "It says hello.",
        "license": "GPL-2.0-or-later",
        "authors": [{"name": "Bilbo", "url": "https://bilbo.test"}],
        "security": [{"email": "security@bilbo.test"}],
        "keywords": ["Utilities"],
        "last_updated": "2026-11-23T08:00:00Z",
        "releases": [
            {
                "version": "1.0.0",
                "artifacts": {"package": [artifact]},
                "requires": {"env:php": ">=7.4", "env:wp": ">=6.0"},
            }
        ],
    }
    assert artifact["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    # As FAIR Connect checks it: base64url without padding, over the raw SHA-384.
    assert "=" not in artifact["signature"]
    signature = base64.urlsafe_b64decode(artifact["signature"] + "==")
    assert signature == sign_sha384(PUBLISHER, hashlib.sha384(data).digest())
    VerifyKey(PUBLISHER.public).verify(hashlib.sha384(data).digest(), signature)
    zipped = await node.get(artifact["url"].removeprefix("https://node.test"))
    assert zipped.body == data


@pytest.mark.parametrize(
    "lacks",
    [
        {"key": None},
        {"key": STRANGER},
        {"headers": {"Plugin ID": ""}},
        {"headers": {"Plugin ID": "did:plc:short"}},
        {"headers": {"Plugin ID": "did:web:elsewhere.test"}},
        {"headers": {"Plugin ID": "did:key:z6Mk"}},
        {"headers": {"Security": ""}},
        {"headers": {"Security": "javascript:alert(1)"}},
        {"headers": {"License": ""}},
        {"headers": {"Author": ""}},
    ],
)
async def test_nothing_is_made_up_for_a_publisher_that_did_not_supply_it(node: WebNode, lacks: dict[str, Any]) -> None:
    await publish(node, **lacks)
    did = (HEADERS | lacks.get("headers", {}))["Plugin ID"] or DID

    assert (await node.get(f"/packages/{did}")).status == 404
    assert (await node.get("/packages/wp-plugin")).json["packages"] == []
    assert await labels(node, f"fairpm:{did}") == []


@pytest.mark.parametrize(
    "source", [{"oracle": "utf8"}, {"oracle": "raw"}, {"oracle": None}, {"status": "conflict"}, {"verified_at": None}]
)
async def test_a_key_that_is_not_known_or_signs_for_anybody_vouches_for_nothing(
    tmp_path: Path, source: dict[str, Any]
) -> None:
    async with web_node(tmp_path) as node:
        await node.add_bilbo(**source)
        await publish(node)

        assert (await node.get(PACKAGE)).status == 404


async def test_a_did_of_the_web_is_its_hosts_to_give(node: WebNode) -> None:
    await publish(node, headers={"Plugin ID": "did:web:publisher.test:plugins:hello"})

    assert (await node.get("/packages/did:web:publisher.test:plugins:hello")).status == 200


async def test_only_versions_that_are_signed_and_name_the_same_did_are_releases(node: WebNode) -> None:
    await publish(node, version="1.0.0")
    await publish(node, version="1.1.0", headers={"Plugin ID": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"})
    await publish(node, version="1.2.0", key=STRANGER)
    await publish(node, version="1.10.0")
    await publish(node, version="1.11.0", headers={"Requires PHP": "7.4 || evil"}, key=None)

    document = (await node.get(PACKAGE)).json

    assert [one["version"] for one in document["releases"]] == ["1.10.0", "1.0.0"]


async def test_a_did_that_two_plugins_name_is_neither_ones(node: WebNode) -> None:
    await publish(node)
    await publish(node, plugin_id="copycat", version="2.0.0")

    got = await node.get(PACKAGE)

    assert got.status == 409
    assert f"{BILBO}/copycat, {BILBO}/hello-signal" in got.sentence
    assert await labels(node, f"fairpm:{DID}") == []

    await node.post("/federation/takedown", {"sourceId": BILBO, "plugin": "copycat", "version": "2.0.0"})
    assert (await node.get(PACKAGE)).json["slug"] == "hello-signal"
    assert await labels(node, f"fairpm:{DID}") == [("/releases/1.0.0", "verified")]


async def test_what_was_taken_back_is_gone_and_what_never_was_is_not_found(node: WebNode) -> None:
    await publish(node)
    assert (await node.get(PACKAGE)).status == 200

    await node.post("/federation/yank", NOTICE | {"reason": "it eats posts"})
    yanked = await node.get(PACKAGE)
    labelled = await labels(node, f"fairpm:{DID}")
    await publish(node, version="1.0.1")
    back = await node.get(PACKAGE)

    assert (yanked.status, labelled) == (410, [("/releases/1.0.0", "!warn")])
    assert yanked.sentence.startswith("This package was taken back")
    assert [one["version"] for one in back.json["releases"]] == ["1.0.1"]
    assert (await node.get("/packages/did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")).status == 404


async def test_what_was_taken_down_here_is_gone_and_blocked(node: WebNode) -> None:
    await publish(node)

    await node.post("/federation/takedown", NOTICE | {"reason": "malware"})

    assert (await node.get(PACKAGE)).status == 410
    assert await labels(node, f"fairpm:{DID}/releases/1.0.0") == [("/releases/1.0.0", "!block")]


async def test_labels_tell_of_single_releases_or_of_all(node: WebNode) -> None:
    await publish(node, version="1.0.0")
    await publish(node, version="1.1.0")
    advisory = {"advisory_id": "X-1", "severity": "high", "summary": "Anybody may post.", "affected": ["1.0.0"]}
    told = await node.post(
        "/federation/advisories",
        {"sourceId": BILBO, "plugin": "hello-signal", **advisory, "ranges": [{"from": "", "until": "1.1.0"}]},
    )

    every = await labels(node, f"fairpm:{DID}")
    one = await labels(node, f"fairpm:{DID}/releases/1.1.0", "fairpm:did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

    assert told.status == 200, told.body
    assert every == [("/releases/1.1.0", "verified"), ("/releases/1.0.0", "vulnerable:high")]
    assert one == [("/releases/1.1.0", "verified")]
    assert (await node.get("/labels/")).json["supports"] == ["query"]


async def test_an_old_release_that_is_named_is_warned_of_however_many_came_after_it(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fair.claim_of.__kwdefaults__ is not None
    monkeypatch.setitem(fair.claim_of.__kwdefaults__, "releases_max", 1)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await publish(node, version=version)
    await node.post("/federation/yank", NOTICE | {"reason": "it eats posts"})

    assert await labels(node, f"fairpm:{DID}/releases/1.0.0") == [("/releases/1.0.0", "!warn")]
    assert await labels(node, f"fairpm:{DID}") == [("/releases/1.2.0", "verified")]


async def test_a_list_has_the_newest_releases_and_the_document_of_a_package_has_all(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Mock(wraps=verify_sha384)
    monkeypatch.setattr(fair_answers, "verify_sha384", verify)
    versions = [f"1.{number}.0" for number in range(6, -1, -1)]
    for version in versions:
        await publish(node, version=version)

    (listed,) = (await node.get("/packages/wp-plugin")).json["packages"]
    verified = verify.call_count
    document = (await node.get(PACKAGE)).json

    assert verified == fair.LISTED_RELEASES_MAX
    assert [one["version"] for one in listed["releases"]] == versions[: fair.LISTED_RELEASES_MAX]
    assert [one["version"] for one in document["releases"]] == versions


async def test_labels_are_asked_for_by_ids_and_not_without_end(node: WebNode) -> None:
    for query in ("", "ids=", "ids=hello", "ids=fairpm:hello", "&".join(f"ids=fairpm:did:plc:{n}" for n in range(11))):
        assert (await node.get(f"/labels/query?{query}")).status == 400


async def test_a_type_is_listed_page_by_page_and_searched(node: WebNode) -> None:
    for number, slug in enumerate(("alpha", "beta", "gamma")):
        did = f"did:plc:{'abc'[number] * 24}"
        await publish(node, plugin_id=slug, version=f"1.0.{number}", headers={"Plugin ID": did})
    await publish(node, plugin_id="unsigned", version="1.0.9", key=None, headers={"Plugin ID": ""})

    first = (await node.get("/packages/wp-plugin?per_page=2")).json
    second = (await node.get("/packages/wp-plugin?per_page=2&page=2")).json

    assert first["info"] == {"page": 1, "per_page": 2, "total": 3, "pages": 2}
    assert [one["slug"] for one in first["packages"] + second["packages"]] == ["alpha", "beta", "gamma"]
    assert all(one.keys() >= DOCUMENT_MUST for one in first["packages"])
    assert (await node.get("/packages/wp-plugin?q=hello")).json["info"]["total"] == 3
    assert (await node.get("/packages/wp-plugin?q=goodbye")).json["info"]["total"] == 0
    assert (await node.get("/packages/wp-plugin?q=...")).json["info"]["total"] == 0
    assert (await node.get("/packages/wp-theme")).json["packages"] == []
    assert (await node.get("/packages/wp-core")).status == 404
    assert (await node.get("/packages/wp-plugin?per_page=101")).status == 400


async def test_who_reads_page_after_page_has_the_list_made_once(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await publish(node)
    made = Mock(wraps=fair.claiming)
    monkeypatch.setattr(fair, "claiming", made)

    for page in (1, 2, 3):
        assert (await node.get(f"/packages/wp-plugin?page={page}")).json["info"]["total"] == 1
    assert made.call_count == 1

    await node.post("/federation/yank", NOTICE)
    assert (await node.get("/packages/wp-plugin")).json["info"]["total"] == 0


async def test_a_did_of_this_nodes_name_has_its_document_here_and_no_other_has(node: WebNode) -> None:
    did = "did:web:node.test:packages:wp-plugin:hello-signal"
    await publish(node, headers={"Plugin ID": did})

    got = await node.get("/packages/wp-plugin/hello-signal/did.json")

    assert (got.status, got.headers["Content-Type"]) == (200, "application/did+ld+json")
    (method,), (service,) = got.json["verificationMethod"], got.json["service"]
    assert (got.json["id"], method["controller"], method["type"]) == (did, did, "Multikey")
    assert f"did:key:{method['publicKeyMultibase']}" == did_key(PUBLISHER.public)
    assert (service["type"], service["serviceEndpoint"]) == (
        "FairPackageManagementRepo",
        f"https://node.test/packages/{did}",
    )
    assert (await node.get(f"/packages/{did}")).json["id"] == did
    assert (await node.get("/packages/wp-plugin/other/did.json")).status == 404


async def test_a_node_without_a_name_of_its_own_gives_no_did_documents(tmp_path: Path) -> None:
    async with web_node(tmp_path, url=None) as node:
        assert (await node.get("/packages/wp-plugin/hello-signal/did.json")).status == 404


async def test_zips_that_were_read_before_dids_were_looked_at_are_read_again() -> None:
    db = sqlite_utils.Database(memory=True)
    migrations.apply(db, stop_before="m016_fair")
    db.execute("INSERT INTO package_facts VALUES (x'00', x'01', x'02', '{}')")
    migrations.apply(db)

    assert db.execute("SELECT count(*) FROM package_facts").fetchone() == (0,)
