"""What a subscription would mirror, before there is one.

The publisher's own list decides, as it will in the sync. A page that shows a preview asks for itself again and again,
and each time the publisher would be: so what it answered, or that it did not, counts for a while. Where it does not
answer soon, the preview is worked out from what is listed here, and said to be so.
"""

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import trio

from pfn_node.sources.filtering import matches
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_answers import AuthorData
from pfn_node.store import holdings
from pfn_node.store.database import Database
from pfn_node.store.rows import Filters, Listed, Source

ASK_SECONDS_MAX: Final = 5.0  # somebody waits for the page
ASKED_AGAIN_SECONDS: Final = 30.0
ANSWERS_MAX: Final = 8  # each as large as a publisher's list may be
TAGS_SHOWN_MAX: Final = 20

Ask = Callable[[Source], Awaitable[AuthorData]]


@dataclass(frozen=True, slots=True)
class Preview:
    """What filters let through. `left_out` counts what they do not."""

    basis: Literal["publisher", "here"]
    wanted: tuple[Listed, ...]
    left_out: int
    tags: tuple[tuple[str, int], ...]  # of the whole source, the most frequent first
    problem: str | None = None  # why the publisher was not asked, or gave nothing

    @property
    def bytes_known(self) -> int:
        """How large those are whose size is known."""
        return sum(one.size or 0 for one in self.wanted)

    @property
    def bytes_to_fetch(self) -> int:
        """How much of that is not here yet."""
        return sum(one.size or 0 for one in self.wanted if not one.held)

    @property
    def sizes_unknown(self) -> int:
        """Of how many the size is not known: nobody whose word is heard here has fetched them."""
        return sum(one.size is None for one in self.wanted)

    @property
    def held(self) -> int:
        """How many are here already."""
        return sum(one.held for one in self.wanted)


class AskedLately:
    """Publishers' lists as they were told lately: a publisher is asked once in ASKED_AGAIN_SECONDS, whoever looks, and
    however many look at once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        # By address and author: until when it counts, and the list or the sentence why there is none.
        self._answers: OrderedDict[tuple[str, str], tuple[float, AuthorData | str]] = OrderedDict()
        self._asking: dict[tuple[str, str], trio.Event] = {}  # who is being asked, and when that is over

    async def __call__(self, source: Source) -> AuthorData:
        """What the author lists. Raises PublisherFailed, also if the answer does not come soon."""
        key = (source.instance_url, source.username)
        while key in self._asking:
            await self._asking[key].wait()  # whoever asks may be cancelled; then somebody else does
        until, answer = self._answers.get(key, (0.0, ""))
        if not answer or trio.current_time() >= until:
            answer = await self._ask_and_keep(key, source)
        if isinstance(answer, str):
            raise PublisherFailed(answer)
        return answer

    async def _ask_and_keep(self, key: tuple[str, str], source: Source) -> AuthorData | str:
        until = trio.current_time() + ASKED_AGAIN_SECONDS
        self._asking[key] = trio.Event()
        try:
            answer = await self._answer(source)
        finally:
            self._asking.pop(key).set()
        self._answers[key] = (until, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        return answer

    async def _answer(self, source: Source) -> AuthorData | str:
        with trio.move_on_after(ASK_SECONDS_MAX):
            try:
                return await self._ask(source)
            except PublisherFailed as failure:
                return failure.sentence
        return "the publisher does not answer soon enough"


async def preview(database: Database, ask: Ask, source: Source, filters: Filters) -> Preview:
    """Work out what a subscription to the source with these filters would mirror now."""
    known = await database.read(lambda db: holdings.listed_of(db, source.id))
    try:
        author_data = await ask(source)
    except PublisherFailed as failure:
        newest = await database.read(lambda db: holdings.newest_of(db, source.id))
        return _sorted_out("here", newest, filters, failure.sentence)
    here = {(one.slug, one.version): one for one in known}
    listed = []
    for entry in author_data.entries:
        seen = here.get((entry.slug, entry.version))
        size, held = (None, False) if seen is None else (seen.size, seen.held)
        listed.append(Listed(entry.slug, entry.version, entry.name, entry.tags, size, held))
    return _sorted_out("publisher", listed, filters, None)


def _sorted_out(
    basis: Literal["publisher", "here"], listed: list[Listed], filters: Filters, problem: str | None
) -> Preview:
    wanted = tuple(one for one in listed if matches(filters, one.slug, one.tags))
    spelled = {tag.casefold(): tag for one in reversed(listed) for tag in one.tags}  # as it comes first
    counted = Counter(folded for one in listed for folded in dict.fromkeys(map(str.casefold, one.tags)))
    tags = tuple((spelled[folded], count) for folded, count in counted.most_common(TAGS_SHOWN_MAX))
    return Preview(basis, wanted, len(listed) - len(wanted), tags, problem)
