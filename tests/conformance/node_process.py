"""The program under test: one process, spoken to over HTTP only.

`CONFORMANCE_NODE_COMMAND` names another implementation to test; see README.md for what it must understand.
"""

import base64
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pfn_protocol.identity import parse_did_key
from tests.conformance.wire import Answer, ask

COMMAND = shlex.split(os.environ.get("CONFORMANCE_NODE_COMMAND", "")) or [sys.executable, "-m", "pfn_node"]
# The words of a reason are our own; that there is one is asked of everybody.
READS_WORDS = "CONFORMANCE_NODE_COMMAND" not in os.environ
READY_PREFIX = "listening on "
STOP_SECONDS_MAX = 15.0


@dataclass
class Node:
    """One node, and its operator's keys."""

    folder: Path
    flags: tuple[str, ...] = ("--allow-private-networks",)
    settings: Mapping[str, str] = field(default_factory=dict)  # environment
    master_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))  # "" = it has none
    url: str = ""
    key: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def start(self) -> None:
        """Start it, again at the same address if it ran before, and wait until it answers."""
        command = [*COMMAND, "serve", "--data", str(self.folder), "--port", str(self.port), *self.flags]
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PFN_")}
        master_key = {"PFN_MASTER_KEY": self.master_key} if self.master_key else {}
        environment = inherited | master_key | dict(self.settings)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith(READY_PREFIX), f"{line!r}\n{self.log.read_text(errors='replace')[-2000:]}"
        self.url = line.removeprefix(READY_PREFIX).strip()
        if self.master_key and not self.key:
            made = self.post("create-admin-key", {"description": "conformance"}, key=self.master_key)
            self.key = made.json["key"]

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it; kill it if it does not."""
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def id(self) -> bytes:
        """The node's key, as it says itself."""
        return parse_did_key(self.ask("GET", "/node/v1/info").json["node_id"])

    def ask(self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request."""
        return ask(self.host, self.port, method, target, headers=headers, body=body)

    def get(self, call: str, *, key: str = "", headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """GET /federation/<call>; without a key unless one is given."""
        return self.ask("GET", _target(call, query), headers={**bearer(key), **(headers or {})})

    def head(self, call: str, **query: Any) -> Answer:
        return self.ask("HEAD", _target(call, query))

    def post(self, call: str, body: object, *, key: str | None = None) -> Answer:
        """POST JSON to /federation/<call>, with the admin's key unless another one is given."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", f"/federation/{call}", headers=bearer(self.key if key is None else key), body=raw)

    def make_key(self, **wanted: object) -> dict[str, Any]:
        """A fresh API key."""
        made: dict[str, Any] = self.post(
            "create-admin-key", {"description": "another", **wanted}, key=self.master_key
        ).json
        return made

    def download(self, source: str, plugin: str, version: str = "", *, key: str = "") -> Answer:
        asked: dict[str, Any] = {"sourceId": source, "plugin": plugin} | ({"version": version} if version else {})
        return self.get("download", key=key, **asked)

    def rows(self, source: str, **query: Any) -> dict[str, dict[str, Any]]:
        """What it lists of a source, by slug."""
        return {row["plugin_id"]: row for row in self.get("plugins", source=source, limit=100, **query).json["plugins"]}

    def plugin(self, source: str, slug: str) -> Answer:
        return self.ask("GET", f"/federation/plugins/{quote(source, safe='')}/{slug}")

    def artifact(self, sha256: str) -> Answer:
        """What other nodes get for a digest."""
        return self.ask("GET", f"/node/v1/artifacts/{sha256}")

    def activity(self) -> list[dict[str, Any]]:
        """What the operator is told, newest first."""
        found: list[dict[str, Any]] = self.get("activity", key=self.key, limit=100).json["activities"]
        return found

    def is_well(self) -> bool:
        return self.ask("GET", "/healthz").status == 200


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _target(call: str, query: Mapping[str, object]) -> str:
    return f"/federation/{call}" + (f"?{urlencode(query)}" if query else "")
