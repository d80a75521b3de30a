"""Log lines: one event, one line, whatever a stranger wrote into a field."""

import json
import logging

import pytest
import structlog

from pfn_node.logs import configure_logs

NASTY = "a\r\nforged line\x1b[31m\u2028"


@pytest.fixture(autouse=True)
def restore_structlog() -> object:
    yield
    structlog.reset_defaults()


def test_json_lines_hold_remote_text_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(as_json=True)

    structlog.get_logger().warning("peer_refused", name=NASTY)

    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "\x1b" not in err
    assert json.loads(err)["name"] == NASTY


def test_lines_for_people_escape_remote_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(as_json=False)

    structlog.get_logger().info("peer_refused", name=NASTY)

    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "\x1b" not in err and "\r" not in err


def test_libraries_speak_from_warnings_on() -> None:
    configure_logs(as_json=True)

    assert logging.getLogger("hypercorn").getEffectiveLevel() >= logging.WARNING
