"""ClipEncoder: a clip of pictures, labels and sound as the tensors that training reads (`coded`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.config import Preset, parse_device, preset
from cyberhost_model.device import choose_device
from cyberhost_model.errors import InputError, TrainingError, need
from cyberhost_model.lab.engines import worker_number
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.lab.training.assemble import trained_codec, trained_speech
from cyberhost_model.lab.training.codec_inputs import encode_frames, to_signed
from cyberhost_model.lab.training.coded import pack_features, pack_points
from cyberhost_model.lab.training.fidelity import Fidelity
from cyberhost_model.perception.arcface import ArcFace
from cyberhost_model.perception.crops import face_crop, hand_crops
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.perception.onnx_network import EXTRA, gpu_hint
from cyberhost_model.runtime.loading import load_arcface
from cyberhost_model.speech.encoder import SpeechEncoder

CHECKED = 50
"""Clips that an encoder decodes again to tell how well its codec brings them back."""
FEATURES = ("float16", "int8")
_LARGE = 4096  # numbers of a step of speech features from which on they are kept in 8 bits


@dataclass(frozen=True)
class EncoderConfig:
    """What encodes clips: enough for another process to load the same `ClipEncoder`. Raises InputError."""

    preset: str = "tiny"
    codec: str | None = None
    """A run of stage codec, or a model; None: the model of the preset's name."""
    audio: str | None = None
    """The same of the speech encoder."""
    device: str = "cpu"
    """"cuda": worker processes take the GPUs in turn."""
    precision: str = "fp32"
    """In which the codec computes: "fp32", "fp16", "bf16"."""
    references: int | None = None
    """Reference frames of a clip, of which training draws one; each costs latents of its own where these are relative.
    None: 1 for such codecs, else 3.
    """
    features: str | None = None
    """How speech features are kept, one of `FEATURES`; None: float16, int8 where a step has many numbers."""

    def __post_init__(self) -> None:
        parse_device(self.device)
        if self.features not in (None, *FEATURES):
            raise InputError(f"features are kept as {' or '.join(FEATURES)}, not {self.features!r}")

    @property
    def shape(self) -> Preset:
        """The preset."""
        return preset(self.preset)

    @property
    def eight_bits(self) -> bool:
        """Whether speech features are kept in 8 bits."""
        audio = self.shape.audio
        return (self.features or FEATURES[audio.layers * audio.dim > _LARGE]) == "int8"

    @property
    def drawn_references(self) -> int:
        """Reference frames of a filmed clip."""
        return self.references or (1 if self.shape.traits.relative else 3)

    def stretch(self, frames: int | None) -> int | None:
        """Frames that a filmed clip is cut into, None for whole clips: where latents need no reference by default."""
        return frames or (32 if self.shape.traits.relative else None)

    def facts(self) -> dict[str, object]:
        """What decides about the clips, as their folder notes it."""
        return {
            "preset": self.preset,
            "codec": self.codec or self.preset,
            "audio": self.audio or self.preset,
            "references": self.drawn_references,
            "features": FEATURES[self.eight_bits],
        }

    def bytes_per_frame(self, size: tuple[int, int]) -> float:
        """Compute the bytes of a frame of `size` (W, H) on disk, without what is there once a clip."""
        shape, relative = self.shape, self.shape.traits.relative
        latents = shape.latent_channels * (size[0] // shape.latent_factor) * (size[1] // shape.latent_factor) * 2
        steps = 2 * shape.audio.layers * shape.audio.dim * (1 if self.eight_bits else 2)
        points, labels, sound = 2 * (3 * (18 + 42 + 68)), 4 + 8, 2 * 640
        return latents * (self.drawn_references if relative else 1) + steps + points + labels + sound


@dataclass
class ClipEncoder:
    """The codec, the speech encoder and the face descriptor that encode clips for a network of a preset."""

    config: EncoderConfig
    codec: Codec
    speech: SpeechEncoder
    face: ArcFace | None = None
    """For a preset without a Face Encoder, which cannot be encoded without it."""
    fidelity: Fidelity = field(default_factory=Fidelity)
    """How well the codec brings back what was coded, of the first `CHECKED` clips."""
    _checked: int = 0

    @property
    def preset(self) -> Preset:
        """The preset of the network."""
        return self.config.shape

    def recording_features(self, samples: np.ndarray) -> Tensor:
        """Encode a recording, float32 (n,) at 16 kHz, as it is kept (16 bits): float32 (S, layers, D)."""
        return self.speech.features(sound_16_bits(samples).astype(np.float32) / 32767)

    @torch.inference_mode()
    def encode(self, clips: Clip | Sequence[Clip], features: Tensor | None = None) -> dict[str, Tensor]:
        """Encode a clip of T frames, given once for each of its R references, to tensors for `coded.ShardWriter`.

        features: of its recording (`recording_features`), None to compute them. Returns

        - z (T, C, h, w) float16, or (R T, C, h, w), reference by reference, where latents are relative;
        - r (R, C, h, w) float16, face (R, 3, 256, 256) uint8 or (R, 512) float16 of ArcFace, hands (R, 2, 3, 128, 128)
          uint8, hands_seen (R, 2): the references;
        - key points of references and frames; clarity (T,); heard (T, 4) float16, see `Clip.heard`;
        - features (S, layers, D) float16 or int8 with its scale (1, layers, D); place (1, 2): the clip's first frame in
          its recording, and the first of the S steps; sound (n,) int16: the recording at 16 kHz.

        Raises TrainingError where ArcFace is missing. A few frames are decoded again for `fidelity`.
        """
        given = [clips] if isinstance(clips, Clip) else [*clips]
        first = given[0]
        device = next(self.codec.parameters()).device
        dtype = choose_device(str(device), self.config.precision)[1]
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            relative = self.preset.traits.relative
            z = [encode_frames(clip, self.codec) for clip in (given if relative else given[:1])]
            if self._checked < CHECKED:
                self._checked += 1
                self.fidelity.add(self.codec, first, z[0].float())
            references = [self._encode_reference(clip, device) for clip in given]
        if features is None:
            features = self.recording_features(first.samples)
        return {
            "z": torch.cat(z),
            **{name: torch.stack([one[name] for one in references]) for name in references[0]},
            **pack_points([clip.reference.keypoints for clip in given], "reference"),
            **pack_points(first.keypoints(), "frame", torch.float16),
            "clarity": torch.from_numpy(first.clarity),
            "heard": torch.from_numpy(first.heard).half(),
            **pack_features(features, first.first, len(z[0]), self.preset.audio.tokens, self.config.eight_bits),
            "sound": torch.from_numpy(sound_16_bits(first.samples)),
        }

    def _encode_reference(self, clip: Clip, device: torch.device) -> dict[str, Tensor]:
        """Encode the reference of a clip: latent, crops of face and hands."""
        picture, points = clip.reference.picture_u8, clip.reference.keypoints
        return {
            "r": self.codec.encode_reference(to_signed(picture)[None].to(device))[0].half().cpu(),
            "face": self._face(picture, points),
            "hands": _picture(hand_crops(picture, points)),
            "hands_seen": torch.tensor([float(points.hands_score[s].max() > VISIBLE) for s in (0, 1)]),
        }

    def _face(self, picture: np.ndarray, points: Keypoints) -> Tensor:
        """Crop the face for the Face Encoder, or describe it by ArcFace."""
        if self.preset.region.face_channels:
            return _picture(face_crop(picture, points))
        if self.face is None:
            raise TrainingError(f"clips of preset {self.preset.name} need ArcFace's description of the face")
        return torch.from_numpy(self.face.describe(picture)).half()


def sound_16_bits(samples: np.ndarray) -> np.ndarray:
    """Convert samples in -1..1 to int16."""
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


def _picture(signed: np.ndarray) -> Tensor:
    """Convert a picture in -1..1 to uint8."""
    return torch.from_numpy(np.clip((signed + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8))


def load_clip_encoder(config: EncoderConfig) -> ClipEncoder:
    """Load the encoder of clips.

    Raises TrainingError where codec and speech encoder do not fit the preset, ModelError, NetworkError, and
    ResourceError for a device that is missing and without insightface where faces are described by ArcFace.
    """
    device, shape = _device(config), config.shape
    if described := not shape.region.face_channels:
        need("insightface", EXTRA)  # before gigabytes of the others are fetched
    codec, speech = trained_codec(config.codec or config.preset), trained_speech(config.audio or config.preset)
    if codec.kind != shape.codec or (speech.layers, speech.dim) != (shape.audio.layers, shape.audio.dim):
        raise TrainingError(
            f"codec and speech encoder are not of the kind that preset {config.preset} takes; leave out --codec and "
            "--audio, or give others"
        )
    face = load_arcface(device=device) if described else None
    return ClipEncoder(config, codec.to(device), speech.to(device), face)


@functools.lru_cache(maxsize=1)
def worker_encoder(config: EncoderConfig) -> ClipEncoder:
    """Load the encoder once in a worker process, on one thread: every core has a process of its own."""
    torch.set_num_threads(1)
    return load_clip_encoder(config)


def encoder_hints(config: EncoderConfig) -> list[str]:
    """Tell what keeps an encoder from its device, in lines for the user."""
    return [] if config.shape.region.face_channels else gpu_hint(_device(config))


def _device(config: EncoderConfig) -> torch.device:
    """Choose the device; workers take the GPUs in turn."""
    device = choose_device(config.device, config.precision)[0]
    if device.type == "cuda" and device.index is None and torch.cuda.device_count() > 1:
        return torch.device("cuda", worker_number() % torch.cuda.device_count())
    return device
