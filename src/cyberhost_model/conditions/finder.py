"""What any whole-body detector that takes the embedded one's place must offer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from .keypoints import Keypoints


@runtime_checkable
class PeopleFinder(Protocol):
    """A detector that finds everybody whole, such as DWPose."""

    def people(self, frame: np.ndarray) -> list[Keypoints]:
        """uint8 (H, W, 3) RGB -> everybody in it, the largest first."""
