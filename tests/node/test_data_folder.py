"""The node's folder: one process at a time, one key for ever."""

import stat
from pathlib import Path

import pytest

from pfn_node.data_folder import DataFolderError, load_or_make_key, open_data_folder, write_secret
from pfn_node.settings import load_settings
from pfn_protocol.identity import PrivateKey


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
