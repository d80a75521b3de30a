"""An answer that says since when it is as it is, and is a mere 304 to a client that has it."""

from quart import Response, request

from pfn_node.web.consumers.conditional import http_date, is_current, tag_of
from pfn_node.web.services import Services


def answer_unless_known(services: Services, body: bytes, content_type: str) -> Response:
    """The body as the answer to the GET or HEAD of now; 304 if the client has it already."""
    etag, now = tag_of(body), int(services.now())
    since = services.answered.since(request.full_path, etag, now)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if since < now:
        headers["Last-Modified"] = http_date(since)
    if is_current(request.headers, etag, since):
        return Response(b"", status=304, headers=headers)
    return Response(body, content_type=content_type, headers=headers)
