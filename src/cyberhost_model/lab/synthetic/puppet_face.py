"""The face of a photo puppet: lips, jaw, lids and brows, moved by warping in the still's own face coordinates.

All maps go backward, from a pixel of the new picture to the position in the still that its colour comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_UPPER_LIP_SHARE = 0.22  # of the opening; the jaw takes the rest
_LID_EDGE = 0.12  # of the lids' gap: how far their edges lie outside their points
_LID_SKIN = 0.6  # of the way from the lid to the middle of the brow: the skin that is stretched over a shut eye


def _ramp(x: np.ndarray) -> np.ndarray:
    """Fall smoothly from 1 at 0 to 0 at 1."""
    x = np.clip(x, 0, 1)
    return (1 - x) ** 2 * (1 + 2 * x)


@dataclass
class Strip:
    """Two curves over one axis: the edges of a mouth or an eye.

    Its coordinates are u, -1..1 between the corners, and v, pixels, down positive.
    """

    centre: np.ndarray
    across: np.ndarray
    down: np.ndarray
    half: float
    knots_u: np.ndarray
    upper_v: np.ndarray
    lower_v: np.ndarray

    @staticmethod
    def through(upper: np.ndarray, lower: np.ndarray) -> Strip:
        """Fit the two curves through `upper` and `lower` (n, 2), in pixels.

        Both run from the same left corner to the same right corner.
        """
        a, b = upper[0], upper[-1]
        half = float(np.linalg.norm(b - a) / 2) + 1e-6
        across = (b - a) / (2 * half)
        down = np.array([-across[1], across[0]], np.float32)
        centre = (a + b) / 2
        knots = np.linspace(-1, 1, 33, dtype=np.float32)

        def curve(points: np.ndarray) -> np.ndarray:
            local = points - centre
            u, v = local @ across / half, local @ down
            order = np.argsort(u)
            dense = np.interp(knots, u[order], v[order])
            return np.convolve(np.pad(dense, 2, mode="edge"), np.ones(5) / 5, "valid").astype(np.float32)

        return Strip(
            centre.astype(np.float32),
            across.astype(np.float32),
            down,
            half,
            knots,
            curve(upper),
            np.maximum(curve(lower), curve(upper)),
        )

    def to_local(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert pixels (..., 2) to u and v."""
        local = points - self.centre
        return (local @ self.across / self.half).astype(np.float32), (local @ self.down).astype(np.float32)

    def to_pixels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Convert u and v to pixels (..., 2)."""
        return self.centre + u[..., None] * self.half * self.across + v[..., None] * self.down

    @property
    def widest(self) -> float:
        """The largest distance of the two curves, in pixels."""
        return float(np.maximum(self.lower_v - self.upper_v, 0).max())

    def upper(self, u: np.ndarray) -> np.ndarray:
        """Evaluate the upper curve at u, in v pixels."""
        return np.interp(u, self.knots_u, self.upper_v).astype(np.float32)

    def lower(self, u: np.ndarray) -> np.ndarray:
        """Evaluate the lower curve at u, in v pixels."""
        return np.interp(u, self.knots_u, self.lower_v).astype(np.float32)


class PuppetFace:
    """The moving parts of one face.

    face: the 68 points (68, 2) in pixels of the still. gape: the widest opening of the lips, in face heights.
    """

    def __init__(self, face: np.ndarray, gape: float = 0.1):
        face = face.astype(np.float32)
        brow = face[[19, 24]].mean(0)
        self.height = float(np.linalg.norm(face[8] - brow))
        self.mouth = Strip.through(face[[60, 61, 62, 63, 64]], face[[60, 67, 66, 65, 64]])
        self.outer_half = float(np.linalg.norm(face[54] - face[48]) / 2)
        self.rest_gap = float(max(self.mouth.lower(np.float32(0)) - self.mouth.upper(np.float32(0)), 0))
        self.gape = gape * self.height
        self.chin = float(self.mouth.to_local(face[8])[1])
        self.nose = float(self.mouth.to_local(face[33])[1])
        self.eyes = [Strip.through(face[[a, a + 1, a + 2, a + 3]], face[[a, a + 5, a + 4, a + 3]]) for a in (36, 42)]
        self.brows = [face[17:22].mean(0), face[22:27].mean(0)]
        self.bounds = np.array([*(face.min(0) - 0.35 * self.height), *(face.max(0) + 0.45 * self.height)])

    def opening(self, amount: float, closure: float = 0.0) -> float:
        """Compute how far the lips part beyond the still's own state, in pixels.

        Negative when a mouth open in the still closes: at rest by three quarters, with `closure` 1 altogether.
        """
        return amount * self.gape - (1 - amount) * (0.75 + 0.25 * closure) * self.rest_gap

    @property
    def rest_opening(self) -> float:
        """The amount at which the lips are as far apart as in the still."""
        return 0.75 * self.rest_gap / (self.gape + 0.75 * self.rest_gap + 1e-9)

    def _profile(self, u: np.ndarray) -> np.ndarray:
        """Shape the opening over the mouth: 1 in the middle, 0 at the corners."""
        return np.maximum(1 - u * u, 0) ** 0.7

    def edges(self, u: np.ndarray, amount: float, closure: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Compute the moved inner lip curves (upper, lower) at `u`, in v pixels."""
        delta, p = self.opening(amount, closure), self._profile(u)
        up, low = (
            self.mouth.upper(u) - _UPPER_LIP_SHARE * delta * p,
            self.mouth.lower(u) + (1 - _UPPER_LIP_SHARE) * delta * p,
        )
        return np.minimum(up, (up + low) / 2), np.maximum(low, (up + low) / 2)

    def back(
        self, q: np.ndarray, amount: float, width: float, blink: float, brow: float, closure: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Map the pixels `q` (..., 2) back to the still.

        Returns source (..., 2), inside 0..1 of the parted lips, and depth from 0 at the upper to 1 at the lower lip.
        """
        u, v = self.mouth.to_local(q)
        half = self.mouth.half
        near = np.exp(-((v / (0.9 * half)) ** 2))
        u = u - width * 0.13 * u * np.exp(-(u * u) / 2.5) * near  # spread or rounded
        delta = self.opening(amount, closure)
        up0, low0 = self.mouth.upper(u), self.mouth.lower(u)
        up, low = self.edges(u, amount, closure)
        p, jaw_p = self._profile(u), np.exp(-((u * half / (0.55 * self.height)) ** 4))
        reach_up, reach_down = 0.85 * max(-self.nose, 4.0), max(self.chin, 6.0)
        above, below = v + (up0 - up), v - (low - low0)
        for _ in range(3):
            above = v + (up0 - up) * _ramp((up0 - above) / reach_up)
            s = np.clip((below - low0) / reach_down, 0, 2)
            mix = np.clip(s * 1.6, 0, 1)
            amp = (p * (1 - mix) + jaw_p * mix) * (1 - 0.3 * np.clip(s, 0, 1)) * _ramp((s - 0.9) / 1.0)
            below = v - (1 - _UPPER_LIP_SHARE) * delta * amp
        gap = low - up
        depth = np.clip((v - up) / np.maximum(gap, 1e-3), 0, 1)
        inset = 0.15 * (low0 - up0)
        inner = np.clip(v, up0 + inset, low0 - inset)  # teeth do not move with the lips
        middle = (up + low) / 2
        source_v = np.where(v < up, above, np.where(v > low, below, inner))
        inside = np.clip(v - up + 0.5, 0, 1) * np.clip(low - v + 0.5, 0, 1) * (np.abs(u) < 1) * np.clip(gap, 0, 1)
        source_v = np.where(gap < 0.3, np.where(v < middle, above, below), source_v)
        source = self.mouth.to_pixels(u, source_v)
        move = np.zeros_like(source)
        for eye, brow_centre in zip(self.eyes, self.brows, strict=True):
            eu, ev = eye.to_local(source)
            brow_at = max(float(eye.upper(np.float32(0)) - eye.to_local(brow_centre)[1]), 1.0)
            # Points of lids lie a little inside the eye: the lid begins above them and meets the other one below.
            gap = np.maximum(eye.lower(eu) - eye.upper(eu), 0)
            edge = _LID_EDGE * eye.widest * np.maximum(1 - eu * eu, 0)
            lid0, fallen = eye.upper(eu) - edge, blink * (gap + 2 * edge)
            # The lashes move, the skin up to the brow is stretched evenly and the brow stays where it is.
            above_lid = lid0 + fallen - ev
            reach = np.float32(min(1.5 * eye.half, _LID_SKIN * brow_at))
            lashes = np.minimum(2 * edge, 0.4 * reach)
            stretched = lashes + (above_lid - lashes) * (reach - lashes) / (reach - lashes + fallen)
            before = np.where(above_lid < lashes, above_lid, np.where(above_lid < reach + fallen, stretched, 0))
            from_v = np.where(above_lid < reach + fallen, lid0 - before, ev)
            move += np.where((above_lid >= 0) & (np.abs(eu) < 1), from_v - ev, 0)[..., None] * eye.down
        for centre in self.brows:
            r2 = ((source - centre) ** 2).sum(-1) / (0.16 * self.height) ** 2
            move += (brow * 0.035 * self.height * np.exp(-r2))[..., None] * self.mouth.down
        return source + move, inside, depth

    def forward(
        self, face: np.ndarray, amount: float, width: float, blink: float, brow: float, closure: float = 0.0
    ) -> np.ndarray:
        """Move the 68 points (pixels) by the same motion."""
        out = face.astype(np.float32).copy()
        delta = self.opening(amount, closure)

        def lips(index: range | list[int], share: float) -> None:
            u, v = self.mouth.to_local(out[index])
            v = v + share * delta * self._profile(np.clip(u, -1, 1))
            u = u + width * 0.13 * u * np.exp(-(u * u) / 2.5)
            out[index] = self.mouth.to_pixels(u, v)

        lips([49, 50, 51, 52, 53, 61, 62, 63], -_UPPER_LIP_SHARE)
        lips([55, 56, 57, 58, 59, 65, 66, 67], 1 - _UPPER_LIP_SHARE)
        lips([48, 54, 60, 64], 0.0)
        jaw = np.arange(4, 13)
        u, _ = self.mouth.to_local(out[jaw])
        out[jaw] += (
            (1 - _UPPER_LIP_SHARE) * 0.65 * delta * np.exp(-((u * self.mouth.half / (0.55 * self.height)) ** 4))
        )[:, None] * self.mouth.down
        for eye, upper in zip(self.eyes, ([37, 38], [43, 44]), strict=True):
            u, v = eye.to_local(out[upper])
            gap = np.maximum(eye.lower(u) - eye.upper(u), 0) * (1 - u * u * 0.6)
            out[upper] = eye.to_pixels(u, v + 0.92 * blink * gap)
        out[17:27] -= brow * 0.03 * self.height * self.mouth.down
        return out

    @property
    def shows_teeth(self) -> bool:
        """Whether the still's lips are so far apart that its own teeth show."""
        return self.rest_gap > 0.045 * self.height

    def new_inside(self, u: np.ndarray, v: np.ndarray, gap: np.ndarray) -> np.ndarray:
        """Find what of the parted lips' inside the still does not show, 0..1; u, v as of the mouth, `gap` in pixels."""
        if not self.shows_teeth:
            return np.clip((gap - 1.3 * self.rest_gap) / (0.015 * self.height), 0, 1)
        below = self.mouth.lower(u) - 0.15 * (self.mouth.lower(u) - self.mouth.upper(u))
        return np.clip((v - below) / (0.012 * self.height), 0, 1)

    def paint_inside(
        self,
        colour: np.ndarray,
        u: np.ndarray,
        depth: np.ndarray,
        gap: np.ndarray,
        new: np.ndarray,
        tooth: np.ndarray,
        dark: np.ndarray,
    ) -> np.ndarray:
        """Paint the inside of an opened mouth, RGB 0..255 (..., 3): dark, upper teeth, tongue.

        colour: the still's own, kept where it is not `new` (`new_inside`).
        """
        v, own = depth * gap, self.shows_teeth
        teeth = (
            np.clip(0.04 * self.height - v + 0.5, 0, 1)
            * np.clip((0.8 - np.abs(u)) * 6, 0, 1)
            * np.clip(gap / (0.02 * self.height) - 0.4, 0, 1)
            * (not own)
        )
        tongue = np.clip((depth - 0.6) * 3, 0, 1) * np.clip((0.75 - np.abs(u)) * 3, 0, 1) * 0.8
        paint = dark * (1 - tongue[..., None]) + (dark * 1.6 + [45, 12, 14]) * tongue[..., None]
        shade = 1 - 0.35 * np.abs(u)[..., None]
        paint = paint * (1 - teeth[..., None]) + tooth * shade * teeth[..., None]
        new = new[..., None]
        return colour * (1 - new) + paint * new
