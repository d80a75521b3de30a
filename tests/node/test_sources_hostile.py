"""Twenty kinds of hostile publishers at once: an honest one is synced as if they were not there, and nothing is left.

In memory and virtual time, with the real room and the real way out; `scripts/bench hostile` has processes and sockets.
"""

import random
from pathlib import Path

import trio
import trio.testing

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.outbound import Outbound
from pfn_node.outbound_limits import SLOW_AFTER_SECONDS
from pfn_node.settings import Settings
from pfn_node.sources.operations import Sources
from pfn_node.sources.outcomes import SourcesError
from pfn_node.sources.publisher_client import LIST_SECONDS_MAX
from pfn_node.store.database import Database
from pfn_node.store.facts import set_identity
from pfn_node.store.rows import Filters
from pfn_protocol.identity import PrivateKey
from tests.hostile_publishers import KINDS, Site, publish_next
from tests.node.examining import examine_here
from tests.node.fake_internet import FakeInternet
from tests.node.sources_room import Publisher, inline

ALL = Filters()
HOSTILE = 32
SYNCS = 40
DOWNLOAD_SECONDS_MAX = 45.0
NODE = PrivateKey(b"\x07" * 32)


def _sites(internet: FakeInternet) -> list[Site]:
    """The honest one first."""
    kinds = ["", *(list(KINDS)[number % len(KINDS)] for number in range(HOSTILE))]
    sites = []
    for number, kind in enumerate(kinds):
        site = Site(Publisher(number + 1), kind)
        site.live_at(f"http://p{number}.test")
        internet.put(f"p{number}.test", site.serve, f"10.0.0.{number}")
        sites.append(site)
    return sites


async def _announce_nothing(statement: object) -> None:
    """There is no mesh."""


async def _attack(sources: Sources, site: Site, done: list[str]) -> None:
    publisher = site.publisher
    await sources.add(publisher.url, publisher.author, publisher.pem)
    for _ in range(2):
        try:
            await sources.subscribe(publisher.source_id, "k", ALL)
        except SourcesError:
            pass  # it is told so; that it is told in time is what counts
    done.append(publisher.source_id)


async def test_hostile_publishers_keep_no_honest_one_from_being_synced(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    internet = FakeInternet(nursery)
    honest, *others = _sites(internet)
    database = Database.open(tmp_path / "node.db", inline=True)
    artifacts = Artifacts(tmp_path / "artifacts", 2**20)
    artifacts.start()
    await database.write(lambda db: set_identity(db, NODE.public, 1))
    settings = Settings(
        data=tmp_path,
        artifact_seconds_max=DOWNLOAD_SECONDS_MAX,
        artifact_bytes_max=10 * 2**20,
        allow_private_networks=True,
        health_check_seconds=1e9,
    )
    done: list[str] = []
    async with (
        Outbound(allow_private_networks=True, user_agent="test", network=internet) as outbound,
        trio.open_nursery() as room,
    ):
        sources = Sources(
            database, artifacts, outbound, settings, _announce_nothing, NODE.public, examine_here,
            rng=random.Random(1), run_blocking=inline,
        )  # fmt: skip
        room.start_soon(sources.run)
        await sources.add(honest.publisher.url, honest.publisher.author, honest.publisher.pem)
        await trio.testing.wait_all_tasks_blocked()
        for site in others:
            room.start_soon(_attack, sources, site, done)

        seconds = []
        for number in range(SYNCS):
            version, started = publish_next(honest, number), trio.current_time()
            result = await sources.subscribe(honest.source_id, "k", ALL)
            assert result.mirrored_count == 1 and not result.skipped, (version, result)
            seconds.append(trio.current_time() - started)
            await trio.sleep(1)

        assert max(seconds) <= 4 * SLOW_AFTER_SECONDS  # four requests each; alone they take no time at all
        assert sorted(seconds)[SYNCS * 95 // 100] <= SLOW_AFTER_SECONDS
        await trio.sleep(4 * DOWNLOAD_SECONDS_MAX)
        assert len(done) == HOSTILE
        assert {site.source_id: site.open for site in others} == {site.source_id: 0 for site in others}
        longest = max(duration for site in others for duration in site.durations)
        assert longest <= max(LIST_SECONDS_MAX, DOWNLOAD_SECONDS_MAX) + 1
        assert not list((tmp_path / "artifacts" / "incoming").iterdir())
        assert outbound._slots.origins == 0
        room.cancel_scope.cancel()
    database.close()
