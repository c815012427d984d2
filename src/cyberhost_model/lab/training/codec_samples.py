"""Batches for stage codec: frames against a reference picture, of photo puppets and of filmed people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, Part
from cyberhost_model.lab.filmed.labels import unpack_points
from cyberhost_model.lab.filmed.manifest import Row, accepted_rows
from cyberhost_model.lab.synthetic.framing import random_colour, random_framing
from cyberhost_model.lab.synthetic.performance import random_pose
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.lab.training.codec_inputs import half_size
from cyberhost_model.lab.training.filmed_clips import FilmedClip, estimate_flow, read_filmed
from cyberhost_model.perception.face_controls import face_control_maps, face_controls
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# (W, H). Smaller than the pictures the codec is for: it is convolutional, and many pictures teach more than large ones.
SIZES = ((192, 192), (192, 256), (256, 192), (256, 256))
PARTS = (MOUTH, EYES)
_KEPT = 1 << 30  # bytes of filmed pictures that stay in memory, in each process that makes batches
_WIDEST, _CLOSEST = 0.95, 0.55  # share of the largest window in a filmed picture that is shown


def region_maps(keypoints: Keypoints, size: tuple[int, int]) -> np.ndarray:
    """Fill the outlines of face, lips and eyes, and hands, uint8 (3, H, W), 0 or 255, at `size` (W, H).

    They weigh the loss and are labels for `r`.
    """
    w, h = size
    maps = np.zeros((3, h, w), np.uint8)
    px = lambda p: np.round(p * [w, h]).astype(np.int32)  # noqa: E731
    if keypoints.face_score.max() > VISIBLE:
        cv2.fillConvexPoly(maps[0], cv2.convexHull(px(keypoints.face)), 255)
        for part in (keypoints.face[48:], keypoints.face[36:42], keypoints.face[42:48]):
            cv2.fillConvexPoly(maps[1], cv2.convexHull(px(part)), 255)
    for side in (0, 1):
        if keypoints.hands_score[side].max() > VISIBLE:
            cv2.fillConvexPoly(maps[2], cv2.convexHull(px(keypoints.hands[side])), 255)
    return maps


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the size (W, H) of an item's pictures from `SIZES`, the first more often than the others."""
    return SIZES[0] if rng.random() < 0.6 else SIZES[rng.integers(len(SIZES))]


class CodecFrames(Dataset):
    """Batches of `count` references and `poses` frames of each, of one size; item i depends on (seed, i) alone.

    unsure: share of frames whose latents come from another picture, in which mouth and lids moved part of the way or
    otherwise, while the control channels are true. A denoiser that is unsure moves less than it should, and so the
    decoder learns to trust the controls. close, eyes: shares of items that are close-ups (`codecs.close_up`), in which
    the mouth or the lids alone move; the key "close" holds the place in `PARTS` of what they show, -1 for a frame.
    """

    def __init__(
        self,
        people: People,
        seed: int,
        count: int = 4,
        poses: int = 2,
        unsure: float = 0.6,
        close: float = 0.0,
        eyes: float = 0.0,
    ):
        self.people, self.seed, self.count, self.poses = people, seed, count, poses
        self.unsure, self.shares = unsure, (close, eyes)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = draw_size(rng)
        part = self._part(rng)
        size = size if part is None else (SIDE, SIDE)
        out: dict[str, list[np.ndarray]] = defaultdict(list)
        for _ in range(self.count):
            still = self.people.still(rng, size)
            still = random_framing(still, rng, size) if part is None else crop_close_up(still, part, rng)
            still.picture_u8 = random_colour(still.picture_u8, rng)
            puppet = Puppet(still, gape=float(rng.uniform(0.08, 0.125)))
            out["reference"].append(still.picture_u8)
            out["close"].append(np.array(-1 if part is None else PARTS.index(part)))
            out["reference_regions"].append(region_maps(still.keypoints, (size[0] // 4, size[1] // 4)))
            out["person"].append(cv2.resize(still.mask, (size[0] // 4, size[1] // 4), interpolation=cv2.INTER_AREA))
            for _ in range(self.poses):
                pose = random_pose(rng, puppet, calm=float(rng.uniform(0.2, 1)))
                pose = pose if part is None else part_only(pose, part, puppet, rng)
                for name, value in self._frame(rng, still, puppet, pose).items():
                    out[name].append(value)
        return {k: torch.from_numpy(np.stack(v)) for k, v in out.items()}

    def _part(self, rng: np.random.Generator) -> Part | None:
        """Draw the part that an item shows; None for a whole frame."""
        if not any(self.shares):
            return None
        x, (close, eyes) = rng.random(), self.shares
        return MOUTH if x < close else EYES if x < close + eyes else None

    def _frame(self, rng: np.random.Generator, still: Still, puppet: Puppet, pose: Pose) -> dict[str, np.ndarray]:
        """Render one pose with its labels."""
        w, h = still.size
        frame = puppet.render(pose)
        encoded = puppet.render(reduce_motion(pose, puppet, rng)) if rng.random() < self.unsure else frame
        return {
            "frames": frame.picture_u8,
            "flow": half_size(frame.flow),
            "seen": half_size(frame.seen),
            "coded": encoded.picture_u8,
            "coded_flow": half_size(encoded.flow),
            "coded_seen": half_size(encoded.seen),
            "controls": face_controls(still.keypoints, [frame.keypoints], (h // 16, w // 16))[0],
            # Also where parts were: the outline of a shut eye is empty.
            "regions": np.maximum(*(region_maps(k, (w // 2, h // 2)) for k in (frame.keypoints, still.keypoints))),
            "control_maps": face_control_maps(still.keypoints, (h // 16, w // 16)),
        }


def crop_close_up(still: Still, part: Part, rng: np.random.Generator) -> Still:
    """Cut out a part of the face and what is around it as `codecs.close_up` does, a little off."""
    (x, y), side = part.square(still.keypoints.face * still.size)
    middle = np.array([x, y]) + side / 2
    side *= float(np.exp(rng.normal(0, 0.08)))
    x, y = middle - side / 2 + rng.normal(0, 0.02, 2) * side
    return crop_still(still, (x, y, x + side, y + side), (SIDE, SIDE))


def part_only(pose: Pose, part: Part, puppet: Puppet, rng: np.random.Generator) -> Pose:
    """Keep the mouth of a pose and nothing else, or shut the lids of a still, often altogether."""
    if part is EYES:
        return Pose(opening=puppet.face.rest_opening, blink=min(float(rng.uniform(0, 1.4)), 1.0))
    return Pose(opening=pose.opening, width=pose.width, closure=pose.closure)


def reduce_motion(pose: Pose, puppet: Puppet, rng: np.random.Generator) -> Pose:
    """Move lips and lids part of the way from the still's state to `pose`; in half of the cases to any other mouth."""
    if rng.random() < 0.5:
        return replace(
            pose,
            opening=float(rng.uniform(0, 1)),
            width=float(rng.uniform(-1, 1)),
            blink=float(rng.uniform(0, 1)) * pose.blink,
            closure=0.0,
        )
    rest, share = puppet.face.rest_opening, float(rng.uniform(0, 1))
    return replace(
        pose,
        opening=rest + share * (pose.opening - rest),
        width=share * pose.width,
        blink=float(rng.uniform(0, 1)) * pose.blink,
        closure=share * pose.closure,
    )


class FilmedFrames(Dataset):
    """The same batches, of filmed people; item i depends on (seed, i) alone.

    A reference and its frames are of one clip, in a window that is the same for all. folders: datasets of `data
    prepare`, of which each gives the same share; clips kept out of training are left out. Flow and visibility are
    estimated (`filmed_clips.estimate_flow`), and nothing marks the person: "person" is -1. Raises InputError.
    """

    def __init__(self, folders: Sequence[str], seed: int, count: int = 4, poses: int = 2):
        self.folders = [[(Path(folder), row) for row in accepted_rows(folder)] for folder in folders]
        self.seed, self.count, self.poses = seed, count, poses
        self._clips: dict[str, FilmedClip] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = draw_size(rng)
        out: dict[str, list[np.ndarray]] = defaultdict(list)
        for _ in range(self.count):
            folder = self.folders[rng.integers(len(self.folders))]
            clip = self._read(*folder[rng.integers(len(folder))])
            window = random_window(clip.pictures.shape[2:0:-1], size, rng)
            tint = int(rng.integers(2**31))
            reference, *frames = (
                filmed_still(clip, int(at), window, size, tint)
                for at in rng.integers(len(clip.pictures), size=1 + self.poses)
            )
            out["reference"].append(reference.picture_u8)
            out["close"].append(np.array(-1))
            out["reference_regions"].append(region_maps(reference.keypoints, (size[0] // 4, size[1] // 4)))
            out["person"].append(np.full((size[1] // 4, size[0] // 4), -1, np.float32))
            for frame in frames:
                for name, value in _filmed_frame(reference, frame).items():
                    out[name].append(value)
        return {k: torch.from_numpy(np.stack(v)) for k, v in out.items()}

    def _read(self, dataset: Path, row: Row) -> FilmedClip:
        """Read a clip, or take it from memory."""
        key = f"{dataset}/{row.clip}"
        if key in self._clips:
            return self._clips[key]
        clip = read_filmed(dataset, row)
        if self._bytes + clip.pictures.nbytes <= _KEPT:
            self._clips[key] = clip
            self._bytes += clip.pictures.nbytes
        return clip


def random_window(
    full: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a window (x0, y0, x1, y1) of the aspect of `size` (W, H) in a picture of `full` (W, H) pixels."""
    w, h = size
    widest = min(full[0] / w, full[1] / h)
    zoom = widest * float(np.exp(rng.uniform(np.log(_CLOSEST), np.log(_WIDEST))))
    x0, y0 = rng.uniform(0, full[0] - w * zoom), rng.uniform(0, full[1] - h * zoom)
    return x0, y0, x0 + w * zoom, y0 + h * zoom


def filmed_still(
    clip: FilmedClip, at: int, window: tuple[float, float, float, float], size: tuple[int, int], tint: int
) -> Still:
    """Cut frame `at` of a clip to a window, with the colour that the seed `tint` gives to all of the clip."""
    picture = clip.pictures[at]
    whole = Still(picture, np.ones(picture.shape[:2], np.float32), unpack_points(clip.labels, at), "")
    still = crop_still(whole, window, size)
    still.picture_u8 = random_colour(still.picture_u8, np.random.default_rng(tint))
    return still


def _filmed_frame(reference: Still, frame: Still) -> dict[str, np.ndarray]:
    """Estimate the labels of one frame of a clip against another."""
    w, h = reference.size
    flow, seen = estimate_flow(frame.picture_u8, reference.picture_u8)
    labels = {"": frame.picture_u8, "_flow": half_size(flow), "_seen": half_size(seen)}
    return {
        "frames": labels[""],
        "flow": labels["_flow"],
        "seen": labels["_seen"],
        **{f"coded{name}": value for name, value in labels.items()},
        "controls": face_controls(reference.keypoints, [frame.keypoints], (h // 16, w // 16))[0],
        "regions": np.maximum(*(region_maps(k, (w // 2, h // 2)) for k in (frame.keypoints, reference.keypoints))),
        "control_maps": face_control_maps(reference.keypoints, (h // 16, w // 16)),
    }


class MixedFrames(Dataset):
    """Items of filmed people, with probability `share`, and of puppets; item i depends on (seed, i) alone."""

    def __init__(self, puppets: CodecFrames, filmed: FilmedFrames, share: float):
        self.puppets, self.filmed, self.share = puppets, filmed, share

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        chosen = np.random.default_rng([self.puppets.seed, i, 1]).random()
        return self.filmed[i] if chosen < self.share else self.puppets[i]
