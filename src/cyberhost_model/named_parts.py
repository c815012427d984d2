"""Parts that a model names and does not hold: DWPose and ArcFace, networks of others under licences of their own.

They are fetched when a model that names them is loaded. Where they cannot be had (no network, HF_HUB_OFFLINE, no onnxruntime) the model works with what
is inside the package, and says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .conditions.detector import KeypointDetector
from .conditions.dwpose import DWPose, load_dwpose
from .errors import NetworkError, ResourceError
from .hub.missing import missing_weights
from .optional import need

Describe = Callable[[np.ndarray], np.ndarray]
"""uint8 (H, W, 3) RGB -> (512,), of length 1; zeros where no face is found."""


def dwpose_or(embedded: Callable[[], KeypointDetector], download: bool = True) -> tuple[KeypointDetector | DWPose, list[str]]:
    """DWPose with the weights of the registry, or else the embedded detector and a line that says so. Raises ModelError and OutputError."""
    try:
        _may("dwpose", download)
        return load_dwpose(), []
    except (NetworkError, ResourceError) as error:
        return embedded(), [f"key points come from the embedded detector in place of the model's DWPose: {error}"]


def _may(name: str, download: bool) -> None:
    """Raises NetworkError for weights that are not on this machine and may not be fetched."""
    if not download and missing_weights([name]):
        raise NetworkError(f"{name} is not on this machine; `cyberhost weights pull {name}` fetches it")


def arcface_or_none(download: bool = True) -> tuple[Describe | None, list[str]]:
    """ArcFace with the weights of the registry (non-commercial research), or else None and a line that says so. Raises ModelError and OutputError."""
    from .evaluation.people.arcface import FILES, ArcFace
    from .hub import locate

    try:
        need("onnxruntime", "eval")  # before anything is fetched for it
        _may("arcface", download)
        detector, recogniser = (locate(name) for name in FILES)
        faces = ArcFace.from_files(detector, recogniser)
    except (NetworkError, ResourceError) as error:
        return None, [f"the model is not told whose face it is, for want of ArcFace: {error}"]
    return lambda picture_u8: np.nan_to_num(faces(picture_u8[None])[0]), []
