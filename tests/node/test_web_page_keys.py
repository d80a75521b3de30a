"""The pages of API keys, of settings in force, and of the audit log."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pfn_node.settings import Settings, load_settings
from pfn_node.store import audit, keys
from pfn_node.web.pages.audit import AuditPageQuery, look
from pfn_node.web.pages.keys import state_of
from pfn_node.web.pages.settings import setting_rows, written
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import MASTER_KEY, NOW, WebNode, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


def key_in(page: Reader) -> str:
    found = re.search(r"fadmin_[0-9A-Za-z]{8}_[0-9A-Za-z]+", page.text)
    assert found, page.text
    return found[0]


# ---- Keys.


async def test_the_master_key_makes_a_key_that_is_shown_once(node: WebNode) -> None:
    stranger = Browser(node)

    made = await stranger.send(
        "/admin/keys/new",
        master_key=MASTER_KEY,
        description="for reading",
        scopes=["read", "keys"],
        expires_in_days="3",
    )
    key = key_in(Reader(made))
    await stranger.sign_in(key)
    listed = await stranger.open("/admin/keys")

    assert made.status == 200 and MASTER_KEY.encode() not in made.body
    assert "for reading" in Reader(listed).text and "ends soon" in Reader(listed).text
    assert key.rpartition("_")[2].encode() not in listed.body
    entries = await node.services.database.read(lambda db: audit.entries(db))
    assert [entry.actor for entry in entries if entry.action == "POST /admin/keys/new"] == [audit.MASTER]
    assert MASTER_KEY not in repr(entries) and key.rpartition("_")[2] not in repr(entries)


async def test_a_new_key_may_only_read_unless_more_is_ticked(node: WebNode) -> None:
    page = (await node.get("/admin/keys/new")).body.decode()

    assert re.findall(r'value="(\w+)" checked', page) == ["read"]


async def test_a_wrong_master_key_is_refused_and_what_was_typed_stays(node: WebNode) -> None:
    got = await Browser(node).send("/admin/keys/new", master_key="x" * 40, description="mine", scopes=["read"])
    page = Reader(got)

    assert got.status == 401
    assert page.values["description"] == "mine" and page.values["master_key"] == ""
    assert b"x" * 40 not in got.body
    assert got.body.count(b" checked>") == 1, "only the scope that was ticked is ticked again"


async def test_a_key_without_any_scope_is_a_mistake_and_not_everything(node: WebNode) -> None:
    got = await Browser(node).send("/admin/keys/new", master_key=MASTER_KEY, description="nothing")
    known = await node.services.database.read(keys.list_keys)

    assert got.status == 400
    assert "Tick at least one." in Reader(got).text
    assert [key.description for key in known] == ["test"]


async def test_a_node_without_a_master_key_says_how_to_set_one(tmp_path: Path) -> None:
    async with web_node(tmp_path, master_key=None) as node:
        page = await Browser(node).read("/admin/keys/new")

    assert "no master key" in page.text and "PFN_MASTER_KEY" in page.text
    assert "/admin/keys/new" not in page.forms


async def test_a_rotated_key_has_a_successor_that_is_shown_once(node: WebNode, admin: Browser) -> None:
    old = node.key.split("_")[1]

    got = await admin.send(f"/admin/keys/{old}/rotate", overlap_hours="1")
    new = key_in(Reader(got))
    reloaded = await admin.open(f"/admin/keys/{old}/rotate")

    assert "works for 1 hours more" in Reader(got).text
    assert (await node.read("/federation/keys", key=new)).status == 200
    assert (reloaded.status, reloaded.headers["Location"]) == (303, "/admin/keys")


async def test_a_revoked_key_is_worthless_at_once(node: WebNode, admin: Browser) -> None:
    other = await node.make_key(description="a laptop that was lost")

    got = await admin.send(f"/admin/keys/{other.split('_')[1]}/revoke")
    page = await admin.read("/admin/keys")

    assert got.status == 303
    assert "is revoked." in page.text and page.text.count("this session") == 1
    assert (await node.read("/federation/keys", key=other)).status == 401


async def test_revoking_the_key_of_the_session_says_so_and_ends_the_session(node: WebNode, admin: Browser) -> None:
    page = await admin.read("/admin/keys")

    got = await admin.send(f"/admin/keys/{node.key.split('_')[1]}/revoke")
    after = await admin.open("/admin/keys")

    assert "This is the key of your session" in page.text
    assert (got.status, after.status) == (303, 303)
    assert after.headers["Location"].startswith("/sign-in")


async def test_revoking_an_unknown_key_is_refused_on_the_page(admin: Browser) -> None:
    got = await admin.send("/admin/keys/AAAAAAAA/revoke")

    assert got.status == 404
    assert "There is no key with the id AAAAAAAA" in Reader(got).text


async def test_a_key_is_live_ends_soon_has_expired_or_was_revoked(node: WebNode) -> None:
    (key,) = await node.services.database.read(keys.list_keys)

    assert state_of(key, NOW) == ("good", "live")
    assert state_of(replace(key, expires=NOW + 60), NOW) == ("warn", "ends soon")
    assert state_of(replace(key, expires=NOW - 60), NOW) == ("warn", "expired")
    assert state_of(replace(key, revoked=NOW), NOW) == ("bad", "revoked")


# ---- Settings.


def test_each_setting_says_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('port = 1\nmesh = "from-file"\nsync_seconds = 60\n')
    monkeypatch.setenv("PFN_MESH", "from-env")
    monkeypatch.setenv("PFN_PORT", "2")

    settings = load_settings({"data": tmp_path, "port": 3, "url": None}, file)
    rows = {row.name: (row.value, row.origin) for row in setting_rows(settings)}

    assert rows["port"] == ("3", "flag")
    assert rows["mesh"] == ("from-env", "environment")
    assert rows["sync_seconds"] == ("60", "file")
    assert rows["url"] == ("none", "default")
    assert Settings(data=tmp_path).origin_of("data") == "program"


async def test_settings_in_force_are_shown_with_their_meaning_and_never_a_secret(admin: Browser) -> None:
    got = await admin.open("/admin/settings")
    page = Reader(got)

    assert MASTER_KEY.encode() not in got.body
    assert "set, not shown" in page.text and "Name of the mesh; nodes of other meshes are refused." in page.text
    assert "104,857,600 (105 MB)" in page.text


def test_values_are_written_for_people() -> None:
    assert [written(value) for value in (True, False, None, (), ("a", "b"), 86400, 0.5, "x")] == [
        *("yes", "no", "none", "none", "a, b", "86,400", "0.5", "x")
    ]
    assert written(None, is_secret=True) == "not set"


# ---- The audit log.


async def test_the_audit_log_says_who_did_what_newest_first_and_that_its_chain_is_whole(
    node: WebNode, admin: Browser
) -> None:
    await admin.send("/admin/keys/AAAAAAAA/revoke")

    page = await admin.read("/admin/audit")
    refused = await admin.read("/admin/audit?outcome=refused&q=REVOKE&actor=")
    nothing = await admin.read("/admin/audit?actor=nobody")

    assert "chain whole" in page.text and "entries 1 to 3 were checked" in page.text
    assert page.text.index("POST /admin/keys/<id>/revoke") < page.text.index("POST /sign-in")
    assert "POST /sign-in" not in refused.text and "POST /admin/keys/<id>/revoke" in refused.text
    assert "None of the entries 1 to 3 matches." in nothing.text


async def test_an_entry_that_was_changed_in_the_file_is_told(node: WebNode, admin: Browser) -> None:
    def forge(db: object) -> None:
        db.execute("DROP TRIGGER audit_is_append_only")  # type: ignore[attr-defined]
        db.execute("UPDATE audit SET actor = 'somebody' WHERE seq = 1")  # type: ignore[attr-defined]

    await node.services.database.write(forge)
    page = await admin.read("/admin/audit")

    assert "chain broken" in page.text and "Entry 1 was changed" in page.text


async def test_pages_of_the_audit_log_overlap_in_the_chain_that_they_check(node: WebNode) -> None:
    def fill(db: object) -> list[audit.AuditEntry]:
        for number in range(120):
            audit.append(db, at=NOW, actor="system", action=f"a{number % 2}")  # type: ignore[arg-type]
        return audit.entries_before(db, None, 1000)  # type: ignore[arg-type]

    found = await node.services.database.write(fill)
    newest = look(found, AuditPageQuery())
    older = look([entry for entry in found if newest.older and entry.seq < newest.older], AuditPageQuery())
    last = look([entry for entry in found if older.older and entry.seq < older.older], AuditPageQuery())
    odd = look(found, AuditPageQuery(q="a1"))
    torn = look([entry for entry in found if entry.seq != 100], AuditPageQuery())

    assert (newest.shown[0].seq, newest.shown[-1].seq, newest.first) == (121, 72, 71)
    assert (older.shown[0].seq, last.shown[-1].seq, last.older) == (71, 1, None)
    assert {entry.action for entry in odd.shown} == {"a1"} and odd.broken is None
    assert odd.last - odd.first == 99, "the chain is checked over those that the filter leaves out, too"
    assert torn.broken == "the entries 100 to 100 are missing"
