"""`cyberhost data`: training material, made or prepared from videos. Each command has its file."""

from __future__ import annotations

import typer

from cyberhost_cli.data.encode import encode
from cyberhost_cli.data.inspection import inspect
from cyberhost_cli.data.prepare import prepare
from cyberhost_cli.data.synth import synth

app = typer.Typer(help="Make training data.", no_args_is_help=True, rich_markup_mode=None)
for command in (prepare, inspect, synth, encode):
    app.command()(command)
