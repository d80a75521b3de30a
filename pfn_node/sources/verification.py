"""Asking a publisher to prove that it holds its source's key.

The publisher signs a challenge: a fresh, strict, lower-case UUIDv4 and nothing else, because a publisher that knows
what it does signs nothing else. The answer proves that the key is held by whoever answered, at this moment. It does not
prove that the key belongs to this address: a challenge can be passed on to the real owner. So a key that is proved at
two hosts is a conflict of both (standing.py), and what an answer says about other addresses is not read at all.

Once for each key, after the first success, the publisher is asked for signatures that no publisher should give: over
text that is no UUID, and over bytes given as a JSON array. What it would sign is remembered as the source's `oracle`:

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
import structlog
import trio

from pfn_node.sources.announcing import Announcer
from pfn_node.sources.courtesy import Courtesy
from pfn_node.sources.notices import Notices
from pfn_node.sources.outcomes import PublisherFailed, SourcesError, UnknownSource, VerificationOutcome
from pfn_node.sources.progress import Progress, Steps
from pfn_node.sources.publisher_answers import FederationInfo
from pfn_node.sources.publisher_client import PublisherClient
from pfn_node.sources.standing import NO_PROOF, last_answer, last_verification, settle, settle_sharing
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.discovery import disprove
from pfn_node.store.key_changes import begin_keys
from pfn_node.store.notices import look_again
from pfn_node.store.rows import Source
from pfn_node.store.sources import get_source, record_verification, update_source
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_public_key, verify
from pfn_protocol.publisher import open_keybind

log = structlog.get_logger()

VerificationType = Literal["initial", "periodic", "manual"]
Oracle = Literal["none", "utf8", "raw"]

PROBE_TEXT: Final = (
    "pfn oracle probe, please refuse: "  # no UUID, no JSON, no version: useless to whoever gets it signed
)
PROBE_BYTES: Final = b"\xffpfn/oracle-probe "  # begins as v2 envelopes do, and can be none: their magic differs
PROBE_NONCE_BYTES: Final = 16

_NO_SIGNATURE: Final = "it gave no signature over the challenge that verifies"
_BOUND_WORDS: Final = {
    True: "the origin itself says that the key is its own",
    False: "the origin says nothing of this key",
    None: "the origin gave no answer about it",
}
_ORACLE_WORDS: Final = {
    "none": "it signs nothing but challenges",
    "utf8": "it signs other texts for anybody",
    "raw": "it signs any bytes for anybody",
    None: "it gave no answer that tells; it is asked again next time",
}


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
        progress: Progress,
        courtesy: Courtesy,
        node_id: bytes,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._client = client
        self._announcer = announcer
        self._notices = notices
        self._progress = progress
        self._courtesy = courtesy
        self._verifier = did_key(node_id)
        self._clock = clock
        self._asking: dict[str, _Asking] = {}

    def start(self, nursery: trio.Nursery, source_id: str) -> None:
        """Verify in the background, for somebody who watches the steps; one under way already is the one to watch."""
        if source_id not in self._asking:
            nursery.start_soon(self._verify_watched, source_id)

    async def _verify_watched(self, source_id: str) -> None:
        try:
            await self.verify(source_id, "manual")
        except SourcesError as error:
            log.info("verification_not_done", source=source_id, reason=error.sentence)
        except Exception as error:  # The task boundary: trouble with one source must not stop the node.
            log.exception("verification_failed", source=source_id, error=str(error))

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
        with self._progress.verifying(source_id) as steps:
            proof = await self._ask(source, steps)
            steps.result = "success" if proof.success else "failure" if proof.answered else "unanswered"
            source = proof.asked or source
            with steps.step("record") as step:
                await self._courtesy.give_way()
                settled = await self._database.write(lambda db: self._record(db, source, type, proof))
                if settled is None:
                    step.fail("the source was changed meanwhile; verify it again")
                    return VerificationOutcome(False, source.status, step.says)
                await self._tell(settled)
                step.say(f"the source is {settled.status} now")
        return VerificationOutcome(proof.success, settled.status, proof.details, proof.answered)

    async def _ask(self, source: Source, steps: Steps) -> _Proof:
        try:
            with steps.step("asset_info") as step:
                await self._courtesy.give_way()
                info = await self._client.federation_info(source.instance_url)
                step.say(info.asset_problem or f"zips lie at {info.asset_domain or source.instance_url}")
        except PublisherFailed as failure:
            if failure.ours:
                raise
            return _Proof(False, failure.sentence, answered=False)
        # First what it says about its keys: the one that it was known by may have a successor.
        with steps.step("keys") as step:
            await self._notices.take(info.signed.notices, info.signed.keybinds)
            current = await self._database.read(lambda db: get_source(db, source.id))
            asked = current or source
            step.say("it is the one known here" if asked.public_key == source.public_key else "another one follows it")
        return replace(await self._prove(asked, info, steps), asked=current)

    async def _prove(self, source: Source, info: FederationInfo, steps: Steps) -> _Proof:
        challenge = str(uuid.uuid4())
        try:
            with steps.step("challenge") as step:
                signature = await self._asked_to_sign(source, challenge)
                if signature is None:
                    step.fail(f"it answered without a signature; perhaps it knows no {source.username}")
                    return _Proof(False, f"{NO_PROOF}: {_NO_SIGNATURE}")
                step.say(f"it answered for {source.username}")
        except PublisherFailed as failure:
            if failure.ours:
                raise
            return _Proof(False, failure.sentence, answered=False)
        with steps.step("signature") as step:
            if not _holds(source, challenge.encode(), signature):
                step.fail("it does not verify with the key known here")
                return _Proof(False, f"{NO_PROOF}: {_NO_SIGNATURE}")
            step.say("it verifies with the key known here")
        oracle: Oracle | None = None
        if source.oracle is None:
            with steps.step("oracle") as step:
                oracle = await self._probe(source)
                step.say(_ORACLE_WORDS[oracle])
        with steps.step("origin") as step:
            bound = await self._is_bound(source)
            step.say(_BOUND_WORDS[bound])
        details = "the publisher holds the key"
        if info.asset_problem:
            details += f"; zips are fetched from the instance itself: {info.asset_problem}"
        return _Proof(True, details, info=info, oracle=oracle, bound=bound)

    async def _is_bound(self, source: Source) -> bool | None:
        """Whether the origin publishes a keybind of the source's key for this URL; None if it does not answer now."""
        await self._courtesy.give_way()
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
        except PublisherFailed:
            return None  # trouble is no refusal: a publisher that signs anything would pass for one that does not

    async def _signs(self, source: Source, challenge: object, message: bytes) -> bool:
        return _holds(source, message, await self._asked_to_sign(source, challenge))

    async def _asked_to_sign(self, source: Source, challenge: object) -> bytes | None:
        await self._courtesy.give_way()
        body = json.dumps({"username": source.username, "challenge": challenge}).encode()
        return await self._client.prove(source.instance_url, body)

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
        if proof.success:
            look_again(db, asked.id, now)
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


def _holds(source: Source, message: bytes, signature: bytes | None) -> bool:
    """Whether this is a signature by the source's key."""
    return signature is not None and verify(parse_public_key(source.public_key), message, signature)
