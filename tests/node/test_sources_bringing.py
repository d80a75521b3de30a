"""Several plugins are brought at a time; what ends one sync ends all of it."""

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.bringing import AT_ONCE_MAX, UNANSWERED_MAX, Skipped, bring_all
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.progress import SyncProgress
from pfn_node.sources.publisher_answers import AuthorEntry


def entries(count: int) -> list[AuthorEntry]:
    slugs = [f"plugin-{number:02}" for number in range(count)]
    return [
        AuthorEntry(slug, "1.0", "A plugin", None, (), None, {}, metadata=None, rebuildable=False) for slug in slugs
    ]


async def test_a_few_are_under_way_at_the_same_time_and_each_is_noted(autojump_clock: MockClock) -> None:
    progress = SyncProgress()
    running: list[int] = [0]
    most = 0

    async def bring(entry: AuthorEntry) -> None:
        nonlocal most
        running[0] += 1
        most = max(most, running[0])
        await trio.sleep(1)
        running[0] -= 1
        if entry.slug == "plugin-03":
            raise Skipped("it is held back")

    await bring_all(entries(2 * AT_ONCE_MAX), bring, progress)

    assert most == AT_ONCE_MAX and trio.current_time() == pytest.approx(2)
    assert progress.outcomes == {one.slug: None for one in entries(2 * AT_ONCE_MAX)} | {"plugin-03": "it is held back"}
    assert (progress.steps.here, progress.steps.skipped) == (2 * AT_ONCE_MAX - 1, 1)


async def test_one_that_is_slow_keeps_no_other_from_being_brought(autojump_clock: MockClock) -> None:
    progress = SyncProgress()

    async def bring(entry: AuthorEntry) -> None:
        await trio.sleep(1000 if entry.slug == "plugin-00" else 1)

    with trio.move_on_after(500):
        await bring_all(entries(100), bring, progress)

    assert len(progress.outcomes) == 99


async def test_a_publisher_that_answers_no_more_is_asked_only_for_what_was_under_way(autojump_clock: MockClock) -> None:
    progress = SyncProgress()
    asked: list[str] = []

    async def bring(entry: AuthorEntry) -> None:
        asked.append(entry.slug)
        await trio.sleep(len(asked))
        raise Skipped("nobody answers", answered=False)

    with pytest.raises(PublisherFailed, match="given up: nobody answers") as failed:
        await bring_all(entries(100), bring, progress)

    assert not failed.value.answered
    assert len(asked) < AT_ONCE_MAX + UNANSWERED_MAX and len(progress.outcomes) == UNANSWERED_MAX


async def test_an_answer_in_between_shows_that_the_publisher_is_there(autojump_clock: MockClock) -> None:
    progress = SyncProgress()

    async def bring(entry: AuthorEntry) -> None:
        number = int(entry.slug[-2:])
        await trio.sleep(number)
        raise Skipped("no answer or no", answered=number % 2 == 0)

    await bring_all(entries(30), bring, progress)

    assert len(progress.outcomes) == 30


async def test_a_fault_of_this_node_ends_the_sync_as_it_is(autojump_clock: MockClock) -> None:
    async def bring(entry: AuthorEntry) -> None:
        await trio.sleep(1)
        raise ValueError(entry.slug)

    with pytest.raises(ValueError, match="plugin-"):
        await bring_all(entries(100), bring, SyncProgress())
