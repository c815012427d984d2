"""Closure, Opening, LipLoudness: do lips do at each speech sound what people's lips do there?

The effects of `evaluation.articulation` over the spans of all videos together; a video has a value of its own where it
holds enough spans. Phonemes by hama from the video's sound, lips by the detector of the embedded model with its lip
reader, with either choice of networks: DWPose's lips were never compared with anything.

Rounding is not measured: the mouth's width by this detector does not tell right sounds from wrong ones. Nor are
blinks: its lids do not follow the eyes. docs/reference/evaluation.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cyberhost_model.lab.evaluation.articulation import (
    EFFECTS,
    SHORTEST,
    LipTrack,
    frame_levels,
    loudness_correlation,
    measure_effect,
)
from cyberhost_model.lab.evaluation.features.extractor import Extractor, SoundExtractor, iterate_rows
from cyberhost_model.lab.evaluation.features.people import FACE, PersonFeatures, embedded_features, in_pixels
from cyberhost_model.lab.evaluation.features.phonemes import PhonemeFeatures, load_recogniser
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, SetValue, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_ARTICULATION
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoints import LIPS, VISIBLE

MEASURED = {"Closure": EFFECTS["closure"], "Opening": EFFECTS["opening"]}
LOUDNESS = "LipLoudness"
FEWEST = 16
"""Spans of its class that an effect must rest on: with fewer, a wrong sound often makes one as large as people's."""


class Articulation:
    """Measure Closure, Opening and LipLoudness. A `SetMetric` that also gives each video its own values.

    Extras of an effect: "lag" (25ths of a second, negative where lips are early), "spans", "control_deviation" (the
    size of an effect by chance). Of LipLoudness: "gap_deviation", in face heights from chin to brows.
    """

    protocol = PROTOCOL_ARTICULATION

    def __init__(self, people: PersonFeatures, phonemes: PhonemeFeatures) -> None:
        self.weights, self.licence = people.weights, people.licence
        self.needs: dict[Role, Extractor | SoundExtractor] = {"generated": people.extractor, "sound": phonemes}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure one video."""
        track = lip_track(sample)
        if fault := _fault(track):
            return {name: VideoValue(float("nan"), 0.0, reason=fault) for name in (*MEASURED, LOUDNESS)}
        seen = float(np.isfinite(track.gap).mean())
        return {
            name: VideoValue(found.value, seen if np.isfinite(found.value) else 0.0, found.extras, found.reason)
            for name, found in _measure_tracks([track]).items()
        }

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Measure all videos together: spans are pooled, the loudness correlation is the mean over the videos."""
        found = [lip_track(sample) for sample in samples]
        tracks = [track for track in found if not _fault(track)]
        if not tracks:
            reason = _fault(found[0]) if found else "no video has frames and a sound"
            return {name: SetValue(float("nan"), 0.0, reason=reason) for name in (*MEASURED, LOUDNESS)}
        share = len(tracks) / len(found)
        return {
            name: replace(value, coverage=share * value.coverage) for name, value in _measure_tracks(tracks).items()
        }


def _measure_tracks(tracks: Sequence[LipTrack]) -> dict[str, SetValue]:
    """Measure tracks of one or more videos together."""
    out = {}
    for name, effect in MEASURED.items():
        found = measure_effect(tracks, effect)
        extras = {"lag": found.lag, "spans": found.spans, "control_deviation": found.control_deviation}
        if found.spans < FEWEST:
            sounds = " ".join(sorted(effect.phonemes))
            reason = f"{found.spans} times {sounds} are heard, {FEWEST} are needed"
            out[name] = SetValue(float("nan"), 0.0, {"spans": found.spans}, reason)
        else:
            out[name] = SetValue(found.value, 1.0, extras)
    loudness = np.array([loudness_correlation(track) for track in tracks])
    known = loudness[np.isfinite(loudness)]
    extras = {"gap_deviation": float(np.mean([np.nanstd(track.gap) for track in tracks]))}
    reason = "" if len(known) else "lips or sound hardly vary"
    value = float(known.mean()) if len(known) else float("nan")
    out[LOUDNESS] = SetValue(value, len(known) / len(tracks), extras, reason)
    return out


def _fault(track: LipTrack) -> str:
    """Say why a video cannot be measured, empty where it can."""
    seconds = len(track.gap) / track.fps
    if seconds < SHORTEST:
        return f"it is {seconds:.1f} s long, {SHORTEST:.1f} are needed"
    return "" if np.isfinite(track.gap).any() else "no lips are seen in it"


def lip_track(sample: Sample) -> LipTrack:
    """Read the lips and the phonemes of a video from its features.

    Gap and width are in heights of the face, from chin to brows; NaN where the lips were not read.
    """
    seen, heard = sample.features["generated"], sample.features["sound"]
    rows = []
    for points, scores in iterate_rows(seen, "points", "scores"):
        faces, visible = in_pixels(points, seen["size"])[:, FACE], scores[:, FACE][:, LIPS].max(1) > VISIBLE
        rows += [_lips(face) if shown else (np.nan, np.nan) for face, shown in zip(faces, visible, strict=True)]
    lips = np.array(rows, np.float64).reshape(-1, 2)
    spans = [
        (float(start), float(end), str(symbol))
        for start, end, symbol in zip(heard["starts"], heard["ends"], heard["symbols"], strict=True)
    ]
    level = frame_levels(np.asarray(heard["power"]), len(lips), sample.fps)
    return LipTrack(lips[:, 0], lips[:, 1], level, spans, sample.fps)


def _lips(face: np.ndarray) -> tuple[float, float]:
    """Measure gap and width of 68 points (68, 2), in heights of the face."""
    return lips_gap(face), float(np.linalg.norm(face[54] - face[48])) / face_height(face)


def build(context: Context) -> Articulation:
    """Build the metric. Raises ResourceError without hama."""
    phonemes = load_recogniser()
    return Articulation(embedded_features(context), phonemes)
