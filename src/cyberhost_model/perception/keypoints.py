"""Whole-body key points in the field's layout (DWPose / OpenPose order), and the mapping from MediaPipe's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# OpenPose body order; right and left are the person's own.
BODY = (
    "nose",
    "neck",
    "r_shoulder",
    "r_elbow",
    "r_wrist",
    "l_shoulder",
    "l_elbow",
    "l_wrist",
    "r_hip",
    "r_knee",
    "r_ankle",
    "l_hip",
    "l_knee",
    "l_ankle",
    "r_eye",
    "l_eye",
    "r_ear",
    "l_ear",
)
VISIBLE = 0.3  # a point whose score is above it counts as visible
SURE = 0.6  # least score of a hand that is surely one; a cuff at the picture's edge may have 0.5
NECK = 1  # the mean of both shoulders; stands for the paper's thorax point
LIPS = slice(48, 68)  # of the 68 face points
INNER_LIPS = ((61, 67), (62, 66), (63, 65))  # upper and lower points that meet in a closed mouth
LIDS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))  # of both eyes: upper and lower points that meet in a shut eye
# MediaPipe's 33 pose points -> BODY (the neck is computed).
_POSE33 = (0, -1, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
# MediaPipe's 478 face-mesh points -> the 68 of iBUG / OpenPose: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips
# 48-67.
_MESH478 = (
    162,
    234,
    93,
    58,
    172,
    136,
    149,
    148,
    152,
    377,
    378,
    365,
    397,
    288,
    323,
    454,
    389,
    71,
    63,
    105,
    66,
    107,
    336,
    296,
    334,
    293,
    301,
    168,
    197,
    5,
    4,
    75,
    97,
    2,
    326,
    305,
    33,
    160,
    158,
    133,
    153,
    144,
    362,
    385,
    387,
    263,
    373,
    380,
    61,
    39,
    37,
    0,
    267,
    269,
    291,
    405,
    314,
    17,
    84,
    181,
    78,
    82,
    13,
    312,
    308,
    317,
    14,
    87,
)


@dataclass
class Keypoints:
    """One person's whole-body key points.

    body (18, 2), hands (2, 21, 2) left then right, face (68, 2): float32, x and y in 0..1 of the picture's width and
    height (points outside the picture may lie outside 0..1). *_score: float32 of the same leading shape, 0 (absent) ..
    1.
    """

    body: np.ndarray
    body_score: np.ndarray
    hands: np.ndarray
    hands_score: np.ndarray
    face: np.ndarray
    face_score: np.ndarray

    @staticmethod
    def empty() -> Keypoints:
        """Make key points of which none is visible: zeros everywhere."""
        z = lambda *s: np.zeros(s, np.float32)  # noqa: E731
        return Keypoints(z(18, 2), z(18), z(2, 21, 2), z(2, 21), z(68, 2), z(68))

    @staticmethod
    def from_mediapipe(label: dict) -> Keypoints:
        """Convert MediaPipe Holistic's `pose33` (x, y, visibility), `left_hand21`, `right_hand21` and `face` (478).

        Each is a list or None.
        """
        k = Keypoints.empty()
        if label.get("pose33"):
            pose = np.asarray(label["pose33"], np.float32)
            for i, j in enumerate(_POSE33):
                if j >= 0:
                    k.body[i], k.body_score[i] = pose[j, :2], pose[j, 2] if pose.shape[1] > 2 else 1.0
            k.body[NECK] = (k.body[2] + k.body[5]) / 2
            k.body_score[NECK] = min(k.body_score[2], k.body_score[5])
        for side, name in enumerate(("left_hand21", "right_hand21")):
            if label.get(name):
                k.hands[side] = np.asarray(label[name], np.float32)[:, :2]
                k.hands_score[side] = 1.0
        if label.get("face"):
            k.face = np.asarray(label["face"], np.float32)[list(_MESH478), :2]
            k.face_score[:] = 1.0
        return k

    def map(self, function) -> Keypoints:
        """Apply `function` to the coordinates (..., 2); scores are copied."""
        return Keypoints(
            function(self.body),
            self.body_score.copy(),
            function(self.hands),
            self.hands_score.copy(),
            function(self.face),
            self.face_score.copy(),
        )


def clip_scores(keypoints: Keypoints) -> Keypoints:
    """Clip the scores to 0..1: those of some detectors are no probabilities."""
    scores = ("body_score", "hands_score", "face_score")
    return replace(keypoints, **{name: np.clip(getattr(keypoints, name), 0, 1) for name in scores})


def without_hands(keypoints: Keypoints) -> Keypoints:
    """Hide the hands: their scores become 0."""
    return replace(keypoints, hands_score=np.zeros_like(keypoints.hands_score))


def bounding_box(
    points: np.ndarray, score: np.ndarray, threshold: float = VISIBLE
) -> tuple[float, float, float, float] | None:
    """Compute the minimal enclosing box (x0, y0, x1, y1) of the points scored above `threshold` (paper, section 3.2).

    None when there is no such point.
    """
    visible = points.reshape(-1, 2)[score.reshape(-1) > threshold]
    if len(visible) == 0:
        return None
    return (*map(float, visible.min(0)), *map(float, visible.max(0)))  # type: ignore[return-value]
