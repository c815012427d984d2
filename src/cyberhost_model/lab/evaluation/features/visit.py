"""One pass over the frames of a generated video and its ground truth, for everything that wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cyberhost_model.config import FPS
from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.extractor import Extractor, Named, PairExtractor, VideoInfo
from cyberhost_model.lab.evaluation.features.frames import Resampler, Stream, batch_for, partner, read_frames

Arrays = dict[str, np.ndarray]
Size = tuple[int, int]


@dataclass
class FeatureResult:
    """What came of a pass: extractor digest -> features, or the reason why there are none.

    `broken`: nothing of the video could be decoded.
    """

    features: dict[str, Arrays] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class VideoInput:
    """A video in a pass: its pictures, the file with its sound, and who looks at it."""

    stream: Stream
    sound: Path | None
    extractors: Sequence[Extractor]


class FrameCount:
    """How many frames there are, and how large: "frames", "width", "height", a number each."""

    name = "frames"
    digest = "frames/1"
    fps = None
    uses_audio = False

    def begin(self, info: VideoInfo) -> None:
        self._count, self._size = 0, info.size

    def push(self, frames: np.ndarray) -> None:
        self._count += len(frames)

    def finish(self) -> Arrays:
        return {"frames": np.array(self._count), "width": np.array(self._size[0]), "height": np.array(self._size[1])}


def extract_features(
    generated: VideoInput | None,
    reference: VideoInput | None,
    pairs: Sequence[PairExtractor] = (),
    tick: Callable[[], None] = lambda: None,
) -> tuple[FeatureResult, FeatureResult, FeatureResult]:
    """What the extractors make of the generated video, of the ground truth, and of both together.

    Each file is decoded once.

    An extractor that raises one of our own errors has that as its reason, and the others go on. tick: called after
    every frame decoded.
    """
    of_generated, of_reference = _Audience(generated), _Audience(reference)
    both = _PairFeed(pairs)
    theirs = of_reference.frames(tick)
    shown, position = None, 0
    for i, frame in enumerate(of_generated.frames(tick)):
        of_generated.add(frame)
        if not pairs or generated is None or reference is None:
            continue
        j = partner(i, float(generated.stream.fps), float(reference.stream.fps))
        while position <= j and (shown := next(theirs, None)) is not None:
            of_reference.add(shown)
            position += 1
        if shown is None:
            continue
        both.add(frame, shown, generated)
    for frame in theirs:
        of_reference.add(frame)
    return of_generated.close(), of_reference.close(), both.close()


def extract_picture_features(picture: np.ndarray, path: Path, extractors: Sequence[Extractor]) -> FeatureResult:
    """What they make of one picture, uint8 (H, W, 3): a video of one frame."""
    feed = _Feed(extractors, VideoInfo(path, FPS, (picture.shape[1], picture.shape[0]), 1))
    feed.add(picture)
    return feed.close()


def first_frame(stream: Stream) -> np.ndarray:
    """uint8 (H, W, 3). Raises InputError."""
    frames = read_frames(stream)
    picture = next(frames)[0].copy()
    frames.close()  # type: ignore[attr-defined]
    return picture


class _Guarded:
    """Extractors that are called in turn; one that fails with an error of ours is left out from then on.

    Shallow copies are: one extractor may look at a video and its ground truth at the same time.
    """

    def __init__(self, extractors: Sequence[Extractor] | Sequence[PairExtractor]) -> None:
        self.made = FeatureResult()
        self._extractors: list[Named] = [copy(e) for e in extractors]

    def each(self, method: str, *arguments: object) -> None:
        for extractor in list(self._extractors):
            try:
                made = getattr(extractor, method)(*arguments)
            except CyberHostError as error:
                self.made.reasons[extractor.digest] = str(error)
                self._extractors.remove(extractor)
            else:
                if method == "finish":
                    self.made.features[extractor.digest] = made


class _Feed:
    """Collects frames, and hands them on in batches."""

    def __init__(self, extractors: Sequence[Extractor], info: VideoInfo) -> None:
        self._all = _Guarded(extractors)
        self._all.each("begin", info)
        self._batch = np.empty((batch_for(info.size), info.size[1], info.size[0], 3), np.uint8)
        self._filled = 0

    def add(self, frame: np.ndarray) -> None:
        self._batch[self._filled] = frame
        self._filled += 1
        if self._filled == len(self._batch):
            self._hand_on()

    def close(self) -> FeatureResult:
        self._hand_on()
        self._all.each("finish")
        return self._all.made

    def _hand_on(self) -> None:
        if self._filled:
            self._all.each("push", self._batch[: self._filled])
            self._filled = 0


class _PairFeed:
    """The same for frames of two videos; the generated one is brought to the ground truth's size."""

    def __init__(self, extractors: Sequence[PairExtractor]) -> None:
        self._all = _Guarded(extractors)
        self._batches: np.ndarray | None = None
        self._filled = 0

    def add(self, generated: np.ndarray, reference: np.ndarray, video: VideoInput) -> None:
        if self._batches is None:
            size = (reference.shape[1], reference.shape[0])
            self._all.each("begin", VideoInfo(video.stream.path, float(video.stream.fps), size, video.stream.packets))
            self._batches = np.empty((2, batch_for(size), *reference.shape), np.uint8)
        self._batches[0, self._filled] = resized(generated, (reference.shape[1], reference.shape[0]))
        self._batches[1, self._filled] = reference
        self._filled += 1
        if self._filled == self._batches.shape[1]:
            self._hand_on()

    def close(self) -> FeatureResult:
        if self._batches is not None:
            self._hand_on()
            self._all.each("finish")
        return self._all.made

    def _hand_on(self) -> None:
        if self._filled and self._batches is not None:
            self._all.each("push", *self._batches[:, : self._filled])
            self._filled = 0


class _Audience:
    """All who look at one video, each at the rate it wants."""

    def __init__(self, viewed: VideoInput | None) -> None:
        self._viewed = viewed
        self._feeds: list[tuple[_Feed, Resampler | None]] = []
        self._frame = 0
        self._broken = ""

    def frames(self, tick: Callable[[], None]) -> Iterator[np.ndarray]:
        """The video's frames; none where it cannot be decoded."""
        if self._viewed is None:
            return
        try:
            for batch in read_frames(self._viewed.stream):
                for frame in batch:
                    tick()
                    yield frame
        except InputError as error:
            self._broken = str(error)

    def add(self, frame: np.ndarray) -> None:
        if not self._feeds:
            self._open((frame.shape[1], frame.shape[0]))
        for feed, resampler in self._feeds:
            for _ in resampler.times(self._frame) if resampler else (0,):
                feed.add(frame)
        self._frame += 1

    def close(self) -> FeatureResult:
        made = FeatureResult(broken=self._broken)
        for feed, _ in self._feeds:
            part = feed.close()
            made.features |= part.features
            made.reasons |= part.reasons
        return made

    def _open(self, size: Size) -> None:
        assert self._viewed is not None
        stream, everyone = self._viewed.stream, self._viewed.extractors
        own = VideoInfo(stream.path, float(stream.fps), size, stream.packets, self._viewed.sound)
        for rate in {e.fps: None for e in everyone}:
            wanted = [e for e in everyone if e.fps == rate]
            if rate is None:
                self._feeds.append((_Feed(wanted, own), None))
            else:
                resampler = Resampler(own.fps, rate)
                self._feeds.append(
                    (_Feed(wanted, replace(own, fps=rate, frames=resampler.total(own.frames))), resampler)
                )


def resized(frame: np.ndarray, size: Size) -> np.ndarray:
    """uint8 (H, W, 3) at (W, H), bicubic with antialiasing; the frame itself where it has that size."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
