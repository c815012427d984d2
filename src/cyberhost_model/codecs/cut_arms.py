"""Cutting of arms out of a picture: what of it is a hand's, its forearm's and about them, and what is behind.

A forearm that is seen is cut out with its hand. One that points at the camera is hidden by the hand: what sticks out
about it, a cuff or skin, is cut out apart, and goes along.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.arm_layers import (
    ELBOW,
    PALM,
    SHOULDER,
    AboutHand,
    ArmLayer,
    ArmLayers,
    Forearm,
    arm_points,
    box_about,
    draw_arm,
    draw_bone,
    draw_upper_arm,
    forearm_points,
    measure_palm,
)
from cyberhost_model.media.inpaint import continue_person, fill_behind, fill_hole
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_SMALL = 4.0  # pixels: smaller palms are not cut out
_INSIDE = 0.5  # of a hand's points, for it to be cut out
_KNOWN = 20  # pixels of arm and of what is not, from which on their colours are looked at
_CUT_PALM = 48.0  # pixels of a palm at most where a hand is cut out: larger ones are looked at smaller
# Palms: half of what may be arm about its points, what likely is, and what surely is.
_MAYBE, _LIKELY, _SURELY = 0.6, 0.16, 0.05
_FOREARM = (0.7, 0.45)  # widths in palms of a forearm that may be and that likely is
_ALIKE = 2.5  # deviations of a hand's colours within which its forearm's are
_HUE = 10.0  # of a and b of Lab, 8 bits each, that their means may differ by
_BEYOND = 0.5  # of the way from wrist to elbow, from which on a forearm that is seen tells what all of it is
_HALF = 0.45  # palms, half of a forearm's width at the wrist where it is not known
_BARE = 0.08  # square palms of a forearm that are seen and bare, from which on all of it is
_NOBODY = 0.05  # share of a pixel that is the person's, below which it is nothing of the arm
_OF_HAND = 0.4  # palms about a hand's bones: what is nearer is hand, and does not fade
_EDGE = (0.08, 0.2)  # palms about an arm that are taken out with it, and about one whose forearm is hidden
_FADE = (0.5, 0.95)  # share of the forearm from where on it fades into the arm that the latent moves
_GOES_ALONG = 1.0  # palms about a hand and a forearm that it hides: what sticks out of the person there goes with it
_SLEEVE = 1.6  # palms, width of the upper half of an upper arm with its sleeve
_THIN = 0.1  # palms, half of what is too thin to be a sleeve's end
_THUMB = ((2, 3), (3, 4))  # its bones away from the palm
_BESIDE_THUMB = 0.9  # palms, width about it in which nothing of a forearm is seen
_ENDS = 0.2  # palms over which what goes along ends
_STAYS = (1.0, 1.4, 1.8)  # palms from the elbow of points of the upper arm that stay
_UNSEEN = 2.2  # palms from the wrist to an elbow that is not seen, away from the fingers


@dataclass(frozen=True)
class _Arm:
    """An arm in a part of the picture that holds all that may be its; points are complex, in pixels of that part."""

    crop: np.ndarray
    """uint8 (h, w, 3)."""
    box: tuple[slice, slice]
    """Rows and columns of the picture."""
    corner: complex
    hand: np.ndarray
    """(21,)."""
    elbow: complex
    """Where it is likely, if it is not seen."""
    sees_elbow: bool
    shoulder: complex | None
    """None where it or the elbow is not seen."""
    palm: float
    on_hand: np.ndarray
    """uint8 (h, w): the hand is there or near."""
    on_upper_arm: np.ndarray
    """uint8 (h, w)."""
    theirs: np.ndarray
    """float32 (h, w) in 0..1: what is the person's."""

    @property
    def hides_forearm(self) -> bool:
        """Whether the elbow is behind the hand: the forearm points at the camera, or away from it."""
        ends = forearm_points(np.append(self.hand, self.elbow))[-2:]
        h, w = self.on_hand.shape
        rows, columns = ends.imag.round().clip(0, h - 1), ends.real.round().clip(0, w - 1)
        return bool(self.on_hand[rows.astype(int), columns.astype(int)].any())

    @property
    def points(self) -> np.ndarray:
        """The hand, and the elbow of a forearm that is seen: (21,) or (22,)."""
        return self.hand if self.hides_forearm else np.append(self.hand, self.elbow)

    def measure_reach(self) -> np.ndarray:
        """Measure how many palms each pixel (h, w) is away from the hand and the forearm's bone."""
        there = self.on_hand.copy()
        draw_bone(there, (self.hand[0], self.elbow), 1)
        return cv2.distanceTransform(1 - there, cv2.DIST_L2, 5) / self.palm

    def measure_along(self) -> np.ndarray:
        """Measure how far along the forearm each pixel (h, w) lies: 0 at the wrist, 1 at the elbow."""
        y, x = np.mgrid[: self.theirs.shape[0], : self.theirs.shape[1]].astype(np.float32)
        bone = self.elbow - self.hand[0]
        return (((x + 1j * y) - self.hand[0]) * np.conj(bone)).real / max(abs(bone) ** 2, 1e-6)


def make_arm_layers(
    picture: Tensor, keypoints: Keypoints, laid: tuple[bool, bool], person: np.ndarray | None = None
) -> ArmLayers | None:
    """Cut hands and forearms out of a picture (1, 3, H', W') in -1..1; None where it shows none of them.

    keypoints: in 0..1 of it. laid: whether the left and the right one are. person: float32 (H', W') in 0..1, what is
    the person's (`perception.matte`); by it cloth and wall are told apart in what is made up.
    """
    h, w = picture.shape[-2:]
    pixels = ((picture[0].float().permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    points = arm_points(keypoints) * [w, h, 1]
    arms = [
        _find(pixels, arm, person) if lies and arm[:ELBOW, 2].min() > VISIBLE else None
        for arm, lies in zip(points, laid, strict=True)
    ]
    hole, skin, bones, sleeves, near = np.zeros((5, h, w), np.float32)
    for arm, place in zip(arms, points, strict=True):
        if arm is not None:
            draw_upper_arm(bones, place, arm.palm)
            if arm.shoulder is not None:
                middle = 0.5 * (arm.shoulder + arm.elbow)
                draw_bone(sleeves, (middle + arm.corner, arm.shoulder + arm.corner), _SLEEVE * arm.palm)
            np.maximum(near[arm.box], arm.measure_reach() < _GOES_ALONG, out=near[arm.box])
    body = None if person is None else continue_person(person, near > 0, np.maximum(bones, sleeves))
    layers: list[ArmLayer | None] = [None, None]
    for side, arm in enumerate(arms):
        if arm is not None:
            layers[side] = layer = _cut(arm, None if body is None else body[arm.box])
            np.maximum(hole[arm.box], layer.taken.numpy(), out=hole[arm.box])
            np.maximum(skin[arm.box], _may_be(arm), out=skin[arm.box])
    if not hole.any():
        return None
    skin[bones > 0] = 0  # a bare upper arm goes on behind the hand
    filled = fill_hole(pixels, hole, skin) if person is None else fill_behind(pixels, hole, skin, person, bones)
    behind = torch.from_numpy(filled).permute(2, 0, 1)[None].to(picture) / 127.5 - 1
    left, right = _dressed_alike(layers)
    return ArmLayers(behind, torch.from_numpy(hole)[None, None].to(picture), (left, right))


def _find(pixels: np.ndarray, arm: np.ndarray, person: np.ndarray | None) -> _Arm | None:
    """Find the part of a picture uint8 (H, W, 3) with an arm (23, 3), in pixels, of which (H, W) is the person's.

    None for a hand that is very small or outside the picture.
    """
    points = arm[:, 0] + 1j * arm[:, 1]
    hand, elbow, palm = points[:ELBOW], points[ELBOW], measure_palm(points)
    sees_elbow = bool(arm[ELBOW, 2] > VISIBLE)
    if not sees_elbow:
        elbow = hand[0] + _UNSEEN * (hand[0] - hand[PALM[1]])
    h, w = pixels.shape[:2]
    inside = (0 <= hand.real) & (hand.real < w) & (0 <= hand.imag) & (hand.imag < h)
    if palm < _SMALL or inside.mean() < _INSIDE:
        return None
    (y0, y1), (x0, x1) = box_about(np.append(hand, elbow), _GOES_ALONG * palm + 4, (h, w))
    box, corner = np.s_[y0:y1, x0:x1], complex(x0, y0)
    crop = pixels[box]
    on_upper_arm, shoulder = np.zeros(crop.shape[:2], np.uint8), None
    if draw_upper_arm(on_upper_arm, arm, palm, corner):
        shoulder = complex(points[SHOULDER]) - corner
    return _Arm(
        crop=crop,
        box=box,
        corner=corner,
        hand=hand - corner,
        elbow=complex(elbow) - corner,
        sees_elbow=sees_elbow,
        shoulder=shoulder,
        palm=palm,
        on_hand=draw_arm(hand - corner, palm, crop.shape[:2], _OF_HAND),
        on_upper_arm=on_upper_arm,
        theirs=np.ones(crop.shape[:2], np.float32) if person is None else person[box],
    )


def _may_be(arm: _Arm) -> np.ndarray:
    """Draw what may be of an arm: uint8 (h, w)."""
    return draw_arm(arm.points, arm.palm, arm.crop.shape[:2], _MAYBE, _FOREARM[0])


def _cut(arm: _Arm, body: np.ndarray | None) -> ArmLayer:
    """Cut an arm out. body: bool (h, w), where the person goes on behind it, if that is known."""
    share, looks_so = _matte(arm)
    whole, forearm, about = np.ones(share.shape, bool), None, None
    if not arm.hides_forearm:
        along = arm.measure_along()
        forearm = _shown_forearm(arm, share, along)
        share = np.where(arm.on_hand > 0, share, np.minimum(share, _surely(arm.theirs)))
        whole = (along < _FADE[0]) | (arm.on_hand > 0)
        fade = 1 - np.clip((along - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
        share = share * np.where(whole, 1, fade * fade * (3 - 2 * fade)).astype(np.float32)
    elif arm.shoulder is not None:
        forearm, skin = _hidden_forearm(arm, share, looks_so)
        looks_so = np.maximum(looks_so, skin)
        if body is not None:
            about, sticks_out = _about_hand(arm, body)
            looks_so = np.maximum(looks_so, sticks_out)
    x, y = round(arm.corner.real), round(arm.corner.imag)
    return ArmLayer(
        pixels=_premultiplied(arm.crop, share),
        corner=(x, y),
        points=arm.points + arm.corner,
        elbow=arm.elbow + arm.corner if arm.sees_elbow else None,
        shoulder=None if arm.shoulder is None else arm.shoulder + arm.corner,
        forearm=forearm,
        about=about,
        taken=torch.from_numpy(_taken(arm, looks_so, whole, body is not None)),
        palm=arm.palm,
    )


def _taken(arm: _Arm, looks_so: np.ndarray, whole: np.ndarray, knows_person: bool) -> np.ndarray:
    """Decide what is to be taken out of the picture with an arm, float32 (h, w); of it what is `whole` looks so."""
    edge = _EDGE[arm.hides_forearm] * arm.palm
    rim = cv2.dilate(looks_so, np.ones((2 * round(edge) + 1,) * 2))
    unsure = (arm.theirs > _NOBODY) & (arm.theirs < 0.9)
    taken = _soften(np.maximum(looks_so, rim * unsure), edge, whole)
    if knows_person:
        taken = np.maximum(taken, _soften(_scraps((arm.theirs > 0.3) & (taken < 0.5), _may_be(arm)), edge))
    return taken


def _shown_forearm(arm: _Arm, share: np.ndarray, along: np.ndarray) -> Forearm | None:
    """Measure what a forearm is like whose `share` (h, w) is seen `along` it, or None where that is little."""
    shown = (share > 0.9) & (along > 0) & (along < 1) & (arm.on_hand == 0)
    if shown.sum() < _KNOWN:
        return None
    half = 0.5 * float(shown.sum() / np.ptp(along[shown])) / abs(arm.elbow - arm.hand[0]) / arm.palm
    return Forearm(_colour(arm.crop, shown), float(min(max(half, 0.5 * _HALF), _HALF)))


def _hidden_forearm(arm: _Arm, share: np.ndarray, looks_so: np.ndarray) -> tuple[Forearm, np.ndarray]:
    """Tell what a forearm is like that its hand hides, and what is seen of its skin, bool (h, w).

    share, looks_so (h, w): as `_matte` has them.
    """
    where = np.zeros(share.shape, np.uint8)
    draw_bone(where, (arm.hand[0], arm.elbow), 2 * _FOREARM[0] * arm.palm)
    skin = _like(arm.crop, share > 0.9, (where > arm.on_hand) & (looks_so < 0.5) & (arm.theirs > 0.5))
    bare = skin & (arm.measure_along() > _BEYOND)  # a wrist alone is no bare arm
    return Forearm(_colour(arm.crop, bare) if bare.sum() > _BARE * arm.palm**2 else None, _HALF), skin


def _about_hand(arm: _Arm, body: np.ndarray) -> tuple[AboutHand, np.ndarray]:
    """Cut out what sticks out of the `body` (h, w) about a forearm that the hand hides, float32 (h, w) as well."""
    reach = arm.measure_reach()
    thumb = np.zeros(reach.shape, np.uint8)
    for begin, end in _THUMB:
        draw_bone(thumb, (arm.hand[begin], arm.hand[end]), _BESIDE_THUMB * arm.palm)
    sticks_out = ((arm.theirs > 0.5) & ~body & (reach < _GOES_ALONG) & (thumb == 0)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_THIN * arm.palm) + 1,) * 2)
    whole = cv2.morphologyEx(sticks_out | arm.on_hand, cv2.MORPH_OPEN, kernel)
    _, pieces = cv2.connectedComponents(whole)
    sticks_out &= np.isin(pieces, pieces[(arm.on_hand > 0) & (whole > 0)])
    share = cv2.GaussianBlur(sticks_out.astype(np.float32), (0, 0), 0.8)
    share *= np.clip((_GOES_ALONG - reach) / _ENDS, 0, 1)
    assert arm.shoulder is not None
    bone, away = arm.shoulder - arm.elbow, np.array(_STAYS) * arm.palm
    ends = arm.elbow + bone / max(abs(bone), 1e-6) * away[away < abs(bone)]
    return AboutHand(_premultiplied(arm.crop, share), ends + arm.corner), share


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


def _premultiplied(crop: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Cut a share (h, w) out of a crop uint8 (h, w, 3), as `ArmLayer.pixels`."""
    return np.dstack([(crop.astype(np.float32) / 127.5 - 1) * share[..., None], share])


def _colour(crop: np.ndarray, where: np.ndarray) -> np.ndarray:
    return crop[where].mean(0).astype(np.float32) / 127.5 - 1


def _surely(theirs: np.ndarray) -> np.ndarray:
    return np.clip(2.5 * (theirs - 0.2), 0, 1)


def _soften(share: np.ndarray, edge: float, whole: np.ndarray | None = None) -> np.ndarray:
    """Widen a share (h, w) by a rim of so many pixels, which fades; not beyond what is `whole`."""
    rim = 1 + round(edge)
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


def _matte(arm: _Arm) -> tuple[np.ndarray, np.ndarray]:
    """Find which pixels are an arm's, and which look like it: float32 (h, w) in 0..1."""
    h, w = arm.theirs.shape
    other = (arm.theirs < _NOBODY) | (arm.on_upper_arm > arm.on_hand)
    scale = min(1.0, _CUT_PALM / arm.palm)
    small = cv2.resize(arm.crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
    z, palm, size = arm.points * scale, arm.palm * scale, small.shape[:2]
    marks = np.full(size, cv2.GC_BGD, np.uint8)
    marks[draw_arm(z, palm, size, _MAYBE, _FOREARM[0]) > 0] = cv2.GC_PR_BGD
    marks[cv2.resize(other.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0] = cv2.GC_BGD
    marks[draw_arm(z, palm, size, _LIKELY, _FOREARM[1]) > 0] = cv2.GC_PR_FGD
    sure = draw_arm(z, palm, size, _SURELY, 0.1)
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
