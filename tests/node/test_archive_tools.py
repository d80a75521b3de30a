"""Zips of tools that are on this machine, of ten thousand files, and as macOS writes them: all are accepted.

What other tools wrote elsewhere lies in tests/data/tool_zips.json (see test_archive.py). macOS is no machine that tests
run on: its zip is put together here as `ditto -c -k --sequesterRsrc --keepParent` (which the Finder calls) writes it.
"""

import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from pfn_node.archive import inspect
from tests.node.archive_measuring import MEMORY_BYTES_MAX, SECONDS_MAX
from tests.node.attack_zips import many
from tests.node.test_archive import FILES
from tests.node.test_archive_attacks import measure
from tests.node.zip_forge import FOLDER, Forged, descriptor, forge, main_file

MANY = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The plugin of test_archive.py, unpacked."""
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def _commit(folder: Path) -> str:
    options = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *options, "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", *options, "commit", "-q", "-m", "all"], cwd=folder, check=True)
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}")


@needs("git")
@pytest.mark.parametrize("level", ["-0", "-9"])
def test_what_git_archives_and_what_is_downloaded_from_github_is_accepted(folder: Path, level: str) -> None:
    """GitHub serves `git archive` of a commit under the folder repository-tag; the comment names the commit."""
    plugin = folder / "tiny-plugin"
    commit = _commit(plugin)
    made = folder / "made.zip"

    subprocess.run(
        ["git", "archive", "--format=zip", level, "--prefix=tiny-plugin-1.2.3/", "-o", str(made), commit],
        cwd=plugin,
        check=True,
    )

    assert zipfile.ZipFile(made).comment == commit.encode()
    facts = inspect(made)
    assert (facts.folder, facts.version, facts.files) == ("tiny-plugin-1.2.3", "1.2.3", 4)


@needs("jar")
@pytest.mark.parametrize("options", ["cMf", "cM0f"])
def test_what_java_packs_is_accepted(folder: Path, options: str) -> None:
    subprocess.run(["jar", options, "made.zip", "tiny-plugin"], cwd=folder, check=True)

    assert inspect(folder / "made.zip").files == 4


@needs("perl")
@pytest.mark.parametrize("options", ["Zip64 => 1, Stream => 1", "Zip64 => 1", "Stream => 1", "Minimal => 1"])
def test_what_perl_packs_is_accepted(folder: Path, options: str) -> None:
    program = (
        f"use IO::Compress::Zip qw(zip); zip [glob 'tiny-plugin/*.php tiny-plugin/inc/*.txt'] => 'made.zip', {options}"
    )
    done = subprocess.run(["perl", "-e", program], cwd=folder, check=False, capture_output=True, text=True)
    if "Can't locate" in done.stderr:
        pytest.skip("needs IO::Compress::Zip")

    facts = inspect(folder / "made.zip")
    assert facts.files == len(FILES)


def test_what_the_finder_compresses_is_accepted(tmp_path: Path) -> None:
    times = struct.pack("<2H2L", 0x5855, 8, 1_700_000_000, 1_700_000_000)  # "UX", with who owns it before the data

    def entry(name: str, data: bytes = b"") -> Forged:
        is_folder = name.endswith("/")
        owned = struct.pack("<2H2L2H", 0x5855, 12, 1_700_000_000, 1_700_000_000, 501, 20)
        made = Forged(
            name, data, method=0 if is_folder else 8, attributes=(FOLDER | 0x4000) if is_folder else 0o100644 << 16
        )
        made.extra, made.local_extra = times, owned
        if not is_folder:
            made.flags, made.local_crc, made.local_packed, made.local_unpacked = 8, 0, 0, 0
            made.descriptor = descriptor(data, made.packed or 0)
        return made

    double = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(96)
    files = [
        entry("forged/"), entry("forged/.DS_Store", b"\0\0\0\1Bud1" + bytes(6140)),
        entry("__MACOSX/"), entry("__MACOSX/._forged", double),
        entry("__MACOSX/forged/"), entry("__MACOSX/forged/._.DS_Store", double),
        entry("forged/forged.php", main_file().data), entry("__MACOSX/forged/._forged.php", double),
        entry("forged/Icon\N{COMBINING ACUTE ACCENT}.png", bytes(100)),
    ]  # fmt: skip
    (tmp_path / "made.zip").write_bytes(forge(files))

    facts = inspect(tmp_path / "made.zip")

    assert (facts.folder, facts.version, facts.files) == ("forged", "1.0", 6)


def _ten_thousand(folder: Path) -> Path:
    """Twenty folders of five hundred small files with the names that real vendor folders have."""
    root = folder / "tiny-plugin"
    for number in range(MANY - len(FILES)):
        part = root / f"vendor/some-author/some-library/src/Component{number % 20}/Internal"
        if number < 20:
            part.mkdir(parents=True)
        (part / f"AbstractFactoryOfSomething{number}.php").write_text(f"<?php return {number};\n")
    return root


@needs("zip")
def test_ten_thousand_files_are_accepted_from_every_tool_and_cost_little(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root, made = _ten_thousand(folder), tmp_path_factory.mktemp("made")
    subprocess.run(["zip", "-qrD", str(made / "zip.zip"), "tiny-plugin"], cwd=folder, check=True)
    with zipfile.ZipFile(made / "python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    (made / "of nothing but names.zip").write_bytes(many(MANY - 1, lambda number: f"forged/{number}/" + "n" * 190))

    measured = {row.pop("zip"): row for row in measure(made)}

    assert {name: row["reason"] for name, row in measured.items()} == dict.fromkeys(
        ("zip", "python", "of nothing but names")
    )
    assert [row for row in measured.values() if row["seconds"] > SECONDS_MAX or row["bytes"] > MEMORY_BYTES_MAX] == []
