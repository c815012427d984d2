"""Libraries that only some commands need: imported when they are, and missing in one line."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import ResourceError


def need(module: str, extra: str = "data") -> Any:
    """Import an optional library. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ResourceError(f"this needs the library {module}: pip install 'cyberhost[{extra}]'") from None
