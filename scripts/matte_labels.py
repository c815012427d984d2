"""Labels pictures and frames of films with MediaPipe's selfie segmentation, for `scripts/train_matte.py`.

    pip install "mediapipe==0.10.21"     # in an environment of its own: it wants NumPy 1
    python scripts/matte_labels.py DIR [DIR ...] -o OUT [--frames 4] [--by pose]

A label is a PNG whose alpha says how much of a pixel is a person. Of a film, `--frames` frames are taken. A network
that was taught by these labels is judged by others: `--by pose` takes the segmentation of MediaPipe's pose network,
`--by blue` the distance to the blue wall before which a film was shot (the speakers of GRID).
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import mediapipe
import numpy as np

SIDE = 320  # pixels of a label's longer side; the network reads 256
Judge = Callable[[np.ndarray], np.ndarray | None]  # uint8 (H, W, 3) -> how much of each pixel is a person, 0..1


def pictures(file: Path, frames: int) -> Iterator[np.ndarray]:
    """Read a picture, or some frames of a film, as uint8 (H, W, 3) RGB."""
    if file.suffix in (".jpg", ".png"):
        yield cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        return
    film = cv2.VideoCapture(str(file))
    read = [frame for ok, frame in iter(film.read, (False, None)) if ok]
    for number in np.linspace(0, len(read) - 1, frames).astype(int):
        yield cv2.cvtColor(read[number], cv2.COLOR_BGR2RGB)


def by_selfie() -> Judge:
    """Load MediaPipe's selfie segmentation."""
    network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    return lambda picture: network.process(picture).segmentation_mask


def by_pose() -> Judge:
    """Load the segmentation of MediaPipe's pose network; it finds nothing where it finds nobody."""
    network = mediapipe.solutions.pose.Pose(static_image_mode=True, enable_segmentation=True)

    def judge(picture: np.ndarray) -> np.ndarray | None:
        return network.process(picture).segmentation_mask

    return judge


def by_blue() -> Judge:
    """Key out a wall whose colour at the upper corners goes evenly over the picture."""

    def judge(picture: np.ndarray) -> np.ndarray:
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        h, w = lab.shape[:2]
        wall = np.concatenate([lab[: h // 3, : w // 8].reshape(-1, 3), lab[: h // 3, -w // 8 :].reshape(-1, 3)])
        away = np.linalg.norm(lab[..., 1:] - np.median(wall[:, 1:], 0), axis=-1)  # hue and saturation alone
        person = cv2.morphologyEx((away > 18).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        outlines, _ = cv2.findContours(person, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = np.zeros((h, w), np.uint8)
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
        return filled.astype(np.float32)

    return judge


JUDGES = {"selfie": by_selfie, "pose": by_pose, "blue": by_blue}


def person(judge: Judge, picture: np.ndarray) -> np.ndarray | None:
    """Measure how much of each pixel is a person: uint8 (H, W), the mean over the picture and its mirror image."""
    here, mirrored = judge(picture), judge(np.ascontiguousarray(picture[:, ::-1]))
    if here is None or mirrored is None:
        return None
    return np.clip((here + mirrored[:, ::-1]) / 2 * 255 + 0.5, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--by", choices=JUDGES, default="selfie")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    judge = JUDGES[given.by]()
    for folder in given.folders:
        for file in sorted(f for f in folder.iterdir() if f.suffix in (".jpg", ".png", ".mp4", ".mkv")):
            for number, picture in enumerate(pictures(file, given.frames)):
                if (matte := person(judge, picture)) is None:
                    continue
                scale = SIDE / max(picture.shape[:2])
                size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
                small, label = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (picture, matte))
                name = given.output / f"{folder.name}-{file.stem}-{number}.png"
                cv2.imwrite(str(name), cv2.cvtColor(np.dstack([small, label]), cv2.COLOR_RGBA2BGRA))


if __name__ == "__main__":
    main()
