"""Documented module names of cyberhost 0.1 keep working for a release: they lead to where things are now, and say so.

Importing `cyberhost_model` installs the finder. It goes with 0.3.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "cyberhost_model.evaluation": "cyberhost_model.lab.evaluation",
    "cyberhost_model.evaluation.run": "cyberhost_model.lab.evaluation.run",
    "cyberhost_model.evaluation.report": "cyberhost_model.lab.evaluation.report",
    "cyberhost_model.evaluation.report.single": "cyberhost_model.lab.evaluation.report.single",
    "cyberhost_model.dataset": "cyberhost_model.lab.filmed",
    "cyberhost_model.dataset.manifest": "cyberhost_model.lab.filmed.manifest",
    "cyberhost_model.dataset.labels": "cyberhost_model.lab.filmed.labels",
    "cyberhost_model.presets": "cyberhost_model.config",
    "cyberhost_model.pipeline": "cyberhost_model.runtime.pipeline",
    "cyberhost_model.inputs": "cyberhost_model.media",
}
"""Module of 0.1 -> module of today."""


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of MOVED, after all other finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of MOVED; None for every other name."""
        return ModuleSpec(fullname, self, is_package=True) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module's names be those of the module it has become, with a DeprecationWarning."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}; the old name goes with cyberhost 0.3", DeprecationWarning, 2)
        found = importlib.import_module(new)
        module.__doc__ = found.__doc__
        module.__getattr__ = lambda name: getattr(found, name)  # type: ignore[method-assign]


def install() -> None:
    """Add the finder once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
