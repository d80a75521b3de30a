"""Whose word backs bytes, between real processes: what a newcomer reports is listed, and served only once it is backed.

In every test the newcomer joined the elder, so the newcomer trusts the elder and nobody trusts the newcomer. The
author has one plugin and one theme, and what holds for the one has to hold for the other.
"""

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pfn_node.cli.client import ApiError, NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from tests.end_to_end.conftest import download, eventually, follow, row_of
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn

PLUGIN, THEME = "harbour-light", "evening-sky"
TYPES = {PLUGIN: "plugin", THEME: "theme"}
Rows = dict[str, dict[str, Any]]


def write_theme(folder: Path, slug: str, version: str) -> None:
    """Write or overwrite one theme folder: all that WordPress asks of one."""
    theme = folder / slug
    theme.mkdir(parents=True, exist_ok=True)
    (theme / "style.css").write_text(
        f"/*\nTheme Name: {slug.replace('-', ' ').title()}\nVersion: {version}\n"
        "Description: One column of text.\nTags: one-column\nLicense: GPL-3.0\n*/\nbody { max-width: 40em; }\n"
    )
    (theme / "index.php").write_text("<?php get_header(); the_content(); get_footer();\n")


async def publish(mesh: LocalMesh, folder: Path, profile: str) -> LocalProcess:
    """A publisher whose author `dan` has a plugin and a theme."""
    write_plugin(folder, PLUGIN, "1.0")
    write_theme(folder, THEME, "1.0")
    return await mesh.start_publisher(folder, "dan", profile)


async def mirrored_by(client: NodeClient, publisher: LocalProcess) -> str:
    """Let a node mirror the author, unsigned releases too; answers the source id."""
    source = await follow(client, publisher, "dan")
    await client.post("update-source", {"sourceId": source, "allow_unsigned": True})
    answer = await client.post("subscribe", {"sourceId": source})
    assert answer["syncResult"]["mirroredCount"] == len(TYPES), answer["syncResult"]["skipped"]
    return source


async def listed(client: NodeClient, source: str, assurance: str) -> Rows:
    """Wait until both releases are listed with this assurance; answers their rows by slug."""
    rows: Rows = {}

    async def are_listed() -> bool:
        for slug in TYPES:
            rows[slug] = await row_of(client, source, slug) or {}
        return all(row.get("assurance") == assurance for row in rows.values())

    await eventually(are_listed)
    assert {slug: row["type"] for slug, row in rows.items()} == TYPES
    return rows


async def refusal(client: NodeClient, source: str, slug: str) -> str:
    """The sentence of the 422 that a download gets."""
    status, answer = await download(client, source, slug)
    assert status == 422, answer
    sentence: str = json.loads(answer)["error"]
    return sentence


async def assert_served(client: NodeClient, source: str, rows: Rows) -> None:
    """Both are served, and the bytes are those that these rows name."""
    for slug, row in rows.items():
        status, content = await download(client, source, slug)
        assert (status, sha256(content).hexdigest()) == (200, row["sha256"]), slug


def serves_both(client: NodeClient, source: str) -> Callable[[], Awaitable[bool]]:
    async def serves() -> bool:
        return all([(await download(client, source, slug))[0] == 200 for slug in TYPES])

    return serves


async def test_what_only_a_newcomer_saw_is_reported_and_the_422_says_what_would_back_it(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    publisher = await publish(mesh, tmp_path / "plugins", "none")
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    source = await mirrored_by(newcomer, publisher)
    await publisher.kill()
    newcomer_id = (await newcomer.get("health"))["node_id"]

    rows = await listed(elder, source, "reported")
    sentences = [await refusal(elder, source, slug) for slug in TYPES]

    for row in rows.values():
        assert (row["backed"], row["backed_by"], row["mirrored"]) == (False, None, False)
        assert row["reported_by"] == [newcomer_id]
    for sentence in sentences:
        for part in (newcomer_id, "pins one of those nodes", "at the publisher itself", "signed v2 release"):
            assert part in sentence
    assert (await elder.get("plugins", source=source, min_assurance="A0"))["plugins"] == []
    assert (await elder.get("verify", sourceId=source, plugin=PLUGIN))["valid"] is False

    await elder.post("peers", {"action": "pin", "node_id": newcomer_id})
    await eventually(serves_both(elder, source))
    pinned = await listed(elder, source, "A0")
    assert [row["backed_by"] for row in pinned.values()] == ["pin", "pin"]
    await assert_served(elder, source, rows)

    # What is held by then stays, with the evidence that brought it: a pin that ends takes no plugin away.
    await elder.post("peers", {"action": "unpin", "node_id": newcomer_id})
    await assert_served(elder, source, rows)


async def test_the_node_looks_for_itself_while_the_publisher_is_up(mesh: LocalMesh, tmp_path: Path) -> None:
    publisher = await publish(mesh, tmp_path / "plugins", "original")
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    source = await mirrored_by(newcomer, publisher)
    reported = await listed(elder, source, "reported")

    await assert_served(elder, source, reported)

    rows = await listed(elder, source, "A1")
    assert [row["backed_by"] for row in rows.values()] == ["self", "self"]
    await publisher.kill()
    await assert_served(elder, source, reported)


async def test_a_v2_release_backs_a_newcomers_bytes_where_the_key_is_known_and_only_there(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    publisher = await publish(mesh, tmp_path / "plugins", "v2")
    knows, knows_not = await mesh.start_node(), await mesh.start_node()
    newcomer = await mesh.start_node(join=[knows.node, knows_not.node])
    await follow(knows, publisher, "dan")  # verified, but nobody subscribes to it there
    source = await mirrored_by(newcomer, publisher)
    await publisher.kill()

    signed = await listed(knows, source, "A3")
    reported = await listed(knows_not, source, "reported")

    for slug, row in signed.items():
        assert (row["backed_by"], row["sha256"]) == ("release", reported[slug]["sha256"])
        await refusal(knows_not, source, slug)
    await assert_served(knows, source, signed)
    assert (await knows.get("verify", sourceId=source, plugin=THEME))["valid"] is True


async def test_a_statement_that_the_author_hands_in_backs_what_was_only_reported(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    publisher = await publish(mesh, tmp_path / "plugins", "none")
    elder = await mesh.start_node()
    newcomer = await mesh.start_node(join=[elder.node])
    source = await mirrored_by(newcomer, publisher)
    reported = await listed(elder, source, "reported")
    statements = [await signed_offline(mesh, publisher, newcomer, source, slug) for slug in TYPES]

    with pytest.raises(ApiError, match="key") as unknown_key:
        await elder.post("releases", statements[0])
    # Wanting it makes the node ask for a proof, so the key is known from here on; nothing is signed at the publisher.
    sentences = [await refusal(elder, source, slug) for slug in TYPES]
    accepted = [await elder.post("releases", statement) for statement in statements]

    assert unknown_key.value.status == 422
    assert all("hands in a signed v2 release" in sentence for sentence in sentences)
    assert accepted == [{"accepted": True, "assurance": "A3"}] * 2
    rows = await listed(elder, source, "A3")
    assert [row["backed_by"] for row in rows.values()] == ["release", "release"]
    await publisher.kill()
    await assert_served(elder, source, reported)


async def signed_offline(
    mesh: LocalMesh, publisher: LocalProcess, holder: NodeClient, source: str, slug: str
) -> dict[str, str]:
    """What the author makes of a zip with `pfn publisher sign`, with the keys in the publisher's data folder."""
    file = mesh.folder / f"{slug}.zip"
    file.write_bytes((await download(holder, source, slug))[1])
    keys = str(mesh.folder / "publisher-dan")
    done = await pfn("publisher", "sign", str(file), "--author", "dan", "--origin", publisher.url, "--data", keys)
    assert done.returncode == 0, done.stderr
    statement: dict[str, str] = json.loads(done.stdout)
    return statement


async def test_a_node_that_named_another_with_join_serves_what_that_one_saw(mesh: LocalMesh, tmp_path: Path) -> None:
    publisher = await publish(mesh, tmp_path / "plugins", "none")
    elder = await mesh.start_node()
    source = await mirrored_by(elder, publisher)
    await publisher.kill()
    newcomer = await mesh.start_node(join=[elder.node])

    rows = await listed(newcomer, source, "A0")

    assert [(row["backed_by"], row["mirrored"]) for row in rows.values()] == [("pin", False)] * 2
    await assert_served(newcomer, source, rows)
