"""Laying of arms: a picture's hands and forearms (`codecs.arm_layers`) over the frames, where key points have them.

Hands bend as nearly rigidly as their points allow, after Schaefer et al., "Image Deformation Using Moving Least
Squares" (2006); the forearm bends from the wrist to the elbow, which goes with what the latent moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.codecs.arm_layers import (
    ELBOW,
    SHOULDER,
    ArmLayer,
    ArmLayers,
    Forearm,
    box_about,
    draw_arm,
    forearm_points,
)
from cyberhost_model.codecs.redraw import DecodedMaps
from cyberhost_model.perception.keypoints import VISIBLE

_STILL = (0.02, 0.08)  # palms that a hand moves, between which it is taken out of the picture
_RIM = 0.25  # palms about that and about where arms were, over which it fades
_ABOUT = (0.4, 0.7)  # palms about a hand's bones and about a forearm in which the latent's flow is the arm's
_SURE = 8.0  # logits
_JOINT = (2.0, 1.2)  # palms, deviation of what goes with an elbow, along the upper arm and across
_SIZE = 1.1  # how much smaller or larger a hand may get
_BENT = (0.2, 0.4)  # palms that a hand's point may leave its place in the turned hand, freely and at most
_LIKE = (0.25, 0.5)  # palms, mean way of its points from there, over which it keeps its own shape
_SOFT = 0.35  # palms: points that near share what they ask
_GRID = 8  # pixels: between them positions are interpolated
_SHORT = 0.4  # palms from elbow to wrist, from which on a hidden forearm is drawn
_COMES = (1.0, 1.5)  # palms that the wrist moves, between which it comes
_COMES_WHOLE = (1.5, 2.0)  # between which it is seen up to the elbow, and nothing about the hand is seen any more
_SLEEVE = 0.4  # of the way from elbow to wrist, over which a bare one comes out of its sleeve before
_THICK = 1.33  # its width at the elbow, of that at the wrist
_SHADE = 0.7  # light on the edges of a bare one
_EDGE_SOFT = 2.0  # pixels
_NARROW = 0.5  # of the width of the upper arm that it shows, whose edges are not known
_SHOWN = (0.35, 0.75)  # from elbow to shoulder, the part of the upper arm that it shows: no hand was before that
_AROUND = 1.1  # palms about an arm's points that it may cover


def take_out_arms(layers: ArmLayers, frames: Tensor, points: np.ndarray) -> Tensor:
    """Take the arms out of copies (F, 3, H', W') of the picture, which are changed and returned.

    points (F, 2, 23, 3): of the frames, in 0..1. A hand that has hardly moved stays under its layer, so that a frame at
    rest is the picture.
    """
    size = frames.shape[-1], frames.shape[-2]
    for frame, arms in zip(frames, points, strict=True):
        for arm, layer in _laid(layers, arms):
            if share := _taken_out(layer, _complex(arm, size)):
                rows, columns = layer.box
                part = frame[:, rows, columns]
                part.lerp_(layers.behind[0, :, rows, columns].to(part), share * layer.taken.to(part))
    return frames


def _taken_out(layer: ArmLayer, to: np.ndarray) -> float:
    """How much an arm whose hand is at `to` (21 and more) is taken out of the picture, in 0..1."""
    moved = float(np.abs(to[:ELBOW] - layer.points[:ELBOW]).mean()) / layer.palm
    return _between(moved, _STILL)


def _between(value: float, ends: tuple[float, float]) -> float:
    """Tell how far `value` is on the way from one end, 0, to the other, 1."""
    return min(max((value - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0)


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
        for arm, layer in _laid(layers, arms):
            z = _complex(arm, (w, h))[: len(layer.points)]
            if len(z) > ELBOW and arm[ELBOW, 2] <= VISIBLE:
                z[ELBOW] = layer.points[ELBOW] * scale
            now |= draw_arm(z, layer.palm * scale, half, *_ABOUT)
        now = cv2.dilate(now, np.ones((2 * rim + 1,) * 2, np.uint8))
        frame[:] = cv2.GaussianBlur(now.astype(np.float32), (0, 0), rim / 2)
    return F.interpolate(torch.from_numpy(out), size=size, mode="bilinear")


def _laid(layers: ArmLayers, arms: np.ndarray) -> Iterator[tuple[np.ndarray, ArmLayer]]:
    """Walk over the arms (2, 23, 3) of a frame that are laid and whose hand it shows."""
    for arm, layer in zip(arms, layers.arms, strict=True):
        if layer is not None and arm[:ELBOW, 2].min() > VISIBLE:
            yield arm, layer


def _complex(arm: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return arm[:, 0] * size[0] + 1j * arm[:, 1] * size[1]


def make_way(layers: ArmLayers, points: np.ndarray, maps: DecodedMaps) -> Tensor:
    """Let what decoded maps move under an arm go with what is around it, and elbows to where the points have them.

    points (F, 2, 23, 3): in 0..1. Returns where arms are and were, (F, 1, h, w) in 0..1.
    """
    share = covered(layers, points, (maps.flow.shape[-2], maps.flow.shape[-1])).to(maps.flow.device)
    maps.flow = flow_around(maps.flow.float(), share)
    maps.visible = maps.visible + _SURE * share.to(maps.visible)
    move_elbows(layers, points, maps.flow, (maps.colour.shape[-1], maps.colour.shape[-2]))
    return share


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
            bone = complex((arm[SHOULDER, 0] - arm[ELBOW, 0]) * w, (arm[SHOULDER, 1] - arm[ELBOW, 1]) * h)
            up = bone / abs(bone) if arm[SHOULDER, 2] > VISIBLE and bone else -1j
            along = (x - to.real) * up.real + (y - to.imag) * up.imag
            across = (y - to.imag) * up.real - (x - to.real) * up.imag
            lengths = [deviation * layer.palm * scale for deviation in _JOINT]
            near = torch.exp(-((along / lengths[0]) ** 2 + (across / lengths[1]) ** 2) / 2)
            motion[0] += (lacks.real * near).to(motion)
            motion[1] += (lacks.imag * near).to(motion)


def lay_arms(layers: ArmLayers, frames: Tensor, points: np.ndarray, flow: Tensor) -> Tensor:
    """Lay the arms over frames (F, 3, H', W') in -1..1, which are changed and returned.

    points (F, 2, 23, 3): in 0..1. flow (F, 2, h, w): of what is behind, in pixels of H', which the elbows go with.
    """
    size = frames.shape[-1], frames.shape[-2]
    for frame, arms, motion in zip(frames, points, flow.float().cpu().numpy(), strict=True):
        for arm, layer in _laid(layers, arms):
            _lay_arm(frame, layers, layer, _complex(arm, size)[: len(layer.points)], motion)
    return frames


def _lay_arm(frame: Tensor, layers: ArmLayers, layer: ArmLayer, to: np.ndarray, motion: np.ndarray) -> None:
    """Lay an arm over a frame (3, H', W'), its points at `to`, where they are asked to be, in pixels.

    What is hidden is drawn, what sticks out about a hand goes with it, and the hand comes last. motion (2, h, w): flow.
    """
    size = frame.shape[-1], frame.shape[-2]
    share = _taken_out(layer, to)
    to[:ELBOW] = _keep_shape(layer.points[:ELBOW], to[:ELBOW], layer.palm)
    elbow, whole = None if layer.elbow is None else _carried(layer.elbow, motion, size), 1.0
    if len(to) > ELBOW:
        elbow = to[ELBOW] = _carried(complex(layer.points[ELBOW]), motion, size)
    else:  # a hidden forearm comes late: near its place the picture shows what there is
        moved = abs(to[0] - layer.points[0]) / layer.palm
        share, whole = _between(moved, _COMES), _between(moved, _COMES_WHOLE)
    if layer.forearm is not None and elbow is not None:
        ends = complex(elbow), complex(to[0])
        _lay_forearm(frame, layers.behind_pixels, layer, layer.forearm, ends, share, whole)
    if layer.about is not None and whole < 1:
        stay = np.array([_carried(complex(point), motion, size) for point in layer.about.ends], complex)
        pixels = layer.about.pixels * np.float32(1 - whole)
        _lay(frame, layer, pixels, np.append(to, stay), np.append(layer.points, layer.about.ends))
    bent, rest = (np.append(points[:ELBOW], forearm_points(points)) for points in (to, layer.points))
    _lay(frame, layer, layer.pixels, bent, rest)


def arms_share(layers: ArmLayers, points: np.ndarray) -> np.ndarray:
    """Measure how much of each pixel the arms cover that are laid at `points` (2, 23, 3): float32 (H', W') in 0..1.

    It is what they hide of something white before black.
    """
    h, w = layers.behind.shape[-2:]
    ground = torch.stack([torch.full((3, h, w), value) for value in (-1.0, 1.0)])
    flow = torch.zeros(1, 2, h // 4, w // 4)
    move_elbows(layers, points[None], flow, (w, h))
    black, white = lay_arms(layers, ground, np.stack([points, points]), flow.expand(2, -1, -1, -1))[:, 0].numpy()
    return 1 - (white - black) / 2


def _keep_shape(at: np.ndarray, to: np.ndarray, palm: float) -> np.ndarray:
    """Bring points `to` (21,) of a hand near to those of the picture's hand `at`, turned, moved and little enlarged.

    A hand that is seen from its edge cannot become an open one: its fingers would be spread wide. One that shows its
    palm cannot show its back: where little fits, the shape stays the picture's.
    """
    middle, origin = to.mean(), at.mean()
    turn = np.vdot(at - origin, to - middle) / max(float(np.sum(np.abs(at - origin) ** 2)), 1e-9)
    turn *= np.clip(abs(turn), 1 / _SIZE, _SIZE) / max(abs(turn), 1e-9)
    placed = middle + turn * (at - origin)
    off = to - placed
    far = np.maximum(np.abs(off) / palm, 1e-9)
    unlike = _between(float(far.mean()), _LIKE)
    free, most = np.array(_BENT) * (1 - min(unlike, 0.98))
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


def _lay(frame: Tensor, layer: ArmLayer, pixels: np.ndarray, to: np.ndarray, at: np.ndarray) -> None:
    """Lay pixels of an arm over a frame (3, H', W'): what is `at` points (n,) of the picture comes `to` others."""
    (y0, y1), (x0, x1) = box_about(to, _AROUND * layer.palm + 4, (frame.shape[-2], frame.shape[-1]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    w, h = x1 - x0, y1 - y0
    columns, rows = (a + (np.arange(n := -(-size // _GRID)) + 0.5) * size / n - 0.5 for a, size in ((x0, w), (y0, h)))
    grid = columns[None] + 1j * rows[:, None]
    source = bend(grid.ravel(), to, at, _SOFT * layer.palm).reshape(grid.shape) - complex(*layer.corner)
    across, down = (cv2.resize(x.astype(np.float32), (w, h)) for x in (source.real, source.imag))
    arm = cv2.remap(pixels, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    _cover(frame[:, y0:y1, x0:x1], arm[..., :3], np.clip(arm[..., 3:], 0, 1))


def _lay_forearm(
    frame: Tensor,
    picture: np.ndarray,
    layer: ArmLayer,
    forearm: Forearm,
    ends: tuple[complex, complex],
    share: float,
    whole: float,
) -> None:
    """Lay a drawn forearm over a `share` of a frame (3, H', W'), its ends at elbow and wrist.

    whole: in 0..1, whether a bare one is seen up to the elbow, or comes out of a sleeve. One without a colour shows
    what the upper arm of the picture float32 (H', W', 3) does, as if that went on.
    """
    elbow, wrist = ends
    length, size = abs(wrist - elbow), (frame.shape[-2], frame.shape[-1])
    if not share or length < _SHORT * layer.palm:
        return
    (y0, y1), (x0, x1) = box_about(np.array(ends), _THICK * forearm.half * layer.palm + 2, size)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    unit, offset = (wrist - elbow) / length, elbow - (x0 + 1j * y0)
    x, y = (np.arange(n, dtype=np.float32) - at for n, at in ((x1 - x0, offset.real), (y1 - y0, offset.imag)))
    along = (unit.real * x + (unit.imag * y)[:, None]).astype(np.float32) / np.float32(length)
    across = ((unit.real * y)[:, None] - unit.imag * x).astype(np.float32)
    inside = np.clip(along, 0, 1)
    half = np.float32(layer.palm * forearm.half) * (_THICK + (1 - _THICK) * inside)
    away = np.sqrt(across**2 + (np.float32(length) * (along - inside)) ** 2)
    cover = np.float32(share) * np.clip((half - away) / _EDGE_SOFT + 0.5, 0, 1)[..., None]
    if forearm.colour is not None:
        cover = cover * np.clip(along / _SLEEVE + np.float32(whole), 0, 1)[..., None]
        shade = _SHADE + (1 - _SHADE) * np.sqrt(np.maximum(1 - (across / half) ** 2, 0))[..., None]
        _cover(frame[:, y0:y1, x0:x1], ((forearm.colour + 1) * shade - 1) * cover, cover)
        return
    assert layer.shoulder is not None and layer.elbow is not None
    bone = layer.shoulder - layer.elbow
    if abs(bone) < layer.palm:
        return
    unit = bone / abs(bone)
    source = layer.elbow + bone * (_SHOWN[0] + (_SHOWN[1] - _SHOWN[0]) * inside) - 1j * _NARROW * unit * across
    colour = cv2.remap(
        picture,
        source.real.astype(np.float32),
        source.imag.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    _cover(frame[:, y0:y1, x0:x1], colour * cover, cover)


def _cover(part: Tensor, colour: np.ndarray, share: np.ndarray) -> None:
    """Cover a part of a frame (3, h, w) by `share` (h, w, 1); colour (h, w, 3): in -1..1 times the share."""
    behind = part.float().permute(1, 2, 0).cpu().numpy()
    part.copy_(torch.from_numpy(np.clip(behind * (1 - share) + colour, -1, 1)).permute(2, 0, 1))


def bend(places: np.ndarray, to: np.ndarray, at: np.ndarray, soft: float) -> np.ndarray:
    """Find where each of `places` (m,) comes from, if points `at` (n,) are moved to `to` (n,); all complex.

    About each place it is the turn and shift that take the points nearest to what they ask, those within `soft` alike.
    """
    weights = 1 / (np.abs(places[:, None] - to) ** 2 + soft**2) ** 2
    weights /= weights.sum(1, keepdims=True)
    # No products of matrices: BLAS would begin threads beside those that decode.
    middle, origin, product = ((weights * values).sum(1) for values in (to, at, to.conj() * at))
    turn = product - middle.conj() * origin
    return (places - middle) * turn / np.maximum(np.abs(turn), 1e-9) + origin
