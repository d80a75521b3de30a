"""Zips and signatures as WordPress and wp-cli fetch them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pfn_node.store import packages
from pfn_node.store.rows import PackageFacts
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import sign_sha384
from tests.node.web_node import PUBLISHER, STRANGER, WebNode, web_node
from tests.node.wordpress_site import FILE, FRODO, add_frodos, check, installed, own

ZIP = "/download/plugin/hello-signal.1.0.0.zip"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


def signed_by(key: PrivateKey, data: bytes) -> tuple[Evidence, ...]:
    return (Evidence(EvidenceForm.SHA384, sign_sha384(key, hashlib.sha384(data).digest())),)


async def test_a_zip_is_served_under_the_name_that_wp_cli_makes(node: WebNode) -> None:
    await node.add_release(b"old", version="1.0.0")
    await node.add_release(b"new", version="1.1.0+b2")

    got = await node.get("/download/plugin/hello-signal.1.0.0.zip")
    head = await node.call("HEAD", "/download/plugin/hello-signal.1.1.0+b2.zip")

    assert (got.status, got.body) == (200, b"old")
    assert got.headers["Content-Disposition"] == 'attachment; filename="hello-signal.1.0.0.zip"'
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == f'"{hashlib.sha256(b"new").hexdigest()}"'
    for name in ("hello-signal.9.zip", "nothing.1.0.0.zip", "hello-signal.zip", ".zip", "hello-signal..zip"):
        assert (await node.get(f"/download/plugin/{name}")).status == 404, name


async def test_an_update_is_of_the_source_that_was_named_whatever_the_bare_slug_means(node: WebNode) -> None:
    await node.add_release(b"bilbo's")
    await add_frodos(node)
    await own(node, "hello-signal", FRODO)

    package = (await check(node, {FILE: installed("0.9")}))["plugins"][FILE]["package"]
    path = urlsplit(package)

    assert (await node.get(f"{path.path}?{path.query}")).body == b"bilbo's"
    assert (await node.get(ZIP)).body == b"frodo's"
    assert (await node.get(f"{ZIP}?source=nobody@nowhere.test")).status == 404


@pytest.mark.parametrize("was_read", [True, False])
async def test_the_publishers_own_signature_is_given_as_wordpress_reads_it(node: WebNode, was_read: bool) -> None:
    evidence = signed_by(PUBLISHER, b"zip")
    await node.add_release(b"zip", evidence=(*evidence, *signed_by(STRANGER, b"zip"), *signed_by(PUBLISHER, b"other")))
    if was_read:
        facts = PackageFacts(b"1" * 20, hashlib.sha384(b"zip").digest(), {})
        await node.services.database.write(lambda db: packages.keep_facts(db, {hashlib.sha256(b"zip").digest(): facts}))

    got = await node.get(f"{ZIP}.sig")

    assert got.status == 200, got.body
    assert got.body.decode() == base64.b64encode(evidence[0].data).decode() + "\n"
    assert got.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("spoilt", ["unsigned", "by another", "not here", "not backed", "key not known"])
async def test_no_signature_is_made_up(node: WebNode, spoilt: str) -> None:
    key = STRANGER if spoilt == "by another" else PUBLISHER
    evidence = () if spoilt == "unsigned" else signed_by(key, b"zip")
    await node.add_release(b"zip", evidence=evidence, kept=spoilt != "not here")
    if spoilt == "not backed":
        await node.services.database.write(lambda db: db.execute("UPDATE releases SET backed = 0"))
    if spoilt == "key not known":
        await node.services.database.write(lambda db: db.execute("UPDATE sources SET verified_at = NULL"))

    got = await node.get(f"{ZIP}.sig")

    assert got.status == 404
    assert got.sentence
