"""`pfn verify --evidence`: exit code 0 for a proof, 1 with the reasons, 2 for what cannot be read. No connection."""

import json
import socket
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_protocol.evidence_bundle import EvidenceBundle
from pfn_protocol.identity import did_key, public_key_pem
from pfn_protocol.limits import bundle_bytes_max
from tests.protocol import bundles
from tests.protocol.bundles import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    ERIN,
    MALLORY,
    SECOND,
    ZIP,
    advised,
    attests,
    bound,
    head,
    released,
    revoked,
    rotated,
    saw,
    written,
    yanked,
)

KEY = ("--key", did_key(CAROL.public))
TRUST = tuple(word for node in (ALICE, BOB, ERIN) for word in ("--trust", did_key(node.public)))


@pytest.fixture(autouse=True)
def _no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def of_now(**fields: Any) -> EvidenceBundle:
    """A bundle whose head and attestations are fresh by the clock of this machine."""
    now_ms = time.time_ns() // 1_000_000
    return bundles.bundle(
        evidence=(released(), bound(), head(expires_s=now_ms // 1_000 + 86_400)),
        witnesses=tuple(saw(node, seq=now_ms) for node in (ALICE, BOB, ERIN)),
        attestations=tuple(attests(node, seq=now_ms) for node in (ALICE, BOB)),
        **fields,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A zip, and its bundle."""
    file, evidence = tmp_path / "hello.zip", tmp_path / "hello.evidence"
    file.write_bytes(ZIP)
    evidence.write_bytes(written(of_now()))
    return str(file), str(evidence)


def verify(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the answer, and what was complained of."""
    done = CliRunner().invoke(app, ["verify", *arguments, "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_the_key_alone_proves_who_signed(files: tuple[str, str], tmp_path: Path) -> None:
    file, evidence = files
    pem = tmp_path / "carol.pem"
    pem.write_text(public_key_pem(CAROL.public))

    for key in (did_key(CAROL.public), str(pem), public_key_pem(CAROL.public)):
        code, answer, complaint = verify(file, "--evidence", evidence, "--key", key)

        assert (code, complaint) == (0, "")
        assert (answer["valid"], answer["assurance"]["level"], answer["key_known"]) == (True, "A3", "given")
        assert (answer["source_id"], answer["plugin_id"], answer["version"]) == (
            "carol@publisher.example",
            "hello",
            "1.0.0",
        )
        assert answer["oracle"] == {"value": "none", "attested": False}


@pytest.mark.parametrize(
    ("given", "code", "level"),
    [
        ((*KEY, *TRUST, "--min", "A4"), 0, "A4"),
        ((*TRUST, "--min", "A4"), 0, "A4"),
        ((*KEY, "--min", "A4"), 1, "A3"),
        ((*TRUST[:2], "--min", "A3"), 0, "A3"),
        (("--min", "A0"), 1, "reported"),
        ((), 1, "reported"),
        (("--key", did_key(MALLORY.public)), 1, "reported"),
        (("--trust", did_key(MALLORY.public), "--min", "A0"), 1, "reported"),
    ],
)
def test_the_exit_code_says_whether_what_is_demanded_was_proved(
    files: tuple[str, str], given: tuple[str, ...], code: int, level: str
) -> None:
    file, evidence = files

    found, answer, complaint = verify(file, "--evidence", evidence, *given)

    assert (found, answer["assurance"]["level"], answer["valid"]) == (code, level, code == 0)
    assert ("this is no proof of" in complaint) == (code == 1)


def test_another_release_than_the_one_that_is_wanted_is_no_proof(files: tuple[str, str]) -> None:
    file, evidence = files
    wanted = "carol@publisher.example/hello/1.0.0"

    same = verify(file, "--evidence", evidence, *KEY, "--release", wanted)
    newer = verify(file, "--evidence", evidence, *KEY, "--release", wanted.replace("1.0.0", "1.0.1"))

    assert (same[0], same[1]["valid"]) == (0, True)
    assert (newer[0], newer[1]["valid"]) == (1, False)
    assert f"the bundle is about {wanted}, not about" in newer[2]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"keys": (revoked(CAROL),)}, "only a key that the publisher revoked vouches for it"),
        ({"keys": (revoked(DORA, CAROL),)}, "only a key that the publisher revoked vouches for it"),
        ({"notices": (yanked(),)}, "the publisher yanked it"),
    ],
)
def test_what_its_publisher_took_back_is_not_genuine_whatever_level_is_enough(
    files: tuple[str, str], fields: dict[str, Any], reason: str
) -> None:
    file, evidence = files
    Path(evidence).write_bytes(written(of_now(**fields)))

    for given in (KEY, (*TRUST, "--min", "A0"), (*KEY, *TRUST, "--min", "A2")):
        code, answer, complaint = verify(file, "--evidence", evidence, *given)

        assert (code, answer["valid"]) == (1, False)
        assert (answer["revoked"], answer["yanked"]) == (
            ("keys" in fields, None if "keys" in fields else "it eats posts")
        )
        assert reason in complaint


def test_a_rotation_is_followed_and_an_advisory_is_a_warning(files: tuple[str, str]) -> None:
    file, evidence = files
    keys = (rotated(CAROL, SECOND), bound(SECOND, DORA).data)
    Path(evidence).write_bytes(written(of_now(keys=keys, notices=(advised(),))))

    code, answer, complaint = verify(file, "--evidence", evidence, *KEY)

    assert (code, complaint, answer["key"]) == (0, "", did_key(SECOND.public))
    assert answer["advisories"] == [
        {"advisory_id": "PFN-1", "severity": "high", "summary": "Anybody may post.", "url": ""}
    ]
    shown = CliRunner().invoke(app, ["verify", file, "--evidence", evidence, *KEY]).stdout
    assert "advisory PFN-1 (high): Anybody may post." in shown
    assert "a bundle cannot show what was left out of it" in shown


def test_people_read_a_line_for_everything_that_was_proved_or_not(files: tuple[str, str]) -> None:
    file, evidence = files

    shown = CliRunner().invoke(app, ["verify", file, "--evidence", evidence, *KEY]).stdout

    assert "assurance  A3" in shown
    assert shown.count("evidence  ") >= 3 and shown.count("caveats  ") == 2


def test_another_file_is_no_proof_and_the_reason_is_said(files: tuple[str, str]) -> None:
    file, evidence = files
    Path(file).write_bytes(ZIP[:-1])

    code, answer, complaint = verify(file, "--evidence", evidence, *KEY)

    assert (code, answer["assurance"]["level"]) == (1, "unknown")
    assert f"the bundle is about {len(ZIP)} bytes" in complaint


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("--key", "no key"), "expected an Ed25519 public key"),
        (("--key", "did:key:zNoKey"), "this did:key"),
        (("--key", "x" * 5_000), "--key: expected an Ed25519 public key"),
        (("--trust", "alice"), "a node id looks like"),
        (("--save", "elsewhere"), "no node is asked"),
        (("--min", "A9"), ""),
    ],
)
def test_what_is_given_wrongly_is_wrong_usage(files: tuple[str, str], wrong: tuple[str, ...], says: str) -> None:
    file, evidence = files

    code, answer, complaint = verify(file, "--evidence", evidence, *wrong)

    assert (code, answer) == (2, {})
    assert says in complaint


def test_roots_of_trust_without_a_bundle_are_wrong_usage(files: tuple[str, str]) -> None:
    for given in (KEY, TRUST, ("--release", "a@b/c/1")):
        assert verify(files[0], *given)[0] == 2


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 100_000, b" " * (bundle_bytes_max + 2), ZIP])
def test_a_bundle_that_is_none_cannot_be_read(files: tuple[str, str], raw: bytes) -> None:
    file, evidence = files
    Path(evidence).write_bytes(raw)

    code, _, complaint = verify(file, "--evidence", evidence, *KEY)

    assert code == 2
    assert "cannot be read" in complaint and "Traceback" not in complaint


def test_what_is_not_there_or_no_file_cannot_be_read(files: tuple[str, str], tmp_path: Path) -> None:
    file, evidence = files

    for one, other in ((file, str(tmp_path / "none")), (str(tmp_path / "none"), evidence), (file, str(tmp_path))):
        assert verify(one, "--evidence", other, *KEY)[0] == 2
