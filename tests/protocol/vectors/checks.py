"""What each `check` of a vector means: the operation that it stands for, called with the case's own arguments."""

from collections.abc import Callable
from typing import Any

from pfn_protocol import names, publisher, versions
from pfn_protocol.acceptance import accept
from pfn_protocol.backing import Relation, Sighting, judge
from pfn_protocol.bundle_proof import Measured, TrustRoots, prove
from pfn_protocol.encoding import check_mesh_name, open_envelope, unpack
from pfn_protocol.equivocation import new_epoch
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import read_bundle
from pfn_protocol.export_index import check_export_path, open_index, read_shard
from pfn_protocol.identity import PrivateKey, check_public_key, did_key, parse_did_key, parse_public_key
from pfn_protocol.json_text import stringify
from pfn_protocol.link_secrets import SALTS, salt_of, shared_secret
from pfn_protocol.message_fields import open_answer, open_request
from pfn_protocol.notice_fields import affects
from pfn_protocol.publisher_notices import open_notice
from pfn_protocol.refetching import Draw, plan_disputed, plan_refetch
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, build_cells, reference_cells
from tests.protocol.vectors.case import plain, plain_value, read_input


def run(case: dict[str, Any]) -> tuple[str, Any]:
    """Return ("accepted", value) or ("refused", rule) as the code has it."""
    try:
        return "accepted", _CHECKS[case["check"]](case)
    except Refusal as refusal:
        return "refused", refusal.rule


def _input(case: dict[str, Any]) -> bytes:
    return read_input(case["input"])


def _key(case: dict[str, Any]) -> str:
    check_public_key(_input(case))
    return did_key(_input(case))


def _mesh_name(case: dict[str, Any]) -> str:
    check_mesh_name(case["text"])
    return str(case["text"])


def _envelope(case: dict[str, Any]) -> Any:
    opened = open_envelope(_input(case), mesh=case["mesh"], domain=case["domain"], bytes_max=case["bytes_max"])
    return {"author": opened.author.hex(), "id": opened.id.hex(), "body": plain_value(opened.value)}


def _announcement(case: dict[str, Any]) -> Any:
    accepted = accept(_input(case), mesh=case["mesh"], now_ms=case["now"])
    return {
        "id": accepted.id.hex(),
        "author": accepted.author.hex(),
        "subject": accepted.subject,
        "epoch": accepted.epoch,
        "seq": accepted.seq,
        "statement": plain(accepted.statement),
    }


def _statement(opened: tuple[object, bytes]) -> Any:
    return {"statement": plain(opened[0]), "release_key": opened[1].hex()}


def _notice(case: dict[str, Any]) -> Any:
    opened = open_notice(_input(case))
    return {"statement": plain(opened.notice), "signer": opened.signer.hex()}


def _head_fresh(case: dict[str, Any]) -> bool:
    return publisher.head_is_fresh(publisher.open_head(_input(case))[0], case["now"])


def _name(check: Callable[[str], None]) -> Callable[[dict[str, Any]], str]:
    def run_check(case: dict[str, Any]) -> str:
        check(case["text"])
        return str(case["text"])

    return run_check


def _request(case: dict[str, Any]) -> Any:
    received = open_request(
        _input(case), mesh=case["mesh"], path=case["path"], me=bytes.fromhex(case["me"]), now_ms=case["now"]
    )
    return {"sender": received.sender.hex(), "nonce": received.nonce.hex(), "message": plain(received.message)}


def _answer(case: dict[str, Any]) -> Any:
    return plain(
        open_answer(
            _input(case),
            mesh=case["mesh"],
            nonce=bytes.fromhex(case["nonce"]),
            sender_expected=bytes.fromhex(case["asked"]),
            path=case["path"],
        )
    )


def _cells(case: dict[str, Any]) -> str:
    """Both ways of making them give the same."""
    ids, salt, length = [bytes.fromhex(one) for one in case["ids"]], bytes.fromhex(case["salt"]), case["length"]
    made = build_cells(ids, [], salt, length).to_bytes()
    assert made == reference_cells(ids, salt, length)
    return made.hex()


def _cells_difference(case: dict[str, Any]) -> Any:
    theirs, mine = (Cells.from_bytes(bytes.fromhex(case[side])) for side in ("theirs", "mine"))
    found = theirs.subtract(mine).decode(bytes.fromhex(case["salt"]))
    return None if found is None else [sorted(one.hex() for one in side) for side in (found.theirs, found.mine)]


def _link_secret(case: dict[str, Any]) -> Any:
    secret = shared_secret(*(bytes.fromhex(case[part]) for part in ("private", "public", "nonces")))
    if secret is None:
        return None
    return [[salt.name.hex(), salt.key.hex()] for salt in (salt_of(secret, number) for number in range(SALTS))]


def _judgement(case: dict[str, Any]) -> Any:
    sightings = [
        Sighting(
            observer=bytes.fromhex(one["observer"]),
            relation=Relation[one["relation"].upper()],
            sha256=bytes.fromhex(one["sha256"]),
            size=one["size"],
            signed=one["signed"],
            release=one["release"],
            observed_at=one["observed_at"],
            path_keys=frozenset(bytes.fromhex(key) for key in one["path_keys"]),
            witness=Relation[one["witness"].upper()],
            headed=one["headed"],
        )
        for one in case["sightings"]
    ]
    held = None if case["held"] is None else bytes.fromhex(case["held"])
    known = {name: case[name] for name in ("key_known", "raw_oracle", "trust_depth")}
    return plain(judge(sightings, held=held, **known))


def _bundle(case: dict[str, Any]) -> Any:
    measured = Measured(bytes.fromhex(case["sha256"]), bytes.fromhex(case["sha384"]), case["size"])
    roots = TrustRoots(bytes.fromhex(case["key"]) or None, frozenset(bytes.fromhex(one) for one in case["trusted"]))
    found = prove(read_bundle(case["text"].encode()), measured, roots, case["now"])
    return {
        "level": found.level,
        "key": found.key.public.hex(),
        "known": found.key.known,
        "revoked": found.revoked,
        "yanked": found.word.yank is not None,
        "advisories": [one.advisory_id for one in found.word.advisories],
    }


def _export_index(case: dict[str, Any]) -> Any:
    index, node_id = open_index(case["text"].encode())
    return {"index": plain(index), "signed_by": node_id.hex()}


def _export_shard(case: dict[str, Any]) -> Any:
    rows = read_shard(case["text"].encode(), case["number"])
    return {"files": {path: plain(file) for path, file in rows.files.items()}, "gone": rows.gone}


_CHECKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "key": _key,
    "did-key": lambda case: parse_did_key(case["text"]).hex(),
    "public-key-text": lambda case: parse_public_key(case["text"]).hex(),
    "private-key-text": lambda case: PrivateKey.from_pem(case["text"]).seed.hex(),
    "mesh-name": _mesh_name,
    "value": lambda case: plain_value(unpack(_input(case), case["bytes_max"])),
    "envelope": _envelope,
    "announcement": _announcement,
    "epoch": lambda case: new_epoch(case["known"], case["now"], case["chance"]),
    "stringify": lambda case: stringify([(name, value) for name, value in case["members"]]).decode(),
    "metadata": lambda case: publisher.metadata_from_author_data(case["entry"]).decode(),
    "raw-member": lambda case: publisher.raw_member(case["text"], case["member"]),
    "release": lambda case: _statement(publisher.open_release(_input(case))),
    "head": lambda case: _statement(publisher.open_head(_input(case))),
    "head-fresh": _head_fresh,
    "keybind": lambda case: _statement(publisher.open_keybind(_input(case))),
    "notice": _notice,
    "affects": lambda case: affects(tuple((first, until) for first, until in case["ranges"]), case["version"]),
    "signature-text": lambda case: publisher.parse_signature(case["text"]).hex(),
    "source-id": _name(names.check_source_id),
    "source-id-of": lambda case: names.source_id_of(case["url"], case["username"]),
    "instance-url": lambda case: names.parse_instance_url(case["text"], allow_http=case["allow_http"]),
    "username": _name(names.check_username),
    "slug": _name(names.check_slug),
    "version": _name(names.check_version),
    "asset-url": lambda case: names.parse_asset_url(
        case["domain"], case["scheme"], case["author"], case["slug"], case["version"]
    ),
    "compare-versions": lambda case: versions.compare(case["first"], case["second"]),
    "request": _request,
    "answer": _answer,
    "cells": _cells,
    "cells-difference": _cells_difference,
    "link-secret": _link_secret,
    "judgement": _judgement,
    "bundle": _bundle,
    "export-index": _export_index,
    "export-shard": _export_shard,
    "export-path": _name(check_export_path),
    "refetch": lambda case: plan_refetch(case["holders"], case["now"], Draw(case["whether"], case["when"])),
    "refetch-disputed": lambda case: plan_disputed(case["planned"], case["now"], Draw(0.0, case["when"])),
    "set-digest": lambda case: SetDigest(bytes.fromhex(item) for item in case["ids"]).digest().hex(),
}
