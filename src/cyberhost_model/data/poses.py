"""Random single poses: what the codec learns to code. Wider than any performance, so that the codec is never the limit."""

from __future__ import annotations

import numpy as np

from .puppet import Pose, Puppet


def random_pose(rng: np.random.Generator, puppet: Puppet, calm: float = 1.0) -> Pose:
    """A pose with every part moved at random; `calm` scales the amount (1 = the widest that still looks natural)."""
    n = lambda s: float(np.clip(rng.normal(0, s), -2.2 * s, 2.2 * s)) * calm  # noqa: E731
    arm = 0.2 if puppet.clasped else 1.0
    one = lambda: (n(0.05 * arm), n(0.13 * arm), n(0.1 * arm))  # noqa: E731
    left = one()
    right = tuple(-a for a in left) if puppet.clasped else one()
    return Pose(
        opening=float(np.clip(rng.beta(0.8, 1.1), 0, 1)) if rng.random() < 0.8 else 0.0,
        width=float(np.clip(rng.normal(0, 0.5), -1, 1)),
        blink=float(rng.random() < 0.2) * rng.random(),
        brow=n(0.5), yaw=n(0.12), pitch=n(0.1), roll=n(0.05),
        shift=(n(0.04), n(0.04)), sway=(n(0.05), n(0.025)), arms=(left, right),  # type: ignore[arg-type]
    )  # fmt: skip
