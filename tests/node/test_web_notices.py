"""/federation/notices, yank, advisories, takedown, approve-release: over HTTP, with a real store."""

import base64
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import catalogue, decisions
from pfn_node.store.notices import untold
from pfn_protocol.announcements import AdvisoryStatement, YankStatement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher_notices import Rotation, Yank, sign_rotation, sign_yank
from tests.node.web_node import BILBO, NOW, PUBLISHER, STRANGER, URL, WebNode, web_node

YANK = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.1.0"}


def yanked(version: str = "1.1.0", signer: PrivateKey = PUBLISHER, seq: int = NOW * 1_000) -> str:
    envelope = sign_yank(signer, Yank(URL, "bilbo", "hello-signal", version, "it eats posts ÄÖ", seq, False))
    return base64.b64encode(envelope.raw).decode()


async def seeded(node: WebNode) -> None:
    await node.add_bilbo()
    await node.services.database.write(
        lambda db: db.execute("UPDATE sources SET oracle = 'none', verified_at = ?", (NOW,))
    )
    await node.add_release(b"a zip", version="1.0.0")
    await node.add_release(b"a newer zip", version="1.1.0")


async def newest(node: WebNode) -> dict[str, Any]:
    rows = (await node.get("/federation/plugins")).json["plugins"]
    return dict(rows[0])


def download(version: str | None = None) -> str:
    named = "" if version is None else f"&version={version}"
    return f"/federation/download?sourceId={BILBO}&plugin=hello-signal{named}"


async def test_anybody_may_hand_in_what_a_publisher_signed(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)

        got = await node.post("/federation/notices", {"notices_v2": [yanked(), yanked(), yanked(signer=STRANGER)]})

        assert got.status == 200
        outcomes = [(one["outcome"], one["rule"]) for one in got.json["notices"]]
        assert (got.json["accepted"], outcomes) == (1, [("new", None), ("known", None), ("refused", "R144")])
        row = await newest(node)
        assert (row["version"], row["yanked"]) == ("1.0.0", None)
        assert [type(one) for one in node.sources.announced] == [YankStatement]
        by_name = await node.get(download("1.1.0"))
        assert (by_name.status, by_name.headers["PFN-Yanked"]) == (200, "it eats posts %C3%84%C3%96")
        assert by_name.headers["Warning"].startswith("299 ")
        checked = (await node.get(f"/federation/verify?sourceId={BILBO}&plugin=hello-signal&version=1.1.0")).json
        assert checked["valid"] and checked["yanked"] == "it eats posts ÄÖ"
        assert any("should not be installed" in one for one in checked["assurance"]["caveats"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"notices_v2": []},
        {"notices_v2": ["no base64!"]},
        {"notices_v2": "AAAA"},
        {"notices_v2": [yanked()] * 17},
        {"notices_v2": ["A" * 4_100]},
        {"notices_v2": [yanked()], "keybind_v2": "AAAA"},
    ],
)
async def test_what_is_no_list_of_notices_is_400(tmp_path: Path, body: dict[str, Any]) -> None:
    async with web_node(tmp_path) as node:
        assert (await node.post("/federation/notices", body)).status == 400


async def test_where_everything_is_yanked_the_newest_is_410_and_each_is_had_by_its_version(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        await node.post("/federation/notices", {"notices_v2": [yanked("1.0.0"), yanked("1.1.0")]})

        got = await node.get(download())

        assert (got.status, got.json["details"]["reason"]) == (410, "yanked")
        assert (await node.get(download("1.0.0"))).status == 200


async def test_an_admin_yanks_advises_and_takes_it_back(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key(scopes=["advisories"])

        assert (await node.post("/federation/yank", {**YANK, "reason": "malware"})).status == 200
        assert (await newest(node))["version"] == "1.0.0"
        assert (await node.post("/federation/yank", {**YANK, "withdrawn": True})).status == 200
        assert (await newest(node))["version"] == "1.1.0"
        advisory = {
            "sourceId": BILBO,
            "plugin": "hello-signal",
            "advisory_id": "PFN-1",
            "severity": "high",
            "summary": "A hole.",
            "ranges": [{"from": "1.1"}],
            "aliases": ["CVE-2026-1"],
        }
        assert (await node.post("/federation/advisories", advisory)).status == 200

        (shown,) = (await newest(node))["advisories"]
        assert (shown["advisory_id"], shown["by"], shown["ranges"]) == (
            "PFN-1",
            "this node",
            [{"from": "1.1", "until": ""}],
        )
        assert (await node.get(download())).headers["PFN-Advisories"] == "PFN-1"
        assert "PFN-Advisories" not in (await node.get(download("1.0.0"))).headers
        assert isinstance(node.sources.announced[-1], AdvisoryStatement)
        listed = (await node.get(f"/federation/advisories?source={BILBO}&plugin=hello-signal")).json["notices"]
        assert {(one["kind"], one["about"], one["acts"]) for one in listed} == {
            ("yank", "1.1.0", False),
            ("advisory", "PFN-1", True),
        }
        wrong = {**advisory, "ranges": [{"from": "2.0", "until": "1.0"}]}
        refused = await node.post("/federation/advisories", wrong)
        assert (refused.status, refused.json["details"]["rule"]) == (400, "R138")


async def test_only_a_key_with_the_scope_says_anything(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        advisory = {**YANK, "advisory_id": "A", "severity": "low", "summary": "s", "ranges": [{}]}
        calls = {"yank": YANK, "takedown": YANK, "advisories": advisory, "approve-release": YANK}

        for call, body in calls.items():
            assert (await node.post(f"/federation/{call}", body, key="nonsense")).status == 401
        node.key = await node.make_key(scopes=["sources"])
        for call, body in calls.items():
            assert (await node.post(f"/federation/{call}", body)).status == 403


async def test_what_the_mesh_does_not_say_now_is_503_and_a_takedown_acts_all_the_same(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        node.sources.muted = True

        assert (await node.post("/federation/yank", YANK)).status == 503
        down = await node.post("/federation/takedown", YANK)

        assert (down.status, down.json["announced"]) == (200, False)
        assert (await node.get(download("1.1.0"))).status == 410


async def test_a_takedown_is_410_until_it_is_taken_back(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        assert (await node.post("/federation/takedown", {**YANK, "withdrawn": True})).status == 404

        assert (await node.post("/federation/takedown", {**YANK, "reason": "malware"})).status == 200

        got = await node.get(download("1.1.0"))
        assert (got.status, got.json["details"]["reason"]) == (410, "taken_down")
        assert "malware" in got.json["error"]
        assert (await newest(node))["version"] == "1.0.0"
        sha256 = next(
            one["sha256"]
            for one in (await node.get(f"/federation/plugins/{BILBO}/hello-signal")).json["releases"]
            if one["version"] == "1.1.0"
        )
        assert (await node.get(f"/node/v1/artifacts/{sha256}")).status == 410  # other nodes neither
        assert (await node.post("/federation/takedown", {**YANK, "withdrawn": True})).status == 200
        assert (await node.get(download("1.1.0"))).status == 200


async def test_what_was_yanked_before_it_was_taken_down_is_yanked_as_before_when_it_is_brought_back(
    tmp_path: Path,
) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        await node.post("/federation/yank", {**YANK, "reason": "it forgets the ebb"})

        down = await node.post("/federation/takedown", YANK)
        said = [one for one in node.sources.announced if isinstance(one, YankStatement)]
        back = await node.post("/federation/takedown", {**YANK, "withdrawn": True})
        release = await node.services.database.read(
            lambda db: catalogue.get_release(db, BILBO, "hello-signal", "1.1.0")
        )

        assert [one.reason for one in said] == ["it forgets the ebb"] and down.json["announced"]
        assert "is yanked as before" in back.json["message"] and not back.json["announced"]
        assert release is not None and (release.taken_down, release.yanked) == (None, "it forgets the ebb")
        assert (await node.get(download("1.1.0"))).status == 200

        await node.post("/federation/yank", {**YANK, "withdrawn": True})
        await node.post("/federation/takedown", {**YANK, "reason": "malware"})
        await node.post("/federation/takedown", {**YANK, "withdrawn": True})
        release = await node.services.database.read(
            lambda db: catalogue.get_release(db, BILBO, "hello-signal", "1.1.0")
        )
        assert release is not None and release.yanked is None, "the takedown's own yank goes with it"


async def test_what_is_brought_back_stays_down_and_is_told_so_again_if_the_node_ends_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        assert (await node.post("/federation/takedown", YANK)).status == 200
        assert node.services.database.read_now(untold) == []

        def gone(*_: object) -> bool:
            raise OSError("the node is gone")

        monkeypatch.setattr(decisions, "bring_back", gone)
        assert (await node.post("/federation/takedown", {**YANK, "withdrawn": True})).status == 503

        assert (await node.get(download("1.1.0"))).status == 410
        (again,) = node.services.database.read_now(untold)
        assert isinstance(again, YankStatement) and (again.version, again.withdrawn) == ("1.1.0", False)


async def test_notices_about_unknown_sources_and_releases_are_404(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        nobody = {**YANK, "sourceId": "nobody@publisher.test"}

        for call in ("yank", "takedown", "approve-release"):
            assert (await node.post(f"/federation/{call}", nobody)).status == 404
        handed_in = await node.post("/federation/notices", {"notices_v2": [other_source()]})
        assert handed_in.json["notices"][0]["outcome"] == "refused"
        assert (await node.post("/federation/approve-release", YANK)).status == 409
        listed = await node.get("/federation/advisories?source=nobody@publisher.test")
        assert listed.json["notices"] == []


def other_source() -> str:
    envelope = sign_yank(PUBLISHER, Yank("https://other.test", "bilbo", "hello-signal", "1.0", "", NOW * 1_000, False))
    return base64.b64encode(envelope.raw).decode()


async def test_a_release_that_cools_down_says_until_when_and_an_admin_approves_it(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await seeded(node)
        node.key = await node.make_key()
        rotation = Rotation(
            *(URL, "bilbo", "identity", PUBLISHER.public, STRANGER.public, 1, "", 0, b"", PUBLISHER.public)
        )
        # The releases were first seen in the second in which the rotation is: so they count as after it.
        envelope = base64.b64encode(sign_rotation(STRANGER, PUBLISHER, rotation).raw).decode()
        assert (await node.post("/federation/notices", {"notices_v2": [envelope]})).json["accepted"] == 1

        until = NOW + 72 * 3_600
        assert (await newest(node))["cooldown"] == until
        assert (await node.get(download("1.1.0"))).headers["PFN-Cooldown"] == str(until)
        assert (await node.post("/federation/approve-release", YANK)).status == 200
        assert "PFN-Cooldown" not in (await node.get(download("1.1.0"))).headers
