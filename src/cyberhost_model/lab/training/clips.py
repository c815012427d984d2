"""Clips that the denoiser trains on: encoded once, kept on disk, cut at random places."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.codecs.base import Codec
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.conditions.blink import shut_lids
from cyberhost_model.conditions.movement import moving_parts
from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.config import FPS, Preset, codec_traits
from cyberhost_model.errors import OutputError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors, read_shapes
from cyberhost_model.lab.filmed.manifest import NAME as MANIFEST
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.lab.training.driving import DrivingMix, driving_maps
from cyberhost_model.media.files import atomic_path
from cyberhost_model.perception.crops import face_crop, hand_crops, hand_heatmaps, region_masks
from cyberhost_model.perception.face_controls import CONTROLS, face_control_maps, face_controls, lips_gap
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.reading import Unreadable, one_line
from cyberhost_model.runtime.prepare import face_close_ups
from cyberhost_model.speech.encoder import SpeechEncoder, frame_windows

TENSORS = ("z", "r", "audio", "reference", "face", "hands", "hands_seen", "clarity", "heard")
"""Tensors of an encoded clip besides its key points."""
CELL = 16  # pixels of a cell of the face controls, along one side
SUMMARY_FILE = "source.json"
HEAD = "-head"  # ends the name of the folder of clips without hands
SIZE = re.compile(rf"\d+x\d+({HEAD})?")
"""Names of the folders of clips: their size in pixels."""


def to_signed(pictures_u8: np.ndarray | Tensor) -> Tensor:
    """Convert pictures uint8 (..., H, W, 3) to float32 (..., 3, H, W) in -1..1."""
    if isinstance(pictures_u8, np.ndarray):
        pictures_u8 = torch.from_numpy(np.ascontiguousarray(pictures_u8))
    return pictures_u8.movedim(-1, -3).float() / 127.5 - 1


def half_size(field: np.ndarray) -> np.ndarray:
    """Average a map (H, W) or (H, W, 2) down to half its size, at which the codec takes flow and visibility."""
    return cv2.resize(field, (field.shape[1] // 2, field.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _pack(points: list[Keypoints]) -> dict[str, Tensor]:
    names = ("body", "body_score", "hands", "hands_score", "face", "face_score")
    return {n: torch.from_numpy(np.stack([getattr(k, n) for k in points])) for n in names}


def _unpack(packed: dict[str, Tensor], prefix: str, i: int) -> Keypoints:
    return Keypoints(
        *(
            packed[f"{prefix}{n}"][i].float().numpy()
            for n in ("body", "body_score", "hands", "hands_score", "face", "face_score")
        )
    )


@torch.inference_mode()
def encode_clip(clip: Clip, codec: Codec) -> dict[str, Tensor]:
    """Encode a clip of T frames to the tensors of one safetensors file, but for those of `describe_clip`.

    z (T, C, h, w) float16; reference (H, W, 3) uint8; face (3, 256, 256) and hands (2, 3, 128, 128) uint8 crops of it;
    key points of reference and frames; clarity (T,); heard (T, 4), see `Clip.heard`; sound (n,) int16 at 16 kHz, in
    which the clip starts at video frame `first`.
    """
    device = next(codec.parameters()).device
    frames = to_signed(np.stack([f.picture_u8 for f in clip.frames])).to(device)
    flow = torch.from_numpy(np.stack([half_size(f.flow) for f in clip.frames])).movedim(-1, -3).to(device)
    seen = torch.from_numpy(np.stack([half_size(f.seen) for f in clip.frames]))[:, None].to(device)
    picture, points, moved = clip.reference.picture_u8, clip.reference.keypoints, clip.keypoints()
    controls = torch.from_numpy(face_controls(points, moved, (frames.shape[-2] // CELL, frames.shape[-1] // CELL))).to(
        device
    )
    crop_u8 = lambda x: torch.from_numpy(np.clip((x + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8))  # noqa: E731
    reference = to_signed(picture)[None].to(device)
    close_ups = codec_close_ups(codec, reference, points)
    z = codec.encode(frames[None], flow[None], seen[None], controls[None], reference, close_ups)[0]
    return {
        "z": z.half().cpu(),
        "reference": torch.from_numpy(np.ascontiguousarray(picture)),
        "face": crop_u8(face_crop(picture, points)),
        "hands": crop_u8(hand_crops(picture, points)),
        "hands_seen": torch.tensor([float(points.hands_score[s].max() > VISIBLE) for s in (0, 1)]),
        "clarity": torch.from_numpy(clip.clarity),
        "heard": torch.from_numpy(clip.heard).half(),
        "sound": torch.from_numpy((np.clip(clip.samples, -1, 1) * 32767).astype(np.int16)),
        "first": torch.tensor(clip.first),
        **{f"reference.{k}": v for k, v in _pack([points]).items()},
        **{f"frame.{k}": v.half() for k, v in _pack(moved).items()},
    }


def codec_close_ups(codec: Codec, reference: Tensor, points: Keypoints) -> tuple[CloseUp, ...]:
    """Crop the close-ups of a reference (1, 3, H, W) that decoding a clip with `codec` takes."""
    if not codec_traits(codec.kind).control_channels:
        return ()
    return face_close_ups(reference, points, CELL)


@torch.inference_mode()
def describe_clip(saved: dict[str, Tensor], codec: Codec, speech: SpeechEncoder, tokens: int) -> dict[str, Tensor]:
    """Encode the reference and the sound of a clip that `encode_clip` made.

    Returns r (C, h, w) float16 and audio (T, tokens, layers, D) float16.
    """
    first, last = int(saved["first"]), int(saved["first"]) + len(saved["z"])
    features = speech.features(saved["sound"].float().numpy() / 32767)
    return {
        "r": codec.encode_reference(to_signed(saved["reference"].numpy())[None].to(next(codec.parameters()).device))[0]
        .half()
        .cpu(),
        "audio": frame_windows(features, last - first, FPS, tokens, first_frame=first).half(),
    }


def write_clip(folder: Path, name: str, tensors: dict[str, Tensor], size: tuple[int, int], head: bool = False) -> None:
    """Save one encoded clip as `WxH/name.safetensors` (`WxH-head/` where it shows a head alone), atomically.

    Raises OutputError.
    """
    place = folder / (f"{size[0]}x{size[1]}" + HEAD * head)
    place.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(place / f"{name}.safetensors") as part:
            save_file({k: v.contiguous() for k, v in tensors.items()}, part)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{place}: a clip cannot be written ({' '.join(str(error).split())}); check space and rights"
        ) from None


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
    """The encoded clips of one folder by size and by whether they show a head alone."""

    def __init__(self, files: list[Path]) -> None:
        self.count = len(files)
        self.files: dict[tuple[int, int, bool], list[Path]] = {}
        for path in files:
            w, h = path.parent.name.removesuffix(HEAD).split("x")
            self.files.setdefault((int(w), int(h), path.parent.name.endswith(HEAD)), []).append(path)
        self.kinds = sorted(self.files)
        self.weights = np.array([len(self.files[kind]) for kind in self.kinds], float) / self.count


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

    def files(self, i: int) -> list[Path]:
        """List the files that item i is cut from, for messages."""
        return self._cut(i)[1]

    def cut_file(self, file: Path, number: int) -> dict[str, Tensor]:
        """Cut a batch of one clip from `file`, undriven; it depends on (seed, number) alone.

        Raises TrainingError for a file that cannot be read.
        """
        cv2.setNumThreads(1)
        width, height = file.parent.name.removesuffix(HEAD).split("x")
        rng = np.random.default_rng([self.seed, number])
        clip = self._clip(read_clip(file), (int(width), int(height)), False, rng)
        clip["head"] = torch.tensor(file.parent.name.endswith(HEAD))
        return {name: value[None] for name, value in clip.items()}

    def _cut(self, i: int) -> tuple[list[dict[str, Tensor]], list[Path]]:
        """Cut the clips of item i; returns them and their files."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        # One folder takes no draw, so that runs of one go on with the batches they would have had.
        pools = self.pools[0 if len(self.pools) == 1 else int(rng.choice(len(self.pools), p=self.shares))]
        kind = pools.kinds[int(rng.choice(len(pools.kinds), p=pools.weights))]
        pool, clips, paths = pools.files[kind], [], []
        *size, head = kind
        moving = self.driving.draw_moving(rng)
        for _ in range(self.batch):
            paths.append(pool[int(rng.integers(len(pool)))])
            saved, needed = read_clip(paths[-1]), self.preset.motion_frames + self.frames
            if len(saved["z"]) < needed:
                raise TrainingError(
                    f"{paths[-1]}: the coded clip has {len(saved['z'])} frames, {needed} are needed: code it again, "
                    "or delete it"
                )
            clips.append({**self._clip(saved, (size[0], size[1]), moving, rng), "head": torch.tensor(head)})
        return clips, paths

    def _clip(
        self, saved: dict[str, Tensor], size: tuple[int, int], moving: bool, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Cut one clip at a random place and draw its conditions."""
        m, n = self.preset.motion_frames, self.frames
        total = len(saved["z"])
        start = int(rng.integers(m, total - n + 1)) if n > 1 else int(rng.integers(m, total))
        part = slice(start, start + n)
        h, w = saved["z"].shape[-2:]
        points = [_unpack(saved, "frame.", t) for t in range(start, start + n)]
        masks = np.stack([np.stack(region_masks(k, (h, w))) for k in points])
        exact = _unpack(saved, "reference.", 0)
        pose, shift, deaf = driving_maps(
            points, exact if self.preset.pose_shift else None, size, (h, w), moving, self.driving, rng
        )
        reference, r = _add_reference_noise(exact, rng), saved["r"].float()
        if self.preset.control_channels:
            r[-len(CONTROLS) :] = torch.from_numpy(face_control_maps(reference, (h, w)))
        return {
            "z": saved["z"][part].float(),
            "motion": saved["z"][start - m : start].float(),
            "r": r,
            "audio": saved["audio"][part].float(),
            "face": saved["face"].float() / 127.5 - 1 if saved["face"].dtype == torch.uint8 else saved["face"].float(),
            "hands": (saved["hands"].float() / 127.5 - 1) * saved["hands_seen"].view(2, 1, 1, 1),
            "moving": torch.from_numpy(moving_parts(reference, (h, w)) * np.float32(not moving)),
            "skeleton": torch.from_numpy(skeleton_map(reference, size)),
            "pose": torch.from_numpy(pose),
            "pose_shift": torch.from_numpy(shift),
            "deaf": torch.tensor(deaf),
            "clarity": torch.where(saved["clarity"][part] > 0, saved["clarity"][part], torch.tensor(-1.0)),
            "lips": torch.from_numpy(np.stack([lips_mask(k, (h, w)) for k in points])),
            "eyes": torch.from_numpy(np.stack([eyes_mask(k, (h, w)) for k in points])),
            "masks": torch.from_numpy(masks),
            "heatmaps": torch.from_numpy(np.stack([hand_heatmaps(k, (h, w), sigma=0.7) for k in points])),
            "heard": saved["heard"][part].float(),
            "shut": torch.from_numpy(shut_lids(exact, points, size)),
            "lip_gap": torch.tensor(_measured_gap(exact, size, rng)),
        }


def read_clip(file: Path) -> dict[str, Tensor]:
    """Read the tensors of one encoded clip. Raises TrainingError for a file that is missing, damaged or incomplete."""
    try:
        saved = read_safetensors(file)
    except (OSError, Unreadable) as error:
        raise TrainingError(
            f"{file}: the coded clip cannot be read ({one_line(error)}); delete it and run `cyberhost "
            "data encode` again"
        ) from None
    if missing := [name for name in TENSORS if name not in saved]:
        raise TrainingError(
            f"{file}: the coded clip lacks {', '.join(missing)}; code the clips again with `cyberhost data encode`"
        )
    return saved


def find_clips(folders: ClipFolders, preset: Preset, frames: int) -> list[Path]:
    """List the encoded clips below a folder, or below several.

    Raises TrainingError where one has none, or they do not fit (`check_fits`).
    """
    every: list[Path] = []
    for folder, _ in clip_shares(folders):
        inside = (p for p in folder.glob("*x*/*.safetensors") if SIZE.fullmatch(p.parent.name))
        found = sorted(inside, key=lambda p: p.stem)
        if not found:
            raise TrainingError(_nothing(folder))
        check_fits(found[0], preset, frames)
        every += found
    return every


def check_fits(file: Path, preset: Preset, frames: int) -> None:
    """Check that an encoded clip fits a network of `preset` and clips of `frames` frames; only its header is read.

    The clips beside it are of the same kind. Raises TrainingError where it does not fit.
    """
    try:
        shapes = read_shapes(file)
    except (OSError, Unreadable):
        shapes = {}
    if any(name not in shapes for name in TENSORS):
        read_clip(file)  # says what is wrong
    (length, channels, *_), features = (*shapes["z"], 0, 0), shapes["audio"][1:]
    audio = preset.audio
    if channels != preset.latent_channels or features != (audio.tokens, audio.layers, audio.dim):
        raise TrainingError(
            f"{file.parent.parent}: its clips are coded for another preset than {preset.name}; code them with "
            f"`cyberhost data encode --preset {preset.name}`"
        )
    if length < (need := preset.motion_frames + frames):
        raise TrainingError(
            f"{file.parent.parent}: its clips have {length} frames, and {need} are needed; code them with `cyberhost "
            "data encode --frames 32`"
        )


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


def save_summary(folder: Path, **facts: object) -> None:
    """Save what the encoded clips were made from, beside them."""
    (folder / SUMMARY_FILE).write_text(json.dumps(facts, indent=2, default=str))
