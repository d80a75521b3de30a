"""A new release in a mesh of subscribed nodes: the publisher is asked by few, and all have it."""

from pathlib import Path

import trio
from trio.testing import MockClock

from tests.network.subscribed_mesh import SLUG, subscribed_mesh


async def test_a_publisher_serves_a_new_release_to_few_of_those_that_pin_each_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with subscribed_mesh(tmp_path, 6) as mesh:
        assert mesh.holders("1.0") == 6
        before = mesh.copies_served()
        mesh.publisher.publish(SLUG, "2.0")
        await trio.sleep(3600 * 1.2)

        assert mesh.holders("2.0") == 6
        assert mesh.copies_served() - before <= 2
