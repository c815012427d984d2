"""Kinds of stroke that hands make under speech: where they are prepared, where they end, and how long they hold.

A stroke is prepared, made, held and taken back (Kendon 2004). Which kind comes when is drawn from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SEED = 0x6E57  # strokes draw from a generator of their own
_SIZES = (0.75, 1.0)
_FOLLOWS = (0.8, 1.0)  # how far the second of two hands goes
_RESTING, _RESTS = 0.3, (0.3, 1.2)  # share of strokes after which hands rest, and for how many seconds


@dataclass(frozen=True)
class Pose:
    """One hand about where the picture has it."""

    out: float = 0.0
    """To the hand's own side, as a share of how far a hand may go; below 0 towards the other hand."""
    up: float = 0.0
    tips: float = 0.0
    """The hand turns so that its fingertips rise, or where they point up or down, go outwards: -1..1."""
    spread: float = 0.0
    """Of the fingers, -1..1."""

    def array(self) -> np.ndarray:
        """The values as they are declared: (4,)."""
        return np.array([self.out, self.up, self.tips, self.spread])


REST = Pose()
WIDTH = len(REST.array())


@dataclass(frozen=True)
class Kind:
    """One kind of stroke: the hand that leads goes from `prepared` to `apex`, the other from `beside` to `follows`."""

    prepared: Pose
    apex: Pose
    beside: Pose
    follows: Pose
    hold: tuple[float, float]
    """Seconds for which the hands stay at the apex, from .. to."""


def _alone(prepared: Pose, apex: Pose, hold: tuple[float, float]) -> Kind:
    return Kind(prepared, apex, REST, REST, hold)


def _both(prepared: Pose, apex: Pose, hold: tuple[float, float]) -> Kind:
    return Kind(prepared, apex, prepared, apex, hold)


KINDS = {
    "beat": _alone(Pose(-0.2, 0.2, 0.8, 0.2), Pose(0.3, -0.2, -0.7, -0.2), (0.1, 0.3)),
    "beat of both": _both(Pose(-0.1, 0.2, 0.8, 0.2), Pose(0.25, -0.2, -0.7, -0.2), (0.1, 0.3)),
    "open": _both(Pose(-0.25, -0.3, 0.3, -0.4), Pose(0.8, 0.45, -0.6, 1.0), (0.3, 0.7)),
    "offer": _alone(Pose(-0.25, -0.5, 0.4, -0.2), Pose(0.3, 0.9, -0.5, 0.8), (0.3, 0.7)),
    "size": _both(Pose(-0.25, 0.3, -0.2, -0.4), Pose(0.75, 0.3, -0.2, 0.6), (0.3, 0.7)),
    "gather": _both(Pose(0.75, -0.2, 0.1, 0.6), Pose(-0.25, 0.4, -0.3, -0.8), (0.2, 0.5)),
    "sweep": _alone(Pose(-0.25, 0.3, -0.2, -0.2), Pose(0.95, -0.2, 0.1, 0.8), (0.2, 0.5)),
    "weigh": Kind(
        Pose(0.1, -0.5, 0.3), Pose(0.2, 0.8, -0.5, 0.6), Pose(0.1, 0.6, -0.4), Pose(0.2, -0.6, 0.4), (0.3, 0.6)
    ),
}
"""beat: down, with one hand or both. open: palms outwards. offer: one hand forward and up. size: apart. gather:
together. sweep: one hand to its side. weigh: one hand up, the other down.
"""


@dataclass(frozen=True)
class Stroke:
    """One stroke as it is made."""

    kind: str
    prepared: np.ndarray
    """(2, WIDTH) of the left and the right hand, as `Pose` has them."""
    apex: np.ndarray
    """(2, WIDTH)."""
    hold: float
    """Seconds."""
    rests: float
    """Seconds of rest after it; 0: the next one follows where speech goes on."""

    @property
    def length(self) -> float:
        """How far the hand that goes further goes from `prepared` to `apex`."""
        return float(np.linalg.norm((self.apex - self.prepared)[:, :2], axis=-1).max())


def draw_stroke(seed: int, number: int, before: str | None, size: float = 1.0) -> Stroke:
    """Draw stroke `number` of a seed; it is of another kind than the one `before`. size: factor of its lengths."""
    rng = np.random.default_rng([seed, _SEED, number])
    name = [kind for kind in KINDS if kind != before][rng.integers(len(KINDS) - (before is not None))]
    kind, leads = KINDS[name], int(rng.integers(2))
    size, follows = size * rng.uniform(*_SIZES), rng.uniform(*_FOLLOWS)
    hands = np.array([[kind.prepared.array(), kind.apex.array()], [kind.beside.array(), kind.follows.array()]])
    hands *= size * np.array([1.0, follows])[:, None, None]
    if leads == 1:
        hands = hands[::-1]
    hold, rests = rng.uniform(*kind.hold), rng.uniform(*_RESTS) * (rng.random() < _RESTING)
    return Stroke(name, hands[:, 0], hands[:, 1], hold, rests)
