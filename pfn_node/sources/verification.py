"""Asking a publisher to prove that it holds its source's key.

The publisher signs a challenge: a fresh, strict, lower-case UUIDv4 and nothing else, because a publisher that knows
what it does signs nothing else. The answer proves that the key is held by whoever answered, at this moment. It does not
prove that the key belongs to this address: a challenge can be passed on to the real owner. So a key that is proved at
two hosts is a conflict of both (standing.py), and what an answer says about other addresses is not read at all.

Once, after the first success, the publisher is asked for signatures that no publisher should give: over text that is no
UUID, and over bytes given as a JSON array. What it would sign is remembered as the source's `oracle`:

    none    nothing but challenges
    utf8    any text: its metadata signatures could be anybody's, its v2 statements could not (they begin with 0xFF)
    raw     any bytes: nothing signed by this key is worth anything for the bytes of a release

Each time the origin is asked for its own word too: a keybind for this very URL, signed by the source's key, which the
host serves at /.well-known/pfn-publisher.json. A relayed challenge brings none: the owner of the key signs no other
publisher's URL. Such a source is `origin_bound`.
"""

import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import sqlite_utils
import trio

from pfn_node.sources.announcing import Announcer
from pfn_node.sources.notices import Notices
from pfn_node.sources.outcomes import PublisherFailed, UnknownSource, VerificationOutcome
from pfn_node.sources.publisher_answers import FederationInfo
from pfn_node.sources.publisher_client import PublisherClient
from pfn_node.sources.standing import NO_PROOF, last_answer, last_verification, settle, settle_sharing
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.discovery import disprove
from pfn_node.store.key_changes import begin_keys
from pfn_node.store.rows import Source
from pfn_node.store.sources import get_source, record_verification, update_source
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_public_key, verify
from pfn_protocol.publisher import open_keybind

VerificationType = Literal["initial", "periodic", "manual"]
Oracle = Literal["none", "utf8", "raw"]

PROBE_TEXT: Final = (
    "pfn oracle probe, please refuse: "  # no UUID, no JSON, no version: useless to whoever gets it signed
)
PROBE_BYTES: Final = b"\xffpfn/oracle-probe "  # begins as v2 envelopes do, and can be none: their magic differs
PROBE_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class _Proof:
    """What asking brought."""

    success: bool
    details: str
    answered: bool = True
    info: FederationInfo | None = None
    oracle: Oracle | None = None
    asked: Source | None = None  # with the key that a proof was asked for, if that is not the one it began with
    bound: bool | None = None  # None: the origin gave no answer about it


@dataclass(slots=True)
class _Asking:
    """Those who want a proof of one source at the same time: one of them asks, the others take the answer."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    users: int = 0
    answers: int = 0
    outcome: VerificationOutcome | None = None


class Verifier:
    """Verifies sources, records how it went, and tells the mesh."""

    def __init__(
        self,
        database: Database,
        client: PublisherClient,
        announcer: Announcer,
        notices: Notices,
        node_id: bytes,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._client = client
        self._announcer = announcer
        self._notices = notices
        self._verifier = did_key(node_id)
        self._clock = clock
        self._asking: dict[str, _Asking] = {}

    async def verify(self, source_id: str, type: VerificationType) -> VerificationOutcome:
        """Ask for a proof now, or wait for the answer to one who is asking already.

        A failure is an outcome, not an error. Raises UnknownSource, and PublisherFailed only where this node itself is
        too busy to ask. The first verification of a source is recorded as `initial`, whoever asked for it.
        """
        asking = self._asking.setdefault(source_id, _Asking())
        asking.users += 1
        answered_before = asking.answers
        try:
            async with asking.lock:
                if asking.outcome is None or asking.answers == answered_before:
                    asking.outcome = await self._verify(source_id, type)
                    asking.answers += 1
                return asking.outcome
        finally:
            asking.users -= 1
            if not asking.users:
                del self._asking[source_id]

    async def _verify(self, source_id: str, type: VerificationType) -> VerificationOutcome:
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is None:
            raise UnknownSource(source_id)
        proof = await self._ask(source)
        source = proof.asked or source
        settled = await self._database.write(lambda db: self._record(db, source, type, proof))
        if settled is None:
            return VerificationOutcome(False, source.status, "the source was changed meanwhile; verify it again")
        await self._tell(settled)
        return VerificationOutcome(proof.success, settled.status, proof.details, proof.answered)

    async def _ask(self, source: Source) -> _Proof:
        try:
            info = await self._client.federation_info(source.instance_url)
        except PublisherFailed as failure:
            if failure.ours:
                raise
            return _Proof(False, failure.sentence, answered=False)
        # First what it says about its keys: the one that it was known by may have a successor.
        await self._notices.take(info.signed.notices, info.signed.keybinds)
        current = await self._database.read(lambda db: get_source(db, source.id))
        return replace(await self._prove(current or source, info), asked=current)

    async def _prove(self, source: Source, info: FederationInfo) -> _Proof:
        try:
            proved = await self._signs(source, challenge := str(uuid.uuid4()), challenge.encode())
        except PublisherFailed as failure:
            if failure.ours:
                raise
            return _Proof(False, failure.sentence, answered=False)
        if not proved:
            return _Proof(False, f"{NO_PROOF}: it gave no signature over the challenge that verifies")
        oracle = await self._probe(source) if source.oracle is None else None
        details = "the publisher holds the key"
        if info.asset_problem:
            details += f"; zips are fetched from the instance itself: {info.asset_problem}"
        return _Proof(True, details, info=info, oracle=oracle, bound=await self._is_bound(source))

    async def _is_bound(self, source: Source) -> bool | None:
        """Whether the origin publishes a keybind of the source's key for this URL; None if it does not answer now."""
        try:
            keybind = await self._client.well_known(source.instance_url)
        except PublisherFailed:
            return None
        if keybind is None:
            return False
        try:
            bound, _ = open_keybind(keybind)
        except Refusal:
            return False
        return (bound.origin, bound.identity_key) == (source.instance_url, parse_public_key(source.public_key))

    async def _probe(self, source: Source) -> Oracle | None:
        """What else the publisher signs; None if it cannot be told now, so that the next verification asks again."""
        nonce = secrets.token_bytes(PROBE_NONCE_BYTES)
        text = PROBE_TEXT + nonce.hex()
        raw = PROBE_BYTES + nonce
        try:
            if await self._signs(source, list(raw), raw):
                return "raw"
            return "utf8" if await self._signs(source, text, text.encode()) else "none"
        except PublisherFailed as failure:
            # An error is a refusal too, if an unfriendly one; silence is not.
            return "none" if failure.answered else None

    async def _signs(self, source: Source, challenge: object, message: bytes) -> bool:
        body = json.dumps({"username": source.username, "challenge": challenge}).encode()
        signature = await self._client.prove(source.instance_url, body)
        return signature is not None and verify(parse_public_key(source.public_key), message, signature)

    def _record(self, db: sqlite_utils.Database, asked: Source, type: VerificationType, proof: _Proof) -> Source | None:
        """Write down how it went; None if the source is no longer the one that was asked."""
        now = int(self._clock())
        current = get_source(db, asked.id)
        if current is None or (current.public_key, current.instance_url) != (asked.public_key, asked.instance_url):
            return None
        result = "success" if proof.success else "failure"
        if last_verification(db, current) is None:
            type = "initial"
        record_verification(db, asked.id, self._verifier, type, result, proof.details, now)
        columns: dict[str, Any] = {}
        if proof.success:
            if current.verified_at is None:
                begin_keys(db, asked.id, now)  # what strangers said about other keys of it does not count
            columns["verified_at"] = now
        if proof.info is not None:
            columns["asset_domain"] = proof.info.asset_domain
            columns["asset_naming_scheme"] = proof.info.asset_naming_scheme
        if proof.oracle is not None:
            columns["oracle"] = proof.oracle
        if proof.bound is not None:
            columns["origin_bound"] = proof.bound
        update_source(db, asked.id, **columns)
        record_activity(
            db,
            "source_verification",
            f"verification of {asked.id}: {result}, {proof.details}",
            at=now,
            source_id=asked.id,
        )
        settle_sharing(db, parse_public_key(asked.public_key), now)
        settled = settle(db, asked.id, now)
        if not proof.success and proof.answered:
            disprove(db, asked.id, parse_public_key(asked.public_key))
        return settled

    async def _tell(self, source: Source) -> None:
        """Tell the last answer. Where nobody was there to be asked, that is an earlier one, which must not expire."""
        answer = await self._database.read(lambda db: last_answer(db, source))
        if answer is not None:
            # A key that was proved at two hosts may be the other's: that is no word to back anything with.
            verified = answer.result == "success" and source.status != "conflict"
            await self._announcer.source(source, verified=verified, verified_at=answer.verified_at)
