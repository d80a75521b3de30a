"""The page of advisories: what is said, and saying it; each form does what the API's call does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.mesh.views import PeerView
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import BILBO, WebNode, web_node

WARNING = {
    "source_id": BILBO,
    "plugin": "hello-signal",
    "advisory_id": "PFN-2026-001",
    "severity": "critical",
    "summary": "It <script>gives</script> passwords away",
}
RELEASE = {"source_id": BILBO, "plugin": "hello-signal", "version": "1.0.0"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"zip", version="1.0.0")
        await made.add_release(b"older zip", version="0.9.0")
        yield made


async def test_a_yank_acts_and_is_taken_back_by_a_button_of_its_row(node: WebNode, admin: Browser) -> None:
    got = await admin.send("/admin/advisories/yank", **RELEASE, reason="It breaks the editor")
    said = await admin.read("/admin/advisories")
    yanked = (await node.get(f"/federation/download?sourceId={BILBO}&plugin=hello-signal")).headers["ETag"]
    back = await admin.send("/admin/advisories/yank", **RELEASE, withdrawn="true")
    after = await admin.read("/admin/advisories")

    assert (got.status, back.status) == (303, 303)
    assert "hello-signal 1.0.0 is yanked." in said.text and "It breaks the editor" in said.text
    assert said.forms.count("/admin/advisories/yank") == 2, "the one that says it and the one that takes it back"
    assert yanked != (await node.get(f"/federation/download?sourceId={BILBO}&plugin=hello-signal")).headers["ETag"]
    assert "taken back" in after.text and after.forms.count("/admin/advisories/yank") == 1


async def test_a_warning_names_its_ranges_and_its_text_stays_text(node: WebNode, admin: Browser) -> None:
    got = await admin.send(
        "/admin/advisories/advise",
        **WARNING,
        first="1.0.0",
        until="1.2.0",
        more_ranges="2.0.0 .. 2.1.0\n.. 0.5.0",
        url="https://read.test/more",
        aliases="CVE-2026-1, GHSA-x",
    )
    page = await admin.read("/admin/advisories")
    (notice,) = (await node.get("/federation/advisories")).json["notices"]

    assert got.status == 303, Reader(got).text
    assert notice["advisory"]["ranges"] == [
        {"from": "1.0.0", "until": "1.2.0"},
        {"from": "2.0.0", "until": "2.1.0"},
        {"from": "", "until": "0.5.0"},
    ]
    assert notice["advisory"]["aliases"] == ["CVE-2026-1", "GHSA-x"]
    assert "It <script>gives</script> passwords away" in page.text and "critical" in page.text
    assert "https://read.test/more" in page.links

    await admin.send("/admin/advisories/advise", **WARNING, first="1.0.0", until="1.2.0", withdrawn="true")
    (notice,) = (await node.get("/federation/advisories")).json["notices"]
    assert notice["withdrawn"] and not notice["acts"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"more_ranges": "2.0.0"}, "Further ranges"),
        ({"more_ranges": "a b .. c"}, "Further ranges"),
        ({"severity": "awful"}, "Severity"),
        ({"url": "javascript:alert(1)"}, "Where to read more"),
        ({"advisory_id": "an id with spaces"}, "Id of the advisory"),
    ],
)
async def test_a_warning_that_cannot_be_said_is_marked_at_its_field_with_what_was_typed(
    admin: Browser, wrong: dict[str, str], sentence: str
) -> None:
    got = await admin.send("/admin/advisories/advise", **WARNING | wrong)
    page = Reader(got)
    label = got.body.decode().index(f">{sentence}")

    assert got.status == 400
    assert "Please look at the marked fields." in page.text
    assert '<div class="field wrong">' in got.body.decode()[label - 200 : label], "the field is marked"
    assert page.values["summary"] == WARNING["summary"]
    assert "pattern" not in page.text


async def test_a_release_that_is_taken_down_is_gone_until_it_is_brought_back(node: WebNode, admin: Browser) -> None:
    path = f"/federation/download?sourceId={BILBO}&plugin=hello-signal&version=1.0.0"
    await admin.send("/admin/advisories/takedown", **RELEASE, reason="malware")
    gone = await node.get(path)
    page = await admin.read("/admin/advisories")
    await admin.send("/admin/advisories/takedown", **RELEASE, withdrawn="true")
    after = await admin.read("/admin/advisories")

    assert gone.status == 410
    assert "malware" in page.text and page.forms.count("/admin/advisories/takedown") == 2
    assert (await node.get(path)).status == 200
    assert after.forms.count("/admin/advisories/takedown") == 1


async def test_an_unknown_source_is_refused_on_the_page(admin: Browser) -> None:
    got = await admin.send("/admin/advisories/yank", **RELEASE | {"source_id": "nobody@nowhere.test"})

    assert got.status == 404
    assert "Source not found" in Reader(got).text


async def test_a_missing_source_is_marked(admin: Browser) -> None:
    got = await admin.send("/admin/advisories/yank", plugin="hello-signal", version="1.0.0")

    assert got.status == 400
    assert b'id="say_yank-source-wrong"' in got.body


async def test_the_page_of_one_plugin_begins_its_forms_with_it(admin: Browser) -> None:
    await admin.send("/admin/advisories/yank", **RELEASE)

    page = await admin.read(f"/admin/advisories?source={BILBO}&plugin=hello-signal&version=1.0.0")
    other = await admin.read("/admin/advisories?plugin=another")

    assert (page.values["plugin"], page.values["version"], page.values["source_id"]) == ("hello-signal", "1.0.0", BILBO)
    assert "Nothing is said" in other.text and "Nothing is said" not in page.text


async def test_pinned_nodes_are_named_as_those_whose_word_acts(node: WebNode, admin: Browser) -> None:
    assert "No node is pinned" in (await admin.read("/admin/advisories")).text
    fields = dict.fromkeys(PeerView.__dataclass_fields__, 0)
    node.mesh.known = [
        PeerView(**fields | {"node_id": "did:key:z6MkPinned", "url": "https://pinned.test", "pinned": True}),  # type: ignore[arg-type]
        PeerView(**fields | {"node_id": "did:key:z6MkOther", "url": "https://other.test", "pinned": False}),  # type: ignore[arg-type]
    ]

    page = await admin.read("/admin/advisories")

    assert "https://pinned.test" in page.text and "https://other.test" not in page.text
