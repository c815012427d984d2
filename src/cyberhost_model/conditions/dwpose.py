"""DWPose: the whole-body detector of the field (Yang et al., "Effective whole-body pose estimation with two-stages distillation", 2023)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..optional import need
from .boxes import by_area
from .keypoints import Keypoints
from .onnx_network import OnnxNetwork
from .wholebody import WholeBody, to_keypoints
from .yolox import PersonFinder

FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
"""In the registry of weights (`hub`)."""


class DWPose:
    """Finds people, then their points. Scores are the network's own: not clipped, not probabilities."""

    reads_lips = True
    """As the programs of AnimateAnyone take it to; not measured here."""

    def __init__(self, finder: PersonFinder, points: WholeBody) -> None:
        self.finder, self.points = finder, points

    @staticmethod
    def from_files(yolox: Path, pose: Path, device: str = "cpu") -> DWPose:
        """From `FILES`. Raises ModelError, and ResourceError where onnxruntime is not installed."""
        return DWPose(PersonFinder(OnnxNetwork(yolox, device)), WholeBody(OnnxNetwork(pose, device)))

    @staticmethod
    def save_pretrained(folder: str | Path) -> None:
        """Write `config.json` alone: a model names DWPose as its detector and does not hold it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"class": DWPose.__name__, "version": 1}, indent=2) + "\n")

    def people(self, frame: np.ndarray, most: int | None = None) -> list[Keypoints]:
        """uint8 (H, W, 3) RGB -> the people in it, at most `most`, the largest box first."""
        boxes, _ = self.finder(frame)
        boxes = boxes[by_area(boxes)[:most]]
        if not len(boxes):
            return []
        points, scores = self.points([frame] * len(boxes), boxes)
        size = frame.shape[1], frame.shape[0]
        return [to_keypoints(p, s, size) for p, s in zip(points, scores, strict=True)]

    def largest(self, frames: Sequence[np.ndarray]) -> tuple[list[Keypoints], np.ndarray]:
        """The largest person of each frame, and whether there is one, bool (n,).

        Where nobody is found the whole frame is taken for a person, as DWPose's public code does.
        """
        boxes, found = [], []
        for frame in frames:
            those, _ = self.finder(frame)
            found.append(len(those) > 0)
            boxes.append(those[by_area(those)[0]] if found[-1] else [0, 0, frame.shape[1], frame.shape[0]])
        points, scores = self.points(frames, np.asarray(boxes, np.float32))
        people = [to_keypoints(p, s, (f.shape[1], f.shape[0])) for p, s, f in zip(points, scores, frames, strict=True)]
        return people, np.array(found)


def load_dwpose(weights_dir: Path | None = None, download: bool = True, device: str = "cpu") -> DWPose:
    """DWPose with the weights of the registry; see `hub.locate`. Raises ModelError, NetworkError, and ResourceError without onnxruntime."""
    from ..hub import locate

    need("onnxruntime", "eval")  # before 350 MB are fetched for it
    yolox, pose = (locate(name, weights_dir, download) for name in FILES)
    return DWPose.from_files(yolox, pose, device)
