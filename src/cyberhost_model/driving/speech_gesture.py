"""Gestures for speech alone: strokes of the hands whose apex falls on stressed syllables.

Not in the paper. For networks that move by poses of the hands and know no body movement map (EchoMimicV2), and those
whose hands are better driven than left to the speech alone (`sampling.gestures`). A frame depends on the sound up to
`ahead` seconds after it and on no later one, so that a sound that is still being spoken has gestures too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.driving.strokes import WIDTH, Stroke, draw_stroke
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

AHEAD = 0.4
"""Seconds of sound after a frame that its hands are moved by, where they are known."""
STEP = SPEECH_RATE // 50
"""Samples of a step, in which loudness is measured."""
_STEP = 0.02  # seconds
_ARMS = ((5, 6, 7), (2, 3, 4))
"""Shoulder, elbow and wrist of the left and the right arm, among the body's points."""
_TOUCHING = 0.6  # palms between a hand and what it rests on

_KEPT = 300  # steps of loudness before a frame that are kept
_QUIETEST = -46.0  # dB of full scale: what is less loud is no speech, where nothing is known of the voice
_FADES = 3.0  # dB a second by which the loudest that was heard is forgotten
_SILENT = -20.0  # dB below loud speech from which on nobody speaks
_PAUSE = 0.12  # seconds of silence before a frame, and all that is known after it, that are a pause
_PEAK = 2  # steps on either side of a syllable's peak
_RISE = 8  # steps before a peak from whose lowest it rises
_STRESSED = 13.0  # dB above `_SILENT` plus half of the rise, from which on a syllable is stressed
_MOST_RISE = 12.0  # dB that count, for silence before a syllable makes no stress
_PATIENCE = 2.5  # dB a second by which less stress is enough while a stroke waits for some
_PREPARES, _RETURNS, _LEAST = 0.4, 0.8, 0.12  # seconds: to prepare, to sink to rest, and of a stroke at least
_SLOWNESS = 0.19  # seconds that a stroke takes for a length of 1, at least
_KNOWN = 0.06  # seconds after its peak that a syllable is known
_LATE = 0.02  # seconds by which a stroke may come late
_READY = 0.75  # share of its preparation after which a stroke may begin
_SWAY = 0.05  # how far resting hands sway

_DIGITAL_SILENCE = 1e-8  # -80 dB of full scale
_SPREADS, _TURNS = 0.15, 0.3  # share by which a hand is broader with fingers spread, and radians of its turn
_TIPS = (8, 12, 16, 20)  # of a hand's 21 points


@dataclass(frozen=True)
class _Motion:
    """A movement of both hands from one frame's place, speed and acceleration to rest at a target, of least jerk."""

    begin: float
    end: float
    coefficients: np.ndarray
    """(6, 2, WIDTH) of the powers of the share of the time that has passed."""

    @staticmethod
    def to(target: np.ndarray, begin: float, end: float, now: np.ndarray) -> _Motion:
        """now: (3, 2, WIDTH) place, speed and acceleration at `begin`; times in seconds."""
        span = end - begin
        p, v, a = now[0], now[1] * span, now[2] * span * span
        d = target - p
        c3, c4, c5 = 10 * d - 6 * v - 1.5 * a, -15 * d + 8 * v + 1.5 * a, 6 * d - 3 * v - 0.5 * a
        return _Motion(begin, end, np.stack([p, v, a / 2, c3, c4, c5]))

    def at(self, time: float) -> np.ndarray:
        """Place, speed and acceleration (3, 2, WIDTH); after the end it stays."""
        span, c = self.end - self.begin, self.coefficients
        if time >= self.end:
            return np.stack([c.sum(0), np.zeros_like(c[0]), np.zeros_like(c[0])])
        u, order = (time - self.begin) / span, np.arange(6.0)[:, None, None]
        place = (c * u**order).sum(0)
        speed = (c[1:] * order[1:] * u ** (order[1:] - 1)).sum(0) / span
        acceleration = (c[2:] * (order[2:] * (order[2:] - 1)) * u ** (order[2:] - 2)).sum(0) / span**2
        return np.stack([place, speed, acceleration])


@dataclass(frozen=True)
class _Hands:
    """What the hands are about in one frame."""

    motion: _Motion
    number: int = 0
    """Strokes that were drawn."""
    stroke: Stroke | None = None
    """The one that is prepared, made or held; None at rest."""
    apex: float = math.inf
    """When it arrives; inf while it waits for a stressed syllable."""
    rests: float = 0.0
    """Until when the hands rest."""
    before: str | None = None
    """Kind of the last stroke."""


class SpeechGestures:
    """Hands of a speaker, frame after frame, by a loudness that grows.

    They rest, sway, and make strokes (`driving.strokes`) that the seed chooses: prepared when somebody speaks, made
    when a stressed syllable comes, held and followed by another one or by rest; in pauses they sink. Nothing jumps.
    """

    def __init__(
        self, fps: float, seed: int, movement: float = 1.0, ahead: float = AHEAD, loud: float | None = None
    ) -> None:
        """Begin at rest. Below 1 `movement` makes strokes smaller, above it they follow each other faster.

        ahead: seconds of sound after a frame that are heard. loud: of loud speech, in dB of full scale; None: it is
        measured while the sound goes by.
        """
        self.fps, self.seed, self.ahead, self.loud = fps, seed, ahead, loud
        self.size, self.pace = min(movement, 1.0), max(movement, 1.0)
        self._sway = np.random.default_rng([seed, 0x5A3]).uniform(0, 2 * math.pi, (2, 2, 2))
        self._level, self._first_step = np.zeros(0), 0
        self._states, self._first = [self._at_rest(0.0)], 0

    @staticmethod
    def _at_rest(time: float) -> _Hands:
        return _Hands(_Motion(time - 1, time, np.zeros((6, 2, WIDTH))))

    def hear(self, power: np.ndarray, step: int) -> None:
        """Take the mean power (n,) of the steps from `step` on; what was heard of them before is forgotten."""
        known = self._level[: max(0, step - self._first_step)]
        level = np.concatenate([known, 10 * np.log10(np.maximum(power, 1e-12))])
        late = max(0, len(known) - _KEPT)
        self._level, self._first_step = level[late:], step - len(known) + late

    def frames(self, first: int, count: int) -> np.ndarray:
        """Move the hands in the frames from `first` on: (count, 2, WIDTH), as `strokes.Pose` has them.

        `first` is the frame after the last one that was made, or one of those, from which the hands then go on.
        """
        at = first - self._first
        self._states = self._states[at : at + 1] if 0 <= at < len(self._states) else [self._at_rest(first / self.fps)]
        self._first = first
        times = np.arange(first, first + count) / self.fps
        for time in times:
            self._states.append(self._next(self._states[-1], float(time)))
        moved = np.stack([hands.motion.at(t)[0] for hands, t in zip(self._states[1:], times, strict=True)])
        moved[..., :2] += self._swaying(times)
        return moved

    def _swaying(self, times: np.ndarray) -> np.ndarray:
        """(n, 2, 2) of each hand, outwards and up."""
        phases = 2 * math.pi * times[:, None, None, None] / np.array([3.1, 4.7]) + self._sway
        return _SWAY * self.size * np.sin(phases).mean(-1)

    def _next(self, hands: _Hands, time: float) -> _Hands:
        """Decide what the hands are about from `time` on, by what is heard until `ahead` seconds later."""
        first, level = self._heard(time)
        speaks = level[-math.ceil((_PAUSE + self.ahead) / _STEP) :].max() > _SILENT
        stroke = hands.stroke
        if stroke is None:
            return self._prepare(hands, time) if speaks and time >= hands.rests and self.size else hands
        if hands.apex == math.inf:
            if not speaks:
                return self._rest(hands, time, 0.0)
            ready = hands.motion.begin + _READY * (hands.motion.end - hands.motion.begin)
            takes = max(_LEAST, stroke.length * self._in_time(stroke) * _SLOWNESS)
            peak = self._stressed(first, level, time + takes, max(0.0, time - ready)) if time >= ready else None
            if peak is None:
                return hands
            arrives = max(peak, time + takes)
            return replace(hands, motion=_Motion.to(stroke.apex, time, arrives, hands.motion.at(time)), apex=arrives)
        if time < hands.apex + stroke.hold / self.pace:
            return hands
        if not speaks or stroke.rests:
            return self._rest(hands, time, stroke.rests / self.pace)
        return self._prepare(hands, time)

    def _prepare(self, hands: _Hands, time: float) -> _Hands:
        stroke = draw_stroke(self.seed, hands.number, hands.before, self.size)
        prepared = stroke.apex + self._in_time(stroke) * (stroke.prepared - stroke.apex)
        motion = _Motion.to(prepared, time, time + _PREPARES / self.pace, hands.motion.at(time))
        return replace(hands, motion=motion, number=hands.number + 1, stroke=stroke, apex=math.inf, before=stroke.kind)

    def _in_time(self, stroke: Stroke) -> float:
        """Compute how much of a stroke there is time for from when its syllable is known."""
        notice = max(_LEAST, self.ahead - _KNOWN)
        return min(1.0, notice / max(stroke.length * _SLOWNESS, 1e-6))

    def _rest(self, hands: _Hands, time: float, rests: float) -> _Hands:
        motion = _Motion.to(np.zeros((2, WIDTH)), time, time + _RETURNS, hands.motion.at(time))
        return replace(hands, motion=motion, stroke=None, rests=time + rests)

    def _heard(self, time: float) -> tuple[int, np.ndarray]:
        """Level of the last steps that are known at a time, in dB of loud speech -> the first of them, (_KEPT,)."""
        end = math.floor((time + self.ahead) / _STEP + 1e-6)
        steps = np.arange(end - _KEPT, end) - self._first_step
        inside = (steps >= 0) & (steps < len(self._level))
        level = np.full(_KEPT, -120.0)
        level[inside] = self._level[steps[inside]]
        level = np.convolve(np.pad(level, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
        if self.loud is not None:
            return end - _KEPT, level - self.loud
        fades = np.arange(_KEPT)[::-1] * _STEP * _FADES
        return end - _KEPT, level - max(_QUIETEST, float((level - fades).max()))

    def _stressed(self, first: int, level: np.ndarray, time: float, waited: float) -> float | None:
        """Find the most stressed syllable from about `time` on -> that of its peak, None if none is stressed enough.

        level: of the steps from `first` on. waited: seconds that the hands are prepared.
        """
        found, most = None, _STRESSED - _PATIENCE * waited
        soonest = min(math.floor((time - _LATE) / _STEP) - first, _KEPT - _PEAK - 3)  # or the last one that was said
        for at in range(max(_RISE, soonest), _KEPT - _PEAK):
            rise = min(float(level[at] - level[at - _RISE : at].min()), _MOST_RISE)
            stress = level[at] - _SILENT + rise / 2
            if level[at] == level[at - _PEAK : at + _PEAK + 1].max() and stress > most:
                found, most = (first + at + 0.5) * _STEP, stress
        return found


def speech_gesture(
    blocks: Iterable[np.ndarray], n_frames: int, fps: float, seed: int, movement: float = 1.0
) -> np.ndarray:
    """Make gestures for `n_frames` frames of a whole sound, mono 16 kHz `blocks`, float (n,) in order.

    Returns what `SpeechGestures.frames` does.
    """
    power = step_power(blocks)
    loud = float(np.percentile(power, 95)) if len(power) else 0.0
    gestures = SpeechGestures(fps, seed, movement, loud=10 * math.log10(max(loud, _DIGITAL_SILENCE)))
    gestures.hear(power, 0)
    return gestures.frames(0, n_frames)


def step_power(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Measure the mean power of steps of 20 ms of mono 16 kHz `blocks`, float (n,) in order; silence fills the last."""
    parts, left = [np.zeros(0)], np.zeros(0)
    for block in blocks:
        samples = np.concatenate([left, np.square(block, dtype=np.float64)])
        whole = len(samples) // STEP * STEP
        parts.append(samples[:whole].reshape(-1, STEP).mean(1))
        left = samples[whole:]
    return np.concatenate([*parts, [left.sum() / STEP] if len(left) else []])


def move_hands(
    moves: np.ndarray,
    person: Keypoints,
    size: tuple[int, int],
    fps: float,
    reach: tuple[float, float],
    free: tuple[bool, bool],
) -> PoseSequence:
    """Move a picture's hands by `SpeechGestures.frames` (T, 2, WIDTH); nothing else is visible in the result.

    person: key points in 0..1 of a picture of `size` (W, H). reach: pixels that a hand goes along its fingers, and
    never passes across them. free: whether the left and the right hand may move (`free_hands`); the other stays.
    """
    rest = PoseSequence.of([person] * len(moves), fps, size).only("hands")
    hands = person.hands.astype(np.float64) * size
    hands = hands[..., 0] + 1j * hands[..., 1]
    middle = hands.mean(1, keepdims=True)
    mirrored = (person.hands_score.max(1) > VISIBLE).all() and middle[0, 0].real < middle[1, 0].real
    outwards = np.array([[-1.0], [1.0]] if mirrored else [[1.0], [-1.0]])
    out, up, tips, spread = np.moveaxis(moves * np.array(free)[:, None], -1, 0)[..., None]
    fingers = np.exp(1j * np.angle(hands[:, _TIPS].mean(1, keepdims=True) - hands[:, :1]))
    way = reach[0] * (out * outwards - 1j * up) / fingers
    way = way.real + 1j * reach[1] * np.tanh(way.imag / reach[1])
    level = abs(fingers.real) > abs(fingers.imag)
    rises = np.where(level, -np.sign(fingers.real), -np.sign(fingers.imag) * outwards)
    shape = (hands - middle) / fingers
    length = np.maximum(abs(shape.real).max(1, keepdims=True), 1e-6)
    turn = tips * rises * np.minimum(_TURNS, reach[1] / length)
    shape = (shape.real + 1j * shape.imag * (1 + _SPREADS * spread)) * np.exp(1j * turn)
    moved = middle + (shape + way) * fingers
    return replace(rest, hands=(np.stack([moved.real, moved.imag], -1) / size).astype(np.float32))


def free_hands(person: Keypoints, aspect: float, least: float = VISIBLE) -> tuple[bool, bool]:
    """Whether the left and the right hand touch nothing: not the other hand, its arm, or the face.

    aspect: width over height of the picture. least: score from which on a hand is one; others are not free. Hands that
    rest on each other, crossed arms and a chin in a hand would be torn apart by strokes.
    """
    place = person.map(lambda points: points * [aspect, 1])
    left, right = (_is_free(place, side, least) for side in (0, 1))
    return left, right


def joined_hands(person: Keypoints, aspect: float, least: float = VISIBLE) -> bool:
    """Whether both hands touch each other and neither touches the face, so that they can move as one.

    As `free_hands`.
    """
    place = person.map(lambda points: points * [aspect, 1])
    if place.hands_score.max(1).min() < least:
        return False
    face = place.face if place.face_score.max() > VISIBLE else place.face[:0]
    return not _apart(place.hands[0], place.hands[1]) and all(_apart(hand, face) for hand in place.hands)


def _is_free(place: Keypoints, side: int, least: float) -> bool:
    if place.hands_score[side].max() < least:
        return False
    hand, other = place.hands[side], 1 - side
    near = [place.face] if place.face_score.max() > VISIBLE else []
    if place.hands_score[other].max() > VISIBLE:
        near.append(place.hands[other])
    _, elbow, wrist = _ARMS[other]
    if min(place.body_score[[elbow, wrist]]) > VISIBLE:
        along = np.linspace(0, 1, 9)[:, None]
        near.append(place.body[elbow] + along * (place.body[wrist] - place.body[elbow]))
    return all(_apart(hand, points) for points in near)


def _apart(hand: np.ndarray, points: np.ndarray) -> bool:
    """Whether a hand (21, 2) touches none of `points` (n, 2)."""
    gap = np.linalg.norm(hand[:, None] - points, axis=-1).min(initial=np.inf)
    return bool(gap > _TOUCHING * np.linalg.norm(hand[9] - hand[0]))
