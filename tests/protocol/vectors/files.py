"""Which file of protocol/vectors holds which cases, and its exact text."""

import json
from collections.abc import Callable, Iterable

from tests.protocol.vectors import (
    announcement_cases,
    backing_cases,
    bundle_cases,
    conviction_cases,
    encoding_cases,
    export_cases,
    message_cases,
    name_cases,
    notice_cases,
    publisher_cases,
    sketch_cases,
)
from tests.protocol.vectors.case import Case

_FILES: dict[str, Callable[[], Iterable[Case]]] = {
    "encoding.json": encoding_cases.cases,
    "announcements.json": announcement_cases.cases,
    "convictions.json": conviction_cases.cases,
    "publishers.json": publisher_cases.cases,
    "notices.json": notice_cases.cases,
    "names.json": name_cases.cases,
    "messages.json": message_cases.cases,
    "sketches.json": sketch_cases.cases,
    "backing.json": backing_cases.cases,
    "bundles.json": bundle_cases.cases,
    "exports.json": export_cases.cases,
}


def texts() -> dict[str, str]:
    """The text of each file, by its name: one case a line, so that a change shows as one line."""
    return {name: _text(cases()) for name, cases in _FILES.items()}


def _text(cases: Iterable[Case]) -> str:
    lines = [json.dumps(case.to_json()) for case in cases]
    return "[\n" + ",\n".join(lines) + "\n]\n"
