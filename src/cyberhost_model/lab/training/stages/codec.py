"""Stage codec: train the ReferenceCodec on photo puppets, whose optical flow is known exactly, and on filmed people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cyberhost_model.codecs.redraw import DecodedMaps, compose
from cyberhost_model.codecs.reference import ReferenceCodec, fit_components, fit_left
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.training.codec_init import codec_config, codec_of, take_over
from cyberhost_model.lab.training.codec_inputs import to_signed
from cyberhost_model.lab.training.codec_samples import PARTS, CodecFrames, FilmedFrames, MixedFrames
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage

SHIPPED = {"flow": 14, "novelty": 4, "colour": 6, "left": 12}
"""Components of the codec that ships."""
FITTED = 24  # batches of each kind that components are fitted to
# Largest deviation of the simulated error of a denoiser, of components of unit deviation.
BLOCK_NOISE, CONTROL_NOISE = 0.5, 0.15
# Weights of the losses in their sum.
LOSS_WEIGHTS = {"picture": 2.0, "coded": 2.0, "colour": 0.3, "flow": 0.3, "seen": 0.3, "r": 0.5, "marks": 0.5}


def component_samples(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a batch into the samples that `fit_codec` takes."""
    return {
        "reference": to_signed(batch["reference"]),
        "frames": to_signed(batch["frames"]),
        "flow": batch["flow"].permute(0, 3, 1, 2),
        "visible": batch["seen"][:, None],
        "controls": batch["controls"],
        "weight": component_weight(batch),
    }


def component_weight(batch: dict[str, Tensor]) -> Tensor:
    """Weigh pixels (B, 1, H/2, W/2) for components; face, lips and hands weigh more."""
    face, lips, hands = (batch["regions"].float() / 255).split(1, 1)
    return 1 + 3 * face + 10 * lips + 4 * hands


def region_weight(batch: dict[str, Tensor]) -> Tensor:
    """Weigh pixels (B, 1, H/2, W/2) for the loss; face, lips and eyes, and hands weigh more."""
    face, lips, hands = (batch["regions"].float() / 255).split(1, 1)
    return 1 + 2 * face + 20 * lips + 3 * hands


@torch.no_grad()
def fit_codec(codec: ReferenceCodec, samples: list[dict[str, Tensor]], start: ReferenceCodec | None = None) -> None:
    """Fit a codec's components to samples of `component_samples`.

    start: a codec whose weights it takes over before what is left of the frames is measured, which depends on them.
    """
    fit_components(codec, samples)
    if start is not None:
        take_over(codec, start)
    if codec.config.left:
        fit_left(codec, [(F.avg_pool2d(_missing(codec, one), 2), one["weight"]) for one in samples])


def _missing(codec: ReferenceCodec, sample: dict[str, Tensor]) -> Tensor:
    """Decode frames without what is left, and subtract that from them: (B, 3, H, W)."""
    each = len(sample["frames"]) // len(sample["reference"])
    reference = sample["reference"].repeat_interleave(each, 0)
    z = codec.encode_drawn(sample["frames"], sample["flow"], sample["visible"], sample["controls"])
    return sample["frames"] - compose(
        codec.decode_maps(z, codec.appearance(reference)), reference, stretch=codec.stretch
    )


def close_up_latents(codec: ReferenceCodec, batch: dict[str, Tensor]) -> Tensor:
    """Make the latents from which `ReferenceCodec.decode` draws a close-up.

    The controls of the part where the still has it, and zeros elsewhere.
    """
    controls = PARTS[int(batch["close"][0])].controls
    values = batch["controls"] / codec.z_std[codec.config.blocks :, None, None]
    return codec.control_latent(values[:, controls], batch["control_maps"], controls)


@dataclass
class CodecStageConfig:
    """Settings of stage codec."""

    drawn: float = 0.15
    """Share of drawn people; the rest are stills."""
    decoder_only: bool = False
    """Freeze `r` and what it is made from, so that a denoiser trained on them stays valid; not that of a codec with
    `left`, whose latents belong to its decoder.
    """
    close: float = 0.0
    """Share of close-ups of the mouth."""
    eyes: float = 0.0
    """Share of close-ups of the eyes."""
    filmed: float = 0.5
    """Share of items that show filmed people, where datasets of them are given."""
    components: dict[str, int] | None = None
    """Components of flow, novelty, colour and left (`ReferenceCodecConfig`).

    None: those of the codec it starts from.
    """


class CodecStage:
    """Reconstruction of frames, and supervision of colour, flow and visibility with the puppets' exact labels.

    `r` also has to reproduce the reference at a quarter of its size and to mark its regions.
    """

    name = "codec"

    def __init__(
        self,
        people: People,
        codec: ReferenceCodec | None = None,
        config: CodecStageConfig | None = None,
        filmed: Sequence[str] = (),
    ):
        """Prepare the codec; a new one gets its components from a few batches. filmed: datasets of filmed people."""
        self.people, self.config, self.filmed = people, config or CodecStageConfig(), list(filmed)
        if codec is None:
            codec = ReferenceCodec(codec_config(self.config.components or SHIPPED))
            fit_codec(codec, self.samples())
        n = codec.config.blocks
        self._noise = torch.cat(
            [torch.full((n,), BLOCK_NOISE), torch.full((codec.config.control_channels,), CONTROL_NOISE)]
        )[:, None, None]
        self.module = nn.ModuleDict(
            {
                "codec": codec,
                "teach_r": nn.Sequential(
                    nn.Conv2d(codec.config.reference_channels, 128, 3, padding=1),
                    nn.SiLU(),
                    nn.Conv2d(128, 7 * 16, 1),
                    nn.PixelShuffle(4),
                ),
            }
        )
        self.module.to(memory_format=torch.channels_last)  # 1.5 times faster on a CPU
        for part in (codec.appearance, codec.to_r):
            part.requires_grad_(not self.config.decoder_only)

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `CodecFrames` and `FilmedFrames`."""
        puppets = CodecFrames(self.people, seed, close=self.config.close, eyes=self.config.eyes)
        if not self.filmed or not self.config.filmed:
            return puppets
        return MixedFrames(puppets, FilmedFrames(self.filmed, seed), self.config.filmed)

    def samples(self) -> list[dict[str, Tensor]]:
        """Make what components are fitted to: frames of puppets, and as many of filmed people."""
        sets: list[Dataset] = [CodecFrames(self.people, seed=1, count=4, poses=4)]
        if self.filmed and self.config.filmed:
            sets.append(FilmedFrames(self.filmed, seed=1, count=4, poses=4))
        return [component_samples(frames[i]) for frames in sets for i in range(FITTED)]

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of `LOSS_WEIGHTS`, and as "loss" their weighted sum."""
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        reference, frames = to_signed(batch["reference"]), to_signed(batch["frames"])
        each = len(frames) // len(reference)
        pyramid = codec.appearance(reference)
        with torch.no_grad():
            close = bool((batch["close"] >= 0).all())
            z = close_up_latents(codec, batch) if close else self._noisy_latents(codec, batch, generator)
        decoded = codec.decode_maps(z, tuple(p.repeat_interleave(each, 0) for p in pyramid))  # type: ignore[arg-type]
        picture = compose(decoded, reference.repeat_interleave(each, 0), stretch=codec.stretch)
        losses = self._frame_losses(batch, decoded, picture, frames)
        if codec.config.left and not close:
            losses["coded"] = self._coded_loss(batch, picture, frames)
        if not self.config.decoder_only:
            losses.update(self._reference_losses(batch, reference, codec.to_r(pyramid[2])))
        return {"loss": sum(LOSS_WEIGHTS[name] * value for name, value in losses.items()), **losses}  # type: ignore[dict-item]

    def _frame_losses(
        self, batch: dict[str, Tensor], decoded: DecodedMaps, picture: Tensor, frames: Tensor
    ) -> dict[str, Tensor]:
        """Compare what was decoded with the frames (B, 3, H, W) and the labels of the puppets."""
        seen, true_flow = batch["seen"][:, None], batch["flow"].permute(0, 3, 1, 2)
        weight = region_weight(batch)
        full = F.interpolate(weight, scale_factor=2.0)
        hidden = F.interpolate(1 - seen, scale_factor=2.0)
        distance = ((decoded.flow - true_flow).pow(2).sum(1, keepdim=True) + 0.01).sqrt()
        return {
            "picture": ((picture - frames).abs() * full).mean(),
            "colour": (((decoded.colour - frames).abs() * full * (hidden + 0.03)).mean() / 0.1).clamp_max(20),
            "flow": (distance * weight * seen).mean(),
            "seen": (F.binary_cross_entropy_with_logits(decoded.visible, seen, reduction="none") * weight).mean(),
        }

    def _coded_loss(self, batch: dict[str, Tensor], picture: Tensor, frames: Tensor) -> Tensor:
        """Compare frames (B, 3, H, W) with what was decoded and, as components, what that left.

        The decoder may leave what the components can say. Updates the deviations by which they are divided.
        """
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        left = codec.left_components(frames - picture)
        with torch.no_grad():
            weight = F.adaptive_avg_pool2d(component_weight(batch), left.shape[-2:])
            size = ((left**2 * weight).sum((0, 2, 3)) / weight.sum()).sqrt()
            codec.z_std[codec.config.drawn : codec.config.blocks].lerp_(size, 0.01)
        coded = picture + codec.left_colour(left, frames.shape[-2:])
        return ((coded - frames).abs() * F.interpolate(region_weight(batch), scale_factor=2.0)).mean()

    def _noisy_latents(self, codec: ReferenceCodec, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Encode frames and add the errors of a denoiser, (B, C, h, w)."""
        z = codec.encode_drawn(
            to_signed(batch["coded"]),
            batch["coded_flow"].permute(0, 3, 1, 2),
            batch["coded_seen"][:, None],
            batch["controls"],
        )
        noise = torch.randn(z.shape, generator=generator, device=z.device) * self._noise.to(z.device)
        return z + noise * torch.rand((len(z), 1, 1, 1), generator=generator, device=z.device)

    def _reference_losses(self, batch: dict[str, Tensor], reference: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Predict the small reference and its regions from `r`, and update the statistics that normalise `r`."""
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        with torch.no_grad():
            codec.r_mean.lerp_(r.float().mean((0, 2, 3)), 0.02)
            codec.r_std.lerp_(r.float().std((0, 2, 3)), 0.02)
        predicted = self.module["teach_r"](r)
        marks = torch.cat([batch["person"][:, None], batch["reference_regions"].float() / 255], 1)
        pos = torch.tensor([1.0, 2.0, 8.0, 4.0], device=marks.device)[:, None, None]
        known = (marks >= 0).float()  # nobody marked where filmed people are
        wrong = F.binary_cross_entropy_with_logits(predicted[:, 3:], marks, known, pos_weight=pos, reduction="sum")
        return {
            "r": (predicted[:, :3] - F.avg_pool2d(reference, 4)).abs().mean(),
            "marks": wrong / known.sum(),
        }


@register_stage("codec", CodecStageConfig, sources=("stills",), own_init=True)
def build(inputs: StageInputs) -> Stage:
    """Build stage codec, from the codec of `init` or of the run that goes on where there is one.

    A codec with other components than the recipe asks for gives the weights that fit.
    """
    config: CodecStageConfig = inputs.config
    wanted = codec_config(config.components) if config.components else None
    if wanted and wanted.latent_channels != inputs.preset.latent_channels:
        total = inputs.preset.latent_channels - wanted.control_channels
        raise TrainingError(f"components: their sum must be {total}, as networks of {inputs.preset.name} take them")
    people, filmed = People(inputs.sources.stills, drawn=config.drawn), inputs.sources.filmed
    if inputs.weights is None:
        return CodecStage(people, None, config, filmed)
    start, others = codec_of(inputs.weights)
    if wanted is None or wanted == start.config:
        stage = CodecStage(people, start, config, filmed)
    elif inputs.init is None:
        raise TrainingError(f"{inputs.weights}: its codec has other components; train as before, or into a new run")
    else:
        codec = ReferenceCodec(wanted)
        stage = CodecStage(people, codec, config, filmed)
        fit_codec(codec, stage.samples(), start)
    head: nn.Module = stage.module["teach_r"]
    others = {name.removeprefix("teach_r."): value for name, value in others.items()}
    if {name: value.shape for name, value in others.items()} == {n: v.shape for n, v in head.state_dict().items()}:
        head.load_state_dict(others)
    return stage
