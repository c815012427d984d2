"""One long live session: does the person stay where it began, does the mouth go on, does memory grow?

    python scripts/live_check.py --minutes 60 [--size 256] [--steps 2] [--fps 25] [--onnx]

The speech of examples/ and a second of silence are pushed again and again. A line for each part of the session, against
the first part: how far its mean frame is from the first one's and how much frames vary within it (root mean square);
the cosine of faces (the embedded protocol's), sharpness and colour of every 24th frame, as `cyberhost eval --drift`
measures them; the background, which are pixels that hardly change in the first part; how much frames change where clips
meet, as a share of the change inside them; resident memory and seconds of processor. Differences are in grey levels.
Exit code 1 where the last part has gone further than the first one's own variation.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil

from cyberhost_model import CyberHost
from cyberhost_model.lab.evaluation.features.people import face_embedding
from cyberhost_model.media.audio import SPEECH_RATE, load_audio
from cyberhost_model.perception.detector import Detector

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LOOKS = 24  # every n-th frame is looked at for its face
STILL = 1.0  # grey levels of deviation over the first part, below which a pixel is background


@dataclass(frozen=True)
class Part:
    """Measures of a part of the session."""

    mean: np.ndarray
    """Mean frame, float (H, W, 3)."""
    deviation: np.ndarray
    """Standard deviation of each number over the frames, float (H, W, 3)."""
    face: np.ndarray
    """Mean face embedding, of length 1."""
    sharpness: float
    """Deviation of the Laplacian of the brightness."""
    seams: float
    """Mean change from frame to frame where clips meet, as a share of that inside clips."""

    @property
    def variation(self) -> float:
        """How much the frames vary, root mean square."""
        return float(np.sqrt((self.deviation**2).mean()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--onnx", action="store_true")
    given = parser.parse_args()

    host = CyberHost.from_pretrained("tiny", onnx=given.onnx)
    session = host.live(EXAMPLES / "astronaut.jpg", size=given.size, steps=given.steps, fps=given.fps)
    speech = np.concatenate([load_audio(EXAMPLES / "speech.wav").mono16k(), np.zeros(SPEECH_RATE, np.float32)])
    count = max(2, round(given.minutes * 60 * session.fps / given.parts))
    frames, process = stream(session, speech), psutil.Process()
    first, distance = None, 0.0
    for index in range(given.parts):
        part = measure(frames, count, index * count, session.speech.clip, host.model.detector)
        first = first or part
        moved = part.mean - first.mean
        distance, still = float(np.sqrt((moved**2).mean())), first.deviation.max(-1) < STILL
        print(
            f"to {session.time:.0f} s: {distance:.2f} from the first part's mean, varies by {part.variation:.2f}; "
            f"faces' cosine {part.face @ first.face:.4f}, sharpness {part.sharpness / first.sharpness:.3f}, "
            f"colour {np.abs(moved.mean((0, 1))).max():.2f}, background {np.abs(moved[still]).mean():.3f} "
            f"({still.mean():.0%} of the picture), where clips meet {part.seams:.2f}; "
            f"{process.memory_info().rss >> 20} MB, {time.process_time():.0f} s of processor",
            flush=True,
        )
    return int(first is None or distance > first.variation)


def measure(frames: Iterator[np.ndarray], count: int, start: int, clip: int, detector: Detector) -> Part:
    """Measure the next `count` frames, the first of which is frame `start` of the session; clip: frames of a clip."""
    mean = square = np.zeros(1)
    faces, sharpness, inside, meeting = [], [], [], []
    before = None
    for number, frame in enumerate(itertools.islice(frames, count), start):
        picture = frame.astype(np.float64)
        mean, square = mean + picture, square + picture**2
        if before is not None:
            (inside if number % clip else meeting).append(np.abs(picture - before).mean())
        before = picture
        if number % LOOKS == 0:
            if people := detector.detect(frame):
                faces.append(face_embedding(frame, people[0].keypoints))
            sharpness.append(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())
    mean, square = mean / count, square / count
    face = np.nanmean(faces, 0)
    return Part(
        mean,
        np.sqrt(np.maximum(square - mean**2, 0)),
        face / np.linalg.norm(face),
        float(np.mean(sharpness)),
        float(np.mean(meeting) / np.mean(inside)),
    )


def stream(session, speech: np.ndarray) -> Iterator[np.ndarray]:
    """Push the sound again and again, and yield the frames."""
    for piece in itertools.cycle(np.array_split(speech, 20)):
        session.push(piece, SPEECH_RATE)
        for frame, _ in session.frames():
            yield frame


if __name__ == "__main__":
    sys.exit(main())
