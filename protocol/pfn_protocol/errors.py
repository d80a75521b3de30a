"""What can be wrong with something that was received.

    ProtocolError
    └── Refusal            bytes or a statement that this node does not accept; names its rule of SPEC.md
        └── Parked         nothing is wrong with it yet: it lies in the future, or its author is not admitted

A refusal carries how bad it is, so that callers need no second table to choose between ignoring it and
lowering the one who sent it.
"""

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pfn_protocol.announcements import AcceptedAnnouncement


class Severity(Enum):
    """What a refusal says about the peer that sent the bytes."""

    HARMLESS = "harmless"  # honest peers send such things: old, known, early
    FAULTY = "faulty"  # a bug or another version of the software
    HOSTILE = "hostile"  # cannot come about by accident: a signature that does not verify


class ProtocolError(Exception):
    """The root of everything that this package raises about what it was given."""


class Refusal(ProtocolError):
    """Something received is not accepted.

    `rule` is the number of the rule in SPEC.md that it breaks ("R12"); `sentence` says what was found and what
    would be accepted; `severity` says what that tells about its sender.
    """

    def __init__(self, rule: str, sentence: str, severity: Severity = Severity.FAULTY) -> None:
        super().__init__(f"{rule}: {sentence}")
        self.rule = rule
        self.sentence = sentence
        self.severity = severity


class Parked(Refusal):
    """A well-formed, signed statement that cannot be judged yet; it may be kept aside, bounded, and tried again.

    `announcement` is the statement itself: it passed every other check.
    """

    def __init__(self, rule: str, sentence: str, announcement: "AcceptedAnnouncement") -> None:
        super().__init__(rule, sentence, Severity.HARMLESS)
        self.announcement = announcement
