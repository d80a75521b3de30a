"""`pfn get`: a file appears only when it is proved, whoever lies on the way, and the exit code says what was wrong."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pfn_node.cli.failing import FAILED, NO_ANSWER, NOT_FOUND, NOT_VERIFIED, REFUSED, WRONG_USAGE
from pfn_protocol.evidence_bundle import write_bundle
from pfn_protocol.identity import did_key
from tests.node.lying_nodes import PLUGIN, Room, lying_room, of_now
from tests.protocol.bundles import ALICE, CAROL, DORA, MALLORY, RELEASE, ZIP, advised, bound, released, revoked, yanked

KEY = ("--key", did_key(CAROL.public))
PART = f"hello.zip.{RELEASE.sha256.hex()[:16]}.part"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Room:
    return lying_room(monkeypatch, tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_honest_node_gives_the_file_and_what_is_proved_of_it(room: Room, tmp_path: Path) -> None:
    room.node("one")

    code, answer, complaint = room.pfn("get", PLUGIN, *KEY)

    assert (code, complaint) == (0, "")
    assert answer == {
        "file": "hello.zip",
        "source_id": "carol@publisher.example",
        "plugin_id": "hello",
        "version": "1.0.0",
        "sha256": hashlib.sha256(ZIP).hexdigest(),
        "size": len(ZIP),
        "assurance": "A3",
        "key": did_key(CAROL.public),
        "key_from": "given",
    }
    assert files(tmp_path) == {"hello.zip": ZIP}


def test_a_file_that_is_there_already_is_not_fetched_again(room: Room, tmp_path: Path) -> None:
    room.node("one", download_status=500, artifact_status=500)
    (tmp_path / "hello.zip").write_bytes(ZIP)

    assert room.pfn("get", PLUGIN, *KEY)[0] == 0


def test_without_a_key_the_one_that_the_node_names_is_taken_and_that_is_said(room: Room) -> None:
    room.node("one")

    code, answer, _ = room.pfn("get", f"{PLUGIN}@1.0.0", "-o", "other.zip")

    assert (code, answer["key_from"], answer["key"]) == (0, "the node", did_key(CAROL.public))


def test_with_trusted_nodes_the_key_is_theirs_or_nothing_is_proved(room: Room, tmp_path: Path) -> None:
    room.node("one")

    trusting = room.pfn("get", PLUGIN, "--trust", did_key(ALICE.public))
    (tmp_path / "hello.zip").unlink()
    mistaken = room.pfn("get", PLUGIN, "--trust", did_key(MALLORY.public))

    assert (trusting[0], trusting[1]["key_from"]) == (0, "trusted nodes")
    assert mistaken[0] == NOT_VERIFIED
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "lie",
    [
        {"content": ZIP[:-1] + b"!"},
        {"content": ZIP + b"more"},
        {"content": ZIP[:-1]},
        {"content": b""},
        {"document": write_bundle(of_now(size=len(ZIP) + 1))},
        {"document": write_bundle(of_now(size=len(ZIP) - 1))},
        {"document": write_bundle(of_now(sha256=bytes(32)))},
        # Genuine, both of them, and not what was asked for.
        {"document": write_bundle(of_now(plugin_id="another", evidence=(released(slug="another"), bound())))},
        {"document": write_bundle(of_now(version="0.9", evidence=(released(version="0.9"), bound())))},
        {"document": write_bundle(of_now(evidence=()))},
        {"document": {"format": "pfn-evidence/2"}},
    ],
)
def test_what_is_not_proved_does_not_appear_and_the_next_node_is_asked(
    room: Room, tmp_path: Path, lie: dict[str, Any]
) -> None:
    room.node("one", **lie)

    alone = room.pfn("get", f"{PLUGIN}@1.0.0", *KEY)
    left = files(tmp_path)
    room.node("two")
    helped = room.pfn("get", f"{PLUGIN}@1.0.0", *KEY, nodes=("one", "two"))

    assert (alone[0], left) == (NOT_VERIFIED, {})
    assert "http://one.test: " in alone[2]
    assert (helped[0], files(tmp_path)) == (0, {"hello.zip": ZIP})


def test_another_key_than_the_given_one_proves_nothing(room: Room, tmp_path: Path) -> None:
    room.node("one")

    code, _, complaint = room.pfn("get", PLUGIN, "--key", did_key(MALLORY.public))

    assert code == NOT_VERIFIED and "another key" in complaint
    assert files(tmp_path) == {}


def test_a_dead_node_is_passed_over_and_only_dead_nodes_are_no_answer(room: Room) -> None:
    room.node("alive")

    assert room.pfn("get", PLUGIN, *KEY, nodes=("dead", "alive"))[0] == 0
    assert room.pfn("get", PLUGIN, *KEY, nodes=("dead", "gone"))[0] == NO_ANSWER


def test_a_release_that_no_node_knows_is_not_found_and_a_broken_node_is_no_answer(room: Room) -> None:
    room.node("one", verify_status=404)
    room.node("two", document=None)
    room.node("ill", verify_status=500)
    room.node("empty", download_status=404, artifact_status=404)

    assert room.pfn("get", PLUGIN, *KEY, nodes=("dead", "one", "two"))[0] == NOT_FOUND
    assert room.pfn("get", PLUGIN, *KEY, nodes=("ill",))[0] == NO_ANSWER
    assert room.pfn("get", PLUGIN, *KEY, nodes=("empty",))[0] == NOT_FOUND


def test_a_mirror_that_backs_nothing_gives_the_bytes_by_their_digest(room: Room) -> None:
    room.node("one", download_status=422)

    assert room.pfn("get", PLUGIN, *KEY)[0] == 0


def test_a_cut_download_is_gone_on_with_at_the_next_node(room: Room, tmp_path: Path) -> None:
    room.node("one", cut_after=10)
    cut = room.pfn("get", PLUGIN, *KEY)
    left = files(tmp_path)
    two = room.node("two")
    resumed = room.pfn("get", PLUGIN, *KEY, nodes=("two",))

    assert (cut[0], left) == (NO_ANSWER, {PART: ZIP[:10]})
    assert (resumed[0], two.ranges) == (0, ["10"])
    assert files(tmp_path) == {"hello.zip": ZIP}


@pytest.mark.parametrize("kept", [b"never of it", b"x" * len(ZIP), b"x" * (len(ZIP) + 9)])
@pytest.mark.parametrize("etag", [None, '"other"'])
def test_a_part_that_is_wrong_is_thrown_away_and_all_of_it_asked_for_again(
    room: Room, tmp_path: Path, kept: bytes, etag: str | None
) -> None:
    room.node("one", etag=etag)
    (tmp_path / PART).write_bytes(kept)

    code, _, complaint = room.pfn("get", PLUGIN, *KEY)

    assert (code, complaint) == (0, "")
    assert files(tmp_path) == {"hello.zip": ZIP}


@pytest.mark.parametrize(
    ("fields", "allowance"),
    [
        ({"document": write_bundle(of_now(notices=(yanked(),)))}, "--allow-yanked"),
        ({"says": {"yanked": ""}}, "--allow-yanked"),
        ({"document": write_bundle(of_now(notices=(advised(severity="critical"),)))}, "--allow-advisories"),
        ({"says": {"advisories": [{"advisory_id": "X-1", "severity": "critical"}]}}, "--allow-advisories"),
        ({"download_status": 410}, "--allow-taken-down"),
    ],
)
def test_what_is_warned_of_is_refused_though_another_node_would_give_it_unless_it_is_allowed(
    room: Room, tmp_path: Path, fields: dict[str, Any], allowance: str
) -> None:
    room.node("one", **fields)
    room.node("two")

    refused = room.pfn("get", PLUGIN, *KEY, nodes=("one", "two"))
    left = files(tmp_path)
    allowed = room.pfn("get", PLUGIN, *KEY, allowance, nodes=("one", "two"))

    assert (refused[0], left) == (REFUSED, {})
    assert allowance in refused[2]
    assert (allowed[0], files(tmp_path)) == (0, {"hello.zip": ZIP})


def test_a_revoked_key_is_refused_whatever_is_allowed(room: Room) -> None:
    room.node("one", document=write_bundle(of_now(keys=(revoked(DORA, CAROL),))))

    code, _, complaint = room.pfn("get", PLUGIN, *KEY, "--allow-yanked", "--allow-advisories", "--assurance", "A0")

    assert code in (REFUSED, NOT_VERIFIED) and "revoked" in complaint


def test_what_cannot_be_written_is_a_failure_here(room: Room) -> None:
    room.node("one")

    assert room.pfn("get", PLUGIN, *KEY, "-o", "no/such/folder/hello.zip")[0] == FAILED


@pytest.mark.parametrize(
    "wrong",
    [
        ("hello",),
        ("carol@publisher.example",),
        ("carol@publisher.example/Hello",),
        (f"{PLUGIN}@",),
        (f"{PLUGIN}@../1",),
        (PLUGIN, "--key", "no key"),
        (PLUGIN, "--trust", "alice"),
        (PLUGIN, "--assurance", "A9"),
        (PLUGIN, "--node", "ftp://one.test"),
    ],
)
def test_what_is_asked_wrongly_is_wrong_usage(room: Room, wrong: tuple[str, ...]) -> None:
    room.node("one")

    assert room.pfn("get", *wrong)[0] == WRONG_USAGE


def test_what_a_node_says_does_nothing_to_the_terminal(room: Room) -> None:
    room.node("one", says={"yanked": "\x1b[2Jgone"})

    _, _, complaint = room.pfn("get", PLUGIN, *KEY)

    assert "gone" in complaint and "\x1b" not in complaint
