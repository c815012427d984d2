"""Label filmed people: lips, lids and brows of every frame, by MediaPipe's face mesh in tracking mode.

`python scripts/label_filmed.py CLIPS -o LABELS` writes one npz a clip; what is there already is left.
Needs an environment of its own: mediapipe 0.10.21, opencv-contrib-python < 4.12, numpy < 2.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

FACE = (10, 152)  # top of the forehead and chin: their distance is the unit of lengths
CORNERS = (61, 291)
INNER_UP, INNER_LOW = [191, 80, 81, 82, 13, 312, 311, 310], [95, 88, 178, 87, 14, 317, 402, 318]
INSIDE = [78, *INNER_UP, 415, 308, 324, *INNER_LOW[::-1]]
OUTER_UP, OUTER_LOW = [39, 37, 0, 267, 269], [181, 84, 17, 314, 405]
LIDS = ((159, 145, 33, 133), (386, 374, 362, 263))  # upper, lower, corners; picture's left eye, right eye
BROWS = ((105, 33, 133), (334, 362, 263))
CHEEKS = (50, 280)
BRIGHT = 0.6  # a tooth has at least this much of the cheeks' lightness, and is less red than they are


def distance(points: np.ndarray, a: list[int], b: list[int]) -> float:
    """Mean distance of point pairs in the picture's plane, pixels."""
    return float(np.linalg.norm(points[a, :2] - points[b, :2], axis=1).mean())


def teeth(frame: np.ndarray, points: np.ndarray) -> float:
    """Area between the lips that is as bright as teeth, over the square of the face's height."""
    colours = cv2.cvtColor(frame, cv2.COLOR_BGR2LAB).astype(np.float32)
    inside = np.zeros(frame.shape[:2], np.uint8)
    cv2.fillPoly(inside, [points[INSIDE, :2].round().astype(np.int32)], 1)
    near = []
    for x, y in points[list(CHEEKS), :2].round().astype(int).clip(0):
        near.append(colours[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].reshape(-1, 3))
    cheeks = np.concatenate(near)
    if not len(cheeks):
        return float("nan")
    light, red, _ = np.median(cheeks, axis=0)
    tooth = (inside > 0) & (colours[..., 0] > BRIGHT * light) & (colours[..., 1] < red)
    return float(tooth.sum()) / float(np.sum((points[FACE[0], :2] - points[FACE[1], :2]) ** 2))


def measures(frame: np.ndarray, points: np.ndarray) -> dict[str, float]:
    """Shape numbers of one frame, lengths in face heights. `depth`: how far the lips lie behind the tip of the nose
    (the mesh's own estimate; smaller when they are pushed forward). `teeth`: in squared face heights. Lids over
    the eye's width."""
    face = distance(points, [FACE[0]], [FACE[1]])
    lips = points[[*OUTER_UP[1:4], *OUTER_LOW[1:4], 13, 14], 2].mean()
    lids = [distance(points, [u], [low]) / distance(points, [a], [b]) for u, low, a, b in LIDS]
    brows = [np.linalg.norm(points[brow, :2] - (points[a, :2] + points[b, :2]) / 2) / face for brow, a, b in BROWS]
    return {
        "gap": distance(points, INNER_UP, INNER_LOW) / face,
        "width": distance(points, [CORNERS[0]], [CORNERS[1]]) / face,
        "outer": distance(points, OUTER_UP, OUTER_LOW) / face,
        "upper_lip": distance(points, OUTER_UP, [80, 81, 13, 311, 310]) / face,
        "lower_lip": distance(points, OUTER_LOW, [88, 178, 14, 402, 318]) / face,
        "jaw": distance(points, [2], [152]) / face,
        "depth": float(lips - points[1, 2]) / face,
        "teeth": teeth(frame, points),
        "lid_left": lids[0],
        "lid_right": lids[1],
        "brow_left": float(brows[0]),
        "brow_right": float(brows[1]),
    }


def label(path: Path) -> dict[str, np.ndarray]:
    """Arrays of T frames (NaN where no face was found): those of `measures`, `points` (T, 478, 3) in pixels, fps."""
    clip = cv2.VideoCapture(str(path))
    rows: list[dict[str, float]] = []
    meshes: list[np.ndarray] = []
    options = {"static_image_mode": False, "max_num_faces": 1, "refine_landmarks": True}
    with mp.solutions.face_mesh.FaceMesh(**options) as mesh:
        while True:
            there, frame = clip.read()
            if not there:
                break
            height, width = frame.shape[:2]
            found = mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).multi_face_landmarks
            meshes.append(np.full((478, 3), np.nan, np.float32))
            rows.append({})
            if found:
                points = np.array([[p.x * width, p.y * height, p.z * width] for p in found[0].landmark], np.float32)
                meshes[-1], rows[-1] = points, measures(frame, points)
    names = next((list(row) for row in rows if row), [])
    arrays = {name: np.array([row.get(name, np.nan) for row in rows], np.float32) for name in names}
    return {**arrays, "points": np.stack(meshes), "fps": np.array(clip.get(cv2.CAP_PROP_FPS))} if meshes else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of labels")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    clips = sorted(p for p in args.clips.iterdir() if p.suffix in (".mp4", ".mov", ".mkv", ".webm"))
    for number, path in enumerate(clips, 1):
        out = args.out / f"{path.stem}.npz"
        if not out.exists() and (labels := label(path)):
            part = out.with_suffix(".part.npz")
            np.savez_compressed(part, **labels)  # type: ignore[arg-type]
            part.rename(out)
            print(f"{number}/{len(clips)} {path.name}: {len(labels['points'])} frames", flush=True)


if __name__ == "__main__":
    main()
