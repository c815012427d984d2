"""CyberHost: one picture of a person and a recording of speech become a video of that person speaking.

    from cyberhost_model import CyberHost
    CyberHost.from_pretrained("tiny").animate("ref.png", "speech.wav").save("out.mp4")

Names are imported when they are first used, so that the errors and the readers of input do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cyberhost_model import moved

_WHERE = {
    "CyberHost": "runtime.pipeline",
    "Animation": "runtime.pipeline",
    "CyberHostError": "errors",
    "InputError": "errors",
    "NoFaceError": "errors",
    "OutputError": "errors",
    "ModelError": "errors",
    "NetworkError": "errors",
    "ResourceError": "errors",
    "TrainingError": "errors",
}
__all__ = sorted(_WHERE)
moved.install()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
