"""Log lines: one event, one line, whatever a stranger wrote into a field."""

import errno
import io
import json
import logging

import pytest
import structlog

from pfn_node.logs import configure_logs
from pfn_node.web.auth import mint

NASTY = "a\r\nforged line\x1b[31m\u2028\u2029\x85\x00\x7f\u202e\u2066\u200b\ud800"


def test_json_lines_hold_remote_text_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(as_json=True)

    structlog.get_logger().warning("peer_refused", name=NASTY)

    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.isascii() and err.strip().isprintable()
    assert json.loads(err)["name"] == NASTY


def test_lines_for_people_escape_remote_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(as_json=False)

    structlog.get_logger().info("peer_refused", name=NASTY)

    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and err.strip().isprintable()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_name_of_a_field_or_event_forges_no_line_either(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure_logs(as_json=as_json)

    structlog.get_logger().info(NASTY, error=ValueError(NASTY), names=[NASTY], **{NASTY: NASTY})

    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and err.strip().isprintable()


@pytest.mark.parametrize("as_json", [True, False])
def test_keys_are_cut_wherever_they_turn_up(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure_logs(as_json=as_json)
    key = mint()
    secret = key.text.rpartition("_")[2]

    structlog.get_logger().info(f"asked for {key.text}", path=f"/x?key={key.text}&y", error=ValueError(key.text))
    try:
        raise ValueError(key.text)
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)

    err = capsys.readouterr().err
    assert secret not in err and err.count(f"fadmin_{key.id}_***") >= 4


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cookie: a=b; pfn_session_8470=" + "s3cret_" * 6 + "x", "pfn_session_8470=***"),
        ("at https://b.example/x?X-Amz-Date=1&X-Amz-Signature=s3cret&x=1", "X-Amz-Signature=***&x=1"),
        ("at https://b.example/x?X-Amz-Credential=s3cret%2F2", "X-Amz-Credential=***"),
        ("at https://b.example/x?sv=1&sig=s3cret%3D", "sv=1&sig=***"),
        ("-----BEGIN PRIVATE KEY-----\nMs3cret\n-----END PRIVATE KEY-----", "PRIVATE KEY-----***-----END"),
        ("at https://ada:s3cret@b.example/x", "https://***@b.example/x"),
        ("whsec_" + "s3cret00" * 4, "whsec_***"),
    ],
)
def test_what_opens_something_is_cut_from_fields_and_tracebacks(
    capsys: pytest.CaptureFixture[str], as_json: bool, text: str, left: str
) -> None:
    configure_logs(as_json=as_json)

    try:
        raise ValueError(text)
    except ValueError as error:
        structlog.get_logger().error("failed", error=error, exc_info=True)

    err = capsys.readouterr().err
    assert "s3cret" not in err and err.count(left) >= 2


def test_a_traceback_forges_no_line_and_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(as_json=False)

    try:
        raise ValueError(f"{NASTY}\n2026-01-01T00:00:00Z [info     ] node_ready")
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)

    event, *lines = capsys.readouterr().err.splitlines()
    assert "failed" in event and "Traceback" in lines[0] and len(lines) > 3
    assert [line for line in lines if not line.isprintable() or not line.startswith("  ")] == []


def test_libraries_speak_from_warnings_on() -> None:
    configure_logs(as_json=True)

    assert logging.getLogger("hypercorn").getEffectiveLevel() >= logging.WARNING


@pytest.mark.parametrize("as_json", [True, False])
def test_what_libraries_say_is_a_line_like_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    # The test runner's own handlers would keep the text, and half a surrogate pair cannot be reported to it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logs(as_json=as_json)
    configure_logs(as_json=as_json)

    logging.getLogger("hypercorn.error").warning("bad request from %s", NASTY)

    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and err.strip().isprintable() and "hypercorn.error" in err
    if as_json:
        assert json.loads(err)["event"] == f"bad request from {NASTY}"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    configure_logs(as_json=as_json)
    tried: list[str] = []

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())

    structlog.get_logger().warning("on_a_full_disk")

    assert "on_a_full_disk" in "".join(tried)
