"""What is left of files and folders when the disk fails for a moment."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pfn_node.durable_files import remove_folder


def test_a_folder_is_removed_though_reading_it_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "scratch"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "file").write_bytes(b"some")
    asked: list[Any] = []
    scandir = os.scandir

    def failing_once(path: Any) -> Any:
        asked.append(path)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing_once)
        remove_folder(folder)

    assert not folder.exists() and len(asked) == 3


def test_a_folder_that_is_not_there_needs_no_removing(tmp_path: Path) -> None:
    remove_folder(tmp_path / "nothing")
