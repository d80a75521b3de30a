"""`pfn lock` and `pfn get --locked`: what was proved once is what is installed, whatever nodes say later."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pfn_node.cli.failing import NO_ANSWER, NOT_FOUND, NOT_VERIFIED, REFUSED, WRONG_USAGE
from pfn_protocol.evidence_bundle import SignedPiece, write_bundle
from pfn_protocol.identity import PrivateKey, did_key
from tests.node.lying_nodes import PLUGIN, Room, lying_room, of_now
from tests.protocol.bundles import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    ERIN,
    MALLORY,
    SECOND,
    ZIP,
    bound,
    described,
    released,
    rotated,
    yanked,
)

SOURCE = PLUGIN.partition("/")[0]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Room:
    return lying_room(monkeypatch, tmp_path)


def locked(folder: Path) -> Any:
    return json.loads((folder / "pfn.lock").read_bytes())


def a_release(version: str, content: bytes = ZIP, key: PrivateKey = DORA, **fields: Any) -> dict[str, Any]:
    """The evidence of another version, or of other bytes."""
    about = {"version": version, "sha256": sha256(content).digest(), "size": len(content)}
    piece: SignedPiece = released(key, **about)
    identity = fields.pop("identity", CAROL)
    made = {"evidence": (piece, bound(identity, key)), "witnesses": (), "public_key": identity.public}
    return write_bundle(of_now(**(about | made | fields)))


def test_a_lock_names_the_release_the_key_and_the_proof_and_is_the_same_text_again(room: Room, tmp_path: Path) -> None:
    room.node("one")

    code, answer, complaint = room.pfn("lock", PLUGIN)
    first = (tmp_path / "pfn.lock").read_bytes()
    room.node("one", document=write_bundle(of_now(witnesses=())))
    again = room.pfn("lock", PLUGIN)
    updated = room.pfn("lock", "--update")

    assert (code, complaint, again[0], updated[0]) == (0, "", 0, 0)
    assert answer["plugins"][0]["key_from"] == "the node"
    assert (tmp_path / "pfn.lock").read_bytes() == first
    document = locked(tmp_path)
    assert document["sources"] == {SOURCE: {"identity_key": did_key(CAROL.public)}}
    entry = document["plugins"][PLUGIN]
    assert (entry["version"], entry["size"], entry["assurance"]) == ("1.0.0", len(ZIP), "A3")
    assert first.decode() == json.dumps(document, indent=1, sort_keys=True) + "\n"


def test_what_is_locked_comes_from_any_node_whatever_that_says_of_it_now(room: Room, tmp_path: Path) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    room.node("liar", content=ZIP[:-1] + b"!", says={"yanked": "gone"})
    room.node("keeper", verify_status=404, download_status=410, artifact_status=410)
    room.node("mirror", verify_status=500, download_status=404, document=None)

    code, answer, complaint = room.pfn("get", "--locked", "-d", ".", nodes=("dead", "liar", "keeper", "mirror"))
    (tmp_path / "hello.zip").unlink()
    nowhere = room.pfn("get", "--locked", nodes=("dead", "liar"))

    assert (code, complaint) == (0, "")
    assert (answer["plugins"][0]["file"], answer["plugins"][0]["assurance"]) == ("hello.zip", "A3")
    assert (nowhere[0], (tmp_path / "hello.zip").exists()) == (NOT_VERIFIED, False)
    assert room.pfn("get", "--locked", nodes=("dead",))[0] == NO_ANSWER


def test_what_only_nodes_vouch_for_is_held_to_its_digest(room: Room, tmp_path: Path) -> None:
    room.node("one", document=write_bundle(of_now(evidence=(described(),))))
    trust = [word for node in (ALICE, BOB, ERIN) for word in ("--trust", did_key(node.public))]

    assert room.pfn("lock", PLUGIN)[0] == NOT_VERIFIED
    assert room.pfn("lock", PLUGIN, "--assurance", "A2", *trust)[0] == 0
    document = locked(tmp_path)
    # Attestations count for a week; a lock file for as long as it is there.
    document["plugins"][PLUGIN]["evidence"] |= {"attestations": [], "witnesses": []}
    (tmp_path / "pfn.lock").write_text(json.dumps(document))

    assert room.pfn("get", "--locked")[1]["plugins"][0]["assurance"] == "A2"


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "00" * 32},
        {"size": 1},
        {"version": "1.0.1"},
        {"evidence": {}},
        {"evidence": a_release("1.0.0", b"other bytes")},
        {"evidence": a_release("1.0.0", key=MALLORY, identity=MALLORY)},
    ],
)
def test_a_lock_file_whose_words_and_proofs_differ_installs_nothing(
    room: Room, tmp_path: Path, change: dict[str, Any]
) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    document = locked(tmp_path)
    document["plugins"][PLUGIN] |= change
    (tmp_path / "pfn.lock").write_text(json.dumps(document))

    code, _, complaint = room.pfn("get", "--locked")

    assert code == NOT_VERIFIED and "locked" in complaint
    assert not (tmp_path / "hello.zip").exists()


def test_an_update_takes_the_newest_but_for_what_was_named_by_its_number(room: Room, tmp_path: Path) -> None:
    room.node("one", document=a_release("1.0.0"))
    assert room.pfn("lock", PLUGIN)[0] == 0
    room.node("one", document=a_release("1.1.0", b"the next one"), content=b"the next one")

    kept = room.pfn("lock", PLUGIN)[1]["plugins"][0]["version"]
    row = room.pfn("lock", "--update")[1]["plugins"][0]
    named = room.pfn("lock", f"{PLUGIN}@1.1.0")
    room.node("one", document=a_release("1.2.0"))
    held = room.pfn("lock", "--update")

    assert (kept, row["was"], row["version"]) == ("1.0.0", "1.0.0", "1.1.0")
    assert (named[0], locked(tmp_path)["plugins"][PLUGIN]["version_named"]) == (0, True)
    assert held[0] == NOT_VERIFIED and "is about" in held[2]


def test_a_node_that_is_behind_moves_nothing_back_unless_that_is_asked_for(room: Room, tmp_path: Path) -> None:
    room.node("one", document=a_release("1.1.0"))
    assert room.pfn("lock", PLUGIN)[0] == 0
    room.node("one", document=a_release("1.0.0"))

    behind = room.pfn("lock", "--update")
    room.node("two", document=a_release("1.1.1"))
    ahead = room.pfn("lock", "--update", nodes=("one", "two"))
    asked = room.pfn("lock", f"{PLUGIN}@1.0.0")

    assert behind[0] == NOT_FOUND and "older than what is locked" in behind[2]
    assert ahead[1]["plugins"][0]["version"] == "1.1.1"
    assert asked[1]["plugins"][0]["version"] == "1.0.0"


def test_other_bytes_under_a_locked_version_are_refused(room: Room) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    room.node("one", document=a_release("1.0.0", b"other bytes"))

    code, _, complaint = room.pfn("lock", "--update")

    assert code == NOT_VERIFIED and "other bytes under" in complaint


def test_a_changed_key_is_refused_unless_it_is_named(room: Room, tmp_path: Path) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    before = (tmp_path / "pfn.lock").read_bytes()
    followed = a_release("1.1.0", identity=SECOND, keys=(rotated(CAROL, SECOND),))
    name_it = ("--key", f"{SOURCE}={did_key(SECOND.public)}")

    room.node("one", document=a_release("1.1.0", key=MALLORY, identity=MALLORY))
    strange = room.pfn("lock", "--update")
    room.node("one", document=followed)
    unnamed = room.pfn("lock", "--update")
    unchanged = (tmp_path / "pfn.lock").read_bytes() == before
    misnamed = room.pfn("lock", "--update", "--key", f"{SOURCE}={did_key(MALLORY.public)}")
    named = room.pfn("lock", "--update", *name_it)

    assert (strange[0], unnamed[0], misnamed[0], named[0]) == (NOT_VERIFIED, REFUSED, NOT_VERIFIED, 0)
    assert name_it[1] in unnamed[2] and unchanged
    assert locked(tmp_path)["sources"][SOURCE]["identity_key"] == did_key(SECOND.public)


def test_what_the_former_key_alone_proves_has_to_be_updated_with_the_key(room: Room, tmp_path: Path) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    other = of_now(
        plugin_id="other",
        public_key=SECOND.public,
        evidence=(released(slug="other"), bound(SECOND)),
        witnesses=(),
        keys=(rotated(CAROL, SECOND),),
    )
    room.node("one", document=write_bundle(other))

    code, _, complaint = room.pfn("lock", f"{SOURCE}/other", "--key", f"{SOURCE}={did_key(SECOND.public)}")

    assert code == NOT_VERIFIED and f"what is locked of {PLUGIN}@1.0.0 is not proved" in complaint
    assert list(locked(tmp_path)["plugins"]) == [PLUGIN]


def test_get_holds_a_source_to_the_key_that_is_locked(room: Room, tmp_path: Path) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    honest = room.pfn("get", PLUGIN)
    (tmp_path / "hello.zip").unlink()
    room.node("one", document=a_release("1.0.0", key=MALLORY, identity=MALLORY))

    forged = room.pfn("get", PLUGIN)
    trusting = room.pfn("get", PLUGIN, "--file", "another.lock")

    assert (honest[0], honest[1]["key_from"]) == (0, "the lock file")
    assert forged[0] == NOT_VERIFIED
    assert (trusting[0], trusting[1]["key"]) == (0, did_key(MALLORY.public)), "without the lock it would have come"


def test_what_was_yanked_is_not_locked_unless_that_is_allowed(room: Room) -> None:
    room.node("one", document=write_bundle(of_now(notices=(yanked(),))))

    assert room.pfn("lock", PLUGIN)[0] == REFUSED
    assert room.pfn("lock", PLUGIN, "--allow-yanked")[0] == 0
    assert room.pfn("get", "--locked")[0] == 0


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"format": "pfn-lock/2"}', b"\xff", b"[" * 100_000, b'{"format": "pfn-lock/1"}']
)
def test_what_is_no_lock_file_is_wrong_usage_and_is_left_as_it_is(room: Room, tmp_path: Path, raw: bytes) -> None:
    room.node("one")
    (tmp_path / "pfn.lock").write_bytes(raw)

    for arguments in (("get", "--locked"), ("get", PLUGIN), ("lock", PLUGIN)):
        assert room.pfn(*arguments)[0] == WRONG_USAGE
    assert (tmp_path / "pfn.lock").read_bytes() == raw


@pytest.mark.parametrize(
    "wrong",
    [
        ("get",),
        ("get", "--locked", PLUGIN.replace("hello", "other")),
        ("get", "--locked", f"{PLUGIN}@2.0"),
        ("get", "--locked", "--file", "none.lock"),
        ("get", "--locked", "-o", "a.zip", "-d", "."),
        ("lock",),
        ("lock", "hello"),
        ("lock", PLUGIN, "--key", did_key(CAROL.public)),
        ("lock", PLUGIN, "--key", f"{SOURCE}=nonsense"),
    ],
)
def test_locks_that_are_asked_for_wrongly_are_wrong_usage(room: Room, wrong: tuple[str, ...]) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0

    assert room.pfn(*wrong)[0] == WRONG_USAGE


def test_two_plugins_of_one_name_are_got_one_by_one(room: Room, tmp_path: Path) -> None:
    room.node("one")
    assert room.pfn("lock", PLUGIN)[0] == 0
    document = locked(tmp_path)
    twin = "carol@other.example"
    document["plugins"][f"{twin}/hello"] = document["plugins"][PLUGIN]
    document["sources"][twin] = document["sources"][SOURCE]
    (tmp_path / "pfn.lock").write_text(json.dumps(document))

    assert room.pfn("get", "--locked")[0] == WRONG_USAGE
    assert room.pfn("get", "--locked", PLUGIN)[0] == 0
