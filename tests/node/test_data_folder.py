"""The node's folder: one process at a time, one key for ever."""

import os
import stat
from pathlib import Path

import pytest

from pfn_node.data_folder import (
    DataFolder,
    DataFolderError,
    load_or_make_key,
    make_next_key,
    open_data_folder,
    succeed,
    write_secret,
)
from pfn_node.settings import load_settings
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.succession import check_succession, commit_to


def test_the_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path / "new" / "folder"})

    with open_data_folder(settings) as folder:
        made = folder.key
    with open_data_folder(settings) as folder:
        assert folder.key.seed == made.seed
        assert folder.database.parent == folder.artifacts.parent == folder.path

    file = settings.data / "node.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in settings.data.iterdir() if entry.name.startswith("node.key.")] == []


def test_a_second_opening_is_refused_with_a_sentence(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path})

    with (
        open_data_folder(settings),
        pytest.raises(DataFolderError, match="another process uses the data folder"),
        open_data_folder(settings),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(DataFolderError, match="cannot write to the data folder"),
        open_data_folder(load_settings({"data": tmp_path / "file" / "data"})),
    ):
        pass


def test_a_given_key_is_taken_at_the_first_start_only(tmp_path: Path) -> None:
    given, other = PrivateKey(b"1" * 32), PrivateKey(b"2" * 32)

    assert load_or_make_key(tmp_path, given.to_pem()).seed == given.seed
    assert load_or_make_key(tmp_path, given.to_pem()).seed == given.seed
    with pytest.raises(DataFolderError, match="PFN_PRIVATE_KEY is not the key in"):
        load_or_make_key(tmp_path, other.to_pem())
    assert load_or_make_key(tmp_path).seed == given.seed


def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_text("hello")

    with pytest.raises(DataFolderError, match=r"node\.key holds no Ed25519 private key"):
        load_or_make_key(tmp_path)


def test_a_secret_is_never_written_over_another(tmp_path: Path) -> None:
    write_secret(tmp_path / "secret", "first")

    with pytest.raises(DataFolderError, match="not overwritten"):
        write_secret(tmp_path / "secret", "second")

    assert (tmp_path / "secret").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_copies_of_secrets_that_could_not_be_removed_go_at_the_next_start(tmp_path: Path) -> None:
    key = opened(tmp_path).key
    others = [tmp_path / name for name in ("node.key.backup", "node.db.0a1b2c3d", "node.key.0A1B2C3D")]
    unfinished = [tmp_path / f"{name}.0a1b2c3d" for name in ("node.key", "node-next.key", "node-succession.json")]
    for file in (*others, *unfinished):
        file.write_text(key.to_pem())

    assert opened(tmp_path).key.public == key.public

    assert all(file.exists() for file in others) and not any(file.exists() for file in unfinished)


def opened(path: Path) -> DataFolder:
    with open_data_folder(load_settings({"data": path})) as folder:
        return folder


def test_a_secret_outlasts_a_power_cut_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[Path, bool]] = []
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        flush(descriptor)
        flushed.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), (tmp_path / "secret").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_secret(tmp_path / "secret", "words")

    assert flushed[-1] == (tmp_path, True), "the folder, once the name stands in it"


def test_a_node_tells_of_its_next_key_until_that_takes_over(tmp_path: Path) -> None:
    old = opened(tmp_path)
    assert old.key_statements == ()

    following = make_next_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "node-next.key").stat().st_mode) == 0o600
    with pytest.raises(DataFolderError, match="not overwritten"):
        make_next_key(tmp_path)
    assert opened(tmp_path).key_statements == (commit_to(following.public),)

    with open_data_folder(load_settings({"data": tmp_path})) as folder:
        assert succeed(folder, "main").seed == following.seed
    new = opened(tmp_path)
    assert new.key.seed == following.seed and new.successor is None and new.succession is not None
    check_succession(new.succession, new.key.public, "main")
    assert PrivateKey.from_pem((tmp_path / "node-former.key").read_text()).seed == old.key.seed
    with pytest.raises(DataFolderError, match=r"there is no node-next\.key"):
        succeed(new, "main")

    make_next_key(tmp_path)
    with open_data_folder(load_settings({"data": tmp_path})) as folder:
        succeed(folder, "main")
    again = opened(tmp_path)
    assert again.succession is not None and again.succession.old_key == new.key.public


def test_a_key_that_was_followed_does_not_come_back_from_an_old_backup(tmp_path: Path) -> None:
    old = opened(tmp_path)
    following = make_next_key(tmp_path)
    with open_data_folder(load_settings({"data": tmp_path})) as folder:
        succeed(folder, "main")
    (tmp_path / "node.key").write_text(old.key.to_pem())

    with pytest.raises(DataFolderError, match=f"is the key that {did_key(following.public)} has followed"):
        opened(tmp_path)

    (tmp_path / "node.key").write_text(following.to_pem())
    assert opened(tmp_path).key.seed == following.seed


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_succession_that_was_cut_off_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    old = opened(tmp_path)
    following = make_next_key(tmp_path)
    left = [None] * renames
    really = os.replace

    def cut_off(source: Path, target: Path) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        really(source, target)

    with monkeypatch.context() as patch, open_data_folder(load_settings({"data": tmp_path})) as folder:
        patch.setattr(os, "replace", cut_off)
        if renames < 2:
            with pytest.raises(KeyboardInterrupt):
                succeed(folder, "main")
            if renames == 1:  # nor does anybody else make a third key meanwhile
                with pytest.raises(DataFolderError, match=r"node\.key is missing beside node-next\.key"):
                    load_or_make_key(tmp_path)
        else:
            succeed(folder, "main")

    new = opened(tmp_path)
    assert new.key.seed == following.seed
    assert new.succession is not None and new.succession.old_key == old.key.public
    assert PrivateKey.from_pem((tmp_path / "node-former.key").read_text()).seed == old.key.seed
    assert not (tmp_path / "node-next.key").exists()


def test_what_another_key_signed_is_not_told(tmp_path: Path) -> None:
    opened(tmp_path)
    make_next_key(tmp_path)
    with open_data_folder(load_settings({"data": tmp_path})) as folder:
        succeed(folder, "main")
    (tmp_path / "node.key").unlink()

    assert opened(tmp_path).key_statements == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"old": 1, "new": "", "signature": ""}'])
def test_a_succession_that_cannot_be_read_stops_the_start_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "node-succession.json").write_text(text)

    with pytest.raises(DataFolderError, match=r"node-succession\.json cannot be read"):
        opened(tmp_path)
