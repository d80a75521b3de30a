"""The upstream: the one host that is asked for what a site wants to know and this node does not.

Nothing of who asked goes along but the question itself: no address, no user agent, no key. The answer comes back with
the kind of content that it may have, so that no page of somebody else's ever stands at this node's address.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog

from pfn_node.outbound import Outbound, OutboundError

# The longest answers are lists of themes; translations of one plugin have some hundred kilobytes.
ANSWER_BYTES_MAX: Final = 8 * 2**20
# WordPress itself waits 3 seconds for most of what it asks here, and 15 for lists.
ANSWER_SECONDS_MAX: Final = 10.0
FORM: Final = "application/x-www-form-urlencoded"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream said."""

    status: int
    is_json: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Upstream:
    """Asks one host, and no other."""

    outbound: Outbound
    url: str  # scheme and host

    async def ask(
        self, path: str, query: str = "", form: bytes | None = None, *, seconds_max: float = ANSWER_SECONDS_MAX
    ) -> Answer | None:
        """The answer at a path (which begins with a slash), as a POST where there is a form.

        None: there is none in time, or it is neither an answer nor "no" (redirects, errors of the upstream).
        """
        assert path.startswith("/"), "so that it cannot become part of the host"
        url = f"{self.url}{path}?{query}" if query else f"{self.url}{path}"
        try:
            reply = await self.outbound.fetch(
                "GET" if form is None else "POST",
                url,
                headers=None if form is None else {"content-type": FORM},
                content=form,
                bytes_max=ANSWER_BYTES_MAX,
                seconds_max=seconds_max,
            )
        except OutboundError as error:
            log.warning("upstream_failed", path=path, why=error.sentence)
            return None
        if not (reply.status == HTTPStatus.OK or 400 <= reply.status < 500):
            log.warning("upstream_failed", path=path, status=reply.status)
            return None
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(reply.status, kind == "application/json", reply.body)
