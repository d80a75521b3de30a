"""Rounds between two sides: what is found, in how many messages, and what lies, losses and limits lead to."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from pfn_node.simulation.world import START_MS
from pfn_protocol.effects import BuildPrefix, SendRequest
from pfn_protocol.limits import (
    fetch_ids_max,
    round_answer_ms_max,
    round_ms_max,
    sketch_batch_max,
    sketch_cells_max,
    sketch_cells_per_hour_max,
    sketch_frozen_ms,
    sketch_prefix_ms_max,
    unresolved_ms,
)
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import (
    Answer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    IdsRequest,
    LinkRequest,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotRequest,
)
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells
from tests.protocol.neighbours import Neighbourhood, honest
from tests.protocol.parties import Lie, Party, pair
from tests.protocol.sets import ALICE, BOB, CAROL, fake_versions

HOUR_MS = 3_600_000
# More of one author than its cap would not all be in the set.
MANY = 4_900


def lacking(alice: Party, bob: Party, count: int, author: bytes = BOB.public) -> None:
    """Bob has so many announcements that alice has not."""
    bob.hold(fake_versions(author, count))


def cells_request(alice: Party, bob: Party, start: int = 0, count: int = 32, number: int = 0) -> CellsRequest:
    salt = alice.secrets.salt(bob.id, number)
    assert salt is not None
    return CellsRequest("", salt.name, alice.machine.status(bob.id).scope, start, count)


def rule_of(answer: Answer | None) -> str:
    assert isinstance(answer, RefusedAnswer)
    return answer.rule


def test_a_few_differences_are_found_with_one_request_for_cells() -> None:
    alice, bob = pair()
    lacking(alice, bob, 5)
    alice.hold(fake_versions(ALICE.public, 3))

    alice.compare(bob, START_MS)

    assert [type(one) for one in alice.asked] == [CellsRequest, FetchRequest]
    assert len(alice.registry) == 68 and len(alice.offered) == 3
    assert alice.machine.differences_found(bob.id) == 5
    assert alice.machine.differences_found(CAROL.public) == 0
    assert alice.machine.sketch_memory_bytes == 21 * 4_096


def test_many_differences_take_a_longer_prefix_and_all_of_them_are_fetched() -> None:
    alice, bob = pair(4_000)
    lacking(alice, bob, MANY)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) <= 5 and not alice.requests(IdsRequest)
    assert len(alice.requests(FetchRequest)) == -(-MANY // fetch_ids_max)
    assert {build.length for build in alice.builds} == {4_096, 16_384}


def test_a_prefix_stands_and_follows_the_changes_of_the_set() -> None:
    alice, bob = pair()
    lacking(alice, bob, 2)
    alice.compare(bob, START_MS)
    for day in range(3):
        lacking(alice, bob, 10 * (day + 1))
        alice.compare(bob, START_MS + (day + 1) * 60_000)
        assert alice.agrees_with(bob)

    assert len(alice.builds) == len(bob.builds) == 1

    lacking(alice, bob, 100)
    alice.compare(bob, START_MS + sketch_prefix_ms_max)
    assert alice.agrees_with(bob)
    assert len(alice.builds) == len(bob.builds) == 2


def test_a_prefix_that_is_too_far_behind_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.changes.sketch_changes_max", 20)
    alice, bob = pair()
    lacking(alice, bob, 2)
    alice.compare(bob, START_MS)
    lacking(alice, bob, 200)
    alice.hold(fake_versions(ALICE.public, 50))

    alice.compare(bob, START_MS + 60_000)

    assert set(bob.registry.unsorted_ids()) < set(alice.registry.unsorted_ids())
    assert len(alice.builds) == len(bob.builds) == 2


def test_a_round_whose_own_cells_come_too_late_is_given_up_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.changes.sketch_changes_max", 20)
    alice, bob = pair()
    lacking(alice, bob, 5)
    alice.holds_builds = True
    alice.compare(bob, START_MS)
    alice.hold(fake_versions(ALICE.public, 50))
    alice.build(alice.builds[0], START_MS + 5_000)
    assert not alice.requests(FetchRequest)

    alice.holds_builds = False
    alice.compare(bob, START_MS + 60_000)

    assert set(bob.registry.unsorted_ids()) < set(alice.registry.unsorted_ids())


def test_cells_that_come_before_the_own_longer_prefix_wait_for_it() -> None:
    alice, bob = pair(4_000)
    lacking(alice, bob, MANY)

    def hold(request: Request, answer: Answer) -> Answer:
        alice.holds_builds = True
        return answer

    alice.lie = hold
    alice.compare(bob, START_MS)
    assert not alice.requests(FetchRequest)
    alice.build(alice.builds[1], START_MS + 8_000)
    alice.perform(bob, START_MS + 8_000)

    assert alice.agrees_with(bob)


def test_a_link_made_anew_turns_away_what_waits_for_cells() -> None:
    alice, bob = pair()
    bob.holds_builds = True
    alice.ask(bob, cells_request(alice, bob))

    bob.machine.open(alice.id, "http://alice.test", (), START_MS)
    bob.perform(alice, START_MS)

    assert [rule_of(one) for one in bob.said.values()] == ["R115"]


def test_sides_that_admit_different_authors_tell_each_other_and_compare_what_both_admit() -> None:
    alice, bob = pair(bob_admits=(ALICE, BOB))
    lacking(alice, bob, 5)

    alice.compare(bob, START_MS)

    assert isinstance(alice.asked[0], AuthorsRequest)
    assert alice.agrees_with(bob)
    assert alice.machine.status(bob.id).count == 5
    assert len(alice.registry) == 65


def test_lists_of_authors_are_not_exchanged_again_at_once() -> None:
    alice, bob = pair(bob_admits=(ALICE, BOB))
    strange = SetStatus(1, bytes(32), bytes(8))
    alice.machine.heard_status(bob.id, strange, START_MS)
    alice.look(bob, START_MS + 3_000)
    told = len(alice.requests(AuthorsRequest))

    alice.machine.heard_status(bob.id, strange, START_MS + 4_000)
    alice.look(bob, START_MS + 8_000)

    assert told == 1 and len(alice.requests(AuthorsRequest)) == 1


def test_lists_of_authors_are_told_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.comparison.authors_page_max", 1)
    monkeypatch.setattr("pfn_protocol.pages.authors_page_max", 2)
    alice, bob = pair(bob_admits=(BOB,))
    lacking(alice, bob, 5)

    alice.compare(bob, START_MS)

    assert len(alice.requests(AuthorsRequest)) == 3
    assert alice.agrees_with(bob) and alice.machine.status(bob.id).count == 5


# --- The ladder -----------------------------------------------------------------------------------------------------


def random_cells(request: Request, answer: Answer) -> Answer:
    if isinstance(answer, CellsAnswer):
        return replace(answer, cells=Random(1).randbytes(len(answer.cells)))
    return answer


def other_digest(request: Request, answer: Answer) -> Answer:
    return replace(answer, digest=bytes(32)) if isinstance(answer, CellsAnswer) else answer


def too_few_cells(request: Request, answer: Answer) -> Answer:
    return replace(answer, cells=answer.cells[:-21]) if isinstance(answer, CellsAnswer) else answer


def another_count(request: Request, answer: Answer) -> Answer:
    return replace(answer, count=answer.count + 1) if isinstance(answer, CellsAnswer) else answer


def a_huge_count(request: Request, answer: Answer) -> Answer:
    return replace(answer, count=2**40) if isinstance(answer, CellsAnswer) else answer


def a_moving_set(request: Request, answer: Answer) -> Answer:
    if isinstance(request, CellsRequest) and isinstance(answer, CellsAnswer) and request.start:
        return replace(answer, digest=bytes(32))
    return answer


@pytest.mark.parametrize(
    "lie",
    [random_cells, other_digest, too_few_cells, another_count, a_huge_count, a_moving_set],
    ids=lambda lie: lie.__name__,
)
def test_lying_cells_cost_two_salts_at_most_and_pages_repair(lie: Lie) -> None:
    alice, bob = pair(300)
    lacking(alice, bob, 200)
    alice.lie = lie

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) <= 12
    assert sum(one.count for one in alice.requests(CellsRequest) if isinstance(one, CellsRequest)) < 140_000


def test_a_sketch_that_never_decodes_is_given_up_after_six_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cells, "decode", lambda cells, salt: None)
    alice, bob = pair()
    lacking(alice, bob, 10)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) == 12
    assert len(alice.requests(IdsRequest)) == 1


def test_a_link_without_a_secret_is_reconciled_by_pages() -> None:
    alice, bob = pair(secret=False)
    lacking(alice, bob, 10)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert not alice.requests(CellsRequest)


def test_too_many_differences_go_to_pages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_guess_max", 500)
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_difference_max", 500)
    alice, bob = pair(300)
    lacking(alice, bob, 2_000)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) == 2


@pytest.mark.parametrize("rule", ["R71", "R113", "R117"])
def test_whoever_serves_no_cells_is_asked_for_pages(rule: str) -> None:
    alice, bob = pair()
    lacking(alice, bob, 10)
    alice.lie = lambda request, answer: (
        RefusedAnswer(rule, "no", START_MS) if isinstance(request, CellsRequest) else answer
    )

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert (alice.secrets.salt(bob.id, 0) is None) == (rule == "R113")


@pytest.mark.parametrize("lost", [CellsRequest, FetchRequest, IdsRequest])
def test_after_a_lost_answer_the_next_status_begins_a_new_round(lost: type[Request]) -> None:
    alice, bob = pair(secret=lost is not IdsRequest)
    lacking(alice, bob, 10)
    alice.lie = lambda request, answer: None if isinstance(request, lost) else answer
    alice.compare(bob, START_MS)
    assert not alice.agrees_with(bob)

    alice.lie = lambda request, answer: answer
    alice.compare(bob, START_MS + 40_000)

    assert alice.agrees_with(bob)


def test_a_round_whose_own_longer_prefix_cannot_be_made_goes_to_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair(300)
    lacking(alice, bob, MANY)

    monkeypatch.setattr("pfn_protocol.snapshot.snapshot_ratio_min", 100)
    want = alice.machine._prefixes.want
    monkeypatch.setattr(
        alice.machine._prefixes,
        "want",
        lambda peer, link_set, salt, length, now_ms: length <= 4_096 and want(peer, link_set, salt, length, now_ms),
    )

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert alice.requests(IdsRequest)


def test_a_round_under_which_the_own_cells_changed_is_given_up_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair()
    lacking(alice, bob, 100)

    def thaw(request: Request, answer: Answer) -> Answer:
        for prefix in alice.machine._prefixes._standing.values():
            prefix.own_until_ms = 0
        return answer

    alice.lie = thaw
    alice.compare(bob, START_MS)
    assert len(alice.requests(CellsRequest)) == 1 and not alice.agrees_with(bob)
    alice.lie = lambda request, answer: answer
    alice.compare(bob, START_MS + 60_000)

    assert alice.agrees_with(bob)


def test_pages_of_ids_go_on_until_all_are_there_and_a_side_without_a_url_offers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.pages.ids_page_max", 4)
    alice, bob = pair(0, secret=False)
    lacking(alice, bob, 10)
    alice.hold(fake_versions(BOB.public, 12)[10:])
    alice.machine._rounds._has_url = False

    alice.compare(bob, START_MS)

    assert len(alice.registry) == 12
    assert len(alice.requests(IdsRequest)) == 3
    assert set(alice.offered) == {one.id for one in fake_versions(BOB.public, 12)[10:]}


# --- What stays different -------------------------------------------------------------------------------------------


def test_what_this_side_does_not_take_is_remembered_and_subtracted() -> None:
    alice, bob = pair()
    lacking(alice, bob, 3)
    alice.hold(fake_versions(ALICE.public, 2))
    alice.takes = lambda entry: entry.author != BOB.public
    for minute in range(4):
        alice.compare(bob, START_MS + minute * 120_000)
    assert not alice.agrees_with(bob)
    asked = len(alice.asked)

    for minute in range(4, 50):
        alice.compare(bob, START_MS + minute * 60_000)
    assert len(alice.asked) == asked
    bob.hold(fake_versions(BOB.public, 4)[3:])
    alice.takes = lambda entry: True
    alice.compare(bob, START_MS + 50 * 60_000)

    assert len([one for one in sorted(alice.registry.unsorted_ids()) if one in bob.registry]) == 64


def test_a_difference_that_stays_is_not_added_up_with_every_status(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair()
    lacking(alice, bob, 3)
    alice.takes = lambda entry: False
    for minute in range(3):
        alice.compare(bob, START_MS + minute * 120_000)
    added: list[bytes] = []
    add = SetDigest.add

    def counted(total: SetDigest, item: bytes) -> None:
        added.append(item)
        add(total, item)

    monkeypatch.setattr(SetDigest, "add", counted)
    for second in range(100):
        alice.compare(bob, START_MS + 240_000 + second * 1_000)

    assert len(added) <= 3


def test_what_stays_different_is_looked_into_again_after_an_hour() -> None:
    alice, bob = pair()
    lacking(alice, bob, 3)
    alice.takes = lambda entry: False
    for minute in range(3):
        alice.compare(bob, START_MS + minute * 120_000)
    alice.takes = lambda entry: True

    alice.compare(bob, START_MS + 240_000 + unresolved_ms)

    assert alice.agrees_with(bob)


def test_a_neighbour_whose_digest_is_always_another_one_is_asked_ever_more_rarely() -> None:
    alice, bob = pair()
    rng = Random(1)
    scope = alice.machine.status(bob.id).scope
    for second in range(0, 7_200, 10):
        now_ms = START_MS + second * 1_000
        alice.machine.heard_status(bob.id, SetStatus(60, rng.randbytes(32), scope), now_ms)
        alice.look(bob, now_ms)

    assert len(alice.asked) < 60


def agrees_in_between(alice: Party, bob: Party, now_ms: int) -> None:
    alice.machine.heard_status(bob.id, alice.machine.status(bob.id), now_ms)


def opens_anew(alice: Party, bob: Party, now_ms: int) -> None:
    alice.machine.open(bob.id, "http://bob.test", (), now_ms)


def closes_and_opens(alice: Party, bob: Party, now_ms: int) -> None:
    alice.machine.close(bob.id, now_ms)
    alice.secrets.answer(bob.id, LinkRequest("", (), (), *bob.secrets.offer(alice.id, is_linked=False)))
    opens_anew(alice, bob, now_ms)


@pytest.mark.parametrize("in_the_middle", [False, True])
@pytest.mark.parametrize("way_out", [agrees_in_between, opens_anew, closes_and_opens])
def test_a_rest_after_rounds_that_brought_nothing_is_got_rid_of_in_no_way(
    way_out: Callable[[Party, Party, int], None], in_the_middle: bool
) -> None:
    alice, bob = pair()
    rng = Random(1)
    for number in range(600):
        now_ms = START_MS + number * 5_000
        way_out(alice, bob, now_ms)
        status = replace(alice.machine.status(bob.id), digest=rng.randbytes(32))
        alice.machine.heard_status(bob.id, status, now_ms)
        alice.machine.flush(now_ms + 4_000)
        if in_the_middle:  # of a round, which nobody answers
            alice.asked += [one.message for one in alice.outgoing.drain() if isinstance(one, SendRequest)]
        else:
            alice.perform(bob, now_ms + 4_000)

    assert len(alice.requests(CellsRequest)) <= 301


def test_patience_is_remembered_of_so_many_neighbours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.reconciliation.peers_known_max", 2)
    alice, _ = pair()
    for number in range(4):
        peer = bytes([number]) * 32
        alice.machine.open(peer, "http://peer.test", (), START_MS)
        status = replace(alice.machine.status(peer), digest=bytes(32))
        alice.machine.heard_status(peer, status, START_MS)
        alice.machine.flush(START_MS + 3_000)
        alice.machine.close(peer, START_MS + 3_000)

    assert list(alice.machine._patience) == [bytes([2]) * 32, bytes([3]) * 32]


def test_ids_that_a_neighbour_does_not_want_are_not_offered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.comparison.offered_ids_max", 4)
    monkeypatch.setattr("pfn_protocol.comparison.offered_remembered_max", 6)
    alice, bob = pair()
    alice.hold(fake_versions(ALICE.public, 10))

    for minute in range(12):
        alice.compare(bob, START_MS + minute * 40 * 60_000)

    assert set(alice.offered) == {one.id for one in fake_versions(ALICE.public, 10)}
    assert len(alice.asked) < 30


def test_what_stayed_different_and_left_the_set_is_no_longer_subtracted() -> None:
    alice, bob = pair()
    alice.hold(fake_versions(ALICE.public, 2))
    for minute in range(2):
        alice.compare(bob, START_MS + minute * 60_000)
    asked = len(alice.asked)

    alice.drop(fake_versions(ALICE.public, 2)[:1])
    alice.compare(bob, START_MS + 200_000)
    alice.drop(fake_versions(ALICE.public, 2)[1:])
    alice.compare(bob, START_MS + 300_000)

    assert alice.agrees_with(bob) and len(alice.asked) == asked


def test_nothing_is_done_when_the_difference_is_gone_by_itself() -> None:
    alice, bob = pair()
    lacking(alice, bob, 3)
    alice.machine.heard_status(bob.id, bob.machine.status(alice.id), START_MS)
    lacking(bob, alice, 3)

    alice.look(bob, START_MS + 3_000)

    assert not alice.asked


# --- Serving --------------------------------------------------------------------------------------------------------


def test_cells_are_served_of_a_set_that_stands_still_while_a_round_lasts() -> None:
    alice, bob = pair()
    first = alice.ask(bob, cells_request(alice, bob))
    lacking(alice, bob, 5)

    second = alice.ask(bob, cells_request(alice, bob, 32, 100), START_MS + 1_000)
    assert isinstance(first, CellsAnswer) and isinstance(second, CellsAnswer)
    assert (first.count, first.digest) == (second.count, second.digest) == (60, second.digest)
    assert len(second.cells) == 2_100

    late = alice.ask(bob, cells_request(alice, bob, 132, 100), START_MS + 1_000 + sketch_frozen_ms)
    assert rule_of(late) == "R115"
    anew = alice.ask(bob, cells_request(alice, bob), START_MS + 1_000 + sketch_frozen_ms)
    assert isinstance(anew, CellsAnswer) and anew.count == 65


def test_a_longer_prefix_is_of_the_same_set_though_it_has_changed() -> None:
    alice, bob = pair()
    first = alice.ask(bob, cells_request(alice, bob))
    bob.hold(fake_versions(BOB.public, 5))
    bob.drop(fake_versions(CAROL.public, 3))

    longer = alice.ask(bob, cells_request(alice, bob, 32, 5_000), START_MS + 1_000)

    assert isinstance(first, CellsAnswer) and isinstance(longer, CellsAnswer)
    assert (longer.count, longer.digest) == (first.count, first.digest)
    mine = Cells.from_bytes(first.cells + longer.cells)
    salt = alice.secrets.salt(bob.id, 0)
    assert salt is not None
    own = Cells(5_032)
    own.add([one.id[:16] for one in fake_versions(CAROL.public, 60)], salt.key)
    assert mine.to_bytes() == own.to_bytes()


def test_a_round_whose_state_cannot_be_made_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.changes.sketch_changes_max", 3)
    alice, bob = pair()
    alice.ask(bob, cells_request(alice, bob))
    lacking(alice, bob, 10)

    assert rule_of(alice.ask(bob, cells_request(alice, bob, 32, 5_000), START_MS + 1_000)) == "R115"


def test_requests_for_cells_at_random_are_refused_or_only_sliced() -> None:
    alice, bob = pair()
    request = cells_request(alice, bob)

    assert rule_of(alice.ask(bob, replace(request, start=7))) == "R115"
    assert rule_of(alice.ask(bob, replace(request, set_name="dev@pub.test"))) == "R125"
    assert rule_of(alice.ask(bob, replace(request, salt=bytes(4)))) == "R113"
    assert rule_of(alice.ask(bob, replace(request, scope=bytes(8)))) == "R114"
    assert rule_of(alice.ask(bob, replace(request, start=sketch_cells_max - 1, count=2))) == "R118"
    rng = Random(1)
    for _ in range(200):
        start, count = rng.randrange(sketch_cells_max), rng.randrange(1, sketch_batch_max + 1)
        alice.ask(bob, replace(request, start=start, count=count))
    assert not bob.builds
    served = 0
    for _ in range(40):
        answer = alice.ask(bob, replace(request, count=32_768))
        served += 32_768 * isinstance(answer, CellsAnswer)
    assert served == sketch_cells_per_hour_max and len(bob.builds) == 1
    assert isinstance(alice.ask(bob, request, START_MS + HOUR_MS), CellsAnswer)


def test_of_the_requests_that_wait_for_a_prefix_one_of_each_neighbour_waits() -> None:
    alice, bob = pair()
    bob.holds_builds = True
    request = cells_request(alice, bob)
    assert alice.ask(bob, request) is None
    alice.ask(bob, replace(request, count=33))
    assert [rule_of(one) for one in bob.said.values()] == ["R115"]

    bob.build(bob.builds[0], START_MS)
    bob.perform(alice, START_MS)

    assert [type(one) for one in bob.said.values()] == [RefusedAnswer, CellsAnswer]


@pytest.mark.parametrize("how", ["close", "stop", "salt"])
def test_a_request_that_waits_is_answered_when_nothing_will_come(how: str) -> None:
    alice, bob = pair()
    bob.holds_builds = True
    alice.ask(bob, cells_request(alice, bob))
    if how == "close":
        bob.machine.close(alice.id, START_MS)
    elif how == "stop":
        bob.machine.stop(START_MS)
    else:
        bob.secrets.forget(alice.id)
    bob.build(bob.builds[0], START_MS)
    bob.build(bob.builds[0], START_MS)
    bob.perform(alice, START_MS)

    assert [rule_of(one) for one in bob.said.values()] == ["R113" if how == "salt" else "R115"]
    bob.machine.close(alice.id, START_MS)
    assert how == "salt" or bob.machine.sketch_memory_bytes == 0


def test_builds_for_nodes_that_nobody_pins_are_few_an_hour_and_then_pages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.prefixes.sketch_small_set_max", 10)
    alice, bob = pair()
    bob.registry.set_policy([CAROL.public], [ALICE.public])
    request = replace(cells_request(alice, bob), scope=bob.machine.status(alice.id).scope)
    answers = [alice.ask(bob, request, START_MS + number * sketch_prefix_ms_max // 100) for number in range(3)]
    for number in range(6):  # each of these wants it anew
        bob.machine.close(alice.id, START_MS)
        bob.machine.open(alice.id, "", (), START_MS)
        bob.secrets.answer(alice.id, LinkRequest("", (), (), *alice.secrets.offer(bob.id, is_linked=False)))
        salt = bob.secrets.salt(alice.id, 0)
        assert salt is not None
        scope = bob.machine.status(alice.id).scope
        answers.append(alice.ask(bob, replace(request, salt=salt.name, scope=scope), START_MS + number))

    assert [type(one) for one in answers] == [CellsAnswer] * 8 + [RefusedAnswer]
    assert rule_of(answers[-1]) == "R117"


def test_builds_wait_for_each_other_and_only_a_few_wait() -> None:
    alice, bob = pair()
    bob.holds_builds = True
    prefixes = Prefixes(bob.registry, bob.outgoing)
    link_set = LinkSet(bob.registry, ())

    wanted = [prefixes.want(alice.id, link_set, bytes([number]) * 32, 32, START_MS) for number in range(5)]
    again = prefixes.want(alice.id, link_set, bytes([1]) * 32, 32, START_MS)

    assert (wanted, again) == ([True] * 4 + [False], True)
    for number in range(1, 5):
        (build,) = bob.outgoing.drain()
        assert isinstance(build, BuildPrefix) and build.build_id == number
        assert prefixes.built(number, Cells(32), START_MS) == alice.id
    assert prefixes.built(4, Cells(32), START_MS) is None
    assert not bob.outgoing.drain()


def test_a_round_whose_own_cells_cannot_be_made_goes_to_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair()
    lacking(alice, bob, 10)
    alice.holds_builds = True
    monkeypatch.setattr("pfn_protocol.prefixes.sketch_builds_waiting_max", -1)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob) and not alice.requests(CellsRequest)


# --- Snapshots ------------------------------------------------------------------------------------------------------


def test_a_nearly_empty_node_takes_a_snapshot() -> None:
    alice, bob = pair(0)
    lacking(alice, bob, 3_000)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert [type(one) for one in alice.asked] == [SnapshotRequest] * len(alice.asked)


def test_a_snapshot_goes_on_where_it_was_broken_off() -> None:
    alice, bob = pair(0)
    lacking(alice, bob, 4_000)
    pages: list[Request] = []

    def breaks_off(request: Request, answer: Answer) -> Answer | None:
        pages.append(request)
        return None if len(pages) == 2 else answer

    alice.lie = breaks_off
    alice.compare(bob, START_MS)
    assert 0 < len(alice.registry) < 4_000
    alice.machine.open(bob.id, "http://bob.test", (), START_MS)
    alice.compare(bob, START_MS + 60_000)
    alice.look(bob, START_MS + 70_000)

    assert alice.agrees_with(bob)


# --- Large differences ----------------------------------------------------------------------------------------------


def many_at(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A difference of this size counts as large."""
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_guess_max", size)
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_second_cells", 64)
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_verified_max", size)
    monkeypatch.setattr("pfn_protocol.rounds.sketch_inline_cells_max", size)


def test_many_differences_of_large_authors_are_found_by_cells_and_decoded_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many_at(monkeypatch, 300)
    alice, bob = pair(4_000)
    bob.hold(fake_versions(CAROL.public, 4_600)[4_000:])

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(AuthorsRequest)) == 1 and not alice.requests(IdsRequest)
    assert alice.decodes and alice.decodes[-1].cells.memory_bytes < 21 * 1_500


def test_many_differences_of_few_authors_are_found_by_pages_where_these_cost_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many_at(monkeypatch, 300)
    alice, bob = pair(4_000)
    lacking(alice, bob, 1_000)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(AuthorsRequest)) == len(alice.requests(IdsRequest)) == 1
    assert sum(one.count for one in alice.requests(CellsRequest) if isinstance(one, CellsRequest)) == 64


def test_a_list_of_authors_that_costs_too_much_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    many_at(monkeypatch, 300)
    monkeypatch.setattr("pfn_protocol.rounds._AUTHOR_BYTES", 10_000)
    alice, bob = pair(4_000)
    lacking(alice, bob, 1_000)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert not alice.requests(AuthorsRequest) and not alice.requests(IdsRequest)


def test_cells_come_in_as_many_answers_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_batch_max", 500)
    alice, bob = pair(4_000)
    lacking(alice, bob, 1_500)

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) >= 5
    assert len(alice.builds) == 1


def test_a_difference_too_large_to_be_added_up_of_which_nothing_comes_ends_in_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.cells_round.sketch_verified_max", 10)
    alice, bob = pair()
    lacking(alice, bob, 20)
    alice.takes = lambda entry: False

    alice.compare(bob, START_MS)

    assert len(alice.requests(IdsRequest)) == 1
    assert {one.salt for one in alice.requests(CellsRequest) if isinstance(one, CellsRequest)} == {
        salt.name for number in (0, 1) if (salt := alice.secrets.salt(bob.id, number)) is not None
    }


# --- Deadlines ------------------------------------------------------------------------------------------------------


def test_a_round_whose_answer_never_comes_is_given_up() -> None:
    alice, bob = pair(secret=False)
    lacking(alice, bob, 5)
    alice.machine.heard_status(bob.id, bob.machine.status(alice.id), START_MS)
    alice.machine.flush(START_MS + 3_000)
    alice.outgoing.drain()

    assert alice.machine.wake_at == START_MS + 3_000 + round_answer_ms_max
    alice.machine.flush(START_MS + 3_000 + round_answer_ms_max)
    alice.compare(bob, START_MS + 200_000)

    assert alice.agrees_with(bob)


def test_a_round_that_goes_on_slowly_for_ever_ends() -> None:
    alice, bob = pair(400)
    lacking(alice, bob, 3_000)
    neighbourhood = Neighbourhood(alice)

    def one_at_a_time(request: Request, answer: Answer) -> tuple[Answer, int]:
        if isinstance(answer, FetchAnswer):
            return FetchAnswer(answer.announcements[:1], ()), 9_000
        return answer, 9_000

    neighbourhood.link(bob, one_at_a_time)
    assert neighbourhood.run(60, lambda: bool(alice.requests(FetchRequest)))
    rounds = len(alice.requests(CellsRequest))
    began_ms = neighbourhood.now_ms

    assert neighbourhood.run(1_000, lambda: len(alice.requests(CellsRequest)) > rounds)

    assert neighbourhood.now_ms - began_ms <= round_ms_max + 30_000


def test_a_neighbour_that_is_busy_for_ever_is_asked_ever_more_rarely() -> None:
    alice, bob = pair()
    lacking(alice, bob, 5)
    alice.lie = lambda request, answer: RefusedAnswer("busy", "come again", START_MS)

    for second in range(0, 3_600, 10):
        alice.machine.heard_status(bob.id, bob.machine.status(alice.id), START_MS + second * 1_000)
        alice.look(bob, START_MS + second * 1_000 + 5_000)

    assert 5 < len(alice.asked) < 20


def test_rounds_over_two_links_share_the_work() -> None:
    alice, bob, dave = Party(ALICE), Party(BOB), Party(CAROL)
    neighbourhood = Neighbourhood(alice)
    for party in (alice, bob, dave):
        party.hold(fake_versions(BOB.public, 2_000))
    for party in (bob, dave):
        party.hold(fake_versions(CAROL.public, 2_000))
        neighbourhood.link(party, lambda request, answer: (answer, 400))

    assert neighbourhood.run(60, lambda: alice.agrees_with(bob))
    neighbourhood.run(60)

    bodies = [one for of_one in neighbourhood.bodies.values() for one in of_one]
    assert all(len(of_one) > 500 for of_one in neighbourhood.bodies.values())
    assert len({*bodies}) == 2_000 and len(bodies) <= 2_300


def test_who_never_brings_what_it_was_asked_for_keeps_nobody_else_from_bringing_it() -> None:
    def hangs(request: Request, answer: Answer) -> tuple[Answer, int] | None:
        return None if isinstance(request, FetchRequest) else (answer, 10)

    alice, bob, dave = Party(ALICE), Party(BOB), Party(CAROL)
    neighbourhood = Neighbourhood(alice)
    for party in (alice, bob, dave):
        party.hold(fake_versions(BOB.public, 60))
    for party, manner in ((bob, hangs), (dave, honest)):
        party.hold(fake_versions(CAROL.public, 5))
        neighbourhood.link(party, manner)

    assert neighbourhood.run(30, lambda: alice.agrees_with(dave))
    assert not neighbourhood.bodies[bob.id]
