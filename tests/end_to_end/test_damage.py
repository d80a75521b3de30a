"""A disk that turns bits over under real nodes: nobody is given a wrong byte, and the mesh repairs it."""

import time
from hashlib import sha256
from pathlib import Path

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import download, eventually, follow, row_of
from tests.end_to_end.plugins import write_plugin
from tests.node.test_artifact_checks import flip, path_of

REPAIRED_SECONDS_MAX = 60.0


async def test_a_damaged_zip_is_repaired_from_the_mesh_while_its_publisher_is_dead(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "tide-table", "2.0", filler="".join(f"// tide {number}\n" for number in range(200_000)))
    publisher = await mesh.start_publisher(plugins, "bob")
    scrubbing = {"PFN_SCRUB_BYTES_PER_SECOND": str(2**30)}  # comes to it at once
    a = await mesh.start_node(environment=scrubbing)
    b = await mesh.start_node(join=[a.node])
    await mesh.pin_all()
    source = await follow(a, publisher, "bob")
    await a.post("subscribe", {"sourceId": source})
    await eventually(lambda: _lists(b, source))
    await b.post("subscribe", {"sourceId": source})  # it mirrors the source, and says so
    status, content = await download(b, source, "tide-table")
    assert status == 200
    await publisher.kill()
    digest = sha256(content).digest()
    file = path_of(tmp_path / "node-a" / "artifacts", digest)

    async def is_on_disk() -> bool:
        return file.exists() and sha256(file.read_bytes()).digest() == digest

    # Damage that a reader meets: once checked, a block that changed is not sent; the next request has it again.
    assert (await download(a, source, "tide-table")) == (200, content)
    flip(file, 8 * len(content) - 5)
    began = time.monotonic()
    try:
        received: bytes | None = (await download(a, source, "tide-table"))[1]
    except Exception:  # the connection was cut before the damaged block
        received = None
    await eventually(lambda: _gives(a, source, content), REPAIRED_SECONDS_MAX)
    by_reading = time.monotonic() - began
    assert received in (None, content)
    assert await is_on_disk()

    # Damage that nobody meets, while the node is down: the scrub after its start.
    await mesh.nodes[0].stop()
    flip(file, 12_345)
    await mesh.nodes[0].start()
    began = time.monotonic()
    await eventually(is_on_disk, REPAIRED_SECONDS_MAX)
    by_scrubbing = time.monotonic() - began

    health = await a.get("health")
    assert health["artifacts"]["damaged"] == 0
    told = [one["message"] for one in (await a.get("activity", limit=50))["activities"]]
    assert sum("is damaged on the disk" in one for one in told) == 2
    print(f"repaired {by_reading:.1f} s after a reader met it, {by_scrubbing:.1f} s after a start")  # noqa: T201


async def _lists(client: NodeClient, source: str) -> bool:
    return await row_of(client, source, "tide-table") is not None


async def _gives(client: NodeClient, source: str, content: bytes) -> bool:
    try:
        return await download(client, source, "tide-table") == (200, content)
    except Exception:
        return False
