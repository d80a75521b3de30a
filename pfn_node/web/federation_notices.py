"""/federation/*: notices that anybody hands in, and what an admin says about releases."""

import json

from pfn_node.store import catalogue, decisions, safety
from pfn_node.store.queries import Row
from pfn_node.store.rows import ApiKey
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_plugins import unknown_plugin
from pfn_node.web.federation_releases import decoded
from pfn_node.web.federation_sources import known_source
from pfn_node.web.notice_answers import AdvisoryView, NoticeList, NoticesTaken, NoticeTaken, NoticeView, Said
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import Advise, AdvisoriesQuery, ApproveRelease, HandInNotices, SayYank, TakeDown
from pfn_node.web.services import Services
from pfn_protocol.announcements import AdvisoryStatement, NoticeStatement, YankStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key

routes = Routes("notices")

NOTICES_SHOWN_MAX = 500


@routes.post("/federation/notices", body=HandInNotices, answer=NoticesTaken, verifies=True)
async def hand_in_notices(services: Services, body: HandInNotices) -> NoticesTaken:
    """Hand in what a publisher signed about its keys or releases: rotate, revoke, yank or advisory envelopes.

    They certify themselves, so anybody may bring them; each is answered for itself.
    """
    envelopes = [decoded("notices_v2", text) for text in body.notices_v2]
    keybinds = [] if body.keybind_v2 is None else [decoded("keybind_v2", body.keybind_v2)]
    outcomes = await services.sources.accept_notices(envelopes, keybinds)
    return NoticesTaken(
        accepted=sum(1 for one in outcomes if one.outcome == "new"),
        notices=[
            NoticeTaken(outcome=one.outcome, source_id=one.source_id, rule=one.rule, error=one.sentence)
            for one in outcomes
        ],
    )


@routes.get("/federation/advisories", query=AdvisoriesQuery, answer=NoticeList)
async def list_notices(services: Services, query: AdvisoriesQuery) -> NoticeList:
    """Yanks and advisories, whoever says them, and whether that counts here."""
    rows = await services.database.read(
        lambda db: safety.said(db, query.source_id, query.plugin, services.node_id, NOTICES_SHOWN_MAX)
    )
    return NoticeList(notices=[notice_view(row) for row in rows])


@routes.post("/federation/yank", body=SayYank, answer=Said, scope="advisories", errors=(404,))
async def yank_release(services: Services, key: ApiKey, body: SayYank) -> Said:
    """Say as this node that a release should not be installed, or take that back.

    It acts here and at nodes that pin this one. The publisher's own word is not changed by it.
    """
    await known_source(services, body.source_id)
    withdrawn = bool(body.withdrawn)
    await _say(
        services,
        YankStatement(body.source_id, body.plugin, body.version, reason=body.reason or "", withdrawn=withdrawn),
    )
    what = f"{body.plugin} {body.version}"
    message = f"{what} is no longer yanked by this node." if withdrawn else f"{what} is yanked."
    return Said(success=True, announced=True, message=message)


@routes.post("/federation/advisories", body=Advise, answer=Said, scope="advisories", errors=(404,))
async def advise(services: Services, key: ApiKey, body: Advise) -> Said:
    """Say as this node that versions of a plugin have a weakness, or take that back."""
    await known_source(services, body.source_id)
    await _say(
        services,
        AdvisoryStatement(
            body.source_id,
            body.plugin,
            body.advisory_id,
            severity=body.severity,
            summary=body.summary,
            ranges=tuple((one.from_, one.until) for one in body.ranges),
            url=body.url or "",
            aliases=tuple(body.aliases or ()),
            withdrawn=bool(body.withdrawn),
        ),
    )
    return Said(success=True, announced=True, message=f"{body.advisory_id} is told.")


@routes.post("/federation/takedown", body=TakeDown, answer=Said, scope="advisories", errors=(404,))
async def take_down(services: Services, key: ApiKey, body: TakeDown) -> Said:
    """Stop serving a release (410 from now on), whatever bytes it has or will have; or bring it back.

    Nodes that pin this one treat it as yanked. What was yanked anyway is so with the reason that was given for that,
    and stays yanked when it is brought back.
    """
    await known_source(services, body.source_id)
    at, release = int(services.now()), (body.source_id, body.plugin, body.version)
    withdrawn, reason = bool(body.withdrawn), body.reason or ""

    said = YankStatement(*release, reason=reason, withdrawn=withdrawn)
    # A node that ends in between has a tombstone, about which it tells at its next start.
    if withdrawn:
        if await services.database.read(lambda db: safety.tombstone(db, *release)) is None:
            raise ApiError(404, "That release was not taken down here.", details={"plugin": body.plugin})
        stays = await services.database.read(lambda db: safety.is_yanked_apart(db, *release))
        announced = not stays and await services.sources.say(said)
        await services.database.write(lambda db: decisions.bring_back(db, release, key.id, at))
        what = "can be had again, and is yanked as before" if stays else "can be had again"
    else:
        await services.database.write(lambda db: decisions.take_down(db, release, reason, key.id, at))
        yanked = await services.database.read(lambda db: safety.own_yank(db, *release))
        announced = yanked is not None or await services.sources.say(said)
        what = "is taken down"
    return Said(success=True, announced=announced, message=f"{body.plugin} {body.version} {what}.")


@routes.post("/federation/approve-release", body=ApproveRelease, answer=Said, scope="advisories", errors=(404, 409))
async def approve_release(services: Services, key: ApiKey, body: ApproveRelease) -> Said:
    """Let a release be served, and count as the newest, that cools down after a change of key, or that is held back.

    Only the bytes that it has now are approved; other ones under this version are judged by themselves.
    """
    release = await services.database.read(
        lambda db: catalogue.get_release(db, body.source_id, body.plugin, body.version)
    )
    if release is None or release.sha256 is None:
        raise unknown_plugin(body.source_id, body.plugin, body.version)
    sha256, at = release.sha256, int(services.now())
    which = (body.source_id, body.plugin, body.version)
    if not await services.database.write(lambda db: decisions.approve(db, which, sha256, key.id, at)):
        raise ApiError(409, "This release neither cools down nor is held back; there is nothing to approve.")
    return Said(success=True, announced=False, message=f"{body.plugin} {body.version} is approved.")


async def _say(services: Services, statement: NoticeStatement) -> None:
    try:
        said = await services.sources.say(statement)
    except Refusal as refusal:
        raise ApiError(400, f"That cannot be said: {refusal.sentence}.", details={"rule": refusal.rule}) from refusal
    if not said:
        raise ApiError(503, "The node could not announce it now; try again in a moment.", headers={"Retry-After": "5"})


def notice_view(row: Row) -> NoticeView:
    """A row of `safety.said` as answers show it."""
    content = json.loads(row["content"])
    by = row["by"] if isinstance(row["by"], str) else did_key(row["by"])
    is_yank = row["kind"] == "yank"
    has_content = not is_yank and "severity" in content
    return NoticeView(
        kind=row["kind"],
        source_id=row["source_id"],
        plugin_id=row["plugin_id"],
        about=row["about"],
        by=by,
        acts=bool(row["acts"]),
        withdrawn=bool(row["withdrawn"]),
        reason=content.get("reason") if is_yank else None,
        advisory=AdvisoryView(advisory_id=row["about"], **content, by=by) if has_content else None,
        at=row["at"],
    )
