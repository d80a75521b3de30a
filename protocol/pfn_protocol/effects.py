"""What is to be done. Imperative, frozen; the engine performs them in the order of the list.

The machine emits keeping before telling, so nothing is forwarded that a crash could make us forget. It knows ids, never
bodies: where a message must carry announcements it names them in `bodies`, and the engine puts the raw bytes into the
message's field (`push` of gossip, `announcements` of fetch and snapshot), in that order, leaving out what is gone.
"""

from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.messages import Answer, Request
from pfn_protocol.records import record
from pfn_protocol.sketch import Cells


@record
class KeepAnnouncement:
    """Store it durably. `admitted` False: parked, outside the set, not shown to consumers."""

    announcement: AcceptedAnnouncement
    admitted: bool


@record
class KeepConviction:
    """Make a conviction (`equivocation.convict`) of two announcements that are kept, and store it durably, in the set.

    It comes before they are dropped, and all of it belongs into one transaction: so the proof is never lost.
    """

    one: bytes  # the ids of the two
    other: bytes


@record
class DropAnnouncements:
    """These left the set for good (replaced, expired, over a cap): their rows may go."""

    ids: tuple[bytes, ...]


@record
class ChangeAdmission:
    """These announcements came into the set, or left it without being dropped."""

    admitted: tuple[bytes, ...]
    parked: tuple[bytes, ...]


@record
class RememberPeer:
    """This node was reached at this URL: keep it over a restart."""

    peer: bytes
    url: str
    seen_ms: int
    introduced: bool = False  # a node that was joined or is pinned named it (R98)


@record
class ForgetPeer:
    """It has not answered for too long, or it left."""

    peer: bytes


@record
class SendRequest:
    """POST the message. Exactly one `AnswerReceived` or `PeerUnreachable` with this id follows."""

    request_id: int
    peer: bytes
    url: str
    message: Request
    bodies: tuple[bytes, ...] = ()
    patience_ms: int | None = None  # after so long without an answer it has come to nothing; None: as others do


@record
class SendAnswer:
    """Answer the request with this token."""

    token: int
    message: Answer
    bodies: tuple[bytes, ...] = ()


@record
class RaiseAlert:
    """An operator should know: shown in the activity, logged as a warning."""

    kind: str  # a stable word: "two-nodes-one-key", "clock-behind"
    sentence: str


@record
class BuildPrefix:
    """Call `sketch.build_cells`, which takes seconds, outside of the event loop; exactly one `PrefixBuilt` follows."""

    build_id: int
    ids: tuple[bytes, ...]
    without: tuple[bytes, ...]
    salt: bytes
    length: int


@record
class DecodeCells:
    """Call `cells.decode(salt)`, which takes up to a second, outside of the event loop; one `CellsDecoded` follows."""

    decode_id: int
    cells: Cells
    salt: bytes


Effect = (
    KeepAnnouncement
    | KeepConviction
    | DropAnnouncements
    | ChangeAdmission
    | RememberPeer
    | ForgetPeer
    | SendRequest
    | SendAnswer
    | RaiseAlert
    | BuildPrefix
    | DecodeCells
)
