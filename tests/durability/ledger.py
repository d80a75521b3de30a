"""What a node acknowledged, written down outside of it: the only judge of what it may not lose."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Facts by name. One that was asked for, but not acknowledged, may have become true or not; half of it may not."""

    acknowledged: int = 0
    _known: dict[str, str | None] = field(default_factory=dict)
    _asked: dict[str, str | None] = field(default_factory=dict)
    _lock: threading.Condition = field(default_factory=threading.Condition)

    def attempt(self, name: str, becomes: str | None, call: Callable[[], object]) -> None:
        """Make a call after which a fact is another; whatever the call raises, it was not acknowledged."""
        with self._lock:
            self._asked[name] = becomes
        call()
        with self._lock:
            del self._asked[name]
            self._known[name] = becomes
            self.acknowledged += 1
            self._lock.notify_all()

    def wait_for_more(self, count: int, seconds_max: float) -> None:
        """Return once so many more calls were acknowledged; at the latest after so many seconds."""
        with self._lock:
            goal = self.acknowledged + count
            self._lock.wait_for(lambda: self.acknowledged >= goal, seconds_max)

    def names(self, kind: str, value: str | None = None) -> list[str]:
        """What is known to be there (with this value), of a kind; what is just being changed apart."""
        with self._lock:
            return [
                name
                for name, known in self._known.items()
                if name.startswith(kind + " ")
                and known in ((value,) if value else (known or "",))
                and name not in self._asked
            ]

    def asked_for(self, kind: str) -> list[str]:
        """Everything of a kind that was ever asked for."""
        with self._lock:
            return sorted(name for name in (self._known | self._asked) if name.startswith(kind + " "))

    def settle(self, kind: str, found: Mapping[str, str]) -> list[str]:
        """Compare with what the node says now: sentences about what is lost, or came from nowhere. What it says of
        what was not acknowledged counts from now on.
        """
        faults = []
        with self._lock:
            of_kind = {name for name in (*self._known, *self._asked) if name.startswith(kind + " ")}
            for name in sorted(of_kind | found.keys()):
                seen, known = found.get(name), self._known.get(name)
                if seen != known and not (name in self._asked and seen == self._asked[name]):
                    faults.append(f"{name}: {known!r} was acknowledged, and it says {seen!r}")
                if self._asked.get(name) is None or seen is not None:  # what was asked for may still come
                    self._asked.pop(name, None)
                self._known[name] = seen
        return faults
