"""Hold the settings of `cyberhost data prepare`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.manifest import VERSION
from cyberhost_model.media.files import hexdigest

CROPS = ("body", "head")
GROUPINGS = ("video", "folder", "face")


@dataclass(frozen=True)
class Settings:
    """Say how raw videos become clips. Raises InputError for values that make no sense."""

    crop: str = "body"
    """ "body": head to hands; hands must be visible. "head": head and neck."""
    area: tuple[int, int] = (640, 384)
    """A size (W, H) whose area the clips approach; their sides are multiples of 64, their aspect fits their content."""
    min_seconds: float = 2.0
    max_seconds: float = 10.0
    min_face: float = 0.95
    """Least share of frames with a face."""
    min_hands: float = 0.3
    """Least share of frames with a hand, for the body crop; frames between two that show one count.

    It is this low because the embedded detector loses hands in motion: of filmed people whose hands are seen nearly
    all the time it finds one in 6 to 72% of the frames, of a man whose hands are not seen in none of 180.
    """
    min_speech: float = 0.3
    """Least share of frames with speech; 0 also takes clips without any sound, which teach the codec how people move.
    """
    min_fps: float = 18.0
    """Least number of different frames a second."""
    max_enlarge: float = 1.5
    """Most that the crop's sides may be enlarged by."""
    identity_by: str = "video"
    """ "video": every file is an identity of its own; "folder": the files of a folder share one; "face": files whose
    faces ArcFace takes for one person share one.
    """
    detector: str = "embedded"
    min_sync: float | None = None
    """Least confidence of SyncNet that lips and sound are in sync; None: SyncNet is not run.

    It downloads weights and doubles the time.
    """
    splits: dict[str, str] | None = None
    """Splits of identities by name (`manifest.read_splits`); None: a tenth is held out, by a hash of the name."""

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("min_face", "min_hands", "min_speech")}
        wrong = [
            *((not 0 <= value <= 1, f"{name} must be within 0..1, not {value}") for name, value in shares.items()),
            (not 0 <= self.min_fps <= 240, f"min_fps must be within 0..240, not {self.min_fps}"),
            (not 0.1 <= self.max_enlarge <= 16, f"max_enlarge must be within 0.1..16, not {self.max_enlarge}"),
            (
                self.min_sync is not None and not abs(self.min_sync) <= 100,
                f"min_sync must be within -100..100, not {self.min_sync}",
            ),
            (self.crop not in CROPS, f"no crop {self.crop!r}: choose {' or '.join(CROPS)}"),
            (self.identity_by not in GROUPINGS, f"identities go by {' or '.join(GROUPINGS)}, not {self.identity_by!r}"),
            (
                min(self.area) < 64 or max(self.area) > 4096,
                f"an area of {self.area[0]}x{self.area[1]}: sides must be 64 to 4096",
            ),
            (
                not 0.2 <= self.min_seconds <= self.max_seconds,
                "the shortest clip must be 0.2 s or more and no longer than the longest",
            ),
            (not self.max_seconds <= 120, "clips longer than 120 s cannot be used: choose a smaller longest clip"),
        ]
        for failed, words in wrong:
            if failed:
                raise InputError(words)

    def fingerprint(self) -> str:
        """Return a digest of all settings, the format and the embedded detector's weights.

        Clips of different fingerprints are not mixed in one dataset.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if self.detector == "embedded":
            given["weights"] = hexdigest(EMBEDDED / "tiny" / "detector" / "model.safetensors", hashlib.sha256())
        return hashlib.sha256(json.dumps([VERSION, given], sort_keys=True).encode()).hexdigest()[:16]
