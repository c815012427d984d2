"""Batches for the four networks of the key point detector: crops as the detector cuts them, with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.lab.training.picture_augment import (
    DOUBTFUL,
    CutOut,
    blur_along,
    centre_and_size,
    crop_edges,
    cut_outs,
    degrade,
    inpaint_person,
    random_background,
    redress,
    scramble_face,
    similarity_transform,
    warp_cut_out,
)
from cyberhost_model.perception import keypoint_detector as d
from cyberhost_model.perception.hands import ELBOWS, WRISTS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_CERTAIN = 0.5  # score above which a labelled point counts as known
PARTS = ("finder", "face", "body", "hand")
"""Networks of the detector that a stage can train."""


@dataclass(frozen=True)
class BatchSizes:
    """Samples of a step for each network."""

    finder: int = 6
    face: int = 12
    body: int = 6
    hand: int = 12


class DetectorSamples(Dataset):
    """Batches of photographed and drawn people; item i depends on (seed, i) alone.

    drawn_share: share of drawn people. filmed: frames of filmed people, beside the stills; those without two labelled
    hands teach nothing of where hands are not. filmed_share: their share of the photographed people; 0 counts them
    as stills. parts: networks that batches are made for. looks: how often people get other clothes and skin
    (`redress`), and moving hands blur. edges: how often the picture ends at an arm (`crop_edges`). Keys are
    "<network>_<target>".
    """

    def __init__(
        self,
        stills: list[Still],
        drawn: list[Still],
        seed: int,
        sizes: BatchSizes,
        drawn_share: float = 0.35,
        steps: int = 1_000_000,
        filmed: Sequence[Still] = (),
        filmed_share: float = 0.0,
        parts: Sequence[str] = PARTS,
        looks: float = 0.0,
        edges: float = 0.0,
    ):
        self.seed, self.sizes, self.steps, self.parts = seed, sizes, steps, parts
        self.looks, self.edges = looks, edges
        photographed, painted, seen = cut_outs(stills), cut_outs(drawn), cut_outs(list(filmed))
        self.backgrounds = [inpaint_person(s) for s in photographed[::2]]
        both = [s for s in seen if s.keypoints.hands_score.max(1).min() > _CERTAIN]
        if filmed_share:
            self.pools = self.labelled = [photographed, painted, seen]
        else:
            self.pools, self.labelled = [photographed + seen, painted], [photographed + both, painted]
        self.drawn_share = drawn_share if painted else 0.0
        self.filmed_share = filmed_share if seen else 0.0
        # (source, side) of every hand whose points all lie in the picture.
        self.hands = [
            [
                (s, i)
                for s in pool
                for i in (0, 1)
                if s.keypoints.hands_score[i].max() > _CERTAIN and (np.abs(s.keypoints.hands[i] - 0.5) < 0.52).all()
            ]
            for pool in self.pools
        ]
        self.with_hands = [[s for s in pool if s.keypoints.hands_score.max() > _CERTAIN] for pool in self.labelled]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, i))
        batch: dict[str, torch.Tensor] = {}
        for name in self.parts:
            samples = [getattr(self, f"_{name}")(rng) for _ in range(getattr(self.sizes, name))]
            for key in samples[0]:
                batch[f"{name}_{key}"] = torch.from_numpy(np.stack([s[key] for s in samples]))
        return batch

    def _pool(self, rng: np.random.Generator, share: float | None = None) -> int:
        """Draw the index of a pool: 0 for photographed people, 1 for drawn (with probability `share`), 2 for filmed."""
        if rng.random() < (self.drawn_share if share is None else share):
            return 1
        return 2 if self.filmed_share and rng.random() < self.filmed_share else 0

    def _look(
        self, rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, keypoints: Keypoints
    ) -> np.ndarray:
        """Give a warped person another look, and blur a hand as if it moved."""
        if self.looks and rng.random() < self.looks:
            canvas = redress(rng, canvas, alpha, keypoints)
        if self.looks and rng.random() < 0.4 * self.looks:
            for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
                if score.max() > VISIBLE:
                    centre, size = centre_and_size(points * len(canvas))
                    canvas = blur_along(rng, canvas, centre, 0.7 * size)
        return canvas

    def _person(self, rng: np.random.Generator, hands: float = 0.0, labelled: bool = True) -> CutOut:
        """Choose a person, with probability `hands` among those who show a hand.

        labelled: only people all of whose hands are labelled.
        """
        pool, pools = self._pool(rng), self.labelled if labelled else self.pools
        people = self.with_hands[pool] if rng.random() < hands and self.with_hands[pool] else pools[pool]
        return people[int(rng.integers(len(people)))]

    def _finder(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Make a crop with up to three people, and the finder's targets."""
        side, cells = d.FINDER, d.FINDER // 8
        canvas = random_background(rng, self.backgrounds, side)
        faces: list[tuple[np.ndarray, float]] = []
        people = int(rng.choice(4, p=(0.2, 0.5, 0.2, 0.1)))
        for n in range(people):
            source = self._person(rng, labelled=False)
            middle, size = centre_and_size(source.face)
            lowest, highest = (0.05, 0.7) if people == 1 else (0.05, 0.35)
            target = float(np.exp(rng.uniform(np.log(lowest), np.log(highest)))) * side
            to = rng.uniform(0.1, 0.9, 2) * side if target < 0.3 * side else side * rng.uniform(0.35, 0.65, 2)
            angle = float(rng.normal(0, 0.2))
            rgb, alpha, keypoints = warp_cut_out(source, similarity_transform(middle, to, target / size, angle), side)
            keep = alpha
            if n == 0 and rng.random() < 0.6:
                keep = np.ones_like(alpha)  # with the still's own surroundings
            elif (alpha > 0.5).mean() > 0.8:
                continue
            centre, length = centre_and_size(keypoints.face * side)
            hidden = [
                float(alpha[int(np.clip(c[1], 0, side - 1)), int(np.clip(c[0], 0, side - 1)), 0]) for c, _ in faces
            ]
            if any(np.abs(c - centre).max() < 0.6 * (s + length) for c, s in faces) or any(h > 0.3 for h in hidden):
                continue  # it would cover another face
            canvas = canvas * (1 - keep) + rgb * keep
            if rng.random() < 0.12:
                canvas = scramble_face(rng, canvas, centre, length * rng.uniform(0.9, 1.3))
            elif (centre > -0.1 * length).all() and (centre < side + 0.1 * length).all():
                faces.append((centre, length))
        heat, regress, weight = _finder_targets(faces, cells)
        return {"crops": degrade(rng, canvas), "heat": heat, "regress": regress, "weight": weight}

    def _face(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Make a crop about a face, or a negative one."""
        side = d.FACE
        source = self._person(rng, labelled=False)
        middle, size = centre_and_size(source.face)
        kind = rng.random()
        points, present = np.zeros((68, 2), np.float32), 0.0
        if kind < 0.08:
            canvas = random_background(rng, self.backgrounds, side)
        else:
            angle, jitter, zoom = rng.normal(0, 0.22), rng.normal(0, 0.06, 2), float(np.exp(rng.normal(0, 0.13)))
            if kind < 0.2:  # part of the person, or a face far too large or too small
                zoom = float(np.exp(rng.uniform(-1.5, 1.2)))
                jitter = (
                    rng.uniform(0.6, 1.6) * np.array([np.cos(a := rng.uniform(0, 6.3)), np.sin(a)]) * max(zoom, 0.4)
                )
            scale = side / d.FACE_SPAN / size * zoom
            matrix = similarity_transform(middle, (0.5 + jitter) * side, scale, float(angle))
            if rng.random() < 0.5:  # other proportions
                matrix = np.vstack([matrix, [0, 0, 1]])
                stretch = np.array([[1 + rng.normal(0, 0.06), rng.normal(0, 0.05), 0], [0, 1, 0]])
                stretch[:, 2] = side / 2 - stretch[:, :2] @ np.full(2, side / 2)
                matrix = stretch @ matrix
            canvas, alpha, keypoints = warp_cut_out(source, matrix, side)
            if rng.random() < 0.4:
                canvas = random_background(rng, self.backgrounds, side) * (1 - alpha) + canvas * alpha
            if 0.2 <= kind < 0.28:
                canvas = scramble_face(rng, canvas, (0.5 + jitter) * side, side / d.FACE_SPAN * rng.uniform(0.9, 1.2))
            elif kind >= 0.28:
                points, present = keypoints.face, 1.0
        return {"crops": degrade(rng, canvas), "points": points, "present": np.float32(present)}

    def _body(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Make a crop about the body of a person whose face was found."""
        side, cells = d.BODY, d.BODY // 4
        source = self._person(rng, hands=0.6)
        middle, size = centre_and_size(source.face)
        scale = side / d.BODY_SPAN / size * float(np.exp(rng.normal(0, 0.08)))
        to = side * (np.array([0.5, 0.5 - d.BODY_DOWN / d.BODY_SPAN]) + rng.normal(0, 0.015, 2))
        canvas, alpha, keypoints = warp_cut_out(
            source, similarity_transform(middle, to, scale, float(rng.normal(0, 0.08))), side
        )
        canvas = self._look(rng, canvas, alpha, keypoints)
        if rng.random() < 0.5:
            behind = random_background(rng, self.backgrounds, side)
            if rng.random() < 0.4:  # somebody else stands behind
                other = self._person(rng)
                centre, length = centre_and_size(other.face)
                aside = to + np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.45), rng.uniform(-0.08, 0.15)]) * side
                rgb, mask, _ = warp_cut_out(
                    other, similarity_transform(centre, aside, scale * size / length * rng.uniform(0.5, 1.1), 0.0), side
                )
                behind = behind * (1 - mask) + rgb * mask
            canvas = behind * (1 - alpha) + canvas * alpha
        if self.edges and rng.random() < self.edges:
            canvas = crop_edges(rng, canvas, keypoints, keep=float(keypoints.face[:, 1].max()) + 0.05)
        inside = lambda p: ((p > 0) & (p < 1)).all(-1)  # noqa: E731
        places = np.concatenate([keypoints.body, np.zeros((2, 2), np.float32)])
        seen = np.concatenate([(keypoints.body_score > _CERTAIN) & inside(keypoints.body), np.zeros(2, bool)])
        known = np.append(keypoints.body_score != np.float32(DOUBTFUL), [True, True])
        sizes = np.zeros(2, np.float32)
        for i, wrist in enumerate(WRISTS):
            if (keypoints.hands_score[i] > _CERTAIN).sum() >= 12:
                places[18 + i], sizes[i] = centre_and_size(keypoints.hands[i])
                seen[18 + i] = inside(places[18 + i])
            elif seen[wrist] or not known[wrist]:
                known[18 + i] = False  # a hand hangs on it, blurred or hidden: its label is missing, not the hand
        y, x = np.mgrid[:cells, :cells] + 0.5
        p = places * cells
        heat = (
            np.exp(-((x - p[:, 0, None, None]) ** 2 + (y - p[:, 1, None, None]) ** 2) / (2 * 1.2**2))
            * seen[:, None, None]
        )
        return {
            "crops": degrade(rng, canvas),
            "heat": heat.astype(np.float32),
            "places": places.astype(np.float32),
            "seen": seen,
            "known": known,
            "sizes": np.log(np.maximum(sizes, 1e-3) / d.SIZE_UNIT).astype(np.float32),
        }

    def _elsewhere(self, rng: np.random.Generator, source: CutOut) -> np.ndarray:
        """Choose a place (2,) in pixels of a person's picture; with `looks` often on an arm, where hands are sought."""
        k = source.keypoints
        arms = [side for side in (0, 1) if min(k.body_score[[ELBOWS[side], WRISTS[side]]]) > _CERTAIN]
        if not self.looks or not arms or rng.random() < 0.4:
            return rng.uniform(0.1, 0.9, 2) * source.size
        side = int(rng.choice(arms))
        elbow, wrist = k.body[ELBOWS[side]], k.body[WRISTS[side]]
        return (elbow + (wrist - elbow) * rng.uniform(-0.3, 0.5)) * source.size

    def _hand(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Make a crop about a hand, or a negative one; right hands are mirrored to left ones."""
        side = d.HAND
        points, present = np.zeros((21, 2), np.float32), 0.0
        pool = self._pool(rng, min(0.5, 1.5 * self.drawn_share))
        source, hand = self.hands[pool][int(rng.integers(len(self.hands[pool])))]
        middle, size = centre_and_size(source.keypoints.hands[hand] * source.size)
        turn = rng.normal(0, 0.35) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        kind = rng.random()
        if kind < 0.1:
            canvas = random_background(rng, self.backgrounds, side)
        else:
            to = np.full(2, side / 2) + rng.normal(0, 0.06, 2) * side
            scale = side / d.HAND_SPAN / size * float(np.exp(rng.normal(0, 0.13)))
            if kind < 0.25:  # somewhere else on the person
                source = self._person(rng)
                middle, size = self._elsewhere(rng, source), centre_and_size(source.face)[1]
                scale = side / d.HAND_SPAN / size * float(np.exp(rng.normal(0, 0.3)))
                near = [h for h in _hand_places(source) if np.abs(h - middle).max() < 1.2 * size]
                hand, kind = (0, 0.0) if near else (int(rng.integers(2)), kind)
            canvas, alpha, keypoints = warp_cut_out(source, similarity_transform(middle, to, scale, float(turn)), side)
            if self.looks and rng.random() < self.looks:
                tone = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.08, 3))
                canvas = np.clip(canvas * (alpha * tone + 1 - alpha), 0, 255).astype(np.float32)
            if self.looks and rng.random() < 0.3:
                canvas = blur_along(rng, canvas, np.full(2, side / 2), 0.25 * side)
            if rng.random() < 0.3:
                canvas = random_background(rng, self.backgrounds, side) * (1 - alpha) + canvas * alpha
            if kind == 0.0:  # a hand came too close: this is no clean negative
                canvas = random_background(rng, self.backgrounds, side)
            elif kind >= 0.25:
                points, present = keypoints.hands[hand], 1.0
        if hand == 1:  # the network knows left hands only
            canvas = np.ascontiguousarray(canvas[:, ::-1])
            points = points * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)
        return {
            "crops": degrade(rng, canvas, occlude=False),
            "points": points.astype(np.float32),
            "present": np.float32(present),
        }


def _hand_places(source: CutOut) -> list[np.ndarray]:
    """List the centres of a person's hands in pixels; of those without a label the wrists."""
    k, places = source.keypoints, []
    for side, wrist in enumerate(WRISTS):
        if k.hands_score[side].max() > VISIBLE:
            places.append(centre_and_size(k.hands[side] * source.size)[0])
        elif k.body_score[wrist] > VISIBLE:
            places.append(k.body[wrist] * source.size)
    return places


def _finder_targets(faces: list[tuple[np.ndarray, float]], cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the finder's targets for faces (centre, size in pixels) of a crop of cells x cells cells of 8 pixels.

    Returns the heat map (cells, cells), offset and log size (3, cells, cells), and where these count (cells, cells).
    """
    heat, weight = np.zeros((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
    regress = np.zeros((3, cells, cells), np.float32)
    y, x = np.mgrid[:cells, :cells]
    for centre, length in faces:
        cx, cy = centre / 8
        ix, iy = int(np.clip(cx, 0, cells - 1)), int(np.clip(cy, 0, cells - 1))
        spread = max(0.7, length / 8 / 6)
        heat = np.maximum(heat, np.exp(-((x - ix) ** 2 + (y - iy) ** 2) / (2 * spread**2))).astype(np.float32)
        near = (np.abs(x - ix) <= 1) & (np.abs(y - iy) <= 1)
        log_size = np.full_like(x, np.log(length / (d.SIZE_UNIT * d.FINDER)), float)
        target = np.stack([cx - x - 0.5, cy - y - 0.5, log_size])
        regress[:, near], weight[near] = target[:, near], 1.0
    return heat, regress, weight
