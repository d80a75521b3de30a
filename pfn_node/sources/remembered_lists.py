"""What authors listed last, with its ETag: a list that has not changed is neither sent nor read again."""

from collections import OrderedDict
from typing import Final

from pfn_node.sources.publisher_answers import AuthorData, AuthorEntry

# Of all lists together: dozens of the largest that are taken, thousands of the usual ones. Who is forgotten sends all
# of it once more.
REMEMBERED_BYTES_MAX: Final = 64 * 2**20
_ENTRY_BYTES: Final = 700  # what Python needs around the parts of one, and its short texts


class RememberedLists:
    """The newest list of each author, by instance and name; those used longest ago make room."""

    def __init__(self, bytes_max: int = REMEMBERED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._lists: OrderedDict[tuple[str, str], tuple[AuthorData, int]] = OrderedDict()
        self.size = 0  # about the memory that all of them take, in bytes

    def get(self, key: tuple[str, str]) -> AuthorData | None:
        """What an author listed last, if that is remembered."""
        found = self._lists.get(key)
        if found is None:
            return None
        self._lists.move_to_end(key)
        return found[0]

    def put(self, key: tuple[str, str], data: AuthorData) -> None:
        """An author lists this now; without an ETag it cannot be asked for again, and is not remembered."""
        self._count_off(self._lists.pop(key, None))
        if not data.etag:
            return
        size = bytes_of(data)
        self._lists[key] = data, size
        self.size += size
        while self.size > self._bytes_max:
            self._count_off(self._lists.popitem(last=False)[1])

    def _count_off(self, dropped: tuple[AuthorData, int] | None) -> None:
        if dropped is not None:
            self.size -= dropped[1]


def bytes_of(data: AuthorData) -> int:
    """About the memory that a list takes."""
    signed = sum(len(envelope) for envelope in (*data.signed.notices, *data.signed.keybinds))
    return signed + sum(map(_bytes_of_entry, data.entries)) + _ENTRY_BYTES * (1 + len(data.skipped))


def _bytes_of_entry(entry: AuthorEntry) -> int:
    parts = (entry.metadata, entry.release, entry.keybind, entry.head, entry.sha384_signature)
    icons = sum(len(url) for url in entry.icons.values())
    return _ENTRY_BYTES + len(entry.description or "") + icons + sum(len(part) for part in parts if part)
