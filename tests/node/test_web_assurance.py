"""What the API says of witnesses, heads, staleness, and of what is held back."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pfn_node.sources.standing import settle
from pfn_node.store import registry
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import HeadStatement, sign_head
from tests.node.test_web_releases import every_evidence
from tests.node.web_node import BILBO, NOW, STRANGER, WebNode, web_node

ZIP, NEXT = b"PK\x03\x04 some bytes of a plugin", b"PK\x03\x04 its next version"
DOWNLOAD = {"sourceId": BILBO, "plugin": "hello-signal"}
SAM, ROSIE = PrivateKey(bytes([61]) * 32), PrivateKey(bytes([62]) * 32)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def witnessed(node: WebNode, **fields: Any) -> None:
    for pin in (SAM, ROSIE):
        await node.services.database.write(partial(registry.set_peer_policy, node_id=pin.public, pinned=True))
        await node.add_report(ZIP, pin, **fields)


async def caveats(node: WebNode, version: str = "1.0.0") -> list[str]:
    got = (await node.get("/federation/verify", query_string=DOWNLOAD | {"version": version})).json
    return list(got["assurance"]["caveats"])


async def test_three_witnesses_show_as_a2_in_lists_downloads_and_evidence(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    before = (await node.get("/federation/plugins?min_assurance=A2")).json["plugins"]
    await witnessed(node)

    (row,) = (await node.get("/federation/plugins?min_assurance=A2")).json["plugins"]
    checked = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    assert before == []
    assert row["assurance"] == "A2"
    assert (await node.get("/federation/download", query_string=DOWNLOAD)).headers["PFN-Assurance"] == "A2"
    assert checked["assurance"]["covers_bytes"] is False
    assert checked["assurance"]["evidence"][0].startswith("co-observed: three nodes saw the same bytes")
    assert len(checked["witnesses"]) == 3


async def test_a_separate_key_a_fresh_head_and_witnesses_show_as_a4(node: WebNode) -> None:
    await node.add_bilbo(origin_bound=True)
    await node.add_release(ZIP, evidence=every_evidence(ZIP))
    await witnessed(node)

    checked = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    assert (checked["assurance"]["level"], checked["assurance"]["covers_bytes"]) == ("A4", True)
    assert checked["assurance"]["caveats"] == []
    assert (await node.get("/federation/download", query_string=DOWNLOAD)).headers["PFN-Assurance"] == "A4"


async def test_who_did_not_see_the_bytes_at_the_publisher_is_not_called_a_witness(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await witnessed(node, observed_at=0)

    checked = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    assert checked["assurance"]["level"] == "A1"
    assert len(checked["witnesses"]) == 1


async def test_a_head_that_names_more_than_is_known_is_a_caveat_with_both_numbers(node: WebNode) -> None:
    await node.add_bilbo(origin_bound=True)
    pieces = [piece for piece in every_evidence(ZIP) if piece.form is not EvidenceForm.HEAD]
    head = sign_head(STRANGER, HeadStatement(bytes(32), 5, NOW * 1000, NOW + 86_400)).raw
    await node.add_release(ZIP, evidence=(*pieces, Evidence(EvidenceForm.HEAD, head)))

    assert await caveats(node) == ["the publisher names 5 releases of this key, 1 are known here"]


async def test_what_was_not_verified_for_two_days_or_whose_head_expired_is_stale(node: WebNode) -> None:
    await node.add_bilbo(verified_at=NOW - 48 * 3600)
    await node.add_release(ZIP, evidence=every_evidence(ZIP))

    async def stale() -> tuple[bool, bool, bool, bool]:
        (plugin,) = (await node.get("/federation/plugins")).json["plugins"]
        (source,) = (await node.get("/federation/sources")).json
        status = (await node.get("/federation/source-status", query_string={"sourceId": BILBO})).json
        told = any(caveat.startswith("stale: ") for caveat in await caveats(node))
        return plugin["stale"], source["stale"], status["stale"], told

    assert await stale() == (False,) * 4
    await node.services.database.write(lambda db: registry.update_source(db, BILBO, verified_at=NOW - 48 * 3600 - 1))
    assert await stale() == (True,) * 4
    await node.services.database.write(lambda db: registry.update_source(db, BILBO, verified_at=NOW))
    assert await stale() == (False,) * 4
    await node.services.database.write(lambda db: db.execute("UPDATE heads SET expires_at = ?", (NOW,)))
    assert await stale() == (True,) * 4


async def signed_then_not(node: WebNode) -> None:
    await node.add_bilbo(origin_bound=True)
    await node.add_release(ZIP, evidence=every_evidence(ZIP))
    await node.add_release(NEXT, version="2.0.0", evidence=())


async def test_what_is_held_back_is_listed_with_the_reason_and_refused(node: WebNode) -> None:
    await signed_then_not(node)

    (row,) = (await node.get("/federation/plugins")).json["plugins"]
    shown = (await node.get(f"/federation/plugins/{BILBO}/hello-signal")).json["releases"]
    reasons = {one["version"]: one["held_back"] for one in shown}
    newest = await node.get("/federation/download", query_string=DOWNLOAD)
    refused = await node.get("/federation/download", query_string=DOWNLOAD | {"version": "2.0.0"})
    checked = (await node.get("/federation/verify", query_string=DOWNLOAD | {"version": "2.0.0"})).json

    assert (row["version"], row["reported_version"], row["held_back"]) == ("1.0.0", "2.0.0", None)
    assert reasons == {
        "1.0.0": None,
        "2.0.0": "this plugin is signed (A3) since version 1.0.0, and this version is only A0",
    }
    assert newest.body == ZIP
    assert refused.status == 422 and "held back" in str(refused.sentence)
    assert checked["valid"] is False
    assert any(caveat.startswith("held back, and not served") for caveat in checked["assurance"]["caveats"])


async def test_an_admin_approves_what_is_held_back(node: WebNode) -> None:
    await signed_then_not(node)
    call = "/federation/approve-release"
    release = {"sourceId": BILBO, "plugin": "hello-signal", "version": "2.0.0"}
    anonymous = await node.call("POST", call, json=release)
    nothing = await node.post(call, release | {"version": "1.0.0"})
    unknown = await node.post(call, release | {"version": "9.9"})
    malformed = await node.post(call, release | {"version": "2/0"})

    approved = await node.post(call, release)

    assert (anonymous.status, nothing.status, unknown.status, malformed.status) == (401, 409, 404, 400)
    assert approved.status == 200 and approved.json["success"] is True
    assert (await node.get("/federation/download", query_string=DOWNLOAD)).body == NEXT
    assert (await node.post(call, release)).status == 409
    told = (await node.read("/federation/activity")).json["activities"]
    (alert,) = [one for one in told if "approved" in one["message"]]
    assert alert["type"] == "security" and "this plugin is signed (A3) since version 1.0.0" in alert["message"]


async def test_a_source_says_what_its_score_is_made_of_and_what_would_raise_it(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await node.services.database.write(lambda db: settle(db, BILBO, NOW))

    (row,) = (await node.get("/federation/sources")).json

    explained = {part["part"]: part for part in row["trust_explained"]}
    assert {part: one["value"] for part, one in explained.items()} == row["trust"]
    assert sum(one["value"] for one in explained.values()) == pytest.approx(row["trust_score"], abs=1e-9)
    assert explained["signatures"]["would_raise"] == (
        "1 of 1 releases are below A3; all signed over their bytes would raise it to 0.28"
    )
    assert explained["cap"]["until"] == NOW + 14 * 86_400
    assert row["origin_bound"] is False
