"""What clients are told of sessions and of the audit log (the rest: answers.py)."""

from typing import Any

from pydantic import Field

from pfn_node.store.audit import AuditEntry
from pfn_node.store.rows import ApiKey, Session
from pfn_node.web.answers import Answer


class SessionView(Answer):
    """A session of the web interface."""

    key_id: str
    description: str
    scopes: list[str]
    created: int
    expires: int
    csrf_token: str = Field(description="Goes into the header X-CSRF-Token of whatever is not a GET.")

    @classmethod
    def of(cls, key: ApiKey, session: Session, csrf_token: str) -> "SessionView":
        return cls(
            key_id=key.id,
            description=key.description,
            scopes=list(key.scopes),
            created=session.created,
            expires=session.expires,
            csrf_token=csrf_token,
        )


class AuditRow(Answer):
    """One entry of the audit log. Its hash is SHA-256 over the canonical MessagePack of the list
    ["pfn/audit/1", previous, seq, at, actor, address, action, target, outcome, details]; hashes as bytes there, and
    details as compact JSON with sorted names."""

    seq: int
    at: int
    actor: str = Field(description="The id of an API key, `master`, `system`, or empty: somebody with a wrong key.")
    address: str | None
    action: str
    target: str | None
    outcome: str = Field(description="done, refused, failed or cancelled (its client had gone; it may be done).")
    details: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditRow":
        given = {name: getattr(entry, name) for name in cls.model_fields}
        hashes = {"previous": entry.previous.hex(), "hash": entry.hash.hex()}
        return cls(**given | hashes | {"details": entry.told})


class AuditPage(Answer):
    """A part of the audit log, oldest first."""

    entries: list[AuditRow]
    next: int | None = Field(description="`after` of the next page; null: this one has the newest entry.")
