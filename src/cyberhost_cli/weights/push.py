"""`cyberhost weights push`: publish a model on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the model.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub; made if there is none.")],
    *,
    licence: Annotated[
        str | None, typer.Option(metavar="NAME", help="Licence for the card, such as apache-2.0, where DIR has no README.md.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    sink: Sink,
) -> None:
    """Publish a model folder with its card; `--model USER/NAME` then takes it.

    Without a README.md a card is written into DIR first; edit it and push again to improve it.
    """
    sink.hush_libraries()
    from cyberhost_model.porting.publish import publish

    address = publish(folder, repo, licence=licence, private=private, message=message)
    sink.note(f"{repo}: published ({address})")
    sink.data({"repo": repo, "commit": address})
