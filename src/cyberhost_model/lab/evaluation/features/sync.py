"""Frames and sound -> how far the mouth and the sound are apart at every shift: S3FD, the longest face track, its
crops, SyncNet.

The faces are found while the frames go by; which track is the longest is known only then, so its frames are read a
second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.features.face_track import (
    LEAST_FRAMES,
    LEAST_SIDE,
    Track,
    crop,
    follow,
    measured,
    smooth_squares,
)
from cyberhost_model.lab.evaluation.features.frames import Resampler, probe, read_frames
from cyberhost_model.lab.evaluation.features.mfcc import CEPSTRA, RATE, mfcc_stream
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import CEPSTRA_A_FRAME, COLUMNS, FRAMES, SyncNet
from cyberhost_model.media.audio import load_audio
from cyberhost_model.perception.shots import ShotFinder, thumbnail_of

FPS = 25.0
_SAMPLES = RATE // int(FPS)  # of a frame
_BATCH = 16  # windows that go through the network at once
_VERSION = 1


class SyncFeatures:
    """An `Extractor`.

    "distances" float32 (windows, 31): see `sync_distance`; "first": the frame at 25 a second where the track begins;
    "side": mean side of the track's boxes, pixels; "reason": why there is no window, empty where there are some.
    """

    name = "syncnet"
    fps = FPS
    uses_audio = True

    def __init__(self, finder: FaceFinder, net: SyncNet, digest: str, device: str = "cpu") -> None:
        self.finder, self.net, self.device = finder, net, device
        self.digest = f"syncnet/{_VERSION} {digest}"
        self._info: VideoInfo | None = None

    def begin(self, info: VideoInfo) -> None:
        self._info, self._boxes, self._shots = info, list[np.ndarray](), ShotFinder()

    def push(self, frames: np.ndarray) -> None:
        assert self._info is not None
        if self._info.sound is None:
            return
        for frame, (boxes, _) in zip(frames, self.finder(frames), strict=True):
            self._shots.add(len(self._boxes) / FPS, thumbnail_of(frame))
            self._boxes.append(boxes)

    def finish(self) -> dict[str, np.ndarray]:
        assert self._info is not None
        if self._info.sound is None:
            return _nothing("it has no sound")
        tracks = self._tracks()
        track = measured(tracks)
        if track is None:
            return _nothing(_why_none(tracks), max((t.side for t in tracks), default=np.nan))
        samples = int(load_audio(self._info.sound).duration * RATE) - track.start * _SAMPLES
        length = min(len(track.boxes), samples // _SAMPLES)
        if length < LEAST_FRAMES:
            return _nothing(
                f"the sound covers {max(0, length)} frames of the face, {LEAST_FRAMES} are needed", track.side
            )
        windows = length - FRAMES  # the authors' code leaves the very last window out
        pieces = distance_stream(self._pictures(track, windows), self._sounds(track, windows))
        return {
            "distances": np.concatenate(list(pieces)),
            "first": np.array(track.start),
            "side": np.array(track.side),
            "reason": np.array(""),
        }

    def _tracks(self) -> list[Track]:
        """The tracks of all shots."""
        starts = [0, *(round(b.start * FPS) for b in self._shots.breaks())]
        stops = [*(round(b.end * FPS) for b in self._shots.breaks()), len(self._boxes)]
        return [
            track for start, stop in zip(starts, stops, strict=True) for track in follow(self._boxes[start:stop], start)
        ]

    def _pictures(self, track: Track, windows: int) -> Iterator[np.ndarray]:
        """Embeddings of the windows of five crops, in pieces (n, 1024)."""
        assert self._info is not None
        frames = islice(frames_at(self._info.path, FPS), track.start, track.start + windows + FRAMES - 1)
        held: list[np.ndarray] = []
        for frame, square in zip(frames, smooth_squares(track), strict=False):
            held.append(crop(frame, square))
            if len(held) == _BATCH + FRAMES - 1:
                yield self._see(held)
                del held[:_BATCH]
        if len(held) >= FRAMES:
            yield self._see(held)

    @torch.inference_mode()
    def _see(self, crops: list[np.ndarray]) -> np.ndarray:
        bgr = torch.from_numpy(np.stack(crops)[..., ::-1].copy()).to(self.device).permute(3, 0, 1, 2)[None].float()
        return self.net.pictures(bgr)[0].cpu().numpy()

    @torch.inference_mode()
    def _sounds(self, track: Track, windows: int) -> Iterator[np.ndarray]:
        """Embeddings of 0.2 s of sound, one a window, in pieces (n, 1024)."""
        assert self._info is not None and self._info.sound is not None
        blocks = load_audio(self._info.sound).stream_mono16k()
        cut = _between(blocks, track.start * _SAMPLES, (track.start + len(track.boxes)) * _SAMPLES)
        rows = np.zeros((0, CEPSTRA))
        for piece in mfcc_stream(cut):
            rows = np.concatenate([rows, piece])
            ready = min(windows, (len(rows) - COLUMNS) // CEPSTRA_A_FRAME + 1)
            for start in range(0, ready, _BATCH):
                heard = [rows[CEPSTRA_A_FRAME * t :][:COLUMNS].T for t in range(start, min(start + _BATCH, ready))]
                x = torch.from_numpy(np.stack(heard)[:, None]).float().to(self.device)
                yield self.net.sound(x).cpu().numpy()
            if ready > 0:
                rows, windows = rows[CEPSTRA_A_FRAME * ready :], windows - ready


def frames_at(path: Path, fps: float) -> Iterator[np.ndarray]:
    """The frames of a video on a grid of `fps`, by repeating and dropping; each may be overwritten when the next is
    asked for.
    """
    stream = probe(path)
    grid, number = Resampler(float(stream.fps), fps), 0
    for batch in read_frames(stream):
        for frame in batch:
            for _ in grid.times(number):
                yield frame
            number += 1


def _between(blocks: Iterator[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """Samples number `start` to `stop` of a stream."""
    at = 0
    for block in blocks:
        yield block[max(0, start - at) : max(0, stop - at)]
        at += len(block)
        if at >= stop:
            return


def _why_none(tracks: list[Track]) -> str:
    if not tracks:
        return "no face is found"
    longest = max(tracks, key=lambda t: t.seen)
    if longest.seen < LEAST_FRAMES:
        return f"no face is seen for more than {longest.seen} frames, {LEAST_FRAMES} are needed"
    return f"the face is {longest.side:.0f} pixels high, more than {LEAST_SIDE} are needed"


def _nothing(reason: str, side: float = np.nan) -> dict[str, np.ndarray]:
    return {
        "distances": np.zeros((0, 2 * VSHIFT + 1), np.float32),
        "first": np.array(0),
        "side": np.array(side),
        "reason": np.array(reason),
    }


# SyncC and SyncD from embeddings: how far pictures and sound are apart at every shift (Chung and Zisserman, "Out of
# time", 2016).
#
# For a window t of frames and a shift j in -15..15 the distance is that of v_t to a_(t + j). As in the authors' code
# the sound before the first and after the last window counts as a zero embedding. That pulls the values of short clips:
# with T windows, |j| / T of the mean at shift j comes from zeros. `Sync.confidence_inside` and `Sync.distance_inside`
# are the same numbers from the pairs that exist.

VSHIFT = 15  # frames of 40 ms


_EPS = 1e-6  # torch's pairwise_distance adds it to every difference


@dataclass(frozen=True)
class Sync:
    """`confidence` is SyncC (higher is better), `distance` SyncD (lower), `offset` in frames: positive where the sound
    comes early.

    `curve` float64 (31,): the mean distance at the shifts -15..15.
    """

    confidence: float
    distance: float
    offset: int
    windows: int
    curve: np.ndarray
    confidence_inside: float
    distance_inside: float


def distance_stream(
    pictures: Iterable[np.ndarray], sounds: Iterable[np.ndarray], vshift: int = VSHIFT
) -> Iterator[np.ndarray]:
    """Pieces of embeddings (n, D), both streams of the same length T together and of the same or other piece lengths
    -> pieces float32 (n, 2 vshift + 1).

    Column j of row t is |v_t - a_(t + j - vshift)|; see the module for the ends. Only 2 vshift + 1 embeddings more than
    a piece are held.
    """
    heard = iter(sounds)
    near: np.ndarray | None = None  # sounds from t - vshift on
    over = False
    for piece in pictures:
        if not len(piece):
            continue
        if near is None:
            near = np.zeros((vshift, piece.shape[1]), np.float32)
        while len(near) < len(piece) + 2 * vshift:
            more = next(heard, None) if not over else None
            if more is None:
                over = True
                more = np.zeros((len(piece) + 2 * vshift - len(near), piece.shape[1]), np.float32)
            near = np.concatenate([near, more])
        columns = [np.linalg.norm(piece - near[j : j + len(piece)] + _EPS, axis=1) for j in range(2 * vshift + 1)]
        yield np.stack(columns, 1).astype(np.float32)
        near = near[len(piece) :]


def sync_of(distances: Iterable[np.ndarray]) -> Sync:
    """SyncC, SyncD and the offset of the pieces `distance_stream` gives. Raises ValueError without any."""
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
    inside = _inside(total, np.concatenate(first), last[0], count)
    middle, best = len(curve) // 2, int(curve.argmin())
    return Sync(
        confidence=float(np.median(curve) - curve[best]),
        distance=float(curve[best]),
        offset=middle - best,
        windows=count,
        curve=curve,
        confidence_inside=float(np.nanmedian(inside) - np.nanmin(inside)),
        distance_inside=float(np.nanmin(inside)),
    )


def _inside(total: np.ndarray, first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """The mean distances without those to the zeros before the first and after the last sound; NaN where no pair is
    left.
    """
    middle = len(total) // 2
    means = np.full(len(total), np.nan)
    for j in range(len(total)):
        shift = j - middle
        outside = first[: max(0, -shift), j].sum() + last[len(last) - min(max(0, shift), len(last)) :, j].sum()
        if count > abs(shift):
            means[j] = (total[j] - outside) / (count - abs(shift))
    return means


def confidence_curve(distances: np.ndarray, sync: Sync, width: int = 9) -> np.ndarray:
    """(T, 2 vshift + 1) -> float64 (T,): how sure the synchrony is at each window, at the clip's best shift; smoothed
    by a median of `width` windows.
    """
    from scipy.signal import medfilt

    best = len(sync.curve) // 2 - sync.offset
    return medfilt(np.median(sync.curve) - distances[:, best].astype(np.float64), width)
