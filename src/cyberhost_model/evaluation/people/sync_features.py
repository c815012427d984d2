"""Frames and sound -> how far the mouth and the sound are apart at every shift: S3FD, the longest face track, its crops, SyncNet.

The faces are found while the frames go by; which track is the longest is known only then, so its frames are read a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ...dataset.shots import ShotFinder, small_picture
from ...inputs.audio import load_audio
from ..extractor import VideoInfo
from ..frames import probe, read_frames
from ..timing import Resampler
from .face_track import LEAST_FRAMES, LEAST_SIDE, Track, crop, follow, measured, smooth_squares
from .mfcc import CEPSTRA, RATE, mfcc_stream
from .s3fd import FaceFinder
from .sync_distance import VSHIFT, distance_stream
from .syncnet import CEPSTRA_A_FRAME, COLUMNS, FRAMES, SyncNet

FPS = 25.0
_SAMPLES = RATE // int(FPS)  # of a frame
_BATCH = 16  # windows that go through the network at once
_VERSION = 1


class SyncFeatures:
    """An `Extractor`.

    "distances" float32 (windows, 31): see `sync_distance`; "first": the frame at 25 a second where the track begins; "side": mean side of the
    track's boxes, pixels; "reason": why there is no window, empty where there are some.
    """

    name = "syncnet"
    fps = FPS
    hears = True

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
            self._shots.add(len(self._boxes) / FPS, small_picture(frame))
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
            return _nothing(f"the sound covers {max(0, length)} frames of the face, {LEAST_FRAMES} are needed", track.side)
        windows = length - FRAMES  # the authors' code leaves the very last window out
        pieces = distance_stream(self._pictures(track, windows), self._sounds(track, windows))
        return {"distances": np.concatenate(list(pieces)), "first": np.array(track.start), "side": np.array(track.side), "reason": np.array("")}

    def _tracks(self) -> list[Track]:
        """The tracks of all shots."""
        starts = [0, *(round(b.start * FPS) for b in self._shots.breaks())]
        stops = [*(round(b.end * FPS) for b in self._shots.breaks()), len(self._boxes)]
        return [track for start, stop in zip(starts, stops, strict=True) for track in follow(self._boxes[start:stop], start)]

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
    """The frames of a video on a grid of `fps`, by repeating and dropping; each may be overwritten when the next is asked for."""
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
    return {"distances": np.zeros((0, 2 * VSHIFT + 1), np.float32), "first": np.array(0), "side": np.array(side), "reason": np.array(reason)}
