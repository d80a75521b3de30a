"""/federation/*: the mesh as this node sees it, the operator's opinion of other nodes, and how this node is."""

import shutil
from importlib.metadata import version

import trio

from pfn_node.store import audit, catalogue, showcase
from pfn_node.store.rows import ApiKey
from pfn_node.web.answers import AuditHead, Disk, Health, Join, Joins, NodeView, PeerRow, Peers, PeerSet
from pfn_node.web.auditing import note
from pfn_node.web.errors import ApiError
from pfn_node.web.node_health import damage_of, node_problems
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import SetPeer
from pfn_node.web.services import Services
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_did_key
from pfn_protocol.names import parse_instance_url

routes = Routes("mesh")

VERSION = version("pfn-node")
SOFTWARE = f"pfn-node/{VERSION}"

_DONE = {
    "pin": "Pinned: what it observes backs bytes here from now on.",
    "unpin": "Unpinned: what it observes backs no bytes here any more.",
    "block": "Blocked: it is neither dialled nor answered.",
    "unblock": "Not blocked any more.",
}


@routes.get("/federation/peers", answer=Peers)
async def list_peers(services: Services) -> Peers:
    """The mesh as this node sees it."""
    rows = [_row(peer) for peer in services.mesh.peers()]
    return Peers(node=node_view(services), peers=rows)


def _row(peer: object) -> PeerRow:
    fields = {name: getattr(peer, name) for name in PeerRow.model_fields}
    return PeerRow(**fields | {name: list(fields[name]) for name in ("trusted_via", "links", "proof")})


def node_view(services: Services) -> NodeView:
    """What this node says of itself."""
    return NodeView(
        node_id=did_key(services.node_id),
        url=services.url,
        mesh=services.settings.mesh,
        software=SOFTWARE,
        version=VERSION,
    )


@routes.get("/federation/joins", answer=Joins, scope="peers")
async def list_joins(services: Services, key: ApiKey) -> Joins:
    """What this node joins, and why it has not reached it where it has not."""
    return Joins(
        joins=[Join(url=one.url, node_id=one.node_id, problem=one.problem) for one in await services.mesh.joins()]
    )


@routes.post("/federation/peers", body=SetPeer, answer=PeerSet, scope="peers", errors=(404, 409, 502))
async def set_peer(services: Services, key: ApiKey, body: SetPeer) -> PeerSet:
    """Join a node or take that back (leave), or say whether its word backs bytes here (pin), or that it is not listened
    to (block).
    """
    node_id = None if body.node_id is None else _node_id(body.node_id)
    if body.action == "leave":
        return await _leave(services, body.url, node_id)
    if body.action == "join":
        return await _join(services, body.url, node_id)
    if node_id is None:
        node_id = _at_url(services, body.url or "")
    if node_id == services.node_id:
        raise ApiError(409, "That is this node itself.")
    match body.action:
        case "pin" | "unpin":
            await services.mesh.set_policy(node_id, pinned=body.action == "pin")
        case "block" | "unblock":
            await services.mesh.set_policy(node_id, blocked=body.action == "block")
    note(target=did_key(node_id))
    return PeerSet(success=True, message=_DONE[body.action], node_id=did_key(node_id))


_NOT_PINNED = "What it says backs no bytes here unless you pin it too."


async def _join(services: Services, url: str | None, node_id: bytes | None) -> PeerSet:
    if url is None:
        assert node_id is not None, "the body's model wants one of both"
        url = _url_of(services, did_key(node_id))
    url = parse_instance_url(url, allow_http=services.settings.allow_private_networks)
    try:
        reached = await services.mesh.join(url, node_id)
    except Refusal as refusal:  # another key answers there, or it is this node itself
        raise ApiError(409, f"Cannot join {url}: {refusal.sentence}.") from refusal
    if reached is None:
        problem = next((one.problem for one in await services.mesh.joins() if one.url == url.rstrip("/")), None)
        message = (
            f"{url} does not answer yet{f' ({problem})' if problem else ''}; it is tried again until you leave it."
        )
        return PeerSet(success=True, message=message, node_id=None)
    note(target=did_key(reached))
    return PeerSet(success=True, message=f"Joined {url}. {_NOT_PINNED}", node_id=did_key(reached))


async def _leave(services: Services, url: str | None, node_id: bytes | None) -> PeerSet:
    left = await services.mesh.leave(url, node_id)
    node = None if node_id is None else did_key(node_id)
    if not left:
        raise ApiError(404, "That was not joined; GET /federation/joins lists what is.")
    note(target=node or left[0])
    message = f"Left {', '.join(left)}: not tried any more, unless the node is started with --join for it. A pin stays."
    return PeerSet(success=True, message=message, node_id=node)


def _node_id(text: str) -> bytes:
    try:
        return parse_did_key(text)
    except Refusal as refusal:
        raise ApiError(404, f"No node can have this id: {refusal.sentence}.") from refusal


def _at_url(services: Services, url: str) -> bytes:
    """The node there. Anybody may say of itself that it is: so not where several do."""
    found = [peer.node_id for peer in services.mesh.peers() if (peer.url or "").rstrip("/") == url.rstrip("/")]
    if not found:
        raise ApiError(404, "No node with this URL is known here; join it first, or name it by its node_id.")
    if len(found) > 1:
        raise ApiError(409, f"{len(found)} nodes say that this URL is theirs; name the one you mean by its node_id.")
    return parse_did_key(found[0])


def _url_of(services: Services, node_id: str) -> str:
    for peer in services.mesh.peers():
        if peer.node_id == node_id and peer.url is not None:
            return peer.url
    raise ApiError(404, "No URL of this node is known here; give url as well.")


@routes.get("/federation/health", answer=Health)
async def show_health(services: Services) -> Health:
    """How the node is."""
    counts = await services.figure("counts", catalogue.counts)
    states, head = await services.database.read(lambda db: (showcase.source_states(db), audit.head(db)))
    disk = await trio.to_thread.run_sync(shutil.disk_usage, services.settings.data)
    problems = node_problems(services.mesh.status(), services.mesh.peers(), states, disk.free, damage_of(services))
    return Health(
        status="degraded" if problems else "ok",
        problems=problems,
        node_id=did_key(services.node_id),
        version=VERSION,
        url=services.url,
        counts=dict(counts),
        artifacts=services.artifacts.usage(),
        disk=Disk(free_bytes=disk.free, total_bytes=disk.total),
        mesh=dict(services.mesh.status()),
        audit=AuditHead(seq=head.seq, hash=head.hash.hex()),
    )
