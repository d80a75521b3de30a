"""What this node tells the mesh about sources, and when it keeps silent.

source    how the last verification that was answered went; told at every verification, so it never expires while
          somebody here looks after the source. A publisher that cannot be reached proves and disproves nothing:
          then the last answer is told again, with its own time. What this node found that the
          publisher signs for anybody goes with it, never what others say they found.
version   what was seen at the publisher, once the bytes are stored and only then. Not told if three nodes that this
          one pins tell the same digest already: a fourth copy of the word helps nobody. A digest that differs from
          what anybody told is always told. What was kept back, or lost to a crash between storing and telling, is
          told at a later sync as soon as the rule asks for it.
mirror    how many artifacts of the source are here. The first of a source at once, changes at most hourly, and
          again before the statement expires.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import sqlite_utils

from pfn_node.store import catalogue, holdings
from pfn_node.store.database import Database
from pfn_node.store.facts import get_fact, set_fact
from pfn_node.store.rows import Observation, Source
from pfn_protocol.announcement_fields import encode
from pfn_protocol.announcements import (
    EvidenceForm,
    MirrorStatement,
    OwnStatement,
    SourceStatement,
    VersionStatement,
)
from pfn_protocol.encoding import pack
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import announcement_bytes_max, digest_bytes, epoch_max, integer_max, mirror_lifetime_ms
from pfn_protocol.set_digest import SetDigest

Announce = Callable[[OwnStatement], Awaitable[object]]

WITNESSES_ENOUGH: Final = 3
MIRROR_SECONDS_MIN: Final = 3600
MIRROR_RENEWAL_SECONDS: Final = mirror_lifetime_ms // 1000 // 2  # a renewal may be missed once
ENVELOPE_BYTES: Final = 256  # version, domain, author, signature and headers around a statement's own fields
TAGS_FEW: Final = 8
TEXT_BYTES_SMALL: Final = 240  # what is left of name and description where there is no room for more


class Announcer:
    """Tells the mesh through `announce`, which returns once the announcement is kept."""

    def __init__(self, database: Database, announce: Announce, node_id: bytes, clock: Callable[[], float]) -> None:
        self._database = database
        self._announce = announce
        self._node_id = node_id
        self._clock = clock

    async def source(self, source: Source, *, verified: bool, verified_at: int) -> None:
        """Tell how a verification of the source went."""
        await self._announce(
            SourceStatement(
                source_id=source.id,
                instance_url=source.instance_url,
                username=source.username,
                public_key=parse_public_key(source.public_key),
                asset_domain=source.asset_domain or "",
                asset_naming_scheme=source.asset_naming_scheme or "",
                verified=verified,
                verified_at=verified_at,
                oracle=source.oracle or "",  # this node's own probe: what others found is theirs to say
            )
        )

    async def version(self, observation: Observation) -> bool:
        """Tell what was seen, if the rule asks for it; return whether it was told."""
        replaces = self._database.read_now(lambda db: self.replaces(db, observation))
        if replaces is None:
            return False
        await self.tell(observation, replaces)
        return True

    async def tell(self, observation: Observation, replaces: bytes) -> None:
        """Tell what was seen; `replaces` as the rule says."""
        await self._announce(statement_of(observation, replaces))

    async def untold(self, source_id: str, plugin_id: str, version: str) -> None:
        """Tell what this node saw of a release and has not told yet, if the rule asks for it by now."""
        observations = await self._database.read(
            lambda db: catalogue.observations_of(db, source_id, plugin_id, version)
        )
        for observation in observations:
            if observation.observer == self._node_id and observation.announcement_id is None:
                await self.version(observation)

    async def mirror(self, source_id: str) -> bool:
        """Tell how much of the source is here, unless it was told already or too recently; True if told."""
        statement = await self._database.write(lambda db: _mirror_to_tell(db, source_id, self._clock()))
        if statement is None:
            return False
        await self._announce(statement)
        return True

    def replaces(self, db: sqlite_utils.Database, observation: Observation) -> bytes | None:
        """None: nothing is to be told. Else the id of its own earlier announcement of another digest, or empty."""
        key = (observation.source_id, observation.plugin_id, observation.version)
        told = [one for one in catalogue.observations_of(db, *key) if one.announcement_id is not None]
        own_others = [one for one in told if one.observer == self._node_id and one.sha256 != observation.sha256]
        if own_others:
            return min(own_others, key=lambda one: one.observed_at).announcement_id
        if any(one.sha256 != observation.sha256 for one in told):
            return b""
        if holdings.pinned_witnesses(db, *key, observation.sha256) >= WITNESSES_ENOUGH:
            return None
        return b""


def _mirror_to_tell(db: sqlite_utils.Database, source_id: str, now: float) -> MirrorStatement | None:
    """The mirror statement that is due, noted as told; None if none is. Noted first: a crash costs one renewal."""
    digests = holdings.held_digests(db, source_id)
    statement = MirrorStatement(source_id, len(digests), SetDigest(digests).digest())
    noted = get_fact(db, f"mirror-told:{source_id}")
    if noted is None:
        if not digests:
            return None
    else:
        told = json.loads(noted)
        is_new = (told["count"], told["digest"]) != (statement.count, statement.digest.hex())
        if now - told["at"] < (MIRROR_SECONDS_MIN if is_new else MIRROR_RENEWAL_SECONDS):
            return None
    told = {"count": statement.count, "digest": statement.digest.hex(), "at": int(now)}
    set_fact(db, f"mirror-told:{source_id}", json.dumps(told))
    return statement


def fitted(observation: Observation) -> Observation:
    """The observation, cut so that it fits an announcement; it is recorded here as it is told to others.

    Where it does not fit, go in this order: the head statement (any later release brings a newer one), most tags, the
    description, the SHA-384 signature, all tags, and the end of the name. Name and description stay as they are where
    the signature over them rides along.
    """
    for shorten in (
        lambda one: _without(one, EvidenceForm.HEAD),
        lambda one: replace(one, tags=one.tags[:TAGS_FEW]),
        _with_short_description,
        lambda one: _without(one, EvidenceForm.SHA384),
        lambda one: replace(one, tags=()),
        _with_short_name,
    ):
        if fits(observation):
            break
        observation = shorten(observation)
    return observation


def statement_of(observation: Observation, replaces: bytes = b"") -> VersionStatement:
    """What is told of an observation."""
    return VersionStatement(
        source_id=observation.source_id,
        plugin_id=observation.plugin_id,
        version=observation.version,
        type=observation.type,
        name=observation.name,
        description=observation.description,
        tags=observation.tags,
        sha256=observation.sha256,
        size=observation.size,
        observed_at=observation.observed_at,
        evidence=observation.evidence,
        replaces=replaces,
    )


def fits(observation: Observation) -> bool:
    """Whether what is told of it, signed and wrapped, is short enough to be accepted anywhere."""
    statement = statement_of(observation, replaces=bytes(digest_bytes))
    return len(pack(encode(statement, epoch_max, integer_max))) + ENVELOPE_BYTES <= announcement_bytes_max


def _without(observation: Observation, form: EvidenceForm) -> Observation:
    return replace(observation, evidence=tuple(piece for piece in observation.evidence if piece.form is not form))


def _is_signed_inline(observation: Observation) -> bool:
    """Whether a signature over the observation's own name and description rides along, so that neither may change."""
    return any(piece.form is EvidenceForm.METADATA and not piece.text_sha256 for piece in observation.evidence)


def _with_short_description(observation: Observation) -> Observation:
    if _is_signed_inline(observation) or observation.description is None:
        return observation
    return replace(observation, description=cut(observation.description, TEXT_BYTES_SMALL))


def _with_short_name(observation: Observation) -> Observation:
    if _is_signed_inline(observation):
        return observation
    return replace(observation, name=cut(observation.name, TEXT_BYTES_SMALL))


def cut(text: str, bytes_max: int) -> str:
    """The longest beginning of `text` that has at most `bytes_max` bytes in UTF-8."""
    return text.encode("utf-8")[:bytes_max].decode("utf-8", "ignore")
