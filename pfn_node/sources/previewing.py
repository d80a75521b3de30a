"""What a subscription would mirror, before there is one.

The publisher's own list decides, as it will in the sync; asking for it again costs little (mirroring.py remembers its
ETag). Where the publisher does not answer soon, it is worked out from what is listed here, and said to be so.
"""

from collections import Counter
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
TAGS_SHOWN_MAX: Final = 20


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


async def preview(
    database: Database, ask: Callable[[Source], Awaitable[AuthorData]], source: Source, filters: Filters
) -> Preview:
    """Work out what a subscription to the source with these filters would mirror now."""
    known = await database.read(lambda db: holdings.listed_of(db, source.id))
    problem = None
    author_data = None
    try:
        with trio.move_on_after(ASK_SECONDS_MAX):
            author_data = await ask(source)
    except PublisherFailed as failure:
        problem = failure.sentence
    if author_data is None:
        newest = await database.read(lambda db: holdings.newest_of(db, source.id))
        return _sorted_out("here", newest, filters, problem or "the publisher does not answer soon enough")
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
