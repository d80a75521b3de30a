"""The real Composer against a real node that follows a real publisher: no packagist, no network but loopback."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from tests.clients.conftest import need
from tests.clients.lying_node import lying_node
from tests.end_to_end.conftest import eventually, follow, offers, row_of
from tests.end_to_end.plugins import write_plugin

PLUGIN = "harbour-light"
SECONDS_MAX = 120


@pytest.fixture(autouse=True)
def composer_is_here() -> None:
    need("composer", "php", "unzip")


@dataclass
class Project:
    """A folder with a composer.json that knows one repository: a node."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, node: str) -> "Project":
        (folder / "project").mkdir(parents=True)
        described = {
            "name": "test/site",
            "repositories": [{"type": "composer", "url": f"{node}/composer"}, {"packagist.org": False}],
            "provide": {"composer/installers": "2.3.0"},  # it is at packagist; without it files land in vendor/
            "config": {"secure-http": False},
        }
        (folder / "project" / "composer.json").write_text(json.dumps(described))
        return cls(folder)

    async def composer(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run Composer to its end, with a home and a cache of its own."""
        private = {"COMPOSER_HOME": "home", "COMPOSER_CACHE_DIR": "cache"}
        environment = {name: str(self.folder / folder) for name, folder in private.items()}
        environment |= {"COMPOSER_ALLOW_SUPERUSER": "1", "COMPOSER_NO_INTERACTION": "1"}
        with trio.fail_after(SECONDS_MAX):
            return await trio.run_process(
                ["composer", *words, "--no-ansi", "--no-plugins"],
                cwd=self.folder / "project",
                env=os.environ | environment,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )

    async def must(self, *words: str) -> str:
        """Run Composer, which has to succeed; its stdout."""
        done = await self.composer(*words)
        assert done.returncode == 0, f"composer {' '.join(words)}: {done.stdout.decode()}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def installed(self, name: str) -> str | None:
        """The version in the plugin's own file, None where there is none."""
        file = self.folder / "project" / "vendor" / name / f"{PLUGIN}.php"
        if not file.exists():
            return None
        return file.read_text().partition("Version: ")[2].partition("\n")[0]

    def locked(self) -> dict[str, Any]:
        (package,) = json.loads((self.folder / "project" / "composer.lock").read_text())["packages"]
        found: dict[str, Any] = package
        return found


@dataclass
class Shop:
    """A node that mirrors 1.0.0 and 1.1.0 of a plugin, its publisher, and the plugin's name for Composer."""

    client: NodeClient
    publisher: LocalProcess
    source: str
    name: str
    data: Path


async def open_shop(mesh: LocalMesh, folder: Path) -> Shop:
    plugins = folder / "plugins"
    write_plugin(plugins, PLUGIN, "1.0.0")
    publisher = await mesh.start_publisher(plugins, "dan")
    client = await mesh.start_node()
    source = await follow(client, publisher, "dan")
    for version in ("1.0.0", "1.1.0"):
        write_plugin(plugins, PLUGIN, version)
        await eventually(lambda version=version: offers(publisher, client, "dan", {PLUGIN: version}))  # type: ignore[misc]
        answer = await client.post("subscribe", {"sourceId": source})
        assert answer["success"], answer
    row = await row_of(client, source, PLUGIN)
    assert row is not None and row["version"] == "1.1.0"
    return Shop(client, publisher, source, row["composer_name"], mesh.folder / mesh.nodes[0].name)


def artifact_file(shop: Shop, reference: str) -> Path:
    return shop.data / "artifacts" / reference[:2] / reference[2:]


async def test_composer_requires_upgrades_downgrades_and_finds_plugins(mesh: LocalMesh, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    project = Project.of(tmp_path / "site", mesh.nodes[0].url)

    assert shop.name in await project.must("search", "harbour")
    await project.must("require", f"{shop.name}:1.0.0")
    assert project.installed(shop.name) == "1.0.0"
    await project.must("require", f"{shop.name}:^1.0")
    assert project.installed(shop.name) == "1.1.0"
    assert project.locked()["dist"]["url"].startswith(shop.publisher.url)
    await project.must("require", f"{shop.name}:1.0.0")
    assert project.installed(shop.name) == "1.0.0"

    async def counts_three() -> bool:
        """What was told is counted in batches."""
        url = f"{mesh.nodes[0].url}/composer/search.json?q=harbour"
        reply = await shop.client.outbound.fetch("GET", url, bytes_max=2**20, seconds_max=30)
        return bool(json.loads(reply.body)["results"][0]["downloads"] == 3)

    await eventually(counts_three)
    missing = await project.composer("require", "pfn/nobody--nothing")
    assert missing.returncode != 0 and "nothing" in missing.stderr.decode()


async def test_composer_audit_shows_what_is_known_to_be_wrong_with_what_is_installed(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    project = Project.of(tmp_path / "site", mesh.nodes[0].url)
    await project.must("require", f"{shop.name}:1.0.0")
    assert "No security vulnerability advisories found" in (await project.composer("audit")).stderr.decode()
    advisory = {
        "sourceId": shop.source,
        "plugin": PLUGIN,
        "advisory_id": "PFN-2026-1",
        "severity": "high",
        "summary": "Anybody can switch off the light.",
        "ranges": [{"from": "1.0.0", "until": "1.1.0"}],
    }
    await shop.client.post("advisories", advisory)

    found = await project.composer("audit", "--format=json")
    await project.must("require", f"{shop.name}:1.1.0")
    well = await project.composer("audit")

    (shown,) = json.loads(found.stdout)["advisories"][shop.name]
    assert (found.returncode != 0, shown["advisoryId"]) == (True, "PFN-2026-1")
    assert shown["title"] == "Anybody can switch off the light."
    assert well.returncode == 0, well.stderr.decode()


async def test_what_is_yanked_is_not_chosen_and_a_lock_file_still_installs(mesh: LocalMesh, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    project = Project.of(tmp_path / "site", mesh.nodes[0].url)
    await project.must("require", f"{shop.name}:1.1.0")
    await shop.client.post("yank", {"sourceId": shop.source, "plugin": PLUGIN, "version": "1.1.0"})
    await shop.publisher.kill()
    other = Project.of(tmp_path / "other", mesh.nodes[0].url)

    await other.must("require", shop.name)
    lock = (tmp_path / "site" / "project" / "composer.lock").read_text()
    third = Project.of(tmp_path / "third", mesh.nodes[0].url)
    third_json = (tmp_path / "site" / "project" / "composer.json").read_text()
    (tmp_path / "third" / "project" / "composer.json").write_text(third_json)
    (tmp_path / "third" / "project" / "composer.lock").write_text(lock)
    await third.must("install")

    assert (other.installed(shop.name), third.installed(shop.name)) == ("1.0.0", "1.1.0")


async def test_the_node_stands_in_for_a_dead_publisher_and_never_gives_what_its_disk_made_of_a_zip(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await shop.publisher.kill()
    project = Project.of(tmp_path / "site", mesh.nodes[0].url)

    await project.must("require", shop.name)
    assert project.installed(shop.name) == "1.1.0"

    stored = artifact_file(shop, project.locked()["dist"]["reference"])
    stored.write_bytes(tampered(stored.read_bytes()))
    victim = Project.of(tmp_path / "victim", mesh.nodes[0].url)
    refused = await victim.composer("require", shop.name)

    assert refused.returncode != 0
    assert victim.installed(shop.name) is None
    assert "artifact_damaged" in mesh.nodes[0].log.read_text()


async def test_a_mirror_that_gives_other_bytes_is_refused_by_composer(mesh: LocalMesh, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    await shop.publisher.kill()  # else Composer has the zip from there
    honest = mesh.nodes[0].url

    def lie(path: str, body: bytes) -> bytes:
        if path.endswith(".zip"):
            return tampered(body)
        return body.replace(honest.encode(), lies.encode())

    with lying_node(honest, lie) as lies:
        victim = Project.of(tmp_path / "victim", lies)
        refused = await victim.composer("require", shop.name)

    assert refused.returncode != 0
    assert "checksum verification of the file failed" in refused.stderr.decode()
    assert victim.installed(shop.name) is None


def tampered(zipped: bytes) -> bytes:
    """Another file in the zip, at the same size."""
    return zipped.replace(b"harbour-light/readme.txt", b"harbour-light/evil12.php")
