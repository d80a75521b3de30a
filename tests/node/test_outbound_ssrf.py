"""No text that a stranger gives this node makes it connect to where it should not, seen where sockets are connected.

Every host form is put in at every place where a host comes in from outside, with everything real: the rooms, the guard,
httpcore, trio. Names resolve as the test says. Machines at one public address answer from memory; a connection to any
other address goes to the interpreter's socket, which notes it here, and refuses it so that nothing leaves this machine.
A name that leads to another public address is dialled: so it is seen that the place does dial.
"""

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NoReturn

import httpcore
import pytest
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh.blocking import inline as in_thread
from pfn_node.mesh.engine import Engine
from pfn_node.mesh.peer_client import PeerClient, PeerFailure
from pfn_node.outbound import Outbound
from pfn_node.settings import Settings
from pfn_node.sources.operations import Sources
from pfn_node.sources.outcomes import NotVerified, PublisherFailed, SourceConflict, UnknownSource
from pfn_node.store.database import Database
from pfn_node.store.facts import set_identity
from pfn_node.store.rows import Filters
from pfn_node.store.sources import delete_source, insert_source, update_source
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.messages import HaveRequest
from pfn_protocol.publisher import ReleaseStatement, sign_release
from tests.node.examining import examine_here
from tests.node.fake_internet import FakeInternet, answer, read_head
from tests.node.fake_outbound import Request
from tests.node.sources_room import Publisher, inline
from tests.node.test_addresses import HOSTILE_ADDRESSES

DIALLED: Final = "93.184.216.99"  # public, and nobody of the test's machines: whoever dials it is seen
ALL: Final = Filters()
NODE: Final = PrivateKey(b"\x07" * 32)
PEER: Final = PrivateKey(b"\x09" * 32).public
REFUSALS: Final = (Refusal, PublisherFailed, PeerFailure, NotVerified, SourceConflict, UnknownSource)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# What names lead to: every address that is not public, alone and among public ones.
ANSWERS: Final = [
    *([address] for address in HOSTILE_ADDRESSES if _is_address(address) and "%" not in address),
    [DIALLED, "127.0.0.1"],
    ["::1", DIALLED],
    [DIALLED] * 9 + ["169.254.169.254"],
]
# What is written instead of a name; C libraries, browsers and older parsers read an address inside in most of them.
WRITTEN: Final = (
    *("127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "2130706433", "0", "0x0"),
    *("127.0.0.1.", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "1.1.1.1"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]"),
    *("[fe80::1%25lo]", "[fd00::1]", "[2002:7f00:1::]", "[0:0:0:0:0:0:0:1]", "[::1", "::1", "[fd00:ec2::254]"),
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "localhost.localdomain",
        "printer.local",
        "db",
        "db.internal",
    ),
    *("metadata.google.internal", "router.home.arpa", "instance-data", "kubernetes.default.svc"),
    *("good.example@127.0.0.1", "127.0.0.1#@good.example", "good.example:443@127.0.0.1", "good.example\\@127.0.0.1"),
    *(
        "127.0.0.1?.good.example",
        "127.0.0.1%2f.good.example",
        "good.example%00.127.0.0.1",
        "127.0.0.1:22",
        "localhost:443",
    ),
    *("127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1", "\uff4c\uff4f\uff43\uff41\uff4chost", "%31%32%37.0.0.1"),
    *("127.0.0.1\tgood.example", "127.0.0.1 good.example", "good.example\r\nHost: 127.0.0.1", "", ".", "/127.0.0.1"),
)


@contextmanager
def watched() -> Iterator[list[Any]]:
    """The addresses that sockets are told to connect to, none of which is reached.

    An audit hook would see the same, and could never be taken away again: threads that start while one runs
    fail now and then when their branches are measured, in every test after this (CPython's `sys.settrace`).
    """
    seen: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> NoReturn:
        seen.append(address)
        raise ConnectionRefusedError("watched")

    with pytest.MonkeyPatch.context() as patch:
        for way in ("connect", "connect_ex"):
            patch.setattr(socket.socket, way, refuse)
        yield seen


class HalfFakeInternet(FakeInternet):
    """Machines of the test in memory; everything else through real sockets."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if host in self.machines:
            return await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return await httpcore.TrioBackend().connect_tcp(host, port, timeout, local_address, socket_options)


@dataclass
class Stage:
    """The rooms that dial, and one honest publisher at good.example whose answers a test bends."""

    database: Database
    sources: Sources
    engine: Engine
    client: PeerClient
    internet: HalfFakeInternet
    publisher: Publisher
    location: str = ""  # where its zips redirect to
    count: int = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """The publisher, over HTTP."""
        while head := await read_head(stream):
            line, _, rest = head.decode("latin-1").partition("\r\n")
            method, target, _ = line.split(" ")
            path, _, query = target.partition("?")
            header, _, body = rest.partition("\r\n\r\n")
            wanted = next(
                (int(line[15:]) for line in header.lower().split("\r\n") if line.startswith("content-length")), 0
            )
            while len(body) < wanted:
                body += bytes(await stream.receive_some(65536)).decode("latin-1")
            if path.endswith(".zip") and self.location:
                await stream.send_all(answer(status="302 Found", headers=f"location: {self.location}\r\n"))
                continue
            given = dict(pair.split("=", 1) for pair in query.split("&") if pair)
            text, status, _ = self.publisher.answer(Request(method, path, given, {}, body.encode("latin-1"), target))
            content = text.encode() if isinstance(text, str) else text
            await stream.send_all(answer(content, status=f"{status} x"))

    async def sync_one_more(self) -> None:
        """Have the publisher offer something new, and mirror it."""
        self.count += 1
        self.publisher.entries.clear()
        self.publisher.publish(f"new-{self.count}", "1.0")
        await self.sources.update(self.publisher.source_id)
        await self.sources.subscribe(self.publisher.source_id, "k", ALL)

    async def insert(self, url: str, **columns: Any) -> str:
        """A source at this URL, as heard from another node: nobody here looked at the URL."""
        source_id = f"ann@{url.partition('://')[2].partition('/')[0]}"

        def write(db: Any) -> None:
            delete_source(db, source_id, True)
            insert_source(
                db,
                id=source_id,
                instance_url=url,
                username="ann",
                public_key=self.publisher.pem,
                created_at=1,
                registered=False,
            )
            update_source(db, source_id, **columns)

        await self.database.write(write)
        return source_id


async def _add_source(stage: Stage, host: str) -> None:
    source, _ = await stage.sources.add(f"https://{host}", "ann", stage.publisher.pem)
    try:
        await stage.sources.verify(source.id)
    finally:
        await stage.sources.remove(source.id, True)


async def _source_of_a_peer(stage: Stage, host: str) -> None:
    source_id = await stage.insert(f"https://{host}", status="verified", verified_at=1)
    await stage.sources.fetch_release(source_id, f"plugin-{random.random()}"[:40].replace(".", "-"), "1.0")


async def _asset_domain(stage: Stage, host: str) -> None:
    stage.publisher.asset_info = {"domain": f"https://{host}", "namingScheme": "author/slug/slug.zip"}
    await stage.sync_one_more()


async def _naming_scheme(stage: Stage, host: str) -> None:
    schemes = (f"//{host}/slug.zip", f"https://{host}/slug.zip", f"@{host}/slug.zip", f".{host}/slug.zip")
    scheme = schemes[stage.count % len(schemes)]
    stage.publisher.asset_info = {"domain": "https://good.example", "namingScheme": scheme}
    await stage.sync_one_more()


async def _redirect(stage: Stage, host: str) -> None:
    stage.publisher.asset_info = {"domain": "https://good.example", "namingScheme": "author/slug/slug.zip"}
    stage.location = f"https://{host}/x.zip"
    await stage.sync_one_more()


async def _join(stage: Stage, host: str) -> None:
    try:
        await stage.engine.join(f"https://{host}", None)
    finally:
        await stage.database.write(lambda db: db.execute("delete from join_targets"))


async def _peer_url(stage: Stage, host: str) -> None:
    await stage.client.send(PEER, f"https://{host}", HaveRequest(()))


async def _mirror_url(stage: Stage, host: str) -> None:
    await stage.client.artifact(f"https://{host}", bytes(32), _drop, bytes_max=9, seconds_max=5, bytes_per_second_min=0)


def _drop(chunk: bytes) -> None:
    """Nothing comes."""


async def _artifact_url(stage: Stage, host: str) -> None:
    """Of a source that lives there: for another source nothing is dialled (test_attacks_sources.py)."""
    source_id = await stage.insert(f"https://{host}", status="verified", verified_at=1, oracle="none")
    statement = ReleaseStatement(
        f"https://{host}", "ann", "alpha", "1.0", bytes(32), 9, 0, 1_800_000_000_000, bytes(32)
    )
    envelope = sign_release(stage.publisher.key, statement).raw
    try:
        await stage.sources.accept_release(envelope, None, f"https://{host}/alpha.zip")
    finally:
        await stage.database.write(lambda db: delete_source(db, source_id, True))


ENTRIES: Final[dict[str, Callable[[Stage, str], Awaitable[None]]]] = {
    "instance_url of add-source": _add_source,
    "instance_url that another node tells": _source_of_a_peer,
    "asset domain of a publisher": _asset_domain,
    "naming scheme of a publisher": _naming_scheme,
    "redirect of a publisher": _redirect,
    "URL of a node to join": _join,
    "URL of a node in an announcement": _peer_url,
    "URL of a mirror": _mirror_url,
    "artifact_url of a release": _artifact_url,
}
# Whatever host a naming scheme names, it stays a path of the asset domain.
DIALS_NOWHERE_ELSE: Final = "naming scheme of a publisher"


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    database = Database.open(folder / "node.db", inline=True)
    artifacts = Artifacts(folder / "artifacts", 2**20)
    artifacts.start()
    settings = Settings(data=folder)
    publisher = Publisher(url="https://good.example")
    await database.write(lambda db: set_identity(db, NODE.public, 1))
    async with trio.open_nursery() as nursery:
        internet = HalfFakeInternet(nursery)
        async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
            engine = Engine(
                NODE, settings, database, artifacts, outbound, None, random.Random(1), in_thread=in_thread()
            )
            sources = Sources(
                database,
                artifacts,
                outbound,
                settings,
                _say_nothing,
                NODE.public,
                examine_here,
                rng=random.Random(1),
                run_blocking=inline,
            )
            client = PeerClient(outbound, NODE, "main", lambda: 1_800_000_000_000)
            stage = Stage(database, sources, engine, client, internet, publisher)
            internet.put("good.example", stage.serve)
            nursery.start_soon(sources.run)
            await stage.sources.add(publisher.url, publisher.author, publisher.pem)
            assert (await stage.sources.verify(publisher.source_id)).success
            yield stage
            nursery.cancel_scope.cancel()
    database.close()


async def _say_nothing(statement: object) -> None:
    """The mesh is not asked to tell anything."""


async def _go(stage: Stage, entry: str, host: str) -> None:
    stage.location = ""
    try:
        await ENTRIES[entry](stage, host)
    except REFUSALS:
        pass  # refused early or late; what counts is that nothing was dialled


def test_sixty_host_forms_are_put_in_at_six_places() -> None:
    assert len(ANSWERS) + len(WRITTEN) >= 60
    assert len(ENTRIES) - 1 >= 6


@pytest.mark.parametrize("entry", ENTRIES)
async def test_no_socket_is_connected_to_a_blocked_address(tmp_path: Path, entry: str) -> None:
    async with staged(tmp_path) as stage:
        hosts = list(WRITTEN)
        for number, addresses in enumerate(ANSWERS):
            hosts.append(f"h{number}.evil.example")
            stage.internet.names.add(hosts[-1], addresses)
        stage.internet.names.add("public.example", [DIALLED])
        stage.internet.names.add("rebinding.example", [DIALLED], ["127.0.0.1"])

        with watched() as connected:
            for host in hosts:
                await _go(stage, entry, host)
            assert connected == []

            await _go(stage, entry, "public.example")
            assert {*connected} == (set() if entry == DIALS_NOWHERE_ELSE else {(DIALLED, 443)})

            for _ in range(3):  # DNS rebinding: a public address first, then our own
                await _go(stage, entry, "rebinding.example")
            assert {*connected} == (set() if entry == DIALS_NOWHERE_ELSE else {(DIALLED, 443)})


async def test_the_watch_sees_what_a_node_dials_that_may_dial_anywhere(tmp_path: Path) -> None:
    async with Outbound(allow_private_networks=True, user_agent="pfn/1") as outbound:
        with watched() as connected, pytest.raises(PeerFailure):
            await PeerClient(outbound, NODE, "main", lambda: 0).info("http://127.0.0.1:9")

    assert connected == [("127.0.0.1", 9)]
