"""A database that the disk damaged under a real node: written anew, and what is lost comes back from the mesh."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.store import page_checksums
from tests.end_to_end.conftest import download, eventually, follow, versions
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

PLUGINS = [f"plugin-{number:02}" for number in range(30)]


async def test_announcements_on_damaged_pages_come_back_from_the_mesh(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    for name in PLUGINS:
        write_plugin(plugins, name, "1.0")
    publisher = await mesh.start_publisher(plugins, "ada")
    a = await mesh.start_node()
    b = await mesh.start_node(join=[a.node])
    source = await follow(a, publisher, "ada")
    await a.post("subscribe", {"sourceId": source})
    everything = dict.fromkeys(PLUGINS, "1.0")
    await eventually(lambda: _lists(b, source, everything))
    await publisher.kill()
    await mesh.nodes[1].stop()
    folder = tmp_path / "node-b"
    _damage_announcements(folder / "node.db")

    looked = await pfn("fsck", "--data", str(folder), "--json")
    repaired = await pfn("fsck", "--data", str(folder), "--repair", "--json")
    again = await pfn("fsck", "--data", str(folder))
    await mesh.nodes[1].start()

    assert (looked.returncode, repaired.returncode, again.returncode) == (1, 1, 0), again.stdout.decode()
    assert any("written anew" in one for one in json.loads(repaired.stdout)["repaired"])
    await eventually(lambda: _lists(b, source, everything))
    await eventually(lambda: _same_set(a, b))
    assert (await download(b, source, PLUGINS[7]))[0] == 200
    assert not (await b.get("health"))["mesh"]["muted"]


def _damage_announcements(path: Path) -> None:
    """One bit in each of three leaves of the announcements."""
    page_checksums.load()
    with closing(sqlite3.connect(path)) as db:
        sql = "SELECT pageno FROM dbstat WHERE name = 'announcements' AND pagetype = 'leaf' ORDER BY pageno"
        pages = [page for (page,) in db.execute(sql)]
    with path.open("r+b") as file:
        for page in pages[1:4]:
            file.seek((page - 1) * page_checksums.PAGE_BYTES + 1_000)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes((byte ^ 1,)))


async def _lists(client: NodeClient, source: str, expected: dict[str, str]) -> bool:
    return await versions(client, source) == expected


async def _same_set(a: NodeClient, b: NodeClient) -> bool:
    return bool((await a.get("health"))["mesh"]["digest"] == (await b.get("health"))["mesh"]["digest"])
