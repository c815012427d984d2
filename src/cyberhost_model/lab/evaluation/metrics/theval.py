"""LipDynamics, BrowDynamics, SilentLips and LipSync: THEval's measures that need no download (`evaluation.theval`).

By the public networks that is MediaPipe's face mesh and Silero's detector of speech, which come inside their packages;
values are then those of THEval's own code. With `networks="embedded"` the same formulas are applied to the 68 points of
the embedded detector, and speech is where the sound is loud: under a protocol id of their own.

Neither direction is better by itself: "closeness" beside each, where the ground truth was measured too, is THEval's
score. The arrows say where people's videos are against those of most models.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cyberhost_model.lab.evaluation import theval
from cyberhost_model.lab.evaluation.features.extractor import Extractor, Features
from cyberhost_model.lab.evaluation.features.face_mesh import SIDE, load_face_mesh
from cyberhost_model.lab.evaluation.features.people import FACE, embedded_features
from cyberhost_model.lab.evaluation.features.speech_segments import SpeechSegments, load_silero, loud_segments
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_THEVAL, PROTOCOL_THEVAL_EMBEDDED
from cyberhost_model.perception.keypoints import INNER_LIPS, VISIBLE

NAMES = ("LipDynamics", "BrowDynamics", "SilentLips", "LipSync")
_LIPS = slice(48, 68)
_EYES = ((42, 48), (36, 42))  # left, right, of the person
_BROWS = ((22, 27), (17, 22))


class Theval:
    """Measure the four. A `VideoMetric`."""

    licence = ""

    def __init__(self, faces: Extractor, speech: SpeechSegments, protocol: str, weights: Mapping[str, str]) -> None:
        self.protocol, self.weights = protocol, dict(weights)
        self.needs: dict[Role, Extractor | SpeechSegments] = {"generated": faces, "sound": speech}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video and its sound."""
        face, heard = sample.features["generated"], sample.features["sound"]
        rows = face if "lips" in face else face_rows(face)
        frames = len(rows["lips"])
        speech = theval.speech_frames([tuple(s) for s in np.asarray(heard["segments"])], frames, sample.fps)
        silent = theval.silent_frames(speech, sample.fps)
        volume = theval.volume_at_frames(np.asarray(heard["volume"], float), frames, sample.fps)
        lips, lift = np.asarray(rows["lips"], float).reshape(frames, -1, 2), np.asarray(rows["lift"], float)
        opening, synced = (np.asarray(rows[name], float).reshape(-1) for name in ("opening", "sync_opening"))
        seen = np.isfinite(opening)
        return {
            "LipDynamics": _value(theval.lip_dynamics(lips), seen, "no face is seen in it"),
            "BrowDynamics": _value(theval.brow_dynamics(lift), np.isfinite(lift).all(1), "no face in two frames"),
            "SilentLips": _value(
                theval.silent_lip_stability(opening, silent),
                seen & silent,
                f"no face is seen in a silence of {theval.SHORTEST_SILENCE:g} s",
            ),
            "LipSync": _value(
                theval.lip_sync(synced, volume, speech), np.isfinite(synced) & speech, "no face is seen in its speech"
            ),
        }


def _value(value: float, measured: np.ndarray, reason: str) -> VideoValue:
    """Make the value of a video that rests on the frames `measured`, bool (T,)."""
    found = bool(np.isfinite(value))
    return VideoValue(value, float(measured.mean()) if found else 0.0, reason="" if found else reason)


def face_rows(features: Features) -> dict[str, np.ndarray]:
    """Make THEval's features of a face (`features.face_mesh.WIDTHS`) from key points (`people.keypoint_rows`)."""
    points = np.asarray(features["points"], float).reshape(len(features["points"]), -1, 2)[:, FACE]
    points[np.asarray(features["scores"])[:, FACE].max(1) <= VISIBLE] = np.nan
    pixels = points * np.asarray(features["size"], float)
    eyes = [pixels[:, a:b].mean(1) for a, b in _EYES]
    brows = [pixels[:, a:b].mean(1) for a, b in _BROWS]
    apart = np.linalg.norm(eyes[0] - eyes[1], axis=1)
    lift = np.stack([np.linalg.norm(brow - eye, axis=1) / apart for brow, eye in zip(brows, eyes, strict=True)], 1)
    square = points * SIDE
    gap = np.mean([np.abs(square[:, up, 1] - square[:, down, 1]) for up, down in INNER_LIPS], 0)
    across = np.abs(points[:, [36, 39], 0].mean(1) - points[:, [42, 45], 0].mean(1))
    upper, lower = (points[:, [pair[i] for pair in INNER_LIPS], 1].mean(1) for i in (0, 1))
    return {
        "lips": square[:, _LIPS].reshape(len(points), -1),
        "lift": lift,
        "opening": gap / np.linalg.norm(square[:, 36] - square[:, 45], axis=1),
        "sync_opening": np.abs(upper - lower) / across,
    }


def build(context: Context) -> Theval:
    """Build the metric. Raises ResourceError where MediaPipe or Silero is not installed."""
    if context.networks == "embedded":
        people = embedded_features(context)
        speech = SpeechSegments(loud_segments, "loud")
        return Theval(people.extractor, speech, PROTOCOL_THEVAL_EMBEDDED, people.weights)
    faces, own = load_face_mesh()
    silero, heard = load_silero()
    return Theval(faces, silero, PROTOCOL_THEVAL, own | heard)
