"""Whose word backs bytes, and how much the evidence says about a release.

A publisher's metadata signature does not cover the file, so a hostile node can put a genuine one beside the digest of
something else. Bytes are served only if their digest is *backed*. What backs, best first:

    release   a v2 release of the publisher over this very digest, by a key that counts as known
    self      this node fetched it from the publisher
    pin       a node that this one pins saw it at the publisher
    depth     two nodes further away saw it, and the paths of pins to them share no key (only with trust depth over 1)

The best rank that any digest reaches decides. One digest there: it is backed, whatever lower ranks say. Several: the
publisher, or somebody trusted, told two stories. The digest that was served first stays (`held`), flagged as a conflict
and never above A0; the others are never served. Every observer of another digest is listed in `disputed_by`, and that
changes nothing: nobody can downgrade a plugin from outside. What nothing backs is `reported`: listed, not served.

With a raw oracle (a publisher that signs any bytes with this key) a release statement proves nothing, so it neither
backs nor lifts; nor does it while nobody whose word counts here has looked for one. A signature made with a key that is
not known counts for nothing either.

Three witnesses lift what is backed further (A2, A4). A witness fetched these bytes, of this size, from the publisher
itself; who merely holds them, or was handed a release, is none. Two of the three are this node or its direct pins, and
the third is reached over pins as well: keys cost nothing, so however many strangers say so, and for however long, they
lift nothing. Nor is there agreement while one of the near ones was given other bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pfn_protocol.limits import disjoint_paths_max, witnesses_min, witnesses_trusted_min


class Relation(IntEnum):
    """What an observer is to this node."""

    STRANGER = 0
    DEPTH = 1  # reachable over pins of pins, within the operator's trust depth
    PIN = 2  # pinned by this node
    SELF = 3


class _Rank(IntEnum):
    """How good the best word for a digest is; see the module's docstring."""

    NOTHING = 0
    DEPTH = 1
    PIN = 2
    SELF = 3
    RELEASE = 4


@dataclass(frozen=True, slots=True)
class Sighting:
    """One observer saw one digest of a release at the publisher."""

    observer: bytes
    relation: Relation
    sha256: bytes
    size: int
    signed: bool  # with a metadata or plugin-data signature that verifies under the source's key
    release: bool  # with a v2 release over this sha256 and size that verifies under the source's (bound) key
    observed_at: int  # seconds since 1970, as the observer says
    path_keys: frozenset[bytes] = frozenset()  # the nodes on the path of pins to the observer, without this node
    # How near a witness it is: what its observer is to this node now, if it fetched the bytes from the publisher;
    # DEPTH: reached over pins at all, whatever the trust depth; STRANGER: no witness.
    witness: Relation = Relation.STRANGER
    headed: bool = False  # with `release`: by a separate release key, whose fresh head is not older than the release


@dataclass(frozen=True, slots=True)
class Judgement:
    """What this node may say about a release, and serve of it."""

    sha256: bytes | None  # the backed digest; where none is, the one that most observers report; None without sightings
    size: int
    level: str  # reported, A0, A1, A2, A3, A4
    backed_by: str | None  # release, self, pin, depth; None: not backed, not served
    conflict: bool
    disputed_by: tuple[bytes, ...]  # observers of other digests, sorted
    observers: tuple[bytes, ...]  # observers of this digest: the nearest first


def judge(
    sightings: Sequence[Sighting], *, key_known: bool, held: bytes | None, raw_oracle: bool, trust_depth: int
) -> Judgement:
    """Judge one release (source, plugin, version) from everything that was seen of it.

    `key_known`: the source's key was verified here or attested by a pin. `held`: the digest that was first served here.
    `raw_oracle`: the publisher signs any bytes with that key, or it is not known here that it does not.
    `trust_depth` 1 listens to direct pins only. The order of the sightings does not matter.
    """
    digests: dict[bytes, list[Sighting]] = {}
    for sighting in sightings:
        digests.setdefault(sighting.sha256, []).append(sighting)
    if not digests:
        return Judgement(None, 0, "reported", None, False, (), ())
    release_counts = key_known and not raw_oracle
    ranks = {digest: _rank(of_it, release_counts, trust_depth) for digest, of_it in digests.items()}
    best = max(ranks.values())
    if best is _Rank.NOTHING:
        return _reported(digests)
    candidates = {digest: digests[digest] for digest, rank in ranks.items() if rank is best}
    conflict = len(candidates) > 1
    chosen = held if held in candidates else _seen_first(candidates)
    assert chosen is not None, "a candidate was seen"
    size = _size(digests[chosen], best)
    return Judgement(
        sha256=chosen,
        size=size,
        level="A0" if conflict else _level(digests[chosen], best, key_known, _is_witnessed(sightings, chosen, size)),
        backed_by=best.name.lower(),
        conflict=conflict,
        disputed_by=_observers_of_others(digests, chosen),
        observers=_observers(digests[chosen]),
    )


def _rank(sightings: Sequence[Sighting], release_counts: bool, trust_depth: int) -> _Rank:
    if release_counts and any(sighting.release for sighting in sightings):
        return _Rank.RELEASE
    nearest = max(sighting.relation for sighting in sightings)
    if nearest is Relation.SELF:
        return _Rank.SELF
    if nearest is Relation.PIN:
        return _Rank.PIN
    if trust_depth > 1 and _two_independent(sightings):
        return _Rank.DEPTH
    return _Rank.NOTHING


def _two_independent(sightings: Sequence[Sighting]) -> bool:
    """Whether two observers at depth are reached over paths without a common key.

    An observer without a known path counts for nothing. Observers behind the same keys count once, so a crowd behind
    one pin cannot hide the two that matter; the shortest paths are looked at first.
    """
    paths = {sighting.path_keys for sighting in sightings if sighting.relation is Relation.DEPTH and sighting.path_keys}
    ordered = sorted(paths, key=lambda path: (len(path), sorted(path)))[:disjoint_paths_max]
    return any(one.isdisjoint(other) for position, one in enumerate(ordered) for other in ordered[position + 1 :])


def _level(sightings: Sequence[Sighting], rank: _Rank, key_known: bool, witnessed: bool) -> str:
    if rank is _Rank.RELEASE:
        is_headed = any(sighting.release and sighting.headed for sighting in sightings)
        return "A4" if is_headed and witnessed else "A3"
    if witnessed:
        return "A2"
    if key_known and any(sighting.signed for sighting in sightings):
        return "A1"
    return "A0"


def _is_witnessed(sightings: Iterable[Sighting], sha256: bytes, size: int) -> bool:
    """Whether enough observers fetched this digest and size from the publisher, enough of them near, and none other."""
    nearest: dict[bytes, Relation] = {}
    for sighting in sightings:
        if (sighting.sha256, sighting.size) == (sha256, size):
            nearest[sighting.observer] = max(sighting.witness, nearest.get(sighting.observer, Relation.STRANGER))
        elif sighting.witness >= Relation.PIN:
            return False
    near = sum(1 for relation in nearest.values() if relation >= Relation.PIN)
    all_of_them = sum(1 for relation in nearest.values() if relation is not Relation.STRANGER)
    return all_of_them >= witnesses_min and near >= witnesses_trusted_min


def _size(sightings: Sequence[Sighting], rank: _Rank) -> int:
    """The size as the one says whose word backs the digest: a release covers it, otherwise the nearest observer."""
    of_rank = [sighting for sighting in sightings if sighting.release] if rank is _Rank.RELEASE else sightings
    return min(of_rank, key=lambda sighting: (-sighting.relation, sighting.observed_at, sighting.observer)).size


def _seen_first(candidates: dict[bytes, list[Sighting]]) -> bytes:
    return min(candidates, key=lambda digest: (min(one.observed_at for one in candidates[digest]), digest))


def _reported(digests: dict[bytes, list[Sighting]]) -> Judgement:
    chosen = min(digests, key=lambda digest: (-len(_observers(digests[digest])), digest))
    size = _size(digests[chosen], _Rank.NOTHING)
    disputed_by = _observers_of_others(digests, chosen)
    return Judgement(chosen, size, "reported", None, False, disputed_by, _observers(digests[chosen]))


def _observers(sightings: Iterable[Sighting]) -> tuple[bytes, ...]:
    ordered = sorted(sightings, key=lambda sighting: (-sighting.relation, sighting.observer))
    return tuple(dict.fromkeys(sighting.observer for sighting in ordered))


def _observers_of_others(digests: dict[bytes, list[Sighting]], chosen: bytes) -> tuple[bytes, ...]:
    others = (one for digest, sightings in digests.items() if digest != chosen for one in sightings)
    return tuple(sorted({sighting.observer for sighting in others}))
