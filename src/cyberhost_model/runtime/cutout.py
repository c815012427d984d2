"""The person of a video cut out: before another background, or with an alpha channel.

The network's matte of the reference picture is moved as the picture is, by the optical flow from frame to picture. What
does not move keeps it as it is: it cannot flicker there. Arms that are laid over the frames are known, and added to the
matte of the picture without them. A frame's matte depends on that frame and the picture alone, so that a video that was
stopped goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from cyberhost_model.codecs.lay_arms import arms_share
from cyberhost_model.media.image import crop_back
from cyberhost_model.perception.matte import load_matte_net, person_colour, person_matte
from cyberhost_model.runtime.pose_source import DrivenArms, without_arms
from cyberhost_model.runtime.prepare import Reference, to_pixels

_CHANGED = (3.0, 12.0)  # levels: up to the first a pixel is as in the picture, from the second on it is another one
_REACH = 0.02  # shorter sides: what lies as near to a changed pixel counts as changed


class Cutout:
    """Cuts the person of a reference picture out of frames that show the picture in motion.

    background: uint8 (h, w, 3), which is laid behind, filling the frame; one pixel is a colour. None: frames get an
    alpha channel.
    """

    def __init__(self, background: np.ndarray | None, reference: Reference, arms: DrivenArms | None = None) -> None:
        self.background, self.arms, self.canvas = background, arms, reference.large_canvas
        picture, keypoints = reference.large, reference.picture_keypoints
        if arms is not None:
            picture = torch.lerp(picture, arms.layers.behind.to(picture), arms.layers.taken.to(picture))
            keypoints = without_arms(keypoints, arms.layers.sides)
        self.picture = crop_back(to_pixels(picture)[0], self.canvas)
        self.still = person_matte(load_matte_net(), self.picture, keypoints)
        self.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def frames(self, frames: Iterable[np.ndarray], first: int = 0) -> Iterator[np.ndarray]:
        """Cut the person out of frames, uint8 (H, W, 3): (H, W, 3), or (H, W, 4) where there is no background.

        first: number of the first of them in the video.
        """
        behind = None
        for number, frame in enumerate(frames, first):
            matte = self.matte(frame, number)
            colour = person_colour(frame, matte)
            if self.background is None:
                alpha = np.round(matte * 255)[..., None]
                yield np.concatenate([np.round(colour), alpha], -1).astype(np.uint8)
                continue
            if behind is None:
                behind = fill_frame(self.background, (frame.shape[1], frame.shape[0])).astype(np.float32)
            mixed = behind + matte[..., None] * (colour - behind)
            yield np.round(mixed).astype(np.uint8)

    def matte(self, frame: np.ndarray, number: int = 0) -> np.ndarray:
        """Measure how much of each pixel of a frame, uint8 (H, W, 3), is the person: float32 (H, W) in 0..1.

        number: of the frame in the video.
        """
        matte = self._without_arms(frame)
        if self.arms is None:
            return matte
        share = arms_share(self.arms.layers, self.arms.points(number, 1)[0])
        return np.maximum(matte, crop_back(share[..., None], self.canvas)[..., 0])

    def _without_arms(self, frame: np.ndarray) -> np.ndarray:
        changed = _changed(frame, self.picture)
        if not changed.any():
            return self.still
        # The matte of each pixel comes from where the picture shows what the frame shows there.
        flow = self.flow.calc(_grey(frame), _grey(self.picture), np.zeros((*frame.shape[:2], 2), np.float32))
        x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in flow.shape[1::-1]))
        place = x + flow[..., 0], y + flow[..., 1]
        moved = cv2.remap(self.still, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return self.still + changed * (moved - self.still)


def _grey(picture_u8: np.ndarray) -> np.ndarray:
    """Leave the colours of a picture, uint8 (H, W, 3), out: uint8 (H, W)."""
    return cv2.cvtColor(picture_u8, cv2.COLOR_RGB2GRAY)


def _changed(frame: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Measure where a frame is not as the picture: float32 (H, W) in 0..1."""
    low, high = _CHANGED
    reach = max(1, round(_REACH * min(frame.shape[:2])))
    differs = cv2.absdiff(frame, picture).max(-1)
    wide = cv2.dilate(cv2.blur(differs, (3, 3)), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))
    return cv2.blur(np.clip((wide.astype(np.float32) - low) / (high - low), 0, 1), (reach, reach))


def fill_frame(picture_u8: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge or reduce a picture, uint8 (h, w, 3), until it fills a frame of (W, H), and cut off what is outside."""
    if picture_u8.shape[:2] == (1, 1):
        return np.broadcast_to(picture_u8, (size[1], size[0], 3))
    return np.asarray(ImageOps.fit(Image.fromarray(picture_u8), size, Image.Resampling.LANCZOS))
