"""Which releases are mirrored, by what their publisher signed."""

import base64
from pathlib import Path

import pytest
from trio.testing import MockClock

from pfn_node.store.rows import Filters
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import HeadStatement, sign_head
from tests.node.sources_room import Publisher, arranged, plugin_zip, registered

ALL = Filters()
ID = "ann@publisher.test"
RELEASE_KEY = PrivateKey(b"\x09" * 32)


async def test_themes_are_mirrored_as_themes(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("skin", "2.0-alpha", type="theme")
    publisher.publish("mask", "1.0", type="plugin").update(type="theme")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        release = room.release(ID, "skin", "2.0-alpha")
        assert release is not None and release.type == "theme"
        assert result.skipped == (("mask", "type mismatch: the zip holds a plugin, the list says theme"),)


async def test_unsigned_releases_are_left_out_unless_the_admin_allows_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", signed=False)
    async with room.running() as sources:
        await registered(sources, publisher)

        refused = await sources.subscribe(ID, "k1", ALL)

        assert not refused.success
        assert refused.skipped[0][1].startswith("unsigned")
        assert not any(request.path.endswith(".zip") for request in room.network.requests)

        await sources.update(ID, allow_unsigned=True)
        allowed = await sources.subscribe(ID, "k1", ALL)

        release = room.release(ID, "alpha", "1.0")
        assert allowed.success and release is not None and release.assurance == "A0"


async def test_a_signature_of_plugin_data_is_kept_with_its_text(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", signed=False)
    publisher.sign_plugin_data("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success, result.skipped
        (evidence,) = room.versions()[0].evidence
        assert evidence.form is EvidenceForm.PLUGIN_DATA
        text = room.artifacts.read_text(evidence.text_sha256, 10_000)
        assert text.decode() in publisher.plugin_data["alpha"]
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.assurance == "A1"


@pytest.mark.parametrize("fault", ["signature", "plugin-data", "slug", "version", "broken", "sha384", "not base64"])
async def test_an_invalid_signature_is_never_stored_as_valid(
    tmp_path: Path, autojump_clock: MockClock, fault: str
) -> None:
    room, publisher = arranged(tmp_path)
    stranger = PrivateKey(b"\x66" * 32)
    entry = publisher.publish(
        "alpha", "1.0", signed=fault == "signature", v2=publisher.key if fault == "sha384" else None
    )
    match fault:
        case "signature":
            entry["short_description"] = "Something else."
        case "plugin-data":
            publisher.sign_plugin_data("alpha", "1.0", key=stranger)
        case "slug":
            publisher.sign_plugin_data("beta", "1.0")
            publisher.plugin_data["alpha"] = publisher.plugin_data["beta"]
        case "version":
            publisher.sign_plugin_data("alpha", "0.9")
        case "broken":
            publisher.plugin_data["alpha"] = '{"data": [], "signature": "nope"}'
        case "sha384":
            publisher.zips["alpha"] = plugin_zip("alpha", "1.0", extra=b"other")
            entry["release_v2"] = None
        case "not base64":
            entry["signature"] = "?"
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.skipped[0][1].startswith("version mismatch" if fault == "version" else "invalid signature")
        assert room.release(ID, "alpha", "1.0") is None
        assert room.versions() == [] and not room.artifacts.digests()
        if fault != "version":
            assert any("invalid signature" in one.message for one in room.activities("security"))
            assert room.source(ID).trust["signatures"] == 0


@pytest.mark.parametrize("separate", [False, True])
async def test_a_v2_release_reaches_a3_and_its_evidence_travels_as_given(
    tmp_path: Path, autojump_clock: MockClock, separate: bool
) -> None:
    room, publisher = arranged(tmp_path)
    key = RELEASE_KEY if separate else publisher.key
    entry = publisher.publish("alpha", "1.0", v2=key)
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success, result.skipped
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and (release.assurance, release.backed_by) == ("A3", "release")
        forms = {piece.form for piece in room.versions()[0].evidence}
        expected = {EvidenceForm.METADATA, EvidenceForm.RELEASE, EvidenceForm.SHA384}
        assert forms == (expected | {EvidenceForm.KEYBIND} if separate else expected)
        assert entry["release_v2"]


@pytest.mark.parametrize(
    "fault", ["bytes", "slug", "origin", "unbound", "other key", "garbage", "head", "bad keybind", "no keybind"]
)
async def test_a_v2_statement_that_does_not_hold_refuses_the_release(
    tmp_path: Path, autojump_clock: MockClock, fault: str
) -> None:
    room, publisher = arranged(tmp_path)
    entry = publisher.publish("alpha", "1.0", v2=RELEASE_KEY)
    zipped = publisher.zips["alpha"]
    match fault:
        case "bytes":
            other = publisher.release("alpha", "1.0", b"other", RELEASE_KEY)
            entry["release_v2"] = base64.b64encode(other).decode()
        case "slug":
            other = publisher.release("beta", "1.0", zipped, RELEASE_KEY)
            entry["release_v2"] = base64.b64encode(other).decode()
        case "origin":
            elsewhere = Publisher(url="http://elsewhere.test")
            entry["release_v2"] = base64.b64encode(elsewhere.release("alpha", "1.0", zipped, RELEASE_KEY)).decode()
        case "unbound":
            entry["keybind_v2"] = None
        case "other key":
            stranger = PrivateKey(b"\x66" * 32)
            entry["release_v2"] = base64.b64encode(publisher.release("alpha", "1.0", zipped, stranger)).decode()
        case "garbage":
            entry["release_v2"] = base64.b64encode(b"garbage").decode()
        case "head":
            entry["head_v2"] = base64.b64encode(b"garbage").decode()
        case "no keybind":
            entry["keybind_v2"] = base64.b64encode(b"garbage").decode()
        case "bad keybind":
            entry["keybind_v2"] = base64.b64encode(Publisher(seed=5).keybind(RELEASE_KEY)).decode()
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.skipped[0][1].startswith("invalid signature"), result
        assert room.release(ID, "alpha", "1.0") is None


@pytest.mark.parametrize("good", [True, False])
async def test_a_head_by_the_bound_release_key_is_kept_as_given(
    tmp_path: Path, autojump_clock: MockClock, good: bool
) -> None:
    room, publisher = arranged(tmp_path)
    entry = publisher.publish("alpha", "1.0", v2=RELEASE_KEY)
    signer = RELEASE_KEY if good else PrivateKey(b"\x66" * 32)
    head = sign_head(signer, HeadStatement(bytes(32), 1, 1_800_000_000_000, 1_800_000_500)).raw
    entry["head_v2"] = base64.b64encode(head).decode()
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success is good
        if good:
            kept = {piece.form: piece.data for piece in room.versions()[0].evidence}
            assert kept[EvidenceForm.HEAD] == head
        else:
            assert "head_v2 is signed by another key" in result.skipped[0][1]


async def test_fields_that_are_no_text_cannot_be_signed(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")["short_description"] = 5
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert "is not all text" in result.skipped[0][1]


async def test_a_bad_signature_over_the_zips_sha384_refuses_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")["signature_sha384"] = base64.b64encode(bytes(64)).decode()
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert "signature_sha384 is not one of the source's key" in result.skipped[0][1]


async def test_a_signed_description_that_cannot_be_read_is_a_reason(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", signed=False)
    publisher.publish("beta", "1.0")
    publisher.answers["/federated/plugin-data"] = ("busy", 503, {})
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert (result.mirrored_count, result.skipped) == (
            1,
            (("alpha", "the publisher's federated/plugin-data answered HTTP 503"),),
        )


async def test_a_release_statement_of_another_author_of_the_same_key_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    entry = publisher.publish("alpha", "1.0", signed=False, v2=RELEASE_KEY)
    of_bob = Publisher(author="bob").release("alpha", "1.0", publisher.zips["alpha"], RELEASE_KEY)
    entry["release_v2"] = base64.b64encode(of_bob).decode()
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        ((slug, reason),) = result.skipped
        assert slug == "alpha" and "release_v2 is about bob" in reason
        assert room.release(ID, "alpha", "1.0") is None
