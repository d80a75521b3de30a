"""Whether the clock here is wrong: a node that the operator trusts has another time. One of the two is mistaken."""

from pfn_protocol.effects import RaiseAlert
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.limits import skew_ms_max
from pfn_protocol.outgoing import Outgoing


class ClockCheck:
    """Calls the operator, once."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._alerted = False

    def compare(self, node_id: bytes, there_ms: int, here_ms: int) -> None:
        """A joined or pinned node told its time with a refusal."""
        behind_ms = there_ms - here_ms
        if self._alerted or abs(behind_ms) <= skew_ms_max:
            return
        self._alerted = True
        kind, word = ("clock-behind", "behind") if behind_ms > 0 else ("clock-ahead", "ahead of")
        other = short_did(did_key(node_id))
        sentence = f"the clock here is {abs(behind_ms) // 1_000} s {word} that of {other}; check both"
        self._outgoing.add(RaiseAlert(kind, sentence))
