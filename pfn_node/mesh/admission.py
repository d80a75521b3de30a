"""Who is heard: the checks that a request of another node passes before the machine sees it.

In this order: its size for its path; whether what it names as its sender may cost a signature check now; its envelope
(form, signature, recipient, mesh, path, clock); whether this very request was here before; whether its sender is
blocked; how much the sender asked lately. Senders that this node has nothing to do with cost nothing to invent, so all
of them share one allowance; a sender that is linked, joined or pinned has its own. Announcements that are pushed cost
the machine a signature check each, whoever signed them; so strangers may push only so many, one by one and together. A
request is valid for at most twice the skew, and its nonce is remembered for longer than that, so no request is heard
twice; the allowances bound how many nonces there can be.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from pfn_protocol.encoding import unpack
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import (
    authors_page_max,
    digest_bytes,
    fetch_ids_max,
    have_max,
    key_bytes,
    left_out_max,
    nonce_bytes,
    nonce_memory_ms,
    request_bytes_max,
    url_chars_max,
    view_max,
)
from pfn_protocol.message_fields import ReceivedRequest, open_request
from pfn_protocol.messages import GossipRequest
from pfn_protocol.peers import RULE_NOT_LISTENED_TO

# All remembered nonces: 100 busy neighbours for five minutes. Beyond it requests are put off, never heard twice.
NONCES_MAX = 1_000_000
# An eager neighbour sends a push per announcement and coalesces what waits: 50/s is far above an honest one.
KNOWN_PER_SECOND = 50.0
KNOWN_BURST = 500.0
# Newcomers ask for a link, then are known; all of them together get this.
UNKNOWN_PER_SECOND = 30.0
UNKNOWN_BURST = 150.0
ALLOWANCES_MAX = 4096
# Pushed announcements, each a signature check of 80 us: two hundredths of a processor for one stranger, a sixth for all
# of them. What a refused push held is offered by id in the next message, and reconciliation finds it in any case.
PUSHED_PER_SECOND = 200.0
PUSHED_BURST = 5_000.0
STRANGERS_PUSHED_PER_SECOND = 2_000.0
STRANGERS_PUSHED_BURST = 10_000.0

_OVERHEAD_BYTES = 1024  # envelope, recipient, time, nonce, list heads
_ID_BYTES = digest_bytes + 2
_AUTHOR_BYTES = key_bytes + 6  # a key and its cap
_LINK_BYTES = view_max * (url_chars_max + key_bytes + 8) + left_out_max * (key_bytes + 2) + url_chars_max
REQUEST_BYTES_MAX = {
    "link": _LINK_BYTES + _OVERHEAD_BYTES,
    "gossip": request_bytes_max,
    "fetch": fetch_ids_max * _ID_BYTES + _OVERHEAD_BYTES,
    "cells": _OVERHEAD_BYTES,
    "authors": authors_page_max * _AUTHOR_BYTES + _OVERHEAD_BYTES,
    "ids": _OVERHEAD_BYTES,
    "snapshot": _OVERHEAD_BYTES,
    "have": have_max * _ID_BYTES + _OVERHEAD_BYTES,
}


# R1 and R5: key and signature; R71, R72, R73: signed for another path, node or time.
NOT_ITS_SENDERS_TO_US_NOW = frozenset({"R1", "R5", "R71", "R72", "R73"})


RULE_SIGNATURE = "R5"

# In the place of a rule's number: nothing is wrong with the request, and it may come again.
BUSY = "busy"


class NotHeard(Exception):
    """A request that goes no further: the HTTP status, the rule or reason, and its nonce if that could be read."""

    def __init__(self, status: int, rule: str, sentence: str, nonce: bytes | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.rule = rule
        self.sentence = sentence
        self.nonce = nonce


@dataclass(slots=True)
class _Allowance:
    """A bucket that fills with time: what a sender may still ask."""

    per_second: float
    burst: float
    left: float
    at_ms: int

    def has(self, count: int, now_ms: int) -> bool:
        """Whether so many may be taken now."""
        self.left = min(self.burst, self.left + max(0, now_ms - self.at_ms) / 1000 * self.per_second)
        self.at_ms = now_ms
        return self.left >= count

    def take(self, now_ms: int, count: int = 1) -> bool:
        if not self.has(count, now_ms):
            return False
        self.left -= count
        return True


class Admission:
    """Opens incoming requests.

    `is_known` tells known senders from newcomers, `is_trusted` those that the operator joined or pinned; `is_blocked`
    whom not to hear. `pushed_per_second` bounds what one other node pushes, `strangers_pushed_per_second` all of them.
    """

    def __init__(
        self,
        *,
        me: bytes,
        mesh: str,
        now_ms: Callable[[], int],
        is_known: Callable[[bytes], bool],
        is_blocked: Callable[[bytes], bool],
        is_trusted: Callable[[bytes], bool] = lambda node_id: False,
        pushed_per_second: float = PUSHED_PER_SECOND,
        strangers_pushed_per_second: float = STRANGERS_PUSHED_PER_SECOND,
    ) -> None:
        self._me = me
        self._mesh = mesh
        self._now_ms = now_ms
        self._is_known = is_known
        self._is_blocked = is_blocked
        self._is_trusted = is_trusted
        self._newcomers = _Allowance(UNKNOWN_PER_SECOND, UNKNOWN_BURST, UNKNOWN_BURST, now_ms())
        self._pushed_per_second = pushed_per_second
        self._pushed = _Allowance(strangers_pushed_per_second, STRANGERS_PUSHED_BURST, STRANGERS_PUSHED_BURST, now_ms())
        self._forged = _Allowance(
            strangers_pushed_per_second, strangers_pushed_per_second, strangers_pushed_per_second, now_ms()
        )
        self._pushed_by: OrderedDict[bytes, _Allowance] = OrderedDict()
        self._allowances: OrderedDict[bytes, _Allowance] = OrderedDict()
        self._heard: set[tuple[bytes, bytes]] = set()
        # The first to be forgotten first, also of those that were heard before and after the clock was set back.
        self._heard_order: list[tuple[int, tuple[bytes, bytes]]] = []

    def open(self, path: str, raw: bytes) -> ReceivedRequest:
        """The verified request in `raw`. Raises NotHeard with the status to answer."""
        now_ms = self._now_ms()
        bytes_max = REQUEST_BYTES_MAX.get(path)
        if bytes_max is None:
            raise NotHeard(404, "R71", f"There is no request named {path[:32]!r}.", None)
        if len(raw) > bytes_max:
            raise NotHeard(413, "R78", f"A {path} request has at most {bytes_max} bytes, this has {len(raw)}.", None)
        claimed = _sender_in(raw)
        self._check_unproven(claimed, raw, now_ms)
        try:
            received = open_request(raw, mesh=self._mesh, path=path, me=self._me, now_ms=now_ms)
        except Refusal as refusal:
            if refusal.rule == RULE_SIGNATURE:
                self._forged_by(claimed).take(now_ms)
            raise NotHeard(_status_of(refusal), refusal.rule, refusal.sentence, _nonce_in(raw)) from refusal
        mark = (received.sender, received.nonce)
        self._check_fresh(mark, now_ms)
        if self._is_blocked(received.sender):
            raise NotHeard(403, RULE_NOT_LISTENED_TO, "This node does not talk to yours.", received.nonce)
        self._check_allowance(received.sender, received.nonce, now_ms)
        if isinstance(received.message, GossipRequest) and not self._is_trusted(received.sender):
            self._check_pushed(received.sender, len(received.message.push), received.nonce, now_ms)
        self._heard.add(mark)
        heappush(self._heard_order, (now_ms + nonce_memory_ms, mark))
        return received

    def _check_unproven(self, claimed: bytes | None, raw: bytes, now_ms: int) -> None:
        """Before the signature is checked: too much was forged in this sender's name, or in names of its kind."""
        if claimed is None or self._is_trusted(claimed):
            return
        if not self._forged_by(claimed).has(1, now_ms):
            raise NotHeard(429, BUSY, "Too many requests; wait a little before the next.", _nonce_in(raw))

    def _forged_by(self, claimed: bytes | None) -> _Allowance:
        """What forged requests in this name are counted against; all names of newcomers share theirs."""
        return self._forged if claimed is not None and self._is_known(claimed) else self._newcomers

    def _check_fresh(self, mark: tuple[bytes, bytes], now_ms: int) -> None:
        """Before the allowance: whoever replays what an honest node sent shall not use up that node's share."""
        while self._heard_order and self._heard_order[0][0] <= now_ms:
            self._heard.discard(heappop(self._heard_order)[1])
        if mark in self._heard:
            raise NotHeard(409, "R74", "This request was here before.", mark[1])

    def _check_allowance(self, sender: bytes, nonce: bytes, now_ms: int) -> None:
        if len(self._heard) >= NONCES_MAX:
            raise NotHeard(503, BUSY, "Too many requests to remember; try again later.", nonce)
        if not self._allowance_of(sender, now_ms).take(now_ms):
            raise NotHeard(429, BUSY, "Too many requests; wait a little before the next.", nonce)

    def _check_pushed(self, sender: bytes, count: int, nonce: bytes, now_ms: int) -> None:
        allowance = self._pushed_by.pop(sender, None) or _Allowance(
            self._pushed_per_second, PUSHED_BURST, PUSHED_BURST, now_ms
        )
        self._pushed_by[sender] = allowance
        if len(self._pushed_by) > ALLOWANCES_MAX:
            self._pushed_by.popitem(last=False)
        if not self._pushed.has(count, now_ms) or not allowance.take(now_ms, count):
            raise NotHeard(429, BUSY, "Too many announcements at once; wait a little before the next.", nonce)
        self._pushed.take(now_ms, count)

    def _allowance_of(self, sender: bytes, now_ms: int) -> _Allowance:
        if not self._is_known(sender):
            return self._newcomers
        allowance = self._allowances.pop(sender, None)
        if allowance is None:
            allowance = _Allowance(KNOWN_PER_SECOND, KNOWN_BURST, KNOWN_BURST, now_ms)
        self._allowances[sender] = allowance
        if len(self._allowances) > ALLOWANCES_MAX:
            self._allowances.popitem(last=False)
        return allowance


def _status_of(refusal: Refusal) -> int:
    """Wrongly signed, addressed or timed is 401; anything else that is wrong with it is 400."""
    return 401 if refusal.rule in NOT_ITS_SENDERS_TO_US_NOW else 400


def _sender_in(raw: bytes) -> bytes | None:
    """Who is said to have signed this; nothing of it is verified."""
    try:
        match unpack(raw, request_bytes_max):
            case (_, _, bytes(author), _, _):
                return author
    except Refusal:
        pass
    return None


def _nonce_in(raw: bytes) -> bytes | None:
    """The nonce of a request that was refused, so that the refusal can be signed over it; None where there is none.

    Nothing of it is verified: whoever sent these bytes only gets them refused in writing.
    """
    try:
        match unpack(raw, request_bytes_max):
            case (_, _, _, bytes(body), _):
                match unpack(body, request_bytes_max):
                    case (_, _, _, bytes(nonce), _) if len(nonce) == nonce_bytes:
                        return nonce
    except Refusal:
        return None
    return None
