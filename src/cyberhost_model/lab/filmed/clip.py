"""Make a clip of a candidate: crop it, label it at 25 frames a second, check it, and write it or reject it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.ndimage import binary_closing

from cyberhost_model.conditions.hand_clarity import hand_clarity
from cyberhost_model.conditions.movement import movement_box
from cyberhost_model.config import FPS
from cyberhost_model.lab.filmed.candidates import Candidate
from cyberhost_model.lab.filmed.detectors import PeopleDetector
from cyberhost_model.lab.filmed.framing import content_box, crop_frame, fixed_box
from cyberhost_model.lab.filmed.labels import mouth_from_keypoints, pack_labels, write_labels
from cyberhost_model.lab.filmed.manifest import ACCEPTED, Reason, Row
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.sound_checks import ClipSound, SyncCheck, check_sound
from cyberhost_model.lab.filmed.source import OpenVideo, TimedFrame, frames_at_rate, open_video, sound_between, to_rgb
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints
from cyberhost_model.perception.people import (
    count_people,
    face_descriptor,
    has_face,
    has_hand,
    mean_descriptor,
    visible_hands,
)
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

_BATCH = 8  # frames the detector gets at once
_DESCRIBED = 5  # one frame in so many gives a face descriptor
_EMBEDDED = 50  # one in so many is embedded by ArcFace
_SAME_FRAME = 0.15  # mean difference (0..255) below which two frames are the same picture
_MIN_CHANGED = 0.02  # share of frames that must differ from the one before
_MAX_SEVERAL = 0.2  # share of frames that may show a second person
_NO_HAND = 0.0
_LIP_LAG = 3  # frames by which lips and sound may be apart without counting as foreign to each other
# Frames: a hand that is found before and after a gap of at most so many was there. The detector loses hands in motion
# blur; the first pass over a video forgives it as much.
_MAX_GAP = 10


class FaceEmbedder(Protocol):
    """Embeds faces; `perception.arcface.ArcFace` does."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Embed the largest face of each of uint8 (n, H, W, 3) RGB, (n, D) of length 1; NaN where there is none."""


@dataclass
class Networks:
    """Hold the networks a worker keeps loaded.

    sync: only where `Settings.min_sync` asks for it; face: only where identities go by the face.
    """

    detector: PeopleDetector
    speech: Wav2Vec2Encoder
    sync: SyncCheck | None = None
    face: FaceEmbedder | None = None


@dataclass
class ClipStatistics:
    """Gather what is measured on the frames of a clip.

    clarity: of each frame, 0 without a hand. several: frames with more than one person. changed: frames that differ
    from the one before. times: time stamps of the source frames. embedded: some frames, for the face embedder.
    """

    points: list[Keypoints] = field(default_factory=list)
    clarity: list[float] = field(default_factory=list)
    descriptors: list[np.ndarray] = field(default_factory=list)
    several: int = 0
    changed: int = 0
    times: set[float] = field(default_factory=set)
    embedded: list[np.ndarray] = field(default_factory=list)
    _last: np.ndarray | None = None

    def add(self, frame: np.ndarray, found: list[Keypoints], time: float) -> None:
        """Add a frame, uint8 (H, W, 3), with the people in it and its time stamp."""
        person = found[0] if found else Keypoints.empty()
        if len(self.points) % _DESCRIBED == 0 and (descriptor := face_descriptor(frame, person)) is not None:
            self.descriptors.append(descriptor)
        if len(self.points) % _EMBEDDED == 0:
            self.embedded.append(frame)
        self.points.append(person)
        self.clarity.append(hand_clarity(frame, person) if has_hand(person) else _NO_HAND)
        self.several += count_people(found) > 1
        self.times.add(time)
        small = frame[::4, ::4].astype(np.float32)
        self.changed += self._last is not None and float(np.abs(small - self._last).mean()) > _SAME_FRAME
        self._last = small


def make_clip(
    path: Path,
    row: Row,
    candidate: Candidate,
    size: tuple[int, int],
    level: SpeechLevel | None,
    networks: Networks,
    settings: Settings,
    folder: Path,
    name: str,
) -> Row:
    """Fill in `row`, and write `folder`/`name`.mp4 and .npz where the candidate passes every check.

    size: (W, H) of the upright source frames. level: of the whole recording, None without sound. The sound is checked
    before any frame is decoded, because that is cheaper. Raises OutputError.
    """
    seconds = candidate.frames / FPS
    row.frames, row.end = candidate.frames, candidate.start + seconds
    samples = sound_between(path, candidate.start, row.end)
    sound = check_sound(samples, seconds, level, networks.speech, settings)
    row.loudness, row.speech_share = sound.loudness, sound.speech_share
    if sound.reason is not None:
        return row.reject(sound.reason, sound.detail)
    box, out = fixed_box(content_box(candidate.people, size, settings.crop), size, settings.area)
    row.box, row.width, row.height = list(box), *out
    enlarged = max(out[0] / (box[2] - box[0]), out[1] / (box[3] - box[1]))
    if enlarged > settings.max_enlarge:
        return row.reject(Reason.LOW_RESOLUTION, f"enlarged {enlarged:.2f} times")
    statistics = ClipStatistics()
    video = folder / f"{name}.mp4"
    with open_video(path) as opened:
        shown = frames_at_rate(opened.frames(candidate.start), candidate.start, candidate.frames)
        cropped = _cropped_frames(shown, opened, box, out, networks.detector, statistics)
        write_video(cropped, video, FPS, Sound.from_samples(sound.samples, SPEECH_RATE), overwrite=True)
    mouth = mouth_from_keypoints(statistics.points, out[0] / out[1]) if networks.detector.reads_lips else None
    _fill_row(row, statistics, sound, mouth)
    failed = _failed_check(row, statistics, settings) or _failed_sync(row, video, networks.sync, settings)
    if failed is not None:
        video.unlink()
        return row.reject(*failed)
    opening, width = mouth or (np.full(candidate.frames, np.nan), np.full(candidate.frames, np.nan))
    if networks.face is not None:
        row.embedding = mean_embedding(networks.face(np.stack(statistics.embedded)))
    labels = pack_labels(statistics.points, out, np.array(statistics.clarity), opening, width, row.identity or "")
    write_labels(folder / f"{name}.npz", labels)
    row.status, row.video, row.labels = ACCEPTED, video.name, f"{name}.npz"
    return row


def _cropped_frames(
    shown: Iterator[TimedFrame],
    video: OpenVideo,
    box: Box,
    out: tuple[int, int],
    detector: PeopleDetector,
    statistics: ClipStatistics,
) -> Iterator[np.ndarray]:
    """Yield the cropped frames and add each to the statistics; only a batch of them is in memory."""
    cache: tuple[float, np.ndarray] | None = None
    while batch := list(islice(shown, _BATCH)):
        frames = []
        for timed in batch:
            if cache is None or cache[0] != timed.time:  # a repeated frame is converted once
                cache = timed.time, crop_frame(to_rgb(timed.frame, video.aspect), box, out)
            frames.append(cache[1])
        for timed, frame, found in zip(batch, frames, detector(frames), strict=True):
            statistics.add(frame, found, timed.time)
            yield frame


def _fill_row(
    row: Row, statistics: ClipStatistics, sound: ClipSound, mouth: tuple[np.ndarray, np.ndarray] | None
) -> None:
    n = len(statistics.points)
    clarity = [c for c in statistics.clarity if c > _NO_HAND]
    row.source_fps = len(statistics.times) / n * FPS
    row.face_share = sum(map(has_face, statistics.points)) / n
    row.hands_share = sum(map(has_hand, statistics.points)) / n
    row.left_hand_share, row.right_hand_share = np.mean([visible_hands(k) for k in statistics.points], 0).tolist()
    row.clarity = float(np.mean(clarity)) if clarity else None
    thorax = np.array([k.body[NECK] for k in statistics.points if k.body_score[NECK] > VISIBLE])
    if len(thorax):
        # A detector errs now and then: the range is that of the middle 98%.
        low, high = np.percentile(thorax, [1, 99], axis=0)
        row.thorax_range = [float(v) for v in movement_box(np.stack([low, high]), 0.0, 0.0)]
        row.movement = float((high - low).max())
    row.descriptor = mean_descriptor(statistics.descriptors)
    row.lip_correlation = correlation(mouth[0], sound.opening) if mouth is not None else None


def mean_embedding(embeddings: np.ndarray) -> list[float] | None:
    """Average embeddings (n, D) to length 1, without those that are NaN; None where all are."""
    found = embeddings[np.isfinite(embeddings).all(1)]
    if not len(found):
        return None
    mean = found.mean(0)
    return (mean / max(float(np.linalg.norm(mean)), 1e-9)).tolist()


def correlation(lips: np.ndarray, predicted: np.ndarray | None) -> float | None:
    """Return Pearson's correlation of two mouth openings (T,): measured on the lips, and predicted from the sound.

    The best one of shifts by up to `_LIP_LAG` frames either way. Frames where the lips are unknown (NaN) are left out.
    None where one of the two does not vary.
    """
    if predicted is None:
        return None
    n = min(len(lips), len(predicted))
    found = []
    for lag in range(-_LIP_LAG, _LIP_LAG + 1):
        a, b = lips[max(0, lag) : n + min(0, lag)], predicted[max(0, -lag) : n - max(0, lag)]
        known = np.isfinite(a)
        a, b = a[known], b[known]
        if len(a) >= 10 and a.std() >= 1e-4 and b.std() >= 1e-4:
            found.append(float(np.corrcoef(a, b)[0, 1]))
    return max(found, default=None)


def _failed_sync(row: Row, video: Path, sync: SyncCheck | None, settings: Settings) -> tuple[Reason, str] | None:
    """Return why SyncNet rejects the finished video; None where it does not, or cannot measure it."""
    if sync is None or settings.min_sync is None or (synchrony := sync(video)) is None:
        return None
    row.sync_confidence = synchrony.confidence
    problem = synchrony.problem(settings.min_sync)
    return (Reason.OUT_OF_SYNC, problem) if problem else None


def _failed_check(row: Row, statistics: ClipStatistics, settings: Settings) -> tuple[Reason, str] | None:
    """Return the first check that fails, and its figure."""
    n = len(statistics.points)
    assert row.source_fps is not None and row.face_share is not None and row.hands_share is not None
    if statistics.changed < _MIN_CHANGED * n:
        return Reason.STILL, f"{statistics.changed} of {n} frames differ from the one before"
    if row.source_fps < settings.min_fps:
        return Reason.LOW_FRAME_RATE, f"{row.source_fps:.1f} different frames a second"
    if statistics.several > _MAX_SEVERAL * n:
        return Reason.SEVERAL_PEOPLE, f"in {statistics.several / n:.0%} of the frames"
    if row.face_share < settings.min_face:
        return Reason.NO_FACE, f"a face in {row.face_share:.0%} of the frames"
    hands = float(close_gaps([has_hand(k) for k in statistics.points], _MAX_GAP).mean())
    if settings.crop == "body" and hands < settings.min_hands:
        return Reason.NO_HANDS, f"a hand in {hands:.0%} of the frames"
    return None


def close_gaps(found: Sequence[bool], longest: int) -> np.ndarray:
    """Fill gaps of at most `longest` frames between frames in which something was found: bool (T,)."""
    beyond = longest + 1
    return binary_closing(np.pad(np.array(found, bool), beyond), np.ones(beyond, bool))[beyond:-beyond]
