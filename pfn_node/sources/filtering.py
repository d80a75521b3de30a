"""Which of an author's plugins the subscribers of a source want."""

from pfn_node.sources.publisher_answers import AuthorData, AuthorEntry
from pfn_node.store.rows import Filters


def wanted_entries(author_data: AuthorData, filters: list[Filters]) -> list[AuthorEntry]:
    """The entries that at least one subscriber wants."""
    return [entry for entry in author_data.entries if any(matches(one, entry.slug, entry.tags) for one in filters)]


def matches(filters: Filters, slug: str, tags: tuple[str, ...]) -> bool:
    """Whether a subscriber wants this plugin: one of the tags, one of the slugs, and none of the exceptions."""
    if slug in filters.exclude:
        return False
    if filters.slugs and slug not in filters.slugs:
        return False
    folded = {tag.casefold() for tag in tags}
    return not filters.tags or any(tag.casefold() in folded for tag in filters.tags)
