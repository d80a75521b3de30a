"""A small client for a running node's HTTP API, and what every command that uses it has in common."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

import trio
import typer

from pfn_node.cli.failing import WRONG_USAGE, fail
from pfn_node.outbound import Outbound, OutboundError

ANSWER_BYTES_MAX = 32 * 2**20
ANSWER_SECONDS_MAX = 90.0  # a subscription answers within 55 s; more time than that, and a node that hangs is found out

NodeUrl = Annotated[str, typer.Option("--node", envvar="PFN_NODE", help="The node's URL.")]
ApiKey = Annotated[str | None, typer.Option("--key", envvar="PFN_KEY", help="An API key (fadmin_...).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the node's answer as JSON.")]
DEFAULT_NODE = "http://127.0.0.1:8470"

T = TypeVar("T")

_KEY = re.compile("[ -~]+")  # what a header can carry


class ApiError(Exception):
    """The node refused; `status` is its HTTP status, the text its sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class NodeClient:
    """Calls `/federation/*` of one node. Made by `run_with_client`."""

    def __init__(self, outbound: Outbound, node: str, key: str | None) -> None:
        self.outbound = outbound
        self.node = node.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def url(self, call: str, **query: str | int | None) -> str:
        """The URL of a call; parameters that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return f"{self.node}/federation/{call}" + (f"?{urlencode(given)}" if given else "")

    async def get(self, call: str, **query: str | int | None) -> Any:
        return await self._json("GET", self.url(call, **query), None)

    async def post(self, call: str, body: dict[str, Any]) -> Any:
        return await self._json("POST", self.url(call), json.dumps(body).encode())

    async def post_bytes(self, call: str, body: bytes, content_type: str) -> Any:
        return await self._json("POST", self.url(call), body, content_type)

    async def explain_refusal(self, url: str) -> None:
        """Ask again for what was refused while it was streamed; raises ApiError with the node's own sentence."""
        await self._json("GET", url, None)

    async def _json(self, method: str, url: str, content: bytes | None, content_type: str = "application/json") -> Any:
        headers = self.headers | ({"Content-Type": content_type} if content is not None else {})
        reply = await self.outbound.fetch(
            method,
            url,
            headers=headers,
            content=content,
            bytes_max=ANSWER_BYTES_MAX,
            seconds_max=ANSWER_SECONDS_MAX,
        )
        try:
            answer = json.loads(reply.body)
        except (ValueError, RecursionError):
            raise ApiError(reply.status, f"{url} answered {reply.status} and no JSON; is this a PFN node?") from None
        if reply.status >= 400:
            sentence = answer.get("error") if isinstance(answer, dict) else None
            raise ApiError(reply.status, f"{sentence or 'refused'} (HTTP {reply.status})")
        return answer


def run_with_client(
    node: str, key: str | None, work: Callable[[NodeClient], Awaitable[T]], key_from: str = "--key or PFN_KEY"
) -> T:
    """Run `work` with a client of that node; a refusal or a dead node ends the command with its sentence."""
    if not node.startswith(("http://", "https://")):
        fail(f"--node {node!r} is not a URL; give one such as {DEFAULT_NODE}", WRONG_USAGE)
    key = key.strip() if key else None  # as a file or a Windows shell ends it
    if key and not _KEY.fullmatch(key):
        fail(f"the key of {key_from} is none: it has characters that no key has", WRONG_USAGE)

    async def call() -> T:
        async with Outbound(allow_private_networks=True, user_agent="pfn-cli") as outbound:
            return await work(NodeClient(outbound, node, key))

    try:
        return trio.run(call)
    except ApiError as error:
        hint = f"; give a key with {key_from}" if error.status == 401 and not key else ""
        fail(f"{error}{hint}")
    except OutboundError as error:
        fail(f"cannot reach the node at {node}: {error}")


def path_part(text: str) -> str:
    """An id as one part of a path."""
    return quote(text, safe="")
