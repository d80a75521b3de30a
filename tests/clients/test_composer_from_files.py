"""The real Composer before an export that a plain file server gives away: no node, no publisher."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pfn_node.cli.local_mesh import LocalMesh
from tests.clients.conftest import need
from tests.clients.test_composer_client import PLUGIN, Project, Shop, open_shop
from tests.end_to_end.test_command_line import pfn
from tests.end_to_end.test_evidence_bundle import pfn_without_sockets

READY = "Serving HTTP on 127.0.0.1 port "


@pytest.fixture(autouse=True)
def composer_is_here() -> None:
    need("composer", "php", "unzip")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server that knows nothing but files; answers its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(READY), said
            yield f"http://127.0.0.1:{said.removeprefix(READY).split()[0]}"
        finally:
            process.kill()


async def exported(shop: Shop, folder: Path, url: str) -> dict[str, Any]:
    done = await pfn("export", "--to", str(folder), "--data", str(shop.data), "--url", url, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_composer_installs_from_files_when_node_and_publisher_are_dead(mesh: LocalMesh, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    key = tmp_path / "dan.pem"
    info = await shop.client.outbound.fetch(
        "GET", f"{shop.publisher.url}/federation-info", bytes_max=99_999, seconds_max=9
    )
    key.write_text(json.loads(info.body)["publicKey"])
    with served(tmp_path / "cdn") as url:
        folder = tmp_path / "cdn" / "pfn"
        first = await exported(shop, folder, f"{url}/pfn")  # while the node runs
        await mesh.nodes[0].kill()
        await shop.publisher.kill()
        again = await exported(shop, folder, f"{url}/pfn")  # after it was killed

        project = Project.of(tmp_path / "site", f"{url}/pfn")
        await project.must("require", f"{shop.name}:1.0.0")
        assert project.installed(shop.name) == "1.0.0"
        await project.must("require", f"{shop.name}:^1.0")
        assert project.installed(shop.name) == "1.1.0"
        assert shop.name in await project.must("search", "harbour")
        assert (await project.composer("audit")).returncode == 0
        missing = await project.composer("require", "pfn/nobody--nothing")
        assert missing.returncode != 0 and "nothing" in missing.stderr.decode()

        reference = project.locked()["dist"]["reference"]
        (zip_file,) = folder.glob(f"composer/mirror/{shop.name}/*/{reference}.zip")
        (evidence,) = folder.glob(f"evidence/{shop.name}/*/{reference}.json")
        proof = await pfn_without_sockets(
            tmp_path / "alone", "verify", str(zip_file), "--evidence", str(evidence), "--key", str(key)
        )
        assert proof.returncode == 0, proof.stderr

        zip_file.write_bytes(zip_file.read_bytes().replace(b"harbour-light/readme.txt", b"harbour-light/evil12.php"))
        refused = await Project.of(tmp_path / "victim", f"{url}/pfn").composer("require", shop.name)
        assert refused.returncode != 0
        assert "checksum verification of the file failed" in refused.stderr.decode()

    checked = await pfn_without_sockets(tmp_path / "alone", "export", "--check", str(folder), "--json")
    wrong = {one["path"]: one["what"] for one in json.loads(checked.stdout)["wrong"]}
    # The zip has a second name, for WordPress: it is one file.
    assert wrong == {
        zip_file.relative_to(folder).as_posix(): "changed",
        f"download/plugin/{PLUGIN}.1.1.0.zip": "changed",
    }
    assert checked.returncode == 1
    assert first["written"] > 10 and again["written"] == again["removed"] == 0
