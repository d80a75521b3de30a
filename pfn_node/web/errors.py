"""What a client is told when something goes wrong: one table from exceptions to statuses.

Every error answer has one shape: `{"error": sentence, "details": {...}, "request_id": "..."}`. The sentence says
what was found and what to do; details are for programs; the request id finds the line in the log. Input never leads
to a 500: what a client can cause is named here. A real 500 is our own mistake, and says nothing of our insides.
"""

import errno
import json
import re
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from quart import Response
from werkzeug.exceptions import HTTPException

from pfn_node.artifacts.errors import ArtifactError, ArtifactMismatch, ArtifactMissing, StoreUnavailable
from pfn_node.mesh.turns import Stopped
from pfn_node.outbound import Busy, OutboundError
from pfn_node.sources.outcomes import NotVerified, PublisherFailed, SourceConflict, UnknownSource
from pfn_node.store.database import StoreError
from pfn_protocol.errors import Refusal

# What each status means in this API; the document of the API quotes it.
MEANINGS: dict[int, str] = {
    400: "The request cannot be understood; `details.fields` names what is wrong with it.",
    401: "No key was given, or it is not valid here (any more).",
    403: "The key lacks the scope, or what was asked is never allowed.",
    404: "There is no such thing here.",
    405: "The path takes other methods; `Allow` names them.",
    408: "The body of the request did not come in time.",
    409: "It contradicts what is here already.",
    410: "It was taken away, and is not served any more.",
    413: "The body is larger than the limit.",
    416: "The file has no such range.",
    421: "This node does not answer to that Host name.",
    422: "It was understood, but cannot be done as things stand.",
    429: "Too many requests; try again after `Retry-After` seconds.",
    500: "A mistake of the node itself; its log knows more under the request id.",
    502: "The publisher or a peer failed.",
    503: "Busy or not ready; try again after `Retry-After` seconds.",
}

# A client that is turned away without a better figure may come back after this long.
RETRY_SECONDS_DEFAULT = 5

log = structlog.get_logger()


class ApiError(Exception):
    """An error that is answered to the client as it is."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.details = dict(details or {})
        self.headers = dict(headers or {})


def too_many(sentence: str, retry_seconds: float, status: int = 429) -> ApiError:
    """A 429 (or 503) that says when to come back."""
    return ApiError(status, sentence, headers={"Retry-After": str(max(1, round(retry_seconds)))})


def as_api_error(error: Exception) -> ApiError:
    """The table. Exceptions of the rooms carry sentences written for people; anything else is our own mistake."""
    match error:
        case ApiError():
            return error
        case Refusal():
            return ApiError(400, _sentence(error.sentence), details={"rule": error.rule})
        case SourceConflict():
            return ApiError(409, _sentence(error.sentence))
        case NotVerified():
            return ApiError(422, _sentence(error.sentence))
        case UnknownSource():
            return ApiError(404, _sentence(error.sentence), details={"sourceId": error.source_id})
        case PublisherFailed(ours=True) | Busy():
            return too_many(_sentence(str(error)), RETRY_SECONDS_DEFAULT, 503)
        case PublisherFailed() | OutboundError():
            return ApiError(502, _sentence(str(error)))
        case ArtifactMissing() | ArtifactMismatch():
            return ApiError(404, "No artifact with this digest is kept here.")
        case StoreUnavailable():
            return too_many(
                "The object store of this node does not answer now; try again later.", error.retry_seconds, 503
            )
        case HTTPException():
            return _of_the_framework(error)
        case Stopped():
            return too_many("The node is stopping.", RETRY_SECONDS_DEFAULT, 503)
        case sqlite3.OperationalError() | StoreError() | ArtifactError() | OSError():
            log.error("store_failed", exc_info=error)
            if is_full(error):
                return too_many("The node's disk is full.", RETRY_SECONDS_DEFAULT, 503)
            return too_many("The node cannot read or write its files now; try again later.", RETRY_SECONDS_DEFAULT, 503)
        case _:
            log.error("request_failed", exc_info=error)
            return ApiError(500, "The node made a mistake. Its log has the details under this request id.")


def is_full(error: Exception) -> bool:
    """Whether it says that the disk, or what this node may have of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


_CALL = r"\b(?:GET|POST|DELETE) /[^\s.;)]+"
_FOR_PROGRAMS = re.compile(rf"; [^;.]*{_CALL}[^;.]*| with {_CALL}| \({_CALL}\)")

_FRAMEWORK_SENTENCES = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path does not take that method; the header Allow names those that it takes.",
    408: "The body of the request did not come in time.",
    413: "The body of the request is too large.",
    416: "The file has no such range.",
}


def _of_the_framework(error: HTTPException) -> ApiError:
    status = error.code or 500
    sentence = _FRAMEWORK_SENTENCES.get(status, f"The request was refused: {HTTPStatus(status).phrase}.")
    kept = {
        name: value for name, value in error.get_headers() if name.lower() in ("allow", "retry-after", "content-range")
    }
    return ApiError(status, sentence, headers=kept)


def _sentence(text: str) -> str:
    """Rooms write their sentences to stand after a colon; here they stand alone."""
    text = text.strip() or "It was refused."
    first = text.split()[0]
    if first.isalpha():  # an id or URL at the beginning keeps its spelling
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def for_people(sentence: str) -> str:
    """A sentence without what only helps a program: which call of the API to make."""
    return _FOR_PROGRAMS.sub("", sentence)


def error_response(error: ApiError, request_id: str) -> Response:
    """The answer for an error."""
    body = {"error": error.sentence, "details": error.details, "request_id": request_id}
    response = Response(json.dumps(body), status=error.status, content_type="application/json")
    response.headers.extend(error.headers)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="pfn"'
    return response
