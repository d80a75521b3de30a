"""`pfn artifacts`: where a node keeps its zips."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pfn_node import artifact_moving
from pfn_node.artifact_store import place_of
from pfn_node.artifacts import STORED, ArtifactError, Artifacts
from pfn_node.cli.failing import WRONG_USAGE, fail
from pfn_node.data_folder import KEY_FILE, DataFolderError, open_data_folder
from pfn_node.object_store import ObjectStore
from pfn_node.settings import load_settings
from pfn_node.store_urls import check_store_url

FOLDER: Final = "folder"

app = typer.Typer(help="Move a node's zips between its data folder and an object store.", no_args_is_help=True)


@app.command()
def move(
    data: Annotated[Path, typer.Option("--data", help="The node's data folder.")],
    to: Annotated[str, typer.Option("--to", help="s3://bucket/prefix or the URL of another object store; or: folder.")],
    delete: Annotated[
        bool,
        typer.Option("--delete", help="With --to folder: delete them in the store too, also for nodes that share it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move the zips of a node to an object store, or back to its folder. The node must be stopped.

    Each is checked on its way, and leaves its place once it is whole in the other. A move that was cut off is gone on
    with by the same command. Afterwards set PFN_ARTIFACTS to the URL, or unset it. What gives access to the store comes
    from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and the like.
    """
    if not (data / KEY_FILE).exists():
        fail(f"there is no {KEY_FILE} in {data}: it is not the data folder of a node", WRONG_USAGE)
    try:
        with open_data_folder(load_settings({"data": data})) as folder:
            done = _moved(folder.artifacts, to, delete=delete)
    except (ArtifactError, DataFolderError, OSError) as error:
        fail(str(error))
    _report(done, to, as_json=as_json)


def _moved(folder: Path, to: str, *, delete: bool) -> artifact_moving.Moved:
    if to == FOLDER:
        url = place_of(folder / STORED)
        if url is None:
            fail("nothing of this node lies in an object store")
    else:
        try:
            url = check_store_url(to)
        except ValueError as error:
            fail(str(error), WRONG_USAGE)
    artifacts = Artifacts(folder, sys.maxsize, ObjectStore(url))  # the cache is none of our business
    artifacts.start()
    with _progress() as progress:
        if to == FOLDER:
            return artifact_moving.move_to_folder(artifacts, progress, delete=delete)
        return artifact_moving.move_to_store(artifacts, progress)


@contextmanager
def _progress() -> Iterator[artifact_moving.Progress]:
    console = Console(stderr=True)
    bars = (TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bars, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("")
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _report(done: artifact_moving.Moved, to: str, *, as_json: bool) -> None:
    if as_json:
        damaged = {sha256.hex(): why for sha256, why in done.damaged.items()}
        print(json.dumps({"moved": done.moved, "bytes": done.size, "left": done.left, "damaged": damaged}))
    else:
        print(f"{done.moved} artifacts ({done.size} bytes) are now in {'the folder' if to == FOLDER else to}")
        for why in done.damaged.values():
            print(why)
    if done.left:
        fail(f"{done.left} are left: {done.problem} The same command goes on.")
    if done.damaged:
        fail(f"{len(done.damaged)} could not be moved, for these reasons; the node brings them again when it can")
    if not as_json:
        print("now unset PFN_ARTIFACTS" if to == FOLDER else f"now set PFN_ARTIFACTS={to}")
