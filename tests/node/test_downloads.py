"""How often zips are had: what counts as a download, where it is shown, and that it costs no write each."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlite_utils
import trio
import trio.testing

from pfn_node.store import downloads
from pfn_node.store.database import StoreError
from pfn_node.web import download_counting, metrics
from pfn_node.web.download_counting import KEEP_SECONDS
from tests.node.web_node import BILBO, WebNode, web_node

ZIP = b"some bytes of a plugin"
PATH = f"/federation/download?sourceId={BILBO}&plugin=hello-signal"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(ZIP)
        yield made


async def counted(node: WebNode) -> dict[str, int]:
    await node.services.downloads.keep()
    return await node.services.database.read(lambda db: downloads.downloads_of(db, BILBO, "hello-signal"))


async def test_a_download_is_counted_by_version(node: WebNode) -> None:
    await node.add_release(b"newer", version="1.1.0")

    for version in ("1.0.0", "1.1.0", "1.1.0"):
        assert (await node.get(f"{PATH}&version={version}")).status == 200

    assert await counted(node) == {"1.0.0": 1, "1.1.0": 2}


async def test_what_is_no_new_download_is_not_counted(node: WebNode) -> None:
    etag = (await node.call("HEAD", PATH)).headers["ETag"]
    again = await node.get(PATH, headers={"If-None-Match": etag})
    rest = await node.get(PATH, headers={"Range": "bytes=5-"})
    nothing = await node.get(PATH, headers={"Range": "bytes=500-"})
    unknown = await node.get(f"{PATH}&version=9.9")

    assert [got.status for got in (again, rest, nothing, unknown)] == [304, 206, 416, 404]
    assert await counted(node) == {}


async def test_a_download_in_pieces_counts_once(node: WebNode) -> None:
    pieces = [await node.get(PATH, headers={"Range": f"bytes={span}"}) for span in ("0-9", "10-15", "16-")]

    assert b"".join(piece.body for piece in pieces) == ZIP
    assert await counted(node) == {"1.0.0": 1}


async def test_counts_are_shown_with_plugin_and_release_on_its_page_and_to_prometheus(node: WebNode) -> None:
    await node.add_release(b"newer", version="1.1.0")
    for version in ("1.0.0", "1.1.0", "1.1.0"):
        await node.get(f"{PATH}&version={version}")
    await node.services.downloads.keep()

    view = (await node.get(f"/federation/plugins/{BILBO}/hello-signal")).json
    (row,) = (await node.get("/federation/plugins")).json["plugins"]
    page = (await node.get(f"/plugins/{BILBO}/hello-signal")).body.decode()
    figures = (await node.get("/metrics")).body.decode()

    assert (view["downloads"], row["downloads"]) == (3, 3)
    assert {one["version"]: one["downloads"] for one in view["releases"]} == {"1.1.0": 2, "1.0.0": 1}
    assert "<dt>Downloads</dt><dd>3 " in page
    assert "pfn_downloads 3.0" in figures
    assert f'pfn_plugin_downloads{{plugin="hello-signal",source="{BILBO}"}} 3.0' in figures


async def test_prometheus_is_told_of_few_plugins_only(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PLUGINS_SHOWN_MAX", 2)
    counts = {(BILBO, f"p{number}", "1.0"): number for number in range(1, 6)}
    await node.services.database.write(lambda db: downloads.add_downloads(db, counts))

    figures = (await node.get("/metrics")).body.decode()

    assert [line[-3:] for line in figures.splitlines() if line.startswith("pfn_plugin_downloads{")] == ["5.0", "4.0"]
    assert "pfn_downloads 15.0" in figures
    await node.services.database.write(
        lambda db: downloads.add_downloads(db, {(BILBO, "p1", "1.0"): 99, (BILBO, "p2", "1.0"): 99})
    )
    figures = (await node.get("/metrics")).body.decode()
    assert figures.count("pfn_plugin_downloads{") == 2


async def test_downloads_are_kept_together_after_a_while(
    node: WebNode, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    add = downloads.add_downloads

    def noted(db: sqlite_utils.Database, some: dict[downloads.Version, int]) -> None:
        batches.append(len(some))
        add(db, some)

    monkeypatch.setattr(downloads, "add_downloads", noted)
    await node.add_release(b"newer", version="1.1.0")
    nursery.start_soon(node.services.downloads.run)

    for version in ("1.0.0", "1.1.0") * 3:
        await node.get(f"{PATH}&version={version}")
    await trio.sleep(KEEP_SECONDS * 3)

    assert batches == [2]
    assert await counted(node) == {"1.0.0": 3, "1.1.0": 3}
    nursery.cancel_scope.cancel()


async def test_no_more_wait_to_be_kept_than_there_is_room_for(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_counting, "WAITING_MAX", 1)
    await node.add_release(b"newer", version="1.1.0")

    for version in ("1.0.0", "1.1.0", "1.0.0"):
        await node.get(f"{PATH}&version={version}")

    assert await counted(node) == {"1.0.0": 2}


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), StoreError("it ended")])
async def test_what_could_not_be_kept_is_kept_later(
    node: WebNode, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(db: object, some: object) -> None:
        raise error

    await node.get(PATH)
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "add_downloads", full)
        await node.services.downloads.keep()

    assert await counted(node) == {"1.0.0": 1}


async def test_versions_that_are_gone_make_room(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "COUNTED_MAX", 1)
    await node.services.database.write(lambda db: downloads.add_downloads(db, {(BILBO, "gone", "1.0"): 5}))

    await node.get(PATH)

    assert await counted(node) == {"1.0.0": 1}
    assert await node.services.database.read(downloads.downloads_in_all) == 1


async def test_composer_counts_once_what_it_had_and_tells(node: WebNode) -> None:
    (row,) = (await node.get("/federation/plugins")).json["plugins"]
    path = f"/composer/mirror/{row['composer_name']}/1.0.0.0/{row['sha256']}.zip"
    told = {"downloads": [{"name": row["composer_name"], "version": "1.0.0.0"}]}

    assert (await node.get(path)).body == ZIP
    assert (await node.call("POST", "/composer/downloads", json=told)).status == 200

    assert await counted(node) == {"1.0.0": 1}
