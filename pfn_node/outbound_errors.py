"""What can go wrong when this node asks another machine for something.

    OutboundError
    ├── AddressRefused     ours to decide: the URL, or what its name leads to, may not be dialled
    ├── Busy               ours to blame: no room for another request; the other machine is not at fault
    ├── Unreachable        nobody answered: no such name, no connection, no valid certificate
    ├── AnswerTooLarge     the answer is, or says it is, larger than the caller allows
    ├── AnswerTooSlow      the answer did not come in time, or comes slower than the caller allows
    └── AnswerBroken       the answer is not HTTP as we accept it: compressed, cut short, too many redirects

Every error carries a sentence for people. It never quotes what the other machine sent, and it never says which
address a name led to: both would let a stranger use this node to look around in its operator's network.
"""


class OutboundError(Exception):
    """A request to another machine failed; `sentence` says why, and what can be done about it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class AddressRefused(OutboundError):
    """The policy of this node does not allow to dial this URL. Trying again does not help."""


class Busy(OutboundError):
    """This node has as many requests under way as it allows itself, or its machine allows no further connection."""


class Unreachable(OutboundError):
    """There is no connection: the name does not resolve, nobody listens, or TLS failed."""


class AnswerTooLarge(OutboundError):
    """The answer exceeds `bytes_max`."""


class AnswerTooSlow(OutboundError):
    """The answer missed its deadline or fell below the minimum rate."""


class AnswerBroken(OutboundError):
    """The answer cannot be used as HTTP: it is malformed, incomplete, compressed, or redirects too often."""
