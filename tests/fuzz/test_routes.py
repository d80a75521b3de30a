"""Whatever is asked of a node, it answers, soon, and never with a mistake of its own: a real node, asked over sockets.

Every route gets 2,000 requests, with --long 25,000: valid ones changed, and raw bytes. A fault prints the request; put
it into `FOUND` to keep it as a test. PFN_FUZZ_SEED plays another series; PFN_FUZZ_SHARE=2/4 asks the second quarter of
the routes, since 25,000 to all of them take a machine two hours.
"""

import base64
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
import trio

from pfn_node.store import sessions
from pfn_node.web.pages.site import SUBJECTS
from pfn_node.web.session_tokens import hash_token, new_token
from tests.fuzz.calls import Call, Maker, Session, calls_of
from tests.fuzz.wire import Got, Wire, send_raw
from tests.node.web_node import MASTER_KEY, NODE, web_node
from tests.observed_node import Figures, ObservedNode, observed_node

REQUESTS = 2_000  # to every route
PAGE_SHARE = 5  # pages get a fifth of that: what lies behind them is asked over the API as well
REQUESTS_LONG = 25_000
WARMING_REQUESTS = 20
BROKEN_SHARE = 0.1  # of them are not well framed, on connections of their own
AT_ONCE = 4
SECONDS_P99_MAX = 0.25
SEED = int(os.environ.get("PFN_FUZZ_SEED", "1"))
SHARE, SHARES = map(int, os.environ.get("PFN_FUZZ_SHARE", "1/1").split("/"))
SETTLING_SECONDS_MAX = 30.0

REFUSED = (400, 401, 403, 405, 413, 414, 421, 429, 431)  # before anybody looked at what was wanted
# Nodes that an administrator joined and that do not answer are tried for ever; there may be JOIN_TARGETS_MAX of them.
KEPT = {"pfn_node.mesh.joining.Joining._try_until_left"}
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) \r\n")

# What was found once: the request in base64.
FOUND: list[str] = [
    "R0VUIC8gSFRUUC8xLjENCkhvc3Q6IC4NCg0K",  # a Host that IDNA has no form for
]


@dataclass
class Heard:
    """What came back, of all requests."""

    statuses: dict[int, int] = field(default_factory=dict)
    forms_taken: set[str] = field(default_factory=set)  # which got through to what they are for, well or not
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, call: Call, raw: bytes, got: Got) -> None:
        self.statuses[got.status] = self.statuses.get(got.status, 0) + 1
        self.seconds.append(got.seconds)
        if call.form and got.status not in REFUSED and not got.headers.get("location", "").startswith("/sign-in?"):
            self.forms_taken.add(call.path)
        if got.status >= 500 and got.status not in call.errors:
            self.fault(call, raw, f"was answered with {got.status} {got.body[:300]!r}")
        elif any(sign in got.body for sign in (b"Traceback (most", b"site-packages")):
            self.fault(call, raw, f"was told of our insides: {got.body[:300]!r}")

    def fault(self, call: Call, raw: bytes, what: str) -> None:
        self.faults.append(f"{call.name} {what}\n    {base64.b64encode(raw[:4000]).decode()!r},")

    @property
    def seconds_p99(self) -> float:
        return sorted(self.seconds)[len(self.seconds) * 99 // 100]


@dataclass(frozen=True)
class Credentials:
    """What proves who asks: in a header, and as a browser does."""

    key: str
    session: Session


@asynccontextmanager
async def seeded_node(folder: Path) -> AsyncIterator[tuple[ObservedNode, Credentials, list[Call]]]:
    """A node with a source, plugins, a key and a session: the process, what proves who asks, and its calls."""
    async with web_node(folder) as seeded:
        await seeded.add_bilbo()
        await seeded.add_release(b"a zip")
        await seeded.add_release(b"a newer zip", version="1.1.0")
        await seeded.add_report(b"reported", version="2.0.0")
        seeded.services.now = lambda: 4_000_000_000.0  # a key that has not expired by the time that this runs
        key = await seeded.make_key(expires_in_days=3650)
        session, until = Session(new_token()), int(seeded.services.now())
        hashed, key_id = hash_token(session.token), key.split("_")[1]
        await seeded.services.database.write(
            lambda db: sessions.insert_session(db, hashed, key_id, int(time.time()), until)
        )
        calls = calls_of((await seeded.get("/openapi.json")).json)
    environment = {"PFN_MASTER_KEY": MASTER_KEY, "PFN_PRIVATE_KEY": NODE.to_pem()}
    async with observed_node(folder, environment=environment, sync_seconds=1e6) as node:
        yield node, Credentials(key, session), calls


async def ask_all(node: ObservedNode, who: Credentials, calls: list[Call], requests: int) -> Heard:
    heard = Heard()
    for last in (False, True):
        waiting = [call for call in calls if call.last == last]
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(_ask_next, node, who, waiting, requests, heard)
    return heard


async def _ask_next(node: ObservedNode, who: Credentials, waiting: list[Call], requests: int, heard: Heard) -> None:
    async with Wire(node.port) as wire:
        while waiting and not heard.faults:
            call = waiting.pop()
            maker = Maker(Random(f"{SEED} {call.name}"), who.key, who.session)
            await _ask_one(node, maker, call, wire, requests // PAGE_SHARE if call.is_page else requests, heard)


async def _ask_one(node: ObservedNode, maker: Maker, call: Call, wire: Wire, requests: int, heard: Heard) -> None:
    broken = round(requests * BROKEN_SHARE)
    for _ in range(requests - broken):
        raw = maker.request(call)
        try:
            heard.note(call, raw, await wire.ask(raw))
        except (EOFError, OSError, ValueError, KeyError, trio.BrokenResourceError, trio.TooSlowError) as error:
            heard.fault(call, raw, f"had no answer: {error!r}")
            return
    for _ in range(broken):
        raw = maker.broken(call)
        try:
            judge_raw(call, raw, await send_raw(node.port, raw), heard)
        except (OSError, trio.TooSlowError) as error:
            heard.fault(call, raw, f"had no end: {error!r}")
            return


def judge_raw(call: Call, raw: bytes, got: bytes, heard: Heard) -> None:
    """Nothing, or answers of HTTP; 501 is the right one to a transfer encoding that nobody knows."""
    if got and not got.startswith(b"HTTP/1.1 "):
        heard.fault(call, raw, f"was answered with {got[:300]!r}")
    for status in map(int, STATUS_LINE.findall(got)):
        heard.statuses[status] = heard.statuses.get(status, 0) + 1
        if status >= 500 and status not in call.errors and not (status == 501 and b"transfer" in raw.lower()):
            heard.fault(call, raw, f"was answered with {got[-300:]!r}")


def left_over(before: Figures, after: Figures) -> dict[str, int]:
    """Tasks by name, and descriptors, that are there now and were not before."""
    more = Counter(after.doing)
    more.subtract(before.doing)
    more["descriptors"] = after.descriptors - before.descriptors
    return {name: count for name, count in more.items() if count > 0 and name not in KEPT}


async def play(folder: Path, requests: int) -> Heard:
    async with seeded_node(folder) as (node, who, calls):
        # What is made when it is first needed (threads, readers of the store) is no leak.
        await ask_all(node, who, [call for call in calls if not call.last], WARMING_REQUESTS)
        before = await node.figures()
        heard = await ask_all(node, who, calls[SHARE - 1 :: SHARES], requests)
        assert heard.faults == [], "\n".join(heard.faults)
        after = await node.figures()
        with trio.move_on_after(SETTLING_SECONDS_MAX):
            while left_over(before, after):
                await trio.sleep(0.1)
                after = await node.figures()
        assert left_over(before, after) == {}
        assert node.mistakes() == []
        return heard


async def test_no_request_makes_the_node_fail_or_wait(tmp_path: Path) -> None:
    heard = await play(tmp_path / "node", REQUESTS)

    assert heard.seconds_p99 < SECONDS_P99_MAX
    assert heard.statuses[200] > len(heard.seconds) / 10, "too little gets through to what lies behind the checks"
    forms = {form.path.replace("<", "{").replace(">", "}") for subject in SUBJECTS for form in subject.forms}
    assert heard.forms_taken == forms


@pytest.mark.long
async def test_a_million_requests_do_not_either(tmp_path: Path) -> None:
    heard = await play(tmp_path / "node", REQUESTS_LONG)

    sys.stdout.write(f"{len(heard.seconds):,} answers, p99 {heard.seconds_p99 * 1000:.1f} ms\n")
    assert heard.seconds_p99 < SECONDS_P99_MAX


async def test_what_was_found_once_stays_mended(tmp_path: Path) -> None:
    async with seeded_node(tmp_path / "node") as (node, _, _):
        for raw in FOUND:
            heard = Heard()
            judge_raw(Call("", ""), base64.b64decode(raw), await send_raw(node.port, base64.b64decode(raw)), heard)
            assert heard.faults == []
        assert node.mistakes() == []
