"""Random framing and colour of stills: crops around the person, mirror images, exposure and tint."""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.perception.crops import HEAD_FACES
from cyberhost_model.perception.keypoints import without_hands

# (W, H) of training pictures: about 256 x 256 pixels, sides multiples of 64.
SIZES = ((256, 256), (192, 320), (320, 192), (256, 320), (192, 256))

# Each of the 68 face points -> the point on the other side: jaw, brows, nose, eyes, lips.
_MIRRORED_FACE = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *(67, 66, 65),
]


def mirrored(still: Still) -> Still:
    """Mirror a still; left and right key points change places."""
    k = still.keypoints.map(lambda p: np.stack([1 - p[..., 0], p[..., 1]], -1).astype(np.float32))
    body = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    k.body, k.body_score = k.body[body], k.body_score[body]
    k.hands, k.hands_score = k.hands[::-1].copy(), k.hands_score[::-1].copy()
    k.face, k.face_score = k.face[_MIRRORED_FACE], k.face_score[_MIRRORED_FACE]
    return Still(still.picture_u8[:, ::-1].copy(), still.mask[:, ::-1].copy(), k, still.identity)


def random_framing(still: Still, rng: np.random.Generator, size: tuple[int, int]) -> Still:
    """Crop a still at random to the aspect of `size` (W, H), from the widest view to head and shoulders.

    The face is whole and in the upper part.
    """
    (w, h), (fw, fh) = size, still.size
    face = still.keypoints.face * [fw, fh]
    height = float(np.linalg.norm(face[8] - face[[19, 24]].mean(0)))
    widest = min(fw / w, fh / h)  # pixels of the still a pixel of the crop
    closest = height / (0.42 * min(w, h))
    zoom = min(float(np.exp(rng.uniform(np.log(min(closest, widest)), np.log(widest)))), widest)
    if rng.random() < 0.4:
        zoom = widest
    cw, ch = w * zoom, h * zoom
    cx, cy = face.mean(0)
    x0 = cx - cw * rng.uniform(0.38, 0.62)
    y0 = cy - ch * rng.uniform(0.25, 0.5)
    x0, y0 = np.clip(x0, 0, fw - cw), np.clip(y0, 0, fh - ch)
    out = crop_still(still, (float(x0), float(y0), float(x0 + cw), float(y0 + ch)), size)
    return mirrored(out) if rng.random() < 0.5 else out


def random_head(still: Still, rng: np.random.Generator, size: tuple[int, int]) -> Still:
    """Crop a still about the head as `crops.head_crop` does, a little off, and leave out the hands.

    For talking heads (A2V-H, section 4.2).
    """
    (w, h), (fw, fh) = size, still.size
    face = still.keypoints.face * [fw, fh]
    low, high = face.min(0), face.max(0)
    side = min(HEAD_FACES * float(high[1] - low[1]) * rng.uniform(0.85, 1.2), fw, fh)
    corner = (low + high) / 2 - side * rng.normal([0.5, 0.52], 0.03)
    x0, y0 = np.clip(corner, 0, [fw - side, fh - side])
    cw, ch = (side, side * h / w) if w > h else (side * w / h, side)
    out = crop_still(still, (float(x0), float(y0), float(x0 + cw), float(y0 + ch)), size)
    out.keypoints = without_hands(out.keypoints)
    return mirrored(out) if rng.random() < 0.5 else out


def random_colour(picture_u8: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change exposure, contrast, saturation and tint of a picture at random."""
    x = picture_u8.astype(np.float32) / 255
    x = x ** float(np.exp(rng.normal(0, 0.2)))
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * float(np.exp(rng.normal(0, 0.2)))
    x = (x - 0.5) * float(np.exp(rng.normal(0, 0.12))) + 0.5 + rng.normal(0, 0.03)
    x = x * (1 + rng.normal(0, 0.03, 3))
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x.astype(np.float32), (0, 0), float(rng.uniform(0.3, 0.9)))
    return np.clip(x * 255, 0, 255).astype(np.uint8)
