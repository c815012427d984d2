"""`cyberhost weights pull`: fetch weights before they are needed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Models or groups of `weights list`, or Hub ids.")
    ],
    *,
    sink: Sink,
) -> None:
    """Fetch weights into the shared cache of Hugging Face: resumed, checked, each file once.

    HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and proxies are those of every program that uses the Hub.
    """
    sink.hush_libraries()
    from cyberhost_model.hub import inventory
    from cyberhost_model.hub.locate import locate
    from cyberhost_model.hub.locate import pull as fetch

    models = [name for name in names if "/" in name]
    chosen = inventory.chosen(name for name in names if "/" not in name)
    found: list[dict[str, Any]] = []
    for weights in chosen:
        fetch(weights)
        found.append({"name": weights.name, "path": str(locate(weights.name, download=False)), "licence": weights.licence})
    if models:
        from cyberhost_model.runtime.loading import find_model

        found += [{"name": name, "path": str(find_model(name)), "licence": None} for name in models]
    for entry in found:
        sink.note(f"{entry['name']}: {entry['path']}")
    sink.data({"pulled": found})
