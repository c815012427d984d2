"""Options of commands: from a dataclass of options (`cyberhost_model.options`) to what Typer parses, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from cyberhost_cli.exit_status import Interrupted
from cyberhost_model.errors import InputError
from cyberhost_model.media.files import unused_removed
from cyberhost_model.options import Option, check_changes, option, options_of

T = TypeVar("T")
RUN = "run"
LOCKS = (".lock",)
"""Files that a command makes in its output folder before there is any output."""


class RunByDefault(TyperGroup):
    """A group of commands that is itself its command `run`: `eval VIDEOS ...` is `eval run VIDEOS ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` in front of arguments that begin with no command's name."""
        own = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in own else [RUN, *args])


@dataclass(frozen=True)
class Changes(Generic[T]):
    """The options of the dataclass T that were typed; those that were not keep what T's instance says."""

    values: dict[str, Any]

    def apply(self, settings: T) -> T:
        """Replace the fields that were typed."""
        return dataclasses.replace(settings, **self.values)  # type: ignore[type-var]


@dataclass(frozen=True)
class WritingOptions:
    """How a video is written. Options that only some commands have are off in the others."""

    overwrite: bool = option(False, "Replace OUT if it exists.")
    resume: bool = option(True, "Go on with a video that was stopped: its state lies beside OUT until it is whole.")
    report: Path | None = None
    record: bool = option(
        False, "Write OUT with .json for its suffix: all that decides about the frames, for cyberhost rerun."
    )
    plan: bool = False


@dataclass(frozen=True)
class OutputOptions(WritingOptions):
    """What becomes of a video that is made."""

    report: Path | None = option(
        None,
        "Measure the video and name its weak seconds: a page (.html), or a folder with the numbers too.",
        metavar="FILE|DIR",
    )
    plan: bool = option(False, "Check picture and sound, estimate downloads, time and memory; make nothing.")


Ref = Annotated[
    Path, typer.Argument(metavar="REF", help="Picture of a person: PNG, JPEG, WebP and others; - is standard input.")
]
MoreRefs = Annotated[
    list[Path] | None,
    typer.Option(
        "--ref",
        metavar="PICTURE",
        help="A further picture of the person, which shows what REF hides; may be repeated. Not for every model.",
    ),
]
Out = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="The video to write (.mp4, .m4v, .mov, .mkv, .webm).")
]
BodyMovement = Annotated[
    float | None,
    typer.Option(metavar="X", min=0, max=1, help="How far the body moves: 0 in place, 1 lively. [default: 0.1]"),
]
Gestures = Annotated[
    bool | None,
    typer.Option(
        "--gestures/--no-gestures",
        help="Hands that REF shows gesture with the speech, or move as the network lets them. [default: the model's]",
    ),
]
SPEECH = "Speech: WAV, FLAC, MP3, M4A, OGG, or the sound of a video; - is standard input, silence:6 six quiet seconds."


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Put the options of dataclasses in the place of the parameters that are annotated with them.

    A parameter `settings: GenerationConfig` becomes an option for each of its fields that `option` declared; the
    command is called with an instance. `changes: Changes[LoopConfig]` becomes the same options without defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: group for name, hint in hints.items() if (group := _Group.of(hint)) is not None}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            flat += groups[name].parameters()
        else:
            flat.append(_keyword(name, hints[name], parameter.default))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):  # NaN lies within any bounds
                raise typer.BadParameter(f"--{name.replace('_', '-')} must be a finite number, not {value}")
        output = values.get("output") or values.get("run")
        built = {name: group.build(values) for name, group in groups.items()}
        try:
            with unused_removed(output, *LOCKS) if isinstance(output, Path) else contextlib.nullcontext():
                command(**values, **built)
        except KeyboardInterrupt as stop:
            raise Interrupted(stop) from None

    del run.__wrapped__  # type: ignore[attr-defined]  # or Typer would read the signature of `command`
    return _with_signature(run, flat)


def check_choice(name: str, value: str, *choices: str) -> None:
    """Compare the value of the option `name` with its choices. Raises BadParameter."""
    if value not in choices:
        raise typer.BadParameter(f"{name} must be {' or '.join(choices)}, not {value!r}")


@contextlib.contextmanager
def input_errors_as_usage() -> Iterator[None]:
    """Turn an InputError that a typed value causes into the parser's BadParameter, and so into exit code 2."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def leave_out(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Take options that would do nothing in a command away from it; they keep what None means."""
    return lambda command: bind_options(command, command.__doc__ or "", **dict.fromkeys(names))


def bind_options(command: Callable[..., None], help: str, **values: Any) -> Callable[..., None]:
    """Fix some options of a command; they are no longer among its options."""
    hints = get_type_hints(command, include_extras=True)
    left = [
        _keyword(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in values
    ]

    def run(**others: Any) -> None:
        command(**values, **others)

    run.__doc__ = help
    return _with_signature(run, left)


@dataclass(frozen=True)
class _Group:
    """A parameter of a command that stands for the options of a dataclass."""

    kind: type
    changes: bool
    """Whether the command takes `Changes`: then no option has a default."""

    @staticmethod
    def of(hint: Any) -> _Group | None:
        """Read an annotation; None where it is that of an ordinary parameter."""
        if get_origin(hint) is Changes:
            return _Group(get_args(hint)[0], True)
        return _Group(hint, False) if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None

    def parameters(self) -> list[inspect.Parameter]:
        """List a parameter for each option, as Typer reads them."""
        hints, defaults = get_type_hints(self.kind), {f.name: _default(f) for f in dataclasses.fields(self.kind)}
        return [
            _parameter(name, hints[name], None if self.changes else defaults[name], rule)
            for name, rule in options_of(self.kind).items()
        ]

    def build(self, values: dict[str, Any]) -> Any:
        """Take the options of this group out of the parsed values and build the dataclass, or the changes."""
        parsed = {name: _field_value(values.pop(name), rule) for name, rule in options_of(self.kind).items()}
        with input_errors_as_usage():
            if self.changes:
                changes = {name: value for name, value in parsed.items() if value not in (None, [])}
                check_changes(self.kind, changes)
                return Changes(changes)
            return self.kind(**parsed)


def _default(entry: dataclasses.Field[Any]) -> Any:
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return inspect.Parameter.empty if entry.default is MISSING else entry.default


def _parameter(name: str, hint: Any, default: Any, rule: Option) -> inspect.Parameter:
    """Build the parameter of one option: its type, flags, bounds and help."""
    kind: Any = next(k for k in get_args(hint) if k is not type(None)) if _is_union(hint) else hint
    flags = list(rule.flags) or [f"--{name.replace('_', '-')}"]
    settings: dict[str, Any] = {"metavar": rule.metavar, "help": rule.help}
    if rule.parse is not None:
        kind, settings["parser"] = Any, _parser(rule.parse)  # Typer would take a tuple as two arguments
    elif rule.choices:
        word = _words(name, rule.choices)
        kind = list[word] if get_origin(kind) is list else word  # type: ignore[valid-type]
        default = word(default) if isinstance(default, str) else default
    elif kind is bool and default is not False:
        flags[0] = f"{flags[0]}/--no-{flags[0].removeprefix('--')}"
    elif kind in (int, float):
        settings["min"], settings["max"] = (
            bound / rule.scale if bound and rule.scale != 1 else bound for bound in (rule.min, rule.max)
        )
        default = default / rule.scale if isinstance(default, float) else default
    if default is None and kind is not Any:
        kind = kind | None
    return _keyword(name, Annotated[kind, typer.Option(*flags, **settings)], default)


def _words(name: str, choices: tuple[str, ...]) -> Any:
    """Make the enum that Typer reads choices from."""
    return Enum(name, {choice: choice for choice in choices}, type=str)  # type: ignore[misc]


def _parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap a reader so that it raises the error that the parser of a command line expects."""

    @functools.wraps(parse)
    def run(text: str) -> Any:
        with input_errors_as_usage():
            return parse(text)

    return run


def _field_value(value: Any, rule: Option) -> Any:
    """Convert what Typer parsed to the field's value: words instead of enums, in the field's unit."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_field_value(entry, rule) for entry in value]
    return value if rule.scale == 1 or value is None else value * rule.scale


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    # Python 3.10 reads `x: Annotated[...] = None` as Optional[Annotated[...]], which would hide the option.
    kind = next((k for k in get_args(kind) if get_origin(k) is Annotated), kind) if get_origin(kind) is Union else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _with_signature(run: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
