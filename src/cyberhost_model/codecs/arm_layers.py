"""Arm layers: hands and forearms of a picture apart from the rest, laid where key points say.

A latent that says for each pixel where it comes from cannot show a hand in front of what it uncovers: cloth is dragged
with it, and a second hand stays where it was. So where key points say where hands are, the picture without them is
moved by the latent, and its hands are laid over that. They bend as nearly rigidly as their points allow, after
Schaefer et al., "Image Deformation Using Moving Least Squares" (2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.codecs.redraw import DecodedMaps
from cyberhost_model.media.inpaint import fill_hole
from cyberhost_model.perception.hands import ELBOWS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

ARM_POINTS = 23
"""Of an arm: the hand's 21, the elbow and the shoulder."""
ELBOW, _SHOULDER = 21, 22
_SHOULDERS = (5, 2)  # of the body's joints
_PALM = (0, 9)  # wrist and middle knuckle, whose distance is a palm
_PALM_OUTLINE = (0, 1, 2, 5, 9, 13, 17)
_FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
_CUT_PALM = 48.0  # pixels of a palm at most where a hand is cut out: larger ones are looked at smaller
# Palms: half of what may be arm about its points, what likely is, and what surely is.
_MAYBE, _LIKELY, _SURELY = 0.6, 0.16, 0.05
_FOREARM = (0.7, 0.45)  # widths in palms of a forearm that may be and that likely is
_ALONG = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # of a forearm from the wrist to the elbow: points that bend it
_OF_HAND = 0.4  # palms about a hand's bones: what is nearer is hand, and does not fade
_EDGE = 0.2  # palms about an arm that are taken out with it
_STILL = (0.03, 0.3)  # palms that a hand moves, between which it is taken out of the picture
_FADE = (0.5, 0.95)  # share of the forearm from where on it fades into the arm that the latent moves
_UNSEEN = 2.2  # palms from the wrist to an elbow that is not seen, away from the fingers
_SIZE = 1.1  # how much smaller or larger a hand may get
_BENT = (0.2, 0.4)  # palms that a hand's point may leave its place in the turned hand, freely and at most
_SHORT = 0.4  # palms from elbow to wrist, from which on a hidden forearm is drawn
_STAYS = 0.5  # palms that the wrist may move before it is: near its place the picture shows what there is
_THICK = (0.6, 0.45)  # palms, half of its width at elbow and wrist
_EDGE_SOFT = 2.0  # pixels
_NARROW = 0.5  # of the width of the upper arm that it shows, whose edges are not known
_SHOWN = (0.35, 0.75)  # from elbow to shoulder, the part of the upper arm that it shows: no hand was before that
_JOINT = 0.8  # palms, deviation of what goes with an elbow
_SOFT = 0.35  # palms: points that near share what they ask
_GRID = 8  # pixels: between them positions are interpolated
_RIM = 0.25  # palms about an arm in which the latent's flow is the arm's
_SURE = 8.0  # logits


@dataclass(frozen=True)
class ArmLayer:
    """A hand and its forearm."""

    pixels: np.ndarray
    """float32 (h, w, 4): colour in -1..1 times the share, and the share in 0..1."""
    corner: tuple[int, int]
    """Left and upper edge in the picture."""
    points: np.ndarray
    """complex (22,): hand and elbow in pixels of the picture; (21,) where the hand hides its forearm."""
    elbow: complex | None
    """In pixels of the picture, where it is seen."""
    upper: tuple[complex, complex] | None
    """Elbow and shoulder in pixels of the picture, where they are seen and the hand hides its forearm."""

    taken: Tensor
    """(h, w) in 0..1: what is to be taken out of the picture."""
    palm: float
    """Its palm's length in pixels (`measure_palm`)."""

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that it lies in."""
        (x, y), (h, w) = self.corner, self.taken.shape
        return slice(y, y + h), slice(x, x + w)


@dataclass(frozen=True)
class ArmLayers:
    """A picture's arms, and what is behind them."""

    behind: Tensor
    """(1, 3, H', W') in -1..1: the picture without hands and forearms."""
    taken: Tensor
    """(1, 1, H', W') in 0..1: where arms are that are laid, and what is about them."""
    left: Tensor
    """(1, 1, H', W') in 0..1: where hands are that the latents move, because they touch something."""
    arms: tuple[ArmLayer | None, ArmLayer | None]
    """Those that are laid, left and right."""

    @property
    def sides(self) -> tuple[bool, bool]:
        """Whether the left and the right arm are laid."""
        return self.arms[0] is not None, self.arms[1] is not None

    @cached_property
    def taken_pixels(self) -> np.ndarray:
        """`taken` as float32 (H', W')."""
        return self.taken[0, 0].float().cpu().numpy()

    @cached_property
    def behind_pixels(self) -> np.ndarray:
        """`behind` as float32 (H', W', 3)."""
        return self.behind[0].float().permute(1, 2, 0).cpu().contiguous().numpy()


def measure_palm(points: np.ndarray) -> float:
    """Measure the palm of an arm's points (22,): half of what a hand reaches from its wrist, or wrist to knuckle.

    A palm that is seen from its edge looks short.
    """
    hand = points[:ELBOW]
    return float(max(abs(hand[_PALM[1]] - hand[_PALM[0]]), 0.5 * np.abs(hand - hand[0]).max()))


def arm_points(keypoints: Keypoints) -> np.ndarray:
    """Gather hand, elbow and shoulder of both arms: float32 (2, 23, 3), x, y and score."""
    out = np.zeros((2, ARM_POINTS, 3), np.float32)
    out[:, :ELBOW, :2], out[:, :ELBOW, 2] = keypoints.hands, keypoints.hands_score
    for place, joints in ((ELBOW, ELBOWS), (_SHOULDER, _SHOULDERS)):
        out[:, place, :2], out[:, place, 2] = keypoints.body[list(joints)], keypoints.body_score[list(joints)]
    return out


def make_arm_layers(
    picture: Tensor, keypoints: Keypoints, shown: tuple[bool, bool], laid: tuple[bool, bool]
) -> ArmLayers | None:
    """Cut hands and forearms out of a picture (1, 3, H', W') in -1..1; None where it shows none of them.

    keypoints: in 0..1 of it. shown: whether what is behind the left and the right one is wanted; laid: whether they are
    laid over the frames, which those should not be that touch something.
    """
    h, w = picture.shape[-2:]
    pixels = ((picture[0].float().permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    arms: list[ArmLayer | None] = []
    holes, skin = np.zeros((2, h, w), np.float32), np.zeros((h, w), np.float32)
    for arm, wanted, lies in zip(arm_points(keypoints) * [w, h, 1], shown, laid, strict=True):
        layer = None
        if wanted and arm[:ELBOW, 2].min() > VISIBLE:
            cut, taken, near = _cut(pixels, arm)
            layer = cut if lies else None
            holes[int(not lies)] = np.maximum(holes[int(not lies)], taken)
            skin = np.maximum(skin, near)
        arms.append(layer)
    if not holes.any():
        return None
    behind = torch.from_numpy(fill_hole(pixels, holes.max(0), skin)).permute(2, 0, 1)[None].to(picture) / 127.5 - 1
    were, left = (torch.from_numpy(hole)[None, None].to(picture) for hole in holes)
    return ArmLayers(behind, were, left, (arms[0], arms[1]))


def take_out_arms(layers: ArmLayers, frames: Tensor, points: np.ndarray) -> Tensor:
    """Take the arms out of copies (F, 3, H', W') of the picture, which are changed and returned.

    points (F, 2, 23, 3): of the frames, in 0..1. A hand that has hardly moved stays under its layer, so that a frame at
    rest is the picture.
    """
    size = frames.shape[-1], frames.shape[-2]
    for frame, arms in zip(frames, points, strict=True):
        for arm, layer in zip(arms, layers.arms, strict=True):
            if layer is None or arm[:ELBOW, 2].min() <= VISIBLE:
                continue
            moved = float(np.abs(_complex(arm, size)[:ELBOW] - layer.points[:ELBOW]).mean()) / layer.palm
            share = min(max((moved - _STILL[0]) / (_STILL[1] - _STILL[0]), 0.0), 1.0)
            if share:
                rows, columns = layer.box
                part = frame[:, rows, columns]
                part.lerp_(layers.behind[0, :, rows, columns].to(part), share * layer.taken.to(part))
    return frames


def _cut(pixels: np.ndarray, arm: np.ndarray) -> tuple[ArmLayer, np.ndarray, np.ndarray]:
    """Cut an arm (23, 3) in pixels out of a picture uint8 (H, W, 3).

    Returns the layer, where it was, and what may be of an arm, float32 (H, W).
    """
    points = (arm[:, 0] + 1j * arm[:, 1])[: ELBOW + 1]
    palm = measure_palm(points)
    seen = complex(points[ELBOW]) if arm[ELBOW, 2] > VISIBLE else None
    if seen is None:
        points[ELBOW] = points[0] + _UNSEEN * (points[0] - points[_PALM[1]])
    h, w = pixels.shape[:2]
    margin = (_MAYBE + _EDGE) * palm + 4
    x0, x1 = (int(np.clip(f(points.real) + s * margin, 0, w)) for f, s in ((np.min, -1), (np.max, 1)))
    y0, y1 = (int(np.clip(f(points.imag) + s * margin, 0, h)) for f, s in ((np.min, -1), (np.max, 1)))
    crop, local = pixels[y0:y1, x0:x1], points - (x0 + 1j * y0)
    size, upper = crop.shape[:2], None
    hand = _draw(local[:ELBOW], palm, size, _OF_HAND)
    if len(points) > ELBOW and hand[tuple(_pixels(_forearm(local))[-2:, ::-1].clip(0, np.subtract(size, 1)).T)].any():
        if arm[[ELBOW, _SHOULDER], 2].min() > VISIBLE:
            upper = complex(points[ELBOW]), complex(*arm[_SHOULDER, :2])
        points, local = points[:ELBOW], local[:ELBOW]  # it points at the camera, or away from it
    share, looks_so = _matte(crop, local, palm)
    whole = np.ones(size, bool)
    if len(points) > ELBOW:
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        bone = local[ELBOW] - local[0]
        along = (((x + 1j * y) - local[0]) * np.conj(bone)).real / max(abs(bone) ** 2, 1e-6)  # 0 wrist .. 1 elbow
        fade = 1 - np.clip((along - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
        whole = (along < _FADE[0]) | (hand > 0)
        share = share * np.where(whole, 1, fade * fade * (3 - 2 * fade)).astype(np.float32)
    rim = 1 + round(_EDGE * palm)
    taken, near = np.zeros((2, h, w), np.float32)
    out = cv2.GaussianBlur(cv2.dilate(looks_so, np.ones((2 * rim + 1,) * 2)) * whole, (0, 0), rim / 3)
    taken[y0:y1, x0:x1] = out
    near[y0:y1, x0:x1] = _draw(local, palm, size, _MAYBE, _FOREARM[0])
    colour = crop.astype(np.float32) / 127.5 - 1
    return (
        ArmLayer(
            np.dstack([colour * share[..., None], share]), (x0, y0), points, seen, upper, torch.from_numpy(out), palm
        ),
        taken,
        near,
    )


def _matte(crop: np.ndarray, points: np.ndarray, palm: float) -> tuple[np.ndarray, np.ndarray]:
    """Find which pixels of a crop uint8 (h, w, 3) are the arm's, and which look like it: float32 (h, w) in 0..1."""
    h, w = crop.shape[:2]
    scale = min(1.0, _CUT_PALM / palm)
    small = cv2.resize(crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
    z, palm = points * scale, palm * scale
    marks = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    for reach, forearm, value in ((_MAYBE, _FOREARM[0], cv2.GC_PR_BGD), (_LIKELY, _FOREARM[1], cv2.GC_PR_FGD)):
        marks[_draw(z, palm, small.shape[:2], reach, forearm) > 0] = value
    sure = _draw(z, palm, small.shape[:2], 0.05, 0.1)
    marks[sure > 0] = cv2.GC_FGD
    likely = (marks == cv2.GC_PR_FGD) | (marks == cv2.GC_FGD)
    if (marks == cv2.GC_FGD).any() and (marks == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)
        cv2.grabCut(small, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    found = ((marks == cv2.GC_PR_FGD) | (marks == cv2.GC_FGD)).astype(np.uint8)
    if found.sum() < 0.5 * likely.sum():
        found = likely.astype(np.uint8)
    # The arm is one piece: what hangs together with the palm.
    _, pieces = cv2.connectedComponents(found)
    here = pieces[(sure > 0) & (pieces > 0)]
    piece = (pieces == np.bincount(here).argmax()).astype(np.uint8) if len(here) else found
    whole, rest = (
        cv2.morphologyEx(part, cv2.MORPH_CLOSE, np.ones((3, 3))).astype(np.float32) for part in (piece, found)
    )
    large = (cv2.resize(part, (w, h), interpolation=cv2.INTER_CUBIC) for part in (whole, rest))
    share, taken = (np.clip(cv2.GaussianBlur(part, (0, 0), 0.8), 0, 1) for part in large)
    return share, taken


def _draw(points: np.ndarray, palm: float, size: tuple[int, int], reach: float, forearm: float = 0.0) -> np.ndarray:
    """Draw a hand and its forearm, so many palms to each side of their bones: uint8 (h, w)."""
    out = np.zeros(size, np.uint8)
    if reach > _SURELY:
        cv2.fillConvexPoly(out, cv2.convexHull(_pixels(points[list(_PALM_OUTLINE)])), 1)
    width = max(1, round(2 * reach * palm))
    for finger in _FINGERS:
        cv2.polylines(out, [_pixels(points[[0, *finger]])], False, 1, width)
    if len(points) > ELBOW:
        start, end = _pixels(points[[0, ELBOW]]).tolist()
        cv2.line(out, start, end, 1, max(1, round(2 * forearm * palm)))
    return out


def _pixels(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], -1).round().astype(np.int32)


def covered(layers: ArmLayers, points: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Mark where arms are and were: (F, 1, h, w) in 0..1.

    points (F, 2, 23, 3): of the frames, in 0..1; size: (h, w).
    """
    h, w = half = size[0] // 2, size[1] // 2  # it is soft
    scale = w / layers.taken.shape[-1]
    was = cv2.resize(layers.taken_pixels, (w, h), interpolation=cv2.INTER_AREA) > 0.02
    rim = max(1, round(_RIM * scale * min(layer.palm for layer in layers.arms if layer)))
    out = np.empty((len(points), 1, h, w), np.float32)
    for (frame,), arms in zip(out, points, strict=True):
        now = was.astype(np.uint8)
        for arm, layer in zip(arms, layers.arms, strict=True):
            if layer is not None:
                z = _complex(arm, (w, h))[: len(layer.points)]
                now |= _draw(z, layer.palm * scale, half, _RIM + _LIKELY, _FOREARM[1] + _RIM)
        now = cv2.dilate(now, np.ones((2 * rim + 1,) * 2, np.uint8))
        frame[:] = cv2.GaussianBlur(now.astype(np.float32), (0, 0), rim / 2)
    return F.interpolate(torch.from_numpy(out), size=size, mode="bilinear")


def _complex(arm: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return arm[:, 0] * size[0] + 1j * arm[:, 1] * size[1]


def carry_around(maps: DecodedMaps, share: Tensor) -> None:
    """Let what lies under `share` (F, 1, h, w) of decoded maps go with what is around it."""
    maps.flow = flow_around(maps.flow.float(), share.to(maps.flow.device))
    maps.visible = maps.visible + _SURE * share.to(maps.visible)


def flow_around(flow: Tensor, share: Tensor) -> Tensor:
    """Replace the flow (F, 2, h, w) under `share` (F, 1, h, w) by the one around it."""
    keep = 1 - share.to(flow)
    known = F.avg_pool2d(torch.cat([flow * keep, keep], 1), 4, ceil_mode=True)
    for _ in range(2):
        known = F.avg_pool2d(known, 9, stride=1, padding=4, count_include_pad=False)
    around = F.interpolate(known[:, :2] / (known[:, 2:] + 1e-3), size=flow.shape[-2:], mode="bilinear")
    return flow + (around - flow) * share.to(flow)


def move_elbows(layers: ArmLayers, points: np.ndarray, flow: Tensor, size: tuple[int, int]) -> None:
    """Bring elbows of a flow (F, 2, h, w), in pixels of a picture of `size` (W, H), to where the points have them.

    The latent moves them in the right direction, and less far. What is near goes with them.
    """
    h, w = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    scale = w / layers.taken.shape[-1]
    for motion, arms in zip(flow, points, strict=True):
        for arm, layer in zip(arms, layers.arms, strict=True):
            if layer is None or arm[ELBOW, 2] <= VISIBLE or layer.elbow is None:
                continue
            at, to = layer.elbow * scale, complex(arm[ELBOW, 0] * w, arm[ELBOW, 1] * h)
            row, column = (int(np.clip(value, 0, most - 1)) for value, most in ((to.imag, h), (to.real, w)))
            asked = (at - to) * size[0] / w
            lacks = asked - complex(float(motion[0, row, column]), float(motion[1, row, column]))
            near = torch.exp(-((x - to.real) ** 2 + (y - to.imag) ** 2) / (2 * (_JOINT * layer.palm * scale) ** 2))
            motion[0] += (lacks.real * near).to(motion)
            motion[1] += (lacks.imag * near).to(motion)


def lay_arms(layers: ArmLayers, frames: Tensor, points: np.ndarray, flow: Tensor) -> Tensor:
    """Lay the arms over frames (F, 3, H', W') in -1..1, which are changed and returned.

    points (F, 2, 23, 3): in 0..1. flow (F, 2, h, w): of what is behind, in pixels of H', which the elbows go with.
    """
    size = frames.shape[-1], frames.shape[-2]
    for frame, arms, motion in zip(frames, points, flow.float().cpu().numpy(), strict=True):
        for arm, layer in zip(arms, layers.arms, strict=True):
            if layer is None or arm[:ELBOW, 2].min() <= VISIBLE:
                continue
            to = _complex(arm, size)[: len(layer.points)]
            to[:ELBOW] = _keep_shape(layer.points[:ELBOW], to[:ELBOW], layer.palm)
            if len(to) > ELBOW:
                to[ELBOW] = _carried(layer.points[ELBOW], motion, size)
            elif layer.upper is not None:
                elbow = _carried(layer.upper[0], motion, size)
                _lay_forearm(frame, layers.behind_pixels, layer, elbow, complex(to[0]))
            _lay(frame, layer, to)
    return frames


def _keep_shape(at: np.ndarray, to: np.ndarray, palm: float) -> np.ndarray:
    """Bring points `to` (21,) of a hand near to those of the picture's hand `at`, turned, moved and little enlarged.

    A hand that is seen from its edge cannot become an open one: its fingers would be spread wide.
    """
    middle, origin = to.mean(), at.mean()
    turn = np.vdot(at - origin, to - middle) / max(float(np.sum(np.abs(at - origin) ** 2)), 1e-9)
    turn *= np.clip(abs(turn), 1 / _SIZE, _SIZE) / max(abs(turn), 1e-9)
    placed = middle + turn * (at - origin)
    off = to - placed
    far = np.maximum(np.abs(off) / palm, 1e-9)
    free, most = _BENT
    kept = np.where(far > free, free + (most - free) * np.tanh((far - free) / (most - free)), far)
    return placed + off * kept / far


def _carried(point: complex, flow: np.ndarray, size: tuple[int, int]) -> complex:
    """Find where a point of the picture is in a frame whose pixels come from `flow` (2, h, w) away."""
    h, w = flow.shape[-2:]
    here = point
    for _ in range(3):
        x = int(np.clip(here.real / size[0] * w, 0, w - 1))
        y = int(np.clip(here.imag / size[1] * h, 0, h - 1))
        here = point - complex(flow[0, y, x], flow[1, y, x])
    return here


def _lay(frame: Tensor, layer: ArmLayer, to: np.ndarray) -> None:
    """Lay an arm over a frame (3, H', W'), its points at `to` (22,) in pixels."""
    h, w = frame.shape[-2:]
    to, at = (np.concatenate([points[:ELBOW], _forearm(points)]) for points in (to, layer.points))
    margin = _MAYBE * layer.palm + 4
    x0, x1 = (int(np.clip(f(to.real) + s * margin, 0, w)) for f, s in ((np.min, -1), (np.max, 1)))
    y0, y1 = (int(np.clip(f(to.imag) + s * margin, 0, h)) for f, s in ((np.min, -1), (np.max, 1)))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    w, h = x1 - x0, y1 - y0
    columns, rows = (a + (np.arange(n := -(-size // _GRID)) + 0.5) * size / n - 0.5 for a, size in ((x0, w), (y0, h)))
    grid = columns[None] + 1j * rows[:, None]
    source = bend(grid.ravel(), to, at, _SOFT * layer.palm).reshape(grid.shape) - complex(*layer.corner)
    across, down = (cv2.resize(x.astype(np.float32), (w, h)) for x in (source.real, source.imag))
    arm = cv2.remap(layer.pixels, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = np.clip(arm[..., 3:], 0, 1)
    part = frame[:, y0:y1, x0:x1]
    behind = part.float().permute(1, 2, 0).cpu().numpy()
    over = torch.from_numpy(np.clip(behind * (1 - share) + arm[..., :3], -1, 1))
    part.copy_(over.permute(2, 0, 1))


def _lay_forearm(frame: Tensor, picture: np.ndarray, layer: ArmLayer, elbow: complex, wrist: complex) -> None:
    """Lay a forearm that the picture hides over a frame (3, H', W'), as if the upper arm went on beyond the elbow.

    It shows what the upper arm of the picture float32 (H', W', 3) shows.
    """
    assert layer.upper is not None
    (at, shoulder), (h, w) = layer.upper, frame.shape[-2:]
    length, bone = abs(wrist - elbow), shoulder - at
    if length < _SHORT * layer.palm or abs(bone) < layer.palm:
        return
    margin = _THICK[0] * layer.palm + 2
    ends = np.array([elbow, wrist])
    x0, x1 = (int(np.clip(f(ends.real) + s * margin, 0, w)) for f, s in ((np.min, -1), (np.max, 1)))
    y0, y1 = (int(np.clip(f(ends.imag) + s * margin, 0, h)) for f, s in ((np.min, -1), (np.max, 1)))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    local = ((x + 1j * y) - elbow) * np.conj(wrist - elbow) / length
    along, across = (local.real / length).astype(np.float32), local.imag.astype(np.float32)
    half = layer.palm * (_THICK[0] + (_THICK[1] - _THICK[0]) * np.clip(along, 0, 1))
    beyond = np.maximum(np.maximum(-along, along - 1), 0) * length
    moved = np.clip(abs(wrist - layer.points[0]) / layer.palm - _STAYS, 0, 1)
    share = moved * np.clip((half - np.hypot(across, beyond)) / _EDGE_SOFT + 0.5, 0, 1)[..., None]
    unit = bone / abs(bone)
    source = at + bone * (_SHOWN[0] + (_SHOWN[1] - _SHOWN[0]) * np.clip(along, 0, 1)) - 1j * _NARROW * unit * across
    colour = cv2.remap(
        picture,
        source.real.astype(np.float32),
        source.imag.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    part = frame[:, y0:y1, x0:x1]
    behind = part.float().permute(1, 2, 0).cpu().numpy()
    part.copy_(torch.from_numpy(behind + (colour - behind) * share).permute(2, 0, 1))


def _forearm(points: np.ndarray) -> np.ndarray:
    """Points along the forearm of an arm that has one: complex (5,), or (0,)."""
    return points[0] + _ALONG * (points[ELBOW] - points[0]) if len(points) > ELBOW else points[:0]


def bend(places: np.ndarray, to: np.ndarray, at: np.ndarray, soft: float) -> np.ndarray:
    """Find where each of `places` (m,) comes from, if points `at` (n,) are moved to `to` (n,); all complex.

    About each place it is the turn and shift that take the points nearest to what they ask, those within `soft` alike.
    """
    weights = 1 / (np.abs(places[:, None] - to) ** 2 + soft**2) ** 2
    weights /= weights.sum(1, keepdims=True)
    middle, origin = weights @ to, weights @ at
    turn = weights @ (to.conj() * at) - middle.conj() * origin
    return (places - middle) * turn / np.maximum(np.abs(turn), 1e-9) + origin
