"""Clips that the denoiser trains on, cut from encoded ones at random places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.conditions.blink import shut_lids
from cyberhost_model.conditions.movement import moving_parts
from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import NAME as MANIFEST
from cyberhost_model.lab.training.coded import ClipReader, CodedClip, list_clips
from cyberhost_model.lab.training.driving import DrivingMix, driving_maps
from cyberhost_model.perception.crops import hand_heatmaps, region_masks
from cyberhost_model.perception.face_controls import CONTROLS, face_control_maps, lips_gap
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

ClipFolders = str | Path | Sequence[str]
"""A folder of encoded clips, or several, each "DIR" or "DIR:SHARE"."""


def clip_shares(folders: ClipFolders) -> list[tuple[Path, float | None]]:
    """Read folders of encoded clips with the share of batches that each gives; None without shares.

    Raises TrainingError where only some have a share, or one that is none.
    """
    found: list[tuple[Path, float | None]] = []
    for given in [folders] if isinstance(folders, (str, Path)) else folders:
        name, colon, share = str(given).rpartition(":")
        if not colon or Path(given).exists() or re.fullmatch(r"[0-9.]+", share) is None:
            found.append((Path(given), None))
            continue
        try:
            found.append((Path(name), float(share)))
        except ValueError:
            raise TrainingError(f"{given}: {share!r} is no share; write DIR:0.7") from None
    with_share = [share for _, share in found if share is not None]
    if with_share and (len(with_share) < len(found) or min(with_share) <= 0):
        raise TrainingError("--data: give a share above 0 to every folder (DIR:0.7), or to none")
    return found


class _Pools:
    """The encoded clips of one folder by their kind."""

    def __init__(self, clips: list[CodedClip]) -> None:
        self.count = len(clips)
        self.clips: dict[tuple[int, int, bool], list[CodedClip]] = {}
        for clip in clips:
            self.clips.setdefault(clip.kind, []).append(clip)
        self.kinds = sorted(self.clips)
        self.weights = np.array([len(self.clips[kind]) for kind in self.kinds], float) / self.count


class LatentClips(Dataset):
    """Batches of clips of `frames` frames, cut from the encoded clips below `folder`; item i depends on (seed, i).

    The clips of a batch are of one folder and have one size, and all have hands or none has. Of several folders each
    gives its share of the batches (`clip_shares`), without shares as many as it has clips.
    """

    def __init__(
        self,
        folder: ClipFolders,
        preset: Preset,
        seed: int,
        batch: int,
        frames: int,
        limit: int | None = None,
        driving: DrivingMix | None = None,
    ):
        self.preset, self.seed, self.batch, self.frames = preset, seed, batch, frames
        self.driving = driving or DrivingMix()
        shares = clip_shares(folder)
        self.pools = [_Pools(find_clips(place, preset, frames)[:limit]) for place, _ in shares]
        sizes = np.array([share or pool.count for (_, share), pool in zip(shares, self.pools, strict=True)], float)
        self.shares = sizes / sizes.sum()

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        clips, _ = self._cut(i)
        return {k: torch.stack([c[k] for c in clips]) for k in clips[0]}

    def files(self, i: int) -> list[str]:
        """Name the files that item i is cut from, and the clips in them, for messages."""
        return [str(clip) for clip in self._cut(i)[1]]

    def cut_clip(self, clip: CodedClip, number: int) -> dict[str, Tensor]:
        """Cut a batch of one clip from `clip`, undriven; it depends on (seed, number) alone.

        Raises TrainingError for a file that cannot be read.
        """
        cv2.setNumThreads(1)
        width, height, head = clip.kind
        cut = self._clip(clip.open(), (width, height), False, np.random.default_rng([self.seed, number]))
        return {name: value[None] for name, value in {**cut, "head": torch.tensor(head)}.items()}

    def _cut(self, i: int) -> tuple[list[dict[str, Tensor]], list[CodedClip]]:
        """Cut the clips of item i; returns them and the encoded ones they are cut from."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        # One folder takes no draw, so that runs of one go on with the batches they would have had.
        pools = self.pools[0 if len(self.pools) == 1 else int(rng.choice(len(self.pools), p=self.shares))]
        kind = pools.kinds[int(rng.choice(len(pools.kinds), p=pools.weights))]
        pool, clips, cut_from = pools.clips[kind], [], []
        *size, head = kind
        moving = self.driving.draw_moving(rng)
        for _ in range(self.batch):
            cut_from.append(pool[int(rng.integers(len(pool)))])
            saved, needed = cut_from[-1].open(), self.preset.motion_frames + self.frames
            if saved.frames < needed:
                raise TrainingError(
                    f"{cut_from[-1]}: the coded clip has {saved.frames} frames, {needed} are needed: code it again, "
                    "or delete it"
                )
            clips.append({**self._clip(saved, (size[0], size[1]), moving, rng), "head": torch.tensor(head)})
        return clips, cut_from

    def _clip(
        self, saved: ClipReader, size: tuple[int, int], moving: bool, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Cut one clip at a random place, with one of its references, and draw its conditions.

        With single frames this is the paper's stage 1: "two arbitrary frames" (section 4.1).
        """
        m, n = self.preset.motion_frames, self.frames
        # One reference takes no draw, so that runs on clips of before go on with the batches they would have had.
        chosen = 0 if saved.references == 1 else int(rng.integers(saved.references))
        start = int(rng.integers(m, saved.frames - n + 1)) if n > 1 else int(rng.integers(m, saved.frames))
        stop = start + n
        z = saved.latents(chosen, start - m, stop)
        h, w = z.shape[-2:]
        points = saved.points("frame", start, stop)
        masks = np.stack([np.stack(region_masks(k, (h, w))) for k in points])
        shown, exact = saved.reference(chosen)
        pose, shift, driven, deaf = driving_maps(
            points, exact if self.preset.pose_shift else None, size, (h, w), moving, self.driving, rng
        )
        reference, r = _add_reference_noise(exact, rng), shown["r"].float()
        if self.preset.control_channels:
            r[-len(CONTROLS) :] = torch.from_numpy(face_control_maps(reference, (h, w)))
        face, hands, clarity = shown["face"].float(), shown["hands"].float(), saved.rows("clarity", start, stop)
        return {
            "z": z[m:],
            "motion": z[:m],
            "r": r,
            "audio": saved.windows(start, stop, self.preset.audio.tokens),
            "face": face / 127.5 - 1 if shown["face"].dtype == torch.uint8 else face,
            "hands": (hands / 127.5 - 1) * shown["hands_seen"].view(2, 1, 1, 1),
            "moving": torch.from_numpy(moving_parts(reference, (h, w)) * np.float32(not moving)),
            "skeleton": torch.from_numpy(skeleton_map(reference, size)),
            "pose": torch.from_numpy(pose),
            "pose_shift": torch.from_numpy(shift),
            "driven": torch.tensor(driven),
            "deaf": torch.tensor(deaf),
            "clarity": torch.where(clarity > 0, clarity, torch.tensor(-1.0)),
            "lips": torch.from_numpy(np.stack([lips_mask(k, (h, w)) for k in points])),
            "eyes": torch.from_numpy(np.stack([eyes_mask(k, (h, w)) for k in points])),
            "masks": torch.from_numpy(masks),
            "heatmaps": torch.from_numpy(np.stack([hand_heatmaps(k, (h, w), sigma=0.7) for k in points])),
            "heard": saved.rows("heard", start, stop).float(),
            "shut": torch.from_numpy(shut_lids(exact, points, size)),
            "lip_gap": torch.tensor(_measured_gap(exact, size, rng)),
        }


def find_clips(folders: ClipFolders, preset: Preset, frames: int) -> list[CodedClip]:
    """List the encoded clips below a folder, or below several, that are long enough for clips of `frames` frames.

    Raises TrainingError where a folder has none, or they do not fit a network of `preset`.
    """
    every: list[CodedClip] = []
    for folder, _ in clip_shares(folders):
        found = list_clips(folder)
        if not found:
            raise TrainingError(_nothing(folder))
        long = [clip for clip in found if clip.frames is None or clip.frames >= preset.motion_frames + frames]
        (long or found)[0].open().check_fits(preset, frames)  # the clips beside it are of the same kind
        every += long
    return every


def _nothing(folder: Path) -> str:
    """Tell why a folder without encoded clips is no training data."""
    if (folder / MANIFEST).is_file():
        return (
            f"{folder}: a dataset, not coded yet: code it with `cyberhost data encode --data {folder} -o CLIPS` "
            "and train on CLIPS"
        )
    return f"no coded clips in {folder}: make them with `cyberhost data encode`"


def lips_mask(k: Keypoints, hw: tuple[int, int]) -> np.ndarray:
    """Mark the cells of a latent grid that the mouth or the chin below it touches, float32 (h, w)."""
    size = np.array([hw[1], hw[0]], np.float32)
    points = np.concatenate([k.face[48:68], k.face[7:10]]) * size
    mask = np.zeros(hw, np.float32)
    if k.face_score.max() >= VISIBLE:
        _mark(mask, points)
    return mask


def eyes_mask(k: Keypoints, hw: tuple[int, int]) -> np.ndarray:
    """Mark the cells of a latent grid that the eyes touch, float32 (h, w)."""
    mask = np.zeros(hw, np.float32)
    if k.face_score.max() >= VISIBLE:
        for eye in (k.face[36:42], k.face[42:48]):
            _mark(mask, eye * np.array([hw[1], hw[0]], np.float32))
    return mask


def _mark(mask: np.ndarray, points: np.ndarray) -> None:
    """Set the cells of the box around points (N, 2), in cells, to 1."""
    (x0, y0), (x1, y1) = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 1


def _measured_gap(reference: Keypoints, size: tuple[int, int], rng: np.random.Generator) -> float:
    """Measure the gap of the picture's lips in face heights, with the error of the lip reader."""
    if reference.face_score.max() < VISIBLE:
        return 0.0
    return max(0.0, lips_gap(reference.face * np.array(size, np.float32)) + 0.006 * float(rng.standard_normal()))


def _add_reference_noise(k: Keypoints, rng: np.random.Generator) -> Keypoints:
    """Add a detector's errors to the reference's key points: small shifts, and now and then a missing group."""
    scale = float(np.linalg.norm(k.face[8] - k.face[[19, 24]].mean(0)))
    shift = lambda p: (p + rng.normal(0, 0.02 * scale, p.shape) + rng.normal(0, 0.02 * scale, 2)).astype(np.float32)  # noqa: E731
    out = k.map(shift)
    for score in (out.hands_score[0], out.hands_score[1], out.body_score):
        score *= rng.random() > 0.12
    out.face_score = out.face_score * (rng.random() > 0.05)
    return out
