"""Digests of files and of settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..digests import hexdigest


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    return hexdigest(path, hashlib.sha256())


def settings_digest(*parts: Any) -> str:
    """Hex digest of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
