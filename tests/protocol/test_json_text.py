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
from pfn_protocol.publisher import metadata_message, parse_signature

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


def random_members(rng: random.Random) -> list[str]:
    return [random_text(rng) for _ in range(rng.choice((3, 4, 4, 4)))]


def written_here(members: list[str]) -> bytes:
    return metadata_message(members[0], members[1], members[2], members[3] if len(members) > 3 else None)


def written_by_javascript(objects: list[list[str]]) -> list[bytes]:
    lines = "\n".join(json.dumps(members) for members in objects)
    done = subprocess.run(
        ["node", str(DATA / "javascript.js")], input=lines.encode(), capture_output=True, check=True, timeout=60
    )
    return done.stdout.split(b"\n")[:-1]


def test_the_stored_objects_are_written_as_javascript_wrote_them() -> None:
    stored = json.loads((DATA / "json_stringify.json").read_text("utf-8"))

    assert len(stored) >= 300
    for case in stored:
        assert written_here(case["members"]).hex() == case["written"], case


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: 100,000 objects are NOT compared")
def test_a_hundred_thousand_random_objects_are_written_as_javascript_writes_them() -> None:
    rng = random.Random(20_261_123)
    objects = [random_members(rng) for _ in range(OBJECTS)]

    theirs = written_by_javascript(objects)

    assert len(theirs) == OBJECTS
    assert [members for members, written in zip(objects, theirs, strict=True) if written_here(members) != written] == []


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
