"""Measure articulation: do lips do at a speech sound what people's lips do there?

Lips come as curves, speech sounds as spans of phonemes, so the same functions judge a video and what a speech encoder
predicts. Curves are in units of their own standard deviation, which makes a small face and a large one, a quiet
speaker and a lively one alike. An effect is the mean over all spans of a class, minus what the same spans give when
they are moved by 1 to 5 s, where lips do something else; lips may lead or follow the sound by up to 0.16 s.

Filmed people and what wrong sounds give: docs/reference/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.phonemes import Span

POWER_RATE = 1000
"""Values a second of `sound_power`."""
LAGS = range(-4, 5)
"""Shifts of which the best is taken, in 25ths of a second: how lips and the recogniser's times may differ."""
CONTROLS = range(25, 120, 5)
"""Shifts at which spans and lips have nothing to do with each other, in 25ths of a second."""
SHORTEST = (CONTROLS[-1] + CONTROLS[0] + 1) / 25
"""Seconds of a video from which every control is a second away from the spans, though curves are taken as rings."""
_WIDER = 0.04  # seconds by which a span is widened on either side
STILL = 0.003
"""Deviation of the gap in face heights up to which lips count as unmoved: their loudness correlation is not defined."""


@dataclass(frozen=True)
class Effect:
    """What lips do at the phonemes `phonemes`: the most extreme value of `curve` within a span.

    phonemes: IPA, as hama writes them. extreme: of an array, NaN left out. sign: the direction people's lips go.
    """

    phonemes: frozenset[str]
    curve: Literal["gap", "width"]
    extreme: Callable[[np.ndarray], float]
    sign: Literal[-1, 1]


EFFECTS = {
    "closure": Effect(frozenset("mbp"), "gap", np.nanmin, -1),
    "rounding": Effect(frozenset(("u", "ʊ", "oʊ", "ɔ", "w", "o")), "width", np.nanmin, -1),
    "opening": Effect(frozenset(("ɑ", "æ", "aɪ", "aʊ", "a", "ʌ")), "gap", np.nanmax, 1),
}


@dataclass(frozen=True)
class LipTrack:
    """Lips and sound of one video of T frames.

    gap, width: of the mouth, (T,) in any unit, NaN where lips are not seen. level: root mean square of the sound in
    each frame, (T,). spans: its phonemes.
    """

    gap: np.ndarray
    width: np.ndarray
    level: np.ndarray
    spans: Sequence[Span]
    fps: float = 25.0

    def within(self, phonemes: frozenset[str]) -> list[Span]:
        """Return the spans of these phonemes that end before the video does."""
        return [s for s in self.spans if s[2] in phonemes and s[1] < len(self.gap) / self.fps]


@dataclass(frozen=True)
class MeasuredEffect:
    """Hold an effect: its size in deviations of the lips, NaN without spans.

    lag: where it is largest, in 25ths of a second; negative where lips are ahead of the recogniser's times. spans: how
    many it rests on. control_deviation: standard deviation of the controls, the size of an effect by chance.
    """

    value: float
    lag: int
    spans: int
    control_deviation: float


def measure_effect(tracks: Sequence[LipTrack], effect: Effect) -> MeasuredEffect:
    """Measure an effect over the spans of all `tracks` together."""
    curves = [_in_deviations(getattr(track, effect.curve)) for track in tracks]

    def mean(shift: int) -> float:
        found = [
            value
            for track, curve in zip(tracks, curves, strict=True)
            for value in _extremes(track, curve, effect, shift)
        ]
        return float(np.mean(found)) if found else float("nan")

    spans = sum(len(track.within(effect.phonemes)) for track in tracks)
    controls = np.array([mean(shift) for shift in CONTROLS])
    at_lags = np.array([mean(lag) for lag in LAGS]) - controls.mean()
    if not np.isfinite(at_lags).all():
        return MeasuredEffect(float("nan"), 0, spans, float("nan"))
    best = int(np.argmax(effect.sign * at_lags))
    return MeasuredEffect(float(at_lags[best]), LAGS[best], spans, float(controls.std()))


def _in_deviations(curve: np.ndarray) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation; a curve without a value stays NaN."""
    if not np.isfinite(curve).any():
        return np.full(len(curve), np.nan)
    return (curve - np.nanmean(curve)) / (np.nanstd(curve) + 1e-9)


def _extremes(track: LipTrack, curve: np.ndarray, effect: Effect, shift: int) -> Iterable[float]:
    """Yield the most extreme value at each span moved by `shift` 25ths of a second, of those where lips are seen."""
    moved = round(shift * track.fps / 25)
    for start, end, _ in track.within(effect.phonemes):
        first = round((start - _WIDER) * track.fps) + moved
        length = max(2, round((end - start + 2 * _WIDER) * track.fps) + 1)
        part = curve[(first + np.arange(length)) % len(curve)]
        if np.isfinite(part).any():
            yield float(effect.extreme(part))


def loudness_correlation(track: LipTrack, still: float = STILL) -> float:
    """Correlate the gap with the sound's level over the frames where lips are seen.

    NaN for 20 of them or fewer, for lips whose deviation is at most `still`, and for a sound of one level. People's
    lips close at loud m and b, and open in silence: the correlation is small. Lips that follow loudness have a large
    one.
    """
    seen = np.isfinite(track.gap)
    gap, level = track.gap[seen], track.level[seen]
    if len(gap) <= 20 or gap.std() <= still or level.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(gap, level)[0, 1])


def sound_power(samples: np.ndarray) -> np.ndarray:
    """Compute the mean square of `samples` (n,) at 16 kHz in each thousandth of a second: float32 (ceil(n / 16),)."""
    step = SPEECH_RATE // POWER_RATE
    padded = np.pad(np.asarray(samples, np.float64), (0, -len(samples) % step))
    return np.square(padded.reshape(-1, step)).mean(1).astype(np.float32)


def frame_levels(power: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """Compute the root mean square of the sound in each of `frames` from `sound_power`: (frames,)."""
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    edges = np.arange(frames + 1) / fps * POWER_RATE
    within = np.diff(np.interp(edges, np.arange(len(total)), total))
    return np.sqrt(np.maximum(within, 0) * fps / POWER_RATE)
