"""What can happen to the mesh machine. Past tense, frozen; `mesh.Mesh.handle` matches every one of them.

`HaveRequest` never reaches the machine: which artifacts are here is a question to the disk, and the engine answers it.
"""

from pfn_protocol.announcements import OwnStatement
from pfn_protocol.messages import Answer, Request
from pfn_protocol.records import record
from pfn_protocol.sketch import Cells, Difference


@record
class StatementMade:
    """This node has something to say; the machine gives it (epoch, seq), signs it, keeps it and tells it."""

    statement: OwnStatement


@record
class RequestReceived:
    """A verified request arrived. Exactly one `SendAnswer` with this token follows, now or later."""

    token: int
    peer: bytes
    message: Request


@record
class AnswerReceived:
    """The verified answer to a `SendRequest`."""

    request_id: int
    peer: bytes
    message: Answer


@record
class PeerUnreachable:
    """A `SendRequest` came to nothing: no connection, a broken answer, or a deadline."""

    request_id: int
    peer: bytes
    reason: str


@record
class PeerFound:
    """A node was reached at this URL and proved its key there; an operator joined it, so it stays a target for ever."""

    peer: bytes
    url: str


@record
class JoinTakenBack:
    """The operator does not join this node any more: it is one among others."""

    peer: bytes


@record
class PolicyChanged:
    """The operator's own word: whose observations back bytes here, and who is not listened to."""

    pins: tuple[bytes, ...]
    blocked: tuple[bytes, ...]


@record
class PrefixBuilt:
    """The outcome of a `BuildPrefix`: what `sketch.build_cells` returned for it."""

    build_id: int
    cells: Cells


@record
class ComparisonWanted:
    """This node's set is to be compared with a neighbour's now, not only when the next status is due."""

    peer: bytes


@record
class CellsDecoded:
    """The outcome of a `DecodeCells`: what `Cells.decode` returned for it."""

    decode_id: int
    difference: Difference | None


@record
class TimePassed:
    """The moment that `wake_at` named has come."""


@record
class ShutdownRequested:
    """The node is about to stop: waiting answers are given now."""


Event = (
    StatementMade
    | RequestReceived
    | AnswerReceived
    | PeerUnreachable
    | PeerFound
    | JoinTakenBack
    | PolicyChanged
    | PrefixBuilt
    | CellsDecoded
    | ComparisonWanted
    | TimePassed
    | ShutdownRequested
)
