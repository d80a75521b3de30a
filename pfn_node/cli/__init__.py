"""The command line: `pfn`. Arguments in, one process or one call out; nothing here decides anything.

Exit codes: 0 done, 1 failed, 2 wrong usage; `get` and `lock` have more (failing.py). Results go to stdout,
everything else to stderr.
"""

import errno
import gc
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import typer
from typer.core import TyperGroup

from pfn_node.cli.failing import fail, reason

# What a word of `pfn` runs: a function, or an `app` of more words. In the order of the help.
COMMANDS: Final = {
    "serve": "serve.serve",
    "demo": "mesh.demo",
    "simulate": "simulate.simulate",
    "verify": "verify.verify",
    "status": "remote.status",
    "get": "get.get",
    "lock": "lock.lock",
    "audit": "audit.audit",
    "export": "export.export",
    "fsck": "fsck.fsck",
    "backup": "backup.backup",
    "restore": "backup.restore",
    "mesh": "mesh.app",
    "publisher": "publisher.app",
    "identity": "identity.app",
    "artifacts": "artifacts.app",
    "sources": "remote.sources_app",
    "plugins": "remote.plugins_app",
    "peers": "remote.peers_app",
    "advisories": "notices.app",
    "keys": "remote.keys_app",
}


def _made(**settings: Any) -> typer.Typer:
    """Without markup: [default: ...] and did:key:... in help texts would be taken for it."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def _imported(module: str) -> ModuleType:
    """A module of this package. What an import makes stays: to search it for garbage, again and again while a node
    starts, would take a third of the start.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(f"{__name__}.{module}")
    finally:
        gc.freeze()
        if collects:
            gc.enable()


class _OnDemand(Mapping[str, Any]):
    """The commands by name. Each is imported when it is asked for: `pfn status` needs no web server."""

    def __getitem__(self, name: str) -> Any:
        module, _, member = COMMANDS[name].partition(".")
        found = getattr(_imported(module), member)
        around = _made()
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=name)
        else:
            around.command(name)(found)
        return typer.main.get_group(around).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Pfn(TyperGroup):
    """A group that imports its commands one at a time."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _OnDemand()  # type: ignore[assignment]  # nobody adds to it

    def invoke(self, ctx: Any) -> Any:
        """A disk that is full, a folder that is not there: every command ends with a sentence, whatever it did."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # who read the output is gone, as `head` is: nobody wants a sentence
                raise
            fail(reason(error))


app = _made(
    name="pfn",
    help="A node of the Plugin Federation Network, and the tools around it.",
    no_args_is_help=True,
    cls=_Pfn,
)


@app.callback()
def _pfn() -> None:
    pass


def main() -> None:
    """The entry point of the `pfn` command."""
    app()
