"""What `pfn fsck` found, and how it says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# Told of what was done so far and what there is to do, in any unit.
Progress = Callable[[int, int], None]
# Of a finding that concerns many things, so many are named.
NAMED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `is_damage`: not merely worth knowing."""

    where: str  # database, announcements, catalogue, search, audit, artifacts
    what: str
    advice: str
    count: int = 1
    named: tuple[str, ...] = ()
    is_damage: bool = True


@dataclass(slots=True)
class Report:
    """Everything that was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)  # sentences

    @property
    def is_clean(self) -> bool:
        """Whether there is no damage."""
        return not any(finding.is_damage for finding in self.findings)

    def add(self, where: str, what: str, advice: str, named: list[str] | None = None, *, damage: bool = True) -> None:
        """Note a finding; with `named`, only if there are any."""
        if named is None:
            self.findings.append(Finding(where, what, advice, is_damage=damage))
        elif named:
            count = len(named)
            self.findings.append(Finding(where, f"{count} {what}", advice, count, tuple(named[:NAMED_MAX]), damage))

    def has(self, where: str) -> bool:
        """Whether something is damaged there."""
        return any(finding.where == where and finding.is_damage for finding in self.findings)
