"""Run extractors: one pass over the frames of a generated video and its ground truth feeds them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.alignment import Resampler, matching_frame
from cyberhost_model.lab.evaluation.features.extractor import Extractor, ExtractorIdentity, PairExtractor, VideoInfo
from cyberhost_model.media.video_reader import VideoStream, frames_per_batch, read_frames

Arrays = dict[str, np.ndarray]
Size = tuple[int, int]
_PICTURE_FPS = 25.0  # a picture is a video of one frame at this rate


@dataclass
class FeatureResult:
    """Hold the result of a pass, by extractor digest: the features, or the reason why there are none.

    broken: why nothing of the video could be decoded, empty otherwise.
    """

    features: dict[str, Arrays] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class VideoInput:
    """Name a video of a pass: its stream, the file with its sound, and the extractors that read it."""

    stream: VideoStream
    sound: Path | None
    extractors: Sequence[Extractor]


class FrameCount:
    """Count the frames of a video and note their size: "frames", "width", "height", a number each. An `Extractor`."""

    name = "frames"
    digest = "frames/1"
    fps = None
    uses_audio = False

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._count, self._size = 0, info.size

    def push(self, frames: np.ndarray) -> None:
        """Count a batch."""
        self._count += len(frames)

    def finish(self) -> Arrays:
        """Return the count and the size."""
        return {"frames": np.array(self._count), "width": np.array(self._size[0]), "height": np.array(self._size[1])}


def extract_features(
    generated: VideoInput | None,
    ground_truth: VideoInput | None,
    pairs: Sequence[PairExtractor] = (),
    tick: Callable[[], None] = lambda: None,
) -> tuple[FeatureResult, FeatureResult, FeatureResult]:
    """Extract the features of the generated video, of the ground truth, and of their matching frames (`pairs`).

    Each file is decoded once. An extractor that raises one of our own errors has that as its reason, and the others go
    on. tick: called after every decoded frame.
    """
    own, true = _VideoPass(generated), _VideoPass(ground_truth)
    both = _PairBatcher(pairs)
    true_frames = true.frames(tick)
    shown, position = None, 0
    for i, frame in enumerate(own.frames(tick)):
        own.add(frame)
        if not pairs or generated is None or ground_truth is None:
            continue
        j = matching_frame(i, float(generated.stream.fps), float(ground_truth.stream.fps))
        while position <= j and (shown := next(true_frames, None)) is not None:
            true.add(shown)
            position += 1
        if shown is not None:
            both.add(frame, shown, generated)
    for frame in true_frames:
        true.add(frame)
    return own.close(), true.close(), both.close()


def extract_picture_features(picture: np.ndarray, path: Path, extractors: Sequence[Extractor]) -> FeatureResult:
    """Extract the features of one picture, uint8 (H, W, 3), as of a video of one frame."""
    batcher = _FrameBatcher(extractors, VideoInfo(path, _PICTURE_FPS, (picture.shape[1], picture.shape[0]), 1))
    batcher.add(picture)
    return batcher.close()


def first_frame(stream: VideoStream) -> np.ndarray:
    """Return the first frame of a video, uint8 (H, W, 3). Raises InputError where none can be decoded."""
    frames = read_frames(stream)
    picture = next(frames)[0].copy()
    frames.close()  # type: ignore[attr-defined]
    return picture


class _ExtractorGroup:
    """Call several extractors in turn; one that fails with an error of ours is left out from then on.

    They are shallow copies: one extractor may read a video and its ground truth at the same time.
    """

    def __init__(self, extractors: Sequence[Extractor] | Sequence[PairExtractor]) -> None:
        self.result = FeatureResult()
        self._extractors: list[ExtractorIdentity] = [copy(e) for e in extractors]

    def call(self, method: str, *arguments: object) -> None:
        for extractor in list(self._extractors):
            try:
                returned = getattr(extractor, method)(*arguments)
            except CyberHostError as error:
                self.result.reasons[extractor.digest] = str(error)
                self._extractors.remove(extractor)
            else:
                if method == "finish":
                    self.result.features[extractor.digest] = returned


class _FrameBatcher:
    """Collect frames, and push them to extractors in batches."""

    def __init__(self, extractors: Sequence[Extractor], info: VideoInfo) -> None:
        self._group = _ExtractorGroup(extractors)
        self._group.call("begin", info)
        self._batch = np.empty((frames_per_batch(info.size), info.size[1], info.size[0], 3), np.uint8)
        self._filled = 0

    def add(self, frame: np.ndarray) -> None:
        self._batch[self._filled] = frame
        self._filled += 1
        if self._filled == len(self._batch):
            self._push()

    def close(self) -> FeatureResult:
        self._push()
        self._group.call("finish")
        return self._group.result

    def _push(self) -> None:
        if self._filled:
            self._group.call("push", self._batch[: self._filled])
            self._filled = 0


class _PairBatcher:
    """Collect matching frames of two videos, the generated one resized to the ground truth's size."""

    def __init__(self, extractors: Sequence[PairExtractor]) -> None:
        self._group = _ExtractorGroup(extractors)
        self._batches: np.ndarray | None = None
        self._filled = 0

    def add(self, generated: np.ndarray, ground_truth: np.ndarray, video: VideoInput) -> None:
        size = (ground_truth.shape[1], ground_truth.shape[0])
        if self._batches is None:
            stream = video.stream
            self._group.call("begin", VideoInfo(stream.path, float(stream.fps), size, stream.packets))
            self._batches = np.empty((2, frames_per_batch(size), *ground_truth.shape), np.uint8)
        self._batches[0, self._filled] = resize_frame(generated, size)
        self._batches[1, self._filled] = ground_truth
        self._filled += 1
        if self._filled == self._batches.shape[1]:
            self._push()

    def close(self) -> FeatureResult:
        if self._batches is not None:
            self._push()
            self._group.call("finish")
        return self._group.result

    def _push(self) -> None:
        if self._filled and self._batches is not None:
            self._group.call("push", *self._batches[:, : self._filled])
            self._filled = 0


class _VideoPass:
    """Read one video and feed its extractors, each at the rate it asks for."""

    def __init__(self, video: VideoInput | None) -> None:
        self._video = video
        self._batchers: list[tuple[_FrameBatcher, Resampler | None]] = []
        self._frame = 0
        self._broken = ""

    def frames(self, tick: Callable[[], None]) -> Iterator[np.ndarray]:
        """Yield the video's frames; none where it cannot be decoded."""
        if self._video is None:
            return
        try:
            for batch in read_frames(self._video.stream):
                for frame in batch:
                    tick()
                    yield frame
        except InputError as error:
            self._broken = str(error)

    def add(self, frame: np.ndarray) -> None:
        if not self._batchers:
            self._start((frame.shape[1], frame.shape[0]))
        for batcher, resampler in self._batchers:
            for _ in resampler.positions(self._frame) if resampler else (0,):
                batcher.add(frame)
        self._frame += 1

    def close(self) -> FeatureResult:
        result = FeatureResult(broken=self._broken)
        for batcher, _ in self._batchers:
            part = batcher.close()
            result.features |= part.features
            result.reasons |= part.reasons
        return result

    def _start(self, size: Size) -> None:
        assert self._video is not None
        stream, extractors = self._video.stream, self._video.extractors
        info = VideoInfo(stream.path, float(stream.fps), size, stream.packets, self._video.sound)
        for rate in {e.fps: None for e in extractors}:
            same_rate = [e for e in extractors if e.fps == rate]
            if rate is None:
                self._batchers.append((_FrameBatcher(same_rate, info), None))
            else:
                resampler = Resampler(info.fps, rate)
                resampled = replace(info, fps=rate, frames=resampler.resampled_count(info.frames))
                self._batchers.append((_FrameBatcher(same_rate, resampled), resampler))


def resize_frame(frame: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 (H, W, 3) to `size` (W, H), bicubic with antialiasing; return the frame itself at that size."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
