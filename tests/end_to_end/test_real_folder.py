"""A folder of plugins that nobody here wrote: what Debian's `wordpress` package installs, akismet among it.

Debian patches what it ships, and which plugins those are differs between its releases, so nothing is assumed but that
every plugin of the folder is published, mirrored, spread and served as its own files, byte for byte.
"""

import io
import os
import zipfile
from pathlib import Path

import pytest

from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.plugin_headers import PLUGIN_LABELS, read_headers
from tests.end_to_end.conftest import download, eventually, follow, versions

# Another folder can be named, for trying any WordPress installation.
FOLDER = Path(os.environ.get("PFN_TEST_PLUGINS", "/usr/share/wordpress/wp-content/plugins"))

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"NO REAL PLUGINS TRIED: {FOLDER} is not there; install Debian's package wordpress, or set PFN_TEST_PLUGINS",
)


def plugins_in(folder: Path) -> dict[str, str]:
    """Version by slug of the plugins that lie in folders of their own, read without the code under test's catalogue."""
    found = {}
    for main in sorted(folder.glob("*/*.php")):
        headers = read_headers(main.read_bytes()[:8192], PLUGIN_LABELS)
        if headers.get("Plugin Name"):
            found[main.parent.name] = headers["Version"]
    return found


@pytest.mark.parametrize("profile", ["v2", "original"])
async def test_every_plugin_of_a_real_folder_is_published_mirrored_spread_and_served(
    mesh: LocalMesh, profile: str
) -> None:
    expected = plugins_in(FOLDER)
    publisher = await mesh.start_publisher(FOLDER, "debian", profile)
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    source = await follow(a, publisher, "debian")

    answer = await a.post("subscribe", {"sourceId": source})

    result = answer["syncResult"]
    assert result["skipped"] == []
    assert result["mirroredCount"] == result["totalPlugins"] >= len(expected) > 0
    mirrored = await versions(a, source)
    assert expected.items() <= mirrored.items()

    async def spread() -> bool:
        return await versions(b, source) == mirrored

    await eventually(spread)
    await publisher.kill()
    for slug in expected:
        status, content = await download(b, source, slug)
        assert status == 200
        assert files_in(content) == files_of(FOLDER / slug), slug
        assert (await b.get("verify", sourceId=source, plugin=slug))["valid"]


def files_in(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
