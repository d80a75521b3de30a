"""What the unzippers of those who install plugins make of a zip: where they disagree, the gate refuses it.

Read with those that are on this machine: Python's zipfile, WordPress' PclZip (in PHP, on sites without ZipArchive, and
where ZipArchive finds fault with a zip), and Info-ZIP's unzip (Composer).
"""

import base64
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pfn_node.archive import ArchiveRefused, inspect
from tests.node.test_archive import TOOL_ZIPS
from tests.node.zip_forge import EVIL, FILE, Forged, asi_field, forge, main_file, with_hidden_zip

PCLZIP = Path("/usr/share/wordpress/wp-admin/includes/class-pclzip.php")
READ_AS_WORDPRESS_DOES = """
require $argv[1];
$read = (new PclZip($argv[2]))->extract(PCLZIP_OPT_EXTRACT_AS_STRING);
if (!is_array($read)) { exit(9); }
$files = [];
foreach ($read as $file) { if (!$file['folder']) { $files[$file['filename']] = base64_encode($file['content']); } }
echo json_encode($files, JSON_FORCE_OBJECT);
"""
Files = dict[str, bytes]


def by_python(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        # Python takes names without the mark of UTF-8 for those of DOS; nobody else here does.
        return {
            info.filename if info.flag_bits & 0x800 else info.filename.encode("cp437").decode(): archive.read(info)
            for info in archive.infolist()
            if not info.is_dir()
        }


def by_pclzip(path: Path) -> Files | None:
    """None: it knows nothing of zip64, and says so."""
    if shutil.which("php") is None or not PCLZIP.exists():
        pytest.skip("needs php and WordPress")
    command = ["php", "-d", "error_reporting=0", "-r", READ_AS_WORDPRESS_DOES, str(PCLZIP), str(path)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    if done.returncode == 9:
        return None
    return {name: base64.b64decode(data) for name, data in json.loads(done.stdout).items()}


def by_unzip(path: Path) -> Files:
    if shutil.which("unzip") is None:
        pytest.skip("needs unzip")
    target = path.parent / "unzipped"
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        ["unzip", "-qq", "-o", str(path), "-d", str(target)],
        check=True,
        capture_output=True,
        env=environment,
        timeout=60,
    )
    return {
        str(file.relative_to(target)): b"a link" if file.is_symlink() else file.read_bytes()
        for file in target.rglob("*")
        if file.is_symlink() or not file.is_dir()
    }


Reader = Callable[[Path], Files | None]

DISAGREED: dict[str, tuple[Reader, bytes]] = {
    "the first end record is another": (by_pclzip, with_hidden_zip(comment=b"0" * 40)),
    "a file is marked as a folder": (by_pclzip, forge([main_file(), Forged("forged/x", b"x", attributes=FILE | 0x10)])),
    "a file has a link's mode beside it": (
        by_unzip,
        forge([main_file(), Forged("forged/x", b"/etc", method=0, attributes=0, extra=asi_field(0o120777))]),
    ),
    "a name has a version of VMS": (by_unzip, forge([main_file(), Forged("forged/forged.php;1", EVIL)])),
}


@pytest.mark.parametrize("attack", DISAGREED)
def test_what_readers_disagree_about_is_refused(tmp_path: Path, attack: str) -> None:
    reader, data = DISAGREED[attack]
    path = tmp_path / "attack.zip"
    path.write_bytes(data)

    assert reader(path) not in (None, by_python(path))
    with pytest.raises(ArchiveRefused):
        inspect(path)


@pytest.mark.parametrize("reader", [by_pclzip, by_unzip], ids=lambda reader: reader.__name__)
def test_what_the_gate_accepts_from_real_tools_is_one_plugin_to_every_reader(tmp_path: Path, reader: Reader) -> None:
    for number, (tool, text) in enumerate(TOOL_ZIPS.items()):
        if not tool.endswith(".zip") or tool == "bsdtar-stream.zip":
            continue
        path = tmp_path / str(number) / "tool.zip"
        path.parent.mkdir()
        path.write_bytes(base64.b64decode(text))
        inspect(path)

        assert reader(path) in (None, by_python(path)), tool
