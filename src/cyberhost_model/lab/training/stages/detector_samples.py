"""Batches for the four networks of the key point detector: crops as the detector will cut them, and what should be
found in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from cyberhost_model.lab.synthetic.framing import mirrored
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.perception import keypoint_detector as d
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# Pictures for the key point detector to learn from: people cut out, turned, scaled, put before other backgrounds, and
# pictures of nobody.


_BASE = 512  # the finest level kept, pixels of the longer side
_PLATE = 192  # backgrounds are kept at this size


@dataclass
class Source:
    """A still as a pyramid of halvings (finest first) of RGBA uint8 (alpha is the person), its key points, its size
    (W, H) at the finest level.
    """

    levels: list[np.ndarray]
    keypoints: Keypoints
    size: np.ndarray

    @property
    def face(self) -> np.ndarray:
        """68 points in pixels of the finest level."""
        return self.keypoints.face * self.size


def sources(stills: list[Still]) -> list[Source]:
    """The stills and their mirror pictures."""
    out = []
    for still in stills:
        for one in (still, mirrored(still)):
            w, h = one.size
            ratio = min(1.0, _BASE / max(w, h))
            rgba = np.dstack([one.picture_u8, (one.mask * 255).astype(np.uint8)])
            if ratio < 1:
                rgba = cv2.resize(rgba, (round(w * ratio), round(h * ratio)), interpolation=cv2.INTER_AREA)
            levels = [rgba]
            while min(levels[-1].shape[:2]) > 48:
                levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
            out.append(Source(levels, one.keypoints, np.array([rgba.shape[1], rgba.shape[0]], np.float32)))
    return out


def plate(source: Source) -> np.ndarray:
    """The picture without its person, uint8 (h, w, 3): what is behind is filled in from around."""
    rgba = source.levels[0]
    ratio = _PLATE / max(rgba.shape[:2])
    small = cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((small[..., 3] > 25).astype(np.uint8), np.ones((9, 9)))
    return cv2.inpaint(np.ascontiguousarray(small[..., :3]), hole, 3, cv2.INPAINT_TELEA)


def similarity(centre: np.ndarray, to: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """(2, 3): turns by `angle` and scales about `centre`, which lands on `to`."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    m = np.array([[c, -s], [s, c]])
    return np.column_stack([m, np.asarray(to) - m @ np.asarray(centre)])


def placed(source: Source, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, Keypoints]:
    """`source` warped onto a canvas: RGB float32 and alpha float32 (0 outside the still), and its key points in 0..1
    of the canvas.

    `matrix` (2, 3) maps pixels of the finest level. Points outside the still lose their score: nothing shows them.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.35), 0, len(source.levels) - 1))
    image = source.levels[level]
    to_level = source.size / [image.shape[1], image.shape[0]]
    m = matrix[:, :2] * to_level
    warp = np.column_stack([m, matrix[:, 2] + m @ [0.5, 0.5] - 0.5])
    rgb = cv2.warpAffine(
        np.ascontiguousarray(image[..., :3]),
        warp,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    alpha = cv2.warpAffine(np.ascontiguousarray(image[..., 3]), warp, (side, side), flags=cv2.INTER_LINEAR)
    size = source.size
    keypoints = source.keypoints.map(lambda p: ((p * size) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32) / side)
    for points, score in (
        (source.keypoints.body, keypoints.body_score),
        (source.keypoints.hands, keypoints.hands_score),
    ):
        score[((points < 0) | (points > 1)).any(-1)] = 0
    return rgb.astype(np.float32), alpha.astype(np.float32)[..., None] / 255, keypoints


def texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture of nothing, float32 (side, side, 3): noise of several scales, slopes, stripes, shapes, or lines of
    text.
    """
    out = np.zeros((side, side, 3), np.float32) + rng.uniform(0, 255, 3)
    for octave in (2, 5, 12, 40, side):
        if rng.random() < 0.6:
            noise = rng.normal(0, rng.uniform(3, 40), (octave, octave, 3 if rng.random() < 0.5 else 1)).astype(
                np.float32
            )
            out = out + cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
    kind = rng.random()
    if kind < 0.5:
        for _ in range(int(rng.integers(1, 14))):
            colour, at = rng.uniform(0, 255, 3).tolist(), rng.integers(-20, side + 20, 2).tolist()
            r = int(rng.uniform(2, side * 0.35))
            thick = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
            shape = rng.integers(3)
            if shape == 0:
                cv2.ellipse(
                    out,
                    at,
                    (r, int(r * rng.uniform(0.4, 1))),
                    float(rng.uniform(0, 180)),
                    0,
                    360,
                    colour,
                    thick,
                    cv2.LINE_AA,
                )
            elif shape == 1:
                cv2.fillConvexPoly(out, (rng.normal(0, r, (4, 2)) + at).astype(np.int32), colour, cv2.LINE_AA)
            else:
                cv2.line(out, at, rng.integers(0, side, 2).tolist(), colour, int(rng.integers(1, 12)), cv2.LINE_AA)
    elif kind < 0.65:
        ink = np.zeros((side, side), np.uint8)
        for y in range(int(rng.integers(4, 20)), side, int(rng.integers(8, 26))):
            word = "".join(chr(c) for c in rng.integers(33, 122, 24))
            at = (int(rng.integers(-20, 20)), y)
            cv2.putText(ink, word, at, int(rng.integers(0, 8)), float(rng.uniform(0.25, 0.8)), 255, 1, cv2.LINE_AA)
        alpha = ink[..., None].astype(np.float32) / 255
        out = out * (1 - alpha) + rng.uniform(0, 255, 3) * alpha
    elif kind < 0.8:
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 40)
        columns, rows = np.meshgrid(np.arange(side), np.arange(side))
        wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period)
        out = out + np.sign(wave)[..., None] * rng.uniform(5, 60, 3)
    return out.astype(np.float32)


def backdrop(rng: np.random.Generator, plates: list[np.ndarray], side: int) -> np.ndarray:
    """A picture of nobody, float32 (side, side, 3): part of a still's background, or a texture."""
    if rng.random() < 0.4:
        return texture(rng, side)
    image = plates[int(rng.integers(len(plates)))]
    h, w = image.shape[:2]
    matrix = similarity(
        rng.uniform(0.2, 0.8, 2) * [w, h],
        np.array([side / 2, side / 2]),
        side / min(w, h) * rng.uniform(0.8, 2.5),
        rng.normal(0, 0.15),
    )
    out = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.float32
    )
    return out[::-1].copy() if rng.random() < 0.1 else out


def scrambled(rng: np.random.Generator, picture: np.ndarray, centre: np.ndarray, size: float) -> np.ndarray:
    """`picture` with the parts of a face of `size` pixels about `centre` in a wrong order: like a face to a hasty
    eye.
    """
    x, y = np.round(centre - size / 2).astype(int)
    n = int(rng.integers(2, 5))
    cell = max(2, int(size / n))
    out = picture.copy()
    squares = [(y + i * cell, x + j * cell) for i in range(n) for j in range(n)]
    inside = [s for s in squares if min(s) >= 0 and max(s) + cell <= len(picture)]
    for a, b in zip(inside, rng.permutation(len(inside)), strict=True):
        part = picture[inside[b][0] : inside[b][0] + cell, inside[b][1] : inside[b][1] + cell]
        out[a[0] : a[0] + cell, a[1] : a[1] + cell] = part[::-1] if rng.random() < 0.5 else part
    return out


def look(rng: np.random.Generator, picture: np.ndarray, holes: bool = True) -> np.ndarray:
    """float32 0..255 -> uint8 as another camera would have taken it: exposure, tint, grey, blur, noise, JPEG, covered
    patches.
    """
    x = np.clip(picture, 0, 255) / 255
    side = len(x)
    if holes and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            (a, b), (u, v) = rng.integers(0, side, 2), rng.integers(side // 16, side // 3, 2)
            patch = x[a : a + u, b : b + v]
            patch[:] = rng.uniform(0, 1, 3) if rng.random() < 0.6 else rng.uniform(0, 1, patch.shape)
    x = x ** float(np.exp(rng.normal(0, 0.35)))
    grey = x.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.12 else float(np.exp(rng.normal(0, 0.3)))
    x = grey + (x - grey) * saturation
    x = (x - 0.5) * float(np.exp(rng.normal(-0.1, 0.25))) + 0.5 + rng.normal(0, 0.07)
    x = x * (1 + rng.normal(0, 0.07, 3))
    if rng.random() < 0.3:  # light from a side
        slope = np.add.outer(
            np.linspace(-1, 1, side) * rng.normal(0, 0.3), np.linspace(-1, 1, side) * rng.normal(0, 0.3)
        )
        x = x * (1 + slope[..., None])
    x = x.astype(np.float32)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.3, side / 90)))
    if rng.random() < 0.35:
        x = x + rng.normal(0, rng.uniform(0.005, 0.06), x.shape)
    out = np.clip(x * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        out = cv2.imdecode(
            cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1], cv2.IMREAD_COLOR
        )
    return out


@dataclass(frozen=True)
class BatchSizes:
    """Samples of a step for each network."""

    finder: int = 6
    face: int = 12
    body: int = 6
    hand: int = 12


def box_of(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle and longer side of the box about points (N, 2)."""
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, float(max(high - low))


class DetectorSamples(Dataset):
    """Item i is the batch of step i, a function of (seed, i) alone: photographed people, and drawn ones in the share
    `drawn_share`.
    """

    def __init__(
        self,
        stills: list[Still],
        drawn: list[Still],
        seed: int,
        sizes: BatchSizes,
        drawn_share: float = 0.35,
        steps: int = 1_000_000,
    ):
        self.seed, self.sizes, self.steps = seed, sizes, steps
        photographed, painted = sources(stills), sources(drawn)
        self.plates = [plate(s) for s in photographed[::2]]
        self.pools = [photographed, painted]
        self.drawn_share = drawn_share if painted else 0.0
        # (source, side) of every hand whose points all lie in the picture.
        self.hands = [
            [
                (s, i)
                for s in pool
                for i in (0, 1)
                if s.keypoints.hands_score[i].max() > 0.5 and (np.abs(s.keypoints.hands[i] - 0.5) < 0.52).all()
            ]
            for pool in self.pools
        ]
        self.with_hands = [[s for s in pool if s.keypoints.hands_score.max() > 0.5] for pool in self.pools]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, i))
        batch: dict[str, torch.Tensor] = {}
        for name in ("finder", "face", "body", "hand"):
            samples = [getattr(self, f"_{name}")(rng) for _ in range(getattr(self.sizes, name))]
            for key in samples[0]:
                batch[f"{name}_{key}"] = torch.from_numpy(np.stack([s[key] for s in samples]))
        return batch

    def _pool(self, rng: np.random.Generator, share: float | None = None) -> int:
        return int(rng.random() < (self.drawn_share if share is None else share))

    def _person(self, rng: np.random.Generator, hands: float = 0.0) -> Source:
        pool = self._pool(rng)
        people = self.with_hands[pool] if rng.random() < hands and self.with_hands[pool] else self.pools[pool]
        return people[int(rng.integers(len(people)))]

    def _finder(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        side, cells = d.FINDER, d.FINDER // 8
        canvas = backdrop(rng, self.plates, side)
        faces: list[tuple[np.ndarray, float]] = []
        people = int(rng.choice(4, p=(0.2, 0.5, 0.2, 0.1)))
        for n in range(people):
            source = self._person(rng)
            middle, size = box_of(source.face)
            lowest, highest = (0.05, 0.7) if people == 1 else (0.05, 0.35)
            wanted = float(np.exp(rng.uniform(np.log(lowest), np.log(highest)))) * side
            to = rng.uniform(0.1, 0.9, 2) * side if wanted < 0.3 * side else side * rng.uniform(0.35, 0.65, 2)
            angle = float(rng.normal(0, 0.2))
            rgb, alpha, keypoints = placed(source, similarity(middle, to, wanted / size, angle), side)
            keep = alpha
            if n == 0 and rng.random() < 0.6:
                keep = np.ones_like(alpha)  # with the still's own surroundings
            elif (alpha > 0.5).mean() > 0.8:
                continue
            fresh, length = box_of(keypoints.face * side)
            hidden = [
                float(alpha[int(np.clip(c[1], 0, side - 1)), int(np.clip(c[0], 0, side - 1)), 0]) for c, _ in faces
            ]
            if any(np.abs(c - fresh).max() < 0.6 * (s + length) for c, s in faces) or any(h > 0.3 for h in hidden):
                continue  # it would cover a face that is there
            canvas = canvas * (1 - keep) + rgb * keep
            if rng.random() < 0.12:
                canvas = scrambled(rng, canvas, fresh, length * rng.uniform(0.9, 1.3))
            elif (fresh > -0.1 * length).all() and (fresh < side + 0.1 * length).all():
                faces.append((fresh, length))
        heat, regress, weight = (
            np.zeros((cells, cells), np.float32),
            np.zeros((3, cells, cells), np.float32),
            np.zeros((cells, cells), np.float32),
        )
        for centre, length in faces:
            cx, cy = centre / 8
            ix, iy = int(np.clip(cx, 0, cells - 1)), int(np.clip(cy, 0, cells - 1))
            spread = max(0.7, length / 8 / 6)
            y, x = np.mgrid[:cells, :cells]
            heat = np.maximum(heat, np.exp(-((x - ix) ** 2 + (y - iy) ** 2) / (2 * spread**2))).astype(np.float32)
            near = (np.abs(x - ix) <= 1) & (np.abs(y - iy) <= 1)
            target = np.stack(
                [cx - x - 0.5, cy - y - 0.5, np.full_like(x, np.log(length / (d.SIZE_UNIT * side)), float)]
            )
            regress[:, near], weight[near] = target[:, near], 1.0
        return {"crops": look(rng, canvas), "heat": heat, "regress": regress, "weight": weight}

    def _face(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = d.FACE
        source = self._person(rng)
        middle, size = box_of(source.face)
        kind = rng.random()
        points, present = np.zeros((68, 2), np.float32), 0.0
        if kind < 0.08:
            canvas = backdrop(rng, self.plates, side)
        else:
            angle, jitter, zoom = rng.normal(0, 0.22), rng.normal(0, 0.06, 2), float(np.exp(rng.normal(0, 0.13)))
            if kind < 0.2:  # part of the person, or a face far too large or too small
                zoom = float(np.exp(rng.uniform(-1.5, 1.2)))
                jitter = (
                    rng.uniform(0.6, 1.6) * np.array([np.cos(a := rng.uniform(0, 6.3)), np.sin(a)]) * max(zoom, 0.4)
                )
            scale = side / d.FACE_SPAN / size * zoom
            matrix = similarity(middle, (0.5 + jitter) * side, scale, float(angle))
            if rng.random() < 0.5:  # other proportions
                matrix = np.vstack([matrix, [0, 0, 1]])
                stretch = np.array([[1 + rng.normal(0, 0.06), rng.normal(0, 0.05), 0], [0, 1, 0]])
                stretch[:, 2] = side / 2 - stretch[:, :2] @ np.full(2, side / 2)
                matrix = stretch @ matrix
            canvas, alpha, keypoints = placed(source, matrix, side)
            if rng.random() < 0.4:
                canvas = backdrop(rng, self.plates, side) * (1 - alpha) + canvas * alpha
            if 0.2 <= kind < 0.28:
                canvas = scrambled(rng, canvas, (0.5 + jitter) * side, side / d.FACE_SPAN * rng.uniform(0.9, 1.2))
            elif kind >= 0.28:
                points, present = keypoints.face, 1.0
        return {"crops": look(rng, canvas), "points": points, "present": np.float32(present)}

    def _body(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        side, cells = d.BODY, d.BODY // 4
        source = self._person(rng, hands=0.6)
        middle, size = box_of(source.face)
        scale = side / d.BODY_SPAN / size * float(np.exp(rng.normal(0, 0.08)))
        to = side * (np.array([0.5, 0.5 - d.BODY_DOWN / d.BODY_SPAN]) + rng.normal(0, 0.015, 2))
        canvas, alpha, keypoints = placed(source, similarity(middle, to, scale, float(rng.normal(0, 0.08))), side)
        if rng.random() < 0.5:
            behind = backdrop(rng, self.plates, side)
            if rng.random() < 0.4:  # somebody else stands behind
                other = self._person(rng)
                centre, length = box_of(other.face)
                aside = to + np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.45), rng.uniform(-0.08, 0.15)]) * side
                rgb, mask, _ = placed(
                    other, similarity(centre, aside, scale * size / length * rng.uniform(0.5, 1.1), 0.0), side
                )
                behind = behind * (1 - mask) + rgb * mask
            canvas = behind * (1 - alpha) + canvas * alpha
        inside = lambda p: ((p > 0) & (p < 1)).all(-1)  # noqa: E731
        places = np.concatenate([keypoints.body, np.zeros((2, 2), np.float32)])
        seen = np.concatenate([(keypoints.body_score > 0.5) & inside(keypoints.body), np.zeros(2, bool)])
        sizes = np.zeros(2, np.float32)
        for i in (0, 1):
            if (keypoints.hands_score[i] > 0.5).sum() >= 12:
                places[18 + i], sizes[i] = box_of(keypoints.hands[i])
                seen[18 + i] = inside(places[18 + i])
        y, x = np.mgrid[:cells, :cells] + 0.5
        p = places * cells
        heat = (
            np.exp(-((x - p[:, 0, None, None]) ** 2 + (y - p[:, 1, None, None]) ** 2) / (2 * 1.2**2))
            * seen[:, None, None]
        )
        return {
            "crops": look(rng, canvas),
            "heat": heat.astype(np.float32),
            "places": places.astype(np.float32),
            "seen": seen,
            "sizes": np.log(np.maximum(sizes, 1e-3) / d.SIZE_UNIT).astype(np.float32),
        }

    def _hand(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = d.HAND
        points, present = np.zeros((21, 2), np.float32), 0.0
        pool = self._pool(rng, min(0.5, 1.5 * self.drawn_share))
        source, hand = self.hands[pool][int(rng.integers(len(self.hands[pool])))]
        middle, size = box_of(source.keypoints.hands[hand] * source.size)
        turn = rng.normal(0, 0.35) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        kind = rng.random()
        if kind < 0.1:
            canvas = backdrop(rng, self.plates, side)
        else:
            to = np.full(2, side / 2) + rng.normal(0, 0.06, 2) * side
            scale = side / d.HAND_SPAN / size * float(np.exp(rng.normal(0, 0.13)))
            if kind < 0.25:  # somewhere else on the person
                source = self._person(rng)
                middle, size = rng.uniform(0.1, 0.9, 2) * source.size, box_of(source.face)[1]
                scale = side / d.HAND_SPAN / size * float(np.exp(rng.normal(0, 0.3)))
                near = [
                    h
                    for h in (0, 1)
                    if source.keypoints.hands_score[h].max() > VISIBLE
                    and np.abs(box_of(source.keypoints.hands[h] * source.size)[0] - middle).max() < 1.2 * size
                ]
                hand, kind = (0, 0.0) if near else (int(rng.integers(2)), kind)
            canvas, alpha, keypoints = placed(source, similarity(middle, to, scale, float(turn)), side)
            if rng.random() < 0.3:
                canvas = backdrop(rng, self.plates, side) * (1 - alpha) + canvas * alpha
            if kind == 0.0:  # a hand came too close: this is no clean negative
                canvas = backdrop(rng, self.plates, side)
            elif kind >= 0.25:
                points, present = keypoints.hands[hand], 1.0
        if hand == 1:  # the network knows left hands only
            canvas, points = (
                np.ascontiguousarray(canvas[:, ::-1]),
                points * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32),
            )
        return {
            "crops": look(rng, canvas, holes=False),
            "points": points.astype(np.float32),
            "present": np.float32(present),
        }
