"""What scripts want, and on which terms: one release, proved by its evidence, that nobody took back.

A node is asked for what it knows of the release; the bundle in its answer is judged here, by the code of `pfn verify`.
Of the rest of the answer only warnings count: a node may say that it knows of a yank, never that something is genuine.
"""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pfn_node.cli.client import ApiError, NodeClient
from pfn_node.cli.failing import FAILED, NO_ANSWER, NOT_FOUND, NOT_VERIFIED, REFUSED
from pfn_node.outbound import Outbound, OutboundError
from pfn_protocol.bundle_proof import Measured, Proof, TrustRoots, prove
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import EvidenceBundle, read_bundle
from pfn_protocol.names import check_slug, check_source_id, check_version

T = TypeVar("T")

_HEAVIEST_FIRST = (NOT_VERIFIED, NOT_FOUND, NO_ANSWER)


class NotGot(Exception):
    """What was wanted cannot be had; `code` is the exit code that says how."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Wanted:
    """One release; without a version the newest that the node backs."""

    source_id: str
    plugin_id: str
    version: str | None

    @property
    def plugin(self) -> str:
        return f"{self.source_id}/{self.plugin_id}"

    def __str__(self) -> str:
        return self.plugin + (f"@{self.version}" if self.version else "")


@dataclass(frozen=True, slots=True)
class Terms:
    """What has to be proved, to whom, and what is taken in spite of a warning."""

    roots: TrustRoots
    level: str
    key_from: str = "given"  # where the key of `roots` comes from, as people read it
    allow_yanked: bool = False
    allow_advisories: bool = False
    allow_taken_down: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A release whose evidence holds, and what it is worth to these roots."""

    bundle: EvidenceBundle
    document: dict[str, Any]  # the bundle as it came
    proof: Proof
    roots: TrustRoots  # those of the terms, with the key that was taken from the bundle if there was no other
    key_from: str

    @property
    def key(self) -> bytes:
        """The identity key with which it was proved: the last that follows from the one that was known."""
        return self.proof.key.public


def parse_wanted(text: str) -> Wanted:
    """Read SOURCE/PLUGIN[@VERSION]; raise `Refusal` for anything else."""
    source_id, _, rest = text.partition("/")
    plugin_id, at, version = rest.partition("@")
    check_source_id(source_id)
    check_slug(plugin_id)
    if at:
        check_version(version)
    return Wanted(source_id, plugin_id, version or None)


async def first_of(nodes: Sequence[str], outbound: Outbound, work: Callable[[NodeClient], Awaitable[T]]) -> T:
    """What the first node gives with which `work` succeeds; raise `NotGot` with what each of them said.

    A warning ends the search: that another node does not know of it makes nothing safe.
    """
    failures: list[NotGot] = []
    for node in dict.fromkeys(nodes):
        try:
            return await work(NodeClient(outbound, node, None))
        except NotGot as failure:
            if failure.code in (REFUSED, FAILED):
                raise
            failures.append(NotGot(failure.code, f"{node}: {failure}"))
        except ApiError as error:
            failures.append(NotGot(_code_of(error.status), f"{node}: {error}"))
        except OutboundError as error:
            failures.append(NotGot(NO_ANSWER, f"{node}: {error}"))
    raise heaviest(failures)


def heaviest(failures: Sequence[NotGot]) -> NotGot:
    """All of them as one: that something was found wrong outweighs that it was not there, and that silence."""
    code = next(code for code in _HEAVIEST_FIRST if any(code == failure.code for failure in failures))
    return NotGot(code, "; ".join(dict.fromkeys(map(str, failures))))


def _code_of(status: int) -> int:
    """What a refusal of a node means: 4xx is about the release, but for "too many"; the rest is the node's trouble."""
    return NOT_FOUND if status == 502 or (400 <= status < 500 and status not in (408, 429)) else NO_ANSWER


async def ask(client: NodeClient, wanted: Wanted, terms: Terms) -> Found:
    """What a node knows of a release, judged; raise `NotGot` if that is not enough."""
    answer = await client.get(
        "verify", sourceId=wanted.source_id, plugin=wanted.plugin_id, version=wanted.version, bundle="1"
    )
    document = answer.get("bundle") if isinstance(answer, dict) else None
    if not isinstance(document, dict):
        raise NotGot(NOT_FOUND, f"it has no evidence about {wanted}")
    found = judge(document, wanted, terms)
    _refuse_warned(answer, found, terms)
    return found


def judge(document: dict[str, Any], wanted: Wanted, terms: Terms) -> Found:
    """Check a bundle before there are bytes; raise `NotGot` if it is no proof of what is wanted."""
    try:
        bundle = read_bundle(json.dumps(document).encode())
    except (Refusal, RecursionError) as refusal:
        raise NotGot(NOT_VERIFIED, f"its evidence cannot be read: {refusal}") from None
    if (bundle.source_id, bundle.plugin_id) != (wanted.source_id, wanted.plugin_id) or (
        wanted.version not in (None, bundle.version)
    ):
        raise NotGot(
            NOT_VERIFIED, f"its evidence is about {bundle.source_id}/{bundle.plugin_id}@{bundle.version}, not {wanted}"
        )
    roots, key_from = terms.roots, terms.key_from
    if roots.key is None:
        key_from = "trusted nodes" if roots.nodes else "the node"
        roots = roots if roots.nodes else replace(roots, key=bundle.public_key)
    as_claimed = Measured(bundle.sha256, b"", bundle.size)
    found = Found(bundle, document, prove(bundle, as_claimed, roots, _now_ms()), roots, key_from)
    require(found.proof, terms.level)
    return found


def prove_again(found: Found, measured: Measured, level: str) -> Proof:
    """What the evidence proves of bytes as they were read; raise `NotGot` if that is less than `level`."""
    proof = prove(found.bundle, measured, found.roots, _now_ms())
    require(proof, level)
    return proof


def require(proof: Proof, level: str) -> None:
    """Raise `NotGot` unless the proof reaches the level."""
    if not proof.reaches(level):
        raise NotGot(NOT_VERIFIED, f"its evidence is no proof of {level}, only of {proof.level!r}: {_why(proof)}")


def _why(proof: Proof) -> str:
    return "; ".join(proof.caveats)


def _refuse_warned(answer: dict[str, Any], found: Found, terms: Terms) -> None:
    release = f"version {found.bundle.version} of {found.bundle.plugin_id}"
    word = found.proof.word
    if found.proof.revoked:
        raise NotGot(REFUSED, f"{release}: only a key that its publisher revoked vouches for it")
    yanked = word.yank.reason if word.yank is not None else answer.get("yanked")
    if yanked is not None and not terms.allow_yanked:
        raise NotGot(REFUSED, f"{release} was yanked: {yanked or 'no reason is given'} (--allow-yanked takes it)")
    critical = {one.advisory_id for one in word.advisories if one.severity == "critical"} | _critical(answer)
    if critical and not terms.allow_advisories:
        raise NotGot(
            REFUSED,
            f"{release}: critical advisories are about it: {', '.join(sorted(critical))} (--allow-advisories takes it)",
        )


def _critical(answer: dict[str, Any]) -> set[str]:
    """The critical advisories that the node names, its own and those of nodes that it pins among them."""
    advisories = answer.get("advisories")
    return {
        str(one.get("advisory_id"))
        for one in (advisories if isinstance(advisories, list) else [])
        if isinstance(one, dict) and one.get("severity") == "critical"
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
