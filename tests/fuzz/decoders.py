"""Every function of the node that takes bytes or text of strangers apart, with valid inputs to start from.

What is signed is mostly changed before it is signed, by a key that the decoder takes: else all changes would end at the
signature. `errors` are what a decoder may raise; anything else is a fault, and so is an accepted statement that does
not come out of its own encoding again.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from pfn_node.addresses import check_url, may_dial
from pfn_node.archive import ArchiveRefused, inspect
from pfn_node.mesh.joining import parse_join_target
from pfn_node.mesh.views import NodeInfo
from pfn_node.outbound_errors import OutboundError
from pfn_node.plugin_headers import PLUGIN_LABELS, read_headers
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_answers import (
    parse_author_data,
    parse_federation_info,
    parse_plugin_data,
    parse_proof,
)
from pfn_protocol.acceptance import accept, announce
from pfn_protocol.announcement_fields import encode
from pfn_protocol.announcements import Conviction, Statement
from pfn_protocol.answer_fields import ANSWER_PATHS, encode_answer
from pfn_protocol.bundle_proof import TrustRoots, prove
from pfn_protocol.encoding import Value, open_envelope, pack, seal, unpack
from pfn_protocol.equivocation import convict, stories
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import read_bundle, write_bundle
from pfn_protocol.identity import PrivateKey, did_key, parse_did_key, parse_public_key, public_key_pem
from pfn_protocol.json_text import raw_member
from pfn_protocol.limits import sketch_cell_bytes
from pfn_protocol.message_fields import open_answer, open_request
from pfn_protocol.messages import Answer, Request
from pfn_protocol.names import (
    check_slug,
    check_source_id,
    check_username,
    check_version,
    parse_asset_url,
    parse_instance_url,
    source_id_of,
)
from pfn_protocol.publisher import (
    metadata_from_author_data,
    open_head,
    open_keybind,
    open_release,
    parse_signature,
    sign_keybind,
)
from pfn_protocol.publisher_notices import open_notice
from pfn_protocol.request_fields import encode_request
from pfn_protocol.sketch import Cells, build_cells
from pfn_protocol.versions import compare
from tests.fuzz.mutation import BYTES, NUMBERS, json_bytes, mutated_bytes, mutated_text, mutated_value
from tests.node.attack_zips import ATTACKS
from tests.node.test_archive import TOOL_ZIPS
from tests.node.zip_forge import FOLDER, Forged, forge, main_file, unicode_path, zip64_field
from tests.protocol.bundles import bundle, measured, written
from tests.protocol.vectors.announcement_cases import (
    ADVISORY,
    MIRROR,
    NODE,
    OWN_ADVISORY,
    OWN_YANK,
    REVOKE,
    SOURCE,
    SUCCESSION,
    SUCCESSOR,
    VERSION,
    YANK,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, MESH, NOW_MS
from tests.protocol.vectors.message_cases import ANSWERS, NONCE, REQUESTS
from tests.protocol.vectors.notice_cases import ADVISED, REVOKED, ROTATED, YANKED
from tests.protocol.vectors.publisher_cases import HEAD, ORIGIN, RELEASE

SALT: Final = bytes(16)
CELLS: Final = 64


@dataclass(frozen=True)
class Decoder:
    """`make` gives an input, `decode` takes it apart; `weight` says how many inputs it gets, next to the others."""

    name: str
    make: Callable[[Random], bytes]
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = (Refusal,)
    weight: float = 1.0


def _signed(domain: str, mesh: str, key: PrivateKey, bodies: tuple[Value, ...]) -> Callable[[Random], bytes]:
    """Envelopes of changed bodies; every fifth is changed after it was signed instead."""
    raws = tuple(seal(key, domain, mesh, body).raw for body in bodies)

    def make(rng: Random) -> bytes:
        if rng.random() < 0.2:
            return mutated_bytes(rng, rng.choice(raws), raws)
        try:
            return seal(key, domain, mesh, mutated_value(rng, rng.choice(bodies))).raw
        except Refusal:  # it came out too deep
            return rng.choice(raws)

    return make


def _announcement(raw: bytes) -> None:
    taken = accept(raw, mesh=MESH, now_ms=NOW_MS)
    statement = taken.statement
    if isinstance(statement, Conviction):
        assert convict(*(accept(story, mesh=MESH, now_ms=NOW_MS) for story in stories(raw))).raw == raw
        return
    opened = open_envelope(raw, mesh=MESH, domain=f"pfn/{statement.kind}/1", bytes_max=len(raw))
    assert pack(encode(statement, taken.epoch, taken.seq)) == opened.body, "it says something else when it is told on"


def _announcements() -> Iterator[Decoder]:
    statements: dict[str, tuple[Statement, ...]] = {
        "node": (NODE,),
        "source": (SOURCE,),
        "version": (VERSION,),
        "mirror": (MIRROR,),
        "yank": (YANK, OWN_YANK),
        "advisory": (ADVISORY, OWN_ADVISORY),
        "revoke": (REVOKE,),
        "successor": (SUCCESSOR,),
        "succession": (SUCCESSION,),
    }
    for kind, alike in statements.items():
        bodies = tuple(encode(one, epoch, NOW_MS + epoch * 500_000) for one in alike for epoch in (0, 1))
        yield Decoder(f"{kind} announcement", _signed(f"pfn/{kind}/1", MESH, ALICE, bodies), _announcement, weight=2)
    told = [
        announce(ALICE, MESH, replace(VERSION, sha256=bytes([digest]) * 32), 7, NOW_MS + digest) for digest in (1, 2)
    ]
    raws = (convict(*told).raw, *(one.raw for one in told))
    yield Decoder("conviction", lambda rng: mutated_bytes(rng, raws[0], raws), _announcement, weight=2)


def _request(path: str, raw: bytes) -> None:
    taken = open_request(raw, mesh=MESH, path=path, me=BOB.public, now_ms=NOW_MS)
    opened = open_envelope(raw, mesh=MESH, domain="pfn/request/1", bytes_max=len(raw))
    assert isinstance(opened.value, tuple)
    assert pack(encode_request(taken.message)) == pack(opened.value[4])


def _answer(path: str, raw: bytes) -> None:
    taken = open_answer(raw, mesh=MESH, nonce=NONCE, sender_expected=BOB.public, path=path)
    opened = open_envelope(raw, mesh=MESH, domain="pfn/response/1", bytes_max=len(raw))
    assert isinstance(opened.value, tuple)
    assert pack(encode_answer(taken)) == pack(opened.value[2])


def _messages() -> Iterator[Decoder]:
    requests: dict[str, list[Request]] = {}
    for request in REQUESTS:
        requests.setdefault(request.path, []).append(request)
    for path, messages in requests.items():
        asked = tuple((path, BOB.public, NOW_MS, NONCE, encode_request(one)) for one in messages)
        yield Decoder(f"{path} request", _signed("pfn/request/1", MESH, ALICE, asked), partial(_request, path))
    answers: dict[str, list[Answer]] = {}
    for path, answer in ANSWERS:
        answers.setdefault(path, []).append(answer)
    for path, replies in answers.items():
        told = tuple((ANSWER_PATHS[type(one)], NONCE, encode_answer(one)) for one in replies)
        yield Decoder(f"{path} answer", _signed("pfn/response/1", MESH, BOB, told), partial(_answer, path))


def _publisher() -> Iterator[Decoder]:
    keybind = open_envelope(
        sign_keybind(ALICE, CAROL, ORIGIN).raw, mesh="", domain="pfn/keybind/2", bytes_max=4096
    ).value
    yield Decoder("release", _signed("pfn/release/2", "", CAROL, (astuple(RELEASE),)), open_release)
    yield Decoder("head", _signed("pfn/head/2", "", CAROL, (astuple(HEAD),)), open_head)
    yield Decoder("keybind", _signed("pfn/keybind/2", "", CAROL, (keybind,)), open_keybind)
    notices = (
        ("rotate", BOB, ROTATED),
        ("revoke", BOB, REVOKED),
        ("yank", CAROL, YANKED),
        ("advisory", CAROL, ADVISED),
    )
    for domain, key, raw in notices:
        body = open_envelope(raw, mesh="", domain=f"pfn/{domain}/2", bytes_max=4096).value
        yield Decoder(f"{domain} notice", _signed(f"pfn/{domain}/2", "", key, (body,)), open_notice)


_ROOTS: Final = TrustRoots(nodes=frozenset({ALICE.public, BOB.public}))


def _bundle(raw: bytes) -> None:
    read = read_bundle(raw)
    assert read_bundle(json.dumps(write_bundle(read)).encode()) == read
    prove(read, measured(), _ROOTS, NOW_MS)


def _texts(name: str, valid: tuple[str, ...], decode: Callable[[str], object], **options: Any) -> Decoder:
    """A decoder of text; its inputs are bytes only on the way to it."""
    raws = tuple(text.encode() for text in valid)

    def make(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return mutated_text(rng, rng.choice(valid)).encode("utf-8", "surrogatepass")
        return mutated_bytes(rng, rng.choice(raws), raws)

    return Decoder(name, make, lambda data: decode(data.decode("utf-8", "surrogateescape")), **options)


def _instance_url(text: str) -> None:
    url = parse_instance_url(text, allow_http=True)
    assert parse_instance_url(url, allow_http=True) == url, "there is more than one spelling"


def _dialled_url(text: str) -> None:
    url = check_url(text, allow_private_networks=True)
    assert check_url(url, allow_private_networks=True) == url, "there is more than one spelling"


def _public_key(text: str) -> None:
    key = parse_public_key(text)
    assert parse_public_key(public_key_pem(key)) == key


def _version(text: str) -> None:
    check_version(text)
    assert compare(text, text) == 0
    assert compare(text, "1.0") == -compare("1.0", text)


def _asset(text: str) -> None:
    domain, _, scheme = text.partition("|")
    url = parse_asset_url(domain, scheme, "bilbo", "hello", "1.0")
    base = parse_instance_url(domain if "://" in domain else f"https://{domain}", allow_http=True)
    assert url.startswith(base + "/"), "it leads out of its asset domain"


def _names() -> Iterator[Decoder]:
    urls = (
        "https://publisher.example",
        "http://a.b-c.example:8443/x/y",
        "https://[2001:db8::1]/",
        "https://xn--bcher-kva.example",
    )
    yield _texts("instance URL", (*urls, "https://b\u00fccher.example/\u00e9"), _instance_url)
    yield _texts("URL that is dialled", (*urls, "http://127.0.0.1:8470/a?b=c"), _dialled_url, errors=(OutboundError,))
    yield _texts(
        "address that is dialled", ("127.0.0.1", "::1", "fe80::1%eth0", "64:ff9b::1.2.3.4"), may_dial, errors=()
    )
    yield _texts("source id", ("bilbo@publisher.example", "a@[::1]:8443", "\u00e9@b.example:80"), check_source_id)
    yield _texts("username", ("bilbo", "\u00e9ve"), check_username)
    yield _texts("slug", ("hello-signal", "a_b"), check_slug)
    yield _texts("version", ("1.0.0", "2.0-beta.1", "1.0.0+build", "20241030", "1.0RC1", "v1"), _version, weight=2)
    yield _texts("host and user of a source id", urls, lambda text: source_id_of(text, "bilbo"))
    schemes = ("plugins/author/slug/slug.zip", "/author/slug-version.zip")
    yield _texts("asset domain and scheme", tuple(f"assets.example|{one}" for one in schemes), _asset)
    yield _texts(
        "join target", (f"https://a.example#{did_key(ALICE.public)}",), partial(parse_join_target, allow_http=True)
    )
    yield _texts("did:key", (did_key(ALICE.public), did_key(BOB.public)), parse_did_key)
    bare = base64.b64encode(ALICE.public).decode()
    yield _texts("public key", (public_key_pem(ALICE.public), bare), _public_key, weight=2)
    yield _texts("private key", (ALICE.to_pem(),), PrivateKey.from_pem)
    yield _texts("signature", (base64.b64encode(ALICE.sign(b"x")).decode(),), parse_signature)


ENTRY: Final = {
    "slug": "hello", "name": "Hello", "version": "1.0.0", "short_description": "It says hello.", "tags": ["a", "b"],
    "signature": base64.b64encode(bytes(64)).decode(), "icons": {"1x": "https://a.example/i.png"},
    "release_v2": base64.b64encode(seal(CAROL, "pfn/release/2", "", astuple(RELEASE)).raw).decode(),
    "keybind_v2": base64.b64encode(sign_keybind(ALICE, CAROL, ORIGIN).raw).decode(),
}  # fmt: skip


def _json() -> Iterator[Decoder]:
    info = {
        "version": "2",
        "features": ["a"],
        "publicKey": "x",
        "assetInfo": {"domain": "a.example", "namingScheme": "slug.zip"},
    }
    author = {
        "username": "bilbo",
        "member_since": "2024-10-30",
        "website": "https://b.example",
        "plugins": [ENTRY, ENTRY],
    }
    proof = {"signature": base64.b64encode(bytes(64)).decode()}
    data = {"data": [{"slug": "hello", "version": "1.0"}], "signature": proof["signature"]}
    node = {"node_id": did_key(ALICE.public), "url": "https://a.example", "mesh": "main", "software": "pfn/0.1"}
    failed = (PublisherFailed,)
    for name, value, decode, errors in (
        ("federation-info", info, parse_federation_info, failed),
        ("author-data", author, partial(parse_author_data, plugins_max=500), failed),
        ("plugin-data", data, parse_plugin_data, failed),
        ("proof", proof, parse_proof, failed),
        ("node info", node, lambda raw: NodeInfo.from_json(json.loads(raw)), (ValueError, RecursionError)),
        ("signed member", data, lambda raw: raw_member(raw.decode("utf-8", "replace"), "data"), (Refusal,)),
    ):
        yield Decoder(name, partial(_changed_json, value), decode, errors)
    yield Decoder("metadata", partial(_changed_json, ENTRY), _metadata, (Refusal, ValueError, RecursionError))


def _changed_json(value: Mapping[str, Any], rng: Random) -> bytes:
    return json_bytes(rng, value, (json.dumps(value).encode(),))


def _metadata(raw: bytes) -> None:
    entry = json.loads(raw)
    if isinstance(entry, dict):
        metadata_from_author_data(entry)


def _cells_bytes(rng: Random) -> bytes:
    ids = [rng.randbytes(16) for _ in range(rng.choice((0, 1, 20, 60)))]
    raw = build_cells(ids, ids[:3], SALT, CELLS).to_bytes()
    changed = mutated_bytes(rng, raw)
    return changed[: len(changed) // sketch_cell_bytes * sketch_cell_bytes]


def _cells(raw: bytes) -> None:
    cells = Cells.from_bytes(raw)
    if len(cells) > 1:
        cells.estimate(5)
    difference = cells.decode(SALT)
    assert difference is None or len(difference.theirs) + len(difference.mine) <= len(cells)


def _values(rng: Random) -> bytes:
    body: Value = (1, "text", b"bytes", None, True, ((2**53 - 1, ("",) * 3),))
    raw = pack(body)
    return (
        mutated_bytes(rng, raw, (raw, bytes.fromhex("dc1000"), b"\x81\xa1a\x01", b"\xd6\xff\0\0\0\0"))
        if rng.random() < 0.7
        else rng.randbytes(rng.randrange(60))
    )


def _value(raw: bytes) -> None:
    assert pack(unpack(raw, 4096)) == raw


def _zips(rng: Random) -> bytes:
    """Real zips and attacks with bytes changed; and zips made with what is random in some fields of two entries."""
    if rng.random() < 0.5:
        return mutated_bytes(rng, rng.choice(_ZIPS), _ZIPS)
    entries = [main_file(), Forged("forged/a.txt", b"a" * 40), Forged("forged/b/", method=0, attributes=FOLDER)]
    for _ in range(rng.randint(0, 2)):
        changes: dict[str, Any] = {
            "name": mutated_text(rng, "forged/\u00fc.txt").encode("utf-8", "replace")[:60_000],
            "extra": mutated_bytes(rng, rng.choice((zip64_field(1, 2), unicode_path("forged/x"), b"")))[:60_000],
            "method": rng.choice((0, 8, 9, 12)),
            "flags": 1 << rng.randrange(16),
            "attributes": rng.choice((0o020666, 0o120777, 0o100644, 0o040755)) << 16,
            "data": rng.randbytes(20) * rng.choice((0, 1, 2000)),
            "packed_data": rng.randbytes(30),
            "before": rng.choice(BYTES),
            "offset": rng.choice((0, 1, 200)),
        } | {
            name: rng.choice(NUMBERS) & 0xFFFFFFFF
            for name in ("crc", "packed", "unpacked", "local_crc", "local_packed", "local_unpacked")
        }
        name = rng.choice(list(changes))
        entries[1] = Forged(**({"name": "forged/a.txt", "data": b"a" * 40} | {name: changes[name]}))
    comment = rng.choice((b"", b"", b"a comment", b"PK\x05\x06"))
    return forge(entries, comment=comment)


_ZIPS: Final = (
    *(base64.b64decode(zipped) for name, zipped in TOOL_ZIPS.items() if name.endswith(".zip") and "stream" not in name),
    *(zipped for zipped, _ in ATTACKS.values() if len(zipped) < 20_000),
)


def zip_gate(folder: Path) -> Decoder:
    """The gate for zips, which reads a file."""
    path = folder / "fuzzed.zip"

    def judge(raw: bytes) -> None:
        path.write_bytes(raw)
        inspect(path)

    return Decoder("zip", _zips, judge, (ArchiveRefused,), weight=3)


def decoders(folder: Path) -> list[Decoder]:
    """All of them; `folder` for what is read as a file."""
    envelopes = tuple(seal(ALICE, f"pfn/{kind}/1", MESH, ("x", 1)).raw for kind in ("node", "version"))
    noticed = {"keys": (ROTATED, REVOKED), "notices": (YANKED, ADVISED), "witnesses": (), "attestations": ()}
    bundles = (
        written(),
        written(bundle(witnesses=())),
        written(bundle(**noticed, source_id="bilbo@publisher.example")),
    )
    labels = (b"<?php\n/*\n * Plugin Name: Hello\n * Version: 1.0\n */\n", b"Version: 1\x00\r\nTags:")
    return [
        Decoder("value", _values, _value, weight=2),
        Decoder(
            "envelope",
            lambda rng: mutated_bytes(rng, rng.choice(envelopes), envelopes),
            lambda raw: open_envelope(raw, mesh=MESH, domain=("pfn/node/1", "pfn/version/1"), bytes_max=4096),
            weight=2,
        ),
        *_announcements(),
        *_messages(),
        *_publisher(),
        *_names(),
        *_json(),
        Decoder("evidence bundle", lambda rng: mutated_bytes(rng, rng.choice(bundles), bundles), _bundle, weight=0.2),
        Decoder("cells", _cells_bytes, _cells, errors=()),
        Decoder(
            "plugin header",
            lambda rng: mutated_bytes(rng, rng.choice(labels), labels),
            lambda raw: read_headers(raw, PLUGIN_LABELS),
            (),
        ),
        zip_gate(folder),
    ]
