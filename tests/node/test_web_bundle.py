"""Evidence bundles over HTTP: what goes in, and that it proves offline what the node says, no more and no less."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import announcements, peers
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Evidence, EvidenceForm, SourceStatement
from pfn_protocol.bundle_notices import OMITTED
from pfn_protocol.bundle_proof import Measured, Proof, TrustRoots, prove
from pfn_protocol.evidence_bundle import EvidenceBundle, read_bundle
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import bundle_pieces_max, bundle_witnesses_max
from pfn_protocol.publisher import sign_sha384
from tests.node.test_web_releases import DOWNLOAD, ZIP, every_evidence
from tests.node.web_node import BILBO, NODE, NOW, PUBLISHER, STRANGER, URL, Got, WebNode, web_node

MEASURED = Measured(hashlib.sha256(ZIP).digest(), hashlib.sha384(ZIP).digest(), len(ZIP))
ROOTS = TrustRoots(PUBLISHER.public, frozenset({NODE.public, STRANGER.public}))
# In the order in which a node lists what came in the same second.
OTHERS = sorted((PrivateKey(bytes([number]) * 32) for number in range(10, 90)), key=lambda key: key.public)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def asked(node: WebNode, **query: str) -> Got:
    got = await node.get("/federation/verify", query_string=DOWNLOAD | {"bundle": "1"} | query)
    assert got.status == 200, got.body
    return got


async def bundle_of(node: WebNode, **query: str) -> EvidenceBundle:
    return read_bundle(json.dumps((await asked(node, **query)).json["bundle"]).encode())


def proved(bundle: EvidenceBundle, roots: TrustRoots = ROOTS) -> Proof:
    return prove(bundle, MEASURED, roots, NOW * 1_000)


async def attest(node: WebNode, by: PrivateKey, **fields: Any) -> None:
    statement: dict[str, Any] = {
        "source_id": BILBO,
        "instance_url": URL,
        "username": "bilbo",
        "public_key": PUBLISHER.public,
        "asset_domain": "",
        "asset_naming_scheme": "",
        "verified": True,
        "verified_at": NOW,
        "oracle": "none",
    }
    made = announce(by, "main", SourceStatement(**(statement | fields)), 0, NOW * 1_000)
    await node.services.database.write(lambda db: announcements.keep(db, made, True, NOW))


async def pin(node: WebNode, other: PrivateKey) -> None:
    await node.services.database.write(lambda db: peers.set_peer_policy(db, other.public, pinned=True))


async def test_only_who_asks_for_a_bundle_gets_one(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)

    plain = (await node.get("/federation/verify", query_string=DOWNLOAD)).json
    asked_for = (await asked(node)).json
    wrong = await node.get("/federation/verify", query_string=DOWNLOAD | {"bundle": "yes"})

    assert plain.pop("bundle") is None
    assert asked_for.pop("bundle")["format"] == "pfn-evidence/2"
    assert plain == asked_for
    assert wrong.status == 400


async def test_a_bundle_proves_offline_what_the_node_says(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP, evidence=every_evidence())
    for witness in (STRANGER, *OTHERS[:2]):
        await node.add_report(ZIP, witness)
    await attest(node, STRANGER)

    bundle = await bundle_of(node)
    found = proved(bundle)

    assert (bundle.source_id, bundle.instance_url, bundle.public_key) == (BILBO, URL, PUBLISHER.public)
    assert (bundle.plugin_id, bundle.version, bundle.sha256, bundle.size) == (
        "hello-signal",
        "1.0.0",
        MEASURED.sha256,
        MEASURED.size,
    )
    assert {piece.form for piece in bundle.evidence} == {piece.form for piece in every_evidence()}
    assert (found.level, len(found.witnesses.all), found.key.oracle_attested) == ("A3", 3, True)
    assert found.caveats == (OMITTED,)


async def test_what_the_node_does_not_know_of_the_oracle_a_bundle_does_not_claim(node: WebNode) -> None:
    await node.add_bilbo(oracle=None)
    await node.add_release(ZIP, evidence=every_evidence())

    bundle = await bundle_of(node)

    assert bundle.oracle == ""
    assert proved(bundle).level == "reported"


async def test_texts_that_were_signed_ride_along(node: WebNode) -> None:
    await node.add_bilbo()
    text = b'{"slug":"hello-signal","version":"1.0.0"}'
    kept = node.services.artifacts.put_bytes(text)
    metadata, *_ = every_evidence()
    evidence = (metadata, Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), kept))
    await node.add_release(ZIP, evidence=evidence)

    pieces = (await bundle_of(node)).evidence

    assert [(piece.form, piece.data) for piece in pieces] == [(piece.form, piece.data) for piece in evidence]
    assert pieces[0].text.startswith(b'{"id":"hello-signal"')
    assert pieces[1].text == text


async def test_junk_of_other_nodes_crowds_nothing_out(node: WebNode) -> None:
    await node.add_bilbo()
    for number, witness in enumerate(OTHERS[:20]):
        forged = Evidence(EvidenceForm.SHA384, bytes([number]) * 64)
        await node.add_report(ZIP, witness, evidence=(forged,), observed_at=NOW - 100)
    await node.add_release(ZIP, evidence=every_evidence())

    assert len((await bundle_of(node)).evidence) == len(every_evidence())


async def test_a_bundle_is_bounded_and_holds_first_what_pinned_nodes_say(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    for witness in OTHERS:
        await node.add_report(b"something else", witness)
        await attest(node, witness)
    await node.add_report(ZIP, STRANGER)
    await attest(node, STRANGER)
    await pin(node, STRANGER)

    bundle = await bundle_of(node)
    found = proved(bundle)

    assert len(bundle.witnesses) == bundle_witnesses_max
    assert STRANGER.public in found.witnesses.all
    assert len(found.witnesses.disputed_by) == bundle_witnesses_max - 1, "who saw other bytes is not kept from anybody"
    assert proved(bundle, TrustRoots(nodes=frozenset({STRANGER.public}))).key.known == "attested"


async def test_of_too_many_witnesses_those_come_first_that_say_most(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    strangers, pinned, late = OTHERS[:70], OTHERS[70], OTHERS[71]
    await pin(node, pinned)
    for witness in strangers:
        await node.add_report(b"something else", witness)
    for data, witness in ((b"something else", pinned), (ZIP, late), (ZIP, NODE)):
        await node.add_report(data, witness)

    found = proved(await bundle_of(node)).witnesses

    assert set(found.all) == {late.public, NODE.public}
    assert pinned.public in found.disputed_by


async def test_the_nodes_own_word_comes_before_those_of_all_that_it_pins(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    for witness in OTHERS[:bundle_witnesses_max]:
        await node.add_report(ZIP, witness)
        await pin(node, witness)
    await node.add_report(ZIP, NODE)

    bundle = await bundle_of(node)

    assert len(bundle.witnesses) == bundle_witnesses_max
    assert NODE.public in proved(bundle).witnesses.all


async def test_the_publishers_evidence_for_other_bytes_stays_out(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP, evidence=every_evidence())
    await node.add_report(b"other bytes", evidence=every_evidence(b"other bytes"))

    bundle = await bundle_of(node)

    assert bundle.sha256 == MEASURED.sha256, "what is held stays"
    assert [piece.data for piece in bundle.evidence] == [piece.data for piece in every_evidence()]


async def test_one_text_of_each_form_is_enough(node: WebNode) -> None:
    await node.add_bilbo()
    for number, witness in enumerate(OTHERS[: bundle_pieces_max + 4]):
        text = f'{{"slug":"hello-signal","version":"1.0.0","number":{number}}}'.encode()
        kept = node.services.artifacts.put_bytes(text)
        evidence = (
            Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), kept),
            Evidence(EvidenceForm.SHA384, sign_sha384(PUBLISHER, MEASURED.sha384)),
        )
        await node.add_report(ZIP, witness, evidence=evidence)
    node.services.artifacts.put_bytes(ZIP)

    forms = [piece.form for piece in (await bundle_of(node)).evidence]

    assert sorted(forms) == [EvidenceForm.PLUGIN_DATA, EvidenceForm.SHA384]


async def test_attestations_of_other_keys_stay_out_and_warnings_of_an_oracle_come_along(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await attest(node, OTHERS[0], public_key=STRANGER.public)
    await attest(node, OTHERS[1], verified=False)
    await attest(node, OTHERS[2], verified=False, oracle="raw")
    await attest(node, OTHERS[3])
    await node.services.database.write(lambda db: peers.set_peer_policy(db, OTHERS[3].public, blocked=True))

    assert len((await bundle_of(node)).attestations) == 1
