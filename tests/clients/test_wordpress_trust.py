"""What the connector takes for signed, in PHP without WordPress: never more than the protocol's own vectors prove."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pfn_node.web.consumers.wordpress_connector import FOLDER
from pfn_protocol.encoding import pack
from tests.clients.conftest import need

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors" / "bundles.json"
JUDGE = Path(__file__).parent / "wordpress" / "judge.php"
# Why the connector refuses what is no more than it seems, or taken back; False: it is not signed.
REFUSED = {
    "pfn_evidence": "R160 R165",
    "pfn_key_changed": "R165 R166",
    "pfn_revoked": "R165",
    "pfn_yanked": "R166",
}


@pytest.fixture(autouse=True)
def php_is_here() -> None:
    need("php")


def judge(cases: list[tuple[str, dict[str, Any]]]) -> list[bool | str]:
    """For each trusted key (hex) and bundle: whether it is signed, or why it is refused. PHP may not complain."""
    named = ("source_id", "plugin_id", "version")
    asked = [
        {"key": key, "bundle": json.dumps(bundle)}
        | dict(zip(("source", "plugin", "version"), (bundle[name] for name in named), strict=True))
        for key, bundle in cases
    ]
    done = subprocess.run(
        ["php", str(JUDGE), str(FOLDER)], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[bool | str] = json.loads(done.stdout)
    return found


def test_nothing_is_taken_for_signed_that_the_protocols_vectors_do_not_prove() -> None:
    vectors = [one for one in json.loads(VECTORS.read_text()) if one["key"]]

    found = judge([(one["key"], json.loads(one["text"])) for one in vectors])

    signed = []
    for vector, judged in zip(vectors, found, strict=True):
        proved = vector.get("accepted", {"level": "none", "key": "", "yanked": False})
        stands = proved["level"] in ("A3", "A4") and proved["key"] == vector["key"] and not proved["yanked"]
        if judged is True:
            assert stands, vector["name"]
            signed.append(vector["name"])
        elif judged is not False:
            assert vector["rule"] in REFUSED[str(judged)].split(), (vector["name"], judged)
    taken = {"a release by a release key", "everything", "revoked by a stranger", "a yank that was taken back"}
    assert taken <= set(signed)


def test_whatever_is_changed_in_what_is_signed_makes_it_unsigned() -> None:
    (vector,) = (one for one in json.loads(VECTORS.read_text()) if one["name"] == "a release by a release key")
    bundle = json.loads(vector["text"])
    forms = [piece["form"] for piece in bundle["evidence"]]
    cases = []
    for at, piece in enumerate(bundle["evidence"]):
        raw = base64.b64decode(piece["data"])
        changed = [raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] for place in range(len(raw))]
        changed += [raw[:length] for length in range(0, len(raw), 7)] + [raw + b"\x00", pack((1, 2)), b"\xdd" * 99]
        for other in changed:
            pieces = [*bundle["evidence"]]
            pieces[at] = piece | {"data": base64.b64encode(other).decode()}
            cases.append((vector["key"], bundle | {"evidence": pieces}))

    found = judge([(vector["key"], bundle), *cases])

    assert forms == ["release/2", "keybind/2"] and len(cases) > 400
    assert found[0] is True
    assert set(found[1:]) == {False}


def test_a_bundle_of_any_other_shape_is_refused_without_a_warning() -> None:
    (vector,) = (one for one in json.loads(VECTORS.read_text()) if one["name"] == "everything")
    bundle = json.loads(vector["text"])
    wrong: list[Any] = [None, 7, "text", [], {}, [[]], [None], [{"form": []}], [{"form": "release/2", "data": 7}]]
    # Nothing is made of these here.
    unread = {"mesh", "instance_url", "witnesses", "attestations", "notices", "source_id", "plugin_id", "version"}
    changes = [(name, value) for name in bundle if name not in unread for value in wrong]

    found = judge([(vector["key"], bundle | {name: value}) for name, value in changes])

    taken = [change for change, judged in zip(changes, found, strict=True) if judged is True]
    assert taken == [("keys", []), ("keys", {})]  # which is the same in PHP
