"""Label pictures of people: the key points of body and hands by MediaPipe Holistic, those of the face by its face
mesh.

`python scripts/label_stills.py PICTURES` writes PICTURES/keypoints.json (or `-o FILE`), what `cyberhost train
--stills` reads: for each picture `pose33` [x, y, visibility], `left_hand21`, `right_hand21` and `face` (478) [x,
y], x and y in 0..1 of width and height; null where nothing was found. The hands are the person's own left and
right. `--compare FILE` tells how far an earlier file deviates. `--films FOLDER` first writes every `--every`th frame of
the films there into PICTURES: gestures for the detector to learn from. Needs an environment of its own: mediapipe
0.10.21, opencv-contrib-python < 4.12, numpy < 2.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

PARTS = {"pose33": "pose_landmarks", "left_hand21": "left_hand_landmarks", "right_hand21": "right_hand_landmarks"}
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
FILMS = (".mp4", ".mkv", ".mov", ".webm", ".avi")


def points(landmarks, with_visibility: bool) -> list[list[float]] | None:
    if landmarks is None:
        return None
    rows = [[round(p.x, 5), round(p.y, 5)] for p in landmarks.landmark]
    return (
        [[*row, round(p.visibility, 3)] for row, p in zip(rows, landmarks.landmark, strict=True)]
        if with_visibility
        else rows
    )


def label(path: Path, holistic, mesh) -> dict[str, list[list[float]] | None]:
    """Key points of the one person in the picture."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path}: cannot be read as a picture")
    colours = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    found, faces = holistic.process(colours), mesh.process(colours).multi_face_landmarks
    labels = {name: points(getattr(found, theirs), name == "pose33") for name, theirs in PARTS.items()}
    return {**labels, "face": points(faces[0], False) if faces else None}


def write_frames(films: Path, every: int, pictures: Path) -> None:
    """Write every `every`th frame of each film as FILM-NUMBER.jpg."""
    pictures.mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in films.iterdir() if p.suffix.lower() in FILMS):
        film, number = cv2.VideoCapture(str(path)), 0
        while film.grab():
            if number % every == 0:
                cv2.imwrite(str(pictures / f"{path.stem}-{number:04d}.jpg"), film.retrieve()[1])
            number += 1


def deviations(ours: dict[str, dict], theirs: dict[str, dict]) -> dict[str, dict[str, float]]:
    """By part: pictures in which both, one or the other has it, and the median and largest mean distance of its
    points, in widths and heights of the picture."""
    out = {}
    for part in (*PARTS, "face"):
        pairs = [(ours[name][part], theirs[name][part]) for name in ours if name in theirs]
        far = [float(np.abs(np.array(a)[:, :2] - np.array(b)[:, :2]).mean()) for a, b in pairs if a and b]
        out[part] = {
            "both": len(far),
            "ours alone": sum(bool(a) and not b for a, b in pairs),
            "theirs alone": sum(bool(b) and not a for a, b in pairs),
            "median": float(np.median(far)) if far else float("nan"),
            "largest": max(far, default=float("nan")),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("-o", "--out", type=Path, help="the file to write [default: PICTURES/keypoints.json]")
    parser.add_argument("--compare", type=Path, help="an earlier keypoints.json of the same pictures")
    parser.add_argument("--films", type=Path, help="folder of films whose frames are written into PICTURES first")
    parser.add_argument("--every", type=int, default=6, help="write every n-th frame of a film [default: 6]")
    args = parser.parse_args()
    if args.films:
        write_frames(args.films, args.every, args.pictures)
    paths = sorted(p for p in args.pictures.iterdir() if p.suffix.lower() in PICTURES)
    holistic = mp.solutions.holistic.Holistic(static_image_mode=True, model_complexity=1)
    mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
    with holistic, mesh:
        labels = {path.name: label(path, holistic, mesh) for path in paths}
    out = args.out or args.pictures / "keypoints.json"
    out.write_text(json.dumps(labels, separators=(",", ":")) + "\n")
    print(f"{out}: {len(labels)} pictures")
    if args.compare:
        for part, values in deviations(labels, json.loads(args.compare.read_text())).items():
            print(part, {k: round(v, 5) for k, v in values.items()})


if __name__ == "__main__":
    main()
