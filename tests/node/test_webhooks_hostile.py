"""A webhook's URL leads nowhere that this node does not dial: with the real guard, over an internet in memory."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from pfn_node.outbound import AddressRefused, Outbound
from pfn_node.store import webhooks
from pfn_node.store.database import Database
from pfn_node.store.webhooks import Webhook
from pfn_node.webhooks.delivering import Webhooks
from tests.node.fake_internet import PUBLIC, FakeInternet, Machine, answer
from tests.node.store_world import NOW

INSIDE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fd00::1"]


def answers(text: bytes) -> Machine:
    """A machine that reads a message to its end, gives this answer, and hangs up."""

    async def machine(stream: trio.abc.Stream) -> None:
        got = b""
        while not got.endswith(b"}}"):
            data = await stream.receive_some(65_536)
            if not data:
                return
            got += data
        await stream.send_all(text)

    return machine


@asynccontextmanager
async def room(folder: Path, internet: FakeInternet) -> AsyncIterator[Webhooks]:
    """The room with one webhook, which is at receiver.test."""
    database = Database.open(folder / "node.db", inline=True)
    try:
        hook = Webhook(
            "AAAAAAAA", "https://receiver.test/", "", bytes(32), (), None, None, "k", NOW, 0, None, None
        )  # fmt: skip
        await database.write(lambda db: webhooks.insert_webhook(db, hook))
        async with Outbound(allow_private_networks=False, user_agent="test", network=internet) as outbound:
            yield Webhooks(database, outbound, "", clock=lambda: float(NOW), rng=random.Random(1))
    finally:
        database.close()


@pytest.mark.parametrize("address", INSIDE)
async def test_a_name_that_leads_inside_is_not_dialled(tmp_path: Path, nursery: trio.Nursery, address: str) -> None:
    internet = FakeInternet(nursery)
    async with room(tmp_path, internet) as hooks:
        internet.names.add("receiver.test", [PUBLIC, address])

        attempt = await hooks.test("AAAAAAAA")

    assert internet.dialled == []
    assert attempt.status is None and attempt.error is not None
    assert "not public" in attempt.error and address not in attempt.error


async def test_a_name_that_changes_its_mind_is_judged_at_each_attempt(tmp_path: Path, nursery: trio.Nursery) -> None:
    internet = FakeInternet(nursery)
    async with room(tmp_path, internet) as hooks:
        internet.put("receiver.test", answers(answer(status="204 No Content")))
        internet.names.add("receiver.test", [PUBLIC], ["127.0.0.1"])

        first = await hooks.test("AAAAAAAA")
        second = await hooks.test("AAAAAAAA")

    assert (first.succeeded, second.succeeded) == (True, False)
    assert internet.dialled == [(PUBLIC, 443)]


async def test_a_redirect_leads_nowhere(tmp_path: Path, nursery: trio.Nursery) -> None:
    internet = FakeInternet(nursery)
    async with room(tmp_path, internet) as hooks:
        elsewhere = answer(status="302 Found", headers="location: https://inside.test/\r\n")
        internet.put("receiver.test", answers(elsewhere))
        internet.put("inside.test", answers(answer()), "93.184.216.99")

        attempt = await hooks.test("AAAAAAAA")

    assert attempt.error == "It answered 302."
    assert internet.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "url", ["http://receiver.test/", "https://10.0.0.1/", "https://receiver.test:22/", "file:///x"]
)
async def test_a_url_outside_of_the_policy_is_refused_before_it_is_kept(
    tmp_path: Path, nursery: trio.Nursery, url: str
) -> None:
    async with room(tmp_path, FakeInternet(nursery)) as hooks:
        with pytest.raises(AddressRefused):
            hooks.check_url(url)
