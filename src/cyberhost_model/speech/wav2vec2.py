"""Wav2Vec2Encoder: the multi-stage features of a wav2vec 2.0 encoder (paper, section 3.1), of any length of sound.

The samples are padded so that the receptive field of a step (25 ms) lies evenly around its 20 ms. The tiny encoder has
mel bands in place of the convolutions (`speech.mel_front`), and heads for the mouth's motion, lips and phonemes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model

from cyberhost_model.config import FPS
from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.tensors import (
    LARGEST_CONFIG,
    build_with_weights,
    check_entries,
    read_shapes,
)
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.reading import build, is_file, is_folder, one_line, read_object
from cyberhost_model.speech.by_frame import encode_by_frame, windows_of_frames
from cyberhost_model.speech.encoder import STEP, STEPS_PER_SECOND, FeatureStream
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.lip_head import LipHead, PredictedLips, keep_closures
from cyberhost_model.speech.mel_front import MelFront
from cyberhost_model.speech.phonemes import CLASSES

KIND = "speech_encoder"
"""In config.json. A folder without a kind is in the layout of transformers' wav2vec2-base."""
MOTION = ("opening", "width", "energy", "speech")
_EDGE = 40  # samples; (receptive field 400 - STEP) / 2
_CORE, _CONTEXT = 800, 100  # steps that a window yields (16 s), and that it reads more on either side (2 s)


@dataclass(frozen=True)
class SpeechConfig:
    """Configuration of a Wav2Vec2Encoder; stored as JSON beside its weights."""

    wav2vec2: dict[str, Any]
    """Arguments of transformers' Wav2Vec2Config."""
    reach: int | None
    """Steps each way that a layer's attention sees; None: all of the window."""
    target: float
    """RMS of active speech after `SpeechLevel.normalise`."""
    motion_head: bool
    """Add a linear head that predicts the mouth's motion from the features, as the tiny encoder was trained with."""
    mels: int = 0
    """Mel bands that take the place of the convolutions; 0: the convolutions."""
    phonemes: tuple[str, ...] = ()
    """Classes in the order of the lip head, `speech.phonemes.CLASSES` when it was trained; empty: no lip head."""
    by_frame: bool = False
    """The transformer reads a step for each video frame, not one for each 20 ms (`speech.by_frame`; Hallo)."""

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1 or not 0 <= self.mels <= 1000 or (self.reach is not None and self.reach < 1):
            raise ValueError("target must be within 0..1, mels within 0..1000 and reach at least 1")


# Nothing is normalised over time: silence would be amplified, and a window would depend on what else is in it. 4 layers
# of 18 steps, the position convolution (16) and the mel front (6) stay within _CONTEXT.
TINY = SpeechConfig(
    wav2vec2={
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "conv_dim": [192],
        "conv_kernel": [1],
        "conv_stride": [1],
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 8,
        "hidden_dropout": 0.05,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
    },
    reach=18,
    target=0.1,
    motion_head=True,
    mels=64,
    phonemes=CLASSES,
)


@dataclass(frozen=True)
class PredictedMotion:
    """Mouth motion that the motion head predicts: float32 arrays of T frames.

    opening 0..1, width -1..1 and energy 0..1 as in `lab.synthetic.speech_motion.SpeechMotion`; speech: a probability.
    An encoder with a lip head was taught the gap and width of `PredictedLips` as opening and width.
    """

    opening: np.ndarray
    width: np.ndarray
    energy: np.ndarray
    speech: np.ndarray


class Wav2Vec2Encoder(FeatureStream, nn.Module):
    """A wav2vec 2.0 encoder whose every hidden state is used, on sound of any length in constant memory."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        wav2vec2 = Wav2Vec2Config(**config.wav2vec2)
        if wav2vec2.do_stable_layer_norm or wav2vec2.add_adapter:
            raise ModelError("the speech encoder must be of wav2vec2-base's layout (no stable layer norm, no adapter)")
        self.model = Wav2Vec2Model(wav2vec2)
        if config.mels:
            self.model.feature_extractor = MelFront(config.mels, wav2vec2.conv_dim[-1])
        self.dim: int = wav2vec2.hidden_size
        self.layers: int = wav2vec2.num_hidden_layers + (not config.by_frame)
        self.motion_head = MotionHead(self.layers, self.dim) if config.motion_head else None
        self.lip_head = LipHead(self.layers, self.dim, len(config.phonemes)) if config.phonemes else None

    def forward(self, samples: Tensor) -> Tensor:
        """Encode samples (B, n), levelled by `SpeechLevel.normalise`, to (B, n / 320, layers, dim).

        n is a multiple of 320. The first of `layers` is the input of the first transformer layer, the others are the
        outputs of all layers; with `by_frame` there are only these.
        """
        model = self.model
        samples = F.pad(samples, (_EDGE, _EDGE))
        if model.config.feat_extract_norm == "layer" and not self.config.mels:
            x = _convolutions(model.feature_extractor.conv_layers, samples)
        else:
            x = model.feature_extractor(samples).transpose(1, 2)
        return self.transform(x)

    def transform(self, x: Tensor) -> Tensor:
        """Run the transformer on what the convolutions made, (B, T, C) -> its states (B, T, layers, dim)."""
        x, _ = self.model.feature_projection(x)
        encoder = self.model.encoder
        x = encoder.dropout(encoder.layer_norm(x + encoder.pos_conv_embed(x)))
        mask, states = self._attention_mask(x), [x]
        for layer in encoder.layers:
            x = layer(x, attention_mask=mask)
            x = x[0] if isinstance(x, tuple) else x  # before transformers 5
            states.append(x)
        return torch.stack(states[1:] if self.config.by_frame else states, 2)

    def _attention_mask(self, x: Tensor) -> Tensor | None:
        """0 for steps within reach, minus infinity for others: (B, 1, T, T)."""
        if self.config.reach is None:
            return None
        at = torch.arange(x.shape[1], device=x.device)
        far = (at[:, None] - at[None]).abs() > self.config.reach
        mask = torch.zeros(far.shape, dtype=x.dtype, device=x.device).masked_fill(far, torch.finfo(x.dtype).min)
        return mask.expand(len(x), 1, -1, -1)

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """Encode `blocks` as `FeatureStream.stream` says, in pieces of at most 18 s; ceil(samples / 320) steps in all.

        Windows of 20 s overlap by 2 s on either side. For `tiny`, whose steps depend on 2 s around them, that is
        exactly what one window over everything would give.
        """
        buffer, first, done = np.zeros(0, np.float32), 0, 0  # `first`: the step that the buffer begins with
        for block in blocks:
            buffer = np.concatenate([buffer, level.normalise(block, self.config.target)])
            while len(buffer) >= (done + _CORE + _CONTEXT - first) * STEP:
                window = buffer[: (done + _CORE + _CONTEXT - first) * STEP]
                yield self._encode(window)[done - first : done - first + _CORE]
                done += _CORE
                keep = max(0, done - _CONTEXT)
                buffer, first = buffer[(keep - first) * STEP :], keep
        if len(buffer) > (done - first) * STEP:
            yield self._encode(np.pad(buffer, (0, -len(buffer) % STEP)))[done - first :]

    def stream_windows(
        self, blocks: Iterable[np.ndarray], level: SpeechLevel, n_frames: int, fps: float, tokens: int
    ) -> Iterator[Tensor]:
        """See `FeatureStream.stream_windows`; with `by_frame` a window is of `tokens` frames, and `level` not used."""
        if not self.config.by_frame:
            return super().stream_windows(blocks, level, n_frames, fps, tokens)
        return windows_of_frames(encode_by_frame(self, blocks, n_frames, fps), n_frames, tokens)

    def _encode(self, samples: np.ndarray) -> Tensor:
        training = self.training
        self.eval()
        out = self(torch.from_numpy(samples)[None].to(next(self.parameters())))[0]
        self.train(training)
        return out.float().cpu()

    def predict_motion(
        self, samples: np.ndarray, fps: float = FPS, level: SpeechLevel | None = None
    ) -> PredictedMotion:
        """Predict the mouth motion from `samples` (n,) at 16 kHz, for ceil(n / 16000 * fps) frames.

        Raises ModelError for an encoder without a motion head.
        """
        if self.motion_head is None:
            raise ModelError("this speech encoder has no motion head; use the one of the tiny model")
        steps = self._apply_head(self.motion_head, samples, level)
        opening, width, energy, speech = curves_at_frames(steps, len(samples), fps).T
        return PredictedMotion(opening.clip(0, 1), width.clip(-1, 1), energy.clip(0, 1), 1 / (1 + np.exp(-speech)))

    def predict_lips(self, samples: np.ndarray, fps: float = FPS, level: SpeechLevel | None = None) -> PredictedLips:
        """Predict lips and phonemes from `samples` (n,) at 16 kHz, for ceil(n / 16000 * fps) frames.

        Raises ModelError for an encoder without a lip head.
        """
        if self.lip_head is None:
            raise ModelError("this speech encoder has no lip head; train one with `cyberhost train --stage audio`")
        steps = self._apply_head(self.lip_head, samples, level)
        return PredictedLips.from_head(curves_at_frames(keep_closures(steps), len(samples), fps))

    @torch.no_grad()
    def _apply_head(self, head: nn.Module, samples: np.ndarray, level: SpeechLevel | None) -> np.ndarray:
        return head(self.features(samples, level).to(next(self.parameters()))).float().cpu().numpy()

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and model.safetensors to `folder`, which is made if it does not exist."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"kind": KIND, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")

    @staticmethod
    def from_pretrained(name: str | os.PathLike[str]) -> Wav2Vec2Encoder:
        """Load an encoder in eval mode, float32: a folder of `save_pretrained`, or wav2vec2-base's layout.

        That layout may be a folder or a Hub id such as "facebook/wav2vec2-base-960h". Every weight must be there and
        fit: raises ModelError otherwise, and NetworkError if it cannot be fetched.
        """
        folder = Path(name)
        config_file, weights_file = folder / "config.json", folder / "model.safetensors"
        if is_folder(folder) and not is_file(config_file):
            raise ModelError(f"{name}: holds no config.json; give a folder with a speech encoder")
        try:
            data = read_object(config_file, LARGEST_CONFIG) if is_file(config_file) else {}
            if data.pop("kind", None) != KIND:
                return _from_transformers(name, data)
            config = build(SpeechConfig, data)
            check_entries(config.wav2vec2, len(read_shapes(weights_file)))
            encoder = build_with_weights(lambda: Wav2Vec2Encoder(config), weights_file)
        except (OSError, ValueError, TypeError, RuntimeError, ModelError) as error:
            raise ModelError(f"{name}: no usable speech encoder ({one_line(error)}); get it again") from error
        return encoder.eval()


def _from_transformers(name: str | os.PathLike[str], config: dict[str, Any]) -> Wav2Vec2Encoder:
    """Load wav2vec2-base's layout. config: that of a folder, empty for a Hub id. Raises what `from_pretrained` maps."""
    if config:
        shapes = [read_shapes(file) for file in sorted(Path(name).glob("*.safetensors"))]
        check_entries(config, sum(map(len, shapes)))
    try:
        model, info = Wav2Vec2Model.from_pretrained(name, output_loading_info=True, use_safetensors=True)
    except OSError as error:
        if Path(name).exists():
            raise
        message = f"{name}: could not be fetched; check the name and the network, or give a folder that holds it"
        raise NetworkError(message) from error
    except Exception as error:  # transformers raises anything for a configuration that makes no sense
        raise ValueError(one_line(error)) from error
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith("lm_head.")]
    wrong = [*info["missing_keys"], *unexpected, *info["mismatched_keys"]]
    if wrong:
        raise ValueError(f"{len(wrong)} weights missing or unknown, such as {wrong[0]}")
    # wav2vec2's own preprocessing scales to unit variance
    with torch.device("meta"):  # its random weights would be thrown away
        encoder = Wav2Vec2Encoder(SpeechConfig(model.config.to_dict(), reach=None, target=1.0, motion_head=False))
    encoder.model = model.float()
    return encoder.eval()


def _convolutions(layers: nn.ModuleList, samples: Tensor) -> Tensor:
    """Compute transformers' feature extractor with channels last: (B, n) -> (B, T, C).

    The layer norms want that layout. Copies between the two layouts took most of the time on a CPU, above all in the
    backward pass.
    """
    x = samples[:, :, None]
    for layer in layers:
        size, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        steps = (x.shape[1] - size) // stride + 1
        if x.shape[-1] == 1:
            taps = x[..., 0].unfold(1, size, stride)
        else:
            taps = torch.cat([x[:, i : i + (steps - 1) * stride + 1 : stride] for i in range(size)], -1)
        weight = layer.conv.weight.transpose(1, 2).flatten(1)
        x = layer.activation(layer.layer_norm(F.linear(taps, weight, layer.conv.bias)))
    return x


def curves_at_frames(steps: np.ndarray, n: int, fps: float) -> np.ndarray:
    """Interpolate curves (T, C) of 50 steps a second at the middle of each video frame that n samples cover.

    Returns float32 (ceil(n / 16000 * fps), C), at least one frame.
    """
    rate = Fraction(fps).limit_denominator(1001)
    frames = max(1, -(-n * rate.numerator // (SPEECH_RATE * rate.denominator)))
    at = (np.arange(frames) + 0.5) / fps * STEPS_PER_SECOND - 0.5
    return np.stack([np.interp(at, np.arange(len(steps)), curve) for curve in steps.T], 1).astype(np.float32)


class MotionHead(nn.Module):
    """A weighted mean of the layers, then one linear map."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.layer_weight = nn.Parameter(torch.zeros(layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, len(MOTION))

    def mix(self, features: Tensor) -> Tensor:
        """Average the layers of features (..., layers, dim) with the learnt weights: (..., dim)."""
        return self.norm((features * self.layer_weight.softmax(0)[:, None]).sum(-2))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., layers, dim) to (..., 4) in the order of MOTION; the last is a logit."""
        return self.out(self.mix(features))
