"""What the original node gets wrong, tried on a real node process with the original publisher as it was recorded.

Every fault has a test somewhere; this file has those that need the whole way, from HTTP over the rooms to a publisher
that answers; the second column is words of the test's name. (In tests/node the web room has fakes behind it, and the
sources room is called without HTTP.)

    fault of the original                                 here                      in tests/node as well
    create-admin-key is open without a master key         no master key             test_web_keys
    update-source without any key                         admin calls need a key    test_web_sources and _hostile
    SQL built from remote text: o'brien can never verify  names with quotes         test_web_sources
    SQL built from remote text: a publisher can inject    names with quotes         test_store_sources
    a duplicate is a 500                                  a duplicate               test_web_sources
    not JSON, or null, is a 500                           not json                  test_web_hostile
    a trailing slash in instance_url is refused           names with quotes         test_web_sources
    a garbage key is accepted                             garbage key               test_web_sources
    a wrong key is accepted, nothing is said of it        wrong one is found out    test_sources_verification
    0 of N mirrored is a success                          nothing mirrored          test_web_subscriptions
    subscribing twice mirrors twice, activity multiplies  subscribing twice         test_sources_sync
    a failed subscribe keeps its row and is a 500         a failed subscribe        test_sources_sync
    limit and offset are dropped                          limit and offset          test_web_sources and _subscriptions
    HEAD, POST, DELETE of sources are answered like GET   other methods             test_web_hostile
    the publisher is down, the source stays verified      a publisher that is down  test_sources_verification
    X-User is taken from the client                       subscribing twice         test_web_subscriptions
    new bytes are stored under an old version number      a stale list              test_sources_original
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.cli.client import ApiError, NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from pfn_node.outbound import Reply
from pfn_node.server import serve
from tests.end_to_end.conftest import download, eventually
from tests.node.original_publisher import OriginalPublisher

# Nothing listens there: the original names an asset host of its own, which serves nothing of other authors.
DEAF_ASSET_DOMAIN = "http://127.0.0.1:9"
ZIP_PATH = "/federated/download"


@dataclass
class World:
    """One node and one publisher. The publisher runs in the test itself, so that a test can turn its switches."""

    node: NodeClient
    publisher: OriginalPublisher
    url: str

    async def add(self, username: str = "bilbo", **other: str) -> str:
        """Register an author; answers the source id."""
        given = {"instance_url": self.url, "username": username, "public_key": self.publisher.public_pem}
        source: str = (await self.node.post("add-source", given | other))["source_id"]
        return source

    async def added(self, username: str = "bilbo") -> str:
        """Register an author and have it verified."""
        source = await self.add(username)
        assert (await self.node.post("verify-source", {"sourceId": source}))["success"]
        return source

    async def row(self, source: str) -> dict[str, Any]:
        """What GET sources says of it."""
        return next(row for row in await self.node.get("sources") if row["id"] == source)

    async def refused(self, call: str, body: dict[str, Any]) -> ApiError:
        """The error that a POST gets."""
        with pytest.raises(ApiError) as refused:
            await self.node.post(call, body)
        return refused.value

    async def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Any request, with the node's API key unless `headers` bring another."""
        return await self.node.outbound.fetch(
            method,
            f"{self.node.node}/federation/{path}",
            headers=self.node.headers | headers,
            content=body,
            bytes_max=2**20,
            seconds_max=20,
        )


@pytest.fixture
async def world(mesh: LocalMesh) -> AsyncIterator[World]:
    publisher = OriginalPublisher()
    publisher.asset_domain = DEAF_ASSET_DOMAIN
    async with answering(publisher) as url:
        yield World(await mesh.start_node(), publisher, url)


@asynccontextmanager
async def answering(publisher: OriginalPublisher) -> AsyncIterator[str]:
    """The publisher on a free port; answers its URL."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, publisher.app(), shutdown=shutdown))
        yield f"http://{host}:{port}"
        shutdown.set()


async def test_without_a_master_key_nobody_makes_an_admin_key(mesh: LocalMesh, tmp_path: Path) -> None:
    node = LocalProcess("keyless", ("serve", "--data", str(tmp_path / "keyless")), tmp_path)
    mesh.nodes.append(node)
    await node.start()

    for key in (None, "", mesh.master_key):
        with pytest.raises(ApiError, match="PFN_MASTER_KEY") as refused:
            await NodeClient(mesh.outbound, node.url, key).post("create-admin-key", {"description": "mine"})
        assert refused.value.status == 403


async def test_names_with_quotes_are_names_and_reach_no_sql(world: World) -> None:
    drop = "x'); DROP TABLE sources; --"
    for username in ("o'brien", "bilbo"):
        source = await world.add(username, instance_url=world.url + "/")
        assert (await world.node.post("verify-source", {"sourceId": source}))["success"]
        assert (await world.row(source))["instance_url"] == world.url
    rejected = await world.refused("add-source", {"instance_url": world.url, "username": drop, "public_key": "x"})
    unknown = await world.refused("verify-source", {"sourceId": drop})

    answer = await world.node.post("subscribe", {"sourceId": source, "filters": {"slugs": ["bilbos-garden", drop]}})
    found = [
        await world.node.get("plugins", q=words) for words in ("garden' plants", "garden'; DROP TABLE plugins; --")
    ]
    plugin = (await world.node.get("plugins", source=source))["plugins"][0]

    assert (rejected.status, unknown.status) == (400, 404)
    assert answer["syncResult"]["mirroredCount"] == 1
    assert plugin["name"] == "Bilbo's Garden — “plants” & <b>more</b>"
    assert "DROP TABLE sources;-- with 'quotes'" in plugin["description"]
    assert [page["total"] for page in found] == [1, 0]
    assert len(await world.node.get("sources")) == 2


async def test_a_duplicate_is_a_conflict_and_not_json_is_400(world: World) -> None:
    await world.add()
    same = {"instance_url": world.url, "username": "bilbo", "public_key": world.publisher.public_pem}

    for again in (same, same | {"instance_url": world.url + "/"}):
        assert (await world.refused("add-source", again)).status == 409
    for body in (b"this is no JSON", b"null", b"[]", b"7", b"", b'{"instance_url": nul', b"\xff\xfe"):
        for call in ("add-source", "verify-source", "update-source", "subscribe"):
            reply = await world.raw("POST", call, body)
            assert reply.status == 400 and json.loads(reply.body)["error"], (call, body)


async def test_admin_calls_need_a_key_also_the_one_that_the_original_forgot(world: World) -> None:
    source = await world.added()
    body = json.dumps({"sourceId": source, "public_key": world.publisher.other_public_pem}).encode()

    for call in ("update-source", "add-source", "verify-source", "remove-source", "subscribe", "unsubscribe"):
        for key in ("", "Bearer fadmin_nonsense"):
            assert (await world.raw("POST", call, body, Authorization=key)).status == 401, call

    assert (await world.row(source))["public_key"].strip() == world.publisher.public_pem.strip()


async def test_a_garbage_key_is_400_and_a_wrong_one_is_found_out(world: World) -> None:
    given = {"instance_url": world.url, "username": "frodo"}
    for garbage in ("garbage", "-----BEGIN PUBLIC KEY-----\nzzzz\n-----END PUBLIC KEY-----\n", ""):
        assert (await world.refused("add-source", given | {"public_key": garbage})).status == 400

    source = await world.add("frodo", public_key=world.publisher.other_public_pem)

    async def in_error() -> bool:
        return bool((await world.row(source))["status"] == "error")

    await eventually(in_error)  # by the verification that follows by itself
    assert (await world.refused("subscribe", {"sourceId": source})).status == 422
    assert (await world.row(source))["last_verification_result"] == "failure"


async def test_nothing_mirrored_is_no_success_and_everything_skipped_has_a_reason(world: World) -> None:
    source = await world.added()
    world.publisher.rate_limited = True

    answer = await world.node.post("subscribe", {"sourceId": source})

    result = answer["syncResult"]
    assert (answer["success"], result["success"], result["mirroredCount"], result["totalPlugins"]) == (
        False,
        False,
        0,
        4,
    )
    assert len(result["skipped"]) == 4 and all(skipped["reason"] for skipped in result["skipped"])


async def test_subscribing_twice_fetches_nothing_twice_and_multiplies_nothing(world: World) -> None:
    source = await world.added()
    body = json.dumps({"sourceId": source}).encode()
    answers = [await world.raw("POST", "subscribe", body, **{"X-User": name}) for name in ("alice", "bob")]

    results = [json.loads(answer.body)["syncResult"] for answer in answers]
    updates = await world.node.get("activity", type="version_update")
    subscriptions = (await world.node.get("subscriptions"))["subscriptions"]

    assert [result["mirroredCount"] for result in results] == [4, 4]
    assert world.publisher.asked()[ZIP_PATH] == 4
    assert (updates["total"], len(updates["activities"])) == (4, 4)
    assert len(subscriptions) == 1 and subscriptions[0]["subscriber"] not in ("alice", "bob")
    assert (await world.row(source))["subscriber_count"] == 1


async def test_a_failed_subscribe_is_502_and_keeps_no_row(world: World) -> None:
    source = await world.added()
    world.publisher.down = True

    refused = await world.refused("subscribe", {"sourceId": source})

    assert refused.status == 502
    assert (await world.node.get("subscriptions"))["subscriptions"] == []


async def test_limit_and_offset_are_kept_and_other_methods_are_405(world: World) -> None:
    ids = sorted([await world.added(name) for name in ("bilbo", "empty-author", "frodo")])
    await world.node.post("subscribe", {"sourceId": ids[0]})

    pages = [await world.node.get("sources", limit=1, offset=offset) for offset in range(4)]
    activities = (await world.node.get("activity", limit=2, offset=1))["activities"]
    everything = (await world.node.get("activity", limit=100))["activities"]
    methods = {method: await world.raw(method, "sources") for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH")}

    assert [row["id"] for page in pages for row in page] == ids and pages[3] == []
    assert activities == everything[1:3]
    assert (methods["HEAD"].status, methods["HEAD"].body) == (200, b"")
    assert {reply.status for method, reply in methods.items() if method != "HEAD"} == {405}


async def test_a_publisher_that_is_down_is_an_error_and_trusted_less(world: World) -> None:
    source = await world.added()
    await world.node.post("subscribe", {"sourceId": source})
    before = await world.row(source)
    world.publisher.down = True

    outcome = await world.node.post("verify-source", {"sourceId": source})

    after = await world.row(source)
    assert (outcome["success"], outcome["status"]) == (False, "error")
    assert (before["status"], after["status"]) == ("verified", "error")
    assert after["trust_score"] < before["trust_score"]
    assert (await download(world.node, source, "hello-signal"))[0] == 200  # what is here is served all the same


async def test_a_stale_list_never_gives_its_version_to_newer_bytes(world: World) -> None:
    source = await world.added()
    world.publisher.release_hello_signal(stale=True)

    stale = await world.node.post("subscribe", {"sourceId": source})
    unknown = await download(world.node, source, "hello-signal")
    world.publisher.stale = False
    fresh = await world.node.post("subscribe", {"sourceId": source})
    status, content = await download(world.node, source, "hello-signal")

    reasons = {skipped["slug"]: skipped["reason"] for skipped in stale["syncResult"]["skipped"]}
    assert "version mismatch" in reasons["hello-signal"]
    assert unknown[0] == 404
    assert fresh["syncResult"]["mirroredCount"] == 4
    assert (status, content) == (200, world.publisher.zips["hello-signal/1.0.1"])
    plugin = await world.node.get(f"plugins/{source}/hello-signal")
    assert [release["version"] for release in plugin["releases"]] == ["1.0.1"]


@pytest.mark.parametrize(("tags", "mirrored"), [("object", 4), ("array", 4), ("missing", 0)])
async def test_the_original_publisher_is_mirrored_as_it_really_is(world: World, tags: Any, mirrored: int) -> None:
    world.publisher.tags = tags
    source = await world.added()

    filtered = await world.node.post("subscribe", {"sourceId": source, "filters": {"tags": ["Garden"]}})
    everything = await world.node.post("subscribe", {"sourceId": source})

    assert filtered["syncResult"]["mirroredCount"] == mirrored
    assert everything["syncResult"]["mirroredCount"] == 4
    rows = (await world.node.get("plugins", source=source))["plugins"]
    assert {row["assurance"] for row in rows} == {"A1"}  # by the signature over plugin-data: the list carries none
    assert (await world.row(source))["asset_domain"] == DEAF_ASSET_DOMAIN
    checked = await world.node.get("verify", sourceId=source, plugin="hello-signal")
    assert checked["valid"] and not checked["assurance"]["covers_bytes"]
