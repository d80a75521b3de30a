"""An honest publisher in a process of its own, synced for ever: `python -m tests.benchmarks.honest_syncs URL KEY`.

It publishes a version, has the node at URL mirror it, prints the seconds that took, and goes on `PAUSE_SECONDS` later.
Nothing here waits for what the measuring process does beside it.
"""

import sys
from time import perf_counter
from typing import Final

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.outbound import Outbound
from tests.hostile_publishers import Site, open_site, publish_next

PAUSE_SECONDS: Final = 0.5


async def register(client: NodeClient, site: Site) -> None:
    """Add the publisher to the node, and have it prove its key."""
    publisher = site.publisher
    body = {"instance_url": publisher.url, "username": publisher.author, "public_key": publisher.pem}
    await client.post("add-source", body)
    await client.post("verify-source", {"sourceId": site.source_id})


async def sync(client: NodeClient, site: Site, number: int) -> float:
    """Publish a version and have it mirrored; the seconds until it is here."""
    publish_next(site, number)
    started = perf_counter()
    answer = await client.post("subscribe", {"sourceId": site.source_id})
    seconds = perf_counter() - started
    assert answer["syncResult"]["mirroredCount"] == 1, answer
    return seconds


async def main(url: str, key: str) -> None:
    """Sync until the process ends."""
    async with (
        Outbound(allow_private_networks=True, user_agent="pfn-bench") as outbound,
        trio.open_nursery() as server,
    ):
        client, site = NodeClient(outbound, url, key), await open_site(server, 1)
        await register(client, site)
        number = 0
        while True:
            sys.stdout.write(f"{await sync(client, site, number)}\n")
            sys.stdout.flush()
            number += 1
            await trio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
