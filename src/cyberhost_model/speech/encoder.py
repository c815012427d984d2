"""SpeechEncoder: sound -> multi-stage features of a wav2vec 2.0 encoder, and the window of them that each video frame
hears.

Section 3.1 of the paper: the hidden states of all layers of a pretrained wav2vec, for each frame. Step k of the encoder
hears [k, k + 1) * 20 ms at its centre: the samples are padded so that the receptive field (25 ms) lies evenly around
it.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.speech.level import SpeechLevel, speech_level

RATE = 16_000  # Hz
STEP = 320  # samples a step
STEPS_PER_SECOND = 50
_EDGE = 40  # samples; (receptive field 400 - STEP) / 2
_CORE, _CONTEXT = 800, 100  # steps a window gives (16 s), and hears more on either side (2 s)
MOTION = ("opening", "width", "energy", "speech")


@dataclass(frozen=True)
class SpeechConfig:
    """What fixes a SpeechEncoder; stored as JSON beside its weights."""

    wav2vec2: dict[str, Any]
    """Arguments of transformers' Wav2Vec2Config."""
    reach: int | None
    """Steps each way that a layer's attention sees; None: all of the window."""
    target: float
    """RMS of active speech after `SpeechLevel.normalise`."""
    motion_head: bool
    """A linear head that reads the mouth's motion from the features (what the tiny encoder was trained with)."""


# Layer norm, not group norm, in the convolutions: the latter's statistics run over time, so silence would be amplified
# and a window would depend on what else is in it. 4 layers of 20 steps and the position convolution (16) stay within
# _CONTEXT.
TINY = SpeechConfig(
    wav2vec2={
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "conv_dim": [32, 48, 64, 96, 128, 128, 128],
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 8,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
    },
    reach=20,
    target=0.1,
    motion_head=True,
)


@dataclass(frozen=True)
class PredictedMotion:
    """What the motion head reads, float32 arrays of T frames, named and scaled as in
    `data.speech_motion.SpeechMotion`; `speech` is a probability.
    """

    opening: np.ndarray
    width: np.ndarray
    energy: np.ndarray
    speech: np.ndarray


class FeatureStream:
    """What every speech encoder does with its `stream`: 50 steps a second of (layers, dim) features."""

    layers: int
    dim: int

    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """Features of mono 16 kHz `blocks`, float (n,) in order, in pieces (t, layers, dim) on the CPU, float32."""
        raise NotImplementedError

    def features(self, samples: np.ndarray, level: SpeechLevel | None = None) -> Tensor:
        """All features of `samples`, float (n,) in [-1, 1] at 16 kHz: (ceil(n / 320), layers, dim).

        Dropout is off. `level` defaults to the samples' own.
        """
        samples = np.asarray(samples, np.float32)
        pieces = list(self.stream([samples], level or speech_level([samples])))
        return torch.cat(pieces) if pieces else torch.zeros(0, self.layers, self.dim)

    def stream_windows(
        self, blocks: Iterable[np.ndarray], level: SpeechLevel, n_frames: int, fps: float, tokens: int
    ) -> Iterator[Tensor]:
        """`frame_windows` of a sound that comes in blocks: `n_frames` tensors (tokens, layers, dim), in order."""
        held, first, frame = torch.zeros(0, self.layers, self.dim), 0, 0
        for piece in self.stream(blocks, level):
            held = torch.cat([held, piece])
            ready = frame
            while ready < n_frames and window_start(ready, fps, tokens) + tokens <= first + len(held):
                ready += 1
            yield from frame_windows(held, ready - frame, fps, tokens, frame, first)
            frame = ready
            keep = min(max(window_start(frame, fps, tokens), first), first + len(held) - 1)
            held, first = held[keep - first :], keep
        if len(held):
            yield from frame_windows(held, n_frames - frame, fps, tokens, frame, first)


class SpeechEncoder(FeatureStream, nn.Module):
    """A wav2vec 2.0 encoder whose every hidden state is used, on sound of any length in constant memory."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        wav2vec2 = Wav2Vec2Config(**config.wav2vec2)
        if wav2vec2.do_stable_layer_norm or wav2vec2.add_adapter:
            raise ModelError("the speech encoder must be of wav2vec2-base's layout (no stable layer norm, no adapter)")
        self.model = Wav2Vec2Model(wav2vec2)
        self.dim: int = wav2vec2.hidden_size
        self.layers: int = wav2vec2.num_hidden_layers + 1
        self.motion_head = MotionHead(self.layers, self.dim) if config.motion_head else None

    def forward(self, samples: Tensor) -> Tensor:
        """samples (B, n), at the level of `normalise`, n a multiple of 320 -> (B, n / 320, layers, dim): what enters
        the first transformer layer, and what every layer gives.
        """
        model = self.model
        samples = F.pad(samples, (_EDGE, _EDGE))
        if model.config.feat_extract_norm == "layer":
            x = _convolutions(model.feature_extractor.conv_layers, samples)
        else:
            x = model.feature_extractor(samples).transpose(1, 2)
        x, _ = model.feature_projection(x)
        encoder = model.encoder
        x = encoder.dropout(encoder.layer_norm(x + encoder.pos_conv_embed(x)))
        mask, states = self._near(x), [x]
        for layer in encoder.layers:
            x = layer(x, attention_mask=mask)
            x = x[0] if isinstance(x, tuple) else x  # before transformers 5
            states.append(x)
        return torch.stack(states, 2)

    def _near(self, x: Tensor) -> Tensor | None:
        """0 for steps within reach, minus infinity for others: (B, 1, T, T)."""
        if self.config.reach is None:
            return None
        at = torch.arange(x.shape[1], device=x.device)
        far = (at[:, None] - at[None]).abs() > self.config.reach
        mask = torch.zeros(far.shape, dtype=x.dtype, device=x.device).masked_fill(far, torch.finfo(x.dtype).min)
        return mask.expand(len(x), 1, -1, -1)

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """The features of mono 16 kHz `blocks`, float (n,) in order, as (t, layers, dim) pieces of at most 18 s on the
        CPU, float32; ceil(samples / 320) steps together. `level` is `speech_level` of the whole recording: read it
        twice.

        Windows of 20 s overlap by 2 s on either side; for `tiny`, whose steps hear 2 s around them, that is exactly
        what one window over everything would give.
        """
        held, first, done = np.zeros(0, np.float32), 0, 0  # `first`: the step `held` begins with
        for block in blocks:
            held = np.concatenate([held, level.normalise(block, self.config.target)])
            while len(held) >= (done + _CORE + _CONTEXT - first) * STEP:
                window = held[: (done + _CORE + _CONTEXT - first) * STEP]
                yield self._window(window)[done - first : done - first + _CORE]
                done += _CORE
                keep = max(0, done - _CONTEXT)
                held, first = held[(keep - first) * STEP :], keep
        if len(held) > (done - first) * STEP:
            yield self._window(np.pad(held, (0, -len(held) % STEP)))[done - first :]

    def _window(self, samples: np.ndarray) -> Tensor:
        training = self.training
        self.eval()
        out = self(torch.from_numpy(samples)[None].to(next(self.parameters())))[0]
        self.train(training)
        return out.float().cpu()

    def predict_motion(
        self, samples: np.ndarray, fps: float = 25.0, level: SpeechLevel | None = None
    ) -> PredictedMotion:
        """The mouth motion the head hears in `samples` (n,) at 16 kHz, ceil(n / 16000 * fps) frames.

        Raises ModelError for an encoder without a head.
        """
        if self.motion_head is None:
            raise ModelError("this speech encoder has no motion head; use the one of the tiny model")
        rate = Fraction(fps).limit_denominator(1001)
        frames = max(1, -(-len(samples) * rate.numerator // (RATE * rate.denominator)))
        with torch.no_grad():
            steps = self.motion_head(self.features(samples, level).to(next(self.parameters()))).float().cpu().numpy()
        at = (np.arange(frames) + 0.5) / fps * STEPS_PER_SECOND - 0.5
        curves = [np.interp(at, np.arange(len(steps)), steps[:, i]).astype(np.float32) for i in range(4)]
        opening, width, energy, speech = curves
        return PredictedMotion(opening.clip(0, 1), width.clip(-1, 1), energy.clip(0, 1), 1 / (1 + np.exp(-speech)))

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float16) -> None:
        """config.json and model.safetensors in `folder` (made if missing)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"kind": "speech_encoder", **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")

    @staticmethod
    def from_pretrained(name: str | os.PathLike[str]) -> SpeechEncoder:
        """An encoder in eval mode, float32: a folder of `save_pretrained`, or wav2vec2-base's layout (a folder or a
        Hub id such as "facebook/wav2vec2-base-960h"). Every weight must be there and fit: raises ModelError otherwise,
        and NetworkError if it cannot be fetched.
        """
        config_file = Path(name) / "config.json"
        if Path(name).is_dir() and not config_file.is_file():
            raise ModelError(f"{name}: holds no config.json; give a folder with a speech encoder")
        try:
            data = json.loads(config_file.read_text()) if config_file.is_file() else {}
            if data.pop("kind", None) != "speech_encoder":
                return _from_transformers(name)
            encoder = SpeechEncoder(SpeechConfig(**data))
            encoder.load_state_dict(load_file(config_file.with_name("model.safetensors")))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"{name}: no usable speech encoder ({str(error).splitlines()[0]}); get it again"
            ) from error
        return encoder.eval()


def _from_transformers(name: str | os.PathLike[str]) -> SpeechEncoder:
    try:
        model, info = Wav2Vec2Model.from_pretrained(name, output_loading_info=True, use_safetensors=True)
    except OSError as error:
        if Path(name).exists():
            raise
        message = f"{name}: could not be fetched; check the name and the network, or give a folder that holds it"
        raise NetworkError(message) from error
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith("lm_head.")]
    wrong = [*info["missing_keys"], *unexpected, *info["mismatched_keys"]]
    if wrong:
        raise ValueError(f"{len(wrong)} weights missing or unknown, such as {wrong[0]}")
    # wav2vec2's own preprocessing scales to unit variance
    with torch.device("meta"):  # its random weights would be thrown away
        encoder = SpeechEncoder(SpeechConfig(model.config.to_dict(), reach=None, target=1.0, motion_head=False))
    encoder.model = model.float()
    return encoder.eval()


def _convolutions(layers: nn.ModuleList, samples: Tensor) -> Tensor:
    """(B, n) -> (B, T, C): what transformers' feature extractor computes, with channels last, where the layer norms
    want them: no copies between the two layouts, which on a CPU took most of the time, above all in the backward pass.
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


class MotionHead(nn.Module):
    """A weighted mean of the layers, then one linear map."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.layer_weight = nn.Parameter(torch.zeros(layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, len(MOTION))

    def mix(self, features: Tensor) -> Tensor:
        """features (..., layers, dim) -> (..., dim)."""
        return self.norm((features * self.layer_weight.softmax(0)[:, None]).sum(-2))

    def forward(self, features: Tensor) -> Tensor:
        """features (..., layers, dim) -> (..., 4), in the order of MOTION; the last is a logit."""
        return self.out(self.mix(features))


def window_start(frame: int, fps: float, tokens: int) -> int:
    """First step of a frame's window: `tokens` steps around (frame + 0.5) / fps seconds.

    Negative before the sound begins.

    At 25 fps and an even number of tokens the window is exactly even: its two middle steps are 2 * frame and 2 * frame
    + 1, so what sounds at t seconds is in the middle of frame floor(25 t). Otherwise it is even to half a step (10 ms).
    """
    rate = Fraction(fps).limit_denominator(1001)
    return (STEPS_PER_SECOND * (2 * frame + 1) * rate.denominator + (1 - tokens) * rate.numerator) // (
        2 * rate.numerator
    )


def frame_windows(
    features: Tensor, n_frames: int, fps: float, tokens: int, first_frame: int = 0, first_step: int = 0
) -> Tensor:
    """features (T, layers, dim), beginning with step `first_step` -> (n_frames, tokens, layers, dim), beginning with
    frame `first_frame`. Before the first and after the last step, that step is repeated. Raises ValueError if T is 0.
    """
    if not len(features):
        raise ValueError("frame_windows needs at least one step of features")
    starts = torch.tensor(
        [window_start(f, fps, tokens) for f in range(first_frame, first_frame + n_frames)], dtype=torch.long
    )
    index = starts[:, None] + torch.arange(tokens) - first_step
    return features[index.clamp(0, len(features) - 1).to(features.device)]
