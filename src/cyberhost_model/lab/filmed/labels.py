"""Read and write the labels of a clip, the arrays of its .npz file: the same for filmed and for synthetic clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.files import written_whole
from cyberhost_model.perception.crops import face_box, hand_boxes
from cyberhost_model.perception.keypoints import LIPS, NECK, VISIBLE, Keypoints
from cyberhost_model.reading import Unreadable, one_line, read_arrays

POINTS = ("body", "body_score", "hands", "hands_score", "face", "face_score")
ALWAYS = (*POINTS, "face_box", "hand_boxes", "thorax", "clarity", "opening", "width", "identity")
SHAPES: dict[str, tuple[int, ...]] = {
    "body": (18, 2),
    "body_score": (18,),
    "hands": (2, 21, 2),
    "hands_score": (2, 21),
    "face": (68, 2),
    "face_score": (68,),
    "face_box": (4,),
    "hand_boxes": (2, 4),
    "thorax": (2,),
    "clarity": (),
    "opening": (),
    "width": (),
}
"""Shape of a frame's entry of each array of numbers in `ALWAYS`."""
# The scale of the synthetic labels (lab.synthetic): the mean gap of the inner lips of a wide open mouth, in heights of
# the face (brows to chin), and the share by which the inner corners move apart from neutral to spread.
OPEN_GAP = 0.105 * 0.88
SPREAD = 0.087


def pack_labels(
    points: Sequence[Keypoints],
    size: tuple[int, int],
    clarity: np.ndarray,
    opening: np.ndarray,
    width: np.ndarray,
    identity: str,
) -> dict[str, np.ndarray]:
    """Pack the labels of T frames of `size` (W, H) into arrays.

    Shapes and units: docs/reference/file-formats.md.
    """
    none = (np.nan,) * 4
    return {
        **{n: np.stack([getattr(k, n) for k in points]) for n in POINTS},
        "face_box": np.array([face_box(k, size) or none for k in points], np.float32),
        "hand_boxes": np.array([[b or none for b in hand_boxes(k, size)] for k in points], np.float32),
        "thorax": np.stack(
            [k.body[NECK] if k.body_score[NECK] > VISIBLE else np.full(2, np.nan, np.float32) for k in points]
        ),
        "clarity": np.asarray(clarity, np.float32),
        "opening": np.asarray(opening, np.float32),
        "width": np.asarray(width, np.float32),
        "identity": np.array(identity),
    }


def mouth_from_keypoints(points: Sequence[Keypoints], aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Measure the mouth on the face points: opening (T,) in 0..1 and width (T,) in -1..1.

    NaN where the lips are not visible. aspect: W / H of the picture. The width is relative to the clip's own median.
    """
    scale = np.array([aspect, 1.0])
    gap, across, height = (np.full(len(points), np.nan) for _ in range(3))
    for i, k in enumerate(points):
        if k.face_score[LIPS].max() > VISIBLE:
            face = k.face * scale
            height[i] = np.linalg.norm(face[8] - face[[19, 24]].mean(0))
            gap[i] = np.mean([np.linalg.norm(face[a] - face[b]) for a, b in ((61, 67), (62, 66), (63, 65))])
            across[i] = np.linalg.norm(face[60] - face[64])
    if np.isnan(height).all():
        return gap.astype(np.float32), across.astype(np.float32)
    opening = np.clip(gap / (OPEN_GAP * height), 0, 1)
    relative = across / height
    width = np.clip((relative / np.nanmedian(relative) - 1) / SPREAD, -1, 1)
    return opening.astype(np.float32), width.astype(np.float32)


def write_labels(path: Path, labels: dict[str, np.ndarray]) -> None:
    """Write the arrays, whole or not at all. Raises OutputError."""
    with written_whole(path) as part:
        np.savez_compressed(part, **labels)  # type: ignore[arg-type]  # numpy declares its one flag, not the arrays


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a clip.

    Raises InputError where the file is missing, damaged, or lacks an array or has one of another shape.
    """
    try:
        labels = read_arrays(path, 1 << 33)  # the flow of a clip of 10 s at 640x384 takes 250 MB
    except (OSError, Unreadable) as error:
        raise InputError(f"{path}: no labels that can be read ({one_line(error)}); prepare the dataset again") from None
    if missing := [name for name in ALWAYS if name not in labels]:
        raise InputError(f"{path}: lacks {', '.join(missing)}; prepare the dataset again")
    frames = labels["clarity"].shape[0] if labels["clarity"].ndim else 0
    for name, shape in SHAPES.items():
        found = labels[name]
        if found.shape != (frames, *shape) or not frames or found.dtype.kind not in "iuf":
            raise InputError(
                f"{path}: {name} is not an array of numbers of {frames} frames and the shape {shape}; prepare the "
                "dataset again"
            )
    if labels["identity"].ndim or labels["identity"].dtype.kind != "U":
        raise InputError(f"{path}: identity is not a name; prepare the dataset again")
    for part in ("body", "hands", "face"):
        score = labels[f"{part}_score"]
        if not np.isfinite(score).all() or not np.isfinite(labels[part][score > 0]).all():
            raise InputError(f"{path}: {part} has points that are no numbers; prepare the dataset again")
    return labels


def unpack_points(labels: dict[str, np.ndarray], frame: int) -> Keypoints:
    """Return the key points of one frame."""
    return Keypoints(*(labels[name][frame] for name in POINTS))
