"""The trace of a run: a digest of everything that was sent, from whom to whom, when. One seed gives one trace."""

from array import array
from hashlib import sha256

# Numbers that are collected before they are digested together; each costs some forty bytes until then.
_PENDING_MAX = 100_000


class Trace:
    """Takes numbers, through `note`, and bytes."""

    def __init__(self) -> None:
        self._digest = sha256()
        self._pending: list[int] = []
        self.note = self._pending.extend  # of numbers; called for each message, so there is nothing between

    def note_bytes(self, raw: bytes) -> None:
        """These bytes were sent."""
        self.flush()
        self._digest.update(raw)

    def flush(self) -> None:
        """Digest what was noted."""
        self._digest.update(array("q", self._pending).tobytes())
        self._pending.clear()

    def tidy(self) -> None:
        """Digest what was noted if it has become much."""
        if len(self._pending) >= _PENDING_MAX:
            self.flush()

    @property
    def hash(self) -> str:
        """The digest so far, in hex."""
        self.flush()
        return self._digest.hexdigest()
