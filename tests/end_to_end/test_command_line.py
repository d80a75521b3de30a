"""The `pfn` command as a person or a script uses it: real processes, real exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from pfn_node.cli.local_mesh import LocalMesh
from tests.end_to_end.conftest import follow
from tests.end_to_end.plugins import write_plugin

PFN = (sys.executable, "-m", "pfn_node")


async def pfn(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end."""
    with trio.fail_after(180):
        return await trio.run_process(
            [*PFN, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )


async def test_the_demo_shows_the_main_job_and_ends_with_json() -> None:
    done = await pfn("demo", "--check")

    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads(done.stdout.decode().strip().splitlines()[-1])
    assert summary["nodes"] == 3
    assert summary["served_after_publisher_died"] is True
    assert summary["plugins"] >= 3 and len(summary["digest"]) == 64


async def test_a_second_process_on_the_same_data_exits_with_1(mesh: LocalMesh) -> None:
    await mesh.start_node()

    done = await pfn("serve", "--data", str(mesh.folder / "node-a"), "--port", "0")

    assert done.returncode == 1
    assert b"another process uses the data folder" in done.stderr


async def test_a_short_master_key_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    done = await pfn("serve", "--data", str(tmp_path), environment={"PFN_MASTER_KEY": "short"})

    assert done.returncode == 2
    assert b"fewer than 32 characters" in done.stderr


async def test_a_misspelt_variable_is_named_at_the_start(mesh: LocalMesh) -> None:
    await mesh.start_node(environment={"PFN_SYNC_SECOND": "5"})

    (line,) = [line for line in mesh.nodes[0].log.read_text().splitlines() if "setting_unknown" in line]

    assert "PFN_SYNC_SECOND" in line and "PFN_SYNC_SECONDS" in line


async def test_a_port_in_use_is_said_in_a_sentence(mesh: LocalMesh, tmp_path: Path) -> None:
    node = await mesh.start_node()
    port = node.node.rpartition(":")[2]

    done = await pfn("serve", "--data", str(tmp_path / "other"), "--port", port)

    assert done.returncode == 1
    assert b"in use" in done.stderr


async def test_an_imported_key_is_the_nodes_identity_and_is_never_overwritten(tmp_path: Path) -> None:
    shown = await pfn("identity", "show", "--data", str(tmp_path / "a"), "--json")
    pem = tmp_path / "key.pem"
    pem.write_bytes((tmp_path / "a" / "node.key").read_bytes())
    imported = await pfn("identity", "import", str(pem), "--data", str(tmp_path / "b"), "--json")
    again = await pfn("identity", "import", str(pem), "--data", str(tmp_path / "b"), "--json")

    assert shown.returncode == imported.returncode == 0
    assert json.loads(shown.stdout) == json.loads(imported.stdout)
    assert again.returncode == 1 and b"not overwritten" in again.stderr


async def test_sources_plugins_peers_and_keys_are_worked_from_the_command_line(mesh: LocalMesh, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "night-lamp", "1.0")
    write_plugin(plugins, "day-lamp", "2.0", tags=("daylight",))
    publisher = await mesh.start_publisher(plugins, "ada")
    a = await mesh.start_node()
    key = a.headers["Authorization"].removeprefix("Bearer ")
    where = {"PFN_NODE": a.node, "PFN_KEY": key}
    source = await follow(a, publisher, "ada")

    subscribed = await pfn("sources", "subscribe", source, "--tag", "tools", "--json", environment=where)
    listed = await pfn("plugins", "--json", environment=where)
    target = tmp_path / "night-lamp.zip"
    downloaded = await pfn("plugins", "download", source, "night-lamp", "-o", str(target), "--json", environment=where)
    nowhere = await pfn(
        "plugins", "download", source, "night-lamp", "-o", str(tmp_path / "no" / "x"), environment=where
    )
    verified = await pfn("verify", str(target), "--json", environment=where)
    target.write_bytes(b"PK\x03\x04 something else")
    forged = await pfn("verify", str(target), environment=where)
    shown = await pfn("plugins", "show", source, "night-lamp", environment=where)
    sources = await pfn("sources", environment=where)
    status = await pfn("status", "--json", environment=where)
    detailed = await pfn("sources", "show", source, environment=where)
    unknown = await pfn("plugins", "download", source, "no-such-plugin", environment=where)
    peers = await pfn("peers", "--json", environment=where)
    keys = await pfn("keys", "--json", environment=where)
    refused = await pfn("sources", "subscribe", "nobody@nowhere.example", environment=where)
    made = await pfn(
        "keys", "create", "ci", "--scope", "read", "--json", environment={**where, "PFN_MASTER_KEY": mesh.master_key}
    )

    assert json.loads(subscribed.stdout)["syncResult"]["mirroredCount"] == 1, subscribed.stderr
    assert [row["plugin_id"] for row in json.loads(listed.stdout)["plugins"]] == ["night-lamp"]
    assert json.loads(downloaded.stdout)["file"] == str(target), downloaded.stderr
    assert nowhere.returncode == 1 and b"No such file or directory" in nowhere.stderr
    assert b"Traceback" not in nowhere.stderr
    assert json.loads(verified.stdout)["valid"] is True
    assert forged.returncode == 1
    assert b"night-lamp" in shown.stdout
    assert b"ada@" in sources.stdout
    assert json.loads(status.stdout)["node_id"].startswith("did:key:")
    assert json.loads(peers.stdout)["peers"] == []
    assert source in detailed.stdout.decode() or b"verifications" in detailed.stdout
    assert unknown.returncode == 1 and b"HTTP 4" in unknown.stderr
    assert keys.returncode == 0 and b"fadmin_" not in keys.stdout
    assert refused.returncode == 1 and b"pfn: " in refused.stderr
    assert json.loads(made.stdout)["scopes"] == ["read"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_node_stops_in_two_seconds_with_an_open_event_stream(mesh: LocalMesh, number: int) -> None:
    a = await mesh.start_node()
    host, _, port = a.node.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    request = f"GET /federation/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: {a.headers['Authorization']}\r\n\r\n"
    await stream.send_all(request.encode())
    assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
    process = mesh.nodes[0].process
    assert process is not None

    started = trio.current_time()
    process.send_signal(number)
    status = await process.wait()

    assert status == 0
    assert trio.current_time() - started < 2.0
    await stream.aclose()
