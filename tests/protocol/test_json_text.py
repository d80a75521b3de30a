"""Texts as JavaScript writes them, and members as publishers wrote them."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_public_key, verify
from pfn_protocol.json_text import raw_member, stringify
from pfn_protocol.limits import evidence_text_bytes_max
from pfn_protocol.publisher import metadata_from_author_data, metadata_message, parse_signature

DATA = Path(__file__).parent / "data"
OBJECTS = 100_000
# What texts are made of: what is escaped, what looks as if it were, halves of surrogate pairs, and the rest.
CHARACTERS = [
    *map(chr, range(0x30)),
    *'"\\/<>&abcdefghijz{}[]\x7f\x80\x9f\u2028\u2029\ufeff\ufffe\uffff',
    *"\ud800\udbff\udc00\udfff\ud83c\udf31",
    *"ü漢🌱\U0010ffff",
]


def random_text(rng: random.Random) -> str:
    return "".join(rng.choices(CHARACTERS, k=rng.randrange(12)))


FIELDS = ("slug", "name", "version", "short_description")
# What JSON.stringify writes of these depends on how JavaScript holds numbers and orders members: never guessed.
OTHER_KINDS: tuple[object, ...] = (0, -0.0, 1.0, 1e21, 2**53 + 1, True, None, [], ["a"], {}, {"2": 1, "1": 2})


def random_entry(rng: random.Random) -> dict[str, object]:
    """An entry of /author-data: mostly four texts; now and then a field of another kind, or none."""
    entry: dict[str, object] = {field: random_text(rng) for field in FIELDS}
    chance = rng.random()
    if chance < 0.1:
        del entry["short_description"]
    elif chance < 0.2:
        entry[rng.choice(FIELDS)] = rng.choice(OTHER_KINDS)
    elif chance < 0.22:
        del entry[rng.choice(FIELDS[:3])]
    return entry


def is_all_text(entry: dict[str, object]) -> bool:
    return all(isinstance(entry.get(field), str) for field in FIELDS[:3]) and isinstance(
        entry.get("short_description", ""), str
    )


def written_by_javascript(entries: list[dict[str, object]]) -> list[bytes]:
    lines = "\n".join(json.dumps(entry) for entry in entries)
    done = subprocess.run(
        ["node", str(DATA / "javascript.js")], input=lines.encode(), capture_output=True, check=True, timeout=300
    )
    return done.stdout.split(b"\n")[:-1]


def test_the_stored_objects_are_written_as_javascript_wrote_them() -> None:
    stored = json.loads((DATA / "json_stringify.json").read_text("utf-8"))

    assert len(stored) >= 300
    for case in stored:
        slug, name, version, *description = case["members"]
        assert metadata_message(slug, name, version, *(description or [None])).hex() == case["written"], case


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: 100,000 objects are NOT compared")
def test_a_hundred_thousand_random_objects_are_written_as_javascript_writes_them_or_refused() -> None:
    rng = random.Random(20_261_123)
    entries = [random_entry(rng) for _ in range(OBJECTS)]

    theirs = written_by_javascript(entries)

    assert len(theirs) == OBJECTS
    for entry, written in zip(entries, theirs, strict=True):
        if is_all_text(entry):
            assert metadata_from_author_data(entry) == written, entry
        else:
            with pytest.raises(Refusal, match="R50"):
                metadata_from_author_data(entry)


def test_what_is_written_can_be_read_again() -> None:
    assert json.loads(stringify([("id", 'a"\u2028\x00🌱')])) == {"id": 'a"\u2028\x00🌱'}


def test_the_publishers_signature_is_over_the_raw_data_of_its_answer() -> None:
    recording = json.loads((DATA / "plugin_data.json").read_text("utf-8"))
    key, body = parse_public_key(recording["public_key"]), recording["body"]

    raw = raw_member(body, "data")

    signature = parse_signature(json.loads(body)["signature"])
    assert verify(key, raw.encode(), signature)
    assert not verify(key, json.dumps(json.loads(raw)).encode(), signature)


def test_a_text_over_the_limit_is_not_read() -> None:
    with pytest.raises(Refusal, match="R52"):
        raw_member(" " * (evidence_text_bytes_max + 1), "data")
