"""Noticing that this node's clock is wrong, before nobody listens to it any more, and that it was set back."""

from pfn_protocol.effects import RaiseAlert
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.limits import clock_set_back_ms_min, skew_ms_max
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peer import Peer


class ClockCheck:
    """Compares clocks, and alerts once."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._alerted = False
        self._latest_ms = 0

    def was_set_back(self, now_ms: int) -> bool:
        """Whether the clock shows much less than before: then whatever was planned by it lies too far ahead (R135)."""
        before_ms, self._latest_ms = self._latest_ms, now_ms
        return now_ms < before_ms - clock_set_back_ms_min

    def check(self, peer: Peer, their_now_ms: int, now_ms: int) -> None:
        """A node that the operator trusts has another time: one of the two clocks is wrong, probably this one."""
        behind_ms = their_now_ms - now_ms
        if self._alerted or not peer.named or abs(behind_ms) <= skew_ms_max:
            return
        self._alerted = True
        kind, word = ("clock-behind", "behind") if behind_ms > 0 else ("clock-ahead", "ahead of")
        other = short_did(did_key(peer.node_id))
        sentence = f"the clock here is {abs(behind_ms) // 1_000} s {word} that of {other}; check both"
        self._outgoing.add(RaiseAlert(kind, sentence))
