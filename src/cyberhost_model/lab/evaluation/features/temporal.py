"""Measure how a video changes from frame to frame: what moves, and what changes without moving.

Optical flow by DIS (Kroeger et al. 2016), as OpenCV has it: no weights, and the same on every machine.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo

FASTEST = 0.05
"""Share of the pixels, the fastest, whose mean speed is taken (VBench's dynamic degree, Huang et al. 2024)."""
_VERSION = 1


def flow_change(before: np.ndarray, after: np.ndarray, flow_of: cv2.DISOpticalFlow) -> tuple[float, float, float]:
    """Compare two frames uint8 (H, W, 3): (flicker in levels, speed in pixels a frame, mean change in levels).

    Flicker is the mean absolute difference that stays when `after` is warped back along the flow, over the pixels that
    are seen in both frames (warping error, Lai et al. 2018, "Learning Blind Video Temporal Consistency", whose test of
    occlusion is that of Sundaram et al. 2010). NaN where no pixel is. Speed is the mean length of the flow of the
    FASTEST pixels.
    """
    grey, next_grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
    forward, backward = flow_of.calc(grey, next_grey, None), flow_of.calc(next_grey, grey, None)
    change = float(cv2.absdiff(before, after).mean())
    speeds = np.linalg.norm(forward, axis=2).ravel()
    fastest = max(1, round(FASTEST * len(speeds)))
    speed = float(np.partition(speeds, -fastest)[-fastest:].mean())
    x, y = np.meshgrid(np.arange(grey.shape[1], dtype=np.float32), np.arange(grey.shape[0], dtype=np.float32))
    at_x, at_y = x + forward[..., 0], y + forward[..., 1]
    back = cv2.remap(backward, at_x, at_y, cv2.INTER_LINEAR)
    slack = np.square(forward).sum(2) + np.square(back).sum(2)
    seen = np.square(forward + back).sum(2) <= 0.01 * slack + 0.5
    seen &= (at_x >= 0) & (at_x <= grey.shape[1] - 1) & (at_y >= 0) & (at_y <= grey.shape[0] - 1)
    if not seen.any():
        return float("nan"), speed, change
    warped = cv2.remap(after, at_x, at_y, cv2.INTER_LINEAR)
    return float(cv2.absdiff(warped, before)[seen].mean()), speed, change


class FrameChanges:
    """Extract "flicker", "speed" and "change", float64 (T - 1,), and "size" (W, H). An `Extractor`."""

    name = "temporal"
    digest = f"temporal/{_VERSION}"
    fps = None
    uses_audio = False

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: np.ndarray | None = None
        self._found: list[tuple[float, float, float]] = []
        self._size = info.size

    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        for frame in frames:
            if self._last is not None:
                self._found.append(flow_change(self._last, frame, self._flow))
            self._last = frame.copy()

    def finish(self) -> dict[str, np.ndarray]:
        """Return the changes between all neighbours."""
        flicker, speed, change = np.asarray(self._found, float).reshape(-1, 3).T
        return {"flicker": flicker, "speed": speed, "change": change, "size": np.array(self._size)}
