"""What is fetched with nobody waiting: only for subscribed sources, only what is backed, and signed texts."""

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh import backfill
from pfn_node.mesh.backfill import Backfill, is_wanted
from pfn_node.store import sources, subscriptions
from pfn_node.store.rows import Filters
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import public_key_pem
from tests.network.mesh_network import PUBLISHER, SOURCE_ID, Network, Node, eventually, network, now
from tests.network.test_mesh_of_three import ZIP, linked


async def subscribe(node: Node, filters: Filters | None = None) -> None:
    """As `sources` does it, without asking the publisher."""

    def work(db: object) -> None:
        if sources.get_source(db, SOURCE_ID) is None:  # type: ignore[arg-type]
            sources.insert_source(
                db,  # type: ignore[arg-type]
                id=SOURCE_ID,
                instance_url="https://plugins.example",
                username="alice",
                public_key=public_key_pem(PUBLISHER.public),
                status="pending",
                registered=True,
                created_at=int(now()),
            )
        subscriptions.set_subscription(db, SOURCE_ID, "key", filters or Filters(), int(now()))  # type: ignore[arg-type]

    await node.database.write(work)


async def pair(net: Network) -> tuple[Node, Node]:
    a = await net.add("a")
    b = await net.add("b", join=("a",))
    await eventually(lambda: linked(b) == 1)
    return a, b


def mirrored(node: Node, *versions: str) -> bool:
    found = [node.release(version) for version in versions]
    return all(release is not None and release.mirrored for release in found)


async def test_releases_of_a_subscribed_source_are_fetched_as_they_come(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await subscribe(b)
        await a.publish(ZIP)

        await eventually(lambda: mirrored(b, "1.0"), 30)


async def test_releases_of_other_sources_are_not_fetched(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await a.publish(ZIP)
        await eventually(b.release)
        await trio.sleep(7200)

        assert not mirrored(b, "1.0")
        assert "artifacts" not in a.asked


async def test_what_came_before_the_subscription_is_found_by_the_sweep(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await a.publish(ZIP)
        await eventually(b.release)
        await subscribe(b)

        await eventually(lambda: mirrored(b, "1.0"), 2 * backfill.SWEEP_SECONDS)


async def test_what_is_not_backed_is_not_fetched_until_its_observer_is_pinned(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        newcomer = await net.add("newcomer", join=("a",))
        await eventually(lambda: linked(a) == 1)
        await subscribe(a)
        await newcomer.publish(ZIP)
        await eventually(a.release)
        await trio.sleep(300)
        assert not mirrored(a, "1.0")

        await a.engine.set_policy(newcomer.id, pinned=True)
        await eventually(lambda: mirrored(a, "1.0"))


async def test_what_does_not_fit_the_queue_is_found_by_the_sweep(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "WAITING_MAX", 0)
    monkeypatch.setattr(backfill, "PAGE", 1)
    monkeypatch.setattr(backfill, "WORKERS", 0)
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await subscribe(b)
        await a.publish(ZIP, plugin_id="first")
        await a.publish(ZIP + b"2", plugin_id="second")

        def both() -> bool:
            found = [b.release("1.0", plugin_id) for plugin_id in ("first", "second")]
            return all(release is not None and release.mirrored for release in found)

        await eventually(both, 2 * backfill.SWEEP_SECONDS)


async def test_a_text_that_could_not_be_had_is_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    text = b'{"slug":"hello","version":"1.0"}'
    evidence = Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), hashlib.sha256(text).digest())
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await a.publish(ZIP, evidence=(evidence,))
        await eventually(b.release)
        await trio.sleep(60)
        assert not b.artifacts.has(evidence.text_sha256)

        a.artifacts.put_bytes(text)
        await eventually(lambda: b.artifacts.has(evidence.text_sha256), 2 * backfill.SWEEP_SECONDS)


async def test_a_text_that_was_missing_at_the_stop_is_fetched_after_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    text = b'{"slug":"hello","version":"1.0"}'
    evidence = Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), hashlib.sha256(text).digest())
    async with network(tmp_path) as net:
        a, b = await pair(net)
        await a.publish(ZIP, evidence=(evidence,))
        await eventually(b.release)
        await b.stop()
        a.artifacts.put_bytes(text)

        await b.start(net.nursery)
        await eventually(lambda: b.artifacts.has(evidence.text_sha256), 60)


async def test_what_has_gone_by_the_time_it_is_looked_at_is_left_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        part: Backfill = a.engine._backfill

        assert await part._read(bytes(32)) == (b"", None)
        a.engine._bodies.remember(bytes(32), b"junk")
        assert await part._read(bytes(32)) == (b"", None)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (Filters(), True),
        (Filters(slugs=("hello",)), True),
        (Filters(slugs=("other",)), False),
        (Filters(exclude=("hello",)), False),
        (Filters(tags=("greeting",)), True),
        (Filters(tags=("other",)), False),
    ],
)
async def test_filters_say_what_a_subscriber_wants(
    filters: Filters, wanted: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        await a.publish(ZIP)
        release = a.release()
        assert release is not None

        assert is_wanted(replace(release), filters) is wanted


async def test_a_sweep_that_finds_the_store_in_trouble_is_made_again_and_sweeps_are_never_made_without_a_pause(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        part = a.engine._new_backfill()
        swept: list[float] = []
        read = a.database.read

        async def trouble_first(work: Any) -> Any:
            swept.append(trio.current_time())
            if len(swept) == 1:
                raise sqlite3.OperationalError("disk I/O error")
            return await read(work)

        monkeypatch.setattr(a.database, "read", trouble_first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part.run)
            for _ in range(100):
                part.sweep_soon()
                await trio.sleep(1)
            nursery.cancel_scope.cancel()

        reads_of_a_sweep, others = 2, 6
        assert len(swept) <= reads_of_a_sweep * (100 / backfill.SWEEP_SECONDS_MIN + 1) + others
