"""Features of all videos of a run: taken from the cache, made where they are missing, one video at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.cache import FeatureCache
from cyberhost_model.lab.evaluation.features.extractor import Extractor, Features, PairExtractor
from cyberhost_model.lab.evaluation.features.frames import Stream, probe
from cyberhost_model.lab.evaluation.features.visit import (
    FeatureResult,
    FrameCount,
    VideoInput,
    extract_features,
    extract_picture_features,
    first_frame,
)
from cyberhost_model.lab.evaluation.metric import Metric, Role
from cyberhost_model.lab.evaluation.pairing import Item
from cyberhost_model.lab.evaluation.protocol import file_sha256
from cyberhost_model.media.image import load_picture

Tick = Callable[..., None]
COUNT = FrameCount()


@dataclass
class Opened:
    """A video to measure whose files could be opened. `sound`: what is heard with it, None where nothing is."""

    item: Item
    generated: Stream
    reference: Stream | None
    sound: Path | None
    digests: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[Role, str], str] = field(default_factory=dict)

    @property
    def picture(self) -> Path | None:
        """The reference picture, or the ground truth whose first frame stands for it."""
        return self.item.paths.image or (self.reference.path if self.reference else None)

    def files(self) -> list[tuple[str, Path]]:
        """What is measured, heard and compared with."""
        reference = self.reference.path if self.reference else None
        files = {
            "generated": self.generated.path,
            "reference": reference,
            "sound": self.sound,
            "image": self.item.paths.image,
        }
        return [(role, path) for role, path in files.items() if path is not None]


def open_item(item: Item) -> tuple[Opened, str]:
    """Probe and hash the files of an item.

    Returns also what is wrong with its ground truth, if something is. Raises InputError for the generated one.
    """
    generated = probe(item.paths.generated)
    reference, wrong = None, ""
    if item.paths.reference is not None:
        try:
            reference = probe(item.paths.reference)
        except InputError as error:
            wrong = str(error)
    sound = item.paths.audio or (generated.path if generated.has_sound else None)
    opened = Opened(item, generated, reference, sound)
    opened.digests = {role: file_sha256(path) for role, path in opened.files()}
    return opened, wrong


class Library:
    """What extractors make of the videos, by video, role and extractor."""

    def __init__(self, cache: FeatureCache, metrics: Sequence[Metric]) -> None:
        self.cache = cache
        self.wanted: dict[Role, list[Extractor | PairExtractor]] = {
            "generated": [COUNT],
            "reference": [COUNT],
            "image": [],
            "pair": [],
        }
        for metric in metrics:
            for role, extractor in metric.needs.items():
                if all(e.digest != extractor.digest for e in self.wanted[role]):
                    self.wanted[role].append(extractor)

    def key(self, video: Opened, role: Role, extractor: Extractor | PairExtractor) -> str | None:
        """Key of an entry; None where the video does not have that role."""
        d = video.digests
        if role == "pair":
            return (
                self.cache.key("pair", d["generated"], d["reference"], extractor.digest) if "reference" in d else None
            )
        fps = getattr(extractor, "fps", None)
        sound = d.get("sound", "none") if getattr(extractor, "uses_audio", False) and role == "generated" else ""
        if role == "image":
            if "image" in d:
                return self.cache.key("image", d["image"], extractor.digest)
            return self.cache.key("first frame", d["reference"], extractor.digest) if "reference" in d else None
        return self.cache.key("video", d[role], extractor.digest, str(fps), sound) if role in d else None

    def counted(self, video: Opened, role: Role) -> bool:
        """Whether a frame of it could be decoded."""
        return self.get(video, role, COUNT) is not None

    def get(self, video: Opened, role: Role, extractor: Extractor | PairExtractor) -> Features | None:
        """Features, if they were made."""
        key = self.key(video, role, extractor)
        return None if key is None else self.cache.get(key)

    def missing(self, video: Opened, role: Role) -> list[Extractor | PairExtractor]:
        """Who has not yet seen it."""
        keys = [(e, self.key(video, role, e)) for e in self.wanted[role]]
        return [e for e, key in keys if key is not None and self.cache.get(key) is None]

    def frames_to_read(self, video: Opened) -> int:
        """Of both files, about."""
        both = bool(self.missing(video, "pair"))
        total = video.generated.packets if both or self.missing(video, "generated") else 0
        return total + (
            video.reference.packets if video.reference and (both or self.missing(video, "reference")) else 0
        )

    def fill(self, video: Opened, tick: Callable[[], None]) -> str:
        """Make what is missing of one video. Returns why nothing of it could be decoded, empty otherwise."""
        generated, reference, pairs = (self.missing(video, role) for role in ("generated", "reference", "pair"))
        seen = true = None
        if generated or pairs:
            seen = VideoInput(video.generated, video.sound, generated)  # type: ignore[arg-type]
        if video.reference and (reference or pairs):
            true = VideoInput(video.reference, video.reference.path if video.reference.has_sound else None, reference)  # type: ignore[arg-type]
        made = dict(zip(("generated", "reference", "pair"), extract_features(seen, true, pairs, tick), strict=True))  # type: ignore[arg-type]
        for role, of_role in made.items():
            self._keep(video, role, of_role)  # type: ignore[arg-type]
        if made["reference"].broken:
            video.reference = None
            video.digests.pop("reference")
        self._fill_image(video)
        return made["generated"].broken or made["reference"].broken

    def _fill_image(self, video: Opened) -> None:
        extractors = self.missing(video, "image")
        if not extractors:
            return
        try:
            path = video.item.paths.image
            picture: np.ndarray = load_picture(path) if path is not None else first_frame(video.reference)  # type: ignore[arg-type]
        except CyberHostError as error:
            for extractor in extractors:
                video.reasons["image", extractor.digest] = str(error)
            return
        self._keep(video, "image", extract_picture_features(picture, video.picture, extractors))  # type: ignore[arg-type]

    def _keep(self, video: Opened, role: Role, made: FeatureResult) -> None:
        video.reasons |= {(role, digest): reason for digest, reason in made.reasons.items()}
        for extractor in self.wanted[role]:
            key = self.key(video, role, extractor)
            if key is not None and extractor.digest in made.features:
                self.cache.put(key, made.features[extractor.digest])
