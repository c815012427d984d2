"""`cyberhost weights list`, `path`, `verify`: what there is, where it is, whether it is whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Models or groups. [default: all]")]


@spread
def list_(names: Names = None, *, sink: Sink) -> None:
    """Weights of others that can be used: size, licence, purpose, and what of them is on this machine."""
    from cyberhost_model.hub.inventory import chosen, stored
    from cyberhost_model.hub.progress import human
    from cyberhost_model.hub.registry import GROUPS, REGISTRY

    found: list[dict[str, Any]] = []
    for weights in chosen(names or REGISTRY):
        files = stored(weights)
        entry = {
            "name": weights.name,
            "what": weights.what,
            "licence": weights.licence,
            "commercial": weights.commercial,
            "source": weights.url or weights.repo,
            "revision": weights.revision,
            "size": weights.size,
            "here": all(file.path for file in files),
            "converts": weights.adapter is not None,
            "files": [
                {"path": known.path, "size": known.size, "sha256": known.sha256, "here": file.path is not None}
                for known, file in zip(weights.files, files, strict=True)
            ],
        }
        found.append(entry)
        if not sink.as_json:
            some = any(file.path for file in files)
            state = "here" if entry["here"] else "in part" if some else "-"
            print(f"{weights.name:<15} {human(weights.size):>8}  {state:<8} {weights.what} [{weights.licence}]")
    if not sink.as_json and not names:
        for group, members in GROUPS.items():
            print(f"{group:<15} {'':>8}  {'':<8} together: {', '.join(members)}")
    sink.data({"weights": found, "groups": {group: list(members) for group, members in GROUPS.items()}})


@spread
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, or one of its files.")],
    *,
    sink: Sink,
) -> None:
    """Print where weights are on this machine; nothing is fetched."""
    from cyberhost_model.hub.locate import locate

    where = locate(name, download=False)
    if not sink.as_json:
        print(where)
    sink.data({"name": name, "path": str(where)})


@spread
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Models, groups or Hub ids. [default: all]")
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Delete what is damaged.")] = False,
    sink: Sink,
) -> None:
    """Compare what is on this machine with its checksums; damaged files end with exit code 6."""
    from cyberhost_model.errors import ModelError
    from cyberhost_model.hub import inventory
    from cyberhost_model.hub.registry import REGISTRY

    asked = names or list(REGISTRY)
    files = [file for name in asked if "/" in name for file in inventory.stored_model(name)]
    files += [file for weights in inventory.chosen(n for n in asked if "/" not in n) for file in inventory.stored(weights)]
    if not names:  # what was never fetched is not missing
        here = {file.of for file in files if file.path}
        files = [file for file in files if file.of in here]
    rows = []
    with sink.progress("Checking", len(files), "files") as tick:
        for done, (file, state) in enumerate(inventory.verified(files), 1):
            tick(done)
            rows.append({"of": file.of, "file": file.name, "state": state, "path": str(file.path) if file.path else None})
            if not sink.as_json and not sink.quiet:
                print(f"{state:<8} {file.of} {file.name}")
            if state == "wrong" and remove:
                inventory.remove(file)
    sink.data({"files": rows, "removed": remove})
    wrong = [row for row in rows if row["state"] == "wrong"]
    missing = [row for row in rows if row["state"] == "missing" and names]
    if wrong or missing:
        bad, word = (wrong, "damaged") if wrong else (missing, "missing")
        hint = "`cyberhost weights pull` fetches it again" if remove or not wrong else "run again with --remove, then fetch it again"
        raise ModelError(f"{len(bad)} of {len(rows)} files {word}, such as {bad[0]['of']} {bad[0]['file']}; {hint}")
