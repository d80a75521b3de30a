"""Nothing secret leaves real processes but in the one answer that shows it: not by files, logs, pages or answers."""

import base64
import http.client
import json
import re
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.store.audit import AuditEntry, broken
from pfn_node.web.pages.site import SUBJECTS
from pfn_protocol.identity import PrivateKey
from tests.end_to_end.conftest import follow
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

# What is a secret's own place, and readable by its owner alone.
KEY_FILES = ("node.key", "publisher.key", "release.key")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


async def call(client: NodeClient, method: str, path: str, headers: dict[str, str], body: object = None) -> Reply:
    """As a browser would ask: with cookies on both ways, which the node's own way out leaves alone."""

    def ask() -> Reply:
        connection = http.client.HTTPConnection(client.node.removeprefix("http://"), timeout=30)
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


def spellings(secret: str | bytes) -> set[bytes]:
    """The forms in which a secret could stand somewhere."""
    if isinstance(secret, str):
        return {secret.encode()}
    encoded = {base64.b64encode(secret), base64.urlsafe_b64encode(secret), secret.hex().encode()}
    return {secret} | {form.rstrip(b"=") for form in encoded} | {secret.hex().upper().encode()}


def places_in(folder: Path) -> dict[str, bytes]:
    """Every file that the processes wrote (database and its log, artifacts, logs), but for the files of keys."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in KEY_FILES
    }


async def everything_that_can_be_got(client: NodeClient, source: str, session: dict[str, str]) -> dict[str, bytes]:
    """What every GET answers, as anybody, with a key and with a session; headers included."""
    document = json.loads((await call(client, "GET", "/openapi.json", {})).body)
    paths = [path for path, item in document["paths"].items() if "get" in item]
    pages = [re.sub(r"<(\w+)>", r"{\1}", page.path) for subject in SUBJECTS for page in subject.declared] + ["/docs"]
    paths += [*pages, "/metrics", "/openapi.json", "/nope", "/federation/plugins?limit=-1"]
    release = f"sourceId={source}&plugin=night-lamp&source={source}"
    found: dict[str, bytes] = {}
    for path in paths:
        asked = path.replace("{source_id}", source).replace("{plugin_id}", "night-lamp").replace("{sha256}", "0" * 64)
        asked += ("&" if "?" in asked else "?") + release
        for who, headers in (("anybody", {}), ("key", client.headers), ("session", session)):
            reply = await call(client, "GET", asked, headers)
            shown = reply.body
            if who == "session" and path in (
                *pages,
                "/session",
            ):  # what shows the token for pages, to the session alone
                shown = shown.replace(session["X-CSRF-Token"].encode(), b"")
            found[f"GET {path} as {who}"] = shown + repr(reply.headers).encode()
    assert len(found) > 60
    return found


async def test_no_secret_is_left_anywhere(mesh: LocalMesh, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "night-lamp", "1.0")
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    node = await mesh.start_node("--log-json")
    host = {"Host": node.node.removeprefix("http://"), "Origin": node.node}
    first_key = node.headers["Authorization"].removeprefix("Bearer ")
    source = await follow(node, publisher, "ada")
    await node.post("subscribe", {"sourceId": source})

    # Keys and sessions through their whole lives, also where they do not belong.
    rotated = (await node.post("rotate-key", {"id": first_key.split("_")[1]}))["key"]
    node.headers = {"Authorization": f"Bearer {rotated}"}
    began = await call(node, "POST", "/session", node.headers | host)
    cookie = SimpleCookie(began.headers["set-cookie"])
    token = next(iter(cookie.values())).value
    session = host | {"Cookie": f"{next(iter(cookie))}={token}", "X-CSRF-Token": json.loads(began.body)["csrf_token"]}
    refused = [
        await call(node, "POST", "/federation/create-admin-key", {"Authorization": f"Bearer {rotated}"}, {}),
        await call(node, "GET", "/federation/keys", {"Authorization": f"Bearer {mesh.master_key}"}),
        await call(node, "GET", "/federation/keys", {"Authorization": f"Bearer {rotated[:-1]}"}),
        await call(node, "GET", f"/federation/plugins?cursor={rotated}", {}),
        await call(node, "GET", f"/{rotated}", {}),
        await call(node, "POST", "/federation/subscribe", node.headers, {"sourceId": rotated}),
        await call(node, "POST", "/federation/revoke-key", session | {"Origin": "http://evil.example"}, {"id": "x"}),
    ]
    assert all(400 <= reply.status < 500 for reply in refused), [reply.status for reply in refused]
    changed = await call(node, "POST", "/federation/unsubscribe", session, {"sourceId": source})
    assert changed.status == 200

    got = await everything_that_can_be_got(node, source, session)
    del refused[-2]  # it says what was asked for, and to nobody else
    got |= {f"refusal {number}": reply.body for number, reply in enumerate(refused)}
    for path in ("/federation-info", "/author-data?author=ada", "/"):
        reply = await node.outbound.fetch("GET", publisher.url + path, bytes_max=2**20, seconds_max=10)
        got[f"publisher {path}"] = reply.body
    assert (await call(node, "DELETE", "/session", session)).status == 200
    entries = (await node.get("audit"))["entries"]
    await mesh.nodes[0].kill()  # so that what is only in the database's log stays there
    await mesh.stop()

    folder = mesh.folder
    files = places_in(folder)
    assert any(name.endswith("node.db-wal") for name in files) and any(name.endswith(".log") for name in files)
    secrets: dict[str, str | bytes] = {
        "the master key": mesh.master_key,
        "a key": first_key.rpartition("_")[2],
        "its successor": rotated.rpartition("_")[2],
        "a session": token,
        "its token for pages": session["X-CSRF-Token"],
    }
    for file in folder.rglob("*.key"):
        secrets[file.name] = PrivateKey.from_pem(file.read_text()).seed
    assert len(secrets) == 8
    leaks = [
        (what, where)
        for what, secret in secrets.items()
        for where, data in (files | got).items()
        for form in spellings(secret)
        if form in data
    ]
    assert leaks == []
    lines = (folder / "node-a.log").read_text().splitlines()
    assert lines and all(json.loads(line) for line in lines)
    hashes = ("previous", "hash")
    chain = [
        AuditEntry(
            **row
            | {name: bytes.fromhex(row[name]) for name in hashes}
            | {"details": json.dumps(row["details"], separators=(",", ":"), ensure_ascii=False, sort_keys=True)}
        )
        for row in entries
    ]
    assert broken(chain) is None and len(chain) > 5


async def test_an_operator_checks_the_audit_log_against_a_noted_head(mesh: LocalMesh) -> None:
    node = await mesh.start_node()
    where = {"PFN_NODE": node.node, "PFN_KEY": node.headers["Authorization"].removeprefix("Bearer ")}
    noted = json.loads((await pfn("audit", "--check", "--json", environment=where)).stdout)
    await node.post("peers", {"action": "join", "url": "http://127.0.0.1:1"})

    listed = await pfn("audit", environment=where)
    sound = await pfn("audit", "--check", "--head", noted["head"], environment=where)
    cut = await pfn("audit", "--check", "--head", f"99:{'0' * 64}", environment=where)
    rotated = await pfn("keys", "rotate", where["PFN_KEY"].split("_")[1], "--json", environment=where)
    nonsense = await pfn("audit", "--check", "--head", "first", environment=where)
    alone = await pfn("audit", "--head", noted["head"], environment=where)

    assert b"POST /federation/peers" in listed.stdout and b"master" in listed.stdout
    assert sound.returncode == 0 and noted["sound"] is True
    assert cut.returncode == 1 and b"its end was cut off" in cut.stdout
    assert json.loads(rotated.stdout)["key"].startswith("fadmin_")
    assert nonsense.returncode == alone.returncode == 2
