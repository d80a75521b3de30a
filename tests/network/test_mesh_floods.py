"""Floods of announcements, each of which costs a signature check: they leave the machine to others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh.admission import BUSY, PUSHED_BURST, PUSHED_PER_SECOND
from pfn_protocol import encoding, identity
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import MirrorStatement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.messages import FetchAnswer, FetchRequest, GossipRequest, LinkAnswer, LinkRequest, RefusedAnswer
from tests.network.mesh_network import START_SECONDS, network
from tests.network.test_mesh_engine import Asker

FLOODER = PrivateKey(bytes([66]) * 32)
AUTHOR = PrivateKey(bytes([67]) * 32)
AT_ONCE = 500


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures that were checked since."""
    seen: list[bytes] = []
    verify = identity.verify

    def watched(public: bytes, message: bytes, signature: bytes) -> bool:
        seen.append(signature)
        return verify(public, message, signature)

    monkeypatch.setattr(encoding, "verify", watched)
    return seen


def junk() -> Iterator[bytes]:
    """Announcements without end that nobody asked for, each new and rightly signed."""
    number = 0
    while True:
        number += 1
        statement = MirrorStatement(f"a{number}@plugins.example", 1, bytes(32))
        yield announce(AUTHOR, "main", statement, 0, (START_SECONDS + 1) * 1000 + number).raw


async def test_a_peer_that_floods_is_told_busy_while_another_is_answered(
    tmp_path: Path, autojump_clock: MockClock, checked: list[bytes]
) -> None:
    async with network(tmp_path) as net:
        node = await net.add("a")
        flooder, honest = Asker(node, FLOODER), Asker(node)
        for asker in (flooder, honest):
            status, answer = await asker.ask(LinkRequest("", (), ()))
            assert status == 200 and isinstance(answer, LinkAnswer) and answer.accepted
        announcements = junk()
        started, before = trio.current_time(), len(checked)
        refused = 0

        for _ in range(30):
            push = tuple(next(announcements) for _ in range(AT_ONCE))
            status, answer = await flooder.ask(GossipRequest(push, (), None, 0))
            if status != 200:
                assert status == 429 and isinstance(answer, RefusedAnswer) and answer.rule == BUSY
                refused += 1
            status, answer = await honest.ask(FetchRequest((bytes(32),)))
            assert status == 200 and isinstance(answer, FetchAnswer)

        seconds = trio.current_time() - started
        allowed = PUSHED_BURST + seconds * PUSHED_PER_SECOND
        envelopes = 4 * 30  # of requests, and of their answers here
        assert refused >= 30 - allowed / AT_ONCE - 1 > 10
        assert len(checked) - before <= allowed + envelopes


async def test_the_flood_of_one_peer_is_bounded_by_a_setting(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        node = await net.add("a", peer_verifications_per_second=10_000)
        flooder = Asker(node, FLOODER)
        await flooder.ask(LinkRequest("", (), ()))
        announcements = junk()

        statuses = []
        for _ in range(15):
            push = tuple(next(announcements) for _ in range(AT_ONCE))
            statuses.append((await flooder.ask(GossipRequest(push, (), None, 0)))[0])
            await trio.sleep(0.1)

        assert set(statuses) == {200}
