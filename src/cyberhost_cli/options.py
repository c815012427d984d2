"""Options that several commands share, written once: a dataclass whose fields are Typer options, spread into a command's signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from cyberhost_cli.output import Sink

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command one or more of whose parameters are dataclasses of options -> the same command with those options in their place.

    A `Sink` is such a parameter too: it becomes --quiet, --json and --debug.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if kind is Sink:
            groups[name] = Sink
            flat += [_keyword("quiet", Quiet, False), _keyword("as_json", Json, False), _keyword("debug", Debug, False)]
        elif is_dataclass(kind):
            groups[name] = kind  # type: ignore[assignment]
            inner = get_type_hints(kind, include_extras=True)
            flat += [_keyword(f.name, inner[f.name], inspect.Parameter.empty if f.default is MISSING else f.default) for f in fields(kind)]
        else:
            flat.append(_keyword(name, hints[name], parameter.default))
    members = {name: ["quiet", "as_json", "debug"] if kind is Sink else [f.name for f in fields(kind)] for name, kind in groups.items()}  # type: ignore[arg-type]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        grouped = {name: kind(**{m: values.pop(m) for m in members[name]}) for name, kind in groups.items()}
        command(**values, **grouped)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in flat}
    del run.__wrapped__  # type: ignore[attr-defined]  # or the first signature would be found behind this one
    return run


def given(command: Callable[..., None], about: str, **values: Any) -> Callable[..., None]:
    """A command with some options given, and so without them; `about` is its help."""
    hints = get_type_hints(command, include_extras=True)
    left = [_keyword(name, hints[name], p.default) for name, p in inspect.signature(command).parameters.items() if name not in values]

    def run(**others: Any) -> None:
        command(**values, **others)

    run.__signature__ = inspect.Signature(left)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in left}
    run.__doc__ = about
    return run


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    # Python 3.10 reads `x: Annotated[...] = None` as Optional[Annotated[...]], which would hide the option.
    kind = next((k for k in get_args(kind) if get_origin(k) is Annotated), kind) if get_origin(kind) is Union else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
