"""Requests a second of the node, against a bare "hello" on stock hypercorn with Trio, and against an almost empty node.

Sixteen connections that stay open, in a process of their own. Each round asks every server every kind of question in
turn, so that all share what else the machine does; a ratio is the median of the rounds'. Beside the ratio by the clock
stands that by the processor time of the server, which is the same however busy the machine is.

`cached` is asked again and again; of `dynamic` no question comes back within what is kept of the first (seconds, until
the next commit); only what other sites were told of the same plugin is kept until then, so with commits all the time
update-check is slower. Set PFN_PLUGIN_FACTS to a file of facts of real plugins; else they are made up
(catalogue_facts.py).

The almost empty node has as many rows as fill the same pages: its answers are as long as those of the full one.
"""

import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import quote, urlencode

import sqlite_utils

from pfn_node.store import catalogue, facts
from pfn_node.store.queries import change, select
from tests.benchmarks import catalogue_facts
from tests.benchmarks.serving_processes import ServerProcess, running
from tests.benchmarks.wordpress import HEADERS, site_form
from tests.node.web_node import NODE

CONNECTIONS: Final = 16
SECONDS: Final = 0.7  # of each kind of question in each round
ROUNDS: Final = 7
SITE_PLUGINS: Final = 20
SITES: Final = 400  # of each plugin three of them ask
STATUS_SPELLINGS: Final = 16  # of each source's id: one question asked again in other bytes is made anew
SOURCES_SHOWN: Final = 20  # about what one page shows
EMPTY_SOURCES: Final = 20
EMPTY_PLUGINS: Final = 50
CACHED_BAR: Final = 10.0
DYNAMIC_BAR: Final = 0.7
UPDATES_BAR: Final = 0.4
SIZE_BAR: Final = 0.9

Row = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what has to come back."""

    name: str
    requests: list[str]
    bar: float
    status: int = 200
    of: str = "node"
    against: str = "bare"


@dataclass(frozen=True, slots=True)
class _Took:
    per_second: float
    per_processor_second: float


def run() -> list[Row]:
    """Measure; -> a row for each kind of question."""
    now = int(time.time())
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as name:
        folder = Path(name)
        listed = _prepare(folder / "node", lambda db: _fill(db, now))
        _prepare(folder / "empty", lambda db: _fill(db, now, EMPTY_SOURCES, EMPTY_PLUGINS))
        with (
            running("bare") as bare,
            running("node", str(folder / "node")) as node,
            running("node", str(folder / "empty")) as empty,
        ):
            servers = {"bare": bare, "node": node, "empty": empty}
            questions = _questions(servers, listed)
            rounds = [{(q.name, q.of): _measure(servers[q.of], q) for q in questions} for _ in range(ROUNDS)]
    return [_row(question, rounds) for question in questions if question.bar]


def _prepare(folder: Path, fill: Callable[[sqlite_utils.Database], None]) -> list[dict[str, Any]]:
    """Makes a node's folder; -> some of its plugins that may be installed."""
    folder.mkdir()
    db = sqlite_utils.Database(folder / "node.db", execute_plugins=False)
    db.conn.isolation_level = None
    db.execute("PRAGMA journal_mode = WAL")
    fill(db)
    listed = select(
        db,
        """
        SELECT p.source_id, p.plugin_id, s.instance_url FROM plugins AS p JOIN sources AS s ON s.id = p.source_id
        WHERE p.type = 'plugin' AND p.assurance_rank >= 2 ORDER BY p.id % 997, p.id LIMIT 5000
        """,
    )
    db.close()
    return listed


def _fill(
    db: sqlite_utils.Database, now: int, sources: int = catalogue_facts.SOURCES, plugins: int = catalogue_facts.PLUGINS
) -> None:
    catalogue_facts.load(db, now, sources, plugins)
    with db.atomic():
        facts.set_identity(db, NODE.public, 1)
        change(
            db,
            "INSERT OR IGNORE INTO package_facts SELECT sha256, zeroblob(20), zeroblob(48), ? FROM releases",
            (HEADERS,),
        )
        for row in select(db, "SELECT source_id, plugin_id FROM plugins WHERE id % 3 = 0"):
            catalogue.set_slug_owner(db, row["plugin_id"], row["source_id"])


def _questions(servers: dict[str, ServerProcess], listed: list[dict[str, Any]]) -> list[Question]:
    plugin = f"/federation/plugins/{quote(listed[0]['source_id'])}/{listed[0]['plugin_id']}"
    hot = {
        "sources": f"/federation/sources?limit={SOURCES_SHOWN}",
        "plugins, first page": "/federation/plugins",
        "plugin": plugin,
    }
    questions = [Question("hello", [get("/")], 0.0, of="bare")]
    for name, path in hot.items():
        known = f"If-None-Match: {_etag(servers['node'], path)}"
        questions.append(Question(f"cached {name}", [get(path)], CACHED_BAR))
        questions.append(Question(f"cached {name}, known", [get(path, known)], CACHED_BAR, 304))
    for name in ("sources", "plugins, first page"):
        question = Question(f"cached {name}", [get(hot[name])], 0.0, of="empty")
        questions.append(question)
        questions.append(Question(f"cached {name}", [get(hot[name])], SIZE_BAR, against="empty"))
    narrowed = [
        {"type": kind, "min_assurance": level, "sort": sort, "source": catalogue_facts.source_id(number)}
        for kind, level, sort, number in product(
            ("plugin", "theme"), ("A1", "A3"), ("updated", "name"), range(0, catalogue_facts.SOURCES, 3)
        )
    ]
    random.Random(1).shuffle(narrowed)  # the first sources have the most plugins, and a busy machine asks few
    questions += [
        Question("dynamic plugin", [get(_path(row)) for row in listed], DYNAMIC_BAR),
        Question(
            "dynamic source-status",
            [
                get(f"/federation/source-status?sourceId={_spelled(catalogue_facts.source_id(number), spelling)}")
                for spelling, number in product(range(STATUS_SPELLINGS), range(catalogue_facts.SOURCES))
            ],
            DYNAMIC_BAR,
        ),
        Question(
            "dynamic filters",
            [get(f"/federation/plugins?{urlencode(given)}") for given in narrowed],
            DYNAMIC_BAR,
        ),
        Question(
            f"update-check, {SITE_PLUGINS} plugins",
            [_post("/plugins/update-check/1.1/", site_form(listed, site, SITE_PLUGINS)) for site in range(SITES)],
            UPDATES_BAR,
        ),
    ]
    return questions


def _path(row: dict[str, Any]) -> str:
    return f"/federation/plugins/{quote(row['source_id'])}/{row['plugin_id']}"


def _spelled(text: str, spelling: int) -> str:
    """A text in a query, with those of its first characters escaped that the bits of a number say."""
    escaped = (f"%{ord(letter):02X}" if spelling >> place & 1 else quote(letter) for place, letter in enumerate(text))
    return "".join(escaped)


def get(path: str, *headers: str) -> str:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*", *headers, "", ""])


def _post(path: str, form: str) -> str:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(form)}",
        "",
        form,
    ]
    return "\r\n".join(lines)


def _etag(server: ServerProcess, path: str) -> str:
    """The tag that the server gives an answer."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(get(path, "Connection: close").encode())
        received = b""
        while data := connection.recv(65_536):
            received += data
    found = re.search(rb"\r\netag: *(\S+)", received, re.IGNORECASE)
    return found[1].decode() if found else '"none"'


def _measure(server: ServerProcess, question: Question) -> _Took:
    asked = {
        "host": "127.0.0.1",
        "port": server.port,
        "connections": CONNECTIONS,
        "seconds": SECONDS,
        "requests": question.requests,
        "status": question.status,
    }
    before = server.processor_seconds()
    client = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    used = server.processor_seconds() - before
    answer = json.loads(client.stdout)
    return _Took(answer["answered"] / answer["seconds"], answer["answered"] / max(used, 0.01))


def _row(question: Question, rounds: list[dict[tuple[str, str], _Took]]) -> Row:
    base = ("hello", "bare") if question.against == "bare" else (question.name, "empty")
    took = [(each[question.name, question.of], each[base]) for each in rounds]
    return {
        "question": question.name,
        "against": question.against,
        "per_second": round(median(one.per_second for one, _ in took)),
        "ratio": round(median(one.per_second / other.per_second for one, other in took), 2),
        "ratio_processor": round(
            median(one.per_processor_second / other.per_processor_second for one, other in took), 2
        ),
        "bar": question.bar,
    }
