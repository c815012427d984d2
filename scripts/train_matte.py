"""Trains the network of mattes (`perception.matte`) from what `scripts/matte_labels.py` wrote, and measures it.

    python scripts/train_matte.py LABELS -o src/cyberhost_model/weights/matte [--begin FOLDER] [--minutes 25]
    python scripts/train_matte.py LABELS --begin src/cyberhost_model/weights/matte      # measures only

A tenth of the pictures (of films: of the clips) is kept out. Their mattes, as they are used, are compared with the
labels: intersection over union, distance of the boundaries in pixels of the label, mean difference in 0..1.
"""

import argparse
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from cyberhost_model.config import EMBEDDED
from cyberhost_model.hub.tensors import load_weights
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.matte import MatteNet, draw_figure, person_colour, person_matte
from cyberhost_model.perception.registry import load_detector

SIDE, BATCH = 192, 8
DOUBT = 0.25  # in persons: labels that are undecided about more are left out


@dataclass
class Label:
    """A picture, uint8 (H, W, 3), with the person's key points, matte and figure, uint8 (H, W)."""

    name: str
    picture: np.ndarray
    keypoints: Keypoints
    matte: np.ndarray
    figure: np.ndarray


def read(folder: Path) -> tuple[list[Label], list[Label]]:
    """Read labels as (those to train on, those that are kept out), without those that are doubtful."""
    detector, _ = load_detector(EMBEDDED / "tiny" / "detector", download=False)
    taken, kept = [], []
    for file in sorted(folder.glob("*.png")):
        rgba = cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        picture, matte = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3]
        people = detector.detect(picture)
        if not people:
            continue
        keypoints = people[0].keypoints
        figure = draw_figure(keypoints, (picture.shape[1], picture.shape[0]))
        matte = theirs(matte, figure)
        if ((matte > 26) & (matte < 230)).sum() > DOUBT * (matte > 127).sum():
            continue
        clip = file.stem.rpartition("-")[0]
        label = Label(file.stem, picture, keypoints, matte, figure)
        (taken if zlib.crc32(clip.encode()) % 10 else kept).append(label)
    return taken, kept


def theirs(matte: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Keep of a matte only the thing on which most of the figure lies."""
    _, things = cv2.connectedComponents((matte > 26).astype(np.uint8))
    sizes = np.bincount(things[(figure > 0) & (things > 0)], minlength=2)
    return np.where(things == sizes.argmax(), matte, 0).astype(np.uint8)


def warped(pictures: tuple[np.ndarray, ...], draw: np.random.Generator, sides: tuple[float, float]) -> list[np.ndarray]:
    """Cut the same square, turned and mirrored at random, out of pictures: (SIDE, SIDE, channels) each.

    sides: least and largest side of the square, in shorter sides. What is larger than the picture stands on the lower
    edge, as people do that a picture cuts off.
    """
    h, w = pictures[0].shape[:2]
    share = draw.uniform(*sides)
    side = share * min(h, w)
    x = draw.uniform(0.35, 0.65) * w
    y = draw.uniform(0.35, 0.65) * h if share < 1 else h - side / 2
    place = cv2.getRotationMatrix2D((x, y), draw.normal(0, 8) if share < 1 else 0, SIDE / side)
    place[:, 2] += SIDE / 2 - np.array([x, y])
    border = cv2.BORDER_REFLECT if sides[1] < 1.1 else cv2.BORDER_CONSTANT
    made = [cv2.warpAffine(p, place, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=border) for p in pictures]
    return [p[:, ::-1] for p in made] if draw.random() < 0.5 else made


def clouds(draw: np.random.Generator) -> np.ndarray:
    """Make a background without things: colours that change slowly, with clouds of several sizes or without."""
    corners = draw.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    made = cv2.resize(corners if draw.random() < 0.7 else np.tile(corners[:1, :1], (2, 2, 1)), (SIDE, SIDE))
    if draw.random() < 0.5:
        for cells in (4, 12, 40):
            made += cv2.resize(draw.normal(0, 25, (cells, cells, 3)).astype(np.float32), (SIDE, SIDE))
    return np.clip(made, 0, 255)


def filled(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill what is not `known`, bool (H, W), of a picture (H, W, 3) with colours from around it."""
    made, share = np.zeros(picture.shape, np.float32), known.astype(np.float32)[..., None]
    made[known] = picture[known]
    missing = ~known
    for reach in (5, 15, 45, 135, 405):
        weight = cv2.blur(share, (reach, reach))[..., None]
        near = cv2.blur(picture * share, (reach, reach)) / (weight + 1e-6)
        now = missing & (weight[..., 0] > 0.05)
        made[now] = near[now]
        missing = missing & ~now
    made[missing] = 128
    return made.astype(np.uint8)


class Examples:
    """Pictures with their mattes, most of them before another background with things and other people in it."""

    def __init__(self, labels: list[Label], draw: np.random.Generator) -> None:
        self.labels, self.draw = labels, draw
        self.people, self.places = [], []
        for label in labels:
            matte = label.matte.astype(np.float32) / 255
            self.people.append(person_colour(label.picture, matte).astype(np.uint8))
            self.places.append(filled(label.picture, matte < 0.02))

    def any(self, pictures: list[np.ndarray], sides: tuple[float, float]) -> np.ndarray:
        """Draw a part of one of `pictures`: float32 (SIDE, SIDE, 3)."""
        return warped((pictures[self.draw.integers(len(pictures))],), self.draw, sides)[0].astype(np.float32)

    def person(self, sides: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a person without background: colours (SIDE, SIDE, 3), matte in 0..1 and figure (SIDE, SIDE)."""
        number = self.draw.integers(len(self.labels))
        label = self.labels[number]
        colour, matte, figure = warped((self.people[number], label.matte, label.figure), self.draw, sides)
        return colour.astype(np.float32), matte.astype(np.float32)[..., None] / 255, figure

    def background(self) -> np.ndarray:
        """Make a place, often with things or another person in it: float32 (SIDE, SIDE, 3)."""
        draw = self.draw
        behind = clouds(draw) if draw.random() < 0.3 else self.any(self.places, (0.3, 1.05))
        for _ in range(draw.integers(4)):
            stuff = self.any(self.places if draw.random() < 0.5 else self.people, (0.1, 0.5))
            stuff = np.clip(stuff + draw.normal(0, 50, 3), 0, 255)
            corners = draw.normal(0, draw.uniform(0.05, 0.3) * SIDE, (draw.integers(3, 9), 2)) + draw.uniform(
                0, SIDE, 2
            )
            shape = np.zeros((SIDE, SIDE), np.float32)
            cv2.fillConvexPoly(shape, cv2.convexHull(corners.astype(np.int32)), 1.0)
            shape = cv2.blur(shape, (3, 3))[..., None]
            behind = behind + shape * (stuff - behind)
        if draw.random() < 0.2:
            colour, matte, _ = self.person((0.8, 2.5))
            away = int(draw.choice([-1, 1]) * draw.uniform(0.3, 0.7) * SIDE)
            colour, matte = np.roll(colour, away, 1), np.roll(matte, away, 1)
            behind = behind + matte * (colour - behind)
        return behind

    def example(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a picture, uint8 (SIDE, SIDE, 3), its matte and its figure, float32 (SIDE, SIDE) in 0..1."""
        draw = self.draw
        if draw.random() < 0.4:
            label = self.labels[draw.integers(len(self.labels))]
            picture, matte, figure = warped((label.picture, label.matte, label.figure), draw, (0.5, 1.05))
            picture, matte = picture.astype(np.float32), matte.astype(np.float32) / 255
        else:
            colour, matte, figure = self.person((0.5, 1.5))
            behind = self.background()
            picture, matte = behind + matte * (colour - behind), matte[..., 0]
        if draw.random() < 0.1:
            picture = np.repeat(picture.mean(-1, keepdims=True), 3, 2)
        picture = (picture - 128) * np.exp(draw.normal(0, 0.2)) + 128 + draw.normal(0, 12) + draw.normal(0, 10, 3)
        if draw.random() < 0.3:
            picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), draw.uniform(0.4, 2.0))
        figure = np.roll(figure, draw.normal(0, 2, 2).astype(int), (0, 1)).astype(np.float32) / 255
        return np.clip(picture, 0, 255).astype(np.uint8), matte, figure * (draw.random() > 0.1)


def begin_with(network: MatteNet, detector: dict[str, torch.Tensor]) -> None:
    """Take the weights of the key points' body network, all but the last layer."""
    own = network.heat.state_dict()
    taken = {name.removeprefix("body."): value.float() for name, value in detector.items() if name.startswith("body.")}
    network.heat.load_state_dict({**own, **{k: v for k, v in taken.items() if v.shape == own[k].shape}})
    nn.init.zeros_(network.figure.weight)
    nn.init.zeros_(network.figure.bias)


def loss(logits: torch.Tensor, mattes: torch.Tensor) -> torch.Tensor:
    """Cross entropy, five times as heavy at boundaries; logits and mattes (N, 1, h, w)."""
    pooled = F.max_pool2d(mattes, 9, 1, 4) + F.max_pool2d(-mattes, 9, 1, 4)
    weight = 1 + 4 * pooled
    return (F.binary_cross_entropy_with_logits(logits, mattes, reduction="none") * weight).sum() / weight.sum()


def train(network: MatteNet, examples: Examples, rate: float, minutes: float, output: Path) -> None:
    """Train for `minutes` of the clock and write the weights to `output`, every 200 steps too."""
    for unused in network.heat.presence.parameters():
        unused.requires_grad_(False)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-3)
    began, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * done))
        drawn = zip(*(examples.example() for _ in range(BATCH)), strict=True)
        pictures, mattes, figures = (torch.from_numpy(np.stack(each)) for each in drawn)
        value = loss(network(pictures, figures[:, None]), F.avg_pool2d(mattes[:, None], 2))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step += 1
        done = (time.monotonic() - began) / (60 * minutes)
        if step % 200 == 0 or done >= 1:
            network.save(output)
            print(f"step {step}: {value.item():.4f}, {time.process_time():.0f} s of a core", flush=True)


def boundary_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Measure the mean distance in pixels from the boundary of mask `a` to that of mask `b`, both bool (H, W)."""
    edges = [cv2.morphologyEx(m.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0 for m in (a, b)]
    if not edges[0].any() or not edges[1].any():
        return 0.0
    far = cv2.distanceTransform((~edges[1]).astype(np.uint8), cv2.DIST_L2, 5)
    return float(far[edges[0]].mean())


def measure(network: MatteNet, kept: list[Label]) -> dict[str, dict[str, float]]:
    """Compare mattes, as they are used, with the labels: means by the folders of which the pictures are."""
    network.eval()
    found = defaultdict(list)
    for label in kept:
        truth, made = label.matte / 255, person_matte(network, label.picture, label.keypoints)
        a, b = truth >= 0.5, made >= 0.5
        figures = {
            "iou": (a & b).sum() / max((a | b).sum(), 1),
            "boundary_px": (boundary_distance(a, b) + boundary_distance(b, a)) / 2,
            "mean_difference": np.abs(truth - made).mean(),
        }
        found[label.name.partition("-")[0]].append(figures)
    network.train()
    return {
        folder: {name: round(float(np.mean([each[name] for each in all_of_it])), 4) for name in all_of_it[0]}
        for folder, all_of_it in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="folder of the trained weights; without it, none are trained")
    parser.add_argument("--begin", type=Path, help="go on with these weights (a folder) in place of the detector's")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at the beginning")
    given = parser.parse_args()
    labels, kept = read(given.labels)
    print(f"{len(labels)} labels to train on, {len(kept)} kept out", flush=True)
    torch.manual_seed(0)
    network = MatteNet()
    if given.begin is None:
        begin_with(network, load_file(EMBEDDED / "tiny" / "detector" / "model.safetensors"))
    else:
        load_weights(network, given.begin / "model.safetensors")
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters", flush=True)
    if given.output is not None:
        train(network, Examples(labels, np.random.default_rng(0)), given.rate, given.minutes, given.output)
    for folder, figures in measure(network, kept).items():
        print(folder, figures)


if __name__ == "__main__":
    main()
