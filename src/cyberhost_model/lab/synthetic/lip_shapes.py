"""Lips of filmed people, and the map from phonemes to lips that is learnt from them, with coarticulation.

All shapes are without a unit, relative to how far the filmed speaker's own lips go, so that they hold for any face:
gap 0 (closed) .. 1 (as far apart as in the widest speech), width -1 (rounded) .. 0 (at rest) .. 1 (spread), closure 1
where lips touch in speech, protrusion -1 .. 0 (at rest) .. 1 (pushed forward), tuck 1 where the lower lip lies at the
upper teeth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.errors import TrainingError
from cyberhost_model.reading import Unreadable, one_line, read_arrays
from cyberhost_model.speech.lip_head import GAP, PROTRUSION, WIDTH
from cyberhost_model.speech.phonemes import CLASSES, CLOSED, FEATURES, ON_TEETH, SILENCE, PhonemeTrack, feature_table

_OFFSETS = np.arange(-7, 8) * 0.04
"""Seconds from a lip's moment to the phonemes that shape it: coarticulation."""
_EXACT, _EASE = 0.025, 0.05
"""Seconds: a closure is whole so long after its beginning and before its end, and comes about in so long."""
_BATCH = 256  # frames
_OWN = 1.0  # weight of the penalty on what a class has beside its features
_SETTLE = 0.3  # seconds of silence after which lips are at rest


@dataclass(frozen=True)
class FilmedLips:
    """The lips of one filmed clip, T frames.

    Closure and tuck, which a face mesh does not see well, are those of the phonemes.
    """

    lips: np.ndarray
    """float32 (T, 5) in the order of LIPS; NaN where no face was found."""
    fps: float

    @property
    def times(self) -> np.ndarray:
        """Middle of each frame, seconds (T,)."""
        return (np.arange(len(self.lips)) + 0.5) / self.fps

    def at(self, times: np.ndarray) -> np.ndarray:
        """Interpolate the lips at each of `times` (N,), seconds: float32 (N, 5)."""
        return np.stack([np.interp(times, self.times, curve) for curve in self.lips.T], 1).astype(np.float32)


def _read_lips(file: Path) -> tuple[dict[str, np.ndarray], float]:
    """Read an npz file of scripts/label_filmed.py -> gap, width, upper_lip and lower_lip, each (T,), and its fps.

    Raises OSError and Unreadable.
    """
    seen = read_arrays(file)
    names = ("gap", "width", "upper_lip", "lower_lip")
    if missing := [name for name in (*names, "fps") if name not in seen]:
        raise Unreadable(f"lacks {', '.join(missing)}")
    shapes = {seen[name].shape for name in names}
    if len(shapes) > 1 or seen["gap"].ndim != 1 or any(seen[name].dtype.kind not in "iuf" for name in (*names, "fps")):
        raise Unreadable(f"{', '.join(names)} must be as many numbers each")
    if seen["fps"].size != 1 or not 1 <= float(seen["fps"].reshape(())) <= 240:
        raise Unreadable("fps must be within 1..240")
    return seen, float(seen["fps"].reshape(()))


def read_filmed_lips(files: Sequence[Path], heard: Sequence[PhonemeTrack]) -> list[FilmedLips]:
    """Read clips of one speaker, and scale them by how far this speaker's lips go.

    files: npz files of scripts/label_filmed.py. heard: the phonemes of each. Raises TrainingError.
    """
    rows: list[tuple[dict[str, np.ndarray], float]] = []
    for file in files:
        try:
            seen, fps = _read_lips(file)
        except (OSError, Unreadable) as error:
            raise TrainingError(
                f"{file}: no lips of scripts/label_filmed.py ({one_line(error)}); label the clips again"
            ) from error
        row = {"gap": seen["gap"], "width": seen["width"]}
        # thick and narrow when pushed forward
        row["pucker"] = (seen["upper_lip"] + seen["lower_lip"]) / seen["width"]
        rows.append((row, fps))
    classes = [
        speech.at((np.arange(len(row["gap"])) + 0.5) / fps) for (row, fps), speech in zip(rows, heard, strict=True)
    ]
    said = np.concatenate(classes) != SILENCE
    whole = {name: np.concatenate([row[name] for row, _ in rows]) for name in rows[0][0]}
    if said.sum() < 100 or (~said).sum() < 20:
        raise TrainingError(
            "the filmed clips hold too little speech, or no silence; at least a minute with pauses is needed"
        )

    def scaled(name: str, row: dict[str, np.ndarray], zero: float, low: float, high: float) -> np.ndarray:
        """Scale so that `zero` is 0 and the farther of the percentiles `low` and `high` of speech is -1 or 1."""
        far = np.nanpercentile(whole[name][said], [low, high]) - zero
        return (row[name] - zero) / max(float(np.abs(far).max()), 1e-6)

    rest = {name: float(np.nanmedian(values[~said])) for name, values in whole.items()}
    closed = float(np.nanpercentile(whole["gap"], 3))
    clips = []
    for (row, fps), speech in zip(rows, heard, strict=True):
        gap = scaled("gap", row, closed, 50, 98).clip(0, 1.5)
        width = scaled("width", row, rest["width"], 2, 98)
        pucker = scaled("pucker", row, rest["pucker"], 2, 98)
        times = (np.arange(len(gap)) + 0.5) / fps
        closure, tuck = articulated(speech, times, CLOSED), articulated(speech, times, ON_TEETH)
        clips.append(FilmedLips(np.stack([gap, width, closure, pucker, tuck], 1).astype(np.float32), fps))
    return clips


class LipMap(nn.Module):
    """A small network from the phonemes around a moment to gap, width and protrusion.

    Closure and tuck follow from the phonemes alone.
    """

    def __init__(self, embedded: int = 12, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("features", torch.from_numpy(feature_table()), persistent=False)
        self.own = nn.Parameter(torch.zeros(len(CLASSES), embedded))  # stays 0 for what the speaker never says
        self.shared = nn.Linear(len(FEATURES), embedded)
        self.hidden = nn.Linear(len(_OFFSETS) * embedded, hidden)
        self.out = nn.Linear(hidden, 3)
        self.dropout = nn.Dropout(0.2)

    def forward(self, context: Tensor) -> Tensor:
        """Map shares of the classes around T moments (T, offsets, classes) to gap, width, protrusion (T, 3)."""
        embedded = context @ (self.own + self.shared(self.features))
        return self.out(self.dropout(F.gelu(self.hidden(self.dropout(embedded.flatten(1))))))

    @torch.no_grad()
    def lips(self, speech: PhonemeTrack, times: np.ndarray) -> np.ndarray:
        """Predict the lips at each of `times` (T,), seconds: float32 (T, 5) in the order of LIPS."""
        gap, width, protrusion = self.eval()(torch.from_numpy(phoneme_context(speech, times))).numpy().T
        closure, tuck = articulated(speech, times, CLOSED), articulated(speech, times, ON_TEETH)
        moving = 1 - rest_share(speech, times)
        gap = gap.clip(0, 1.5) * (1 - closure) * moving
        return np.stack([gap, width * moving, closure, protrusion * moving, tuck], 1).astype(np.float32)


def fit_lip_map(clips: Sequence[FilmedLips], heard: Sequence[PhonemeTrack], passes: int = 27, seed: int = 0) -> LipMap:
    """Train a LipMap on filmed clips and the phonemes of each, for so many `passes` over all frames.

    It takes half a minute of one core for 20 minutes of film.
    """
    inputs, seen = [], []
    for clip, speech in zip(clips, heard, strict=True):
        there = np.isfinite(clip.lips).all(1)
        inputs.append(phoneme_context(speech, clip.times)[there])
        seen.append(clip.lips[there][:, [GAP, WIDTH, PROTRUSION]])
    x, y = torch.from_numpy(np.concatenate(inputs)), torch.from_numpy(np.concatenate(seen))
    steps = max(100, passes * len(x) // _BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lip_map = LipMap().train()
        optimizer = torch.optim.AdamW(lip_map.parameters(), 3e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (_BATCH,))
            loss = (lip_map(x[rows]) - y[rows]).square().mean() + _OWN * lip_map.own.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return lip_map.eval()


def phoneme_context(speech: PhonemeTrack, times: np.ndarray) -> np.ndarray:
    """Compute the shares of the phonemes at and around each of `times` (T,): float32 (T, offsets, classes)."""
    out = np.zeros((len(times), len(_OFFSETS), len(CLASSES)), np.float32)
    for i, offset in enumerate(_OFFSETS):
        for part in (-0.01, 0.01):  # a phoneme that begins within a step counts half
            out[np.arange(len(times)), i, speech.at(times + offset + part)] += 0.5
    return out


def articulated(speech: PhonemeTrack, times: np.ndarray, names: frozenset[str]) -> np.ndarray:
    """Compute how far a phoneme of the classes `names` has come about at each of `times` (T,): (T,), 0..1.

    1 in its middle, however short it is.
    """
    out = np.zeros(len(times))
    for start, end, number in zip(speech.starts, speech.ends, speech.classes, strict=True):
        if CLASSES[number] in names:
            whole = min(_EXACT, (end - start) / 2)
            far = np.maximum(start + whole - times, times - (end - whole)).clip(0)
            out = np.maximum(out, (1 - far / _EASE).clip(0, 1))
    return out


def rest_share(speech: PhonemeTrack, times: np.ndarray) -> np.ndarray:
    """Compute 1 where nobody has spoken for a while and nobody is about to, at each of `times` (T,): (T,), 0..1."""
    if not len(speech.starts):
        return np.ones(len(times))
    far = np.full(len(times), np.inf)
    before = np.searchsorted(speech.starts, times, "right") - 1
    far = np.minimum(far, np.where(before >= 0, times - speech.ends[before.clip(0)], np.inf))
    after = (before + 1).clip(max=len(speech.starts) - 1)
    far = np.minimum(far, np.where(before + 1 < len(speech.starts), speech.starts[after] - times, np.inf))
    return ((far - _SETTLE) / 0.1 + 1).clip(0, 1)
