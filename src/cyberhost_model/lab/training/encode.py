"""Encode a dataset (of `data prepare` or `data synth`) into the clips that the stages train on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.config import Preset, preset
from cyberhost_model.errors import InputError, TrainingError, need
from cyberhost_model.lab.filmed.manifest import Row, accepted_rows
from cyberhost_model.lab.synthetic.clips import Clip, ClipGenerator
from cyberhost_model.lab.training.assemble import trained_codec, trained_speech
from cyberhost_model.lab.training.clips import SUMMARY_FILE, describe_clip, encode_clip, write_clip
from cyberhost_model.lab.training.fidelity import Fidelity
from cyberhost_model.lab.training.filmed_clips import cut_clips, read_filmed
from cyberhost_model.media.files import written_whole
from cyberhost_model.perception.arcface import ArcFace
from cyberhost_model.perception.onnx_network import EXTRA, gpu_hint
from cyberhost_model.reading import Unreadable, read_object
from cyberhost_model.runtime.loading import load_arcface
from cyberhost_model.speech.encoder import SpeechEncoder


@dataclass
class ClipEncoder:
    """The codec, the speech encoder and the face descriptor that encode clips for a network of `preset`."""

    preset: Preset
    codec: Codec
    speech: SpeechEncoder
    face: ArcFace | None = None
    """For a preset without a Face Encoder, which cannot be encoded without it."""
    fidelity: Fidelity = field(default_factory=Fidelity)
    """How well the codec brings back what was encoded."""

    def encode(self, clip: Clip) -> dict[str, Tensor]:
        """Encode a clip to the tensors that `clips.write_clip` saves.

        `face` is (512,) float16 where the preset takes ArcFace's features. A few of its frames are decoded again for
        `fidelity`.
        """
        saved = encode_clip(clip, self.codec)
        self.fidelity.add(self.codec, clip, saved["z"].float())
        if not self.preset.region.face_channels:
            if self.face is None:
                raise TrainingError(f"clips of preset {self.preset.name} need ArcFace's description of the face")
            saved["face"] = torch.from_numpy(self.face.describe(clip.reference.picture_u8)).half()
        return {**saved, **describe_clip(saved, self.codec, self.speech, self.preset.audio.tokens)}


def load_clip_encoder(
    name: str, codec: str | None = None, audio: str | None = None, device: str | torch.device = "cpu"
) -> tuple[ClipEncoder, list[str]]:
    """Load the encoder of clips for networks of the preset `name`; returns it and warnings for the user.

    codec, audio: runs or models; None: the model of the preset's name. Raises TrainingError where they do not fit the
    preset, ModelError, NetworkError, and ResourceError without insightface where faces are described by ArcFace.
    """
    shape = preset(name)
    described = not shape.region.face_channels
    if described:
        need("insightface", EXTRA)  # before gigabytes of the others are fetched
    loaded, speech = trained_codec(codec or name), trained_speech(audio or name)
    if loaded.kind != shape.codec or (speech.layers, speech.dim) != (
        shape.audio.layers,
        shape.audio.dim,
    ):
        raise TrainingError(
            f"codec and speech encoder are not of the kind that preset {name} takes; leave out --codec and --audio, "
            "or give others"
        )
    face = load_arcface(device=device) if described else None
    return ClipEncoder(shape, loaded.to(device), speech.to(device), face), gpu_hint(device) if described else []


@dataclass
class EncodeSummary:
    """What was encoded of a dataset."""

    clips: int
    """Clips of the split."""
    kept: int = 0
    """Those of them that an earlier run encoded."""
    short: int = 0
    """Those with fewer frames than an encoded clip."""
    coded: int = 0
    """Files this run wrote."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Clips that cannot be read, each with the reason."""


def encode_dataset(
    dataset: Path,
    out: Path,
    encoder: ClipEncoder,
    *,
    frames: int = 32,
    seed: int = 0,
    split: str = "train",
    limit: int | None = None,
    facts: dict[str, object] | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> EncodeSummary:
    """Encode the accepted clips of one split in pieces of `frames` frames, see `filmed_clips.cut_clips`.

    Pieces are files `WxH/CLIP-START.safetensors`; clips whose pieces are all there are kept, so that a stopped run
    resumes. The reference frame depends on the seed and the clip's name alone. limit: of clips, in the manifest's
    order. facts: other settings that `out` belongs to (names of codec and speech encoder). progress(done, all).
    warn(line): called for a clip that cannot be read and is left out. Raises InputError where the split has no clip,
    none can be read, or `out` has clips of another dataset or of other settings; OutputError.
    """
    rows = accepted_rows(dataset, split)[:limit]
    claim(out, {"dataset": str(dataset.resolve()), "split": split, "frames": frames, "seed": seed, **(facts or {})})
    summary = encode_rows(dataset, rows, out, encoder, frames, seed, progress, warn)
    if len(summary.broken) == len(rows):
        raise InputError(f"{dataset}: none of {len(rows)} clips can be read; the first: {summary.broken[0][1]}")
    return summary


def encode_rows(
    dataset: Path,
    rows: Sequence[Row],
    out: Path,
    encoder: ClipEncoder,
    frames: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> EncodeSummary:
    """Encode clips of a dataset into `out`, whatever else is there; arguments as in `encode_dataset`.

    Raises OutputError.
    """
    there = {path.stem for path in out.glob("*x*/*.safetensors")}
    summary = EncodeSummary(len(rows))
    for done, row in enumerate(rows):
        if progress:
            progress(done, len(rows))
        pieces = {clip_name(row, start) for start in range(0, (row.frames or 0) - frames + 1, frames)}
        summary.short += not pieces
        summary.kept += bool(pieces) and pieces <= there
        if pieces <= there:
            continue
        try:
            filmed = read_filmed(dataset, row)
        except InputError as error:
            summary.broken.append((row.clip, str(error)))
            if warn:
                warn(str(error))
            continue
        for clip in cut_clips(filmed, frames, np.random.default_rng([seed, crc32(row.clip.encode())])):
            write_clip(out, clip_name(row, clip.first), encoder.encode(clip), clip.reference.size, clip.head)
            summary.coded += 1
    if progress:
        progress(len(rows), len(rows))
    return summary


def encode_made(made: ClipGenerator, out: Path, encoder: ClipEncoder, numbers: Iterable[int]) -> Iterator[int]:
    """Make clips by their `numbers`, encode them into `out`, and yield after each how many are done.

    Those that are there already are kept. Raises OutputError.
    """
    there = {p.stem for p in out.glob("*x*/*.safetensors")}
    for done, number in enumerate(numbers, 1):
        if f"{number:06d}" not in there:
            clip = made.clip(number)
            write_clip(out, f"{number:06d}", encoder.encode(clip), clip.reference.size, clip.head)
        yield done


def clip_name(row: Row, start: int) -> str:
    """Make the name of an encoded piece: the name of the clip and its first frame."""
    return f"{row.clip.replace('/', '-')}-{start:05d}"


def claim(out: Path, facts: dict[str, object]) -> None:
    """Save in `out` the settings its clips are made with. Raises InputError where it has clips of other settings."""
    about = out / SUMMARY_FILE
    out.mkdir(parents=True, exist_ok=True)
    if about.is_file():
        try:
            before = read_object(about)
        except (OSError, Unreadable):
            before = {}
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise InputError(
                f"{out}: holds clips of other settings ({', '.join(changed)}); use those, or another folder"
            )
        return
    with written_whole(about) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
