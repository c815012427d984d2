"""The key point detector that stage detector starts from: of a run, or of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cyberhost_model.errors import ModelError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.lab.training.init import averaged_weights, fill
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.lip_reader import LipReader
from cyberhost_model.reading import Unreadable, is_folder, one_line
from cyberhost_model.runtime.loading import find_model


def detector_of_weights(weights: Mapping[str, Tensor], source: str | Path) -> KeypointDetector:
    """Make the detector that has these weights; their names say whether it has batch norms and a lip reader.

    Raises TrainingError where they are another part's.
    """
    lips = LipReader() if any(name.startswith("lips.") for name in weights) else None
    detector = KeypointDetector(norm=any(name.endswith("running_var") for name in weights), lips=lips)
    fill(detector, weights, source)
    return detector


def detector_of(source: str) -> KeypointDetector:
    """Load the detector of a run of stage detector, or of a model ("tiny", a folder).

    Raises TrainingError where there is none of this kind.
    """
    if not is_folder(Path(source) / "last"):
        try:
            return KeypointDetector.from_pretrained(find_model(source) / "detector")
        except ModelError as error:
            raise TrainingError(f"cannot start from it: {source} is no run or model ({error})") from error
    try:
        return detector_of_weights(read_safetensors(averaged_weights(Path(source))), source)
    except (OSError, Unreadable) as error:
        raise TrainingError(f"{source}: cannot start from it ({one_line(error)}); give a run or a model") from error
