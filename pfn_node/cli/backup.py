"""`pfn backup` and `pfn restore`: a copy of a node's data folder, and back."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from pfn_node.cli.failing import FAILED, fail, reason
from pfn_node.cli.tables import moment
from pfn_node.data_folder import KEY_FILE
from pfn_node.maintenance.backup import make_backup
from pfn_node.maintenance.backup_format import BackupError
from pfn_node.maintenance.restore import restore_backup

Data = Annotated[Path, typer.Option("--data", help="The node's data folder.", file_okay=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    data: Data,
    to: Annotated[Path, typer.Option("--to", help="A new folder, or a new file whose name ends in .tar.")],
    with_key: Annotated[
        bool,
        typer.Option("--with-key", help="Copy node.key too: whoever reads the backup can then speak as this node."),
    ] = False,
    without_artifacts: Annotated[
        bool, typer.Option("--without-artifacts", help="Leave the zips out; the mesh and the publishers have them.")
    ] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Link artifacts instead of copying them: fast, but the same disk blocks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy a node's data folder, also while the node runs.

    The database in it is one committed state. Every artifact is checked on the way; what is damaged is left out and
    named, and the exit code is 1.
    """
    try:
        with shown_progress("copying") as progress:
            made = make_backup(
                data, to, with_artifacts=not without_artifacts, with_key=with_key, link=link, progress=progress
            )
    except (BackupError, OSError) as error:
        fail(reason(error))
    found = made.manifest
    damaged = [digest.hex() for digest in made.damaged]
    if as_json:
        facts = {"path": str(made.path), "node_id": found.node_id, "has_key": found.has_key, "made_at": found.made_at}
        print(json.dumps({**facts, "artifacts": found.artifacts, "bytes": found.artifact_bytes, "damaged": damaged}))
    else:
        print(f"{made.path}: the database and {found.artifacts} artifacts ({found.artifact_bytes} bytes)")
        if not found.has_key:
            print(
                f"{KEY_FILE} is not in it (--with-key); without that file nobody can be {found.node_id or 'the node'}"
            )
    if damaged:
        fail(f"{len(damaged)} artifacts are damaged here and not in the backup; see: pfn fsck --data {data}", FAILED)


def restore(
    source: Annotated[Path, typer.Option("--from", help="What `pfn backup` made: a folder or a .tar file.")],
    data: Data,
    as_json: Json = False,
) -> None:
    """Make a new data folder out of a backup that is whole.

    A folder that is not empty is refused, and nothing is there if anything of the backup is damaged.
    """
    try:
        with shown_progress("checking") as progress:
            found = restore_backup(source, data, progress=progress)
    except (BackupError, OSError) as error:
        fail(reason(error))
    if as_json:
        facts = {"node_id": found.node_id, "has_key": found.has_key, "made_at": found.made_at}
        print(json.dumps({"data": str(data), **facts, "artifacts": found.artifacts, "bytes": found.artifact_bytes}))
        return
    print(f"{data}: as it was at {moment(found.made_at)}, with {found.artifacts} artifacts")
    if found.has_key:
        print(f"it is {found.node_id}: never start it while another node runs with that key")
    else:
        print(
            f"the key of {found.node_id or 'the node'} is not in it: bring it with `pfn identity import KEY.pem --data "
            f"{data}` before the first start, or the node starts under a new name, which nobody pins"
        )


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for people; nothing where nobody looks."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
