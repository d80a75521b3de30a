"""What publishers say about keys and releases that are out, between real processes and the reference publisher.

In every test the newcomer joined the elder: the newcomer trusts the elder, the elder does not trust the newcomer. Both
follow the publisher themselves.
"""

import json
from pathlib import Path
from typing import Any

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

PLUGIN = "harbour-light"
THREE_DAYS = 72 * 3600


class Following:
    """A publisher whose author `dan` has one plugin, and nodes that mirror it."""

    def __init__(self, mesh: LocalMesh, publisher: LocalProcess, folder: Path) -> None:
        self.mesh = mesh
        self.publisher = publisher
        self.folder = folder
        self.source = ""

    async def sign(self, *words: str) -> dict[str, Any]:
        """`pfn publisher ...` in the publisher's own data folder."""
        data = str(self.mesh.folder / "publisher-dan")
        done = await pfn("publisher", *words, "--author", "dan", "--origin", self.publisher.url, "--data", data)
        assert done.returncode == 0, done.stderr.decode()
        signed: dict[str, Any] = json.loads(done.stdout)
        return signed

    async def release(self, client: NodeClient, *versions: str) -> None:
        """Lay versions out one after the other, and let the node mirror each."""
        for version in versions:
            write_plugin(self.folder, PLUGIN, version)
            await eventually(lambda version=version: offers(self.publisher, client, "dan", {PLUGIN: version}))  # type: ignore[misc]
            await self.mirror(client)

    async def mirror(self, client: NodeClient) -> None:
        self.source = self.source or await follow(client, self.publisher, "dan")
        answer = await client.post("subscribe", {"sourceId": self.source})
        assert answer["success"], answer

    async def row(self, client: NodeClient) -> dict[str, Any]:
        rows = (await client.get("plugins", source=self.source))["plugins"]
        return {} if not rows else dict(rows[0])

    async def version(self, client: NodeClient, version: str) -> dict[str, Any]:
        shown = await client.get(f"plugins/{self.source}/{PLUGIN}")
        return next(one for one in shown["releases"] if one["version"] == version)

    async def download(self, client: NodeClient, version: str | None = None) -> tuple[int, dict[str, str]]:
        url = client.url("download", sourceId=self.source, plugin=PLUGIN, version=version)
        reply = await client.outbound.fetch("GET", url, bytes_max=2**20, seconds_max=30)
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}


async def following(mesh: LocalMesh, tmp_path: Path) -> Following:
    folder = tmp_path / "plugins"
    write_plugin(folder, PLUGIN, "1.0")
    return Following(mesh, await mesh.start_publisher(folder, "dan"), folder)


async def test_a_yank_moves_the_newest_back_everywhere_and_the_version_is_still_had_by_name(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    dan = await following(mesh, tmp_path)
    for client in (elder, newcomer):
        await dan.mirror(client) if client is elder else await follow(client, dan.publisher, "dan")
    await dan.release(elder, "1.1")
    await dan.mirror(newcomer)
    await eventually(lambda: newest_is(dan, newcomer, "1.1"))

    signed = await dan.sign("yank", PLUGIN, "1.1", "--reason", "it eats posts")
    handed = await newcomer.post("notices", signed)

    assert handed["accepted"] == 1
    for client in (newcomer, elder):  # the elder hears of it over the mesh, from a node that it does not trust
        await eventually(lambda client=client: newest_is(dan, client, "1.0"))  # type: ignore[misc]
        yanked = await dan.version(client, "1.1")
        assert (yanked["yanked"], yanked["yanked_by"]) == ("it eats posts", "publisher")
        status, headers = await dan.download(client, "1.1")
        assert (status, headers["pfn-yanked"]) == (200, "it eats posts")
        assert "pfn-yanked" not in (await dan.download(client))[1]

    # The same again, and an older word, say nothing new.
    assert (await elder.post("notices", signed))["notices"][0]["outcome"] == "known"
    back = await dan.sign("yank", PLUGIN, "1.1", "--withdraw")
    await elder.post("notices", back)
    await eventually(lambda: newest_is(dan, newcomer, "1.1"))
    assert (await newcomer.post("notices", signed))["notices"][0]["outcome"] == "known"
    assert (await dan.row(newcomer))["version"] == "1.1"


async def newest_is(dan: Following, client: NodeClient, version: str) -> bool:
    return (await dan.row(client)).get("version") == version


async def test_a_strangers_yank_changes_nothing_and_a_pinned_nodes_does(mesh: LocalMesh, tmp_path: Path) -> None:
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    dan = await following(mesh, tmp_path)
    await dan.mirror(elder)
    await follow(newcomer, dan.publisher, "dan")
    await dan.release(elder, "1.1")
    await dan.mirror(newcomer)
    yank = {"sourceId": dan.source, "plugin": PLUGIN, "version": "1.1", "reason": "do not like it"}

    await newcomer.post("yank", yank)
    await eventually(lambda: said_of(elder, dan))

    said = (await elder.get("advisories", sourceId=dan.source))["notices"]
    assert [(one["about"], one["acts"]) for one in said] == [("1.1", False)]
    assert (await dan.row(elder))["version"] == "1.1"
    assert (await dan.row(newcomer))["version"] == "1.0"

    await newcomer.post("yank", {**yank, "withdrawn": True})
    await elder.post("yank", yank)
    await eventually(lambda: newest_is(dan, newcomer, "1.0"))
    yanked_by = (await dan.version(newcomer, "1.1"))["yanked_by"]
    assert yanked_by.startswith("did:key:")


async def said_of(client: NodeClient, dan: Following) -> bool:
    return bool((await client.get("advisories", sourceId=dan.source))["notices"])


async def test_a_new_key_is_taken_over_and_what_comes_after_it_cools_down(mesh: LocalMesh, tmp_path: Path) -> None:
    node = await mesh.start_node()
    dan = await following(mesh, tmp_path)
    await dan.mirror(node)
    before = await key_of(node, dan)

    await dan.sign("rotate", "--reason", "a new machine")
    await dan.release(node, "1.1")

    assert await key_of(node, dan) != before
    assert (await node.post("verify-source", {"sourceId": dan.source}))["success"]
    row = await dan.row(node)
    assert (row["version"], row["cooldown"]) == ("1.0", None)
    cooling = await dan.version(node, "1.1")
    assert cooling["assurance"] == "A3" and cooling["cooldown"] > THREE_DAYS
    status, headers = await dan.download(node, "1.1")
    assert (status, headers["pfn-cooldown"]) == (200, str(cooling["cooldown"]))
    assert (await dan.version(node, "1.0"))["assurance"] == "A3"  # the old key signed it before it was followed
    checked = await node.get("verify", sourceId=dan.source, plugin=PLUGIN, version="1.0")
    assert checked["valid"] and all(one["valid"] for one in checked["signatures"] if one["form"] == "metadata")
    activity = await node.get("activity", type="security")
    assert any("is followed by" in one["message"] for one in activity["activities"])

    await node.post("approve-release", {"sourceId": dan.source, "plugin": PLUGIN, "version": "1.1"})
    assert (await dan.row(node))["version"] == "1.1"


async def key_of(client: NodeClient, dan: Following) -> str:
    sources = await client.get("sources")
    return next(str(one["public_key"]) for one in sources if one["id"] == dan.source)


async def test_a_source_whose_key_is_revoked_is_refused_everywhere(mesh: LocalMesh, tmp_path: Path) -> None:
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    dan = await following(mesh, tmp_path)
    await dan.mirror(elder)
    await follow(newcomer, dan.publisher, "dan")
    await dan.mirror(newcomer)

    signed = await dan.sign("revoke", "identity", "--final", "--reason", "stolen")
    assert (await newcomer.post("notices", signed))["accepted"] == 1

    for client in (newcomer, elder):

        async def is_revoked(client: NodeClient = client) -> bool:
            return bool((await client.get("source-status", sourceId=dan.source))["status"] == "revoked")

        await eventually(is_revoked)
        assert (await dan.download(client, "1.0"))[0] == 410
        assert not (await client.get("verify", sourceId=dan.source, plugin=PLUGIN))["valid"]
        assert (await client.get("source-status", sourceId=dan.source))["trust_score"] == 0


async def test_an_advisory_is_shown_for_the_versions_that_it_names(mesh: LocalMesh, tmp_path: Path) -> None:
    node = await mesh.start_node()
    dan = await following(mesh, tmp_path)
    await dan.release(node, "1.0", "1.1")
    words = ("--summary", "a hole", "--severity", "high", "--affected", "..1.1", "--alias", "CVE-2026-1234")

    signed = await dan.sign("advise", PLUGIN, "DAN-1", *words)
    assert (await node.post("notices", signed))["accepted"] == 1

    (advisory,) = (await dan.version(node, "1.0"))["advisories"]
    assert (advisory["advisory_id"], advisory["severity"], advisory["by"]) == ("DAN-1", "high", "publisher")
    assert (await dan.version(node, "1.1"))["advisories"] == []
    assert (await dan.download(node, "1.0"))[1]["pfn-advisories"] == "DAN-1"
    assert "pfn-advisories" not in (await dan.download(node, "1.1"))[1]


async def test_what_was_taken_down_is_gone_until_the_admin_brings_it_back(mesh: LocalMesh, tmp_path: Path) -> None:
    node = await mesh.start_node()
    dan = await following(mesh, tmp_path)
    await dan.mirror(node)
    await dan.release(node, "1.1")
    which = {"sourceId": dan.source, "plugin": PLUGIN, "version": "1.1"}

    await node.post("takedown", {**which, "reason": "malware"})

    assert (await dan.download(node, "1.1"))[0] == 410
    assert (await dan.row(node))["version"] == "1.0"
    again = await node.post("subscribe", {"sourceId": dan.source})
    assert [one["slug"] for one in again["syncResult"]["skipped"]] == [PLUGIN]
    assert (await dan.download(node, "1.1"))[0] == 410

    await node.post("takedown", {**which, "withdrawn": True})
    assert (await dan.download(node, "1.1"))[0] == 200
