"""What the web says and does where artifacts lie in an object store: here a folder that is mounted as one.

A real store, and real nodes, are tried in tests/object_store.
"""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.object_store import MARK, ObjectStore
from pfn_node.store import downloads
from tests.node.page_reader import Browser
from tests.node.web_node import BILBO, WebNode, web_node

ZIP = b"PK" + os.urandom(600_000)  # three blocks
DOWNLOAD = f"/federation/download?sourceId={BILBO}&plugin=hello-signal"
URL = "file://{}"


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    return tmp_path / "mounted"


@pytest.fixture
async def node(tmp_path: Path, mounted: Path) -> AsyncIterator[WebNode]:
    """A node that serves a release from the store; it would redirect, but this kind of store has no presigned URLs."""
    async with web_node(tmp_path, artifact_delivery="redirect") as made:
        made.services.artifacts = Artifacts(tmp_path / "kept", 2**20, ObjectStore(URL.format(mounted)))
        made.services.artifacts.start()
        await made.add_bilbo()
        await made.add_release(ZIP)
        yield made


def stored_file(mounted: Path) -> Path:
    name = hashlib.sha256(ZIP).hexdigest()
    return mounted / name[:2] / name[2:]


def unmount(mounted: Path) -> None:
    """What is left is the empty folder that it was mounted to."""
    shutil.rmtree(mounted)
    mounted.mkdir()


async def test_a_release_is_served_from_the_store_whole_and_in_parts(node: WebNode, mounted: Path) -> None:
    assert stored_file(mounted).read_bytes() == ZIP

    whole = await node.get(DOWNLOAD)
    part = await node.get(DOWNLOAD, headers={"Range": "bytes=262143-524289"})
    end = await node.get(DOWNLOAD, headers={"Range": "bytes=-3"})
    past = await node.get(DOWNLOAD, headers={"Range": "bytes=600002-"})
    head = await node.call("HEAD", DOWNLOAD)

    assert (whole.status, whole.body) == (200, ZIP)
    assert (part.status, part.body) == (206, ZIP[262143:524290])
    assert (end.status, end.body) == (206, ZIP[-3:])
    assert past.status == 416
    assert (head.status, head.body) == (200, b"")


async def test_a_download_from_the_store_counts_once(node: WebNode) -> None:
    await node.get(DOWNLOAD)
    await node.get(DOWNLOAD, headers={"Range": "bytes=5-"})

    await node.services.downloads.keep()
    counted = await node.services.database.read(lambda db: downloads.downloads_of(db, BILBO, "hello-signal"))

    assert counted == {"1.0.0": 1}


async def test_peers_get_an_artifact_from_the_store_and_a_404_for_a_damaged_one(node: WebNode, mounted: Path) -> None:
    path = f"/node/v1/artifacts/{hashlib.sha256(ZIP).hexdigest()}"

    good = await node.get(path)
    stored_file(mounted).write_bytes(ZIP[::-1])
    damaged = await node.get(path)

    assert (good.status, good.body) == (200, ZIP)
    assert damaged.status == 404


async def test_what_is_damaged_and_nobody_has_is_a_502(node: WebNode, mounted: Path) -> None:
    stored_file(mounted).write_bytes(ZIP[::-1])

    got = await node.get(DOWNLOAD)

    assert got.status == 502
    assert [anonymous for _, anonymous in node.want.asked] == [False]  # it was kept on purpose, and is to be again


async def test_a_store_that_is_not_mounted_is_said_everywhere_and_makes_nothing_look_lost(
    node: WebNode, mounted: Path
) -> None:
    browser = Browser(node)
    await browser.sign_in()
    before = await browser.read("/admin/storage")
    unmount(mounted)

    got = await node.get(DOWNLOAD)
    health = (await node.get("/federation/health")).json
    home = await browser.read("/")
    storage = await browser.read("/admin/storage")
    metrics = (await node.get("/metrics")).body.decode()

    assert f"1 of them with 600 kB in {URL.format(mounted)} (which answers)" in before.text
    assert (got.status, got.headers["Retry-After"]) == (503, "5")
    assert str(mounted) not in got.body.decode()
    assert health["status"] == "degraded"
    assert "Its object store does not answer" in home.text
    assert f"the object {MARK} is missing there" in storage.text
    assert 'pfn_artifacts{what="store_up"} 0.0' in metrics
    assert node.services.artifacts.has(hashlib.sha256(ZIP).digest())
