"""Measure how far lips and sound are apart at every shift: S3FD, the longest face track, its crops, SyncNet.

Faces are found while the frames go by. Which track is the longest is known only at the end, so its frames are read a
second time.

SyncC and SyncD (Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016): for a window t of frames and
a shift j in -15..15 the distance is that of the embeddings v_t and a_(t + j). As in the authors' code the sound before
the first and after the last window counts as a zero embedding. That biases the values of short clips: with T windows,
|j| / T of the mean at shift j comes from zeros. `SyncScores.confidence_inside` and `SyncScores.distance_inside` are the
same numbers from the pairs that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.signal import medfilt

from cyberhost_model.lab.evaluation.features.alignment import Resampler
from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.features.face_track import (
    MIN_FACE_SIDE,
    MIN_TRACK_FRAMES,
    FaceTrack,
    crop_face,
    select_track,
    smooth_squares,
    track_faces,
)
from cyberhost_model.lab.evaluation.features.mfcc import COEFFICIENTS, mfcc_stream
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import FRAMES, MFCC_COLUMNS, MFCC_PER_FRAME, SyncNet
from cyberhost_model.media.audio import SPEECH_RATE, load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.perception.shots import ShotFinder, thumbnail_of

SYNCNET_FPS = 25.0  # the rate SyncNet was trained at
MAX_SHIFT = 15  # frames of 40 ms
_SAMPLES = SPEECH_RATE // int(SYNCNET_FPS)  # of a frame
_BATCH = 16  # windows that go through the network at once
_EPS = 1e-6  # torch's pairwise_distance adds it to every difference
_VERSION = 1


class SyncFeatures:
    """Extract the distances of lips and sound with SyncNet. An `Extractor`.

    "distances" float32 (windows, 31): see `shift_distances`. "first": the frame, 25 a second, where the track begins.
    "side": mean side of the track's boxes, pixels. "reason": why there is no window, empty where there are some.
    """

    name = "syncnet"
    fps = SYNCNET_FPS
    uses_audio = True

    def __init__(self, finder: FaceFinder, net: SyncNet, digest: str, device: str = "cpu") -> None:
        self.finder, self.net, self.device = finder, net, device
        self.digest = f"syncnet/{_VERSION} {digest}"
        self._info: VideoInfo | None = None

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._info, self._boxes, self._shots = info, list[np.ndarray](), ShotFinder()

    def push(self, frames: np.ndarray) -> None:
        """Find the faces of the next frames, uint8 (n, H, W, 3)."""
        assert self._info is not None
        if self._info.sound is None:
            return
        for frame, (boxes, _) in zip(frames, self.finder(frames), strict=True):
            self._shots.add(len(self._boxes) / SYNCNET_FPS, thumbnail_of(frame))
            self._boxes.append(boxes)

    def finish(self) -> dict[str, np.ndarray]:
        """Read the frames of the longest face track again and compare them with the sound."""
        assert self._info is not None
        if self._info.sound is None:
            return _no_distances("it has no sound")
        tracks = self._tracks()
        track = select_track(tracks)
        if track is None:
            return _no_distances(_why_no_track(tracks), max((t.side for t in tracks), default=np.nan))
        samples = int(load_audio(self._info.sound).duration * SPEECH_RATE) - track.start * _SAMPLES
        length = min(len(track.boxes), samples // _SAMPLES)
        if length < MIN_TRACK_FRAMES:
            return _no_distances(
                f"the sound covers {max(0, length)} frames of the face, {MIN_TRACK_FRAMES} are needed", track.side
            )
        windows = length - FRAMES  # the authors' code leaves the very last window out
        pieces = shift_distances(self._picture_embeddings(track, windows), self._sound_embeddings(track, windows))
        return {
            "distances": np.concatenate(list(pieces)),
            "first": np.array(track.start),
            "side": np.array(track.side),
            "reason": np.array(""),
        }

    def _tracks(self) -> list[FaceTrack]:
        """Return the face tracks of all shots."""
        starts = [0, *(round(b.start * SYNCNET_FPS) for b in self._shots.breaks())]
        stops = [*(round(b.end * SYNCNET_FPS) for b in self._shots.breaks()), len(self._boxes)]
        return [
            track
            for start, stop in zip(starts, stops, strict=True)
            for track in track_faces(self._boxes[start:stop], start)
        ]

    def _picture_embeddings(self, track: FaceTrack, windows: int) -> Iterator[np.ndarray]:
        """Embed the windows of five crops, in pieces (n, 1024)."""
        assert self._info is not None
        frames = islice(frames_at_rate(self._info.path, SYNCNET_FPS), track.start, track.start + windows + FRAMES - 1)
        crops: list[np.ndarray] = []
        for frame, square in zip(frames, smooth_squares(track), strict=False):
            crops.append(crop_face(frame, square))
            if len(crops) == _BATCH + FRAMES - 1:
                yield self._embed_crops(crops)
                del crops[:_BATCH]
        if len(crops) >= FRAMES:
            yield self._embed_crops(crops)

    @torch.inference_mode()
    def _embed_crops(self, crops: list[np.ndarray]) -> np.ndarray:
        bgr = torch.from_numpy(np.stack(crops)[..., ::-1].copy()).to(self.device).permute(3, 0, 1, 2)[None].float()
        return self.net.pictures(bgr)[0].cpu().numpy()

    @torch.inference_mode()
    def _sound_embeddings(self, track: FaceTrack, windows: int) -> Iterator[np.ndarray]:
        """Embed 0.2 s of sound for each window, in pieces (n, 1024)."""
        assert self._info is not None and self._info.sound is not None
        blocks = load_audio(self._info.sound).stream_mono16k()
        cut = _cut(blocks, track.start * _SAMPLES, (track.start + len(track.boxes)) * _SAMPLES)
        rows = np.zeros((0, COEFFICIENTS))
        for piece in mfcc_stream(cut):
            rows = np.concatenate([rows, piece])
            ready = min(windows, (len(rows) - MFCC_COLUMNS) // MFCC_PER_FRAME + 1)
            for start in range(0, ready, _BATCH):
                windows_of_rows = [
                    rows[MFCC_PER_FRAME * t :][:MFCC_COLUMNS].T for t in range(start, min(start + _BATCH, ready))
                ]
                x = torch.from_numpy(np.stack(windows_of_rows)[:, None]).float().to(self.device)
                yield self.net.sound(x).cpu().numpy()
            if ready > 0:
                rows, windows = rows[MFCC_PER_FRAME * ready :], windows - ready


def frames_at_rate(path: Path, fps: float) -> Iterator[np.ndarray]:
    """Yield the frames of a video at rate `fps`, by repeating and dropping.

    A frame may be overwritten when the next one is read.
    """
    stream = probe_video(path)
    grid, number = Resampler(float(stream.fps), fps), 0
    for batch in read_frames(stream):
        for frame in batch:
            for _ in grid.positions(number):
                yield frame
            number += 1


def _cut(blocks: Iterator[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """Cut a stream of samples to those numbered `start` to `stop`."""
    at = 0
    for block in blocks:
        yield block[max(0, start - at) : max(0, stop - at)]
        at += len(block)
        if at >= stop:
            return


def _why_no_track(tracks: list[FaceTrack]) -> str:
    if not tracks:
        return "no face is found"
    longest = max(tracks, key=lambda t: t.detections)
    if longest.detections < MIN_TRACK_FRAMES:
        return f"no face is seen for more than {longest.detections} frames, {MIN_TRACK_FRAMES} are needed"
    return f"the face is {longest.side:.0f} pixels high, more than {MIN_FACE_SIDE} are needed"


def _no_distances(reason: str, side: float = np.nan) -> dict[str, np.ndarray]:
    return {
        "distances": np.zeros((0, 2 * MAX_SHIFT + 1), np.float32),
        "first": np.array(0),
        "side": np.array(side),
        "reason": np.array(reason),
    }


@dataclass(frozen=True)
class SyncScores:
    """Hold the synchrony of a clip.

    confidence: SyncC, higher is better. distance: SyncD, lower is better. offset: frames, positive where the sound
    comes early. windows: how many were compared. curve: float64 (31,), the mean distance at the shifts -15..15.
    confidence_inside, distance_inside: without the zeros at the clip's ends.
    """

    confidence: float
    distance: float
    offset: int
    windows: int
    curve: np.ndarray
    confidence_inside: float
    distance_inside: float


def shift_distances(
    pictures: Iterable[np.ndarray], sounds: Iterable[np.ndarray], max_shift: int = MAX_SHIFT
) -> Iterator[np.ndarray]:
    """Compute the distances of embeddings at every shift: two streams of pieces (n, D) -> pieces (n, 2 max_shift + 1).

    Both streams have the same length T together; their pieces may have other lengths. Column j of row t, float32, is
    |v_t - a_(t + j - max_shift)|; the ends are treated as the module says. At most 2 max_shift + 1 embeddings more than
    a piece are in memory.
    """
    more_sounds = iter(sounds)
    near: np.ndarray | None = None  # sounds from t - max_shift on
    over = False
    for piece in pictures:
        if not len(piece):
            continue
        if near is None:
            near = np.zeros((max_shift, piece.shape[1]), np.float32)
        while len(near) < len(piece) + 2 * max_shift:
            more = next(more_sounds, None) if not over else None
            if more is None:
                over = True
                more = np.zeros((len(piece) + 2 * max_shift - len(near), piece.shape[1]), np.float32)
            near = np.concatenate([near, more])
        columns = [np.linalg.norm(piece - near[j : j + len(piece)] + _EPS, axis=1) for j in range(2 * max_shift + 1)]
        yield np.stack(columns, 1).astype(np.float32)
        near = near[len(piece) :]


def score_sync(distances: Iterable[np.ndarray]) -> SyncScores:
    """Compute SyncC, SyncD and the offset from the pieces of `shift_distances`. Raises ValueError without any."""
    total: np.ndarray | None = None
    count = 0
    first: list[np.ndarray] = []
    last: list[np.ndarray] = []
    for piece in distances:
        rows = np.asarray(piece, np.float64)
        total = rows.sum(0) if total is None else total + rows.sum(0)
        reach = rows.shape[1] // 2
        if count < reach:
            first.append(rows[: reach - count])
        last = [np.concatenate([*last, rows])[-reach:]]
        count += len(rows)
    if total is None or not count:
        raise ValueError("no window of frames to take the synchrony of")
    curve = total / count
    inside = _mean_inside(total, np.concatenate(first), last[0], count)
    middle, best = len(curve) // 2, int(curve.argmin())
    return SyncScores(
        confidence=float(np.median(curve) - curve[best]),
        distance=float(curve[best]),
        offset=middle - best,
        windows=count,
        curve=curve,
        confidence_inside=float(np.nanmedian(inside) - np.nanmin(inside)),
        distance_inside=float(np.nanmin(inside)),
    )


def _mean_inside(total: np.ndarray, first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Return the mean distances without the zeros before the first and after the last sound.

    NaN where no pair is left.
    """
    middle = len(total) // 2
    means = np.full(len(total), np.nan)
    for j in range(len(total)):
        shift = j - middle
        outside = first[: max(0, -shift), j].sum() + last[len(last) - min(max(0, shift), len(last)) :, j].sum()
        if count > abs(shift):
            means[j] = (total[j] - outside) / (count - abs(shift))
    return means


def confidence_curve(distances: np.ndarray, sync: SyncScores, width: int = 9) -> np.ndarray:
    """Return the confidence of each window at the clip's best shift, float64 (T,).

    distances: (T, 2 max_shift + 1), see `shift_distances`. width: windows of the median that smooths it.
    """
    best = len(sync.curve) // 2 - sync.offset
    return medfilt(np.median(sync.curve) - distances[:, best].astype(np.float64), width)
