"""What of the API's calls goes into the audit log: every one that changes something with a key, and what was refused.

A call is recorded after it was made and before it is answered, also when its client has gone meanwhile. Handlers add
what the path and body do not say with `note`. Refusals cost whoever causes them nothing, so only so many a minute are
written down; the next one says how many were not.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import trio
from pydantic import BaseModel
from quart import g

from pfn_node.store import audit
from pfn_node.store.database import Database
from pfn_node.web.errors import as_api_error
from pfn_node.web.rate_limits import RateLimit

# Of the whole node: a flood of wrong keys fills 100 MB in a month, and shows where it comes from all the same.
REFUSALS_PER_MINUTE = 10

# What names the thing that a body is about, the first that is there.
_TARGETS = ("source_id", "id", "slug", "node_id", "url", "username")

Outcome = Literal["done", "refused", "failed", "cancelled"]
T = TypeVar("T")


@dataclass(slots=True)
class Facts:
    """What is known of a call by now."""

    action: str
    address: str | None
    actor: str = ""  # empty until it is known
    target: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def note_body(self, body: BaseModel) -> None:
        """Take over what the caller asked for; bodies hold no secrets (keys go into a header)."""
        self.details |= body.model_dump(mode="json", exclude_none=True)
        self.target = next((str(self.details[name]) for name in _TARGETS if name in self.details), None)


def note(*, target: str | None = None, **details: Any) -> None:
    """Add to the entry of the call that is being made. Nothing secret."""
    facts: Facts | None = g.get("audit_facts")
    assert facts is not None, "only calls that are audited have something to note"
    facts.target = target or facts.target
    facts.details |= details


class Auditing:
    """Writes entries for one app. `now` in seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._refusals = RateLimit(REFUSALS_PER_MINUTE, addresses_max=1)
        self._untold = 0

    async def watch(self, facts: Facts, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call and record how it went. Raises what it raised, as the client is told it."""
        g.audit_facts = facts
        outcome: Outcome = "cancelled"
        status = 0
        try:
            answer = await call()
            outcome = "done"
            return answer
        except Exception as error:
            failure = as_api_error(error)
            status = failure.status
            outcome = "refused" if status < 500 else "failed"
            raise failure from error
        finally:
            if facts.actor:
                with trio.CancelScope(shield=True):
                    await self._record(facts, outcome, status)

    async def _record(self, facts: Facts, outcome: Outcome, status: int) -> None:
        if outcome == "refused":
            facts.details = {"status": status}  # what was asked for in vain may be anything
            await self.record_refusal(facts)
        else:
            if status:
                facts.details["status"] = status
            await self._append(facts, outcome)

    async def record_refusal(self, facts: Facts) -> None:
        """Record that something was refused, or only count it where it is one of too many."""
        if self._refusals.take("", self._now()):
            self._untold += 1
            return
        if self._untold:
            facts.details["not_recorded_before"] = self._untold
            self._untold = 0
        await self._append(facts, "refused")

    async def _append(self, facts: Facts, outcome: Outcome) -> None:
        at = int(self._now())
        await self._database.write(
            lambda db: audit.append(
                db,
                at=at,
                actor=facts.actor,
                action=facts.action,
                target=facts.target,
                outcome=outcome,
                address=facts.address,
                details=facts.details,
            )
        )
