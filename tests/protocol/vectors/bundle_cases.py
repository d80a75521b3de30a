"""Evidence bundles, R160 to R166: what each proves to who was given a key and trusts some nodes."""

from collections.abc import Iterator
from typing import Any

from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.evidence_bundle import SignedPiece
from pfn_protocol.identity import PrivateKey
from tests.protocol.bundles import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    ERIN,
    MALLORY,
    NOW_MS,
    RECOVERY,
    SECOND,
    THIRD,
    advised,
    attests,
    bound,
    bundle,
    described,
    head,
    measured,
    released,
    revoked,
    rotated,
    saw,
    written,
    yanked,
)
from tests.protocol.vectors.case import Case

NODES = (ALICE, BOB, ERIN)
BASE: dict[str, Any] = {"evidence": (released(), bound()), "witnesses": (), "attestations": ()}


def cases() -> Iterator[Case]:
    yield from _forms()
    yield from _keys()
    yield from _words()


def _case(
    name: str,
    rule: str,
    level: str,
    *,
    key: PrivateKey | None = CAROL,
    trusted: tuple[PrivateKey, ...] = (),
    last: PrivateKey | None = None,
    known: str | None = "given",
    **more: Any,
) -> Case:
    """`last`: the key that follows from the given one; `more`: members of the bundle, or of what is expected."""
    expected = {
        "level": level,
        "key": (last or key or CAROL).public.hex(),
        "known": known,
        "revoked": more.pop("revoked", False),
        "yanked": more.pop("yanked", False),
        "advisories": more.pop("advisories", []),
    }
    given = {
        "text": written(bundle(**(BASE | more))).decode(),
        "key": "" if key is None else key.public.hex(),
        "trusted": [node.public.hex() for node in trusted],
        "sha256": measured().sha256.hex(),
        "sha384": measured().sha384.hex(),
        "size": measured().size,
        "now": NOW_MS,
    }
    return Case(name, rule, "bundle", given, expected)


def _forms() -> Iterator[Case]:
    whole = _case("a release by a release key", "R162", "A3")
    yield whole
    for name, text in (
        ("a member that is not known", whole.given["text"].replace('"oracle"', '"more": 1, "oracle"')),
        ("a former form", whole.given["text"].replace("pfn-evidence/2", "pfn-evidence/1")),
        ("no notices", whole.given["text"].replace(', "notices": []', "")),
    ):
        yield Case(name, "R160", "bundle", whole.given | {"text": text}, refused="R160")
    yield _case("nobody's key is given", "R161", "reported", key=None, known=None)
    attested: dict[str, Any] = {"attestations": (attests(ALICE),)}
    yield _case(
        "a key that a trusted node attests", "R161", "A3", key=None, known="attested", trusted=NODES, **attested
    )
    yield _case("a release key that nobody bound", "R162", "reported", evidence=(released(),))
    watched: dict[str, Any] = {"witnesses": tuple(saw(node) for node in NODES)}
    yield _case("three trusted witnesses and no signature", "R163", "A2", trusted=NODES, evidence=(), **watched)
    passed_on: dict[str, Any] = {"witnesses": (saw(NODES[0]), *(saw(node, observed_at=0) for node in NODES[1:]))}
    yield _case("two witnesses that did not fetch it", "R163", "A0", trusted=NODES, evidence=(), **passed_on)
    yield _case("a text and a witness", "R164", "A1", trusted=NODES, evidence=(described(),), witnesses=(saw(BOB),))
    headed = (*BASE["evidence"], head())
    yield _case("everything", "R164", "A4", trusted=NODES, evidence=headed, **watched)


def _keys() -> Iterator[Case]:
    new = (released(THIRD), bound(SECOND, THIRD))
    yield _case("a rotation", "R165", "A3", evidence=new, keys=(rotated(CAROL, SECOND),), last=SECOND)
    yield _case(
        "a rotation of another author", "R165", "reported", evidence=new, keys=(rotated(CAROL, SECOND, author="b"),)
    )
    yield _case("the old key after a rotation", "R165", "reported", keys=(rotated(CAROL, SECOND),), last=SECOND)
    again = (rotated(CAROL, SECOND), bound(SECOND).data)
    yield _case("a release key that was bound again", "R165", "A3", keys=again, last=SECOND)
    yield _case(
        "the new key is given, the old one bound", "R165", "reported", key=SECOND, keys=(rotated(CAROL, SECOND),)
    )
    later = rotated(CAROL, SECOND, effective_s=NOW_MS // 1_000 + 1)
    yield _case("a rotation that is not in effect yet", "R165", "A3", keys=(later,))
    both = (rotated(CAROL, SECOND), rotated(CAROL, MALLORY, 2))
    yield _case("two successors", "R165", "reported", keys=both)
    yield _case("a revoked identity key", "R165", "reported", keys=(revoked(CAROL),), revoked=True)
    yield _case("a revoked release key", "R165", "reported", keys=(revoked(DORA, CAROL),), revoked=True)
    yield _case("revoked by a stranger", "R165", "A3", keys=(revoked(DORA, MALLORY),))
    thief = (revoked(CAROL), rotated(CAROL, MALLORY), bound(MALLORY).data)
    yield _case("a revoked key names a successor", "R165", "reported", keys=thief, revoked=True)
    begun = rotated(CAROL, SECOND, 3, recovery=RECOVERY)
    recovered = (begun, rotated(SECOND, MALLORY, 4), rotated(SECOND, THIRD, 5, voucher=RECOVERY), bound(THIRD).data)
    yield _case("the recovery key of the given one", "R165", "A3", key=SECOND, keys=recovered, last=THIRD)
    other = (begun, rotated(MALLORY, SECOND, 2, recovery=MALLORY), bound(SECOND).data)
    yield _case("two recovery keys", "R165", "reported", key=SECOND, keys=other, known=None)
    yield _case("a statement that cannot be read", "R165", "reported", keys=(b"a form to come",), known=None)


def _words() -> Iterator[Case]:
    yield _case("a yank", "R166", "A3", notices=(yanked(),), yanked=True)
    withdrawn = yanked(seq=NOW_MS + 1, withdrawn=True)
    yield _case("a yank that was taken back", "R166", "A3", notices=(withdrawn, yanked()))
    yield _case("both at one place", "R166", "A3", notices=(yanked(withdrawn=True), yanked()), yanked=True)
    yield _case(
        "taken back by a stranger", "R166", "A3", notices=(yanked(), yanked(MALLORY, withdrawn=True)), yanked=True
    )
    yield _case("a yank of another version", "R166", "A3", notices=(yanked(version="1.0.1"),))
    yield _case("a yank by the identity key", "R166", "A3", notices=(yanked(CAROL),), yanked=True)
    yield _case("a yank by a key that signs anything", "R166", "reported", notices=(yanked(CAROL),), oracle="raw")
    followed: dict[str, Any] = {"keys": (rotated(CAROL, SECOND), bound(SECOND, THIRD).data), "last": SECOND}
    evidence = (released(THIRD), bound())
    yield _case(
        "a yank by a key that was followed",
        "R166",
        "A3",
        evidence=evidence,
        notices=(yanked(),),
        yanked=True,
        **followed,
    )
    yield _case("an advisory", "R166", "A3", notices=(advised(),), advisories=["PFN-1"])
    yield _case("an advisory about other versions", "R166", "A3", notices=(advised(ranges=(("2.0", ""),)),))
    junk = SignedPiece(EvidenceForm.KEYBIND, b"none")
    yield _case(
        "a yank that cannot be read", "R166", "reported", evidence=(released(), junk), notices=(b"y",), known=None
    )
