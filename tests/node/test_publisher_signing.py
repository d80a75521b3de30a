"""Keys, sequence numbers, and challenges of the publisher."""

import json
import stat
from pathlib import Path

import pytest

from pfn_node.publisher import signing
from pfn_node.publisher.challenges import is_strict_challenge, javascript_text
from pfn_node.publisher.signing import PublisherError, PublisherKeys, ReleaseFacts, Signer, open_or_make_keys
from pfn_protocol.errors import Refusal
from pfn_protocol.publisher import (
    head_is_fresh,
    open_head,
    open_keybind,
    open_release,
    verify_metadata,
    verify_sha384,
)
from pfn_protocol.set_digest import SetDigest

NOW = 1_800_000_000_000
FACTS = ReleaseFacts("plugin", "1.0", "Plugin", "Short.", b"a" * 32, b"b" * 48, 1234)


@pytest.fixture
def keys(tmp_path: Path) -> PublisherKeys:
    return open_or_make_keys(tmp_path)


@pytest.fixture
def signer(keys: PublisherKeys, tmp_path: Path) -> Signer:
    return Signer(keys, tmp_path, author="ada", origin="https://ada.example")


def _seq(signer: Signer, facts: ReleaseFacts, now_ms: int) -> int:
    return open_release(signer.sign([facts], now_ms)[0].release.raw)[0].seq


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    made, again = open_or_make_keys(tmp_path / "data"), open_or_make_keys(tmp_path / "data")

    assert made.identity.seed == again.identity.seed
    assert made.release.seed != made.identity.seed
    for name in ("publisher.key", "release.key"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600


def test_a_key_that_another_process_has_just_made_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_or_make_keys(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda self: False)

    assert open_or_make_keys(tmp_path).identity.seed == made.identity.seed


def test_a_broken_key_stops_the_start(tmp_path: Path) -> None:
    open_or_make_keys(tmp_path)
    (tmp_path / "release.key").write_text("not a key")

    with pytest.raises(PublisherError, match=r"release\.key"):
        open_or_make_keys(tmp_path)


@pytest.mark.parametrize("past", ["release.key", "releases.json", "notices.json"])
def test_a_key_that_is_gone_from_a_folder_with_a_past_is_not_made_anew(tmp_path: Path, past: str) -> None:
    keys = open_or_make_keys(tmp_path)
    (tmp_path / "publisher.key").unlink()
    if past != "release.key":
        (tmp_path / "release.key").unlink()
        (tmp_path / past).write_text("{}")

    with pytest.raises(PublisherError, match=r"publisher\.key is missing.*put the key back"):
        open_or_make_keys(tmp_path)

    assert not (tmp_path / "publisher.key").exists()
    (tmp_path / "publisher.key").write_text(keys.identity.to_pem())
    (tmp_path / "release.key").write_text(keys.release.to_pem())
    assert open_or_make_keys(tmp_path).identity.seed == keys.identity.seed


def test_a_data_folder_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(PublisherError, match="cannot be used"):
        open_or_make_keys(tmp_path / "data")


def test_a_release_is_signed_in_all_forms(signer: Signer, keys: PublisherKeys) -> None:
    (signed,) = signer.sign([FACTS], NOW)
    statement, release_key = open_release(signed.release.raw)
    keybind, bound = open_keybind(signer.keybind.raw)

    assert release_key == bound == keys.release.public
    assert (keybind.origin, keybind.identity_key) == ("https://ada.example", keys.identity.public)
    assert (statement.author, statement.slug, statement.sha256, statement.size) == ("ada", "plugin", b"a" * 32, 1234)
    assert verify_metadata(keys.identity.public, "plugin", "Plugin", "1.0", "Short.", signed.metadata_signature)
    assert verify_sha384(keys.identity.public, b"b" * 48, signed.sha384_signature)


def test_the_same_bytes_keep_their_number_over_restarts(signer: Signer, keys: PublisherKeys, tmp_path: Path) -> None:
    first = signer.sign([FACTS], NOW)
    after = Signer(keys, tmp_path, author="ada", origin="https://ada.example").sign([FACTS], NOW + 5000)

    assert first == after


def test_other_bytes_or_another_origin_get_a_greater_number(
    signer: Signer, keys: PublisherKeys, tmp_path: Path
) -> None:
    elsewhere = Signer(keys, tmp_path, author="ada", origin="https://elsewhere.example")
    changed = ReleaseFacts("plugin", "1.0", "Plugin", "Short.", b"c" * 32, b"b" * 48, 1234)

    numbers = [_seq(signer, FACTS, NOW), _seq(signer, changed, NOW - 9000), _seq(elsewhere, FACTS, NOW - 9000)]

    assert numbers == [NOW, NOW + 1, NOW + 2]


def test_no_number_is_used_twice_even_when_old_entries_are_forgotten(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "LEDGER_ENTRIES_MAX", 1)
    other = ReleaseFacts("other", "1.0", "Other", "", b"d" * 32, b"b" * 48, 1)

    assert _seq(signer, FACTS, NOW) == NOW
    assert _seq(signer, other, NOW) == NOW + 1
    assert _seq(signer, FACTS, NOW) == NOW + 2


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"last": 1}', '{"last": 1, "releases": {"x": 1}}', '{"last": "x", "releases": {}}']
)
def test_a_damaged_ledger_is_not_silently_replaced(signer: Signer, tmp_path: Path, text: str) -> None:
    (tmp_path / "releases.json").write_text(text)

    with pytest.raises(PublisherError, match="damaged"):
        signer.sign([FACTS], NOW)

    assert (tmp_path / "releases.json").read_text() == text


def test_the_ledger_is_written_only_when_it_changes(signer: Signer, tmp_path: Path) -> None:
    signer.sign([FACTS], NOW)
    before = (tmp_path / "releases.json").stat()
    signer.sign([FACTS], NOW + 1)

    assert (tmp_path / "releases.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (tmp_path / "releases.json").stat().st_ino == before.st_ino
    assert json.loads((tmp_path / "releases.json").read_text())["last"] == NOW


def test_a_head_counts_all_releases_for_a_week(signer: Signer) -> None:
    releases = signer.sign([FACTS], NOW)

    head, release_key = open_head(signer.sign_head(releases, NOW).raw)

    assert release_key == signer.keys.release.public
    assert (head.count, head.root) == (1, SetDigest([releases[0].release.id]).digest())
    assert head_is_fresh(head, NOW + 6 * 86_400_000)
    assert not head_is_fresh(head, NOW + 8 * 86_400_000)


def test_an_origin_that_is_no_url_is_refused(keys: PublisherKeys, tmp_path: Path) -> None:
    with pytest.raises(Refusal):
        Signer(keys, tmp_path, author="ada", origin="ftp://ada.example")


@pytest.mark.parametrize(
    ("challenge", "strict"),
    [
        ("9ca66cfa-a302-4e00-96ea-e922638394a4", True),
        ("9CA66CFA-A302-4E00-96EA-E922638394A4", False),
        ("9ca66cfa-a302-1e00-96ea-e922638394a4", False),
        ("9ca66cfa-a302-4e00-c6ea-e922638394a4", False),
        ("9ca66cfa-a302-4e00-96ea-e922638394a4\n", False),
        (" 9ca66cfa-a302-4e00-96ea-e922638394a4", False),
        ("9ca66cfaa3024e0096eae922638394a4", False),
        ("\u0669ca66cfa-a302-4e00-96ea-e922638394a4", False),
        ("", False),
        (None, False),
        (["9ca66cfa-a302-4e00-96ea-e922638394a4"], False),
    ],
)
def test_only_a_canonical_uuid4_is_a_challenge(challenge: object, strict: bool) -> None:
    assert is_strict_challenge(challenge) is strict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\ud800x", "\ufffdx"),
        ("\ud83d\ude00", "\U0001f600"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (2.0, "2"),
        (1.5, "1.5"),
        (["a", None, ["b", 1]], "a,,b,1"),
        ({"a": 1}, "[object Object]"),
    ],
)
def test_values_become_text_as_in_javascript(value: object, text: str) -> None:
    assert javascript_text(value) == text.encode()
