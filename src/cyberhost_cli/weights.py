"""`cyberhost weights`: published weights, fetched, checked and converted; models put together and published."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import check_choice, expand_options
from cyberhost_model.errors import printable
from cyberhost_model.hub.registry import ADAPTERS

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Models or groups. [default: all]")]


@expand_options
def list_(names: Names = None, *, console: Console) -> None:
    """List the published weights that can be used, and what the models made of them can do.

    Of weights: size, licence, purpose, and whether they are on this machine. Of models: commands, memory, licence.
    """
    from cyberhost_model.hub.capabilities import MODELS, describe_capabilities
    from cyberhost_model.hub.inventory import select_weights, stored_files
    from cyberhost_model.hub.progress import format_size
    from cyberhost_model.hub.registry import GROUPS, REGISTRY

    found: list[dict[str, Any]] = []
    known = {**REGISTRY, **GROUPS}
    for weights in select_weights(name for name in names or REGISTRY if name in known or name not in MODELS):
        files = stored_files(weights)
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
        if not console.as_json:
            some = any(file.path for file in files)
            state = "here" if entry["here"] else "in part" if some else "-"
            print(f"{weights.name:<15} {format_size(weights.size):>8}  {state:<8} {weights.what} [{weights.licence}]")
    if not console.as_json and not names:
        for group, members in GROUPS.items():
            print(f"{group:<15} {'':>8}  {'':<8} together: {', '.join(members)}")
    models = {name: can for name, can in MODELS.items() if not names or name in names}
    if not console.as_json:
        for name, can in models.items():
            print(f"--model {name}: {describe_capabilities(can)}")
    groups = {group: list(members) for group, members in GROUPS.items()}
    console.data({"weights": found, "groups": groups, "models": {name: asdict(can) for name, can in models.items()}})


@expand_options
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, or one of its files.")],
    *,
    console: Console,
) -> None:
    """Print where weights are on this machine; nothing is fetched."""
    from cyberhost_model.hub.locate import locate

    where = locate(name, download=False)
    if not console.as_json:
        print(printable(str(where)))
    console.data({"name": name, "path": str(where)})


@expand_options
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Models, groups or Hub ids. [default: all]")
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Delete damaged files.")] = False,
    console: Console,
) -> None:
    """Compare the files on this machine with their checksums; the exit code is 6 where one is damaged."""
    from cyberhost_model.errors import ModelError
    from cyberhost_model.hub import inventory
    from cyberhost_model.hub.registry import REGISTRY

    asked = names or list(REGISTRY)
    files = [file for name in asked if "/" in name for file in inventory.stored_model_files(name)]
    files += [
        file
        for weights in inventory.select_weights(n for n in asked if "/" not in n)
        for file in inventory.stored_files(weights)
    ]
    if not names:  # weights that were never fetched are not missing
        here = {file.of for file in files if file.path}
        files = [file for file in files if file.of in here]
    rows = []
    with console.progress("Checking", len(files), "files") as tick:
        for done, (file, state) in enumerate(inventory.verify_files(files), 1):
            tick(done)
            rows.append(
                {"of": file.of, "file": file.name, "state": state, "path": str(file.path) if file.path else None}
            )
            if not console.as_json and not console.quiet:
                print(printable(f"{state:<8} {file.of} {file.name}"))
            if state == "wrong" and remove:
                inventory.remove_file(file)
    console.data({"files": rows, "removed": remove})
    wrong = [row for row in rows if row["state"] == "wrong"]
    missing = [row for row in rows if row["state"] == "missing" and names]
    if wrong or missing:
        bad, word = (wrong, "damaged") if wrong else (missing, "missing")
        hint = (
            "`cyberhost weights pull` fetches it again"
            if remove or not wrong
            else "run again with --remove, then fetch it again"
        )
        raise ModelError(f"{len(bad)} of {len(rows)} files {word}, such as {bad[0]['of']} {bad[0]['file']}; {hint}")


@expand_options
def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Models or groups of `weights list`, or Hub ids.")
    ],
    *,
    console: Console,
) -> None:
    """Fetch weights into the shared cache of Hugging Face: resumed, checked, each file once.

    HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and proxies act as in every program that uses the Hub.
    """
    console.silence_libraries()
    from cyberhost_model.hub import inventory
    from cyberhost_model.hub.locate import locate
    from cyberhost_model.hub.locate import pull as fetch

    models = [name for name in names if "/" in name]
    chosen = inventory.select_weights(name for name in names if "/" not in name)
    found: list[dict[str, Any]] = []
    for weights in chosen:
        fetch(weights)
        found.append(
            {"name": weights.name, "path": str(locate(weights.name, download=False)), "licence": weights.licence}
        )
    if models:
        from cyberhost_model.runtime.loading import find_model

        found += [{"name": name, "path": str(find_model(name)), "licence": None} for name in models]
    for entry in found:
        console.note(f"{entry['name']}: {entry['path']}")
    console.data({"pulled": found})


@expand_options
def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(ADAPTERS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the model.")],
    *,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=SOURCE", help="Another name, folder or file for a part; may be repeated."),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|fp16", help="How weights are stored.")] = "fp32",
    console: Console,
) -> None:
    """Make a model folder of published weights: safetensors, an account of every weight, the licences.

    Files that are not on this machine are fetched. A weight that cannot be mapped is an error that names it.
    """
    console.silence_libraries()
    check_choice("--precision", precision, "fp32", "fp16")
    if wrong := [one for one in part or [] if "=" not in one]:
        raise typer.BadParameter(f"--part must be PART=SOURCE, not {wrong[0]!r}")
    import torch

    from cyberhost_model.porting.convert import convert as take_over

    parts = dict(one.split("=", 1) for one in part or [])
    done = take_over(name, output, parts, dtype=torch.float32 if precision == "fp32" else torch.float16)
    console.note(f"{output}: {done.taken} weights taken, {done.initial} of ours are initialised")
    for reason, count in done.left_out.items():
        console.note(f"  {count} left out: {reason}")
    for name_, licence in done.licences.items():
        console.note(f"  {name_}: {licence}")
    console.data(
        {
            "model": str(output),
            "taken": done.taken,
            "initial": done.initial,
            "left_out": done.left_out,
            "licences": done.licences,
        }
    )


@expand_options
def assemble(
    network: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage 2 or distill.")] = None,
    codec: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage codec.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage audio.")] = None,
    detector: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage detector.")] = None,
    lips: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage lips, for the detector.")] = None,
    base: Annotated[str, typer.Option(metavar="MODEL", help="Model with the other parts.")] = "tiny",
    recipe: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Recipe whose [sampling] the model takes. [default: the preset's]"),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the model.")],
    console: Console,
) -> None:
    """Write a model folder (fp16 safetensors) from the runs of the stages; `--model DIR` takes it."""
    console.silence_libraries()
    from cyberhost_model.lab.training.assemble import assemble as put_together

    put_together(
        output, network=network, codec=codec, speech=audio, detector=detector, lips=lips, base=base, recipe=recipe
    )
    console.note(f"{output}: model written")
    console.data({"model": str(output)})


@expand_options
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the model.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub; made if there is none.")],
    *,
    licence: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Licence for the card, such as apache-2.0, where DIR has no README.md."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    console: Console,
) -> None:
    """Publish a model folder with its card; `--model USER/NAME` then takes it.

    Without a README.md a card is written into DIR first; edit it and push again to improve it.
    """
    console.silence_libraries()
    from cyberhost_model.runtime.publish import publish

    address = publish(folder, repo, licence=licence, private=private, message=message)
    console.note(f"{repo}: published ({address})")
    console.data({"repo": repo, "commit": address})


HELP = "Fetch, check, convert, put together and publish weights."
app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.command(name="list")(list_)
for command in (pull, verify, path, convert, assemble, push):
    app.command()(command)


@app.callback()
def _group() -> None:
    """Fetch, check, convert, put together and publish weights."""
