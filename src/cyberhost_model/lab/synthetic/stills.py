"""Labelled stills, from which photo puppets are cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cyberhost_model.errors import InputError
from cyberhost_model.media.image import load_picture
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.reading import Unreadable, is_file, one_line, read_object

LABELS = "keypoints.json"
FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats of labelled pictures; files of others are refused, whatever their names end in."""
POINTS = {"pose33": 33, "left_hand21": 21, "right_hand21": 21, "face": 478}
"""Lists of MediaPipe Holistic's points -> how many each has."""
FAR = 10.0
"""Picture sides: points lie outside the picture, but not that far."""


@dataclass
class Still:
    """One person in one picture.

    picture_u8 uint8 (H, W, 3) RGB; mask float32 (H, W), 1 on the person and 0 on the background;
    keypoints in 0..1 of width and height; identity names the person (splits never share one).
    """

    picture_u8: np.ndarray
    mask: np.ndarray
    keypoints: Keypoints
    identity: str

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) in pixels."""
        return self.picture_u8.shape[1], self.picture_u8.shape[0]


def crop_still(still: Still, box: tuple[float, float, float, float], size: tuple[int, int]) -> Still:
    """Crop a still to `box` (x0, y0, x1, y1 in its pixels) and scale it to `size` (W, H).

    The box may reach outside, where edges are reflected. It should have the aspect of `size`: nothing is stretched on
    purpose.
    """
    (x0, y0, x1, y1), (w, h) = box, size
    sx, sy = w / (x1 - x0), h / (y1 - y0)
    shrink = min(sx, sy) < 0.7
    to_out = np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]], np.float32)
    interp = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    picture = still.picture_u8
    if shrink:  # warpAffine does not filter: blur first, so that small crops do not alias
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / min(sx, sy))
        interp = cv2.INTER_LINEAR
    warp = lambda a, b: cv2.warpAffine(a, to_out, (w, h), flags=interp, borderMode=b)  # noqa: E731
    full_w, full_h = still.size
    scale, shift = (
        np.array([full_w / (x1 - x0), full_h / (y1 - y0)], np.float32),
        np.array([x0 / (x1 - x0), y0 / (y1 - y0)], np.float32),
    )
    return Still(
        warp(picture, cv2.BORDER_REFLECT_101),
        np.clip(warp(still.mask, cv2.BORDER_REPLICATE), 0, 1),
        still.keypoints.map(lambda p: (p * scale - shift).astype(np.float32)),
        still.identity,
    )


def person_mask(picture_u8: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Segment the person by GrabCut from the key points, float32 (H, W); no network is needed."""
    h, w = picture_u8.shape[:2]
    work = 256 / max(h, w)
    small = cv2.resize(picture_u8, (round(w * work), round(h * work)), interpolation=cv2.INTER_AREA)
    hh, ww = small.shape[:2]
    px = lambda p: np.round(p * [ww, hh]).astype(np.int32)  # noqa: E731
    label = np.full((hh, ww), cv2.GC_PR_BGD, np.uint8)
    face = px(keypoints.face)
    eye = np.linalg.norm(keypoints.face[36:42].mean(0) * [ww, hh] - keypoints.face[42:48].mean(0) * [ww, hh])
    chin, brow = face[8], face[[19, 24]].mean(0)
    up = (brow - chin) / (np.linalg.norm(brow - chin) + 1e-6)
    head = ((brow + chin) / 2 + up * eye * 0.35).astype(np.int32)
    angle = float(np.degrees(np.arctan2(up[0], -up[1])))
    cv2.ellipse(label, tuple(map(int, head)), (int(eye * 2.0), int(eye * 2.5)), angle, 0, 360, cv2.GC_PR_FGD, -1)
    body, seen = px(keypoints.body), keypoints.body_score > VISIBLE
    shoulder = float(np.linalg.norm(body[2] - body[5])) if seen[2] and seen[5] else eye * 4
    if seen[2] and seen[5]:
        low = [body[8], body[11]] if seen[8] and seen[11] else [body[2] + [0, hh], body[5] + [0, hh]]
        torso = np.array([body[2], body[5], low[1], low[0]], np.int32)
        cv2.fillConvexPoly(label, cv2.convexHull(torso), cv2.GC_PR_FGD)
        cv2.polylines(label, [torso], True, cv2.GC_PR_FGD, int(shoulder * 0.3))
        cv2.fillConvexPoly(
            label, cv2.convexHull((torso.mean(0) + (torso - torso.mean(0)) * 0.7).astype(np.int32)), cv2.GC_FGD
        )
        cv2.line(label, tuple(map(int, chin)), tuple(map(int, body[1])), cv2.GC_FGD, int(eye * 0.8))
    for a, b in ((2, 3), (3, 4), (5, 6), (6, 7)):
        if seen[a] and seen[b]:
            cv2.line(label, tuple(map(int, body[a])), tuple(map(int, body[b])), cv2.GC_PR_FGD, int(shoulder * 0.28))
            cv2.line(
                label, tuple(map(int, body[a])), tuple(map(int, body[b])), cv2.GC_FGD, max(1, int(shoulder * 0.06))
            )
    for side in (0, 1):
        if keypoints.hands_score[side].max() > VISIBLE:
            hull = cv2.convexHull(px(keypoints.hands[side]))
            cv2.polylines(label, [hull], True, cv2.GC_PR_FGD, max(2, int(eye * 0.3)))
            cv2.fillConvexPoly(label, hull, cv2.GC_FGD)
    cv2.fillConvexPoly(label, cv2.convexHull(face), cv2.GC_FGD)
    # The skull is sure: dark hair before a dark wall would go otherwise.
    cv2.ellipse(label, tuple(map(int, head)), (int(eye * 1.25), int(eye * 1.6)), angle, 0, 360, cv2.GC_FGD, -1)
    edge = max(2, ww // 40)
    top = np.s_[: max(2, int(head[1] - eye * 3.0))]
    label[top][label[top] == cv2.GC_PR_BGD] = cv2.GC_BGD
    for strip in (np.s_[: hh // 3, :edge], np.s_[: hh // 3, -edge:]):
        label[strip][label[strip] == cv2.GC_PR_BGD] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # GrabCut's mixtures start from k-means: the same still must give the same matte
    cv2.grabCut(small, label, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    mask = ((label == cv2.GC_FGD) | (label == cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3))), cv2.MORPH_CLOSE, np.ones((7, 7)))
    _, parts = cv2.connectedComponents(mask)
    keep = np.unique(parts[tuple(np.clip(face, 0, [ww - 1, hh - 1]).T[::-1])])
    hands = [px(keypoints.hands[s]) for s in (0, 1) if keypoints.hands_score[s].max() > VISIBLE]
    for points in hands:
        keep = np.union1d(keep, parts[tuple(np.clip(points, 0, [ww - 1, hh - 1]).T[::-1])])
    mask = (np.isin(parts, keep[keep > 0]) * 1.0).astype(np.float32)
    return np.clip(cv2.resize(cv2.GaussianBlur(mask, (0, 0), 0.8), (w, h), interpolation=cv2.INTER_LINEAR), 0, 1)


def has_labels(folder: str | Path) -> bool:
    """Tell whether a folder holds labelled pictures."""
    return is_file(Path(folder) / LABELS)


def load_stills(folder: str | Path) -> list[Still]:
    """Load all labelled stills of a folder: pictures beside a `keypoints.json`.

    The file has MediaPipe Holistic points for each picture, null where not found. Pictures without a face are left out.
    Only PNG, JPEG and WebP files inside the folder are opened. Raises InputError when the folder holds no labelled
    picture, and for labels or pictures that cannot be used.
    """
    cv2.setNumThreads(1)  # a pool started here would hang data workers forked later
    folder = Path(folder)
    labels = folder / LABELS
    if not has_labels(folder):
        raise InputError(
            f"no keypoints.json in {folder}: stills need their MediaPipe key points beside them (see "
            "docs/reference/file-formats.md)"
        )
    stills = []
    for name, label in _read_labels(labels).items():
        path = folder / name
        if "face" not in label or "pose33" not in label or not is_file(path):
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{labels}: names {path}, which lies outside its folder; put the picture into the folder")
        picture = _read_still(path)
        keypoints = Keypoints.from_mediapipe(label)
        try:
            mask = person_mask(picture, keypoints)
        except (cv2.error, ValueError, IndexError, OverflowError) as error:
            raise InputError(
                f"{labels}: nobody can be cut out of {name} by its key points ({one_line(error)}); label it again"
            ) from None
        stills.append(Still(picture, mask, keypoints, f"{folder.name}/{path.stem}"))
    if not stills:
        raise InputError(f"no labelled picture with a face in {folder}")
    return stills


def _read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """Read a keypoints.json -> for each picture, in the order of their names, those of `POINTS` that were found.

    Raises InputError.
    """
    try:
        labels = read_object(path, 1 << 28)
        return {name: _check_label(name, label) for name, label in sorted(labels.items())}
    except (OSError, Unreadable) as error:
        raise InputError(
            f"{path}: no key points of pictures ({one_line(error)}); see docs/reference/file-formats.md"
        ) from None


def _check_label(name: str, label: Any) -> dict[str, Any]:
    """Return the parts that the label of one picture has, each (points, 2 or 3). Raises Unreadable."""
    if label is None:
        return {}
    if not isinstance(label, dict):
        raise Unreadable(f"{name} has no object with its points")
    found = {}
    for part, count in POINTS.items():
        if not label.get(part):
            continue
        try:
            points = np.asarray(label[part], np.float64)
        except (ValueError, TypeError, OverflowError):
            raise Unreadable(f"{part} of {name} is no list of points") from None
        if points.ndim != 2 or points.shape[0] != count or points.shape[1] not in (2, 3):
            raise Unreadable(f"{part} of {name} must be {count} points (x, y), not {points.shape}")
        if not (np.abs(points) <= FAR).all():
            raise Unreadable(f"{part} of {name} has points far outside the picture, or that are no numbers")
        found[part] = label[part]
    return found


def _read_still(path: Path) -> np.ndarray:
    """Read a labelled picture, uint8 (H, W, 3). Raises InputError."""
    try:
        with Image.open(path, formats=FORMATS):
            pass
    except Exception as error:  # Pillow's plug-ins raise anything
        raise InputError(f"{path}: not a PNG, JPEG or WebP picture ({one_line(error)}); convert it") from None
    return load_picture(path)
