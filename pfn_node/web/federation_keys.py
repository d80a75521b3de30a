"""/federation/*: making, listing, rotating and revoking API keys."""

import sqlite_utils

from pfn_node.store import registry, sessions
from pfn_node.store.rows import ApiKey
from pfn_node.web.answers import Done, KeyRow, Keys, NewKey
from pfn_node.web.auditing import note
from pfn_node.web.auth import SCOPES, MintedKey, is_live, mint
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import KEY_DAYS_DEFAULT, OVERLAP_HOURS_MAX, CreateKey, RevokeKey, RotateKey
from pfn_node.web.services import Services

routes = Routes("keys")

_DAY_SECONDS = 86_400
_HOUR_SECONDS = 3_600


@routes.post("/federation/create-admin-key", body=CreateKey, answer=NewKey, needs_master=True)
async def create_admin_key(services: Services, body: CreateKey) -> NewKey:
    """Make an API key. It is shown this once; only a hash of it is kept."""
    scopes = tuple(scope for scope in SCOPES if body.scopes is None or scope in body.scopes)
    new = _NewKey(services, body.description, scopes, body.expires_in_days)
    note(target=new.minted.id, scopes=list(scopes), expires=new.expires)
    await services.database.write(new.insert)
    return new.answer()


@routes.get("/federation/keys", answer=Keys, scope="keys")
async def list_keys(services: Services, key: ApiKey) -> Keys:
    """All keys, without their secrets."""
    rows = await services.database.read(registry.list_keys)
    return Keys(keys=[KeyRow.of(row) for row in rows])


@routes.post("/federation/revoke-key", body=RevokeKey, answer=Done, scope="keys", errors=(404,))
async def revoke_key(services: Services, key: ApiKey, body: RevokeKey) -> Done:
    """Make a key worthless at once, and end its sessions. Revoking it again changes nothing."""
    await _found(services, body.id)
    at = int(services.now())

    def revoke(db: sqlite_utils.Database) -> int:
        if registry.revoke_key(db, body.id, at):
            registry.record_activity(db, "security", f"the key {body.id} was revoked with the key {key.id}", at=at)
        return sessions.delete_sessions_of(db, body.id)

    note(sessions_ended=await services.database.write(revoke))
    return Done(success=True, message=f"The key {body.id} is revoked.")


@routes.post("/federation/rotate-key", body=RotateKey, answer=NewKey, scope="keys", errors=(404, 409))
async def rotate_key(services: Services, key: ApiKey, body: RotateKey) -> NewKey:
    """Make a successor with the same scopes and subscriptions; the old key works for a day more, or less if asked."""
    old = await _found(services, body.id)
    now = int(services.now())
    if not is_live(old, now):
        raise ApiError(409, f"The key {body.id} has ended; make a new one with create-admin-key.")
    if not set(old.scopes) <= set(key.scopes):
        raise ApiError(
            403,
            f"The key {body.id} may do more than this one; who rotates a key is given its successor.",
            details={"needed": list(old.scopes), "scopes": list(key.scopes)},
        )
    hours = OVERLAP_HOURS_MAX if body.overlap_hours is None else body.overlap_hours
    new = _NewKey(services, old.description or None, old.scopes, body.expires_in_days)
    said = f"the key {body.id} was rotated with the key {key.id}; its successor is {new.minted.id}"

    def rotate(db: sqlite_utils.Database) -> None:
        new.insert(db)
        registry.hand_over_subscriptions(db, body.id, new.minted.id)
        registry.expire_key(db, body.id, now + hours * _HOUR_SECONDS)
        registry.record_activity(db, "security", said, at=now)

    note(successor=new.minted.id, expires=new.expires)
    await services.database.write(rotate)
    return new.answer()


class _NewKey:
    """A key that is being made."""

    def __init__(self, services: Services, description: str | None, scopes: tuple[str, ...], days: int | None) -> None:
        self.minted: MintedKey = mint()
        self.expires = int(services.now()) + (KEY_DAYS_DEFAULT if days is None else days) * _DAY_SECONDS
        self._now = services.now()
        self._description = description
        self._scopes = scopes

    def insert(self, db: sqlite_utils.Database) -> None:
        made, at, said = self.minted, int(self._now), self._description
        registry.insert_key(db, made.id, made.secret_hash, said or "", self._scopes, at, self.expires)
        message = f"the key {made.id} was made: {said or 'no description'}"
        registry.record_activity(db, "security", message, at=at)

    def answer(self) -> NewKey:
        return NewKey(
            key=self.minted.text,
            description=self._description,
            created=int(self._now * 1000),
            id=self.minted.id,
            scopes=list(self._scopes),
            expires=self.expires,
        )


async def _found(services: Services, key_id: str) -> ApiKey:
    found = await services.database.read(lambda db: registry.find_key(db, key_id))
    if found is None:
        raise ApiError(404, f"There is no key with the id {key_id}; GET /federation/keys lists them.")
    return found[0]
