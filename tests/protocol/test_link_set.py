"""The link's set and its prefix: whatever changes, both are what one would make of the set anew."""

from collections.abc import Callable
from random import Random

import pytest

from pfn_node.simulation.world import START_MS
from pfn_protocol.author_share import AuthorShare
from pfn_protocol.link_set import LinkSet
from pfn_protocol.prefixes import Prefix, _narrowing
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, build_cells
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, DAVE, fake_versions

SALT = bytes(range(32))
WHOLE = {"is_first": True, "is_last": True}
OTHERS = (BOB, CAROL, DAVE)


def ids_of(registry: Registry, link_set: LinkSet) -> list[bytes]:
    beyond = dict.fromkeys(link_set.ids_beyond())
    return [one for one in registry.unsorted_ids() if one not in beyond]


def fresh(registry: Registry, link_set: LinkSet) -> bytes:
    return build_cells(ids_of(registry, link_set), [], SALT, 64).to_bytes()


def offers(registry: Registry, rng: Random) -> None:
    for one in rng.sample(fake_versions(rng.choice(OTHERS).public, 60), 30):
        registry.offer(one)


def leaves(registry: Registry, rng: Random) -> None:
    author = rng.choice(OTHERS).public
    share = registry._shares.get(author)
    if share is not None:
        for entry in share.entries()[:3]:
            share.expire(entry)
            registry._leave([entry])


def pins(registry: Registry, rng: Random) -> None:
    registry.set_policy([key.public for key in rng.sample(OTHERS, rng.randrange(4))], ())


def sponsors(registry: Registry, rng: Random) -> None:
    chosen = rng.sample(OTHERS, 2)
    registry.set_policy([chosen[0].public], [chosen[1].public])


CHANGES: tuple[Callable[[Registry, Random], None], ...] = (offers, offers, leaves, pins, sponsors)


@pytest.mark.parametrize("seed", range(30))
def test_a_prefix_that_follows_the_changes_is_the_one_that_would_be_made_anew(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("admission", "registry"):
        monkeypatch.setattr(f"pfn_protocol.{place}.slots_sponsored_max", 12)
    monkeypatch.setattr("pfn_protocol.admission.slots_pinned_max", 40)
    rng = Random(seed)
    registry = Registry(ALICE.public, [key.public for key in OTHERS])
    link_set = LinkSet(registry, ())
    prefix = Prefix(
        link_set, SALT, Cells(64), registry.changes.position, SetDigest(), START_MS, *_narrowing(link_set, registry)
    )
    for _ in range(12):
        for _ in range(rng.randrange(3)):
            rng.choice(CHANGES)(registry, rng)
        if rng.random() < 0.3:
            link_set.leave_out([key.public for key in rng.sample(OTHERS, rng.randrange(3))])
        if rng.random() < 0.4:
            page = [(key.public, rng.choice((5, 12, 40))) for key in rng.sample((ALICE, *OTHERS), rng.randrange(5))]
            link_set.hear(page, is_first=True, is_last=True)

        assert prefix.freeze_for_own(registry, START_MS)

        assert prefix.cells.to_bytes() == fresh(registry, link_set)
        assert prefix.total == SetDigest(ids_of(registry, link_set))
        assert link_set.status().count == len(ids_of(registry, link_set))


def test_a_prefix_stands_still_while_the_other_side_needs_it() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    link_set = LinkSet(registry, ())
    prefix = Prefix(link_set, SALT, Cells(64), 0, SetDigest(), START_MS, *_narrowing(link_set, registry))
    assert prefix.freeze_for_other(registry, START_MS)
    registry.offer(fake_versions(BOB.public, 1)[0])

    assert prefix.freeze_for_own(registry, START_MS + 1_000)
    assert prefix.freeze_for_other(registry, START_MS + 2_000)
    assert prefix.total.count == 0
    prefix.own_until_ms = 0
    assert prefix.freeze_for_other(registry, START_MS + 3_000)
    assert prefix.total.count == 1


def test_of_an_author_that_was_admitted_later_it_is_assumed_that_the_other_side_admits_it_too() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    link_set = LinkSet(registry, ())
    link_set.hear([(ALICE.public, 5_000)], is_first=True, is_last=True)
    assert link_set.narrowed() == {BOB.public: 0}

    registry.set_policy([BOB.public, CAROL.public], ())

    assert link_set.narrowed() == {BOB.public: 0}
    assert link_set.scope() != LinkSet(registry, ()).scope()


def test_who_tells_the_same_again_has_nothing_worked_out_anew() -> None:
    registry = Registry(ALICE.public, [key.public for key in OTHERS])
    link_set = LinkSet(registry, [DAVE.public])
    told = [(BOB.public, 7)]
    link_set.hear(told, is_first=True, is_last=True)
    narrowed = link_set.narrowed()

    link_set.hear(told, is_first=True, is_last=True)
    link_set.leave_out([DAVE.public])
    assert link_set.narrowed() is narrowed

    link_set.hear([(BOB.public, 8)], is_first=True, is_last=True)
    assert link_set.narrowed()[BOB.public] == 8
    link_set.leave_out([])
    assert link_set.narrowed()[DAVE.public] == 0  # they did not name it either
    assert link_set.narrowed() is not narrowed


def test_a_cap_that_no_node_has_counts_as_that_of_a_newcomer() -> None:
    registry = Registry(ALICE.public, [key.public for key in OTHERS])
    link_set = LinkSet(registry, ())

    link_set.hear([(key.public, cap) for key, cap in zip(OTHERS, (4_999, 7, 9_999), strict=True)], **WHOLE)

    narrowed = {key.public: cap for key, cap in zip(OTHERS, (256, 7), strict=False)}
    assert link_set.narrowed() == narrowed | {ALICE.public: 0}


def test_after_a_change_only_the_share_that_changed_is_added_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour may say that it admits every author at a smaller cap, and ask how the sets stand all the time."""
    registry = Registry(ALICE.public, [key.public for key in OTHERS])
    link_set = LinkSet(registry, ())
    link_set.hear([(key.public, 50) for key in OTHERS], **WHOLE)
    for key in OTHERS:
        registry.fill(fake_versions(key.public, 60))
    link_set.status()
    asked: list[bytes] = []
    entries = AuthorShare.entries

    def counted(share: AuthorShare, cap: int | None = None) -> list[Entry]:
        asked.append(share.author)
        return entries(share, cap)

    monkeypatch.setattr(AuthorShare, "entries", counted)
    registry.offer(fake_versions(BOB.public, 61)[60])
    status = link_set.status()

    assert status.count == 3 * 50
    assert asked == [BOB.public]
