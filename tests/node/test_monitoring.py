"""What an operator's monitoring is given: /metrics, a dashboard for Grafana, and alert rules for Prometheus."""

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
import structlog
import structlog.testing
import trio
import trio.lowlevel
import trio.testing
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from pfn_node.metrics import Metrics
from pfn_node.sources.progress import Progress, SyncSteps
from pfn_node.store import catalogue
from pfn_node.store.database import Database
from pfn_node.store.rows import Filters
from pfn_node.store.sources import insert_source, update_source
from pfn_node.store.subscriptions import set_subscription
from pfn_protocol.identity import PrivateKey, public_key_pem
from tests.node.test_web_gate import from_address
from tests.node.web_node import NOW, WebNode, web_node

DEPLOY = Path(__file__).parents[2] / "scripts" / "deploy"
DASHBOARD = DEPLOY / "grafana-dashboard.json"
ALERTS = DEPLOY / "prometheus-alerts.yml"
SUFFIXES = ("_bucket", "_count", "_sum", "_total", "")
ADA = "ada@pub.example"
# What Prometheus itself adds to what it scrapes.
ADDED_LABELS = {"job", "instance", "le"}
SCRAPED = "up"
HOUR = 60  # minutes
ANY_NODE = 'job="pfn",instance="a"'

# What makes each alert fire: series with their values minute by minute, and after how many minutes it must.
FIRING: dict[str, tuple[dict[str, str], int]] = {
    "PfnNodeDown": ({f"up{{{ANY_NODE}}}": "0x10"}, 5),
    "PfnKeyUsedTwice": ({f'pfn_mesh{{{ANY_NODE},what="muted"}}': "1x10"}, 1),
    "PfnDiskNearlyFull": ({f'pfn_disk_bytes{{{ANY_NODE},what="free"}}': "4e8x10"}, 6),
    "PfnDiskFillsUp": (
        {
            f'pfn_disk_bytes{{{ANY_NODE},what="free"}}': "2e10-2e7x600",
            f'pfn_disk_bytes{{{ANY_NODE},what="total"}}': "1e11x600",
        },
        8 * HOUR,
    ),
    "PfnErrors": (
        {
            f'pfn_http_requests_total{{{ANY_NODE},status="500",route="/"}}': "0+2x40",
            f'pfn_http_requests_total{{{ANY_NODE},status="200",route="/"}}': "0+98x40",
        },
        30,
    ),
    "PfnSlow": (
        {
            f'pfn_http_request_seconds_bucket{{{ANY_NODE},le="0.5"}}': "0+9x40",
            f'pfn_http_request_seconds_bucket{{{ANY_NODE},le="2.0"}}': "0+10x40",
            f'pfn_http_request_seconds_bucket{{{ANY_NODE},le="+Inf"}}': "0+10x40",
        },
        30,
    ),
    "PfnWritesWait": (
        {
            f'pfn_writer_wait_seconds_bucket{{{ANY_NODE},le="1.0"}}': "0+9x40",
            f'pfn_writer_wait_seconds_bucket{{{ANY_NODE},le="5.0"}}': "0+10x40",
            f'pfn_writer_wait_seconds_bucket{{{ANY_NODE},le="+Inf"}}': "0+10x40",
        },
        30,
    ),
    "PfnAlone": (
        {
            f'pfn_mesh{{{ANY_NODE},what="links"}}': "0x40",
            f'pfn_mesh{{{ANY_NODE},what="authors"}}': "3x40",
        },
        20,
    ),
    "PfnSourcesOverdue": ({f"pfn_sources_overdue{{{ANY_NODE}}}": "1x60"}, 40),
    "PfnSourceInConflict": ({f'pfn_sources{{{ANY_NODE},status="conflict"}}': "1x10"}, 1),
    "PfnDescriptorsRunOut": (
        {f"process_open_fds{{{ANY_NODE}}}": "900x30", f"process_max_fds{{{ANY_NODE}}}": "1024x30"},
        15,
    ),
    "PfnMemoryGrows": ({f"process_resident_memory_bytes{{{ANY_NODE}}}": "1e8+5e5x900"}, 13 * HOUR),
    "PfnRestartsOften": ({f"process_start_time_seconds{{{ANY_NODE}}}": "0+600x60"}, 30),
    "PfnWorkersDie": ({f"pfn_worker_ends_total{{{ANY_NODE}}}": "0+1x60"}, 30),
    "PfnNodeConvicted": ({f'pfn_mesh_changes_total{{{ANY_NODE},what="conviction"}}': "0x10 1x50"}, 30),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = subprocess.run(["scripts/promtool"], cwd=DEPLOY.parents[1], capture_output=True, text=True)
    if found.returncode and not os.environ.get("CI"):
        pytest.skip(f"NO PROMTOOL HERE, so the alert rules are NOT tested: {found.stderr}")
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture
async def node(tmp_path: Path) -> Any:
    async with web_node(tmp_path) as node:
        yield node


async def figure(node: WebNode, name: str, **labels: str) -> float:
    """One figure of /metrics, which has to be there."""
    text = (await node.get("/metrics")).body.decode()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


def labels_by_name() -> dict[str, set[str]]:
    """The names that a query may use, and the labels of each."""
    known: dict[str, set[str]] = {SCRAPED: set()}
    for metric in Metrics().registry._collector_to_names:
        for family in metric.describe() if hasattr(metric, "describe") else metric.collect():
            for suffix in SUFFIXES:
                known[family.name + suffix] = set(getattr(metric, "_labelnames", ()))
    for family in Metrics().registry.collect():
        for sample in family.samples:
            known.setdefault(sample.name, set(sample.labels))
    return known


def panels() -> Iterator[dict[str, Any]]:
    dashboard = json.loads(DASHBOARD.read_text())
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query, of the dashboard and of the alerts."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    rules = re.sub(r">-\n\s+", "", ALERTS.read_text())
    rules = re.sub(r"\n\s+(and|/) ", r" \1 ", rules)
    yield from re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", rules)


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_query_uses_figures_and_labels_that_a_node_gives(where: str, query: str) -> None:
    known = labels_by_name()
    used = re.findall(r"\b((?:pfn_|process_)\w+|up)\b(?:\{([^}]*)\})?", query)
    grouped = {
        label.strip() for group in re.findall(r"(?:by|ignoring) \(([^)]*)\)", query) for label in group.split(",")
    }
    assert used, where
    of_all: set[str] = set(ADDED_LABELS)
    for name, matchers in used:
        assert name in known, f"{where}: no node gives {name}"
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
        assert asked <= known[name] | ADDED_LABELS, f"{where}: {name} has no label {asked - known[name] - ADDED_LABELS}"
        of_all |= known[name]
    assert grouped <= of_all, f"{where}: no figure has the label {grouped - of_all}"


def test_every_panel_says_what_it_shows_and_in_which_unit_and_none_covers_another() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()

    assert dashboard["uid"] and dashboard["title"] and dashboard["schemaVersion"] >= 36
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["type"] in {"timeseries", "stat"} and panel["title"] and panel["options"], panel
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references), panel["title"]
        used = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
        assert used - {"__rate_interval"} <= variables, panel["title"]


def test_prometheus_reads_every_query_and_every_rule_says_what_to_do(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", query)}
        for number, (_, query) in enumerate(queries())
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    checked = subprocess.run(
        [promtool, "check", "rules", str(tmp_path / "panels.yml"), str(ALERTS)], capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    text = ALERTS.read_text()
    count = text.count("- alert:")
    assert count == text.count("summary:") == text.count("description:") == text.count("severity:") == len(FIRING)


def test_every_alert_fires_for_what_it_is_there_for_and_none_for_a_node_that_is_well(
    promtool: str, tmp_path: Path
) -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert set(names) == set(FIRING)
    well = {
        f"up{{{ANY_NODE}}}": "1x900",
        f'pfn_mesh{{{ANY_NODE},what="links"}}': "3x900",
        f'pfn_mesh{{{ANY_NODE},what="authors"}}': "5x900",
        f'pfn_mesh{{{ANY_NODE},what="muted"}}': "0x900",
        f'pfn_disk_bytes{{{ANY_NODE},what="free"}}': "5e10x900",
        f'pfn_disk_bytes{{{ANY_NODE},what="total"}}': "1e11x900",
        f'pfn_http_requests_total{{{ANY_NODE},status="200",route="/"}}': "0+100x900",
        f'pfn_http_request_seconds_bucket{{{ANY_NODE},le="0.5"}}': "0+10x900",
        f'pfn_http_request_seconds_bucket{{{ANY_NODE},le="+Inf"}}': "0+10x900",
        f"pfn_sources_overdue{{{ANY_NODE}}}": "0x900",
        f'pfn_sources{{{ANY_NODE},status="conflict"}}': "0x900",
        f"process_resident_memory_bytes{{{ANY_NODE}}}": "1e8x900",
        f"process_start_time_seconds{{{ANY_NODE}}}": "0x900",
    }
    cases = [(name, series, minutes, True) for name, (series, minutes) in FIRING.items()]
    cases += [(name, well, minutes, False) for name, (_, minutes) in FIRING.items()]
    (tmp_path / "firing.yml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": list(map(_case, cases))}))

    tested = subprocess.run([promtool, "test", "rules", str(tmp_path / "firing.yml")], capture_output=True, text=True)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def _case(case: tuple[str, dict[str, str], int, bool]) -> dict[str, Any]:
    name, series, minutes, fires = case
    return {
        "interval": "1m",
        "input_series": [{"series": text, "values": values} for text, values in series.items()],
        # ALERTS is a series of its own, with nothing but labels.
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


async def test_states_of_the_store_are_read_when_they_are_asked_for(node: WebNode) -> None:
    def follow_one(db: sqlite_utils.Database) -> None:
        key_text = public_key_pem(PrivateKey(bytes(range(32))).public)
        insert_source(
            db, id=ADA, instance_url="https://pub.example", username="ada", public_key=key_text, created_at=NOW
        )
        set_subscription(db, ADA, "site", Filters(), NOW)

    assert await figure(node, "pfn_sources", status="pending") == 0
    await node.services.database.write(follow_one)

    assert await figure(node, "pfn_sources", status="pending") == 1
    assert await figure(node, "pfn_sources_overdue") == 0  # it is new
    node.services.now = lambda: NOW + 2 * node.services.settings.sync_seconds + 1
    assert await figure(node, "pfn_sources_overdue") == 1
    await node.services.database.write(lambda db: update_source(db, ADA, last_sync=int(NOW + 10)))
    assert await figure(node, "pfn_sources_overdue") == 0
    assert await figure(node, "pfn_database_bytes", file="main") > 0
    assert await figure(node, "pfn_database_bytes", file="wal") > 0
    assert 0 < await figure(node, "pfn_disk_bytes", what="free") <= await figure(node, "pfn_disk_bytes", what="total")


async def test_the_process_and_what_runs_in_it_are_measured(node: WebNode) -> None:
    assert await figure(node, "process_resident_memory_bytes") > 1_000_000
    assert await figure(node, "process_open_fds") > 3
    assert await figure(node, "pfn_tasks") >= 1
    assert await figure(node, "pfn_http_event_streams") == 0
    async with node.services.streams:
        assert await figure(node, "pfn_http_event_streams") == 1


async def test_writes_are_counted_with_their_batches_and_the_time_that_they_waited(tmp_path: Path) -> None:
    metrics = Metrics()
    database = Database.open(tmp_path / "node.db", metrics=metrics)
    value = metrics.registry.get_sample_value
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(database.write, lambda db: None)
        await trio.testing.wait_all_tasks_blocked()
        assert value("pfn_writer_queue") == 3
        await nursery.start(database.run_writer)
        while value("pfn_writer_queue"):
            await trio.lowlevel.checkpoint()
        database.close()

    assert value("pfn_writer_batch_seconds_count") == 1 and value("pfn_writer_batch_jobs_sum") == 3
    assert value("pfn_writer_wait_seconds_count") == 3
    assert (value("pfn_writer_wait_seconds_sum") or 0) >= 3 * (value("pfn_writer_batch_seconds_sum") or 0) > 0


async def test_a_late_event_loop_shows(autojump_clock: MockClock) -> None:
    metrics = Metrics()

    with trio.move_on_after(10.5):
        await metrics.watch_loop()

    assert metrics.registry.get_sample_value("pfn_loop_delay_seconds_count") == 10
    assert metrics.registry.get_sample_value("pfn_loop_delay_seconds_bucket", {"le": "0.001"}) == 10


def test_syncs_and_verifications_are_counted_by_what_came_of_them() -> None:
    metrics = Metrics()
    progress = Progress(lambda: float(NOW), metrics)
    value = metrics.registry.get_sample_value

    with progress.verifying(ADA) as steps:
        steps.result = "unanswered"
    with progress.verifying(ADA):
        pass
    with progress.syncing(ADA, SyncSteps(here=2, skipped=1, source_status="verified")):
        pass
    with progress.syncing(ADA, SyncSteps(problem="it is down", source_status="error")):
        pass
    with progress.syncing("nobody@pub.example", SyncSteps()):
        pass

    assert value("pfn_verifications_total", {"result": "unanswered"}) == 1
    assert value("pfn_verifications_total", {"result": "not_done"}) == 1
    assert value("pfn_syncs_total", {"result": "success", "source_status": "verified"}) == 1
    assert value("pfn_syncs_total", {"result": "failure", "source_status": "error"}) == 1
    assert value("pfn_sync_plugins_total", {"result": "here"}) == 2
    assert value("pfn_sync_plugins_total", {"result": "skipped"}) == 1


def test_no_label_is_a_word_of_strangers_but_for_a_bounded_list() -> None:
    """Or anybody could fill the memory of this node and of Prometheus with series."""
    theirs = {"source", "plugin"}
    shown = {name for name, labels in labels_by_name().items() if labels & theirs}

    assert {name.removesuffix("_total") for name in shown if not name.endswith(SUFFIXES[:3])} == {
        "pfn_plugin_downloads"
    }


def events() -> set[str]:
    """The name of every event that is logged."""
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    found = set()
    for file in (DEPLOY.parents[1] / "pfn_node").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in levels:
                logger = ast.unparse(call.func.value)
                if logger == "log" or "get_logger" in logger:
                    assert isinstance(call.args[0], ast.Constant), f"{file}: an event has a name of its own"
                    found.add(str(call.args[0].value))
    return found


def test_every_event_of_the_log_has_a_name_and_is_described() -> None:
    rows = [line.split("|")[1] for line in (DEPLOY / "README.md").read_text().splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert events() <= described
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in events())
    assert {name for name in described if "." not in name} - events() == {"Containerfile"}


async def test_the_id_of_a_request_is_in_its_answer_and_in_all_that_is_logged_on_its_way(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_a_thread(db: sqlite_utils.Database) -> None:
        structlog.get_logger().warning("security", sentence="on the way")
        raise ValueError("a mistake")

    monkeypatch.setattr(catalogue, "look", fail_in_a_thread)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = await node.get("/readyz")
        await node.get("/federation/sources")

    assert answer.status == 500 and [line["event"] for line in lines] == ["security", "request_failed"]
    assert {line["request_id"] for line in lines} == {answer.headers["X-Request-ID"]} == {answer.json["request_id"]}


@pytest.mark.parametrize(
    ("trusted", "given", "kept"),
    [
        ("198.51.100.0/24", "5b2f9c1e-7d41-4bb0-9a53-3f0c1f7a2d10", True),
        ("203.0.113.0/24", "5b2f9c1e-7d41-4bb0-9a53-3f0c1f7a2d10", False),
        ("198.51.100.0/24", "a b", False),
        ("198.51.100.0/24", "x" * 65, False),
    ],
)
async def test_a_proxy_that_is_trusted_may_name_a_request(tmp_path: Path, trusted: str, given: str, kept: bool) -> None:
    async with web_node(tmp_path, trusted_proxy=(trusted,)) as node:
        answer = await node.get("/healthz", headers={"X-Request-ID": given}, **from_address("198.51.100.7"))

    assert (answer.headers["X-Request-ID"] == given) is kept
