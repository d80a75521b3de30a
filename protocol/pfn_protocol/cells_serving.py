"""Answering requests for cells: the server's part of a round, which mostly only slices.

A request that has to wait for a prefix is answered when it is built; of one neighbour one waits at most. What a
neighbour can cost is bounded: prefixes are made within a budget (prefixes.py), cells are served within another one.
"""

from dataclasses import dataclass

from pfn_protocol.effects import SendAnswer
from pfn_protocol.limits import sketch_cells_max, sketch_cells_per_hour_max, sketch_frozen_ms
from pfn_protocol.link_secrets import LinkSecrets, Salt
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import CellsAnswer, CellsRequest, RefusedAnswer
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.prefixes import Prefix, Prefixes
from pfn_protocol.registry import Registry

RULE_NO_SUCH_SALT = "R113"
RULE_OTHER_SCOPE = "R114"
RULE_BEGIN_AGAIN = "R115"
RULE_NO_PREFIX = "R117"
RULE_TOO_MANY_CELLS = "R118"
RULE_NO_SUCH_SET = "R125"

_HOUR_MS = 3_600_000


@dataclass(slots=True)
class _Asker:
    """What a neighbour asked for, and what it got of late."""

    waiting: tuple[int, CellsRequest] | None = None
    served: int = 0
    since_ms: int = 0


class CellsServing:
    """The server's part of the rounds of all neighbours."""

    def __init__(self, registry: Registry, outgoing: Outgoing, prefixes: Prefixes, secrets: LinkSecrets) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._prefixes = prefixes
        self._secrets = secrets
        self._askers: dict[bytes, _Asker] = {}

    def open(self, peer: bytes, now_ms: int) -> None:
        """There is a link, perhaps anew, with other salts: what waited for cells asks again."""
        self._turn_away(self._askers.setdefault(peer, _Asker(since_ms=now_ms)), now_ms)

    def close(self, peer: bytes, now_ms: int) -> None:
        """The link is over; whoever waits is told."""
        asker = self._askers.pop(peer, None)
        if asker is not None:
            self._turn_away(asker, now_ms)

    def stop(self, now_ms: int) -> None:
        """Answer all that wait."""
        for asker in self._askers.values():
            self._turn_away(asker, now_ms)

    def answer(self, peer: bytes, token: int, request: CellsRequest, link_set: LinkSet, now_ms: int) -> None:
        """Answer a request for cells, now or when they are there."""
        asker = self._askers[peer]
        self._turn_away(asker, now_ms)
        if now_ms - asker.since_ms >= _HOUR_MS:
            asker.served, asker.since_ms = 0, now_ms
        salt = self._secrets.salt_named(peer, request.salt)
        if request.set_name:
            self._refuse(token, RULE_NO_SUCH_SET, "which artifacts are here the mesh machine does not know", now_ms)
        elif salt is None:
            self._refuse(token, RULE_NO_SUCH_SALT, "this link has no such salt; use pages of ids", now_ms)
        elif request.start + request.count > sketch_cells_max:
            self._refuse(token, RULE_TOO_MANY_CELLS, f"a sketch has {sketch_cells_max} cells; use pages of ids", now_ms)
        elif asker.served + request.count > sketch_cells_per_hour_max:
            self._refuse(token, RULE_TOO_MANY_CELLS, "too many cells were served within the hour", now_ms)
        elif request.start == 0 and request.scope != link_set.scope():
            self._refuse(token, RULE_OTHER_SCOPE, "this is not the list of authors that both admit", now_ms)
        else:
            self._serve(peer, asker, (token, request), salt, link_set, now_ms)

    def built(self, peer: bytes, link_set: LinkSet, now_ms: int) -> None:
        """A prefix of this link was made: go on with what waits for it."""
        asker = self._askers.get(peer)
        if asker is None or asker.waiting is None:
            return
        waiting, asker.waiting = asker.waiting, None
        salt = self._secrets.salt_named(peer, waiting[1].salt)
        if salt is None:
            self._refuse(waiting[0], RULE_NO_SUCH_SALT, "this salt was replaced; use pages of ids", now_ms)
        else:
            self._serve(peer, asker, waiting, salt, link_set, now_ms)

    def _serve(
        self, peer: bytes, asker: _Asker, asked: tuple[int, CellsRequest], salt: Salt, link_set: LinkSet, now_ms: int
    ) -> None:
        token, request = asked
        prefix = self._prefix(peer, request, salt, now_ms)
        if request.start and (prefix is None or now_ms >= prefix.served_until_ms):
            self._refuse(token, RULE_BEGIN_AGAIN, "the state of this round is gone; begin again", now_ms)
            return
        end = request.start + request.count
        if prefix is None or len(prefix.cells) < end:
            if self._prefixes.want(peer, link_set, salt.key, end, now_ms):
                asker.waiting = asked
            else:
                self._refuse(token, RULE_NO_PREFIX, "no cells can be made now; use pages of ids", now_ms)
            return
        asker.served += request.count
        prefix.served_until_ms = now_ms + sketch_frozen_ms
        cells = prefix.cells.part(request.start, end).to_bytes()
        self._outgoing.add(SendAnswer(token, CellsAnswer(cells, prefix.total.count, prefix.total.digest())))

    def _prefix(self, peer: bytes, request: CellsRequest, salt: Salt, now_ms: int) -> Prefix | None:
        """The prefix of the link; at the beginning of a round, as the set stands now."""
        prefix = self._prefixes.find(peer, salt.key, now_ms)
        if prefix is not None and request.start == 0 and not prefix.freeze_for_other(self._registry, now_ms):
            self._prefixes.discard(peer, salt.key)
            return None
        return prefix

    def _turn_away(self, asker: _Asker, now_ms: int) -> None:
        if asker.waiting is not None:
            self._refuse(asker.waiting[0], RULE_BEGIN_AGAIN, "this request was overtaken", now_ms)
            asker.waiting = None

    def _refuse(self, token: int, rule: str, sentence: str, now_ms: int) -> None:
        self._outgoing.add(SendAnswer(token, RefusedAnswer(rule, sentence, now_ms)))
