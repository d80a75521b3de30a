"""Releases over HTTP: downloads, verification, and statements that authors hand in."""

import base64
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.archive_process import Examined
from pfn_node.archive_readers import ArchiveNotRead
from pfn_node.sources.outcomes import UnknownSource
from pfn_node.store import catalogue
from pfn_node.store.rows import Release
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import did_key
from pfn_protocol.publisher import (
    HeadStatement,
    ReleaseStatement,
    metadata_message,
    sign_head,
    sign_keybind,
    sign_release,
    sign_sha384,
)
from pfn_protocol.set_digest import SetDigest
from tests.node.web_node import BILBO, NODE, NOW, PUBLISHER, STRANGER, URL, WebNode, web_node

ZIP = b"PK\x03\x04 some bytes of a plugin"
SHA256 = hashlib.sha256(ZIP).hexdigest()
DOWNLOAD = {"sourceId": BILBO, "plugin": "hello-signal"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


def release_statement(data: bytes = ZIP, **fields: Any) -> ReleaseStatement:
    message = metadata_message("hello-signal", "Hello <b>Signal</b>", "1.0.0", "It says hello.")
    given: dict[str, Any] = {
        "origin": URL,
        "author": "bilbo",
        "slug": "hello-signal",
        "version": "1.0.0",
        "sha256": hashlib.sha256(data).digest(),
        "size": len(data),
        "epoch": 0,
        "seq": NOW * 1000,
        "metadata_sha256": hashlib.sha256(message).digest(),
    }
    return ReleaseStatement(**given | fields)


def every_evidence(data: bytes = ZIP) -> tuple[Evidence, ...]:
    message = metadata_message("hello-signal", "Hello <b>Signal</b>", "1.0.0", "It says hello.")
    release = sign_release(STRANGER, release_statement(data))
    head = HeadStatement(SetDigest([release.id]).digest(), 1, NOW * 1000, NOW + 86_400)
    return (
        Evidence(EvidenceForm.METADATA, PUBLISHER.sign(message)),
        Evidence(EvidenceForm.RELEASE, release.raw),
        Evidence(EvidenceForm.KEYBIND, sign_keybind(PUBLISHER, STRANGER, URL).raw),
        Evidence(EvidenceForm.HEAD, sign_head(STRANGER, head).raw),
        Evidence(EvidenceForm.SHA384, sign_sha384(PUBLISHER, hashlib.sha384(data).digest())),
    )


async def test_a_download_is_the_zip_with_its_digest_and_assurance(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)

    got = await node.get("/federation/download", query_string=DOWNLOAD)

    assert (got.status, got.body) == (200, ZIP)
    assert got.headers["Content-Type"] == "application/zip"
    assert got.headers["Content-Disposition"] == 'attachment; filename="hello-signal.1.0.0.zip"'
    assert got.headers["ETag"] == f'"{SHA256}"'
    assert got.headers["PFN-Assurance"] == "A1"
    assert got.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(SHA256)).decode()}:"
    assert got.headers["Content-Security-Policy"] == "sandbox"


async def test_a_zip_may_be_kept_for_a_minute_but_not_what_a_key_was_given_nor_a_refusal(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    key = await node.make_key(description="a site", scopes=["read"])

    anybody = await node.get("/federation/download", query_string=DOWNLOAD)
    known = await node.get("/federation/download", query_string=DOWNLOAD, headers={"If-None-Match": f'"{SHA256}"'})
    keyed = await node.read("/federation/download", query_string=DOWNLOAD, key=key)
    refused = await node.get("/federation/download", query_string=DOWNLOAD | {"version": "9"})

    assert anybody.headers["Cache-Control"] == known.headers["Cache-Control"] == "public, max-age=60"
    assert (keyed.status, keyed.headers["Cache-Control"]) == (200, "no-store")
    assert (refused.status, refused.headers["Cache-Control"]) == (404, "no-store")


async def test_a_download_has_ranges_conditions_and_head(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)

    async def ask(method: str = "GET", **headers: str) -> tuple[int, bytes]:
        got = await node.call(
            method,
            "/federation/download",
            query_string=DOWNLOAD,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        if got.status == 416:
            assert got.sentence and got.headers["Content-Range"] == f"bytes */{len(ZIP)}"
            return 416, b""
        return got.status, got.body

    assert await ask(Range="bytes=0-3") == (206, ZIP[:4])
    assert await ask(Range="bytes=-5") == (206, ZIP[-5:])
    assert (await ask(Range="bytes=999-"))[0] == 416
    assert await ask(If_None_Match=f'"{SHA256}"') == (304, b"")
    assert (await ask("HEAD")) == (200, b"")


async def test_without_a_version_the_newest_backed_one_comes(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await node.add_release(b"newer", version="1.10.0")
    await node.add_report(b"newest", version="9.0.0")

    newest = await node.get("/federation/download", query_string=DOWNLOAD)
    named = await node.get("/federation/download", query_string=DOWNLOAD | {"version": "1.0.0"})

    assert (newest.body, named.body) == (b"newer", ZIP)


async def test_what_is_only_reported_is_not_served_and_the_answer_says_why(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_report(ZIP)

    got = await node.get("/federation/download", query_string=DOWNLOAD)

    assert got.status == 422
    assert did_key(STRANGER.public) in got.sentence
    assert "pins" in got.sentence and "/federation/releases" in got.sentence
    assert got.json["details"]["reported_by"] == [did_key(STRANGER.public)]
    assert node.want.asked[0][1] is True, "nobody with a key asked"


async def test_what_is_backed_but_not_here_is_fetched(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP, kept=False)
    release = await node.services.database.read(lambda db: catalogue.get_release(db, BILBO, "hello-signal"))
    assert release is not None and release.backed

    missing = await node.get("/federation/download", query_string=DOWNLOAD)
    node.services.artifacts.put_bytes(ZIP)
    node.services.artifacts.delete(bytes.fromhex(SHA256))
    node.want.found = release
    gone_again = await node.get("/federation/download", query_string=DOWNLOAD)

    async def fetch(release: Release, *, anonymous: bool) -> Release:
        node.services.artifacts.put_bytes(ZIP)
        return release

    node.services.want = fetch
    fetched = await node.read("/federation/download", query_string=DOWNLOAD)

    assert missing.status == 502 and "neither a mirror nor its publisher" in missing.sentence
    assert gone_again.status == 404
    assert fetched.body == ZIP


@pytest.mark.parametrize(
    "query",
    [
        "plugin=hello-signal",
        "sourceId=a@b",
        "sourceId=a@b&plugin=../../x",
        "sourceId=a@b&plugin=..%2f",
        "sourceId=a@b&plugin=C:",
        "sourceId=a@b&plugin=a%00",
        "sourceId=a@b&plugin=A",
        "sourceId=a@b&plugin=a/b",
        "sourceId=a@b&plugin=a&version=",
        "sourceId=a@b&plugin=a&version=../1",
        "sourceId=&plugin=a",
        "sourceId=%FF&plugin=a",
        "sourceId=" + "x" * 400 + "&plugin=a",
        "&".join(f"a{number}=1" for number in range(60)),
    ],
)
async def test_names_that_cannot_be_are_400(node: WebNode, query: str) -> None:
    for call in ("download", "verify"):
        got = await node.get(f"/federation/{call}?{query}")

        assert got.status == 400 and got.sentence


async def test_verifying_reads_the_bytes_and_checks_every_signature_again(node: WebNode) -> None:
    await node.add_bilbo(origin_bound=True)
    await node.add_release(ZIP, evidence=every_evidence())

    got = (await node.get("/federation/verify", query_string=DOWNLOAD)).json

    assert got["valid"] is True
    assert (got["sha256"], got["size"]) == (SHA256, len(ZIP))
    assert {one["form"]: (one["valid"], one["covers_bytes"]) for one in got["signatures"]} == {
        "metadata": (True, False),
        "release/2": (True, True),
        "keybind/2": (True, False),
        "head/2": (True, False),
        "sha384": (True, True),
    }
    assert (got["assurance"]["level"], got["assurance"]["covers_bytes"], got["assurance"]["caveats"]) == (
        "A3",
        True,
        [],
    )
    assert got["witnesses"] == [{"node_id": did_key(NODE.public), "observed_at": NOW}]


async def test_a_metadata_signature_never_counts_as_covering_the_bytes(node: WebNode) -> None:
    await node.add_bilbo(oracle="utf8")
    await node.add_release(ZIP)

    assurance = (await node.get("/federation/verify", query_string=DOWNLOAD)).json["assurance"]

    assert (assurance["level"], assurance["covers_bytes"]) == ("A1", False)
    assert "no signature covers the file itself" in assurance["caveats"]
    assert any("oracle: utf8" in caveat for caveat in assurance["caveats"])


async def test_forged_evidence_is_found_out(node: WebNode) -> None:
    await node.add_bilbo()
    unbound = sign_release(STRANGER, release_statement()).raw
    forged = (
        Evidence(EvidenceForm.METADATA, STRANGER.sign(b"anything")),
        Evidence(EvidenceForm.RELEASE, unbound),
        Evidence(EvidenceForm.KEYBIND, sign_keybind(STRANGER, NODE, URL).raw),
        Evidence(EvidenceForm.HEAD, b"no envelope"),
        Evidence(EvidenceForm.SHA384, bytes(64)),
    )
    await node.add_release(ZIP, evidence=forged)

    got = (await node.get("/federation/verify", query_string=DOWNLOAD)).json

    assert {one["valid"] for one in got["signatures"]} == {False}
    assert got["assurance"]["level"] == "A0" and got["assurance"]["covers_bytes"] is False
    assert any("do not verify" in caveat for caveat in got["assurance"]["caveats"])


async def test_a_signed_text_is_looked_up_among_the_artifacts(node: WebNode) -> None:
    await node.add_bilbo()
    text = b'{"slug":"hello-signal","version":"1.0.0"}'
    kept = node.services.artifacts.put_bytes(text)
    evidence = (
        Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), kept),
        Evidence(EvidenceForm.KEYBIND, b"no envelope"),
        Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(b"gone"), bytes(32)),
    )
    await node.add_release(ZIP, evidence=evidence)

    signatures = (await node.get("/federation/verify", query_string=DOWNLOAD)).json["signatures"]

    assert [one["valid"] for one in signatures] == [True, False, False]


async def test_damaged_or_missing_bytes_are_never_called_valid(node: WebNode, tmp_path: Path) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    node.services.artifacts.check(bytes.fromhex(SHA256))  # what was read through before may rot since
    stored = tmp_path / "artifacts" / SHA256[:2] / SHA256[2:]
    stored.chmod(0o644)
    stored.write_bytes(ZIP[:-1] + b"!")

    damaged = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    node.services.artifacts.delete(bytes.fromhex(SHA256))
    missing = (await node.get("/federation/verify", query_string=DOWNLOAD)).json

    assert damaged["valid"] is False and any("damaged" in caveat for caveat in damaged["assurance"]["caveats"])
    assert missing["valid"] is False and any("not here" in caveat for caveat in missing["assurance"]["caveats"])


async def test_what_is_only_reported_or_revoked_is_never_called_valid(node: WebNode) -> None:
    await node.add_bilbo(status="revoked")
    await node.add_release(ZIP)
    await node.add_report(b"reported", plugin_id="reported")
    await node.add_report(b"different", plugin_id="hello-signal")

    revoked = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    reported = (await node.get("/federation/verify", query_string=DOWNLOAD | {"plugin": "reported"})).json

    assert revoked["valid"] is reported["valid"] is False
    assert reported["assurance"]["level"] == "reported"
    assert any("1 nodes saw other bytes" in caveat for caveat in revoked["assurance"]["caveats"])


async def test_verifying_what_nobody_knows_is_404(node: WebNode) -> None:
    await node.add_report(ZIP)  # of a source that nobody here has heard of

    assert (await node.get("/federation/verify", query_string=DOWNLOAD | {"plugin": "nope"})).status == 404
    assert (await node.get("/federation/verify", query_string=DOWNLOAD)).status == 404


async def test_a_zip_is_recognised_and_called_genuine(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP, evidence=every_evidence(), kept=False)

    got = await node.call("POST", "/federation/verify", data=ZIP)

    assert got.status == 200
    assert (got.json["valid"], got.json["source_id"], got.json["plugin_id"], got.json["version"]) == (
        True,
        BILBO,
        "hello-signal",
        "1.0.0",
    )
    assert {one["form"] for one in got.json["signatures"] if one["covers_bytes"]} == {"release/2", "sha384"}
    assert not node.services.artifacts.has(bytes.fromhex(SHA256)), "it is not kept"


async def test_a_strange_zip_is_not_genuine_and_says_what_it_calls_itself(node: WebNode, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("hello/hello.php", "<?php\n/*\nPlugin Name: Hello\nVersion: 6.6\n*/\n")

    strange = await node.call("POST", "/federation/verify", data=packed.getvalue())
    garbage = await node.call("POST", "/federation/verify", data=b"GIF89a<script>")

    assert strange.json["valid"] is garbage.json["valid"] is False
    assert strange.json["source_id"] is None
    assert any("the plugin Hello 6.6" in caveat for caveat in strange.json["assurance"]["caveats"])
    assert any("not a zip" in caveat for caveat in garbage.json["assurance"]["caveats"])
    assert not list((tmp_path / "artifacts" / "incoming").iterdir())


async def test_a_zip_that_cannot_be_looked_at_now_is_503_and_nothing_is_said_of_it(
    node: WebNode, tmp_path: Path
) -> None:
    async def examine(path: Path) -> Examined:
        raise ArchiveNotRead("the process that reads zips failed")

    node.services.examine = examine

    got = await node.call("POST", "/federation/verify", data=ZIP)

    assert got.status == 503 and "the process that reads zips failed" in got.sentence
    assert not list((tmp_path / "artifacts" / "incoming").iterdir())


async def test_a_zip_larger_than_the_limit_is_413(tmp_path: Path) -> None:
    async with web_node(tmp_path, artifact_bytes_max=100) as node:
        assert (await node.call("POST", "/federation/verify", data=bytes(100))).status == 200
        too_large = await node.call("POST", "/federation/verify", data=bytes(101))
        empty = await node.call("POST", "/federation/verify", data=b"")

    assert too_large.status == 413 and "100 bytes" in too_large.sentence
    assert empty.status == 400


async def test_an_author_hands_in_a_signed_release(node: WebNode) -> None:
    envelope = sign_release(STRANGER, release_statement()).raw
    keybind = sign_keybind(PUBLISHER, STRANGER, URL).raw
    body = {
        "release_v2": base64.b64encode(envelope).decode(),
        "keybind_v2": base64.b64encode(keybind).decode(),
        "artifact_url": f"{URL}/hello.zip",
    }

    got = await node.call("POST", "/federation/releases", json=body)
    alone = await node.call("POST", "/federation/releases", json={"release_v2": body["release_v2"]})

    assert got.json == {"accepted": True, "assurance": "A3"}
    assert alone.status == 200
    assert node.sources.handed_in == [(envelope, keybind, f"{URL}/hello.zip"), (envelope, None, None)]


async def test_a_statement_that_does_not_prove_itself_is_refused(node: WebNode) -> None:
    envelope = bytearray(sign_release(STRANGER, release_statement()).raw)
    envelope[-1] ^= 1
    forged = base64.b64encode(bytes(envelope)).decode()

    got = await node.call("POST", "/federation/releases", json={"release_v2": forged})
    unpadded = await node.call("POST", "/federation/releases", json={"release_v2": forged.rstrip("=") + "="})
    garbage = await node.call("POST", "/federation/releases", json={"release_v2": "AAAA"})

    assert got.status == 403 and got.json["details"]["rule"].startswith("R")
    assert unpadded.status in (400, 403) and unpadded.sentence
    assert garbage.status == 400 and garbage.sentence


async def test_a_statement_about_an_unknown_source_is_404(node: WebNode) -> None:
    node.sources.failure = UnknownSource("nobody@nowhere.test")
    envelope = base64.b64encode(sign_release(STRANGER, release_statement()).raw).decode()

    got = await node.call("POST", "/federation/releases", json={"release_v2": envelope})

    assert got.status == 404 and "nobody@nowhere.test" in got.sentence
