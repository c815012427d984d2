"""The terms of the loss of stages 1 and 2, each with its name, its weight and its equation in the paper.

`TERMS` is the whole loss: `combine` adds the terms up, each times its weight. The first term weighs the error of every
cell of the latent grid by `cell_weight`, which has three parts of its own: the critical regions, the noise level and
the lips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.config import Preset
from cyberhost_model.model.denoising_unet import HEARD_UNIT, DenoiserOutput

MASK_WEIGHT = 0.05
LIP_CELLS = 12  # of a mouth whose lips weigh as they are
SHARE = "share_"
"""Begins the column of a term's share of the gradient."""
CONTROLS = 5.0  # weight of a control channel at lips and eyes, against other channels


@dataclass(kw_only=True)
class LossWeights:
    """Settings of the loss, a part of the settings of a stage."""

    alpha: float = 1.0
    """Extra weight of face and hands (alpha of eq. 6)."""
    lips: float = 0.0
    """Extra weight of the lips and the eyes, which are a few cells of a small picture."""
    hear: float = 0.0
    """Weight of an auxiliary loss (not the paper's) that makes the first channels of the audio tokens tell opening,
    width and closure of the mouth and the energy of the speech, so that speech means something to the U-Net from the
    first hundred steps on.
    """
    regions: bool = True
    """Whether region masks and key point heat maps are supervised."""


@dataclass
class Prediction:
    """One pass of the network over a batch, and what it is compared with.

    B clips of F frames; latents (B, F, C, h, w).
    """

    weights: LossWeights
    preset: Preset
    batch: dict[str, Tensor]
    """Of `LatentClips`: masks (B, F, 2, h, w) of face and hands, lips and eyes (B, F, h, w), heatmaps (B, F, 42, h, w),
    heard (B, F, 4).
    """
    time: Tensor
    """Noise level of each clip (B,), 0 without noise and 1 without signal."""
    output: DenoiserOutput
    target: Tensor
    heard: Tensor | None
    """What the audio tokens tell of the speech (B, F, 4); None without audio."""
    supervised: Tensor
    """Whether the key point loss was drawn for each clip, bool (B,)."""
    error: Tensor = field(init=False)
    """Squared error of each element of the latents."""

    def __post_init__(self) -> None:
        self.error = (self.output.prediction - self.target).pow(2)


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """Compute the pseudo-Huber distance of each element: about its square / 2c up to c, its absolute value beyond."""
    return (difference.float().square() + c**2).sqrt() - c


def prediction_error(made: Prediction) -> Tensor:
    """Compute the first term of eq. 6: the diffusion loss L (eq. 1) with the error of each cell weighed."""
    return (cell_weight(made) * made.error).mean()


def lips_error(made: Prediction) -> Tensor:
    """Compute L over the cells of the lips alone, for the curves."""
    with torch.no_grad():
        lips = made.batch["lips"][:, :, None]
        return (lips * made.error).sum() / (lips.sum() * made.target.shape[2]).clamp_min(1)


def region_mask_error(made: Prediction) -> Tensor:
    """Compare the attention masks M_r (eq. 5) with the boxes of face and hands that supervise them (section 3.2).

    Cross entropy of the logits, the mean over all masks.
    """
    loss = made.target.new_zeros(())
    masks = made.output.region_masks if made.weights.regions else ()
    for mask in masks:
        boxes = made.batch["masks"][:, :, 0 if mask.region == "face" else 1].float()
        truth = F.adaptive_max_pool2d(boxes, mask.values.shape[-2:])
        loss = loss + F.binary_cross_entropy_with_logits(mask.values[:, :, 0], truth) / len(masks)
    return loss


def keypoint_error(made: Prediction) -> Tensor:
    """Compute the second term of eq. 6: the squared norm of the error of the hands' heat maps, the mean over N modules.

    Clips with t >= 500 do not count, nor do those for which it was not drawn (section 3.3). Both norms of eq. 6 are
    sums over the elements of a frame. L is taken as a mean over the C h w elements of the latent, as everywhere, so
    this sum is divided by C h w too: the two terms keep the proportion that the paper writes.
    """
    loss = made.target.new_zeros(())
    early = (made.supervised & (made.time < 0.5)).float()[:, None]
    maps = [item for item in made.output.heatmaps if item.region == "hands"]
    for item in maps:
        truth = F.adaptive_max_pool2d(made.batch["heatmaps"].flatten(0, 1), item.values.shape[-2:])
        truth = truth.unflatten(0, made.target.shape[:2])
        loss = loss + ((item.values - truth).pow(2).sum((2, 3, 4)) * early).mean() / len(maps)
    return loss / made.target[0, 0].numel()


def eyes_error(made: Prediction) -> Tensor:
    """Compute L over the cells of the eyes alone, for the curves."""
    with torch.no_grad():
        eyes = made.batch["eyes"][:, :, None]
        return (eyes * made.error).sum() / (eyes.sum() * made.target.shape[2]).clamp_min(1)


def hearing_error(made: Prediction) -> Tensor:
    """Compare what the audio tokens tell of the speech with the truth (not in the paper)."""
    if made.heard is None:
        return made.target.new_zeros(())
    return HEARD_UNIT**2 * (made.heard - made.batch["heard"]).pow(2).mean()


@dataclass(frozen=True)
class Term:
    """One term of the loss. name: its column in the curves; weight: its factor, None for a term that is only logged."""

    name: str
    weight: Callable[[LossWeights], float] | None
    value: Callable[[Prediction], Tensor]


TERMS = (
    Term("main", lambda weights: 1.0, prediction_error),
    Term("lips", None, lips_error),
    Term("eyes", None, eyes_error),
    Term("mask", lambda weights: MASK_WEIGHT, region_mask_error),
    Term("keypoints", lambda weights: 1.0, keypoint_error),
    Term("hear", lambda weights: weights.hear, hearing_error),
)


def combine(made: Prediction) -> dict[str, Tensor]:
    """Compute every term of `TERMS`, and as "loss" their weighted sum."""
    values = {term.name: term.value(made) for term in TERMS}
    weighted = [*weighted_terms(made, values).values()]
    return {"loss": sum(weighted[1:], weighted[0]), **values}


def weighted_terms(made: Prediction, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """List the terms that train, each times its weight. values: of all terms."""
    return {term.name: term.weight(made.weights) * values[term.name] for term in TERMS if term.weight is not None}


def gradient_shares(made: Prediction, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Measure the share of each term of `TERMS` that trains, see `shares_of`."""
    return shares_of(weighted_terms(made, combine(made)), parameters)


def shares_of(terms: dict[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Measure the norm of each term's gradient over that of their sum: "share_keypoints" and so on.

    Shares need not add up to 1, since gradients point in different directions. A term that reaches no parameter has 0.
    One gradient is in memory at a time; those of the parameters stay as they are.
    """
    whole = _gradient_norm(torch.stack([*terms.values()]).sum(), parameters).clamp_min(1e-12)
    return {f"{SHARE}{name}": _gradient_norm(term, parameters) / whole for name, term in terms.items()}


def _gradient_norm(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True) if value.requires_grad else ()
    norms = [gradient.float().norm() for gradient in found if gradient is not None]
    return torch.stack(norms).norm() if norms else value.new_zeros(())


def cell_weight(made: Prediction) -> Tensor:
    """Weigh the latents, (B, F, C or 1, h, w): critical regions, over the noise level, plus lips and eyes."""
    critical = critical_region_weight(made.batch, made.weights.alpha)
    weight = critical if made.preset.ablations.local_enhancement else torch.ones_like(critical)
    if made.preset.diffusion.prediction == "x0":
        weight = weight / noise_level_divisor(made.time)
    # Lips weigh the same at every noise level: where the noise is strongest, speech alone explains them.
    return weight + lip_weight(made.batch, made.weights.lips, made.preset)


def critical_region_weight(batch: dict[str, Tensor], alpha: float) -> Tensor:
    """Compute 1 + alpha M of eq. 6, (B, F, 1, h, w); M is 1 where face or hands are."""
    return 1 + alpha * batch["masks"].amax(2, keepdim=True)


def noise_level_divisor(time: Tensor) -> Tensor:
    """Compute t^2 + 0.1, (B, 1, 1, 1, 1): a network that predicts x0 must be most exact in the last, least noisy steps.

    time: (B,) in 0..1.
    """
    return (time * time + 0.1).view(-1, 1, 1, 1, 1)


def lip_weight(batch: dict[str, Tensor], weight: float, preset: Preset) -> Tensor:
    """Compute the extra weight of the cells of lips and eyes, (B, F, C or 1, h, w).

    The control channels, which say how far lips and lids move, are few among many that say where skin comes from.
    """
    cells = weight * (balance_lips(batch["lips"]) + batch["eyes"]).clamp_max(4)[:, :, None]
    if not preset.control_channels:
        return cells
    channels = torch.ones(preset.latent_channels, device=cells.device)
    channels[-preset.control_channels :] = CONTROLS
    return cells * channels[:, None, None]


def balance_lips(lips: Tensor) -> Tensor:
    """Scale masks (B, F, h, w) of the lips so that a mouth of three cells counts as much as one of twelve.

    Half-body pictures have the small mouths, portraits the large ones.
    """
    area = lips.sum((2, 3), keepdim=True)
    return lips * (LIP_CELLS / area.clamp_min(1)).clamp(1, 4)
