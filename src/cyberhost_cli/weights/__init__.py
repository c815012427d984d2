"""`cyberhost weights`: what others published, fetched, checked and converted; models put together and published. Each command has its file."""

from __future__ import annotations

import typer

from cyberhost_cli.weights.assemble import assemble
from cyberhost_cli.weights.convert import convert
from cyberhost_cli.weights.inventory import list_, path, verify
from cyberhost_cli.weights.pull import pull
from cyberhost_cli.weights.push import push

HELP = "Fetch, check, convert, put together and publish weights."
app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.command(name="list")(list_)
for command in (pull, verify, path, convert, assemble, push):
    app.command()(command)


@app.callback()
def _group() -> None:
    """Fetch, check, convert, put together and publish weights."""
