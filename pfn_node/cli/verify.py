"""`pfn verify`: whether a zip is genuine, as a node says, or as its evidence bundle proves without any node.

With `--evidence` nothing is asked and no connection is made: the zip, the bundle and the clock are all that counts, and
what the caller trusts. Exit codes: 0 proved, 1 not proved or taken back by its publisher (with the reasons), 2
something given cannot be read.
"""

import json
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pfn_node.cli.client import DEFAULT_NODE, AsJson, NodeClient, NodeUrl, run_with_client
from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail
from pfn_node.cli.tables import console, show_fields, text
from pfn_node.web.evidence import measure
from pfn_protocol.bundle_proof import Proof, TrustRoots, prove
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import EvidenceBundle, read_bundle
from pfn_protocol.identity import did_key, parse_did_key, parse_public_key
from pfn_protocol.limits import bundle_bytes_max


class Level(StrEnum):
    """What may be demanded of a proof."""

    A0 = "A0"
    A1 = "A1"
    A2 = "A2"
    A3 = "A3"
    A4 = "A4"


def verify(
    file: Annotated[Path, typer.Argument(help="A plugin zip.", exists=True, dir_okay=False)],
    node: NodeUrl = DEFAULT_NODE,
    save: Annotated[Path | None, typer.Option(help="Keep the node's evidence bundle here.", dir_okay=False)] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Ask no node: check against this bundle.", exists=True, dir_okay=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="With --evidence: the publisher's key (PEM or its file, base64, did:key).")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="With --evidence: a node (did:key) whose word counts; may be repeated.")
    ] = None,
    minimum: Annotated[Level, typer.Option("--min", help="With --evidence: what has to be proved.")] = Level.A3,
    release: Annotated[
        str | None, typer.Option(metavar="SOURCE/PLUGIN/VERSION", help="With --evidence: which release it has to be.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a file is genuine. Exit code 1 if it is not."""
    if evidence is None:
        if key or trust or release:
            fail("--key, --trust and --release go with --evidence: a node judges by what it knows itself", WRONG_USAGE)
        _ask_node(file, node, save, as_json)
    elif save is not None:
        fail("--save keeps what a node says; with --evidence no node is asked", WRONG_USAGE)
    else:
        _check_offline(file, evidence, roots_of(key, trust or []), minimum, release, as_json)


def _ask_node(file: Path, node: str, save: Path | None, as_json: bool) -> None:
    content = file.read_bytes()

    async def ask(client: NodeClient) -> tuple[dict[str, Any], Any]:
        answer = await client.post_bytes("verify", content, "application/zip")
        if save is None or answer["source_id"] is None:
            return answer, None
        named = {"sourceId": answer["source_id"], "plugin": answer["plugin_id"], "version": answer["version"]}
        return answer, (await client.get("verify", **named, bundle="1"))["bundle"]

    answer, bundle = run_with_client(node, None, ask)
    show_fields({name: value for name, value in answer.items() if name != "bundle"}, as_json)
    if save is not None:
        _keep_bundle(save, bundle)
    if not answer["valid"]:
        raise typer.Exit(FAILED)


def _keep_bundle(save: Path, bundle: Any) -> None:
    written = json.dumps(bundle, indent=1).encode()
    try:
        read_bundle(written)
        save.write_bytes(written)
    except Refusal as refusal:
        fail(f"the node gave no evidence bundle, nothing was saved: {refusal.sentence}")
    except OSError as error:
        fail(f"{save}: {error.strerror}")


def roots_of(key: str | None, trust: list[str]) -> TrustRoots:
    """What the options --key and --trust name; what cannot be read is wrong usage."""
    try:
        trusted = frozenset(map(parse_did_key, trust))
    except Refusal as refusal:
        fail(f"--trust: {refusal.sentence}", WRONG_USAGE)
    return TrustRoots(None if key is None else public_key_named("--key", key), trusted)


def _check_offline(
    file: Path, evidence: Path, roots: TrustRoots, minimum: Level, release: str | None, as_json: bool
) -> None:
    try:
        with evidence.open("rb") as stream:
            bundle = read_bundle(stream.read(bundle_bytes_max + 1))
    except (OSError, Refusal) as error:
        _unreadable(str(evidence), error)
    try:
        measured = measure(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        _unreadable(str(file), error)
    proof = prove(bundle, measured, roots, time.time_ns() // 1_000_000)
    is_wanted = release in (None, f"{bundle.source_id}/{bundle.plugin_id}/{bundle.version}")
    proved = proof.reaches(minimum)
    valid = proved and is_wanted and not proof.taken_back
    _show(_answer(bundle, proof, valid, measured.sha256, measured.size), as_json)
    if not is_wanted:
        fail(f"the bundle is about {bundle.source_id}/{bundle.plugin_id}/{bundle.version}, not about {release}")
    if proof.taken_back:
        fail("its publisher does not stand by it: " + "; ".join((*proof.taken_back, *proof.caveats)))
    if not proved:
        fail(f"this is no proof of {minimum}, only of {proof.level!r}: " + "; ".join(proof.caveats))


def _unreadable(what: str, error: Exception) -> NoReturn:
    sentence = error.sentence if isinstance(error, Refusal) else str(error)
    fail(f"{what} cannot be read: {sentence}", WRONG_USAGE)


def public_key_named(given_as: str, text: str) -> bytes:
    """A public key in any of its forms, or of the file that holds it as PEM; what is none is wrong usage."""
    if text.startswith("did:"):
        return _public_key(given_as, parse_did_key, text)
    try:
        is_file = Path(text).is_file()
        content = Path(text).read_text() if is_file else text
    except UnicodeDecodeError:
        fail(f"{given_as}: {text} holds no Ed25519 public key as PEM", WRONG_USAGE)
    except (OSError, ValueError):
        is_file, content = False, text  # no name that a file could have
    if "PRIVATE KEY" in content:
        fail(f"{given_as}: that is a private key, which is nobody else's business: give the public one", WRONG_USAGE)
    if not is_file and Path(text).suffix:
        fail(f"{given_as}: there is no file {text}, and it is no key either", WRONG_USAGE)
    return _public_key(given_as, parse_public_key, content)


def _public_key(given_as: str, parse: Callable[[str], bytes], text: str) -> bytes:
    try:
        return parse(text)
    except Refusal as refusal:
        fail(f"{given_as}: {refusal.sentence}", WRONG_USAGE)


def _show(answer: dict[str, Any], as_json: bool) -> None:
    """For people: what was proved and what was not, a line each."""
    if as_json:
        show_fields(answer, as_json)
        return
    assurance = answer["assurance"]
    show_fields(answer | {"assurance": assurance["level"]}, as_json)
    for title in ("evidence", "caveats"):
        for sentence in assurance[title]:
            console.print(f"[bold]{title}[/bold]  {text(sentence)}")


def _answer(bundle: EvidenceBundle, proof: Proof, proved: bool, sha256: bytes, size: int) -> dict[str, Any]:
    """The proof as the API would say it, and with which keys it was found."""
    return {
        "valid": proved,
        "source_id": bundle.source_id,
        "plugin_id": bundle.plugin_id,
        "version": bundle.version,
        "assurance": {
            "level": proof.level,
            "covers_bytes": proof.covers_bytes,
            "evidence": list(proof.evidence),
            "caveats": list(proof.caveats),
        },
        "sha256": sha256.hex(),
        "size": size,
        "key": did_key(proof.key.public),
        "key_known": proof.key.known,
        "release_key": None if proof.release is None else did_key(proof.release.key),
        "oracle": {"value": proof.key.oracle or None, "attested": proof.key.oracle_attested},
        "revoked": proof.revoked,
        "yanked": None if proof.word.yank is None else proof.word.yank.reason,
        "advisories": [
            {"advisory_id": one.advisory_id, "severity": one.severity, "summary": one.summary, "url": one.url}
            for one in proof.word.advisories
        ],
        "witnesses": [did_key(node) for node in proof.witnesses.all],
        "trusted_witnesses": [did_key(node) for node in proof.witnesses.trusted],
        "disputed_by": [did_key(node) for node in proof.witnesses.disputed_by],
    }
