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

from pfn_node.artifacts import moving
from pfn_node.artifacts.artifacts import STORED, Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.artifacts.store import place_of
from pfn_node.cli.failing import WRONG_USAGE, fail, reason
from pfn_node.data_folder import KEY_FILE, DataFolderError, open_data_folder
from pfn_node.settings import SettingsError, load_settings

FOLDER: Final = "folder"

Data = Annotated[Path, typer.Option("--data", help="The node's data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(help="Move a node's zips to an object store, and check them.", no_args_is_help=True)


@app.command()
def move(
    data: Data,
    to: Annotated[str, typer.Option("--to", help="s3://bucket/prefix or the URL of another object store; or: folder.")],
    delete: Annotated[
        bool,
        typer.Option("--delete", help="With --to folder: delete them in the store too, also for nodes that share it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Move the zips of a node to an object store, or back to its folder. The node must be stopped.

    Each is checked on its way, and leaves its place once it is whole in the other. A move that was cut off is gone on
    with by the same command. Afterwards set PFN_ARTIFACTS to the URL, or unset it. What gives access to the store comes
    from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and the like.
    """
    try:
        with _opened(data) as folder:
            done = _moved(folder, to, delete=delete)
    except (ArtifactError, DataFolderError, OSError) as error:
        fail(reason(error))
    _report(done, to, as_json=as_json)


@app.command()
def check(data: Data, as_json: Json = False) -> None:
    """Read everything through that a node has in its object store. The node must be stopped.

    What is damaged or gone there is named, and not listed any more: the node brings it again from the mesh or its
    publisher when it is asked for, or at the next sync. Objects that are not this node's are counted and left alone.
    """
    try:
        with _opened(data) as folder:
            artifacts = _with_store(folder, _place(folder))
            with _progress("reading") as progress:
                done = moving.read_store(artifacts, progress)
            others = [] if done.left else list(_strangers(artifacts))
    except (ArtifactError, DataFolderError, OSError) as error:
        fail(reason(error))
    if as_json:
        print(_as_json(done, sound=done.done, others=len(others)))
    else:
        print(f"{done.done} artifacts ({done.size} bytes) are sound; {len(others)} objects are not this node's")
    _leave_if_bad(done, f"{len(done.damaged)} were damaged or gone", said=as_json)


@contextmanager
def _opened(data: Path) -> Iterator[Path]:
    """The folder of the artifacts of a node that is stopped, and stays so meanwhile."""
    if not (data / KEY_FILE).exists():
        fail(f"there is no {KEY_FILE} in {data}: it is not the data folder of a node", WRONG_USAGE)
    try:
        settings = load_settings({"data": data})
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)
    with open_data_folder(settings) as folder:
        yield folder.artifacts


def _place(folder: Path) -> str:
    url = place_of(folder / STORED)
    if url is None:
        fail("nothing of this node lies in an object store")
    return url


def _with_store(folder: Path, url: str) -> Artifacts:
    try:
        artifacts = Artifacts(folder, sys.maxsize, ObjectStore(url))  # the cache is none of our business
    except ValueError as error:
        fail(str(error), WRONG_USAGE)
    artifacts.start()
    return artifacts


def _strangers(artifacts: Artifacts) -> Iterator[str]:
    assert artifacts.store is not None, "it was opened with one"
    return (key for key, _ in artifacts.store.strangers())


def _moved(folder: Path, to: str, *, delete: bool) -> moving.Round:
    artifacts = _with_store(folder, _place(folder) if to == FOLDER else to)
    with _progress("moving") as progress:
        if to == FOLDER:
            return moving.move_to_folder(artifacts, progress, delete=delete)
        return moving.move_to_store(artifacts, progress)


@contextmanager
def _progress(what: str) -> Iterator[moving.Progress]:
    console = Console(stderr=True)
    bars = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bars, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("")
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _report(done: moving.Round, to: str, *, as_json: bool) -> None:
    if as_json:
        print(_as_json(done, moved=done.done))
    else:
        print(f"{done.done} artifacts ({done.size} bytes) are now in {'the folder' if to == FOLDER else to}")
    _leave_if_bad(done, f"{len(done.damaged)} could not be moved", said=as_json)
    if not as_json:
        print("now unset PFN_ARTIFACTS" if to == FOLDER else f"now set PFN_ARTIFACTS={to}")


def _as_json(done: moving.Round, **counts: int) -> str:
    damaged = {sha256.hex(): why for sha256, why in done.damaged.items()}
    return json.dumps({**counts, "bytes": done.size, "left": done.left, "damaged": damaged})


def _leave_if_bad(done: moving.Round, sentence: str, *, said: bool) -> None:
    if not said:
        for why in done.damaged.values():
            print(why)
    if done.left:
        fail(f"{done.left} are left: {done.problem} The same command goes on.")
    if done.damaged:
        fail(f"{sentence}; the node brings them again when it can")
