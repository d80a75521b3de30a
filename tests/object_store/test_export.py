"""An export in a real object store: written, gone on with, and checked through the S3 API."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from typer.testing import CliRunner

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.cli import app
from pfn_node.data_folder import KEY_FILE, write_secret
from tests.node.exporting import CATALOGUE, INFO, NOTICE, P2, a_zip, mirror_of
from tests.node.web_node import NODE, WebNode, web_node
from tests.object_store.server import Bucket

LARGE = bytes(range(256)) * 4096 * 6  # in several parts


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        write_secret(tmp_path / KEY_FILE, NODE.to_pem())
        await made.add_bilbo()
        await made.add_release(a_zip())
        yield made


def pfn(bucket: Bucket, *words: object, exit_code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["export", *map(str, words), "--json"], env=dict(bucket.environment))
    assert done.exit_code == exit_code, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_a_bucket_gets_what_changed_and_every_wrong_file_in_it_is_named(node: WebNode, bucket: Bucket) -> None:
    place = f"{bucket.url}/deep/er"
    words = ("--to", place, "--data", node.services.settings.data, "--url", "https://files.test")
    store = bucket.store

    first = pfn(bucket, *words)
    await node.add_release(LARGE, version="1.1.0")
    second = pfn(bucket, *words)
    third = pfn(bucket, *words)

    assert first["written"] == first["files"] > 10
    assert 5 < second["written"] < second["files"]
    assert (third["written"], third["removed"]) == (0, 0)
    assert pfn(bucket, "--check", place)["sound"] is True
    large = f"deep/er/{mirror_of('1.1.0', '1.1.0.0')}".replace(
        hashlib.sha256(a_zip("1.1.0")).hexdigest(), hashlib.sha256(LARGE).hexdigest()
    )
    got = obstore.get(store, large)
    assert bytes(got.bytes()) == LARGE
    assert got.attributes["Content-Type"] == "application/zip"
    # A takedown has to reach caches that many share.
    assert got.attributes["Cache-Control"] == "public, max-age=31536000, s-maxage=60, immutable"
    assert "max-age=300" in obstore.get(store, f"deep/er/{INFO}").attributes["Cache-Control"]

    obstore.put(store, f"deep/er/{P2}", b"{}")
    obstore.delete(store, f"deep/er/{CATALOGUE}")
    obstore.put(store, "deep/er/download/plugin/evil.1.0.zip", b"evil")
    wrong = pfn(bucket, "--check", place, exit_code=1)["wrong"]
    assert {one["path"]: one["what"] for one in wrong} == {
        P2: "changed",
        CATALOGUE: "missing",
        "download/plugin/evil.1.0.zip": "not listed",
    }

    await node.post("/federation/takedown", NOTICE)
    mended = pfn(bucket, *words)
    assert mended["removed"] >= 3
    assert pfn(bucket, "--check", place)["sound"] is True
    assert not [one for page in obstore.list(store) for one in page if "evil" in one["path"]]


async def test_a_bucket_that_is_not_there_is_said_in_a_sentence(node: WebNode, bucket: Bucket) -> None:
    words = [
        "export",
        "--to",
        "s3://no-such-bucket",
        "--data",
        str(node.services.settings.data),
        "--url",
        "https://a.test",
    ]

    done = CliRunner().invoke(app, words, env=dict(bucket.environment))

    assert done.exit_code == 1
    assert "pfn: " in done.stderr and "Traceback" not in done.output


async def test_a_node_whose_zips_lie_in_an_object_store_is_exported_from_there(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, given in bucket.environment.items():
        monkeypatch.setenv(name, given)
    data = tmp_path / "node"
    data.mkdir()
    words = ["export", "--to", str(tmp_path / "files"), "--data", str(data), "--url", "https://files.test"]
    async with web_node(data) as node:
        write_secret(data / KEY_FILE, NODE.to_pem())
        await node.add_bilbo()
        store = Artifacts(data / "artifacts", 0, ObjectStore(f"{bucket.url}/zips"))
        store.start()
        store.put_bytes(a_zip())
        await node.add_release(a_zip(), kept=False)

        without = CliRunner().invoke(app, words)
        monkeypatch.setenv("PFN_ARTIFACTS", f"{bucket.url}/zips")
        done = CliRunner().invoke(app, words)

        assert (without.exit_code, done.exit_code) == (1, 0), done.output
        assert "set PFN_ARTIFACTS" in without.stderr
        assert (tmp_path / "files" / mirror_of("1.0.0", "1.0.0.0")).read_bytes() == a_zip()
        assert (tmp_path / "files" / P2).exists()

        digest = hashlib.sha256(a_zip()).hexdigest()
        obstore.put(bucket.store, f"zips/{digest[:2]}/{digest[2:]}", b"x" * len(a_zip()))
        again = CliRunner().invoke(app, ["export", "--to", str(tmp_path / "other"), *words[3:]])
        assert again.exit_code == 1 and digest in again.stdout
        assert not (tmp_path / "other" / P2).exists()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        down = CliRunner().invoke(app, ["export", "--to", str(tmp_path / "third"), *words[3:]])
        assert down.exit_code == 1 and "cannot be used now" in down.stderr
