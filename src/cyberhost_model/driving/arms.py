"""Arms and hands: they start from the reference's pose and reach the driving's.

At the anchor elbow and wrist are where the reference has them. Near it they move as the driving's do, so that a small gesture stays one whatever the
two people's poses are; the further the driving has moved its arm from there, the more the pose itself is the driving's: a hand that is raised to
the head arrives at the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..conditions.keypoints import NECK
from .proportions import HANDS, WRISTS, Figure, as_complex, as_points, hand_size, length_scale, shoulder_width

CHAINS = ((5, 6, 7), (2, 3, 4))  # shoulder, elbow, wrist of the left and the right arm
_HOME = 0.3  # arm lengths the arm may go before its pose is more the driving's than the reference's; further where these are further apart
_ODD = 2.0  # a hand may look that much smaller or larger in the picture than at the anchor: either may be turned


def arm_root(drive: Figure, side: int) -> int:
    """Where an arm begins: at the shoulder, at the neck where that is never seen."""
    shoulder = CHAINS[side][0]
    return shoulder if drive.ever[shoulder] else NECK


def move_arm(drive: Figure, own: Figure, side: int, anchor: int, scale: float, root: np.ndarray) -> dict[int, np.ndarray]:
    """Points of the left (0) or right (1) arm -> their places (T, 2), from the moved `root` (T, 2) on; the hand's 21 among them.

    `own` is complete (`proportions.completed`). An elbow that is never seen is passed over.
    """
    ever = drive.ever
    chain = [arm_root(drive, side), *(p for p in CHAINS[side][1:] if ever[p])]
    moved = {chain[0]: root}
    width = float(shoulder_width(own)[0])
    pose, full = root, [0.0]  # the driving's pose with the reference's lengths
    poses = [root]
    for child, parent in zip(chain[1:], chain, strict=False):
        bone = drive.points[:, child] - drive.points[:, parent]
        lengths, there = np.linalg.norm(bone, axis=-1), float(np.linalg.norm(own.points[0, child] - own.points[0, parent]))
        scaled = length_scale(lengths, drive.seen[:, child] & drive.seen[:, parent], anchor, there, scale, width)
        pose = pose + scaled * bone
        poses.append(pose)
        full.append(max(scaled * float(lengths.max()), there))
    off = [own.points[0, p] - own.points[0, chain[0]] - (pose - root)[anchor] for p, pose in zip(chain, poses, strict=True)]
    home = _home([pose - root for pose in poses], off, anchor, sum(full))
    for child, parent, pose, shift, most in zip(chain[1:], chain, poses[1:], off[1:], full[1:], strict=False):
        bone = pose + home[:, None] * shift - moved[parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        moved[child] = moved[parent] + bone * np.minimum(1, most / np.maximum(length, 1e-9))
    wrist = WRISTS[side]
    if ever[wrist] and ever[HANDS[side]].all():
        moved |= dict(zip(range(HANDS[side].start, HANDS[side].stop), move_hand(drive, own, side, anchor, scale, home, moved[wrist]), strict=True))
    return moved


def _home(poses: Sequence[np.ndarray], off: Sequence[np.ndarray], anchor: int, length: float) -> np.ndarray:
    """(T,) how far each frame's pose is the picture's, 1 at the anchor, 0 far from it: a bell over the way elbow and wrist have gone.

    It is as wide as the two poses are apart: a narrower one would turn the arm back while the driving goes on.
    """
    gone = np.sqrt(np.mean([np.square(pose - pose[anchor]).sum(-1) for pose in poses[1:]], 0)) if len(poses) > 1 else np.zeros(len(poses[0]))
    apart = float(np.sqrt(np.mean([np.square(shift).sum() for shift in off[1:]]))) if len(off) > 1 else 0.0
    return np.exp(-0.5 * (gone / max(_HOME * length, apart, 1e-9)) ** 2)


def move_hand(drive: Figure, own: Figure, side: int, anchor: int, scale: float, home: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    """(21, T, 2) the driving's hand at the moved wrist, of the reference's size, turned as the reference's at home.

    `home` (T,): how far each frame's pose is the picture's.
    """
    hand, root = HANDS[side], WRISTS[side]
    z = as_complex(drive.points[:, hand] - drive.points[:, root, None])
    factor: np.ndarray | float = scale
    if own.ever[hand].all():
        size, wanted = hand_size(drive.points[:, hand]), float(hand_size(own.points[:, hand])[0])
        usual = length_scale(size, np.asarray(drive.seen[:, hand].all(1)), anchor, wanted, scale, wanted)
        # From the wrist to the middle finger's knuckle. Hands that point apart face apart too: no turn makes one of the other.
        palms = [complex(as_complex(p[hand.start + 9] - p[hand.start])) for p in (drive.points[anchor], own.points[0])]
        apart = float(np.angle(palms[1] / palms[0])) if min(map(abs, palms)) > 1e-9 else 0.0
        exact = float(np.clip(wanted / max(float(size[anchor]), 1e-9), scale / _ODD, scale * _ODD))
        factor = usual * (exact / usual) ** home * np.exp(1j * home * apart * max(0.0, np.cos(apart)))
    return wrist + as_points(z.T * factor)
