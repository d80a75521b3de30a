"""Which requests a worker tries to answer: those that read, and show neither a key nor a session; among them what every
WordPress site asks twice a day, though it is a POST.

That is judged by their heads alone, so that whatever is special about a request is for the node. What a worker finds
out only while it answers, it remembers for a while: a zip that is not here yet may be soon. It remembers that of path
and query: all zips have one path, and who asks for one that is not here would send everybody to the node.
"""

import re
from collections.abc import Callable
from typing import Final

from pfn_node.web.consumers import wordpress_updates
from pfn_node.web.front import REQUEST_HEAD
from pfn_node.web.gate import NODE_PREFIX

REQUEST_BYTES_MAX: Final = 64 * 2**10  # what the server reads at once, and can be passed on
REFUSED_SECONDS: Final = 60.0
REFUSED_MAX: Final = 1_000  # targets, most of them some dozen bytes
TARGET_BYTES_MAX: Final = 400  # a longer one is tried each time
# What shows who asks, or asks for more than an answer.
_OF_THE_NODE: Final = re.compile(
    rb"(?i)(?:^|\n)(?:authorization|proxy-authorization|cookie|transfer-encoding|expect|upgrade):"
)
_LENGTH: Final = re.compile(rb"(?i)(?:^|\n)content-length:[ \t]*([0-9]{0,9})[ \t]*\r")
_READING_POSTS: Final = frozenset({wordpress_updates.PATH.encode()})


class Choosing:
    """What one worker knows of what is for the node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[bytes, float] = {}  # until when

    def takes(self, data: bytes) -> bool:
        """Whether this is one whole request that may be tried here."""
        target = _target_of(data)
        return target is not None and self._refused.get(target, 0.0) <= self._clock()

    def refuse(self, data: bytes) -> None:
        """Remember that a request needs what only the node has."""
        target = _target_of(data)
        if target is not None and len(target) <= TARGET_BYTES_MAX:
            while len(self._refused) >= REFUSED_MAX:
                del self._refused[next(iter(self._refused))]
            self._refused[target] = self._clock() + REFUSED_SECONDS


def _target_of(data: bytes) -> bytes | None:
    """What a request asks for that reads, and nothing else; None of any other."""
    found = REQUEST_HEAD.match(data) if len(data) <= REQUEST_BYTES_MAX else None
    if found is None or _OF_THE_NODE.search(found[3]) or found[2].startswith(NODE_PREFIX.encode()):
        return None
    path = found[2].partition(b"?")[0]
    lengths = _LENGTH.findall(found[3])
    if found[1] == b"POST":
        is_whole = path in _READING_POSTS and lengths == [b"%d" % (len(data) - found.end())]
    else:
        is_whole = not lengths and found.end() == len(data)
    return found[2] if is_whole else None
