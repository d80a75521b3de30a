"""Taking in: what is refused, what waits, what is remembered, and how much of it."""

from dataclasses import replace

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, START_MS, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Kind, NodeStatement, Statement
from pfn_protocol.effects import DropAnnouncements, KeepAnnouncement, KeepConviction, RaiseAlert
from pfn_protocol.equivocation import convict, conviction_id
from pfn_protocol.errors import Severity
from pfn_protocol.events import RequestReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Intake, Taken
from pfn_protocol.messages import GossipRequest
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import Registry
from pfn_protocol.restoring import restore
from pfn_protocol.slots import entry_of
from pfn_protocol.sponsoring import Sponsoring

ALICE, BOB, CAROL = key_of("alice"), key_of("bob"), key_of("carol")
HOUR_MS = 3_600_000


class Door:
    """Alice's intake, with what it decided."""

    def __init__(self, *pins: PrivateKey) -> None:
        self.registry = Registry(ALICE.public, [pin.public for pin in pins])
        self.outgoing = Outgoing()
        self.intake = Intake(self.registry, self.outgoing, MESH)

    def take(self, *announcements: AcceptedAnnouncement, now_ms: int = START_MS, pushed: bool = False) -> Taken:
        return self.intake.take([one.raw for one in announcements], now_ms, pushed=pushed)

    def alerts(self) -> list[str]:
        return [effect.sentence for effect in self.outgoing.drain() if isinstance(effect, RaiseAlert)]


def said(
    key: PrivateKey = BOB, statement: Statement | None = None, seq: int = START_MS, epoch: int = 0
) -> AcceptedAnnouncement:
    return announce(key, MESH, statement or version_statement("hello"), epoch, seq)


def node_statement(url: str = "", pins: tuple[PrivateKey, ...] = ()) -> NodeStatement:
    return NodeStatement(url, "test/1", (), tuple(sorted(pin.public for pin in pins)), (), 0, bytes(32))


def test_rubbish_is_counted_a_forgery_is_hostile_and_the_outdated_is_harmless() -> None:
    door = Door(BOB)
    genuine = said()
    forged = genuine.raw[:-1] + bytes([genuine.raw[-1] ^ 1])
    outdated = said(statement=node_statement(), seq=START_MS - 25 * HOUR_MS)

    taken = door.intake.take([b"rubbish", forged, outdated.raw], START_MS, pushed=True)

    assert taken.faults == 1
    assert taken.hostile is not None and taken.hostile.severity is Severity.HOSTILE
    assert not taken.delivered and not taken.fresh


def test_the_same_bytes_again_are_known_without_a_second_look() -> None:
    door = Door(BOB)
    one = said()

    first, second = door.take(one, one), door.take(one)

    assert [entry.id for entry in first.fresh] == [one.id]
    assert second.delivered == {one.id: False} and not second.fresh


def test_two_envelopes_of_one_announcement_in_one_message_are_kept_once() -> None:
    door = Door(BOB)
    one = said()

    door.take(one, one)

    assert len([effect for effect in door.outgoing.drain() if isinstance(effect, KeepAnnouncement)]) == 1


def test_only_so_many_envelopes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.intake.seen_envelopes_max", 2)
    door = Door(BOB)
    announcements = [said(statement=version_statement(f"plugin-{number}")) for number in range(4)]
    door.take(*announcements)

    assert door.take(*announcements).delivered == {one.id: False for one in announcements}


def test_an_early_announcement_waits_for_its_time() -> None:
    door = Door(BOB)
    early = said(seq=START_MS + HOUR_MS)

    assert door.take(early, early).delivered == {early.id: False}
    assert door.intake.waiting == 1
    due_ms = door.intake.next_due_ms
    assert due_ms is not None and not door.intake.take_due(due_ms - 1).fresh
    assert [entry.id for entry in door.intake.take_due(due_ms).fresh] == [early.id]
    assert door.intake.waiting == 0 and door.intake.next_due_ms is None


def test_in_a_network_an_early_announcement_is_told_when_its_time_has_come() -> None:
    network = Network()
    alice, bob, carol = network.node("alice"), network.node("bob"), network.node("carol")
    alice.pin(carol)
    alice.join(bob)
    bob.pin(alice)
    network.elapse(seconds=5)
    early = announce(carol.key, MESH, version_statement("early"), 0, network.now_ms + HOUR_MS)
    token = network.reply_to(lambda answer: None)
    aside = alice.mesh.status().parked

    alice.report(RequestReceived(token, bob.id, GossipRequest((early.raw,), (), None, 0)))
    assert alice.mesh.status().parked == aside + 1
    network.elapse(seconds=3_001)

    assert alice.has_seen("early") and bob.has_seen("early")


def test_the_places_for_early_announcements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.intake.future_max", 3)
    monkeypatch.setattr("pfn_protocol.intake.future_per_author_max", 2)
    door = Door(BOB)
    for key in (BOB, CAROL):
        for number in range(4):
            door.take(said(key, version_statement(f"plugin-{number}"), START_MS + HOUR_MS))

    assert door.intake.waiting == 3


def test_own_announcements_are_handed_back_even_early_ones() -> None:
    door = Door()
    own, early = said(ALICE), said(ALICE, version_statement("early"), START_MS + HOUR_MS)

    taken = door.take(own, early)

    assert taken.own == [early, own]
    assert not taken.fresh and own.id not in door.registry


def test_node_announcements_are_judged_first_whatever_their_order() -> None:
    door = Door(BOB)
    of_carol = said(CAROL)

    taken = door.take(of_carol, said(statement=node_statement("http://bob.test", (CAROL,))))

    assert len(taken.fresh) == 2 and taken.widened
    assert taken.addresses == [(BOB.public, "http://bob.test")]


def test_an_author_is_not_taken_from_pushes_faster_than_its_rate() -> None:
    door = Door(BOB)
    announcements = [said(statement=version_statement(f"plugin-{number}")) for number in range(300)]

    pushed = door.take(*announcements, pushed=True)
    after_ten_seconds = door.take(*announcements, now_ms=START_MS + 2_000, pushed=True)
    fetched = door.take(*announcements, now_ms=START_MS + 2_000)

    assert len(pushed.fresh) == 256
    assert len(after_ten_seconds.fresh) == 10
    assert len(fetched.fresh) == 34


def test_only_so_many_rates_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.intake.author_rates_max", 1)
    monkeypatch.setattr("pfn_protocol.intake.author_burst_max", 1)
    door = Door(BOB, CAROL)

    for key in (BOB, CAROL, BOB):
        assert door.take(said(key, version_statement(f"plugin-{len(door.registry)}")), pushed=True).fresh


def test_two_stories_convict_their_author_once_and_only_the_conviction_is_kept() -> None:
    door = Door(BOB)
    one, other = said(), said(statement=version_statement("hello", content="changed"), seq=START_MS + 1)
    door.take(one, said(statement=version_statement("another")))
    door.outgoing.drain()

    taken = door.take(other)

    assert taken.convicted == [BOB.public] and taken.delivered == {other.id: False}
    assert [entry.id for entry in taken.made] == [conviction_id(BOB.public)] and not taken.fresh
    aside, kept, told, dropped, alert = door.outgoing.drain()
    assert aside == KeepAnnouncement(other, admitted=False) and kept == KeepConviction(one.id, other.id)
    assert told == DropAnnouncements((other.id,))
    assert isinstance(dropped, DropAnnouncements) and one.id in dropped.ids and len(dropped.ids) == 2
    assert isinstance(alert, RaiseAlert) and "version dev@pub.test/hello/1.0" in alert.sentence
    assert not door.take(said(statement=version_statement("later"))).fresh
    assert not door.alerts()


def test_a_conviction_that_others_made_is_taken_whatever_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.intake.author_burst_max", 1)
    door = Door(BOB)
    conviction = convict(said(), said(statement=version_statement("hello", content="changed"), seq=START_MS + 1))
    door.take(said(), pushed=True)

    taken = door.take(conviction, pushed=True)

    assert [entry.id for entry in taken.fresh] == [conviction.id] and taken.convicted == [BOB.public]
    assert door.registry.unsorted_ids() == (conviction.id,)
    assert not door.take(conviction, pushed=True).fresh


def test_whom_only_a_convicted_node_pinned_is_not_admitted_any_more() -> None:
    door = Door(BOB)
    door.take(said(statement=node_statement("", (CAROL,))), said(CAROL))

    door.take(said(statement=node_statement("", ())))

    assert door.registry.unsorted_ids() == (conviction_id(BOB.public),)
    assert not door.registry.cap(CAROL.public)


# --- Restoring ------------------------------------------------------------------------------------------------------


def test_what_was_kept_is_restored_from_the_pins_outwards_and_changes_are_reported() -> None:
    of_bob, of_carol = said(statement=node_statement("", (CAROL,))), said(CAROL)
    of_dave = said(key_of("dave"))
    expired = said(CAROL, node_statement(), START_MS - 25 * HOUR_MS)
    older = said(statement=node_statement(), seq=START_MS - 1)
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()
    kept = [(of_carol, False), (of_dave, True), (expired, True), (older, True), (of_bob, True)]

    own = restore(registry, outgoing, [(entry_of(one), admitted) for one, admitted in kept], START_MS)

    assert own is None
    assert sorted(registry.unsorted_ids()) == sorted((of_bob.id, of_carol.id))
    change, drop = outgoing.drain()
    assert repr(change) == f"ChangeAdmission(admitted=({of_carol.id!r},), parked=({of_dave.id!r},))"
    assert isinstance(drop, DropAnnouncements) and sorted(drop.ids) == sorted((expired.id, older.id))


def test_the_own_node_announcement_gives_back_whom_the_node_sponsored() -> None:
    own = replace(node_statement(), sponsored=(BOB.public,))
    registry, outgoing = Registry(ALICE.public), Outgoing()

    kept = [(entry_of(said(ALICE, own)), True), (entry_of(said()), True)]
    restored = restore(registry, outgoing, kept, START_MS)

    assert restored == own
    assert registry.cap(BOB.public) == 256
    assert outgoing.drain() == []
    assert registry.node_statement(ALICE.public) == own
    assert registry.slot(BOB.public, Kind.VERSION, "dev@pub.test/hello/1.0") is not None


# --- Sponsoring -----------------------------------------------------------------------------------------------------


def names(count: int) -> list[bytes]:
    return [key_of(f"newcomer-{number}").public for number in range(count)]


def test_when_all_places_are_taken_the_newcomer_longest_unheard_of_gives_way() -> None:
    newcomers = names(34)
    heard = {newcomers[0]: START_MS + 100, newcomers[33]: START_MS + 100}
    sponsoring = Sponsoring((), heard.get, START_MS)
    for number, newcomer in enumerate(newcomers[:32]):
        assert sponsoring.let_in(newcomer, START_MS + number, lambda one: False)

    assert sponsoring.let_in(newcomers[32], START_MS + 200, lambda one: one == newcomers[1])

    assert newcomers[2] not in sponsoring.nodes
    assert newcomers[0] in sponsoring.nodes and newcomers[1] in sponsoring.nodes
    assert not sponsoring.let_in(newcomers[33], START_MS + 300, lambda one: True)
    assert not sponsoring.let_in(newcomers[0], START_MS + 300, lambda one: True)


def test_a_place_is_free_again_after_a_day_of_silence() -> None:
    newcomers = names(2)
    heard = {newcomers[1]: START_MS + HOUR_MS}
    sponsoring = Sponsoring(newcomers, heard.get, START_MS)
    due_ms = sponsoring.next_expiry_ms
    assert due_ms == START_MS + 24 * HOUR_MS + 1

    assert not sponsoring.expire(due_ms - 1)
    assert sponsoring.expire(due_ms)
    assert sponsoring.nodes == (newcomers[1],)
    assert sponsoring.remove([newcomers[1]]) and sponsoring.next_expiry_ms is None


def test_a_newcomer_silent_for_a_day_is_no_longer_in_the_set() -> None:
    network = Network()
    bob, newcomer = network.node("bob"), network.node("newcomer", polls=True)
    newcomer.join(bob)
    newcomer.sees("hello")
    network.elapse(seconds=20)
    assert bob.has_seen("hello")

    newcomer.crash()
    network.elapse(seconds=25 * 3_600)

    assert not bob.has_seen("hello")
    assert bob.parked()
