"""Compare LipDynamics, BrowDynamics, SilentLips and LipSync with THEval's own code on the same videos.

    python scripts/theval_parity.py CHECKOUT VIDEO...

CHECKOUT: github.com/Newbyl/THEval; VIDEO: with sound. Needs an environment of its own: mediapipe 0.10.21, silero-vad,
onnxruntime, soundfile. What the authors' files import besides is stood in for by what they use of it: decord by OpenCV,
librosa by soundfile and the definition of its root mean square.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
import torch

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.features.face_mesh import load_face_mesh
from cyberhost_model.lab.evaluation.features.speech_segments import load_silero
from cyberhost_model.lab.evaluation.metric import Role, Sample
from cyberhost_model.lab.evaluation.metrics.theval import NAMES, Theval
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.media.ffmpeg import ffmpeg_binary


class _Reader:
    """decord.VideoReader: frames in RGB."""

    def __init__(self, path: str, ctx: object = None) -> None:
        self._film = cv2.VideoCapture(path)
        self._frames = []
        while (read := self._film.read())[0]:
            self._frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))

    def __len__(self) -> int:
        return len(self._frames)

    def get_avg_fps(self) -> float:
        return float(self._film.get(cv2.CAP_PROP_FPS))

    def get_batch(self, numbers: range) -> Any:
        return types.SimpleNamespace(asnumpy=lambda: np.stack([self._frames[i] for i in numbers]))


def _rms(y: np.ndarray, frame_length: int, hop_length: int) -> np.ndarray:
    padded = np.pad(y, frame_length // 2)
    starts = range(0, len(padded) - frame_length + 1, hop_length)
    return np.array([[np.sqrt(np.mean(padded[s : s + frame_length] ** 2)) for s in starts]])


def _stand_ins() -> None:
    """Put what their files import in place."""
    decord: Any = types.ModuleType("decord")
    decord.VideoReader, decord.cpu = _Reader, lambda number: None
    librosa: Any = types.ModuleType("librosa")
    librosa.feature = types.SimpleNamespace(rms=_rms)
    librosa.frames_to_time = lambda frames, sr, hop_length: np.asarray(list(frames)) * hop_length / sr
    others: dict[str, Any] = {name: types.ModuleType(name) for name in ("pydub", "moviepy", "moviepy.editor", "tqdm")}
    others["pydub"].AudioSegment, others["moviepy.editor"].VideoFileClip = None, None
    others["tqdm"].tqdm = lambda items, **words: items
    sys.modules |= {"decord": decord, "librosa": librosa, **others}
    import silero_vad

    silero_vad.read_audio = lambda path: torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def _their(checkout: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(name).stem, checkout / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def theirs(checkout: Path, video: Path) -> dict[str, float]:
    """Measure a video with the authors' files; a new module each, because its mesh follows a face."""
    with tempfile.TemporaryDirectory() as folder:
        sound = f"{folder}/sound.wav"
        command = [ffmpeg_binary(), "-v", "error", "-i", str(video), "-ac", "1", "-ar", "16000", sound]
        subprocess.run(command, check=True)
        samples, rate = soundfile.read(sound, dtype="float32")
        film = cv2.VideoCapture(str(video))
        fps, frames = film.get(cv2.CAP_PROP_FPS), int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        silent = _their(checkout, "Synchronization/silent_lip_stability.py")
        return {
            "LipDynamics": _their(checkout, "Naturalness/lip_dynamics.py").compute_mouth_diversity(str(video)),
            "BrowDynamics": _their(checkout, "Naturalness/eyebrow_dynamics.py").compute_micro_expression_intensity(
                str(video)
            ),
            "SilentLips": silent.process_video(str(video), silent.detect_silence_frames(sound, fps, frames)),
            "LipSync": _their(checkout, "Synchronization/lip_sync.py").process_video(str(video), samples, rate, sound),
        }


def ours_on_their_frames(video: Path) -> dict[str, float]:
    """Measure a video by our code on frames that OpenCV has decoded: decoders differ by a level or two."""
    faces, _ = load_face_mesh()
    speech, _ = load_silero()
    reader = _Reader(str(video))
    frames = reader.get_batch(range(len(reader))).asnumpy()
    fps = reader.get_avg_fps()
    faces.begin(VideoInfo(video, fps, (frames.shape[2], frames.shape[1]), len(frames)))
    faces.push(frames)
    features: dict[Role, Any] = {"generated": faces.finish(), "sound": speech.extract(video)}
    sample = Sample(video.stem, video.stem, len(frames), fps, features, None)
    return {name: v.value for name, v in Theval(faces, speech, "", {}).measure_video(sample).items()}


def main() -> None:
    """Print both values of every measure and video."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    chosen = parser.parse_args()
    _stand_ins()
    print("| Video | Measure | THEval | Ours, frames of OpenCV | Ours |\n|---|---|---:|---:|---:|")
    for video in chosen.videos:
        other, same = theirs(chosen.checkout, video), ours_on_their_frames(video)
        with tempfile.TemporaryDirectory() as folder:
            own = evaluate(video, metrics=NAMES, cache=folder, download=False, device="cpu").results
        for name in NAMES:
            found = own.metric(name)
            value = found.value if found is not None and found.value is not None else float("nan")
            print(f"| {video.stem} | {name} | {other[name]:.6f} | {same[name]:.6f} | {value:.6f} |", flush=True)


if __name__ == "__main__":
    main()
