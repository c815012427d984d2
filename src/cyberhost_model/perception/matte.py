"""Mattes: how much of each pixel is the person, by a small network; and the person's own colour where hair is thin.

Trained by `scripts/train_matte.py`. The network sees a picture reduced to about 256x256, and of the key points roughly
where the person must be. Where it is not sure the picture's colours decide; a guided filter (He, Sun and Tang, "Guided
Image Filtering", 2013; its fast form: He and Sun, arXiv 1505.00996) brings that to the edges at full size.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cyberhost_model.config import EMBEDDED
from cyberhost_model.hub.tensors import load_weights
from cyberhost_model.perception.geometry import down_direction, face_height
from cyberhost_model.perception.heat_net import HeatNet, normalise_crops
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

FOLDER = EMBEDDED / "matte"
"""Folder of the embedded network."""
_WEIGHTS = "model.safetensors"
_AREA = 256 * 256  # pixels that the network sees
_RADIUS, _EPSILON = 4, 1e-4  # of the guided filter: pixels of the network's picture, and variance of colours in 0..1
_SURE = (0.1, 0.9)  # what the network says below and above is background and person
_ROUNDS = 4  # of dividing by colours
_BONES = ((2, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 11), (8, 9), (9, 10), (11, 12), (12, 13), (0, 1))
"""Pairs of body points that a figure joins."""
_SCALP = 0.8  # height of a head above the brows, in heights of the face below them
_FAINT = 0.04  # share of a matte below which there is nothing, and as much from the other end
_WIDE, _NARROW = 0.12, 0.02  # how far colours are looked for, in shorter sides
_SURENESS = 16  # power of a pixel's share, by which its colour counts for others
_FAR_SHARE = 0.02  # weight of colours farther away beside those near by


class MatteNet(nn.Module):
    """A picture and its figure -> the logit of its matte at half the picture's size.

    The network of the body's key points (`HeatNet`) sees a figure (`draw_figure`) beside the colours; the stem's output
    goes past it to the head, for edges.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heat = HeatNet(32, 4, norm=False)
        self.figure = nn.Conv2d(1, 16, 3, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(8 + 16, 16, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 3, 1, 1))

    def forward(self, pictures_u8: Tensor, figures: Tensor) -> Tensor:
        """Compute logits (N, 1, H / 2, W / 2) of uint8 (N, H, W, 3) and figures (N, 1, H, W) in 0..1.

        H and W are multiples of 32.
        """
        convolution, _, activation = self.heat.stem
        fine = activation(convolution(normalise_crops(pictures_u8)) + self.figure(figures))
        coarse, _ = self.heat.after_stem(fine)
        return self.head(torch.cat([F.pixel_shuffle(coarse, 2), fine], 1))

    def save(self, folder: Path) -> None:
        """Write the weights as fp16 safetensors in `folder`, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.half().contiguous() for name, value in self.state_dict().items()}, folder / _WEIGHTS)


@functools.lru_cache(maxsize=2)
def load_matte_net(folder: Path = FOLDER) -> MatteNet:
    """Load the weights that `MatteNet.save` wrote, float32, on the CPU. Raises ModelError."""
    network = MatteNet()
    load_weights(network, folder / _WEIGHTS)
    return network.eval().requires_grad_(False)


def person_matte(network: MatteNet, picture_u8: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Measure how much of each pixel of uint8 (H, W, 3) is the person of `keypoints`: float32 (H, W) in 0..1.

    keypoints: in 0..1 of the picture.
    """
    h, w = picture_u8.shape[:2]
    scale = (_AREA / (h * w)) ** 0.5
    size = (max(1, round(w * scale / 32)) * 32, max(1, round(h * scale / 32)) * 32)
    small = cv2.resize(picture_u8, size, interpolation=cv2.INTER_AREA)
    cut = _cut(small, likely_person(network, small, draw_figure(keypoints, size)), _visible_points(keypoints, size))
    matte = (_guided_filter(picture_u8, small, cv2.blur(cut.astype(np.float32), (3, 3))) - _FAINT) / (1 - 2 * _FAINT)
    return np.clip(matte, 0, 1, out=matte)


@torch.inference_mode()
def likely_person(network: MatteNet, small_u8: np.ndarray, figure_u8: np.ndarray) -> np.ndarray:
    """Ask the network about a picture (h, w, 3) with its figure (h, w), and its mirror image: float32 (h, w), 0..1."""
    pictures, figures = (torch.from_numpy(np.stack([p, p[:, ::-1]])) for p in (small_u8, figure_u8))
    logits = F.interpolate(
        network(pictures, figures[:, None] / 255), scale_factor=2.0, mode="bilinear", align_corners=False
    )
    here, mirrored = torch.sigmoid(logits)[:, 0].numpy()
    return (here + mirrored[:, ::-1]) / 2


def draw_figure(keypoints: Keypoints, size: tuple[int, int]) -> np.ndarray:
    """Draw roughly where the person of `keypoints` must be, in a picture of (w, h): uint8 (h, w), 0 or 255.

    A round head, and trunk, arms, legs and hands as far as they are visible.
    """
    figure = np.zeros(size[::-1], np.uint8)
    face, body = keypoints.face * size, keypoints.body * size
    down, brows = down_direction(face), face[[19, 24]].mean(0)
    scalp = face - (1 + _SCALP) * ((face - brows) @ down)[:, None] * down  # the face mirrored at the brows
    cv2.fillConvexPoly(figure, cv2.convexHull(np.concatenate([face, scalp]).astype(np.int32)), 255)
    thickness = max(1, round(0.5 * face_height(face)))
    seen = keypoints.body_score > VISIBLE
    trunk = [i for i in (2, 5, 11, 8) if seen[i]]
    if len(trunk) > 2:
        cv2.fillConvexPoly(figure, cv2.convexHull(body[trunk].astype(np.int32)), 255)
    for a, b in _BONES:
        if seen[a] and seen[b]:
            cv2.line(figure, body[a].astype(int).tolist(), body[b].astype(int).tolist(), 255, thickness)
    for hand, score in zip(keypoints.hands * size, keypoints.hands_score, strict=True):
        if (points := hand[score > VISIBLE]).size:
            cv2.fillConvexPoly(figure, cv2.convexHull(points.astype(np.int32)), 255)
    return figure


def _visible_points(keypoints: Keypoints, size: tuple[int, int]) -> np.ndarray:
    """List the visible points of body, hands and face in pixels of a picture of (w, h): int (n, 2)."""
    scores = np.concatenate([keypoints.body_score, keypoints.hands_score.ravel(), keypoints.face_score])
    points = np.concatenate([keypoints.body, keypoints.hands.reshape(-1, 2), keypoints.face])[scores > VISIBLE]
    inside = points[((points >= 0) & (points < 1)).all(1)]
    return (inside * size).astype(int)


def _cut(small_u8: np.ndarray, said: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cut the person who has `points` (n, 2) out of a picture (h, w, 3): bool (h, w).

    What the network is sure of gives the colours by which the rest is divided (GrabCut: Rother, Kolmogorov and Blake,
    SIGGRAPH 2004). Of several things the one on which the points lie is the person.
    """
    low, high = _SURE
    mask = np.where(said > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[said < low], mask[said > high] = cv2.GC_BGD, cv2.GC_FGD
    mask[points[:, 1], points[:, 0]] = cv2.GC_FGD
    if (mask == cv2.GC_BGD).any() and (mask == cv2.GC_FGD).any():
        cv2.setRNGSeed(0)  # it begins by a clustering that draws numbers
        colours = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(small_u8), mask, None, *colours, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    _, things = cv2.connectedComponents(person.astype(np.uint8))
    theirs = np.unique(things[points[:, 1], points[:, 0]])
    return person & np.isin(things, theirs[theirs > 0])


def _guided_filter(picture_u8: np.ndarray, small_u8: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Bring `said` (h, w), in 0..1, to the edges of a picture (H, W, 3): float32 (H, W).

    Within each window it is taken for a linear function of the colour; `small_u8` is the picture at its size (h, w, 3).
    """

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * _RADIUS + 1,) * 2)

    colour = small_u8.astype(np.float32) / 255
    colour_mean, said_mean = mean(colour), mean(said)
    products = mean((colour[..., :, None] * colour[..., None, :]).reshape(*said.shape, 9)).reshape(*said.shape, 3, 3)
    variance = products - colour_mean[..., :, None] * colour_mean[..., None, :] + _EPSILON * np.eye(3, dtype=np.float32)
    covariance = mean(colour * said[..., None]) - colour_mean * said_mean[..., None]
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0]
    offset = said_mean - (slope * colour_mean).sum(-1)
    size = picture_u8.shape[1::-1]
    slope, offset = (cv2.resize(mean(values), size, interpolation=cv2.INTER_LINEAR) for values in (slope, offset))
    return (slope * (picture_u8.astype(np.float32) / 255)).sum(-1) + offset


def person_colour(picture_u8: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Estimate the person's own colour in pixels that show the background too: float32 (H, W, 3) in 0..255.

    uint8 (H, W, 3), and its matte (H, W) in 0..1. The colours of person and background in a pixel are those near by
    that are surely theirs, and what the picture has beside their mixture is the person's: closed-form blur fusion
    (Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021), here from sure pixels alone.
    """
    picture, share = picture_u8.astype(np.float32), matte.astype(np.float32)
    h, w = matte.shape
    # Colours near by have no detail: half the size is enough for them.
    half = max(1, w // 2), max(1, h // 2)
    small, small_share = (cv2.resize(values, half, interpolation=cv2.INTER_AREA) for values in (picture, share))
    own, behind = (
        cv2.resize(_colour_near_by(small, kind), (w, h), interpolation=cv2.INTER_LINEAR)
        for kind in (small_share, 1 - small_share)
    )
    share = share[..., None]
    own += share * (picture - share * own - (1 - share) * behind)
    return np.clip(own, 0, 255, out=own)


def _colour_near_by(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Average the colours (h, w, 3) of pixels of which nearly all is of one kind: float32 (h, w, 3).

    share: (h, w), how much of a pixel is of that kind. Where no such pixel is near, those farther away count.
    """
    size, side = share.shape[::-1], min(share.shape)
    weight = share**_SURENESS
    colour = picture * weight[..., None]
    fourth = max(1, size[0] // 4), max(1, size[1] // 4)
    window = (2 * round(_WIDE * side / 4) + 1,) * 2
    far, far_weight = (cv2.blur(cv2.resize(v, fourth, interpolation=cv2.INTER_AREA), window) for v in (colour, weight))
    far = cv2.resize(far / (far_weight[..., None] + 1e-6), size, interpolation=cv2.INTER_LINEAR)
    window = (2 * max(1, round(_NARROW * side)) + 1,) * 2
    near, near_weight = cv2.blur(colour, window), cv2.blur(weight, window)[..., None]
    return (near + _FAR_SHARE * far) / (near_weight + _FAR_SHARE)
