"""What publishers sign, and names: R50 to R63."""

import base64
from collections.abc import Iterator
from dataclasses import astuple, replace

from pfn_protocol.encoding import Value, pack, preimage, seal
from pfn_protocol.publisher import (
    HeadStatement,
    KeybindStatement,
    ReleaseStatement,
    sign_head,
    sign_keybind,
    sign_release,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, NOW_MS, Case, plain

ORIGIN = "https://publisher.example"
RELEASE = ReleaseStatement(ORIGIN, "bilbo", "hello", "1.0.0", b"\x11" * 32, 1_038, 0, NOW_MS, b"\x12" * 32)
HEAD = HeadStatement(b"\x13" * 32, 2, NOW_MS, NOW_MS // 1_000 + 86_400)


def cases() -> Iterator[Case]:
    yield from _texts()
    yield from _raw_members()
    yield from _releases()
    yield from _heads()
    yield from _keybinds()
    yield from _signature_texts()


def _texts() -> Iterator[Case]:
    entry = {
        "slug": "hello",
        "name": 'A "quoted" <b>name</b> 🌱',
        "version": "1.0",
        "short_description": "a/b\u2028\x7f",
    }
    written = '{"id":"hello","name":"A \\"quoted\\" <b>name</b> 🌱","version":"1.0","description":"a/b\u2028\x7f"}'
    yield Case("metadata", "R50", "metadata", {"entry": entry}, written)
    bare = {"slug": "hello", "name": "Hello", "version": "1.0", "tags": {}}
    yield Case(
        "metadata without a description",
        "R50",
        "metadata",
        {"entry": bare},
        '{"id":"hello","name":"Hello","version":"1.0"}',
    )
    for name, change in (
        ("metadata whose description is null", {"short_description": None}),
        ("metadata whose version is a number", {"version": 1}),
    ):
        yield Case(name, "R50", "metadata", {"entry": {**bare, **change}}, refused="R50")
    nameless = {"slug": "hello", "version": "1.0"}
    yield Case("metadata without a name", "R50", "metadata", {"entry": nameless}, refused="R50")
    for name, text, written in (
        ("short escapes", '"\\/\b\t\n\f\r', '\\"\\\\/\\b\\t\\n\\f\\r'),
        ("control characters", "\x00\x0b\x1f", "\\u0000\\u000b\\u001f"),
        ("half of a surrogate pair", "a\ud83db\udc00", "a\\ud83db\\udc00"),
        ("both halves of a surrogate pair", "\ud83c\udf31", "🌱"),
        ("no ASCII", "é\u2028\U0010ffff", "é\u2028\U0010ffff"),
    ):
        yield Case(name, "R51", "stringify", {"members": [["id", text]]}, f'{{"id":"{written}"}}')
    yield Case("an object without members", "R51", "stringify", {"members": []}, "{}")


def _raw_members() -> Iterator[Case]:
    for name, text, member in (
        (
            "a member among others",
            '{"a": 1, "data" : [1.0,{"b": "\\u00e9"}] ,"signature":"x"}',
            '[1.0,{"b": "\\u00e9"}]',
        ),
        ("white space around", ' \n{\t"data":\r\n"x" } ', '"x"'),
        ("an escaped name", '{"d\\u0061ta":null}', "null"),
        ("the same name further inside", '{"b":{"data":1},"data":2}', "2"),
        (
            "a number with more digits than a float has",
            '{"data":1.00000000000000000001e400}',
            "1.00000000000000000001e400",
        ),
    ):
        yield Case(name, "R52", "raw-member", {"text": text, "member": "data"}, member)
    for name, text in (
        ("no such member", '{"a":1}'),
        ("an empty object", "{}"),
        ("the member twice", '{"data":1,"data":2}'),
        ("the member twice, once escaped", '{"data":1,"d\\u0061ta":1}'),
        ("no object", '["data"]'),
        ("nothing", ""),
        ("something after the object", '{"data":1}x'),
        ("something after an empty object", "{}x"),
        ("an object that does not end", '{"data":1'),
        ("a comma too many", '{"data":1,}'),
        ("a name that is no text", "{data:1}"),
        ("no colon", '{"data" 1}'),
        ("NaN", '{"data":NaN}'),
        ("a line break in a text", '{"data":"a\nb"}'),
        ("lists in lists without end", '{"data":' + "[" * 5_000),
    ):
        yield Case(name, "R52", "raw-member", {"text": text, "member": "data"}, refused="R52")


def _releases() -> Iterator[Case]:
    accepted = {"statement": plain(RELEASE), "release_key": CAROL.public.hex()}
    raw = sign_release(CAROL, RELEASE).raw
    yield Case("a release", "R53", "release", {"input": raw.hex()}, accepted)
    in_mesh = seal(CAROL, "pfn/release/2", "main", astuple(RELEASE)).raw
    yield Case("a release in a mesh", "R7", "release", {"input": in_mesh.hex()}, refused="R5")
    yield Case("a head for a release", "R8", "release", {"input": sign_head(CAROL, HEAD).raw.hex()}, refused="R8")
    for name, change, refused in (
        ("an origin with a trailing slash", {"origin": ORIGIN + "/"}, "R53"),
        ("an origin that is no URL", {"origin": "publisher.example"}, "R58"),
        ("an author with a slash", {"author": "bil/bo"}, "R59"),
        ("a slug in capitals", {"slug": "Hello"}, "R60"),
        ("a version that begins with a dot", {"version": ".1"}, "R61"),
        ("a short digest", {"sha256": b"\x11"}, "R53"),
        ("a zip of no bytes", {"size": 0}, "R53"),
        ("a seq of 1970", {"seq": 1}, "R53"),
    ):
        bad = seal(CAROL, "pfn/release/2", "", astuple(replace(RELEASE, **change))).raw
        yield Case(f"a release with {name}", "R53", "release", {"input": bad.hex()}, refused=refused)
    short = seal(CAROL, "pfn/release/2", "", astuple(RELEASE)[:8]).raw
    yield Case("a release of eight fields", "R53", "release", {"input": short.hex()}, refused="R53")


def _heads() -> Iterator[Case]:
    raw = sign_head(CAROL, HEAD).raw.hex()
    accepted = {"statement": plain(HEAD), "release_key": CAROL.public.hex()}
    yield Case("a head", "R54", "head", {"input": raw}, accepted)
    yield Case("a release for a head", "R8", "head", {"input": sign_release(CAROL, RELEASE).raw.hex()}, refused="R8")
    bad = seal(CAROL, "pfn/head/2", "", (HEAD.root, HEAD.count, 1, HEAD.expires_s)).raw.hex()
    yield Case("a head with a seq of 1970", "R54", "head", {"input": bad}, refused="R54")
    for name, now_ms, fresh in (
        ("a head that counts", NOW_MS, True),
        ("a head in its last second", NOW_MS + 86_399_999, True),
        ("a head that has expired", NOW_MS + 86_400_000, False),
        ("a head promised for more than 14 days", NOW_MS - 14 * 86_400_000, False),
    ):
        yield Case(name, "R54", "head-fresh", {"input": raw, "now": now_ms}, fresh)


def _keybinds() -> Iterator[Case]:
    raw = sign_keybind(ALICE, CAROL, ORIGIN).raw
    statement = KeybindStatement(ORIGIN, ALICE.public, CAROL.public)
    accepted = {"statement": plain(statement), "release_key": CAROL.public.hex()}
    yield Case("a keybind", "R55", "keybind", {"input": raw.hex()}, accepted)

    def keybind(name: str, body: Value, refused: str = "R55") -> Case:
        sealed = seal(CAROL, "pfn/keybind/2", "", body).raw
        return Case(f"a keybind {name}", "R55", "keybind", {"input": sealed.hex()}, refused=refused)

    def signed(origin: str, release_key: bytes) -> bytes:
        return ALICE.sign(preimage("pfn/keybind/2", "", pack((origin, ALICE.public, release_key))))

    yield keybind("of another release key", (ORIGIN, ALICE.public, BOB.public, signed(ORIGIN, BOB.public)))
    right = signed(ORIGIN, CAROL.public)
    yield keybind("of another identity key", (ORIGIN, BOB.public, CAROL.public, right))
    yield keybind("of another origin", ("https://other.example", ALICE.public, CAROL.public, right))
    yield keybind("with an origin in another spelling", (ORIGIN + ":443", ALICE.public, CAROL.public, right))
    yield keybind("of an identity key of small order", (ORIGIN, bytes(32), CAROL.public, right), "R1")
    yield keybind("without the identity key's signature", (ORIGIN, ALICE.public, CAROL.public, b""))


def _signature_texts() -> Iterator[Case]:
    signature = CAROL.sign(bytes(48))
    text = base64.b64encode(signature).decode()
    yield Case("a signature", "R56", "signature-text", {"text": text}, signature.hex())
    for name, wrong in (
        ("in hex", signature.hex()),
        ("of 63 bytes", text[:84]),
        ("of nothing", ""),
        ("not ASCII", "é" * 88),
    ):
        yield Case(f"a signature {name}", "R56", "signature-text", {"text": wrong}, refused="R56")
