"""Evidence bundles in wrong hands: what `verify FILE --evidence` says in a process that has no node to ask.

A node makes the bundle over HTTP; a case changes it as whoever hands it on may.
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

import pytest

from pfn_protocol.encoding import Envelope
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_keybind, sign_release
from tests.conformance.hostile_publisher import HONEST_SLUG, Publisher, new_key, subscribe
from tests.conformance.hostile_server import always, as_json
from tests.conformance.node_process import COMMAND, Node, b64
from tests.conformance.test_publisher_notices import advisory, hand_in, revocation, rotation, yank

Bundle = dict[str, Any]


@dataclass
class Held:
    """A release that the node holds at A3, signed by a release key."""

    node: Node
    publisher: Publisher
    first_key: PrivateKey
    release_key: PrivateKey
    folder: Path

    def bundle(self) -> Bundle:
        """As the node makes it now."""
        made: Bundle = self.node.get("verify", sourceId=self.publisher.source, plugin=HONEST_SLUG, bundle="1").json
        return dict(made["bundle"])

    def verify(self, bundle: Bundle | bytes, *more: str, key: PrivateKey | None = None) -> tuple[int, dict[str, Any]]:
        """Run the program on the zip and a bundle, with the first key unless another is given: exit code and answer."""
        file, evidence = self.folder / "plugin.zip", self.folder / "plugin.evidence"
        file.write_bytes(self.publisher.zip_of(HONEST_SLUG))
        evidence.write_bytes(bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode())
        given = ["--key", did_key((key or self.first_key).public), *more]
        done = subprocess.run(
            [*COMMAND, "verify", str(file), "--evidence", str(evidence), *given, "--json"],
            capture_output=True,
            timeout=60,
            check=False,
            env={name: text for name, text in os.environ.items() if not name.startswith("PFN_")},
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture
def held(node: Node, publisher: Publisher, tmp_path: Path) -> Held:
    release_key = new_key()
    data = publisher.zip_of(HONEST_SLUG)
    description = sha256(metadata_message(HONEST_SLUG, HONEST_SLUG, "1.0", "A tool.")).digest()
    statement = ReleaseStatement(
        *(publisher.url, publisher.author, HONEST_SLUG, "1.0", sha256(data).digest(), len(data)),
        *(0, int(time() * 1_000), description),
    )
    members = {"release_v2": b64(sign_release(release_key, statement).raw), "keybind_v2": bound(publisher, release_key)}
    publisher.listings[0].edit = lambda entry: entry | members
    said = publisher.author_data() | {"keybind_v2": members["keybind_v2"]}
    publisher.answers["/author-data"] = always(as_json(said))
    subscribe(node, publisher)
    return Held(node, publisher, publisher.key, release_key, tmp_path)


def bound(publisher: Publisher, release_key: PrivateKey, identity: PrivateKey | None = None) -> str:
    return b64(sign_keybind(identity or publisher.key, release_key, publisher.url).raw)


def texts(*envelopes: Envelope) -> list[str]:
    return [b64(one.raw) for one in envelopes]


def test_what_a_bundle_cannot_show_is_said_of_a_genuine_one_too(held: Held) -> None:
    code, answer = held.verify(held.bundle())

    assert (code, answer["valid"], answer["assurance"]["level"]) == (0, True, "A3")
    assert answer["assurance"]["caveats"]


@pytest.mark.parametrize("whose", ["the release key", "the identity key"])
def test_a_release_of_a_key_that_was_revoked_is_not_genuine(held: Held, whose: str) -> None:
    before = held.bundle()
    key = held.release_key if whose == "the release key" else held.first_key
    assert hand_in(held.node, revocation(held.publisher, held.first_key, key)) == ["new"]

    code, answer = held.verify(held.bundle(), "--min", "A0")
    assert (code, answer["valid"], answer["revoked"]) == (1, False, True)
    assert held.verify(before)[0] == 0, "a bundle from before knows nothing of it"


def test_a_yanked_release_is_not_called_genuine_and_an_advisory_warns(held: Held) -> None:
    assert hand_in(held.node, advisory(held.publisher, held.release_key, ranges=(("1.0", ""),))) == ["new"]
    code, answer = held.verify(held.bundle())
    assert (code, [one["advisory_id"] for one in answer["advisories"]]) == (0, ["PFN-1"])

    assert hand_in(held.node, yank(held.publisher, "1.0", held.release_key)) == ["new"]
    code, answer = held.verify(held.bundle())
    assert (code, answer["valid"], answer["yanked"]) == (1, False, "it eats posts")


def test_a_release_is_checked_by_who_knows_only_the_key_before_the_rotation(held: Held) -> None:
    new = new_key()
    hand_in(held.node, rotation(held.publisher, new))
    bundle = held.bundle()
    assert held.verify(bundle)[0] == 1, "the new key has bound nothing yet"
    bundle["keys"].append(bound(held.publisher, held.release_key, new))

    for key in (held.first_key, new):
        code, answer = held.verify(bundle, key=key)
        assert (code, answer["key"]) == (0, did_key(new.public))


THIEF = PrivateKey(bytes([66]) * 32)
FORGERIES: dict[str, Callable[[Held], list[str]]] = {
    "vouched by a thief": lambda held: texts(rotation(held.publisher, THIEF, voucher=THIEF)),
    "of another author": lambda held: texts(rotation(held.publisher, THIEF, author="alice")),
    "of another host": lambda held: texts(rotation(held.publisher, THIEF, origin="https://elsewhere.example")),
    "to the thief's own key from his own": lambda held: texts(rotation(held.publisher, THIEF, old=new_key())),
    "not in effect yet": lambda held: texts(rotation(held.publisher, THIEF, effective_s=int(time()) + 3_600)),
    "after a revocation": lambda held: texts(
        revocation(held.publisher, held.first_key), rotation(held.publisher, THIEF)
    ),
    "beside the genuine one": lambda held: texts(
        rotation(held.publisher, THIEF), rotation(held.publisher, new_key(), epoch=2)
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_thief_rotates_no_key_by_a_bundle(held: Held, forgery: str) -> None:
    """His release is signed by a key that the one which he names would have bound."""
    statement = sign_release(THIEF, replace(_statement_of(held), epoch=0))
    pen = new_key()
    bundle = held.bundle() | {"keys": [*FORGERIES[forgery](held), bound(held.publisher, pen, THIEF)]}
    bundle["evidence"] = [{"form": "release/2", "data": b64(statement.raw), "text": ""}]

    assert held.verify(bundle)[0] == 1


def _statement_of(held: Held) -> ReleaseStatement:
    data = held.publisher.zip_of(HONEST_SLUG)
    return ReleaseStatement(
        *(held.publisher.url, held.publisher.author, HONEST_SLUG, "1.0", sha256(data).digest(), len(data)),
        *(0, int(time() * 1_000), bytes(32)),
    )


def test_the_notices_of_a_stranger_take_nothing_back(held: Held) -> None:
    bundle = held.bundle()
    bundle["keys"] += texts(revocation(held.publisher, THIEF))
    bundle["notices"] += texts(yank(held.publisher, "1.0", THIEF))

    code, answer = held.verify(bundle)

    assert (code, answer["revoked"], answer["yanked"]) == (0, False, None)


def test_an_all_clear_that_the_publisher_did_not_sign_clears_nothing(held: Held) -> None:
    bundle = held.bundle()
    later = int(time() * 1_000) + 60_000
    bundle["notices"] += texts(
        yank(held.publisher, "1.0", held.release_key), yank(held.publisher, "1.0", THIEF, seq=later, withdrawn=True)
    )

    assert held.verify(bundle)[0] == 1


@pytest.mark.parametrize("member", ["keys", "notices"])
def test_a_statement_that_nobody_can_read_is_never_passed_over(held: Held, member: str) -> None:
    bundle = held.bundle()
    bundle[member].append(b64(b"a form to come"))

    code, answer = held.verify(bundle)

    assert (code, answer["key_known"]) == (1, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made | {"keys": ["AA=="] * 97},
        lambda made: made | {"notices": ["AA=="] * 65},
        lambda made: made | {"keys": ["A" * 4_096]},
        lambda made: {name: value for name, value in made.items() if name != "notices"},
        lambda made: made | {"format": "pfn-evidence/1"},
        lambda made: made | {"more": []},
    ],
    ids=["too many keys", "too many notices", "a key too long", "no notices", "a former format", "a strange member"],
)
def test_a_bundle_that_is_none_cannot_be_read(held: Held, change: Callable[[Bundle], Bundle]) -> None:
    assert held.verify(change(held.bundle()))[0] == 2
