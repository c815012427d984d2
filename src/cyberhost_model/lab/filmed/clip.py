"""One candidate becomes a clip: cropped, labelled at 25 frames a second, checked, and written; or rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from cyberhost_model.conditions.hand_clarity import hand_clarity
from cyberhost_model.conditions.movement import movement_box
from cyberhost_model.lab.filmed.candidates import Candidate
from cyberhost_model.lab.filmed.detectors import PeopleDetector
from cyberhost_model.lab.filmed.framing import content_box, crop_frame, fixed_box
from cyberhost_model.lab.filmed.labels import pack_labels, seen_mouth, write_labels
from cyberhost_model.lab.filmed.manifest import ACCEPTED, FPS, Reason, Row
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.source import Stamped, Video, on_grid, open_video, rgb, sound_between
from cyberhost_model.lab.filmed.sync import Judge
from cyberhost_model.lab.filmed.voice import Voice, hear
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.face_descriptor import face_descriptor, mean_descriptor
from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints
from cyberhost_model.perception.people import has_face, has_hand, people_count
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

_BATCH = 8  # frames the detector gets at once
_DESCRIBED = 5  # every so many frames give a descriptor
_STILL = 0.15  # grey levels (0..255): two frames that differ less on average are the same picture
_SEVERAL = 0.2  # share of frames with a second person that a clip may not reach
_NO_HAND = 0.0


@dataclass
class Tools:
    """The networks a worker keeps loaded."""

    detector: PeopleDetector
    speech: Wav2Vec2Encoder
    sync: Judge | None = None
    """Where `Settings.min_sync` asks for it."""


@dataclass
class _Watched:
    """What is gathered while a clip's frames go by."""

    points: list[Keypoints] = field(default_factory=list)
    clarity: list[float] = field(default_factory=list)
    descriptors: list[np.ndarray] = field(default_factory=list)
    several: int = 0
    changed: int = 0
    times: set[float] = field(default_factory=set)
    last: np.ndarray | None = None

    def add(self, frame: np.ndarray, found: list[Keypoints], time: float) -> None:
        person = found[0] if found else Keypoints.empty()
        if len(self.points) % _DESCRIBED == 0 and (descriptor := face_descriptor(frame, person)) is not None:
            self.descriptors.append(descriptor)
        self.points.append(person)
        self.clarity.append(hand_clarity(frame, person) if has_hand(person) else _NO_HAND)
        self.several += people_count(found) > 1
        self.times.add(time)
        small = frame[::4, ::4].astype(np.float32)
        self.changed += self.last is not None and float(np.abs(small - self.last).mean()) > _STILL
        self.last = small


def make_clip(
    path: Path,
    row: Row,
    candidate: Candidate,
    size: tuple[int, int],
    level: SpeechLevel,
    tools: Tools,
    settings: Settings,
    folder: Path,
    name: str,
) -> Row:
    """Fill in `row` and write `folder`/`name`.mp4 and .npz where the candidate passes every check.

    Sound is judged before any frame is decoded: it is the cheaper half. Raises OutputError.
    """
    seconds = candidate.frames / FPS
    row.frames, row.end = candidate.frames, candidate.start + seconds
    voice = hear(sound_between(path, candidate.start, row.end), seconds, level, tools.speech, settings)
    row.loudness, row.speech_share = voice.loudness, voice.speech_share
    if voice.reason is not None:
        return row.reject(voice.reason, voice.detail)
    box, out = fixed_box(content_box(candidate.people, size, settings.crop), size, settings.area)
    row.box, row.width, row.height = list(box), *out
    enlarged = max(out[0] / (box[2] - box[0]), out[1] / (box[3] - box[1]))
    if enlarged > settings.max_enlarge:
        return row.reject(Reason.LOW_RESOLUTION, f"enlarged {enlarged:.2f} times")
    watched = _Watched()
    video = folder / f"{name}.mp4"
    sound = Sound.from_samples(voice.samples, SPEECH_RATE)
    with open_video(path) as opened:
        shown = on_grid(opened.frames(candidate.start), candidate.start, candidate.frames)
        write_video(_watch(shown, opened, box, out, tools.detector, watched), video, FPS, sound, overwrite=True)
    mouth = seen_mouth(watched.points, out[0] / out[1]) if tools.detector.reads_lips else None
    _measure(row, watched, voice, mouth)
    fault = _judge(row, watched, settings) or _out_of_sync(row, video, tools, settings)
    if fault is not None:
        video.unlink()
        return row.reject(*fault)
    opening, width = mouth or (np.full(candidate.frames, np.nan), np.full(candidate.frames, np.nan))
    labels = pack_labels(watched.points, out, np.array(watched.clarity), opening, width, row.identity or "")
    write_labels(folder / f"{name}.npz", labels)
    row.status, row.video, row.labels = ACCEPTED, video.name, f"{name}.npz"
    return row


def _watch(
    shown: Iterator[Stamped], video: Video, box: Box, out: tuple[int, int], detector: PeopleDetector, watched: _Watched
) -> Iterator[np.ndarray]:
    """The cropped frames, one by one, each looked at on its way: a batch of them is all that is held."""
    cache: tuple[float, np.ndarray] | None = None
    while batch := list(islice(shown, _BATCH)):
        frames = []
        for stamped in batch:
            if cache is None or cache[0] != stamped.time:  # a repeated frame is converted once
                cache = stamped.time, crop_frame(rgb(stamped.frame, video.aspect), box, out)
            frames.append(cache[1])
        for stamped, frame, found in zip(batch, frames, detector(frames), strict=True):
            watched.add(frame, found, stamped.time)
            yield frame


def _measure(row: Row, watched: _Watched, voice: Voice, mouth: tuple[np.ndarray, np.ndarray] | None) -> None:
    n = len(watched.points)
    clarity = [c for c in watched.clarity if c > _NO_HAND]
    row.source_fps = len(watched.times) / n * FPS
    row.face_share = sum(map(has_face, watched.points)) / n
    row.hands_share = sum(map(has_hand, watched.points)) / n
    row.clarity = float(np.mean(clarity)) if clarity else None
    thorax = np.array([k.body[NECK] for k in watched.points if k.body_score[NECK] > VISIBLE])
    if len(thorax):
        # A detector errs now and then: the range is that of the middle 98%.
        low, high = np.percentile(thorax, [1, 99], axis=0)
        row.thorax_range = [float(v) for v in movement_box(np.stack([low, high]), 0.0, 0.0)]
        row.movement = float((high - low).max())
    row.descriptor = mean_descriptor(watched.descriptors)
    row.lip_correlation = correlation(mouth[0], voice.opening) if mouth is not None else None


def correlation(seen: np.ndarray, heard: np.ndarray | None) -> float | None:
    """Pearson's, over the frames where both are known; None where one of them does not vary."""
    if heard is None:
        return None
    n = min(len(seen), len(heard))
    known = np.isfinite(seen[:n])
    a, b = seen[:n][known], heard[:n][known]
    if len(a) < 10 or a.std() < 1e-4 or b.std() < 1e-4:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _out_of_sync(row: Row, video: Path, tools: Tools, settings: Settings) -> tuple[Reason, str] | None:
    """What SyncNet has against the finished video; nothing where it cannot tell."""
    if tools.sync is None or settings.min_sync is None or (found := tools.sync(video)) is None:
        return None
    row.sync_confidence = found.confidence
    words = found.fault(settings.min_sync)
    return (Reason.OUT_OF_SYNC, words) if words else None


def _judge(row: Row, watched: _Watched, settings: Settings) -> tuple[Reason, str] | None:
    """The first check that fails, and its figure."""
    n = len(watched.points)
    assert row.source_fps is not None and row.face_share is not None and row.hands_share is not None
    if watched.changed < 0.02 * n:
        return Reason.STILL, f"{watched.changed} of {n} frames differ from the one before"
    if row.source_fps < settings.min_fps:
        return Reason.LOW_FRAME_RATE, f"{row.source_fps:.1f} different frames a second"
    if watched.several > _SEVERAL * n:
        return Reason.SEVERAL_PEOPLE, f"in {watched.several / n:.0%} of the frames"
    if row.face_share < settings.min_face:
        return Reason.NO_FACE, f"a face in {row.face_share:.0%} of the frames"
    if settings.crop == "body" and row.hands_share < settings.min_hands:
        return Reason.NO_HANDS, f"a hand in {row.hands_share:.0%} of the frames"
    return None
