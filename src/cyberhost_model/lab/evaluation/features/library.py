"""Hold the features of all videos of a run: read from the cache, extracted where they are missing, video by video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.cache import FeatureCache
from cyberhost_model.lab.evaluation.features.extraction import (
    FeatureResult,
    FrameCount,
    VideoInput,
    extract_features,
    extract_picture_features,
    first_frame,
)
from cyberhost_model.lab.evaluation.features.extractor import Extractor, Features, PairExtractor, SoundExtractor
from cyberhost_model.lab.evaluation.metric import Metric, Role
from cyberhost_model.lab.evaluation.pairing import VideoItem
from cyberhost_model.lab.evaluation.protocol import file_sha256
from cyberhost_model.media.image import load_picture
from cyberhost_model.media.video_reader import VideoStream, probe_video

FRAME_COUNT = FrameCount()
AnyExtractor = Extractor | PairExtractor | SoundExtractor


@dataclass
class OpenedVideo:
    """Hold a video to measure whose files could be opened.

    sound: the file with its sound, None without. digests: sha256 of its files by role. reasons: why an extractor has no
    features of it, by role and extractor digest.
    """

    item: VideoItem
    generated: VideoStream
    ground_truth: VideoStream | None
    sound: Path | None
    digests: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[Role, str], str] = field(default_factory=dict)

    @property
    def picture(self) -> Path | None:
        """The reference picture, or the ground truth whose first frame takes its place."""
        return self.item.paths.image or (self.ground_truth.path if self.ground_truth else None)

    def files(self) -> list[tuple[str, Path]]:
        """Return (role, path) of every file that is read."""
        files = {
            "generated": self.generated.path,
            "ground_truth": self.ground_truth.path if self.ground_truth else None,
            "sound": self.sound,
            "image": self.item.paths.image,
        }
        return [(role, path) for role, path in files.items() if path is not None]


def open_video_files(item: VideoItem) -> tuple[OpenedVideo, str]:
    """Probe and hash the files of a video.

    Returns also why its ground truth cannot be read, empty where it can. Raises InputError for the generated video.
    """
    generated = probe_video(item.paths.generated)
    ground_truth, fault = None, ""
    if item.paths.ground_truth is not None:
        try:
            ground_truth = probe_video(item.paths.ground_truth)
        except InputError as error:
            fault = str(error)
    sound = item.paths.audio or (generated.path if generated.has_sound else None)
    opened = OpenedVideo(item, generated, ground_truth, sound)
    opened.digests = {role: file_sha256(path) for role, path in opened.files()}
    return opened, fault


class FeatureLibrary:
    """Give features by video, role and extractor."""

    def __init__(self, cache: FeatureCache, metrics: Sequence[Metric]) -> None:
        self.cache = cache
        self.extractors: dict[Role, list[AnyExtractor]] = {
            "generated": [FRAME_COUNT],
            "ground_truth": [FRAME_COUNT],
            "image": [],
            "pair": [],
            "sound": [],
        }
        for metric in metrics:
            for role, extractor in metric.needs.items():
                if all(e.digest != extractor.digest for e in self.extractors[role]):
                    self.extractors[role].append(extractor)

    def key(self, video: OpenedVideo, role: Role, extractor: AnyExtractor) -> str | None:
        """Return the cache key of an entry; None where the video has no file of that role."""
        digests = video.digests
        if role == "pair":
            if "ground_truth" not in digests:
                return None
            return self.cache.key("pair", digests["generated"], digests["ground_truth"], extractor.digest)
        if role == "image":
            if "image" in digests:
                return self.cache.key("image", digests["image"], extractor.digest)
            if "ground_truth" not in digests:
                return None
            return self.cache.key("first frame", digests["ground_truth"], extractor.digest)
        if role not in digests:
            return None
        if role == "sound":
            return self.cache.key("sound", digests["sound"], extractor.digest)
        sound = ""
        if role == "generated" and getattr(extractor, "uses_audio", False):
            sound = digests.get("sound", "none")
        return self.cache.key("video", digests[role], extractor.digest, str(getattr(extractor, "fps", None)), sound)

    def has_frames(self, video: OpenedVideo, role: Role) -> bool:
        """Return whether a frame of it could be decoded."""
        return self.get(video, role, FRAME_COUNT) is not None

    def get(self, video: OpenedVideo, role: Role, extractor: AnyExtractor) -> Features | None:
        """Return features, None where there are none."""
        key = self.key(video, role, extractor)
        return None if key is None else self.cache.get(key)

    def missing(self, video: OpenedVideo, role: Role) -> list[AnyExtractor]:
        """Return the extractors whose features of a video are not in the cache."""
        keys = [(e, self.key(video, role, e)) for e in self.extractors[role]]
        return [e for e, key in keys if key is not None and self.cache.get(key) is None]

    def frames_to_read(self, video: OpenedVideo) -> int:
        """Estimate how many frames of both files `fill` will read, from their packets."""
        pairs = bool(self.missing(video, "pair"))
        total = video.generated.packets if pairs or self.missing(video, "generated") else 0
        if video.ground_truth and (pairs or self.missing(video, "ground_truth")):
            total += video.ground_truth.packets
        return total

    def fill(self, video: OpenedVideo, tick: Callable[[], None]) -> str:
        """Extract what is missing of one video.

        tick: called after every decoded frame. Returns why nothing of it could be decoded, empty otherwise.
        """
        missing_generated = cast(list[Extractor], self.missing(video, "generated"))
        missing_true = cast(list[Extractor], self.missing(video, "ground_truth"))
        pairs = cast(list[PairExtractor], self.missing(video, "pair"))
        generated = ground_truth = None
        if missing_generated or pairs:
            generated = VideoInput(video.generated, video.sound, missing_generated)
        if video.ground_truth and (missing_true or pairs):
            sound = video.ground_truth.path if video.ground_truth.has_sound else None
            ground_truth = VideoInput(video.ground_truth, sound, missing_true)
        of_generated, of_truth, of_pairs = extract_features(generated, ground_truth, pairs, tick)
        self._store(video, "generated", of_generated)
        self._store(video, "ground_truth", of_truth)
        self._store(video, "pair", of_pairs)
        if of_truth.broken:
            video.ground_truth = None
            video.digests.pop("ground_truth")
        self._fill_image(video)
        self._fill_sound(video)
        return of_generated.broken or of_truth.broken

    def _fill_image(self, video: OpenedVideo) -> None:
        extractors = cast(list[Extractor], self.missing(video, "image"))
        if not extractors:
            return
        try:
            if video.item.paths.image is not None:
                path = video.item.paths.image
                picture = load_picture(path)
            else:
                assert video.ground_truth is not None  # without it, the role has no key and nothing is missing
                path = video.ground_truth.path
                picture = first_frame(video.ground_truth)
        except CyberHostError as error:
            video.reasons |= {("image", extractor.digest): str(error) for extractor in extractors}
            return
        self._store(video, "image", extract_picture_features(picture, path, extractors))

    def _fill_sound(self, video: OpenedVideo) -> None:
        for extractor in cast(list[SoundExtractor], self.missing(video, "sound")):
            assert video.sound is not None  # without it, the role has no key and nothing is missing
            try:
                found = FeatureResult(features={extractor.digest: extractor.extract(video.sound)})
            except CyberHostError as error:
                found = FeatureResult(reasons={extractor.digest: str(error)})
            self._store(video, "sound", found)

    def _store(self, video: OpenedVideo, role: Role, result: FeatureResult) -> None:
        video.reasons |= {(role, digest): reason for digest, reason in result.reasons.items()}
        for extractor in self.extractors[role]:
            key = self.key(video, role, extractor)
            if key is not None and extractor.digest in result.features:
                self.cache.put(key, result.features[extractor.digest])
