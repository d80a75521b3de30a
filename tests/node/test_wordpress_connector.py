"""The connector plugin as the node gives it away: a zip that is always the same, and one that a node would keep."""

import io
import zipfile
from pathlib import Path

import pytest

from pfn_node import archive
from pfn_node.web.consumers.wordpress_connector import FOLDER, connector
from tests.node.web_node import web_node

PATH = "/wordpress/pfn-connector.zip"


def test_the_zip_is_the_same_whenever_it_is_made_and_has_every_file() -> None:
    first, second = (connector.__wrapped__() for _ in range(2))

    with zipfile.ZipFile(io.BytesIO(first.zip)) as made:
        names = made.namelist()
    files = {f"pfn-connector/{file.relative_to(FOLDER).as_posix()}" for file in FOLDER.rglob("*") if file.is_file()}
    assert first == second
    assert names == sorted(files)


def test_the_zip_is_a_plugin_that_a_node_would_keep(tmp_path: Path) -> None:
    file = tmp_path / "connector.zip"
    file.write_bytes(connector().zip)

    facts = archive.inspect(file)

    assert (facts.type, facts.folder, facts.version) == ("plugin", "pfn-connector", connector().version)
    assert f"Stable tag: {connector().version}\n" in (FOLDER / "readme.txt").read_text()


def test_every_file_refuses_to_be_called_by_itself_and_stays_small() -> None:
    files = sorted(FOLDER.rglob("*.php"))

    assert len(files) > 10
    for file in files:
        text = file.read_text()
        assert "defined( 'ABSPATH' ) || exit;" in text or "defined( 'WP_UNINSTALL_PLUGIN' ) || exit;" in text, file
        assert len(text.splitlines()) < 300, file


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_node_serves_the_connector_and_names_its_version(tmp_path: Path, method: str) -> None:
    async with web_node(tmp_path) as node:
        got = await node.call(method, PATH)

    assert got.status == 200
    assert got.headers["Content-Type"] == "application/zip"
    assert got.headers["PFN-Connector-Version"] == connector().version
    assert got.body == (connector().zip if method == "GET" else b"")
