"""The people of the training pictures: labelled stills and any number of drawn people."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.filmed.splits import held_out as is_held_out
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.stills import Still, load_stills
from cyberhost_model.perception.keypoints import VISIBLE


class People:
    """A random source of stills.

    folders: of labelled pictures. drawn: share of drawn people, all of them where there are no folders. held_out: True
    takes the identities held out of training, False the others.
    """

    def __init__(self, folders: list[str], drawn: float = 0.25, held_out: bool = False):
        self.stills = [s for folder in folders for s in load_stills(folder) if is_held_out(s.identity) == held_out]
        self.with_hands = [s for s in self.stills if s.keypoints.hands_score.max() > VISIBLE]
        self.drawn = drawn if self.stills else 1.0

    def still(self, rng: np.random.Generator, size: tuple[int, int]) -> Still:
        """Choose a person; half of the labelled stills show hands, which are rarer and harder to learn.

        size: (W, H) of the picture the still is for; drawn people are drawn half as large again.
        """
        if rng.random() < self.drawn:
            return drawn_still(int(rng.integers(2**31)), (size[0] * 3 // 2, size[1] * 3 // 2))
        pool = self.with_hands if self.with_hands and rng.random() < 0.5 else self.stills
        return pool[int(rng.integers(len(pool)))]


def training_stills(folders: list[str]) -> list[Still]:
    """Load the labelled stills of the folders, without identities held out of training."""
    return [s for folder in folders for s in load_stills(folder) if not is_held_out(s.identity)]


def drawn_stills(count: int, seed: int, size: tuple[int, int] = (384, 384)) -> list[Still]:
    """Draw `count` people, other ones for another seed."""
    return [drawn_still(seed * 1_000_000 + i, size) for i in range(count)]
