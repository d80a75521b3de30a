"""Whose word backs bytes, how much is said of them, and when they are looked at again: R90 to R94, R150, R155."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from pfn_protocol.backing import Relation
from tests.protocol.vectors.case import Case, plain
from tests.protocol.vectors.checks import run

GOOD, EVIL = sha256(b"the release").hexdigest(), sha256(b"something else").hexdigest()


def observer(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def seen(name: str, relation: Relation, digest: str = GOOD, **more: Any) -> dict[str, Any]:
    """A sighting by a node that fetched the bytes itself."""
    usual = {"size": 100, "signed": False, "release": False, "observed_at": 1_000, "path_keys": [], "headed": False}
    near = relation.name.lower()
    return {"observer": observer(name), "relation": near, "sha256": digest, "witness": near, **usual, **more}


ME = seen("me", Relation.SELF)
PIN, PIN_2, PIN_3 = (seen(name, Relation.PIN) for name in ("pin", "pin 2", "pin 3"))
FAR, FAR_2 = (
    seen(name, Relation.DEPTH, path_keys=[observer(via)]) for name, via in (("far", "pin"), ("far 2", "pin 2"))
)
CROWD = [seen(f"stranger {number}", Relation.STRANGER, signed=True) for number in range(5)]
RELEASE = seen("stranger", Relation.STRANGER, release=True, witness="stranger")
HEADED = {**RELEASE, "headed": True}


def _ruled(name: str, says: str, rule: str, *sightings: dict[str, Any], **more: Any) -> Case:
    """`says`: the level, who backs it, and whether there is a conflict, in words; the rest is written down as found."""
    usual: dict[str, Any] = {"key_known": True, "held": None, "raw_oracle": False, "trust_depth": 1}
    given = {"sightings": list(sightings), **usual, **more}
    judgement = plain(run({"check": "judgement", **given})[1])
    found = [judgement["level"], judgement["backed_by"] or "nobody", *["conflict"] * judgement["conflict"]]
    assert " ".join(found) == says, f"{name}: {found}"
    return Case(name, rule, "judgement", given, judgement)


def cases() -> Iterator[Case]:
    yield _ruled("nothing was seen", "reported nobody", "R90")
    yield _ruled(
        "only strangers: reported, as most of them say",
        "reported nobody",
        "R90",
        *CROWD[:2],
        {**CROWD[2], "sha256": EVIL},
    )
    yield _ruled("a pinned observer", "A0 pin", "R91", PIN)
    yield _ruled("the own observation over a pin's", "A0 self", "R91", ME, {**PIN, "sha256": EVIL})
    yield _ruled("a release over the own observation", "A3 release", "R91", ME, {**RELEASE, "sha256": EVIL, "size": 5})
    yield _ruled("a release of a key that is not known", "reported nobody", "R91", RELEASE, key_known=False)
    yield _ruled("a release beside a raw oracle", "reported nobody", "R91", RELEASE, raw_oracle=True)
    yield _ruled("two at depth whose paths share no key", "A0 depth", "R91", FAR, FAR_2, trust_depth=2)
    yield _ruled("two at depth, but the trust depth is 1", "reported nobody", "R91", FAR, FAR_2)
    yield _ruled(
        "two at depth behind one pin",
        "reported nobody",
        "R91",
        FAR,
        {**FAR_2, "path_keys": FAR["path_keys"]},
        trust_depth=2,
    )
    yield _ruled(
        "two pins differ: what was served first stays",
        "A0 pin conflict",
        "R92",
        PIN,
        {**PIN_2, "sha256": EVIL},
        held=EVIL,
    )
    yield _ruled(
        "two pins differ: what was seen first",
        "A0 pin conflict",
        "R92",
        PIN,
        {**PIN_2, "sha256": EVIL, "observed_at": 999},
    )
    yield _ruled(
        "strangers dispute", "A1 pin", "R93", {**PIN, "signed": True}, *({**one, "sha256": EVIL} for one in CROWD)
    )
    yield _ruled("signed by a known key: A1", "A1 pin", "R94", {**PIN, "signed": True})
    yield _ruled("signed by an unknown key: A0", "A0 pin", "R94", {**PIN, "signed": True}, key_known=False)
    yield _ruled("a release: A3", "A3 release", "R94", RELEASE)
    yield _ruled("a release, a fresh head, three witnesses: A4", "A4 release", "R94", HEADED, ME, PIN, PIN_2)
    yield _ruled("a release and three witnesses without a head: A3", "A3 release", "R94", RELEASE, ME, PIN, PIN_2)
    yield _ruled("a release and a fresh head with two witnesses: A3", "A3 release", "R94", HEADED, ME, PIN)
    yield _ruled("three witnesses, one of them this node: A2", "A2 self", "R150", ME, PIN, PIN_2)
    yield _ruled("three pins: A2", "A2 pin", "R150", PIN, PIN_2, PIN_3)
    yield _ruled("two near ones and one whom a pin pins: A2", "A2 self", "R150", ME, PIN, FAR)
    yield _ruled("one near one and two far ones: A0", "A0 self", "R150", ME, FAR, FAR_2)
    yield _ruled("two near ones and a crowd of strangers: A1", "A1 self", "R150", ME, PIN, *CROWD)
    yield _ruled("one who did not fetch the bytes: A0", "A0 self", "R150", ME, PIN, {**PIN_2, "witness": "stranger"})
    yield _ruled("one who says another size: A0", "A0 self", "R150", ME, PIN, {**PIN_2, "size": 101})
    yield _ruled("one who says it twice: A0", "A0 self", "R150", ME, PIN, {**PIN, "observed_at": 2_000})
    yield _ruled(
        "witnesses in a conflict: A0", "A0 pin conflict", "R150", PIN, PIN_2, FAR, {**PIN_3, "sha256": EVIL}, held=GOOD
    )
    yield _ruled("a pin was given other bytes: A0", "A0 self", "R150", ME, PIN, PIN_2, {**PIN_3, "sha256": EVIL})
    yield _ruled("a far node was given other bytes: A2", "A2 self", "R150", ME, PIN, PIN_2, {**FAR, "sha256": EVIL})
    yield from _refetches()


def _refetches() -> Iterator[Case]:
    for name, holders, whether, when, due in (
        ("one holder looks, whatever is drawn", 1, 0.999, 0.0, 1_000_000.0),
        ("five holders all look", 5, 0.999, 0.5, 1_043_200.0),
        ("of ten every other one: drawn", 10, 0.499, 0.25, 1_021_600.0),
        ("of ten every other one: not drawn", 10, 0.5, 0.25, None),
        ("of a thousand a tenth: drawn", 1_000, 0.099, 0.75, 1_064_800.0),
        ("of a thousand a tenth: not drawn", 1_000, 0.1, 0.75, None),
    ):
        given = {"holders": holders, "now": 1_000_000, "whether": whether, "when": when}
        yield Case(name, "R155", "refetch", given, due)
    for name, planned, sooner in (
        ("nothing was planned", None, 1_001_500.0),
        ("it was planned for sooner", 1_000_100.0, 1_000_100.0),
        ("it was planned for later", 1_080_000.0, 1_001_500.0),
    ):
        dispute: dict[str, Any] = {"planned": planned, "now": 1_000_000, "when": 0.5}
        yield Case(f"a dispute: {name}", "R155", "refetch-disputed", dispute, sooner)
