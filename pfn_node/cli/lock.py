"""`pfn lock`: which releases a build takes, from whom, and the proof, kept in a file beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from pfn_node.cli.client import AsJson, NodeClient
from pfn_node.cli.failing import EXIT_CODES, NOT_FOUND, NOT_VERIFIED, REFUSED, WRONG_USAGE, fail
from pfn_node.cli.fetching import disk_failures
from pfn_node.cli.get import (
    DEFAULT_LOCK_FILE,
    AllowAdvisories,
    AllowYanked,
    LockFile,
    Nodes,
    Trust,
    known_lock,
    nodes_of,
    run,
    wanted_of,
)
from pfn_node.cli.lock_file import Lock, Locked, lock_of, proved, write_lock
from pfn_node.cli.tables import show
from pfn_node.cli.verify import Level, roots_of
from pfn_node.cli.wanted import Found, NotGot, Terms, Wanted, ask, first_of
from pfn_node.outbound import Outbound
from pfn_protocol.bundle_proof import TrustRoots
from pfn_protocol.evidence_bundle import EvidenceBundle
from pfn_protocol.identity import did_key
from pfn_protocol.versions import compare


@dataclass(frozen=True, slots=True)
class _Locking:
    """One run of the command."""

    nodes: Sequence[str]
    lock: Lock
    terms: Terms
    keys: dict[str, bytes]  # of sources, as they were named with --key


def lock(
    wanted: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE/PLUGIN[@VERSION]]...")] = None,
    file: LockFile = DEFAULT_LOCK_FILE,
    update: Annotated[bool, typer.Option("--update", help="Look for newer versions; without names: of all.")] = False,
    node: Nodes = None,
    assurance: Annotated[Level, typer.Option(help="What has to be proved.")] = Level.A3,
    key: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=KEY", help="A publisher's key; also the one that follows.")
    ] = None,
    trust: Trust = None,
    allow_yanked: AllowYanked = False,
    allow_advisories: AllowAdvisories = False,
    as_json: AsJson = False,
) -> None:
    terms = Terms(roots_of(None, trust or []), assurance, allow_yanked=allow_yanked, allow_advisories=allow_advisories)
    locking = _Locking(nodes_of(node), known_lock(file), terms, _keys_of(key or []))
    asked = _asked(locking.lock, [wanted_of(text) for text in wanted or []], update=update)

    async def work(outbound: Outbound) -> list[dict[str, Any]]:
        rows = [await _lock_one(locking, one, outbound, update=update) for one in asked]
        for locked in locking.lock.plugins.values():
            proved(locking.lock, locked)
        with disk_failures(file):
            write_lock(file, locking.lock)
        return rows

    rows = run(work)
    columns = [("plugin", "plugin"), ("version", "version"), ("was", "was"), ("assurance", "assurance"), ("key", "key")]
    show({"file": str(file), "plugins": rows}, as_json, columns, rows)


lock.__doc__ = f"""Keep which releases exactly are wanted, with the proof.

`pfn get --locked` installs them, from any node. What is locked already stays; --update looks for newer versions, but
for those that were named by their number. A source's key is kept at its first time, and another one has to be named.
Nothing is written unless everything is proved.

{EXIT_CODES}
"""


def _keys_of(given: Sequence[str]) -> dict[str, bytes]:
    keys = {}
    for text in given:
        source, is_there, key = text.partition("=")
        if not is_there:
            fail(f"--key {text!r} is not SOURCE=KEY", WRONG_USAGE)
        root = roots_of(key, []).key
        assert root is not None
        keys[source] = root
    return keys


def _asked(known: Lock, named: list[Wanted], *, update: bool) -> list[Wanted]:
    if not named and not update:
        fail("name what is to be locked, or give --update", WRONG_USAGE)
    if named:
        return named
    return [one.wanted if one.named else replace(one.wanted, version=None) for one in known.plugins.values()]


async def _lock_one(locking: _Locking, wanted: Wanted, outbound: Outbound, *, update: bool) -> dict[str, Any]:
    """Bring one release into the lock, if it has to change; raise `NotGot`."""
    lock, before = locking.lock, locking.lock.plugins.get(wanted.plugin)
    key_from = "the lock file"
    if before is not None and not update and wanted.version in (None, before.version):
        after = replace(before, named=before.named or wanted.version is not None)
    else:
        found = await _look(locking, wanted, outbound)
        key_from, after = found.key_from, lock_of(found, named=wanted.version is not None)
        same_key = lock.keys.get(wanted.source_id) == found.key
        if before and same_key and (before.version, before.sha256) == (after.version, after.sha256):
            after = replace(before, named=after.named)  # with its evidence as it was
        lock.keys[wanted.source_id] = found.key
    lock.plugins[wanted.plugin] = after
    return {
        "plugin": wanted.plugin,
        "version": after.version,
        "was": before.version if before else None,
        "sha256": after.sha256.hex(),
        "assurance": after.assurance,
        "key": did_key(lock.keys[wanted.source_id]),
        "key_from": key_from,
    }


async def _look(locking: _Locking, wanted: Wanted, outbound: Outbound) -> Found:
    known, named_key = locking.lock.keys.get(wanted.source_id), locking.keys.get(wanted.source_id)
    key_from = "given" if named_key else "the lock file"
    roots = TrustRoots(named_key or known, locking.terms.roots.nodes)
    terms = replace(locking.terms, roots=roots, key_from=key_from)

    async def look(client: NodeClient) -> Found:
        found = await ask(client, wanted, terms)
        if known is not None and found.key not in (known, named_key):
            source = wanted.source_id
            raise NotGot(
                REFUSED,
                f"the key of {source} was followed by another one, as both signed; to take it, name it: "
                f"--key {source}={did_key(found.key)}",
            )
        _refuse_changed(found.bundle, locking.lock.plugins.get(wanted.plugin), named=wanted.version is not None)
        return found

    return await first_of(locking.nodes, outbound, look)


def _refuse_changed(bundle: EvidenceBundle, before: Locked | None, *, named: bool) -> None:
    """Raise `NotGot` for other bytes under a version, and for a way back that nobody asked for."""
    if before is None:
        return
    if bundle.version == before.version and bundle.sha256 != before.sha256:
        raise NotGot(NOT_VERIFIED, f"it has other bytes under {before.wanted} than those that are locked")
    if not named and compare(bundle.version, before.version) < 0:
        raise NotGot(
            NOT_FOUND,
            f"the newest that it has of {before.wanted.plugin} is {bundle.version}, older than what is locked; to go "
            f"back, name it: {before.wanted.plugin}@{bundle.version}",
        )
