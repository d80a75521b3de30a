"""/node/v1/*: what nodes ask each other. The messages are the mesh room's; here they are only carried.

A body is refused by its size before it is read, and handed over as the bytes that came. Artifacts are plain GETs,
so that any HTTP client and cache can carry them; their digest is their name, so whoever gets them checks them.
"""

import re
from typing import get_args

from quart import Response

from pfn_node.mesh.views import NodeInfo
from pfn_node.store.safety import is_withheld
from pfn_node.web.answers import Answer
from pfn_node.web.errors import ApiError
from pfn_node.web.evidence import is_sound_here
from pfn_node.web.federation_peers import SOFTWARE, VERSION
from pfn_node.web.routes import KEPT_BY_DIGEST, Bytes, Routes, file_response, read_body
from pfn_node.web.services import Services
from pfn_protocol.limits import request_bytes_max
from pfn_protocol.messages import Request

routes = Routes("nodes")

MESSAGE_TYPE = "application/vnd.pfn+msgpack"
MESSAGE_SECONDS_MAX = 30.0
# A node that is turned away as one too many comes back after this long.
RETRY_SECONDS = 2
# Named one by one, so that other names are 404 and /node/v1/info keeps to its own methods.
_NAMES = ",".join(kind.path for kind in get_args(Request))
_SHA256 = re.compile("[0-9a-f]{64}")


class NodeInfoAnswer(Answer):
    """A claim, until a signed answer proves the key."""

    node_id: str
    url: str | None
    mesh: str
    software: str
    version: str


@routes.get("/node/v1/info", answer=NodeInfoAnswer)
async def show_info(services: Services) -> NodeInfoAnswer:
    """Who this node says that it is."""
    info = NodeInfo(services.node_id, services.url, services.settings.mesh, SOFTWARE)
    return NodeInfoAnswer.model_validate(info.as_json() | {"version": VERSION})


@routes.get(
    "/node/v1/artifacts/<sha256>",
    answer=Bytes("application/zip", "The artifact with this digest, if it is kept here."),
    errors=(404, 410, 416),
)
async def get_artifact(services: Services, sha256: str) -> Response:
    """An artifact by its sha256 in hex."""
    if not _SHA256.fullmatch(sha256):
        raise ApiError(400, "An artifact is named by its sha256: 64 hex digits in lower case.")
    if services.database.read_now(lambda db: is_withheld(db, bytes.fromhex(sha256))):
        raise ApiError(410, "This node does not serve these bytes any more.")
    await is_sound_here(services.artifacts, bytes.fromhex(sha256))  # what is not is missing
    opened = services.artifacts.serve(bytes.fromhex(sha256))
    headers = {"Content-Security-Policy": "sandbox", "Cache-Control": KEPT_BY_DIGEST}
    return await file_response(opened, etag=sha256, filename=f"{sha256}.zip", headers=headers)


@routes.post(f"/node/v1/<any({_NAMES}):name>", answer=Bytes(MESSAGE_TYPE), errors=(404, 408, 413), in_document=False)
async def receive_message(services: Services, name: str) -> Response:
    """A signed request of another node; the answer is a signed envelope too."""
    raw = await read_body(request_bytes_max, MESSAGE_SECONDS_MAX)
    status, answer = await services.mesh.handle(name, raw)
    # What is not even an envelope is answered in JSON: there is no nonce to sign over.
    content_type = "application/json" if answer.startswith(b"{") else MESSAGE_TYPE
    response = Response(answer, status=status, content_type=content_type)
    if status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response
