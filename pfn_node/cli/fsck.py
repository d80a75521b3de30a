"""`pfn fsck`: whether everything that a node keeps is as it was written."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pfn_node.cli.backup import Data, Json, shown_progress
from pfn_node.cli.failing import FAILED, WRONG_USAGE, fail, reason
from pfn_node.data_folder import DataFolderError
from pfn_node.maintenance.findings import Report
from pfn_node.maintenance.fsck import FsckError, check
from pfn_node.settings import SettingsError, load_settings


def fsck(
    data: Data,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what can be put right; the node must be stopped.")
    ] = False,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="With --repair: write a sound database anew too (adds checksums).")
    ] = False,
    mesh: Annotated[str | None, typer.Option("--mesh", help="The mesh that the node belongs to.")] = None,
    config: Annotated[Path | None, typer.Option(help="The TOML file that the node is started with.")] = None,
    as_json: Json = False,
) -> None:
    """Check a node's database and artifacts.

    Reads everything that the node keeps, also while it runs. Exit codes: 0 clean, 1 damage was found (also if it was
    repaired), 2 wrong usage.
    """
    try:
        settings = load_settings({"data": data, "mesh": mesh}, config)
        with shown_progress("checking") as progress:
            report = check(data, settings.mesh, repair=repair, rewrite_always=rewrite and repair, progress=progress)
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)
    except (DataFolderError, FsckError, OSError) as error:
        fail(reason(error))
    if as_json:
        print(json.dumps(asdict(report) | {"clean": report.is_clean}, ensure_ascii=False))
    else:
        _show(report)
    if not report.is_clean:
        raise typer.Exit(FAILED)


def _show(report: Report) -> None:
    for finding in report.findings:
        print(f"{'DAMAGE' if finding.is_damage else 'note'}  {finding.where}: {finding.what}")
        for name in finding.named:
            print(f"        {name}")
        print(f"        -> {finding.advice}")
    for sentence in report.repaired:
        print(f"repaired  {sentence}")
    looked_at = ", ".join(f"{count} {what}" for what, count in report.looked_at.items())
    print(f"{'clean' if report.is_clean else 'damaged'}: looked at {looked_at}")
