"""Messages between nodes: R70 to R79."""

from collections.abc import Iterator

from pfn_protocol.encoding import Value, seal
from pfn_protocol.message_fields import seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from tests.protocol.vectors.case import ALICE, BOB, CAROL, MESH, NOW_MS, Case, plain, plain_input

NONCE = bytes(range(16))
IDS = (b"\x01" * 32, b"\x02" * 32)
VIEW = (PeerAddress(CAROL.public, "https://carol.example"),)
STATUS = SetStatus(2, b"\x05" * 32, b"\x06" * 8)
BODIES = (b"\x90" * 300, b"\x91" * 20)

REQUESTS: tuple[Request, ...] = (
    LinkRequest("https://alice.example", VIEW, IDS, compare_only=True),
    LinkRequest("", (), ()),
    LinkRequest("", (), (), key=b"\x07" * 32, nonce=NONCE),
    GossipRequest(BODIES, IDS, STATUS, 0, IDS, True),
    GossipRequest((), (), None, 25),
    FetchRequest(IDS),
    FetchRequest((IDS[0][:16], IDS[1])),
    CellsRequest("", b"\x08" * 4, b"\x06" * 8, 0, 32),
    CellsRequest("dev@pub.example", b"\x08" * 4, b"\x06" * 8, 32, 1_500),
    AuthorsRequest(b""),
    AuthorsRequest(IDS[0], ((IDS[0], 256), (IDS[1], 5_000)), True),
    IdsRequest(ALICE.public, 256, b""),
    IdsRequest(ALICE.public, 256, IDS[0][:16]),
    SnapshotRequest(IDS[0], b""),
    SnapshotRequest(b"", b"", IDS[1]),
    HaveRequest(IDS),
)
ANSWERS: tuple[tuple[str, Answer], ...] = (
    ("link", LinkAnswer(True, 0, VIEW, ())),
    ("link", LinkAnswer(True, 0, (), (), b"\x07" * 32, NONCE)),
    ("gossip", GossipAnswer(BODIES, IDS, STATUS, True)),
    ("fetch", FetchAnswer(BODIES, IDS)),
    ("cells", CellsAnswer(bytes(range(42)), 1_000_000, IDS[0])),
    ("authors", AuthorsAnswer((AuthorSummary(IDS[0], 256, 2, IDS[1]),), False)),
    ("ids", IdsAnswer((IDS[0][:16], IDS[1][:16]), True)),
    ("snapshot", SnapshotAnswer(BODIES, b"")),
    ("have", HaveAnswer(IDS)),
    ("ids", RefusedAnswer("R73", "your clock differs", NOW_MS)),
)


def cases() -> Iterator[Case]:
    for number, message in enumerate(REQUESTS, 1):
        raw = _sealed(message)
        accepted = {"sender": ALICE.public.hex(), "nonce": NONCE.hex(), "message": plain(message)}
        yield _request(f"{message.path} ({number})", "R77", message.path, raw, accepted)
    for number, (path, answer) in enumerate(ANSWERS, 1):
        raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=answer)
        rule = "R79" if isinstance(answer, RefusedAnswer) else "R77"
        yield _answer(f"answer {type(answer).__name__} ({number})", rule, path, raw, plain(answer))
    yield from _refused_requests()
    yield from _refused_contents()
    yield from _refused_answers()


def _sealed(message: Request, now_ms: int = NOW_MS, mesh: str = MESH) -> bytes:
    return seal_request(ALICE, mesh=mesh, to=BOB.public, message=message, now_ms=now_ms, nonce16=NONCE)


def _refused_requests() -> Iterator[Case]:
    fetch = FetchRequest(IDS)
    raw = _sealed(fetch)
    yield _request("a request at another path", "R71", "have", raw, refused="R71")
    unknown = _body(("advise", BOB.public, NOW_MS, NONCE, (IDS,)))
    yield _request("a request that does not exist", "R71", "advise", unknown, refused="R71")
    yield _request("a request for another node", "R72", "fetch", raw, refused="R72", me=CAROL.public)
    yield _request("a request in another mesh", "R70", "fetch", _sealed(fetch, mesh="other"), refused="R5")
    in_time = {"sender": ALICE.public.hex(), "nonce": NONCE.hex(), "message": plain(fetch)}
    yield _request("two minutes late", "R73", "fetch", _sealed(fetch, NOW_MS - 120_000), in_time)
    yield _request("over two minutes late", "R73", "fetch", _sealed(fetch, NOW_MS - 120_001), refused="R73")
    yield _request("over two minutes early", "R73", "fetch", _sealed(fetch, NOW_MS + 120_001), refused="R73")
    for name, body in (
        ("a request of four fields", ("fetch", BOB.public, NOW_MS, NONCE)),
        ("a nonce of 15 bytes", ("fetch", BOB.public, NOW_MS, NONCE[:15], (IDS,))),
        ("a recipient of 31 bytes", ("fetch", BOB.public[:31], NOW_MS, NONCE, (IDS,))),
        ("a text for a time", ("fetch", BOB.public, "now", NONCE, (IDS,))),
    ):
        yield _request(name, "R70", "fetch", _body(body), refused="R70")
    answer = seal_answer(ALICE, mesh=MESH, nonce=NONCE, message=FetchAnswer((), ()))
    yield _request("an answer for a request", "R8", "fetch", answer, refused="R8")


def _refused_contents() -> Iterator[Case]:
    many = tuple(bytes([number // 256, number % 256]) + bytes(30) for number in range(1_025))
    whole = (b"\x90" * 4_096,) * 65
    for name, path, content, refused in (
        ("257 ids", "fetch", (many[:257],), "R77"),
        ("an id of 31 bytes", "fetch", ((b"\x01" * 31,),), "R77"),
        ("a content of two fields", "fetch", (IDS, 0), "R77"),
        ("no list", "fetch", None, "R77"),
        ("257 digests", "have", (many[:257],), "R77"),
        ("1,025 ids", "gossip", ((), many, None, 0, (), False), "R77"),
        ("513 announcements", "gossip", ((b"\x01",) * 513, (), None, 0, (), False), "R77"),
        ("an announcement of no bytes", "gossip", ((b"",), (), None, 0, (), False), "R77"),
        ("a conviction of 8,201 bytes", "gossip", ((b"\x01" * 8_201,), (), None, 0, (), False), "R77"),
        ("announcements over 256 KiB", "gossip", (whole, (), None, 0, (), False), "R78"),
        ("257 ids at once", "gossip", ((), (), None, 0, many[:257], False), "R77"),
        ("a graft that is a number", "gossip", ((), (), None, 0, (), 1), "R77"),
        ("a wait of 26 seconds", "gossip", ((), (), None, 26, (), False), "R77"),
        ("a status of one field", "gossip", ((), (), (1,), 0, (), False), "R77"),
        ("a scope of 7 bytes", "gossip", ((), (), (1, IDS[0], bytes(7)), 0, (), False), "R77"),
        ("65 nodes in a view", "link", ("", ((CAROL.public, "https://c.example"),) * 65, (), b"", b"", False), "R77"),
        ("a node without a URL in a view", "link", ("", ((CAROL.public, ""),), (), b"", b"", False), "R58"),
        ("a URL in another spelling", "link", ("https://Alice.example", (), (), b"", b"", False), "R77"),
        ("authors left out twice", "link", ("", (), (IDS[0], IDS[0]), b"", b"", False), "R77"),
        ("a key without a nonce", "link", ("", (), (), IDS[0], b"", False), "R77"),
        ("a key of 31 bytes", "link", ("", (), (), IDS[0][:31], NONCE, False), "R77"),
        ("half a start", "authors", (b"\x01" * 16, (), False), "R77"),
        ("authors told in descending order", "authors", (b"", ((IDS[1], 1), (IDS[0], 1)), False), "R77"),
        ("a told author without a slot", "authors", (b"", ((IDS[0], 0),), False), "R77"),
        ("no cells", "cells", ("", bytes(4), bytes(8), 0, 0), "R77"),
        ("49,153 cells", "cells", ("", bytes(4), bytes(8), 0, 49_153), "R77"),
        ("beyond the last cell", "cells", ("", bytes(4), bytes(8), 262_144, 1), "R77"),
        ("a salt of 5 bytes", "cells", ("", bytes(5), bytes(8), 0, 32), "R77"),
        ("half an author of ids", "ids", (b"\x01" * 16, 256, b""), "R77"),
        ("a start of 32 bytes", "ids", (IDS[0], 256, IDS[1]), "R77"),
        ("a start of 15 bytes", "ids", (IDS[0], 256, IDS[1][:15]), "R77"),
        ("half an author", "snapshot", (b"", b"\x01" * 16, b""), "R77"),
        ("half an end", "snapshot", (b"", b"", b"\x01" * 16), "R77"),
    ):
        body: Value = (path, BOB.public, NOW_MS, NONCE, content)
        rule = "R78" if refused == "R78" else "R77"
        yield _request(f"{path}: {name}", rule, path, _body(body), refused=refused)
    large = _body(("fetch", BOB.public, NOW_MS, NONCE, (b"\x00" * 400_000,)))
    yield _request("a request over its limit", "R78", "fetch", large, refused="R9")


def _refused_answers() -> Iterator[Case]:
    raw = seal_answer(BOB, mesh=MESH, nonce=NONCE, message=HaveAnswer(IDS))
    yield _answer("an answer to another request", "R75", "have", raw, refused="R75", nonce=bytes(16))
    yield _answer("an answer to another path", "R75", "ids", raw, refused="R75")
    yield _answer("an answer of another node", "R76", "have", raw, refused="R76", asked=CAROL.public)
    yield _answer("an answer in another mesh", "R75", "have", raw, refused="R5", mesh="other")
    for name, rule, path, content in (
        ("ids in descending order", "R77", "ids", (IDS[1][:16] + IDS[0][:16], False)),
        ("half an id", "R77", "ids", (bytes(24), False)),
        ("authors in descending order", "R77", "authors", (tuple((item, 1, 1, item) for item in IDS[::-1]), False)),
        ("a back-off of two days", "R77", "link", (False, 172_800, (), (), b"", b"")),
        ("half a cell", "R77", "cells", (bytes(31), 1, IDS[0])),
        ("a sentence without end", "R79", "refused", ("R73", "s" * 501, NOW_MS)),
    ):
        sealed = seal(BOB, "pfn/response/1", MESH, (path, NONCE, content)).raw
        yield _answer(f"{path}: {name}", rule, path, sealed, refused=rule)
    short = seal(BOB, "pfn/response/1", MESH, ("have", NONCE)).raw
    yield _answer("an answer of two fields", "R75", "have", short, refused="R75")


def _body(body: Value) -> bytes:
    return seal(ALICE, "pfn/request/1", MESH, body).raw


def _request(
    name: str,
    rule: str,
    path: str,
    raw: bytes,
    accepted: object = None,
    refused: str | None = None,
    me: bytes = BOB.public,
) -> Case:
    given = {"input": plain_input(raw), "mesh": MESH, "path": path, "me": me.hex(), "now": NOW_MS}
    return Case(name, rule, "request", given, accepted, refused)


def _answer(
    name: str,
    rule: str,
    path: str,
    raw: bytes,
    accepted: object = None,
    refused: str | None = None,
    nonce: bytes = NONCE,
    asked: bytes = BOB.public,
    mesh: str = MESH,
) -> Case:
    given = {"input": plain_input(raw), "mesh": mesh, "path": path, "nonce": nonce.hex(), "asked": asked.hex()}
    return Case(name, rule, "answer", given, accepted, refused)
