"""What codes clips for the training of a network: its codec, its speech encoder and, where it takes one, a description of faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..conditions.speech import SpeechEncoder
from ..data.synth import Clip
from ..errors import TrainingError
from ..model.codec import ReferenceCodec
from ..model.region_encoders import ARCFACE_DIM
from ..model.sd_codec import SdCodec
from ..model_folder import CODECS
from ..named_parts import Describe, arcface_or_none
from ..presets import Preset, preset
from .assemble import trained_codec, trained_speech
from .latents import describe_clip, encode_clip


@dataclass
class Coder:
    """face: ArcFace, for a preset without a Face Encoder; None: faces are described by nothing (zeros)."""

    preset: Preset
    codec: ReferenceCodec | SdCodec
    speech: SpeechEncoder
    face: Describe | None = None

    def code(self, clip: Clip) -> dict[str, Tensor]:
        """Everything of a clip that `latents.write_clip` keeps; `face` (512,) float16 where the preset takes ArcFace's numbers."""
        saved = encode_clip(clip, self.codec)
        if not self.preset.region.face_channels:
            found = self.face(clip.reference.picture_u8) if self.face else np.zeros(ARCFACE_DIM, np.float32)
            saved["face"] = torch.from_numpy(found).half()
        return {**saved, **describe_clip(saved, self.codec, self.speech, self.preset.audio.tokens)}


def load_coder(name: str, codec: str | None = None, audio: str | None = None, device: str | torch.device = "cpu") -> tuple[Coder, list[str]]:
    """The coder for networks of the preset `name`, and lines to tell the user. codec, audio: runs or models; None: the model of the preset's name.

    Raises TrainingError where they do not fit the preset, ModelError, NetworkError.
    """
    shape = preset(name)
    coder, hearing = trained_codec(codec or name), trained_speech(audio or name)
    if not isinstance(coder, CODECS[shape.codec]) or (hearing.layers, hearing.dim) != (shape.audio.layers, shape.audio.dim):
        raise TrainingError(f"codec and speech encoder are not of the kind that preset {name} takes; leave out --codec and --audio, or give others")
    face, warnings = (None, []) if shape.region.face_channels else arcface_or_none()
    return Coder(shape, coder.to(device), hearing.to(device), face), warnings
