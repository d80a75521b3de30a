"""The secret of a link: both sides agree on it, nobody else can, and it survives crossing requests."""

from random import Random

import pytest
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from pfn_node.simulation.world import key_of
from pfn_protocol import link_secrets
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import LinkAnswer, LinkRequest

ALICE, BOB = key_of("alice").public, key_of("bob").public


def ask(asker: LinkSecrets, answerer: LinkSecrets, asked: bytes, asking: bytes) -> tuple[LinkRequest, LinkAnswer]:
    request = LinkRequest("", (), (), *asker.offer(asked, is_linked=False))
    return request, LinkAnswer(True, 0, (), (), *answerer.answer(asking, request))


def test_both_sides_have_the_same_two_salts_and_names_for_them() -> None:
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))
    request, answer = ask(alice, bob, BOB, ALICE)

    alice.answered(BOB, request, answer)

    salts = [alice.salt(BOB, number) for number in (0, 1)]
    assert salts == [bob.salt(ALICE, number) for number in (0, 1)]
    assert salts[0] is not None and salts[1] is not None and salts[0].key != salts[1].key
    assert bob.salt_named(ALICE, salts[1].name) == salts[1]
    assert bob.salt_named(ALICE, bytes(4)) is None
    assert bob.salts(ALICE) == [salt.key for salt in salts if salt]


def test_requests_that_cross_leave_both_sides_with_both_secrets() -> None:
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))
    from_alice = LinkRequest("", (), (), *alice.offer(BOB, is_linked=False))
    from_bob = LinkRequest("", (), (), *bob.offer(ALICE, is_linked=False))
    to_bob = LinkAnswer(True, 0, (), (), *alice.answer(BOB, from_bob))
    to_alice = LinkAnswer(True, 0, (), (), *bob.answer(ALICE, from_alice))
    bob.answered(ALICE, from_bob, to_bob)
    alice.answered(BOB, from_alice, to_alice)

    assert sorted(alice.salts(BOB)) == sorted(bob.salts(ALICE))
    for salts, other in ((alice, bob), (bob, alice)):
        salt = salts.salt(BOB if salts is alice else ALICE, 0)
        assert salt is not None and other.salt_named(ALICE if other is bob else BOB, salt.name) == salt


def test_a_link_can_do_without_a_secret_and_keeps_the_one_it_has() -> None:
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))

    assert bob.answer(ALICE, LinkRequest("", (), ())) == (b"", b"")
    assert bob.salt(ALICE, 0) is None
    request, answer = ask(alice, bob, BOB, ALICE)
    alice.answered(BOB, request, answer)
    assert alice.offer(BOB, is_linked=True) == (b"", b"")
    alice.answered(BOB, LinkRequest("", (), ()), LinkAnswer(True, 0, (), ()))
    assert alice.salt(BOB, 0) == bob.salt(ALICE, 0) != None  # noqa: E711

    alice.forget(BOB)
    assert alice.salt(BOB, 0) is None


def test_a_key_of_small_order_gives_no_secret() -> None:
    bob = LinkSecrets(Random(2))

    key, _ = bob.answer(ALICE, LinkRequest("", (), (), bytes(32), bytes(16)))

    assert key and bob.salt(ALICE, 0) is None


def test_an_answer_to_an_older_request_gives_no_secret() -> None:
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))
    older, answer = ask(alice, bob, BOB, ALICE)
    alice.offer(BOB, is_linked=False)

    alice.answered(BOB, older, answer)

    assert alice.salt(BOB, 0) is None


def test_a_secret_is_worked_out_when_it_is_needed_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out: list[bytes] = []
    made: list[bytes] = []

    def scalarmult(private: bytes, public: bytes) -> bytes:
        worked_out.append(public)
        return crypto_scalarmult(private, public)

    def scalarmult_base(private: bytes) -> bytes:
        made.append(private)
        return crypto_scalarmult_base(private)

    monkeypatch.setattr(link_secrets, "crypto_scalarmult", scalarmult)
    monkeypatch.setattr(link_secrets, "crypto_scalarmult_base", scalarmult_base)
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))
    assert not made

    for _ in range(20):
        request, answer = ask(alice, bob, BOB, ALICE)
        alice.answered(BOB, request, answer)
    assert not worked_out and len(made) == 2

    for _ in range(3):
        salt = alice.salt(BOB, 0)
        assert salt is not None and alice.salt_named(BOB, salt.name) == salt and len(alice.salts(BOB)) == 4
    assert len(worked_out) == 2  # the last two of a link count


def test_a_key_that_gives_no_secret_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bob = LinkSecrets(Random(2))
    bob.answer(ALICE, LinkRequest("", (), (), bytes(32), bytes(16)))
    assert bob.salt(ALICE, 0) is None

    monkeypatch.setattr(link_secrets, "crypto_scalarmult", None)

    assert bob.salt(ALICE, 0) is None and bob.salts(ALICE) == []


def test_offers_that_nobody_answers_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.link_secrets.peers_known_max", 2)
    alice, bob = LinkSecrets(Random(1)), LinkSecrets(Random(2))
    request, answer = ask(alice, bob, BOB, ALICE)
    for number in range(2):
        alice.offer(bytes([number]) * 32, is_linked=False)

    alice.answered(BOB, request, answer)

    assert alice.salt(BOB, 0) is None
    request, answer = ask(alice, bob, BOB, ALICE)
    alice.answered(BOB, request, answer)
    assert alice.salt(BOB, 0) == bob.salt(ALICE, 0) is not None
