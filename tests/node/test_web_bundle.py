"""Evidence bundles over HTTP: what goes in, and that it proves offline what the node says, no more and no less."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import announcements, peers, sources
from pfn_node.store.key_changes import choose_key
from pfn_node.store.notices import take_binding, take_notice
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Evidence, EvidenceForm, SourceStatement
from pfn_protocol.bundle_notices import OMITTED
from pfn_protocol.bundle_proof import Measured, Proof, TrustRoots, prove
from pfn_protocol.evidence_bundle import EvidenceBundle, read_bundle
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.limits import bundle_notices_max, bundle_pieces_max, bundle_witnesses_max
from pfn_protocol.publisher import sign_keybind, sign_sha384
from pfn_protocol.publisher_notices import (
    Advisory,
    Revocation,
    Rotation,
    Yank,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)
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


# What the publisher signed since


NEW_KEY, RECOVERED = PrivateKey(bytes([91]) * 32), PrivateKey(bytes([92]) * 32)


def rotated(old: PrivateKey, new: PrivateKey, epoch: int = 1) -> bytes:
    rotation = Rotation(
        *(URL, "bilbo", "identity", old.public, new.public, epoch, "", NOW - 60), recovery_hash=b"", voucher=old.public
    )
    return sign_rotation(new, old, rotation).raw


def revoked(key: PrivateKey, signer: PrivateKey) -> bytes:
    return sign_revocation(signer, Revocation(URL, "bilbo", key.public, "stolen", NOW * 2)).raw


def warned(slug: str = "hello-signal", number: int = 1, until: str = "") -> bytes:
    advisory = Advisory(
        *(URL, "bilbo", slug, f"PFN-{number}", "high", "A hole.", (("", until),), "", (), NOW * 1_000, False)
    )
    return sign_advisory(STRANGER, advisory).raw


def yanked(version: str = "1.0.0") -> bytes:
    return sign_yank(STRANGER, Yank(URL, "bilbo", "hello-signal", version, "it eats posts", NOW * 1_000, False)).raw


async def takes(node: WebNode, *envelopes: bytes) -> None:
    """The node takes in what the publisher signed; its release key is the stranger's."""

    def take(db: sqlite_utils.Database) -> None:
        take_binding(db, sign_keybind(PUBLISHER, STRANGER, URL).raw, NOW)
        for raw in envelopes:
            take_notice(db, raw, NOW)

    await node.services.database.write(take)


async def with_release(node: WebNode) -> None:
    await node.add_bilbo()
    await node.services.database.write(
        lambda db: db.execute("UPDATE sources SET oracle = 'none', verified_at = ?", (NOW,))
    )
    await node.add_release(ZIP, evidence=every_evidence())


async def test_who_knows_only_the_key_before_a_rotation_can_check_a_release_after_it(node: WebNode) -> None:
    await with_release(node)
    await takes(node, rotated(PUBLISHER, NEW_KEY))
    await node.services.database.write(lambda db: take_binding(db, sign_keybind(NEW_KEY, STRANGER, URL).raw, NOW + 1))

    bundle = await bundle_of(node)

    assert bundle.public_key == NEW_KEY.public
    for key in (PUBLISHER, NEW_KEY):
        found = proved(bundle, TrustRoots(key.public))
        assert (found.level, found.key.public, found.key.known) == ("A3", NEW_KEY.public, "given")


async def test_the_keybind_of_a_release_is_found_where_its_own_observation_lacks_it(node: WebNode) -> None:
    await with_release(node)
    await takes(node)
    release = next(piece for piece in every_evidence() if piece.form is EvidenceForm.RELEASE)
    head = next(piece for piece in every_evidence() if piece.form is EvidenceForm.HEAD)
    junk = Evidence(EvidenceForm.RELEASE, b"no envelope")
    await node.services.database.write(lambda db: db.execute("DELETE FROM observations"))
    await node.add_report(ZIP, OTHERS[0], evidence=(junk,))
    await node.add_release(ZIP, evidence=(release, head))

    bundle = await bundle_of(node)

    assert [piece.form for piece in bundle.evidence] == [EvidenceForm.RELEASE, EvidenceForm.HEAD]
    assert proved(bundle, TrustRoots(PUBLISHER.public)).level == "A3"


@pytest.mark.parametrize(
    "changes",
    [
        (revoked(STRANGER, PUBLISHER),),
        (revoked(PUBLISHER, PUBLISHER),),
        (rotated(PUBLISHER, NEW_KEY), revoked(PUBLISHER, NEW_KEY)),
    ],
    ids=["the release key", "the identity key", "the one before"],
)
async def test_a_release_of_a_revoked_key_is_shown_as_one(node: WebNode, changes: tuple[bytes, ...]) -> None:
    await with_release(node)
    await takes(node, *changes)

    found = proved(await bundle_of(node), TrustRoots(PUBLISHER.public, frozenset({NODE.public})))

    assert (found.revoked, found.covers_bytes) == (True, False)


async def test_yanks_and_advisories_of_this_release_come_along_and_others_stay_out(node: WebNode) -> None:
    await with_release(node)
    about = (yanked(), warned())
    others = (yanked("1.1.0"), warned("hello", 2), warned(number=3, until="0.9"), warned("hello-signal-2", 4))
    await takes(node, *about, *others)

    bundle = await bundle_of(node)
    found = proved(bundle, TrustRoots(PUBLISHER.public))

    assert bundle.notices == about
    assert (found.taken_back, [one.advisory_id for one in found.word.advisories]) == (
        ("the publisher yanked it",),
        ["PFN-1"],
    )


async def test_more_advisories_than_there_is_room_for_leave_the_yank_in(node: WebNode) -> None:
    await with_release(node)
    await takes(node, yanked(), *(warned(number=number) for number in range(bundle_notices_max + 3)))

    bundle = await bundle_of(node)

    assert (len(bundle.notices), bundle.notices[0]) == (bundle_notices_max, yanked())


async def test_what_an_admins_choice_of_the_key_settled_stays_out(node: WebNode) -> None:
    await with_release(node)
    await takes(node, rotated(PUBLISHER, NEW_KEY), rotated(PUBLISHER, RECOVERED, 2))

    def choose(db: sqlite_utils.Database) -> None:
        sources.update_source(db, BILBO, public_key=public_key_pem(PUBLISHER.public))
        choose_key(db, BILBO, NOW, was_known=True)

    await node.services.database.write(choose)

    assert proved(await bundle_of(node), TrustRoots(PUBLISHER.public)).level == "A3"


async def test_a_raw_oracle_of_a_key_that_was_followed_comes_along(node: WebNode) -> None:
    await with_release(node)
    await takes(node, rotated(PUBLISHER, NEW_KEY))
    await node.services.database.write(lambda db: take_binding(db, sign_keybind(NEW_KEY, STRANGER, URL).raw, NOW + 1))
    await attest(node, OTHERS[0], oracle="raw", verified=False)
    await attest(node, OTHERS[1], oracle="none")

    bundle = await bundle_of(node)

    assert len(bundle.attestations) == 1
    assert proved(bundle, TrustRoots(PUBLISHER.public, frozenset({OTHERS[0].public}))).key.oracle == "raw"
