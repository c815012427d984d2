"""Who is in the training pictures: labelled stills and, endlessly, drawn people."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.lab.synthetic.stills import Still, load_stills
from cyberhost_model.perception.keypoints import VISIBLE


class People:
    """A source of stills.

    `folders` hold labelled pictures; `drawn` is the share of drawn people; `held_out` picks the part kept out of
    training.
    """

    def __init__(self, folders: list[str], drawn: float = 0.25, held: bool = False):
        self.stills = [s for folder in folders for s in load_stills(folder) if held_out(s.identity) == held]
        self.with_hands = [s for s in self.stills if s.keypoints.hands_score.max() > VISIBLE]
        self.drawn = drawn if self.stills else 1.0

    def still(self, rng: np.random.Generator, size: tuple[int, int]) -> Still:
        """One person, chosen by `rng`; half of the stills show hands (they are the rarer and the harder part)."""
        if rng.random() < self.drawn:
            from cyberhost_model.lab.synthetic.drawn import drawn_still

            return drawn_still(int(rng.integers(2**31)), (size[0] * 3 // 2, size[1] * 3 // 2))
        pool = self.with_hands if self.with_hands and rng.random() < 0.5 else self.stills
        return pool[int(rng.integers(len(pool)))]
