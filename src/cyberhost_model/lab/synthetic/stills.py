"""Labelled stills, from which photo puppets are cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from cyberhost_model.errors import InputError
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints


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


def load_stills(folder: str | Path) -> list[Still]:
    """Load all labelled stills of a folder: pictures beside a `keypoints.json`.

    The file has MediaPipe Holistic points for each picture, null where not found. Pictures without a face are left out.
    Raises InputError when the folder holds no labelled picture.
    """
    cv2.setNumThreads(1)  # a pool started here would hang data workers forked later
    folder = Path(folder)
    labels = folder / "keypoints.json"
    if not labels.is_file():
        raise InputError(
            f"no keypoints.json in {folder}: stills need their MediaPipe key points beside them (see "
            "docs/reference/file-formats.md)"
        )
    stills = []
    for name, label in sorted(json.loads(labels.read_text()).items()):
        path = folder / name
        if not label.get("face") or not label.get("pose33") or not path.is_file():
            continue
        picture = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        keypoints = Keypoints.from_mediapipe(label)
        stills.append(Still(picture, person_mask(picture, keypoints), keypoints, f"{folder.name}/{path.stem}"))
    if not stills:
        raise InputError(f"no labelled picture with a face in {folder}")
    return stills
