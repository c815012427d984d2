"""Measures the videos of `scripts/heldout_videos.py` with networks that this project did not train.

    python scripts/heldout_measure.py OUT

Needs an environment of its own: `pip install "mediapipe==0.10.21" dlib-bin face_recognition_models "setuptools<80"
imageio-ffmpeg`. MediaPipe's face mesh and hands and dlib's face embedder bring their weights along. Prints one row for
each kind of video (still, truth, ours), means over the items: face cosine to the still; sharpness of the face against
the still's (Laplacian deviation); hands found where the still shows them; correlation of the lips' opening with the
true one, and its deviation in speech, in silence (lips that shut in speech too) and in pauses, in shares of the face's
height; how much the background, the head and the hands move (mean absolute grey difference to the still; deviation of
position in face heights).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import dlib
import face_recognition_models
import imageio_ffmpeg
import mediapipe as mp
import numpy as np

LIPS, TOP, CHIN, NOSE = (13, 14), 10, 152, 1


def frames_of(path: Path) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(path))
    w, h = next(reader)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(h, w, 3) for f in reader])


class Judges:
    def __init__(self) -> None:
        self.mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
        self.hands = mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.5)
        self.matte = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        self.shape = dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())
        self.embed = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())

    def face(self, picture: np.ndarray) -> np.ndarray | None:
        found = self.mesh.process(picture).multi_face_landmarks
        h, w = picture.shape[:2]
        return np.array([[p.x * w, p.y * h] for p in found[0].landmark]) if found else None

    def hand_centres(self, picture: np.ndarray) -> list[np.ndarray]:
        h, w = picture.shape[:2]
        found = self.hands.process(picture).multi_hand_landmarks or []
        return [np.array([[p.x * w, p.y * h] for p in hand.landmark]).mean(0) for hand in found]

    def embedding(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        (x0, y0), (x1, y1) = points.min(0).astype(int), points.max(0).astype(int)
        box = dlib.rectangle(int(x0), int(y0), int(x1), int(y1))
        vector = np.array(self.embed.compute_face_descriptor(picture, self.shape(picture, box)))
        return vector / np.linalg.norm(vector)


def sharpness(picture: np.ndarray, points: np.ndarray) -> float:
    (x0, y0), (x1, y1) = np.maximum(points.min(0), 0).astype(int), points.max(0).astype(int)
    face = cv2.cvtColor(picture[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA), cv2.CV_32F).std())


def opening(points: np.ndarray) -> float:
    return float(np.linalg.norm(points[LIPS[1]] - points[LIPS[0]]) / np.linalg.norm(points[CHIN] - points[TOP]))


def measure(
    video: np.ndarray, still: np.ndarray, true: np.ndarray, speech: np.ndarray, judges: Judges
) -> dict[str, float]:
    reference = judges.face(still)
    own, base = judges.embedding(still, reference), sharpness(still, reference)
    height = np.linalg.norm(reference[CHIN] - reference[TOP])
    shown = judges.hand_centres(still)
    outside = cv2.dilate((judges.matte.process(still).segmentation_mask > 0.2).astype(np.uint8), np.ones((41, 41))) == 0
    rows, hands, trails = [], [], [[] for _ in shown]
    background = []
    for frame in video:
        points = judges.face(frame)
        if points is not None:
            cosine = float(judges.embedding(frame, points) @ own)
            rows.append((cosine, sharpness(frame, points) / base, opening(points), *(points[NOSE] / height)))
        else:
            rows.append((np.nan,) * 5)
        if shown:
            found = judges.hand_centres(frame)
            hits = [min((np.linalg.norm(c - s) for c in found), default=1e9) < height for s in shown]
            hands.append(np.mean(hits))
            for trail, s in zip(trails, shown, strict=True):
                near = [c for c in found if np.linalg.norm(c - s) < height]
                trail.append(near[0] / height if near else (np.nan, np.nan))
        if outside.any():
            background.append(np.abs(frame.astype(float) - still).mean(-1)[outside].mean())
    rows = np.array(rows)
    n = min(len(rows), len(true))
    lips, ok = rows[:n, 2], ~np.isnan(rows[:n, 2])
    talk, quiet = ok & speech[:n] & (true[:n] > 0.02), ok & (true[:n] < 0.005)
    pause = quiet & ~speech[:n]  # lips also shut in speech
    moves = lips[ok].std() > 1e-6
    return {
        "face found": float(ok.mean()),
        "face cosine": float(np.nanmean(rows[:, 0])),
        "sharpness": float(np.nanmean(rows[:, 1])),
        "hands found": float(np.mean(hands)) if shown else np.nan,
        "mouth corr": float(np.corrcoef(lips[ok], true[:n][ok])[0, 1]) if moves else np.nan,
        "mouth dev": float(lips[talk].std()),
        "silent dev": float(lips[quiet].std()) if quiet.sum() > 5 else np.nan,
        "pause dev": float(lips[pause].std()) if pause.sum() > 5 else np.nan,
        "background": float(np.mean(background)) if background else np.nan,
        "head": float(np.nanstd(rows[:, 3:], axis=0).mean()),
        "hands": float(np.mean([np.nanstd(np.array(t), axis=0).mean() for t in trails])) if shown else np.nan,
    }


def main() -> None:
    folder, judges, table = Path(sys.argv[1]), Judges(), {"still": [], "truth": [], "ours": []}
    for facts in sorted(folder.glob("*.json")):
        told = json.loads(facts.read_text())
        true, speech = np.array(told["opening"]), np.array(told["speech"])
        still = cv2.cvtColor(cv2.imread(str(facts.with_suffix(".png"))), cv2.COLOR_BGR2RGB)
        videos = {"still": np.repeat(still[None], 10, 0)}
        videos |= {kind: frames_of(facts.with_suffix(f".{kind}.mp4")) for kind in ("truth", "ours")}
        for kind, video in videos.items():
            same = cv2.resize(still, video.shape[2:0:-1]) if video.shape[1:] != still.shape else still
            table[kind].append(measure(video, same, true, speech, judges))
        print(facts.stem, told["identity"], {k: round(v, 3) for k, v in table["ours"][-1].items()}, flush=True)
    names = list(table["ours"][0])
    print("| video | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for kind, rows in table.items():
        print(f"| {kind} | " + " | ".join(f"{np.nanmean([r[n] for r in rows]):.3f}" for n in names) + " |")


if __name__ == "__main__":
    main()
