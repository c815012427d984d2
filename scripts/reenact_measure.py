"""Average key point distance of the videos of `scripts/reenact_videos.py` to the truth, found by MediaPipe Holistic,
which this project did not train.

    python scripts/reenact_measure.py OUT [STEP]

Needs an environment of its own: `pip install "mediapipe==0.10.21" imageio-ffmpeg`. Every STEPth frame is looked at.
Prints a row a kind of video, means over the items: mean absolute difference over x and y, pixels at height 640, of 7
upper body points that are seen, of both hands' 42, of 67 face points and of all together; and the correlation of the
lips' opening with the truth's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import imageio_ffmpeg
import mediapipe as mp
import numpy as np

BODY = [0, 11, 12, 13, 14, 15, 16]
HEIGHT = 640


def frames_of(path: Path, step: int) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    w, h = next(reader)["size"]
    return [np.frombuffer(f, np.uint8).reshape(h, w, 3) for f in reader][::step]


def points_of(holistic, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """body (7, 2), hands (42, 2), face (67, 2) in pixels at height 640, NaN where not found, and the lips' opening."""
    h, w = frame.shape[:2]
    found = holistic.process(frame)
    size = np.array([w, h]) * HEIGHT / h

    def all_of(marks, n: int) -> np.ndarray:
        return np.full((n, 2), np.nan) if marks is None else np.array([[p.x, p.y] for p in marks.landmark]) * size

    body = all_of(found.pose_landmarks, 33)
    if found.pose_landmarks is not None:  # points outside the picture are guesses
        seen = [p.visibility > 0.5 and 0 < p.x < 1 and 0 < p.y < 1 for p in found.pose_landmarks.landmark]
        body[~np.array(seen)] = np.nan
    face = all_of(found.face_landmarks, 468)
    opening = float(np.linalg.norm(face[14] - face[13]) / np.linalg.norm(face[152] - face[10]))
    hands = np.concatenate([all_of(found.left_hand_landmarks, 21), all_of(found.right_hand_landmarks, 21)])
    return body[BODY], hands, face[::7], opening


def main() -> None:
    folder, step = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    table: dict[str, list[list[float]]] = {}
    with mp.solutions.holistic.Holistic(static_image_mode=True) as holistic:
        for facts in sorted(folder.glob("*.json")):
            found = {}
            for video in sorted(folder.glob(f"*/{facts.stem}.mp4")):
                if not video.parent.name.startswith("head"):  # another crop
                    found[video.parent.name] = [points_of(holistic, f) for f in frames_of(video, step)]
            truth, opening = found.pop("truth"), np.array(json.loads(facts.read_text())["opening"])[::step]
            for kind, rows in found.items():
                apart = [
                    [np.abs(a - b) for a, b in zip(r[:3], t[:3], strict=True)]
                    for r, t in zip(rows, truth, strict=False)
                ]
                lips = np.array([r[3] for r in rows])
                ok = ~np.isnan(lips)
                follows = (
                    np.corrcoef(lips[ok], opening[: len(lips)][ok])[0, 1]
                    if ok.sum() > 3 and lips[ok].std() > 1e-6
                    else np.nan
                )
                parts = [np.nanmean(np.concatenate([a[i].reshape(-1) for a in apart])) for i in range(3)]
                table.setdefault(kind, []).append(
                    [*parts, np.nanmean(np.concatenate([x.reshape(-1) for a in apart for x in a])), follows]
                )
            print(facts.stem, {k: np.round(v[-1], 2).tolist() for k, v in table.items()}, file=sys.stderr, flush=True)
    print("| video | body | hands | face | all | mouth |\n|---|---|---|---|---|---|")
    for kind, rows in table.items():
        print(f"| {kind} | " + " | ".join(f"{v:.2f}" for v in np.nanmean(np.array(rows), 0)) + " |")


if __name__ == "__main__":
    main()
