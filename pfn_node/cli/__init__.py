"""The command line: `pfn`. Arguments in, one process or one call out; nothing here decides anything.

Exit codes: 0 done, 1 failed, 2 wrong usage; `get` and `lock` have more (failing.py). Results go to stdout,
everything else to stderr.
"""

import typer

from pfn_node.cli import (
    artifacts,
    audit,
    backup,
    export,
    fsck,
    get,
    identity,
    lock,
    mesh,
    notices,
    publisher,
    remote,
    serve,
    simulate,
    verify,
)

app = typer.Typer(
    name="pfn",
    help="A node of the Plugin Federation Network, and the tools around it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # else [default: ...] and did:key:... in help texts are taken for markup
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(mesh.demo)
app.command("simulate")(simulate.simulate)
app.command("verify")(verify.verify)
app.command("status")(remote.status)
app.command("get")(get.get)
app.command("lock")(lock.lock)
app.command("audit")(audit.audit)
app.command("export")(export.export)
app.command("fsck")(fsck.fsck)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(mesh.app, name="mesh")
app.add_typer(publisher.app, name="publisher")
app.add_typer(identity.app, name="identity")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(remote.sources_app, name="sources")
remote.plugins_app.command("search")(get.search)
app.add_typer(remote.plugins_app, name="plugins")
app.add_typer(remote.peers_app, name="peers")
app.add_typer(notices.app, name="advisories")
app.add_typer(remote.keys_app, name="keys")


def main() -> None:
    """The entry point of the `pfn` command."""
    app()
