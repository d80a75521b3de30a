"""/federation/*: making, listing, rotating and revoking API keys."""

from pfn_node.store import registry
from pfn_node.store.rows import ApiKey
from pfn_node.web.answers import Done, KeyRow, Keys, NewKey
from pfn_node.web.auth import SCOPES, is_live, mint
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
    return await _make(services, body.description, scopes, body.expires_in_days)


@routes.get("/federation/keys", answer=Keys, scope="keys")
async def list_keys(services: Services, key: ApiKey) -> Keys:
    """All keys, without their secrets."""
    rows = await services.database.read(registry.list_keys)
    return Keys(keys=[KeyRow.of(row) for row in rows])


@routes.post("/federation/revoke-key", body=RevokeKey, answer=Done, scope="keys", errors=(404,))
async def revoke_key(services: Services, key: ApiKey, body: RevokeKey) -> Done:
    """Make a key worthless at once. Revoking it again changes nothing."""
    await _found(services, body.id)
    at = int(services.now())
    await services.database.write(lambda db: registry.revoke_key(db, body.id, at))
    await _note(services, f"the key {body.id} was revoked with the key {key.id}")
    return Done(success=True, message=f"The key {body.id} is revoked.")


@routes.post("/federation/rotate-key", body=RotateKey, answer=NewKey, scope="keys", errors=(404, 409))
async def rotate_key(services: Services, key: ApiKey, body: RotateKey) -> NewKey:
    """Make a successor with the same scopes; the old key works for a day more, or less if asked for."""
    old = await _found(services, body.id)
    now = int(services.now())
    if not is_live(old, now):
        raise ApiError(409, f"The key {body.id} has ended; make a new one with create-admin-key.")
    hours = OVERLAP_HOURS_MAX if body.overlap_hours is None else body.overlap_hours
    new = await _make(services, old.description or None, old.scopes, body.expires_in_days)
    await services.database.write(lambda db: registry.expire_key(db, body.id, now + hours * _HOUR_SECONDS))
    await _note(services, f"the key {body.id} was rotated with the key {key.id}; its successor is {new.id}")
    return new


async def _make(services: Services, description: str | None, scopes: tuple[str, ...], days: int | None) -> NewKey:
    minted = mint()
    now = services.now()
    created = int(now)
    expires = created + (KEY_DAYS_DEFAULT if days is None else days) * _DAY_SECONDS
    await services.database.write(
        lambda db: registry.insert_key(db, minted.id, minted.secret_hash, description or "", scopes, created, expires)
    )
    await _note(services, f"the key {minted.id} was made: {description or 'no description'}")
    return NewKey(
        key=minted.text,
        description=description,
        created=int(now * 1000),
        id=minted.id,
        scopes=list(scopes),
        expires=expires,
    )


async def _found(services: Services, key_id: str) -> ApiKey:
    found = await services.database.read(lambda db: registry.find_key(db, key_id))
    if found is None:
        raise ApiError(404, f"There is no key with the id {key_id}; GET /federation/keys lists them.")
    return found[0]


async def _note(services: Services, message: str) -> None:
    at = int(services.now())
    await services.database.write(lambda db: registry.record_activity(db, "security", message, at=at))
