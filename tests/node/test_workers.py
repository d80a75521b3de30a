"""A worker answers what everybody may read as the node does, and passes on what it cannot answer: nobody notices."""

import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio
import trio.testing

from pfn_node.child_environment import inherited_environment
from pfn_node.elsewhere import Elsewhere
from pfn_node.settings import Settings
from pfn_node.store import packages, registry
from pfn_node.store.rows import PackageFacts
from pfn_node.web.app import SUBJECTS
from pfn_node.workers.choosing import REFUSED_MAX, REFUSED_SECONDS, TARGET_BYTES_MAX, Choosing
from pfn_node.workers.rooms import Absent
from pfn_node.workers.starting import limits_of_worker, told
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.publisher import sign_sha384
from tests.node.plain_requests import head
from tests.node.serving import read_answer
from tests.node.shared_port import SharedPort, shared_port
from tests.node.web_node import BILBO, MASTER_KEY, PUBLISHER

DOWNLOAD = f"/federation/download?sourceId={BILBO}&plugin=hello-signal"
SIGNATURE = "/download/plugin/hello-signal.1.0.0.zip.sig"
PLUGIN = f"/federation/plugins/{BILBO}/hello-signal"
# What a worker answers by itself, at once or the second time.
ALONE = (
    "/federation/sources",
    "/federation/plugins",
    "/federation/plugins?q=hello",
    "/federation/plugins?limit=nonsense",
    PLUGIN,
    f"/federation/source-status?sourceId={BILBO}",
    "/federation/slugs",
    "/federation/advisories",
    DOWNLOAD,
    "/plugins/info/1.2/?action=plugin_information&request[slug]=hello-signal",
    "/packages.json",
    "/feeds/releases.atom",
    "/export/plugins.ndjson",
    "/plugins",
    "/sources",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/nothing/here",
)
# What needs the node.
UPDATES = "/plugins/update-check/1.1/"
PASSED = ("/", "/mesh", "/metrics", "/federation/peers")
OF_EACH_TIME = (b"x-request-id:", b"date:", b"last-modified:", b"connection:")


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[SharedPort]:
    async with shared_port(tmp_path) as made:
        await made.node.add_bilbo()
        await made.node.add_release(b"a zip")
        yield made


def get(path: str, *fields: str, method: str = "GET") -> bytes:
    return head(path, *fields, "Connection: close", method=method)


def without_what_differs(answer: bytes) -> tuple[list[bytes], bytes]:
    text, _, body = answer.partition(b"\r\n\r\n")
    lines = text.split(b"\r\n")
    fields = [line for line in lines if not line.lower().startswith(OF_EACH_TIME)]
    request_id = next(line[14:].strip() for line in lines if line.lower().startswith(b"x-request-id:"))
    return sorted(fields), body.replace(request_id, b"")


async def test_a_worker_answers_as_the_node_does(shared: SharedPort) -> None:
    for number, path in enumerate(ALONE):
        first = await shared.ask(get(path))
        again = await shared.ask(get(path))
        assert len(shared.passed) == number, path

        as_the_node = await shared.ask(get(path, "Cookie: any=thing"))  # is passed on
        assert len(shared.passed) == number + 1
        assert without_what_differs(first) == without_what_differs(again) == without_what_differs(as_the_node), path


async def test_what_needs_the_node_is_passed_on(shared: SharedPort) -> None:
    for number, path in enumerate(PASSED, 1):
        for times in (1, 0):
            assert (await shared.ask(get(path))).startswith(b"HTTP/1.1 200"), path
            assert len(shared.passed) == 2 * number - times


async def test_a_site_asks_for_updates_and_the_node_where_others_have_to_be_asked(tmp_path: Path) -> None:
    plugins = {"plugins": {"hello-signal/hello-signal.php": {"Name": "Hello", "Version": "0.1"}}, "active": []}
    form = urlencode({"plugins": json.dumps(plugins)}).encode()
    fields = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}", "Connection: close")
    question = head(UPDATES, *fields, method="POST") + form

    for folder, settings, passed in (("a", {}, []), ("b", {"wordpress_upstream": "https://api.test"}, [question])):
        (tmp_path / folder).mkdir()
        async with shared_port(tmp_path / folder, **settings) as shared:
            answer = await shared.ask(question)
            assert answer.startswith(b"HTTP/1.1 200") and b'"plugins"' in answer
            assert shared.passed == passed


async def test_every_call_that_reads_gives_an_answer(shared: SharedPort) -> None:
    for operation in [one for subject in SUBJECTS for one in subject.operations if one.reads]:
        path = operation.path.replace("<source_id>", BILBO).replace("<plugin_id>", "hello-signal")

        answer = await shared.ask(get(path, "Authorization: Bearer nonsense", method="HEAD"))
        without_key = await shared.ask(get(path, method="HEAD"))

        assert answer.startswith(b"HTTP/1.1 ") and b" 500 " not in answer[:20], path
        assert without_key.startswith(b"HTTP/1.1 ") and b" 500 " not in without_key[:20], path


async def test_what_was_written_is_read_at_once(shared: SharedPort) -> None:
    key = f"Authorization: Bearer {shared.node.key}"
    body = json.dumps({"source_id": BILBO, "plugin_id": "hello-signal", "version": "1.0.0"}).encode()
    async with await shared.server.connect() as connection:
        for status in ("verified", "error", "pending", "verified"):
            await shared.node.services.database.write(partial(registry.update_source, source_id=BILBO, status=status))
            for _ in range(2):
                await connection.send_all(head("/federation/sources"))
                assert json.loads((await read_answer(connection))[1])[0]["status"] == status
    assert not shared.passed

    posted = head("/federation/unsubscribe", key, f"Content-Length: {len(body)}", method="POST") + body
    async with await shared.server.connect() as connection:
        await connection.send_all(posted)
        answer, _ = await read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 ") and shared.passed == [posted]
        await connection.send_all(head("/federation/keys", key))  # the connection is the node's from now on
        assert (await read_answer(connection))[0].startswith(b"HTTP/1.1 200")
    assert len(shared.passed) == 1


async def test_nothing_of_a_connection_is_lost(shared: SharedPort) -> None:
    key = f"Authorization: Bearer {shared.node.key}"
    large = bytes(8 * 2**20)  # under way until it is read: sockets hold less
    await shared.node.add_release(large, version="2.0.0")
    pieces = [head(DOWNLOAD), head("/mesh") + head("/federation/keys", key), head("/federation/sources")]

    async with await shared.server.connect() as connection:
        for piece in pieces:
            await connection.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        await connection.send_all(get("/healthz"))
        answers = b"".join([data async for data in connection])

    assert answers.count(b"HTTP/1.1 200 ") == 5
    assert answers.index(large) < answers.index(b"<title>") < answers.index(b'"keys"') < answers.index(b'"ok"')
    assert len(shared.passed) == 1


async def test_a_request_that_comes_in_parts_is_for_the_node(shared: SharedPort) -> None:
    async with await shared.server.connect() as connection:
        await connection.send_all(b"GET /healthz HT")
        while not shared.passed:
            await trio.sleep(0.001)
        await connection.send_all(b"TP/1.1\r\nHost: node.test\r\n\r\n")
        assert (await read_answer(connection))[1] == b'{"status":"ok"}'


async def test_a_zip_that_is_not_here_is_brought_by_the_node(shared: SharedPort) -> None:
    await shared.node.add_release(b"another zip", version="2.0.0", kept=False)

    answer = await shared.ask(get(DOWNLOAD))

    assert len(shared.passed) == 1 and shared.node.want.asked
    assert answer.startswith(b"HTTP/1.1 ")


async def test_who_asks_for_what_is_not_here_sends_nobody_else_to_the_node(shared: SharedPort) -> None:
    await shared.node.add_release(b"another zip", plugin_id="elsewhere", kept=False)
    absent = get(DOWNLOAD.replace("hello-signal", "elsewhere"))

    await shared.ask(absent)
    assert (await shared.ask(get(DOWNLOAD))).endswith(b"a zip")

    assert shared.passed == [absent]


async def test_damage_is_for_the_node_to_find(shared: SharedPort) -> None:
    digest = shared.node.services.artifacts.digests()[0]
    shared.node.services.artifacts.path(digest).write_bytes(b"a zap")

    answer = await shared.ask(get(DOWNLOAD))

    assert len(shared.passed) == 1 and b"a zap" not in answer
    assert shared.node.services.artifacts.wanted() == (digest,)


async def test_damage_that_comes_later_is_told(shared: SharedPort) -> None:
    digest = shared.node.services.artifacts.digests()[0]
    assert (await shared.ask(get(DOWNLOAD))).endswith(b"a zip")
    shared.node.services.artifacts.path(digest).write_bytes(b"a zap")

    assert b"a zap" not in await shared.ask(get(DOWNLOAD))
    assert shared.damaged == [digest] and not shared.passed


async def test_who_makes_the_node_verify_has_one_budget_at_all_processes(tmp_path: Path) -> None:
    stranger = "X-Forwarded-For: 192.0.2.9"
    settings = {"trusted_proxy": ("127.0.0.1/32",), "verifications_per_minute": 4}
    async with shared_port(tmp_path, **settings) as shared:
        await shared.node.add_bilbo()
        signature = sign_sha384(PUBLISHER, hashlib.sha384(b"zip").digest())
        await shared.node.add_release(b"zip", evidence=(Evidence(EvidenceForm.SHA384, signature),))
        facts = {hashlib.sha256(b"zip").digest(): PackageFacts(b"1" * 20, hashlib.sha384(b"zip").digest(), {})}
        await shared.node.services.database.write(lambda db: packages.keep_facts(db, facts))
        requests = (get(SIGNATURE, stranger), get(SIGNATURE, stranger, "Cookie: a=b")) * 4
        statuses = [(await shared.ask(request))[9:12] for request in requests]
        other = await shared.ask(get(SIGNATURE, "X-Forwarded-For: 192.0.2.10"))

    assert statuses == [b"200"] * 4 + [b"429"] * 4 and other.startswith(b"HTTP/1.1 200")


async def test_downloads_are_counted(shared: SharedPort) -> None:
    for _ in range(3):
        await shared.ask(get(DOWNLOAD))

    assert shared.services.downloads.take() == {(BILBO, "hello-signal", "1.0.0"): 3}


# Which requests a worker tries.


@pytest.mark.parametrize(
    ("request_", "taken"),
    [
        (head("/"), True),
        (head("/plugins?q=x", "Range: bytes=0-1", "X-Forwarded-For: 192.0.2.1", method="HEAD"), True),
        (get("/"), True),
        (head("/", method="POST"), False),
        (head("/", "Authorization: Bearer x"), False),
        (head("/", "cookie: session=x"), False),
        (head("/", "Content-Length: 1") + b"x", False),
        (head("/", "Transfer-Encoding: chunked"), False),
        (head("/", "Expect: 100-continue"), False),
        (head("/", "Upgrade: h2c"), False),
        (head("/node/v1/digest"), False),
        (head("/") + head("/"), False),
        (head("/")[:-1], False),
        (head("/", "X: " + "y" * 70_000), False),
        (head(UPDATES, "Content-Length: 3", method="POST") + b"a=b", True),
        (head(UPDATES, "content-length:3", method="POST") + b"a=", False),
        (head(UPDATES, "Content-Length: 3", method="POST") + b"a=b" + head("/"), False),
        (head(UPDATES, "Content-Length: 3", "Content-Length: 3", method="POST") + b"a=b", False),
        (head(UPDATES, "Content-Length: x", method="POST") + b"a=b", False),
        (head(UPDATES, "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", False),
        (head("/federation/verify", "Content-Length: 3", method="POST") + b"a=b", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (head("http://node.test/"), False),
    ],
)
def test_only_a_whole_request_that_reads_and_shows_nothing_is_tried(request_: bytes, taken: bool) -> None:
    assert Choosing(lambda: 0.0).takes(request_) is taken


def test_what_was_for_the_node_is_remembered_for_a_while_and_only_so_much_of_it() -> None:
    now = [0.0]
    choosing = Choosing(lambda: now[0])
    choosing.refuse(head("/mesh"))
    assert not choosing.takes(head("/mesh")) and choosing.takes(head("/plugins")) and choosing.takes(head("/mesh?x"))

    now[0] = REFUSED_SECONDS
    assert choosing.takes(head("/mesh"))

    for number in range(2 * REFUSED_MAX):
        choosing.refuse(head(f"/{number}"))
        choosing.refuse(head("/" + "x" * TARGET_BYTES_MAX))
    assert len(choosing._refused) == REFUSED_MAX


# What a worker has not.


async def test_rooms_that_are_absent_are_elsewhere() -> None:
    with pytest.raises(Elsewhere):
        Absent().peers()
    with pytest.raises(Elsewhere):
        Absent()("anything", key=1)


async def test_a_worker_neither_writes_nor_waits_for_news(shared: SharedPort) -> None:
    services = shared.services
    with pytest.raises(Elsewhere):
        await services.database.write(lambda db: None)
    with pytest.raises(Elsewhere):
        await services.database.wait_for_activity(0)
    with pytest.raises(Elsewhere):
        services.artifacts.start()
    with pytest.raises(Elsewhere):
        services.artifacts.usage()
    with pytest.raises(Elsewhere):
        _ = services.database.damage


def test_a_worker_is_not_told_what_only_the_node_may_know(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path, master_key=MASTER_KEY, private_key="a key", trusted_proxy="10.0.0.0/8", join=("https://x.test",)
    )
    said = json.dumps(told(settings))
    inherited = inherited_environment(
        {"PFN_MASTER_KEY": MASTER_KEY, "NOTIFY_SOCKET": "/run/x", "AWS_SECRET_ACCESS_KEY": "a key", "PATH": "/bin"}
    )

    assert MASTER_KEY not in said and "a key" not in said
    assert inherited == {"PATH": "/bin"}
    assert Settings(**json.loads(said)).trusted_proxy == settings.trusted_proxy
    assert limits_of_worker(settings.model_copy(update={"workers": 2})).proxies == settings.trusted_proxy
