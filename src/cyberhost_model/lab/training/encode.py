"""A dataset (`data prepare`, `data synth`) as the coded clips stages 1 and 2 train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.config import Preset, preset
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.filmed.manifest import Row, read_manifest
from cyberhost_model.lab.filmed.splits import split_of
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.lab.training.assemble import trained_codec, trained_speech
from cyberhost_model.lab.training.clips import SUMMARY, describe_clip, encode_clip, write_clip
from cyberhost_model.lab.training.observed import observed_clips, read_filmed
from cyberhost_model.media.files import written_whole
from cyberhost_model.model.condition_encoders import ARCFACE_DIM
from cyberhost_model.runtime.loading import DescribeFace, arcface_or_none
from cyberhost_model.speech.encoder import SpeechEncoder

# What codes clips for the training of a network: its codec, its speech encoder and, where it takes one, a description
# of faces.


@dataclass
class Coder:
    """face: ArcFace, for a preset without a Face Encoder; None: faces are described by nothing (zeros)."""

    preset: Preset
    codec: Codec
    speech: SpeechEncoder
    face: DescribeFace | None = None

    def code(self, clip: Clip) -> dict[str, Tensor]:
        """Everything of a clip that `latents.write_clip` keeps; `face` (512,) float16 where the preset takes ArcFace's
        numbers.
        """
        saved = encode_clip(clip, self.codec)
        if not self.preset.region.face_channels:
            found = self.face(clip.reference.picture_u8) if self.face else np.zeros(ARCFACE_DIM, np.float32)
            saved["face"] = torch.from_numpy(found).half()
        return {**saved, **describe_clip(saved, self.codec, self.speech, self.preset.audio.tokens)}


def load_coder(
    name: str, codec: str | None = None, audio: str | None = None, device: str | torch.device = "cpu"
) -> tuple[Coder, list[str]]:
    """The coder for networks of the preset `name`, and lines to tell the user.

    codec, audio: runs or models; None: the model of the preset's name.

    Raises TrainingError where they do not fit the preset, ModelError, NetworkError.
    """
    shape = preset(name)
    coder, hearing = trained_codec(codec or name), trained_speech(audio or name)
    if coder.kind != shape.codec or (hearing.layers, hearing.dim) != (
        shape.audio.layers,
        shape.audio.dim,
    ):
        raise TrainingError(
            f"codec and speech encoder are not of the kind that preset {name} takes; leave out --codec and --audio, "
            "or give others"
        )
    face, warnings = (None, []) if shape.region.face_channels else arcface_or_none()
    return Coder(shape, coder.to(device), hearing.to(device), face), warnings


@dataclass
class Report:
    """clips: of the split; kept: of these, coded by an earlier run; short: of fewer frames than a coded clip; coded:
    files of this run; broken: (clip, what is wrong with it).
    """

    clips: int
    kept: int = 0
    short: int = 0
    coded: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)


def encode_dataset(
    dataset: Path,
    out: Path,
    coder: Coder,
    *,
    frames: int = 32,
    seed: int = 0,
    split: str = "train",
    limit: int | None = None,
    facts: dict[str, object] | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Report:
    """Code the accepted clips of one split, each in stretches of `frames` frames against a frame of the clip itself;
    see `observed`.

    Stretches are files `WxH/CLIP-START.safetensors`; clips of which all are there are kept, so a run that was stopped
    goes on. Which frame is the reference depends on the seed and the clip's name alone. limit: of clips, in the
    manifest's order. facts: what else `out` is bound to (names of codec and speech encoder). progress(done, all) and
    warn(line): a clip that cannot be read is left out and named. Raises InputError: no clip of the split, nothing that
    could be read, or `out` holds clips of another dataset or coded otherwise. OutputError.
    """
    rows = [
        row for row in read_manifest(dataset, accepted=True) if (row.split or split_of(str(row.identity))) == split
    ][:limit]
    if not rows:
        raise InputError(f"{dataset}: no clip of split {split!r} is accepted; `cyberhost data inspect` counts them")
    claim(out, {"dataset": str(dataset.resolve()), "split": split, "frames": frames, "seed": seed, **(facts or {})})
    there = {path.stem for path in out.glob("*x*/*.safetensors")}
    report = Report(len(rows))
    for done, row in enumerate(rows):
        if progress:
            progress(done, len(rows))
        wanted = {stretch(row, start) for start in range(0, (row.frames or 0) - frames + 1, frames)}
        report.short += not wanted
        report.kept += bool(wanted) and wanted <= there
        if wanted <= there:
            continue
        try:
            filmed = read_filmed(dataset, row)
        except InputError as error:
            report.broken.append((row.clip, str(error)))
            if warn:
                warn(str(error))
            continue
        for clip in observed_clips(filmed, frames, np.random.default_rng([seed, crc32(row.clip.encode())])):
            write_clip(out, stretch(row, clip.first), coder.code(clip), clip.reference.size, clip.head)
            report.coded += 1
    if progress:
        progress(len(rows), len(rows))
    if len(report.broken) == len(rows):
        raise InputError(f"{dataset}: none of {len(rows)} clips can be read; the first: {report.broken[0][1]}")
    return report


def stretch(row: Row, start: int) -> str:
    """The name of a coded clip: that of the clip and its first frame."""
    return f"{row.clip.replace('/', '-')}-{start:05d}"


def claim(out: Path, facts: dict[str, object]) -> None:
    """Note in `out` what its clips are made from. Raises InputError where they are made from something else."""
    about = out / SUMMARY
    out.mkdir(parents=True, exist_ok=True)
    if about.is_file():
        try:
            before = json.loads(about.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise InputError(
                f"{out}: holds clips of other settings ({', '.join(changed)}); use those, or another folder"
            )
        return
    with written_whole(about) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
