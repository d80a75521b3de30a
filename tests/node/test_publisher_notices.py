"""What a publisher signs about keys and releases with `pfn publisher`, and how it serves that."""

import base64
import errno
import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.cli import app
from pfn_node.publisher import SAMPLES, notices
from pfn_node.publisher.app import Profile, Publisher
from pfn_node.publisher.catalogue import Catalogue
from pfn_node.publisher.notices import Whose, finish_rotation, read_notices
from pfn_node.publisher.signing import (
    PublisherError,
    PublisherKeys,
    open_key,
    open_keys,
    open_or_make_keys,
    replace_file,
)
from pfn_protocol.identity import did_key, parse_did_key
from pfn_protocol.publisher import open_keybind
from pfn_protocol.publisher_notices import Advisory, Revocation, Rotation, Yank, open_notice
from tests.node.zip_forge import forge, main_file

NOW = 1_800_000_000
ORIGIN = "https://ada.example"


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is done in it fails when the notices are written."""

    def full(file: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(notices, "replace_file", full)
        yield


@pytest.fixture(autouse=True)
def keys(tmp_path: Path) -> PublisherKeys:
    return open_or_make_keys(tmp_path)


@pytest.fixture
def whose(tmp_path: Path) -> Whose:
    return Whose.of(tmp_path, "ada", ORIGIN)


def opened(signed: dict[str, Any]) -> Any:
    (text,) = signed["notices_v2"]
    return open_notice(base64.b64decode(text)).notice


def pfn(tmp_path: Path, *words: str, code: int = 0) -> Any:
    where = ("--author", "ada", "--origin", ORIGIN, "--data", str(tmp_path))
    done = CliRunner().invoke(app, ["publisher", *words, *where])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_a_rotation_replaces_the_key_and_keeps_the_old_one_for_its_owner(tmp_path: Path) -> None:
    before = open_keys(tmp_path)

    signed = pfn(tmp_path, "rotate", "--reason", "a new machine")

    after = open_keys(tmp_path)
    rotation = opened(signed)
    assert isinstance(rotation, Rotation)
    assert (rotation.old_key, rotation.new_key) == (before.identity.public, after.identity.public)
    assert (rotation.epoch, rotation.role, rotation.reason) == (1, "identity", "a new machine")
    assert after.release.public == before.release.public
    assert open_keybind(base64.b64decode(signed["keybind_v2"]))[0].identity_key == after.identity.public
    assert (tmp_path / "publisher.key.1").read_text() == before.identity.to_pem()
    assert stat.S_IMODE((tmp_path / "publisher.key").stat().st_mode) == 0o600
    assert opened(pfn(tmp_path, "rotate", "--role", "release")).epoch == 2
    assert open_keys(tmp_path).release.public != before.release.public


@pytest.mark.parametrize("missing", ["publisher.key", "release.key"])
@pytest.mark.parametrize(
    "words",
    [
        ("yank", "hello", "1.0"),
        ("rotate",),
        ("rotate", "--role", "release"),
        ("revoke", "identity", "--final"),
        ("commit-recovery",),
        ("advise", "hello", "X-1", "--summary", "s", "--severity", "low", "--affected", "1..2"),
    ],
    ids=" ".join,
)
def test_nothing_is_said_with_keys_that_a_mistyped_folder_would_be_given(
    tmp_path: Path, words: tuple[str, ...], missing: str
) -> None:
    typo = tmp_path / "pubilsher"
    assert f"{typo / 'publisher.key'} is missing" in pfn(typo, *words, code=1)
    assert not typo.exists()

    (tmp_path / missing).unlink()
    assert f"{missing} is missing" in pfn(tmp_path, *words, code=1)
    assert not (tmp_path / missing).exists() and not (tmp_path / "notices.json").exists()


def test_a_release_signed_with_new_keys_says_so(tmp_path: Path) -> None:
    file = tmp_path / "forged.zip"
    file.write_bytes(forge([main_file()]))

    def signed(data: Path) -> str:
        where = ("--author", "ada", "--origin", ORIGIN, "--data", str(data))
        return CliRunner().invoke(app, ["publisher", "sign", str(file), *where]).stderr

    assert "new keys were made" in signed(tmp_path / "new")
    assert signed(tmp_path / "new") == ""


def test_a_recovery_key_vouches_for_the_key_after_a_theft(tmp_path: Path, whose: Whose) -> None:
    committed = opened(pfn(tmp_path, "commit-recovery"))
    assert committed.old_key == committed.new_key
    (tmp_path / "recovery.key").rename(tmp_path / "put-away.key")  # as it should be
    refused = pfn(tmp_path, "commit-recovery", code=1)
    assert f"committed to the recovery key whose sha256 is {committed.recovery_hash.hex()}" in refused
    assert not (tmp_path / "recovery.key").exists()

    rotation = opened(pfn(tmp_path, "rotate", "--recovery", str(tmp_path / "put-away.key")))

    assert rotation.voucher not in (rotation.old_key, rotation.new_key)
    assert rotation.recovery_hash == committed.recovery_hash


def test_a_commitment_that_was_cut_off_is_made_with_the_key_that_is_there(
    tmp_path: Path, whose: Whose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_disk(monkeypatch):
        notices.commit_recovery(whose, NOW)
    left = open_key(tmp_path / "recovery.key")

    committed = opened(pfn(tmp_path, "commit-recovery"))

    assert committed.recovery_hash == hashlib.sha256(left.public).digest()


def test_a_publisher_that_looks_while_a_key_is_replaced_does_not_lose_the_new_one(
    tmp_path: Path, whose: Whose, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = Thread(target=finish_rotation, args=(tmp_path,))

    def looked_at(file: Path, text: str) -> None:
        looking.start()
        looking.join(0.3)  # it ends by then if nothing keeps it waiting
        replace_file(file, text)

    monkeypatch.setattr(notices, "replace_file", looked_at)
    signed = notices.rotate(whose, "identity", "", NOW)
    looking.join()

    assert open_keys(tmp_path).identity.public == parse_did_key(signed["new_key"])


def test_a_rotation_that_a_full_disk_cut_off_is_made_by_the_next_try(
    tmp_path: Path, whose: Whose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_disk(monkeypatch):
        notices.rotate(whose, "identity", "", NOW)

    rotation = opened(pfn(tmp_path, "rotate"))

    assert open_keys(tmp_path).identity.public == rotation.new_key


@pytest.mark.parametrize("words", [("yank", "hello", "1.0"), ("rotate",), ("revoke", "release")], ids=" ".join)
def test_a_key_that_was_replaced_and_comes_back_from_a_backup_signs_nothing(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    pfn(tmp_path, "rotate")
    (tmp_path / "publisher.key").write_text((tmp_path / "publisher.key.1").read_text())

    assert "was replaced by a rotation" in pfn(tmp_path, *words, code=1)


def test_an_old_key_is_revoked_and_the_keys_in_use_are_not_by_mistake(tmp_path: Path) -> None:
    old = open_keys(tmp_path).identity.public
    pfn(tmp_path, "rotate")

    revocation = opened(pfn(tmp_path, "revoke", did_key(old), "--reason", "lost", "--not-after", "5"))

    assert isinstance(revocation, Revocation)
    assert (revocation.key, revocation.reason, revocation.not_after_s) == (old, "lost", 5)
    assert "rotate --role release" in pfn(tmp_path, "revoke", "release", code=1)
    assert "--final" in pfn(tmp_path, "revoke", "identity", code=1)
    assert "names no key" in pfn(tmp_path, "revoke", "my-key", code=1)
    assert opened(pfn(tmp_path, "revoke", "identity", "--final")).key == open_keys(tmp_path).identity.public
    assert len(read_notices(tmp_path).revocations) == 2


def test_yanks_ascend_and_only_the_last_about_a_release_is_served(tmp_path: Path) -> None:
    first = opened(pfn(tmp_path, "yank", "hello", "1.0", "--reason", "it eats posts"))
    second = opened(pfn(tmp_path, "yank", "hello", "1.0", "--withdraw"))

    assert isinstance(first, Yank) and second.seq > first.seq
    assert (first.withdrawn, second.withdrawn) == (False, True)
    assert list(read_notices(tmp_path).yanks) == ["hello/1.0"]
    assert len(read_notices(tmp_path).extras()["yanks_v2"]) == 1
    assert "cannot be signed" in pfn(tmp_path, "yank", "No Slug", "1.0", code=1)


def test_an_advisory_names_versions(tmp_path: Path) -> None:
    words = ("hello", "ADA-1", "--summary", "A hole.", "--severity", "critical", "--alias", "CVE-2026-1")
    advisory = opened(pfn(tmp_path, "advise", *words, "--affected", "1.0..1.4", "--affected", "2.0.."))

    assert isinstance(advisory, Advisory)
    assert (advisory.ranges, advisory.aliases) == ((("1.0", "1.4"), ("2.0", "")), ("CVE-2026-1",))
    assert "FROM..UNTIL" in pfn(tmp_path, "advise", *words, "--affected", "1.0", code=2)


def test_an_origin_that_no_node_would_take_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PublisherError, match="cannot be used"):
        Whose.of(tmp_path, "ada", "ada.example")
    done = CliRunner().invoke(
        app, ["publisher", "rotate", "--author", "ada", "--origin", "nowhere", "--data", str(tmp_path)]
    )
    assert done.exit_code == 1 and "cannot be used" in done.stderr


def test_a_damaged_book_stops_and_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notices.json").write_text("{")

    with pytest.raises(PublisherError, match="damaged"):
        read_notices(tmp_path)
    assert "damaged" in pfn(tmp_path, "yank", "hello", "1.0", code=1)
    assert (tmp_path / "notices.json").read_text() == "{"


def test_a_rotation_that_was_interrupted_is_finished_if_it_was_signed(
    tmp_path: Path, whose: Whose, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_keys(tmp_path).identity.public
    with monkeypatch.context() as patched:
        patched.setattr(notices, "_put_in_place", lambda data: None)  # the process ends here
        signed = notices.rotate(whose, "identity", "", NOW)
    assert open_keys(tmp_path).identity.public == before

    finish_rotation(tmp_path)

    assert open_keys(tmp_path).identity.public == parse_did_key(signed["new_key"])
    (tmp_path / "publisher.key.next").write_text(open_keys(tmp_path).release.to_pem())
    finish_rotation(tmp_path)  # this one was never signed
    assert open_keys(tmp_path).identity.public == parse_did_key(signed["new_key"])
    assert not (tmp_path / "publisher.key.next").exists()


async def test_a_running_publisher_serves_what_was_said_and_signs_with_the_new_key(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "juniper", tmp_path / "plugins")
    artifacts = Artifacts(tmp_path / "zips", 0)
    artifacts.start()
    data = tmp_path / "data"
    catalogue = Catalogue(tmp_path / "plugins", artifacts)
    publisher = Publisher(catalogue, artifacts, open_or_make_keys(data), data, "ada", Profile.V2)
    await publisher.open_at(ORIGIN)

    async def asked(path: str) -> Any:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=publisher.app()),  # type: ignore[arg-type]
            base_url=ORIGIN,
        ) as client:
            return (await client.get(path)).json()

    assert "yanks_v2" not in await asked("/author-data?author=ada")
    whose = Whose.of(data, "ada", ORIGIN)
    rotated = notices.rotate(whose, "identity", "", NOW)
    yanked = notices.yank(whose, "plain-page", "1.0.0", "", NOW * 1_000)

    await publisher.refresh()

    author_data = await asked("/author-data?author=ada")
    assert author_data["rotations_v2"] == rotated["notices_v2"]
    assert author_data["yanks_v2"] == yanked["notices_v2"]
    info, known = await asked("/federation-info"), await asked("/.well-known/pfn-publisher.json")
    assert info["rotations_v2"] == known["rotations_v2"] == rotated["notices_v2"]
    assert "yanks_v2" not in info and known["yanks_v2"] == yanked["notices_v2"]
    assert known["identity_key"] == rotated["new_key"]

    (data / "notices.json").write_text("{")
    await publisher.refresh()
    assert (await asked("/author-data?author=ada"))["yanks_v2"] == yanked["notices_v2"]
