"""The gate for zips refuses what could mean two things, or harm whoever unpacks it: one named attack per case."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from pfn_node.archive import ArchiveLimits, ArchiveRefused, inspect
from tests.node.archive_measuring import MEMORY_BYTES_MAX, SECONDS_MAX
from tests.node.attack_zips import ATTACKS, LARGE_ATTACKS, NAMES
from tests.node.zip_forge import Forged, forge, main_file

MEASURING_SECONDS_MAX = 120


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_with_their_reason(tmp_path: Path, attack: str) -> None:
    data, reason = ATTACKS[attack]
    path = tmp_path / "attack.zip"
    path.write_bytes(data)

    with pytest.raises(ArchiveRefused) as refused:
        inspect(path)

    assert refused.value.reason == reason
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_could_lead_or_look_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "attack.zip"
    path.write_bytes(forge([main_file(), Forged(name, b"x")]))

    with pytest.raises(ArchiveRefused, match=r"^name: "):
        inspect(path)


def test_a_file_that_grows_too_much_does_not_hide_beside_one_that_does_not(tmp_path: Path) -> None:
    path = tmp_path / "hidden.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as made:
        made.writestr("forged/forged.php", "<?php\n/*\nPlugin Name: Forged\nVersion: 1.0\n*/\n")
        made.writestr("forged/photo.bin", Random(1).randbytes(2**16))
        made.writestr("forged/bomb.bin", bytes(2**21))

    with pytest.raises(ArchiveRefused, match=r"^ratio: 'forged/bomb\.bin'"):
        inspect(path)


def test_the_limits_hold(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(forge([main_file(), *(Forged(f"forged/{n}", b"x") for n in range(9))]))

    assert inspect(path, limits=ArchiveLimits(entries_max=10)).files == 10
    with pytest.raises(ArchiveRefused, match=r"^entries: "):
        inspect(path, limits=ArchiveLimits(entries_max=9))
    with pytest.raises(ArchiveRefused, match=r"^size: "):
        inspect(path, limits=ArchiveLimits(unpacked_bytes_max=50))


def test_a_missing_file_is_an_operating_system_error_and_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "none.zip")


def test_every_attack_is_refused_within_a_second_of_work_and_sixteen_mebibytes(tmp_path: Path) -> None:
    """In processes of their own, which the kernel holds to that memory."""
    for name, (data, _) in ATTACKS.items():
        (tmp_path / f"{name}.zip").write_bytes(data)
    for number, name in enumerate(NAMES):
        (tmp_path / f"name {number}.zip").write_bytes(forge([main_file(), Forged(name, b"x")]))
    for name, (make, _) in LARGE_ATTACKS.items():
        (tmp_path / f"{name}.zip").write_bytes(make())
    expected = {name: reason for name, (_, reason) in (*ATTACKS.items(), *LARGE_ATTACKS.items())}
    expected |= {f"name {number}": "name" for number in range(len(NAMES))}

    measured = {row["zip"]: row for row in measure(tmp_path)}

    assert {name: row["reason"] for name, row in measured.items()} == expected
    assert [row for row in measured.values() if row["seconds"] > SECONDS_MAX] == []
    assert [row for row in measured.values() if row["bytes"] > MEMORY_BYTES_MAX] == []


def measure(folder: Path) -> list[dict[str, Any]]:
    # Counting lines would be measured as well.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.node.archive_measuring", str(folder)],
        capture_output=True,
        check=True,
        env=plain,
        timeout=MEASURING_SECONDS_MAX,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
