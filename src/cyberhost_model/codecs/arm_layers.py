"""Arm layers: hands and forearms of a picture apart from the rest, and what is behind them.

A latent that says for each pixel where it comes from cannot show a hand in front of what it uncovers: cloth is dragged
with it, and a second hand stays where it was. So where key points say where hands are, the picture without them is
moved by the latent, and its hands are laid over that (`codecs.lay_arms`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.conditions.pose_maps import FINGERS
from cyberhost_model.media.inpaint import fill_behind, fill_hole
from cyberhost_model.perception.hands import ELBOWS, SHOULDERS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

ARM_POINTS = 23
"""Of an arm: the hand's 21, the elbow and the shoulder."""
ELBOW, SHOULDER = 21, 22
_PALM = (0, 9)  # wrist and middle knuckle, whose distance is a palm
_PALM_OUTLINE = (0, 1, 2, 5, 9, 13, 17)
_SMALL = 4.0  # pixels: smaller palms are not cut out
_INSIDE = 0.5  # of a hand's points, for it to be cut out
_KNOWN = 20  # pixels of arm and of what is not, from which on their colours are looked at
_CUT_PALM = 48.0  # pixels of a palm at most where a hand is cut out: larger ones are looked at smaller
# Palms: half of what may be arm about its points, what likely is, and what surely is.
_MAYBE, _LIKELY, _SURELY = 0.6, 0.16, 0.05
_FOREARM = (0.7, 0.45)  # widths in palms of a forearm that may be and that likely is
_ALONG = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # of a forearm from the wrist to the elbow: points that bend it
_ALIKE = 2.5  # deviations of a hand's colours within which its forearm's are
_HUE = 10.0  # of a and b of Lab, 8 bits each, that their means may differ by
_BEYOND = 0.5  # of the way from wrist to elbow, from which on a forearm that is seen tells what all of it is
_HALF = 0.45  # palms, half of a forearm's width at the wrist where it is not known
_BARE = 0.08  # square palms of a forearm that are seen and bare, from which on all of it is
_NOBODY = 0.05  # share of a pixel that is the person's, below which it is nothing of the arm
_OF_HAND = 0.4  # palms about a hand's bones: what is nearer is hand, and does not fade
_UPPER_ARM = 0.7  # palms, width of an upper arm
_EDGE = 0.2  # palms about an arm that are taken out with it
_FADE = (0.5, 0.95)  # share of the forearm from where on it fades into the arm that the latent moves
_UNSEEN = 2.2  # palms from the wrist to an elbow that is not seen, away from the fingers


class Forearm(NamedTuple):
    """What a forearm is drawn like where the picture hides it, or shows too little of it."""

    colour: np.ndarray | None
    """float32 (3,) in -1..1; None where it goes on as the upper arm does."""
    half: float
    """Palms, half of its width at the wrist."""


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
    shoulder: complex | None
    """In pixels of the picture, where it and the elbow are seen."""
    forearm: Forearm | None
    """None where it is not to be drawn: too little is known of it."""
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
    for place, joints in ((ELBOW, ELBOWS), (SHOULDER, SHOULDERS)):
        out[:, place, :2], out[:, place, 2] = keypoints.body[list(joints)], keypoints.body_score[list(joints)]
    return out


def make_arm_layers(
    picture: Tensor, keypoints: Keypoints, laid: tuple[bool, bool], person: np.ndarray | None = None
) -> ArmLayers | None:
    """Cut hands and forearms out of a picture (1, 3, H', W') in -1..1; None where it shows none of them.

    keypoints: in 0..1 of it. laid: whether the left and the right one are. person: float32 (H', W') in 0..1, what is
    the person's (`perception.matte`); by it cloth and wall are told apart in what is made up.
    """
    h, w = picture.shape[-2:]
    pixels = ((picture[0].float().permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    arms: list[ArmLayer | None] = []
    hole, skin, bones = np.zeros((3, h, w), np.float32)
    for arm, lies in zip(arm_points(keypoints) * [w, h, 1], laid, strict=True):
        cut = _cut(pixels, arm, person) if lies and arm[:ELBOW, 2].min() > VISIBLE else None
        arms.append(None if cut is None else cut[0])
        if cut is None:
            continue
        hole, skin = np.maximum(hole, cut[1]), np.maximum(skin, cut[2])
        _draw_upper_arm(bones, arm, 0, cut[0].palm)
    if not hole.any():
        return None
    arms = _dressed_alike(arms)
    skin[bones > 0] = 0  # a bare upper arm goes on behind the hand
    filled = fill_hole(pixels, hole, skin) if person is None else fill_behind(pixels, hole, skin, person, bones)
    behind = torch.from_numpy(filled).permute(2, 0, 1)[None].to(picture) / 127.5 - 1
    return ArmLayers(behind, torch.from_numpy(hole)[None, None].to(picture), (arms[0], arms[1]))


def _cut(
    pixels: np.ndarray, arm: np.ndarray, person: np.ndarray | None
) -> tuple[ArmLayer, np.ndarray, np.ndarray] | None:
    """Cut an arm (23, 3) in pixels out of a picture uint8 (H, W, 3), of which (H, W) in 0..1 is the person.

    Returns the layer, where it was, and what may be of an arm, float32 (H, W); None for a hand that is very small or
    outside the picture.
    """
    points = (arm[:, 0] + 1j * arm[:, 1])[: ELBOW + 1]
    palm = measure_palm(points)
    seen = complex(points[ELBOW]) if arm[ELBOW, 2] > VISIBLE else None
    if seen is None:
        points[ELBOW] = points[0] + _UNSEEN * (points[0] - points[_PALM[1]])
    h, w = pixels.shape[:2]
    (y0, y1), (x0, x1) = box_about(points, (_MAYBE + _EDGE) * palm + 4, (h, w))
    inside = (0 <= points.real) & (points.real < w) & (0 <= points.imag) & (points.imag < h)
    if palm < _SMALL or inside[:ELBOW].mean() < _INSIDE:
        return None
    crop, local = pixels[y0:y1, x0:x1], points - (x0 + 1j * y0)
    size, shoulder = crop.shape[:2], None
    hand = draw_arm(local[:ELBOW], palm, size, _OF_HAND)
    theirs = np.ones(size, np.float32) if person is None else person[y0:y1, x0:x1]
    upper = np.zeros(size, np.uint8)
    if _draw_upper_arm(upper, arm, x0 + 1j * y0, palm):
        shoulder = complex(*arm[SHOULDER, :2])
    ends, elbow = _pixels(forearm_points(local))[-2:].clip(0, np.array(size[::-1]) - 1), local[ELBOW]
    hidden = bool(hand[ends[:, 1], ends[:, 0]].any())
    if hidden:
        points, local = points[:ELBOW], local[:ELBOW]  # it points at the camera, or away from it
    share, looks_so = _matte(crop, local, palm, (theirs < _NOBODY) | (upper > hand))
    whole, forearm = np.ones(size, bool), None
    if not hidden:
        along = _along(size, local)
        shown = (share > 0.9) & (along > 0) & (along < 1) & (hand == 0)
        forearm = _shown_forearm(crop, shown, along, abs(local[ELBOW] - local[0]), palm)
        whole = (along < _FADE[0]) | (hand > 0)
        fade = 1 - np.clip((along - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
        share = share * np.where(whole, 1, fade * fade * (3 - 2 * fade)).astype(np.float32)
    elif shoulder is not None:
        where = np.zeros(size, np.uint8)
        _draw_bone(where, local[0], elbow, 2 * _FOREARM[0] * palm)
        skin = _like(crop, share > 0.9, (where > hand) & (looks_so < 0.5) & (theirs > 0.5))
        bare = skin & (_along(size, np.append(local, elbow)) > _BEYOND)  # a wrist alone is no bare arm
        forearm = Forearm(_colour(crop, bare) if bare.sum() > _BARE * palm**2 else None, _HALF)
        looks_so = np.maximum(looks_so, skin)
    near = draw_arm(local, palm, size, _MAYBE, _FOREARM[0])
    rim = cv2.dilate(looks_so, np.ones((2 * round(_EDGE * palm) + 1,) * 2))
    looks_so = np.maximum(looks_so, rim * ((theirs > _NOBODY) & (theirs < 0.9)))  # an edge that nobody is sure of
    taken = _soften(looks_so, palm, whole)
    if person is not None:
        taken = np.maximum(taken, _soften(_scraps((theirs > 0.3) & (taken < 0.5), near), palm))
    at_hand, may_be = np.zeros((2, h, w), np.float32)
    at_hand[y0:y1, x0:x1], may_be[y0:y1, x0:x1] = taken, near
    cut_out = np.dstack([(crop.astype(np.float32) / 127.5 - 1) * share[..., None], share])
    layer = ArmLayer(cut_out, (x0, y0), points, seen, shoulder, forearm, torch.from_numpy(taken), palm)
    return layer, at_hand, may_be


def _dressed_alike(arms: list[ArmLayer | None]) -> list[ArmLayer | None]:
    """Let a hidden forearm of which too little is seen have the colour of the other one, if that is known."""
    colours = [arm.forearm.colour for arm in arms if arm is not None and arm.forearm is not None]
    known = next((colour for colour in colours if colour is not None), None)
    return [
        replace(arm, forearm=arm.forearm._replace(colour=known))
        if arm is not None and arm.forearm is not None and arm.forearm.colour is None
        else arm
        for arm in arms
    ]


def _along(size: tuple[int, int], arm: np.ndarray) -> np.ndarray:
    """Measure how far along a forearm each pixel of (h, w) lies: 0 at the wrist, 1 at the elbow."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    bone = arm[ELBOW] - arm[0]
    return (((x + 1j * y) - arm[0]) * np.conj(bone)).real / max(abs(bone) ** 2, 1e-6)


def _shown_forearm(
    crop: np.ndarray, shown: np.ndarray, along: np.ndarray, length: float, palm: float
) -> Forearm | None:
    """Measure what a forearm is like where it is `shown` (h, w), or None where that is little.

    along (h, w): where each pixel lies, 0 at the wrist, 1 at the elbow; length: of it, as `palm` in pixels.
    """
    if shown.sum() < _KNOWN:
        return None
    half = 0.5 * float(shown.sum() / np.ptp(along[shown])) / length / palm
    return Forearm(_colour(crop, shown), min(max(half, 0.5 * _HALF), _HALF))


def _colour(crop: np.ndarray, where: np.ndarray) -> np.ndarray:
    return crop[where].mean(0).astype(np.float32) / 127.5 - 1


def _soften(share: np.ndarray, palm: float, whole: np.ndarray | None = None) -> np.ndarray:
    """Widen a share (h, w) by a rim that fades; not beyond what is `whole`."""
    rim = 1 + round(_EDGE * palm)
    wide = cv2.dilate(share, np.ones((2 * rim + 1,) * 2))
    return cv2.GaussianBlur(wide if whole is None else wide * whole, (0, 0), rim / 3)


def _like(crop: np.ndarray, known: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Find the pixels of `where` (h, w) whose colours are those of what is `known` (h, w) in a crop uint8 (h, w, 3).

    None of them where their hue is another one in the mean, as that of a white sleeve is.
    """
    nothing = np.zeros_like(where)
    if known.sum() < _KNOWN:
        return nothing
    # Light and shade differ along an arm, its hue hardly does.
    colours = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32) * np.array([0.3, 1, 1], np.float32)
    middle, spread = colours[known].mean(0), colours[known].std(0) + 2
    like = where & (np.abs((colours - middle) / spread).max(-1) < _ALIKE)
    if not like.any() or np.linalg.norm((colours[like].mean(0) - middle)[1:]) > _HUE:
        return nothing
    return like


def _scraps(left: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Find what is `left` (h, w) of a person but hangs together with nothing that is not `near`: float32 (h, w)."""
    count, pieces = cv2.connectedComponents(left.astype(np.uint8))
    alone = ~np.isin(np.arange(count), np.unique(pieces[near == 0]))
    alone[0] = False
    return alone[pieces].astype(np.float32)


def _matte(crop: np.ndarray, points: np.ndarray, palm: float, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find which pixels of a crop uint8 (h, w, 3) are the arm's, and which look like it: float32 (h, w) in 0..1.

    other (h, w): what is something else, unless it is next to the arm's bones.
    """
    h, w = crop.shape[:2]
    scale = min(1.0, _CUT_PALM / palm)
    small = cv2.resize(crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
    z, palm = points * scale, palm * scale
    marks = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    marks[draw_arm(z, palm, small.shape[:2], _MAYBE, _FOREARM[0]) > 0] = cv2.GC_PR_BGD
    marks[cv2.resize(other.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0] = cv2.GC_BGD
    marks[draw_arm(z, palm, small.shape[:2], _LIKELY, _FOREARM[1]) > 0] = cv2.GC_PR_FGD
    sure = draw_arm(z, palm, small.shape[:2], _SURELY, 0.1)
    marks[sure > 0] = cv2.GC_FGD
    likely = (marks == cv2.GC_PR_FGD) | (marks == cv2.GC_FGD)
    if min(likely.sum(), (~likely).sum()) > _KNOWN:
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


def draw_arm(points: np.ndarray, palm: float, size: tuple[int, int], reach: float, forearm: float = 0.0) -> np.ndarray:
    """Draw a hand and its forearm, so many palms to each side of their bones: uint8 (h, w)."""
    out = np.zeros(size, np.uint8)
    if reach > _SURELY:
        cv2.fillConvexPoly(out, cv2.convexHull(_pixels(points[list(_PALM_OUTLINE)])), 1)
    width = max(1, round(2 * reach * palm))
    cv2.polylines(out, [_pixels(points[list(bone)]) for bone in FINGERS], False, 1, width)
    if len(points) > ELBOW:
        _draw_bone(out, points[0], points[ELBOW], 2 * forearm * palm)
    return out


def _draw_upper_arm(out: np.ndarray, arm: np.ndarray, corner: complex, palm: float) -> bool:
    """Draw the upper arm of an arm (23, 3) into a crop that begins at `corner`; False if it is not seen."""
    if arm[[ELBOW, SHOULDER], 2].min() <= VISIBLE:
        return False
    elbow, shoulder = (complex(*arm[joint, :2]) - corner for joint in (ELBOW, SHOULDER))
    _draw_bone(out, elbow, shoulder, _UPPER_ARM * palm)
    return True


def _draw_bone(out: np.ndarray, start: complex, end: complex, width: float) -> None:
    begin, stop = _pixels(np.array([start, end])).tolist()
    cv2.line(out, begin, stop, 1, max(1, round(width)))


def _pixels(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], -1).round().astype(np.int32)


def box_about(points: np.ndarray, margin: float, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Find the rows and the columns, first and end, of a box about complex points that is inside a picture (h, w)."""
    rows, columns = (
        (int(np.clip(at.min() - margin, 0, most)), int(np.clip(at.max() + margin, 0, most)))
        for at, most in zip((points.imag, points.real), size, strict=True)
    )
    return rows, columns


def forearm_points(points: np.ndarray) -> np.ndarray:
    """Points along the forearm of an arm that has one: complex (5,), or (0,)."""
    return points[0] + _ALONG * (points[ELBOW] - points[0]) if len(points) > ELBOW else points[:0]
