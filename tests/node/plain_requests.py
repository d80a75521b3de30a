"""Requests as bytes, shown to a node's front as its server would, and what came back."""

from tests.node.web_node import WebNode

PEER = "127.0.0.1"


def head(path: str, *fields: str, method: str = "GET", host: str = "node.test") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def front(node: WebNode, data: bytes, peer: str = PEER) -> bytes | None:
    """What is ready for it; None: nothing is."""
    assert node.app.front is not None
    found = node.app.front(data, peer)
    return b"".join(found) if isinstance(found, tuple) else None


async def made(node: WebNode, data: bytes, peer: str = PEER) -> bytes | None:
    """What the front makes of a request for which nothing is ready; None: it takes the usual way."""
    assert node.app.front is not None
    found = node.app.front(data, peer)
    assert not isinstance(found, tuple)
    answer = None if found is None else await found()
    return None if answer is None else b"".join(answer)


def parts(answer: bytes | None) -> tuple[int, dict[str, str], bytes]:
    """Status, fields and body of an answer; each field once."""
    assert answer is not None
    text, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = text.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return int(first.split()[1]), fields, body
