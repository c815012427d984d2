"""Fields of a dataclass as options: the metadata gives the command line its flags, help, bounds and choices.

`option` declares such a field, `options_of` lists them and `check_options` compares values with their bounds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cyberhost_model.errors import InputError

_KEY = "option"
SEEDS = (1 << 32) - 1
"""Largest seed: what every generator of random numbers takes, also multiplied by a million."""


@dataclass(frozen=True)
class Option:
    """Metadata of one field of a dataclass of options."""

    help: str
    """One or two short sentences; the default is named here only where it is not the field's own."""
    flags: tuple[str, ...] = ()
    """Names on the command line; without any, the field's name: `cache_blocks` is `--cache-blocks`."""
    metavar: str | None = None
    min: float | None = None
    """Smallest value, in the field's unit."""
    max: float | None = None
    """Largest value, in the field's unit."""
    choices: tuple[str, ...] = ()
    """The words that are allowed, for the field or, where it is a list, for each of its entries."""
    parse: Callable[[str], Any] | None = None
    """Reads the command line's text where it is neither a number nor a word. Raises InputError."""
    scale: float = 1
    """Units of the field in one unit of the command line: 60 for a field in seconds that is given in minutes."""

    @property
    def range(self) -> str:
        """Allowed values in words: "between 1 and 60", "at least 1", "auto, cpu or cuda", "finite"."""
        if self.min is None and self.max is None and not self.choices:
            return "finite"
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        if self.min is None or self.max is None:
            return f"at most {_plain(self.max or 0)}" if self.min is None else f"at least {_plain(self.min)}"
        return f"between {_plain(self.min)} and {_plain(self.max)}"

    def allows(self, value: Any) -> bool:
        """Return whether a value lies within the bounds and is among the choices; numbers must be finite."""
        if self.choices:
            return all(entry in self.choices for entry in ([value] if isinstance(value, str) else value))
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


def _plain(number: float) -> str:
    """Write a bound without an exponent where it is a whole number."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def option(
    default: Any,
    help: str,
    *flags: str,
    metavar: str | None = None,
    min: float | None = None,
    max: float | None = None,
    choices: tuple[str, ...] = (),
    parse: Callable[[str], Any] | None = None,
    scale: float = 1,
) -> Any:
    """Declare a field of a dataclass that is an option; the arguments are the fields of `Option`.

    default: `dataclasses.MISSING` for a field that must be given; a list is copied for each instance.
    """
    metadata = {_KEY: Option(help, flags, metavar, min, max, choices, parse, scale)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(kind: Any) -> dict[str, Option]:
    """List the options among the fields of a dataclass (or of its instance), in order."""
    return {entry.name: entry.metadata[_KEY] for entry in dataclasses.fields(kind) if _KEY in entry.metadata}


def check_options(settings: Any) -> None:
    """Compare the options of a dataclass with their bounds and choices; None passes where it is the default.

    Raises InputError that names the field, its allowed values and its value.
    """
    known = options_of(settings)
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if entry.name not in known or (value is None and entry.default is None):
            continue
        rule = known[entry.name]
        if not _allows(rule, value):
            raise InputError(f"{entry.name} must be {_range(rule, value)}, not {_shown(value)}")


def check_changes(kind: Any, values: Mapping[str, Any]) -> None:
    """Compare the values of some options of a dataclass with their bounds and choices. Raises InputError."""
    for name, rule in options_of(kind).items():
        if name in values and not _allows(rule, values[name]):
            raise InputError(f"{name} must be {_range(rule, values[name])}, not {_shown(values[name])}")


def _range(rule: Option, value: Any) -> str:
    """Return the allowed values in words; a bound that only machines set is left out for a value below the other."""
    if (
        rule.max is not None
        and rule.max >= SEEDS
        and isinstance(value, int)
        and rule.min is not None
        and value < rule.min
    ):
        return f"at least {_plain(rule.min)}"
    return rule.range


def _allows(rule: Option, value: Any) -> bool:
    try:
        return rule.allows(value)
    except TypeError:  # a word where a number belongs
        return False


def _shown(value: Any) -> str:
    """Write a value that was refused; a number of thousands of digits, which Python does not write, is not."""
    huge = isinstance(value, int) and abs(value) > 1 << 64
    return "a number of more than 19 digits" if huge else repr(value)
