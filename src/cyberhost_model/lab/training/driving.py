"""What drives the body in a training clip: the movement map of section 3.3, or skeleton maps in its place (section
4.2: V2V-B and multimodal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cyberhost_model.conditions.movement import BodyMovementMap
from cyberhost_model.conditions.pose_maps import PARTS, skeleton_map
from cyberhost_model.conditions.pose_shift import FINE, MAPS, pose_shift
from cyberhost_model.perception.keypoints import LIPS, NECK, VISIBLE, Keypoints


@dataclass(frozen=True)
class DrivingMix:
    """Shares of clips driven by a whole skeleton, by the hands' skeletons alone and by nothing; the rest have a
    movement map.

    deaf: share of the skeleton's clips without sound, so that the skeleton's lips are read too. lipless: share of the
    others whose skeleton has no lips, as one from a detector that does not follow them: the sound moves them.
    """

    skeleton: float = 0.0
    hands: float = 0.0
    nothing: float = 0.0
    deaf: float = 0.4
    lipless: float = 0.4

    def moving(self, rng: np.random.Generator) -> bool:
        """Whether the next batch is driven by skeletons."""
        return bool(rng.random() < self.skeleton + self.hands)


def driving_maps(
    points: list[Keypoints],
    reference: Keypoints | None,
    size: tuple[int, int],
    hw: tuple[int, int],
    moving: bool,
    mix: DrivingMix,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The pose condition of one clip, float32 (3, H, W) maps in 0..1, its pose shift (F, 7, 2h, 2w), zero without a
    `reference`, and whether its sound is to be left out.

    (F, 3, H, W) skeletons where `moving`, else one map for all frames (1, 3, H, W): the clips of a batch are alike in
    that, which spares encoding a map that stands still F times.
    """
    none = np.zeros((len(points), MAPS, FINE * hw[0], FINE * hw[1]), np.float32)
    if moving:
        whole = rng.random() * (mix.skeleton + mix.hands) < mix.skeleton
        deaf = whole and rng.random() < mix.deaf
        driven = add_detector_noise(points, rng)
        if whole and not deaf and rng.random() < mix.lipless:
            for k in driven:
                k.face_score[LIPS] = 0
        parts = PARTS if whole else ("hands",)
        shift = none if reference is None else pose_shift(reference, driven, hw, parts)
        return np.stack([skeleton_map(k, size, parts=parts) for k in driven]), shift, deaf
    if rng.random() * (1 - mix.skeleton - mix.hands) < mix.nothing:
        return np.zeros((1, 3, size[1], size[0]), np.float32), none, False
    thorax = np.stack([k.body[NECK] if k.body_score[NECK] > VISIBLE else k.face[8] for k in points])
    return BodyMovementMap.of_clip(thorax, rng).render(size)[None], none, False


def add_detector_noise(points: list[Keypoints], rng: np.random.Generator) -> list[Keypoints]:
    """Key points as a detector and a retargeting leave them: trembling by up to about 1% of the picture, mostly by
    less, up to a fifth of them missing.
    """
    tremble, gone = 0.006 * rng.random() ** 2, rng.uniform(0, 0.2) * (rng.random() < 0.5)
    out = []
    for k in points:
        worse = k.map(lambda p: (p + rng.normal(0, tremble, p.shape)).astype(np.float32))
        for score in (worse.body_score, worse.hands_score, worse.face_score):
            score *= rng.random(score.shape) >= gone
        out.append(worse)
    return out
