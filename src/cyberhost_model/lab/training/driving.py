"""The pose condition of training clips: a body movement map (section 3.3), or skeleton maps (section 4.2).

Skeletons are for video-driven reenactment (V2V-B) and the multimodal setting.
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
    """Shares of clips by their pose condition; the rest have a body movement map."""

    skeleton: float = 0.0
    """Driven by a whole skeleton."""
    hands: float = 0.0
    """Driven by the skeletons of the hands alone."""
    nothing: float = 0.0
    """Without a pose condition."""
    deaf: float = 0.4
    """Share of the clips with a whole skeleton that have no sound, so that the network reads the skeleton's lips."""
    lipless: float = 0.4
    """Share of the others whose skeleton has no lips, as from a detector without them: the sound moves the lips."""

    def draw_moving(self, rng: np.random.Generator) -> bool:
        """Draw whether the next batch is driven by skeletons."""
        return bool(rng.random() < self.skeleton + self.hands)


def driving_maps(
    points: list[Keypoints],
    reference: Keypoints | None,
    size: tuple[int, int],
    hw: tuple[int, int],
    moving: bool,
    mix: DrivingMix,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, bool, bool]:
    """Draw the pose condition of one clip of F frames.

    size: (W, H) of the picture; hw: of the latent grid. Returns the maps, float32 in 0..1, the pose shift
    (F, 7, 2h, 2w), zero without a `reference`, whether a whole skeleton drives the clip, and whether the sound is left
    out. The maps are skeletons (F, 3, H, W) where `moving`, else one map for all frames (1, 3, H, W), which is then
    encoded once; all clips of a batch are of one kind.
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
        return np.stack([skeleton_map(k, size, parts=parts) for k in driven]), shift, whole, deaf
    if rng.random() * (1 - mix.skeleton - mix.hands) < mix.nothing:
        return np.zeros((1, 3, size[1], size[0]), np.float32), none, False, False
    thorax = np.stack([k.body[NECK] if k.body_score[NECK] > VISIBLE else k.face[8] for k in points])
    return BodyMovementMap.of_clip(thorax, rng).render(size)[None], none, False, False


def add_detector_noise(points: list[Keypoints], rng: np.random.Generator) -> list[Keypoints]:
    """Add the errors of a detector and of retargeting to the key points of a clip.

    Jitter of up to about 1% of the picture, mostly less; in half of the clips up to a fifth of the points missing.
    """
    jitter, missing = 0.006 * rng.random() ** 2, rng.uniform(0, 0.2) * (rng.random() < 0.5)
    out = []
    for k in points:
        noisy = k.map(lambda p: (p + rng.normal(0, jitter, p.shape)).astype(np.float32))
        for score in (noisy.body_score, noisy.hands_score, noisy.face_score):
            score *= rng.random(score.shape) >= missing
        out.append(noisy)
    return out
