"""Which requests of other nodes are heard, and with what status the others are refused."""

import pytest

from pfn_node.mesh import admission
from pfn_node.mesh.admission import REQUEST_BYTES_MAX, Admission, NotHeard
from pfn_protocol import encoding, identity
from pfn_protocol.encoding import pack
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import (
    fetch_ids_max,
    have_max,
    left_out_max,
    nonce_memory_ms,
    request_bytes_max,
    url_chars_max,
    view_max,
)
from pfn_protocol.message_fields import seal_request
from pfn_protocol.messages import FetchRequest, HaveRequest, LinkRequest, PeerAddress, Request

ME = PrivateKey(bytes(32))
PEER = PrivateKey(bytes([1]) * 32)
NOW_MS = 1_900_000_000_000


class Door:
    """An admission whose clock, friends and enemies a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.known: set[bytes] = set()
        self.blocked: set[bytes] = set()
        self.trusted: set[bytes] = set()
        self.admission = Admission(
            me=ME.public,
            mesh="main",
            now_ms=lambda: self.now_ms,
            is_known=self.known.__contains__,
            is_blocked=self.blocked.__contains__,
            is_trusted=self.trusted.__contains__,
        )
        self._nonces = 0

    def sealed(
        self, *, sender: PrivateKey = PEER, to: bytes = ME.public, mesh: str = "main", message: Request | None = None
    ) -> bytes:
        self._nonces += 1
        nonce = self._nonces.to_bytes(16, "big")
        message = message or FetchRequest((bytes(32),))
        return seal_request(sender, mesh=mesh, to=to, message=message, now_ms=self.now_ms, nonce16=nonce)

    def refusal(self, raw: bytes, path: str = "fetch") -> NotHeard:
        with pytest.raises(NotHeard) as caught:
            self.admission.open(path, raw)
        return caught.value


def test_a_signed_request_for_this_node_is_opened() -> None:
    door = Door()

    received = door.admission.open("fetch", door.sealed())

    assert received.sender == PEER.public
    assert received.message == FetchRequest((bytes(32),))


def test_every_request_fits_the_size_that_its_path_allows() -> None:
    door = Door()
    url = "https://" + "a" * (url_chars_max - 8 - 5) + ".test"
    url = "https://a.test/" + "a" * (url_chars_max - len("https://a.test/"))
    view = tuple(PeerAddress(PrivateKey(bytes([n]) * 32).public, url) for n in range(view_max))
    left_out = tuple(n.to_bytes(32, "big") for n in range(left_out_max))
    largest: list[Request] = [
        LinkRequest(url, view, left_out),
        FetchRequest(tuple(n.to_bytes(32, "big") for n in range(fetch_ids_max))),
        HaveRequest(tuple(n.to_bytes(32, "big") for n in range(have_max))),
    ]

    for message in largest:
        assert len(door.sealed(message=message)) <= REQUEST_BYTES_MAX[message.path]


def test_an_unknown_path_is_refused_by_name() -> None:
    refusal = Door().refusal(b"", "advice")

    assert refusal.status == 404
    assert "advice" in refusal.sentence


def test_a_request_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    assert Door().refusal(bytes(request_bytes_max + 1), "gossip").status == 413


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"not msgpack at all", pack((1, "pfn/request/1", b"", b"\xc0", b""))])
def test_what_is_no_request_is_malformed_and_has_no_nonce(raw: bytes) -> None:
    refusal = Door().refusal(raw)

    assert (refusal.status, refusal.nonce) == (400, None)


def test_a_request_whose_signature_is_wrong_is_refused_over_its_nonce() -> None:
    door = Door()
    raw = bytearray(door.sealed())
    raw[-1] ^= 1

    refusal = door.refusal(bytes(raw))

    assert (refusal.status, refusal.rule, refusal.nonce) == (401, "R5", (1).to_bytes(16, "big"))


def test_a_request_for_another_node_is_refused() -> None:
    door = Door()

    assert door.refusal(door.sealed(to=PEER.public)).status == 401


def test_a_request_for_another_path_is_refused() -> None:
    door = Door()

    assert door.refusal(door.sealed(), "have").status == 401


def test_a_request_of_another_mesh_is_refused() -> None:
    door = Door()

    assert door.refusal(door.sealed(mesh="other")).status == 401


def test_a_request_from_another_time_is_refused() -> None:
    door = Door()
    raw = door.sealed()
    door.now_ms += 120_001

    assert door.refusal(raw).status == 401


def test_a_request_is_heard_once() -> None:
    door = Door()
    raw = door.sealed()
    door.admission.open("fetch", raw)

    assert door.refusal(raw).status == 409


def test_a_request_is_not_heard_again_while_it_is_valid_and_forgotten_when_it_is_not() -> None:
    door = Door()
    raw = door.sealed()
    door.admission.open("fetch", raw)

    door.now_ms += 119_000
    assert door.refusal(raw).status == 409
    door.now_ms += 181_001
    door.admission.open("fetch", door.sealed())
    assert door.refusal(raw).status == 401
    assert len(door.admission._heard) == 1


def test_a_blocked_sender_is_not_heard() -> None:
    door = Door()
    door.blocked.add(PEER.public)

    assert door.refusal(door.sealed()).status == 403


def test_newcomers_share_one_allowance_and_known_nodes_have_their_own() -> None:
    door = Door()
    friend = PrivateKey(bytes([9]) * 32)
    door.known.add(friend.public)
    for number in range(int(admission.UNKNOWN_BURST)):
        stranger = PrivateKey(bytes([number % 100 + 10]) * 32)
        door.admission.open("fetch", door.sealed(sender=stranger))

    assert door.refusal(door.sealed()).status == 429
    door.admission.open("fetch", door.sealed(sender=friend))


def test_an_allowance_fills_again_with_time() -> None:
    door = Door()
    for _ in range(int(admission.UNKNOWN_BURST)):
        door.admission.open("fetch", door.sealed())
    assert door.refusal(door.sealed()).status == 429

    door.now_ms += 1000
    door.admission.open("fetch", door.sealed())


def test_whoever_replays_a_request_does_not_use_up_its_senders_allowance() -> None:
    door = Door()
    raw = door.sealed()
    door.admission.open("fetch", raw)
    for _ in range(2 * int(admission.UNKNOWN_BURST)):
        door.refusal(raw)

    door.admission.open("fetch", door.sealed())


def test_requests_are_put_off_when_no_more_can_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "NONCES_MAX", 1)
    door = Door()
    door.admission.open("fetch", door.sealed())

    assert door.refusal(door.sealed()).status == 503


def test_what_was_heard_before_the_clock_was_set_back_takes_no_room_from_what_is_heard_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "NONCES_MAX", 3)
    door = Door()
    door.now_ms += 86_400_000
    early = door.sealed()
    door.admission.open("fetch", early)
    door.now_ms -= 86_400_000

    for _ in range(5):
        door.admission.open("fetch", door.sealed())
        door.admission.open("fetch", door.sealed())
        door.now_ms += nonce_memory_ms

    door.now_ms = NOW_MS + 86_400_000
    assert door.refusal(early).rule == "R74", "it would be as fresh now as it was"


def test_the_allowances_of_nodes_that_ask_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ALLOWANCES_MAX", 1)
    door = Door()
    friends = [PrivateKey(bytes([n]) * 32) for n in (7, 8)]
    door.known.update(friend.public for friend in friends)
    for friend in friends:
        door.admission.open("fetch", door.sealed(sender=friend))

    assert list(door.admission._allowances) == [friends[1].public]


def forged(door: Door, sender: PrivateKey) -> bytes:
    raw = bytearray(door.sealed(sender=sender))
    raw[-1] ^= 1
    return bytes(raw)


def test_of_forged_requests_in_newcomers_names_few_signatures_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def watched(public: bytes, message: bytes, signature: bytes) -> bool:
        checked.append(signature)
        return identity.verify(public, message, signature)

    monkeypatch.setattr(encoding, "verify", watched)
    door = Door()
    friend = PrivateKey(bytes([9]) * 32)
    door.known.add(friend.public)

    refusals = [door.refusal(forged(door, PrivateKey(bytes([n % 200 + 10]) * 32))) for n in range(500)]

    assert len(checked) == admission.UNKNOWN_BURST
    assert {refusal.status for refusal in refusals[: len(checked)]} == {401}
    assert {(refusal.status, refusal.rule) for refusal in refusals[len(checked) :]} == {(429, "busy")}
    assert refusals[-1].nonce is not None, "the refusal can be signed over it"
    door.admission.open("fetch", door.sealed(sender=friend))


def test_whoever_forges_requests_of_a_neighbour_costs_so_many_checks_and_no_pinned_node_its_hearing() -> None:
    door = Door()
    friend, pinned = PrivateKey(bytes([9]) * 32), PrivateKey(bytes([10]) * 32)
    door.known.update((friend.public, pinned.public))
    door.trusted.add(pinned.public)
    budget = int(admission.STRANGERS_PUSHED_PER_SECOND)

    statuses = [door.refusal(forged(door, friend)).status for _ in range(budget + 5)]

    assert statuses == [401] * budget + [429] * 5
    assert door.refusal(forged(door, pinned)).status == 401
    door.admission.open("fetch", door.sealed(sender=pinned))
    door.now_ms += 1000
    door.admission.open("fetch", door.sealed(sender=friend))
