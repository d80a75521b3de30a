"""Logs: events with fields, to stderr; coloured lines for people, one JSON object a line for machines.

What others wrote stands in them as data: one event is one line, whatever is in it, and a terminal that shows it obeys
nothing of it. Keys, tokens and signatures that open something are cut wherever they turn up, for people put them into
the wrong places.
"""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

# What tells the kind of a secret stays, in a group; what follows it goes.
_SECRET = re.compile(
    r"(fadmin_[0-9A-Za-z]{8}_|whsec_)[0-9A-Za-z+/]{8,}=*"  # API keys, secrets of webhooks
    r"|(pfn_session\w*=)[\w-]{43}"  # sessions
    r"|(X-Amz-(?:Signature|Credential|Security-Token)=|[?&](?:Signature|sig)=)[^&\s\"']+"  # presigned URLs
    r"|(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]+"
    r"|(https?://)[^/\s@:]+:[^/\s@]*(?=@)"  # of others, in URLs
)


def without_keys(text: str) -> str:
    """The text with the secret part of everything in it cut away that opens something."""
    return _SECRET.sub(lambda found: f"{found[found.lastindex or 0]}***", text)


def escaped(text: str) -> str:
    """The text in one line, with everything that is not printable (control characters, bidi, line ends) written out."""
    return "".join(character if character.isprintable() else f"\\u{{{ord(character):x}}}" for character in text)


def _clean(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last step but one: keys cut, in every field."""
    for field, value in event.items():
        if isinstance(value, str):
            event[field] = without_keys(value)
        elif not isinstance(value, int | float | None):
            event[field] = without_keys(str(value))
    return event


def _as_json(logger: object, name: str, event: MutableMapping[str, Any]) -> str:
    """One line of ASCII: what is not, JSON escapes, and with it bidi and line ends that editors follow."""
    return json.dumps(event, ensure_ascii=True, default=str)


def _for_people(renderer: structlog.dev.ConsoleRenderer) -> structlog.typing.Processor:
    """Rendered as structlog does, after the values were escaped; a traceback keeps its lines.

    What others wrote may be in them. They are escaped, and indented, so that none of them looks like an event.
    """

    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        lines = str(event.pop("exception", "")).split("\n")
        kept = {"exception": "\n".join(f"  {escaped(line)}" for line in lines)} if lines != [""] else {}
        cleaned = {
            escaped(field): escaped(value) if isinstance(value, str) else value for field, value in event.items()
        }
        return str(renderer(logger, name, cleaned | kept))

    return render


class _Stderr:
    """Where lines go. Nothing fails because one cannot be written: a log on a full disk, a reader that is gone."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


class _Forwarding(logging.Handler):
    """Gives what libraries log to structlog, so that their lines look and are cleaned like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info)


def configure_logs(*, as_json: bool) -> None:
    """Set up structlog, and let the libraries' own loggers speak through stderr from warnings on."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    if not any(isinstance(handler, _Forwarding) for handler in root.handlers):
        root.addHandler(_Forwarding())
    renderer: structlog.typing.Processor = (
        _as_json
        if as_json
        else _for_people(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True))
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _clean,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=False,
    )
