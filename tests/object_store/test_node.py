"""A real node whose artifacts lie in a real object store."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.outbound import OutboundError
from tests.end_to_end.conftest import eventually, follow
from tests.object_store.mirror import LARGE, LARGE_BYTES, SLUGS, Mirror, artifact_files, objects
from tests.object_store.server import SECRET, Bucket

SLUG = SLUGS[0]


async def test_a_node_serves_from_the_store_what_it_mirrored_into_it(
    mesh: LocalMesh, bucket: Bucket, tmp_path: Path
) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path, large=True)
    await mirror.publisher.kill()
    assert set(objects(bucket)) == {mirror.key(slug) for slug in (*SLUGS, LARGE)}
    assert artifact_files(tmp_path / "node-a") == []

    whole = await mirror.get(LARGE)
    assert mirror.is_right(LARGE, whole.content)
    etag = f'"{mirror.digests[LARGE].hex()}"'
    assert (whole.status_code, whole.headers["ETag"], whole.headers["PFN-Assurance"]) == (200, etag, "A3")

    head = await mirror.get(LARGE, "HEAD")
    assert (head.status_code, int(head.headers["Content-Length"])) == (200, len(whole.content))
    assert (await mirror.get(LARGE, headers={"If-None-Match": etag})).status_code == 304
    for begin, end in ((0, 0), (262_143, 262_144), (300_000, 3_000_000), (len(whole.content) - 9, len(whole.content))):
        part = await mirror.get(LARGE, headers={"Range": f"bytes={begin}-{end}"})
        assert (part.status_code, part.content) == (206, whole.content[begin : end + 1])
    assert (await mirror.get(LARGE, headers={"Range": "bytes=-7"})).content == whole.content[-7:]
    assert (await mirror.get(LARGE, headers={"Range": "bytes=99999999-"})).status_code == 416

    await mirror.node.stop()
    await mirror.node.start()
    assert mirror.is_right(LARGE, (await mirror.get(LARGE)).content)
    usage = (await mirror.client.get("health"))["artifacts"]
    assert (usage["kept"], usage["stored"], usage["store_up"], usage["store_failures"]) == (3, 3, 1, 0)
    checked = await mirror.client.get("verify", sourceId=mirror.source, plugin=LARGE)
    assert checked["valid"]

    mirror.damage(LARGE, len(whole.content) // 2)
    came = await _until_it_is_cut(mirror, LARGE)
    assert 0 < len(came) <= len(whole.content) // 2
    assert whole.content.startswith(came)
    assert (await mirror.get(LARGE)).status_code == 502  # neither the mesh nor its publisher has it any more

    await mirror.node.stop()
    assert "2 artifacts of this node lie in" in await _refused(mirror, f"{bucket.url}/elsewhere")
    refused = await _refused(mirror, f"s3://key:{SECRET}@{bucket.name}")
    assert "may hold no credentials" in refused
    assert SECRET not in refused


async def _until_it_is_cut(mirror: Mirror, slug: str) -> bytes:
    """What comes of a download that does not end as it should."""
    came = bytearray()
    with pytest.raises(httpx.RemoteProtocolError):
        async with httpx.AsyncClient(timeout=60, trust_env=False) as stranger:
            url = mirror.client.url("download", sourceId=mirror.source, plugin=slug)
            async with stranger.stream("GET", url) as answer:
                async for piece in answer.aiter_raw():
                    came += piece
    return bytes(came)


async def _refused(mirror: Mirror, artifacts: str) -> str:
    """What the node says when it does not start with this setting."""
    ended = await trio.run_process(
        [sys.executable, "-m", "pfn_node", *mirror.node.arguments, "--port", "0"],
        env={**os.environ, **mirror.node.environment, "PFN_ARTIFACTS": artifacts},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert ended.returncode in (1, 2)
    return ended.stderr.decode()


async def test_a_store_that_is_down_is_said_and_loses_nothing(mesh: LocalMesh, bucket: Bucket, tmp_path: Path) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path)
    await mirror.add("late-riser")
    bucket.server.stop()
    try:
        down = await mirror.get(SLUG)
        known = await mirror.get(SLUG, headers={"If-None-Match": f'"{mirror.digests[SLUG].hex()}"'})
        health = await mirror.client.get("health")
        metrics = await mirror.text("/metrics")
        synced = (await mirror.client.post("subscribe", {"sourceId": mirror.source}))["syncResult"]
        await mirror.node.stop()
        await mirror.node.start()  # a node that starts while its store is down knows what it has
        restarted = (await mirror.client.get("health"))["artifacts"]
    finally:
        bucket.server.start()

    assert down.status_code == 503
    assert 1 <= int(down.headers["Retry-After"]) <= 5
    assert "object store" in down.json()["error"]
    assert known.status_code == 304
    assert health["status"] == "degraded"
    assert any("object store" in problem for problem in health["problems"])
    assert 'pfn_artifacts{what="store_up"} 0.0' in metrics
    assert [(one["slug"], "could not store it" in one["reason"]) for one in synced["skipped"]] == [("late-riser", True)]
    assert (restarted["kept"], restarted["stored"]) == (2, 2)
    assert [path for path in artifact_files(tmp_path / "node-a") if "cache" not in path.parts] == []

    async def mirrored() -> bool:
        await mirror.sync()
        return len(objects(bucket)) == 3

    await eventually(mirrored)
    for slug in (*SLUGS, "late-riser"):
        assert mirror.is_right(slug, (await mirror.get(slug)).content)
    assert (await mirror.client.get("health"))["artifacts"]["store_up"] == 1
    log = mirror.node.log.read_text()
    assert "object_store_failed" in log
    assert SECRET not in log


async def test_two_nodes_share_a_bucket_and_put_right_what_is_damaged_or_deleted_there(
    mesh: LocalMesh, bucket: Bucket, tmp_path: Path
) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path)
    before = objects(bucket)

    other = await mesh.start_node(environment={**bucket.environment, "PFN_ARTIFACTS": f"{bucket.url}/zips"})
    source = await follow(other, mirror.publisher, "ada")
    await other.post("subscribe", {"sourceId": source})
    assert objects(bucket) == before  # sent once
    assert (await other.get("health"))["artifacts"]["stored"] == 2

    right = mirror.in_bucket(SLUG)
    mirror.damage(SLUG, 100)
    assert mirror.is_right(SLUG, (await mirror.get(SLUG)).content)
    assert mirror.in_bucket(SLUG) == right

    await other.post("remove-source", {"sourceId": source, "purge": True})
    assert objects(bucket) == {}
    assert mirror.is_right(SLUG, (await mirror.get(SLUG)).content)
    assert set(objects(bucket)) == {mirror.key(SLUG)}
    assert (await mirror.client.get("health"))["artifacts"]["stored"] == 2  # the other one is not known to be gone yet


async def test_what_is_damaged_is_brought_again_from_the_mesh(mesh: LocalMesh, bucket: Bucket, tmp_path: Path) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path)
    other = await mesh.start_node(join=[mirror.client.node])
    await mesh.pin_all()

    async def has_both() -> bool:
        await other.post("subscribe", {"sourceId": mirror.source})
        return bool((await other.get("health"))["artifacts"]["kept"] == 2)

    await eventually(lambda: _knows(other, mirror.source))
    await eventually(has_both)
    await mirror.publisher.kill()
    mirror.damage(SLUG, 5)

    async def repaired() -> bool:
        answer = await mirror.get(SLUG)
        assert answer.status_code != 200 or mirror.is_right(SLUG, answer.content)
        return answer.status_code == 200

    await eventually(repaired)


async def _knows(client: NodeClient, source: str) -> bool:
    return len((await client.get("plugins", source=source))["plugins"]) == 2


async def test_public_downloads_are_redirected_to_the_store_if_the_operator_wants_that(
    mesh: LocalMesh, bucket: Bucket, tmp_path: Path
) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path, PFN_ARTIFACT_DELIVERY="redirect")

    sent = await mirror.get(SLUG)
    assert sent.status_code == 302
    assert sent.headers["Location"].startswith(f"{bucket.server.endpoint}/{bucket.name}/{mirror.key(SLUG)}?")
    assert sent.headers["PFN-Assurance"] == "A3"
    assert sent.headers["Repr-Digest"].startswith("sha-256=:")
    assert sent.headers["Cache-Control"] == "no-store"
    assert mirror.is_right(SLUG, (await mirror.get(SLUG, follow_redirects=True)).content)
    part = await mirror.get(SLUG, headers={"Range": "bytes=0-1"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, b"PK")
    assert (await mirror.get(SLUG, "HEAD")).status_code == 200
    known = await mirror.get(SLUG, headers={"If-None-Match": f'"{mirror.digests[SLUG].hex()}"'})
    assert known.status_code == 304

    async with httpx.AsyncClient(timeout=60, trust_env=False) as peer:
        straight = await peer.get(f"{mirror.node.url}/node/v1/artifacts/{mirror.digests[SLUG].hex()}")
    assert straight.status_code == 200
    assert mirror.is_right(SLUG, straight.content)

    mirror.damage(SLUG, 10)
    assert mirror.is_right(SLUG, (await mirror.get(SLUG, follow_redirects=True)).content)
    assert "X-Amz-Signature" not in mirror.node.log.read_text()


async def test_a_node_that_is_killed_while_it_uploads_has_nothing_of_it_and_mirrors_it_again(
    mesh: LocalMesh, bucket: Bucket, tmp_path: Path
) -> None:
    mirror = await Mirror.made(mesh, bucket, tmp_path)
    await mirror.add(LARGE, LARGE_BYTES)
    bucket.server.signal(signal.SIGSTOP)  # it takes what is sent, and never answers
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_subscribe_in_vain, mirror)
            await eventually(lambda: _is_sending(tmp_path / "node-a" / "artifacts" / "incoming"))
            await mirror.node.kill()
    finally:
        bucket.server.signal(signal.SIGCONT)

    await mirror.node.start()
    usage = (await mirror.client.get("health"))["artifacts"]
    assert (usage["kept"], len(objects(bucket))) == (2, 2)

    async def mirrored() -> bool:
        await mirror.sync()
        return len(objects(bucket)) == 3

    await eventually(mirrored)
    assert mirror.is_right(LARGE, (await mirror.get(LARGE)).content)


async def _subscribe_in_vain(mirror: Mirror) -> None:
    with suppress(OutboundError):  # or the node answered, on a slow machine, that it goes on
        await mirror.client.post("subscribe", {"sourceId": mirror.source})


async def _is_sending(incoming: Path) -> bool:
    """Whether the zip is there as a whole, and so is on its way to the store."""
    with os.scandir(incoming) as entries:
        return any(entry.stat().st_size > LARGE_BYTES for entry in entries)
