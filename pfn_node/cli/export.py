"""`pfn export`: what consumers may ask of the node, as signed files for an object store or CDN; and checking those."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.cli.client import AsJson
from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail
from pfn_node.cli.tables import moment, show, show_fields
from pfn_node.data_folder import KEY_FILE, DataFolderError, load_or_make_key
from pfn_node.export.answers import Answers
from pfn_node.export.kept_zips import KeptZips, ZipsUnavailable
from pfn_node.export.places import PlaceError, place_named
from pfn_node.export.reading import IndexUnreadable, read_index, wrong_files
from pfn_node.export.writing import Export, Written
from pfn_node.settings import Settings, SettingsError, load_settings
from pfn_node.store.database import StoreError, reader
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_did_key
from pfn_protocol.names import parse_instance_url

WRONG_SHOWN_MAX = 1_000


def export(
    to: Annotated[str | None, typer.Option(help="Write the files there: a folder, or s3://bucket/prefix.")] = None,
    check: Annotated[
        str | None, typer.Option(help="Check the files there instead, without any node: a folder, or s3://...")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The node's data folder; the node may run.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The public URL at which the files will stand [default: the node's].")
    ] = None,
    mesh: Annotated[str | None, typer.Option(help="The mesh that the node belongs to.")] = None,
    config: Annotated[Path | None, typer.Option(help="The node's TOML file of settings.")] = None,
    signer: Annotated[
        str | None, typer.Option(help="With --check: the node (did:key) that has to have signed the index.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write consumers' answers as signed files; or check such files.

    Only what changed is written, and the index last. Composer's files, WordPress' plugin answers, feeds, zips, evidence
    bundles and the catalogue are in it. Access to a bucket comes from the environment (AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL...). Exit codes: 0 done and sound, 1 failed or something is
    wrong with the files, 2 wrong usage.
    """
    if (to is None) == (check is None):
        fail("name the place: --to to write files there, or --check to check those that are there", WRONG_USAGE)
    if to is None and (data, url, mesh, config) != (None,) * 4:
        fail("--data, --url, --mesh and --config go with --to: files are checked without any node", WRONG_USAGE)
    if to is not None and signer is not None:
        fail("--signer goes with --check: what is written is signed by the node itself", WRONG_USAGE)
    try:
        if to is not None:
            _write(to, _settings(data, mesh, config), url, as_json)
        elif check is not None:
            _check(check, signer, as_json)
    except (PlaceError, IndexUnreadable, ZipsUnavailable, ArtifactError, StoreError, DataFolderError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; the same command goes on where it was")


def _settings(data: Path | None, mesh: str | None, config: Path | None) -> Settings:
    try:
        return load_settings({"data": data, "mesh": mesh}, config)
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)


def _write(to: str, settings: Settings, url: str | None, as_json: bool) -> None:
    given = url or settings.url
    if given is None:
        fail("say with --url where the files will stand: answers name other files by it", WRONG_USAGE)
    try:
        base = parse_instance_url(given, allow_http=True)
    except Refusal as refusal:
        fail(f"--url: {refusal.sentence}", WRONG_USAGE)
    if not (settings.data / KEY_FILE).exists():
        fail(f"there is no {KEY_FILE} in {settings.data}; --data is the data folder of a node")
    pem = settings.private_key.get_secret_value() if settings.private_key else None
    key = load_or_make_key(settings.data, pem)
    zips = KeptZips(settings.data / "artifacts", ObjectStore(settings.artifacts) if settings.artifacts else None)
    zips.start()
    now = time.time()
    with reader(settings.data / "node.db") as db, place_named(to, make=True) as place, _progress("plugins") as tell:
        answers = Answers(db, zips, settings.mesh, key.public, base, int(now))
        done = Export(answers, place, key, int(now * 1_000)).run(tell)
    _show_written(done, did_key(key.public), as_json)


def _show_written(done: Written, node_id: str, as_json: bool) -> None:
    answer = {
        "files": done.files,
        "bytes": done.size,
        "written": done.written,
        "written_bytes": done.written_bytes,
        "removed": done.removed,
        "left_out": done.left_out,
        "damaged": done.damaged,
        "change": done.change,
        "node_id": node_id,
    }
    show_fields(answer, as_json)
    if done.damaged:
        fail(f"{len(done.damaged)} artifacts are damaged on its disk or cannot be read, and were not exported")


def _check(place_name: str, signer: str | None, as_json: bool) -> None:
    try:
        expected = None if signer is None else parse_did_key(signer)
    except Refusal as refusal:
        fail(f"--signer: {refusal.sentence}", WRONG_USAGE)
    with place_named(place_name, make=False) as place, _progress("files") as tell:
        signed = read_index(place)
        if expected not in (None, signed.node_id):
            fail(f"the index is signed by {did_key(signed.node_id)}, not by {signer}")
        wrong = list(wrong_files(place, signed, tell))
    answer = {
        "sound": not wrong,
        "node_id": did_key(signed.node_id),
        "made": signed.index.made_ms // 1_000,
        "change": signed.index.change,
        "url": signed.index.url,
        "files": signed.index.files,
        "wrong": [{"path": one.path, "what": one.what} for one in wrong],
    }
    if as_json:
        show_fields(answer, as_json)
    else:
        shown = {name: value for name, value in answer.items() if name != "wrong"}
        show_fields(shown | {"made": moment(signed.index.made_ms // 1_000)}, as_json)
        if wrong:
            rows = [{"path": one.path, "what": one.what} for one in wrong[:WRONG_SHOWN_MAX]]
            show(answer, as_json, [("file", "path"), ("is", "what")], rows)
    if wrong:
        fail(f"{len(wrong)} files are not what the node signed", FAILED)


@contextmanager
def _progress(of: str) -> Iterator[Callable[[int, int], object]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(of, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
