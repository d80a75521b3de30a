"""Nodes by name on a network inside the process that serve one release to `pfn get`, each true or false in its own way.

The release is carol's of tests/protocol/bundles.py, whose evidence is real.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_node.outbound import Outbound
from pfn_protocol.evidence_bundle import EvidenceBundle, write_bundle
from tests.node.fake_outbound import Answer, FakeNetwork, Request, Slow
from tests.protocol import bundles
from tests.protocol.bundles import ALICE, BOB, CAROL, DORA, ERIN, ZIP, attests, bound, head, released, saw

PLUGIN = "carol@publisher.example/hello"


def of_now(**fields: Any) -> EvidenceBundle:
    """A bundle whose head and attestations are fresh by the clock of this machine."""
    now_ms = time.time_ns() // 1_000_000
    made = {
        "evidence": (released(), bound(CAROL, DORA), head(expires_s=now_ms // 1_000 + 86_400)),
        "witnesses": tuple(saw(node, seq=now_ms) for node in (ALICE, BOB, ERIN)),
        "attestations": tuple(attests(node, seq=now_ms) for node in (ALICE, BOB)),
    }
    return bundles.bundle(**(made | fields))


@dataclass
class LyingNode:
    """What it says of the release, and which bytes it gives: honest until a test changes a field."""

    document: dict[str, Any] | None = field(default_factory=lambda: write_bundle(of_now()))
    content: bytes = ZIP
    etag: str | None = None  # None: that of the honest bytes
    says: dict[str, Any] = field(default_factory=dict)  # beside the bundle
    cut_after: int | None = None  # bytes, after which the connection breaks
    verify_status: int = 200
    download_status: int = 200
    artifact_status: int = 200
    ranges: list[str] = field(default_factory=list)  # what was asked for

    def __call__(self, request: Request) -> Answer | Slow:
        if request.path == "/federation/verify":
            answer = {"yanked": None, "advisories": [], "bundle": self.document} | self.says
            return json.dumps(answer if self.verify_status == 200 else {"error": "No."}), self.verify_status, {}
        by_digest = request.path.startswith("/node/v1/artifacts/")
        status = self.artifact_status if by_digest else self.download_status
        return self._bytes(request) if status == 200 else ('{"error": "No."}', status, {})

    def _bytes(self, request: Request) -> Answer | Slow:
        etag = self.etag or f'"{bundles.RELEASE.sha256.hex()}"'
        start, status, headers = 0, 200, {"ETag": etag}
        asked = re.fullmatch("bytes=([0-9]+)-", request.headers.get("range", ""))
        if asked:
            self.ranges.append(asked[1])
        if asked and request.headers.get("if-range") == etag:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        body = self.content[start:]
        if self.cut_after is not None:
            return Slow((body[: self.cut_after],), 0, status, headers, breaks=True)
        return body, status, headers


@dataclass
class Room:
    """The network, and `pfn` in it."""

    network: FakeNetwork

    def node(self, name: str, **fields: Any) -> LyingNode:
        made = LyingNode(**fields)
        self.network.hosts[f"{name}.test"] = made
        return made

    def pfn(self, *arguments: str, nodes: Sequence[str] = ("one",)) -> tuple[int, dict[str, Any], str]:
        """Exit code, the answer, and what was complained of."""
        asked = [word for name in nodes for word in ("--node", f"http://{name}.test")]
        done = CliRunner().invoke(app, [*arguments, *asked, "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.stderr


def lying_room(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Room:
    """An empty network, and `folder` as where commands run."""
    network = FakeNetwork()
    monkeypatch.setattr("pfn_node.cli.get.Outbound", partial(Outbound, transport=network))
    monkeypatch.chdir(folder)
    return Room(network)
