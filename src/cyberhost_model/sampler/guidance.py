"""Classifier-free guidance with two scales, reference and audio (section 4.1).

The branches run as one batched forward, or one by one to save memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput


@dataclass(frozen=True)
class Guidance:
    """Scales of guidance towards the reference and towards the speech; both 1 is no guidance."""

    reference: float = 2.5
    audio: float = 4.5
    interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels t / 1000 at which guidance acts; outside, the plain prediction is used (arXiv 2404.07724)."""
    keeps_pose: bool = True
    """Whether the branch without reference and audio sees the poses (`SamplingConfig.unguided_pose`)."""
    one_by_one: bool = False
    """Compute the branches one after the other, with less memory and the same prediction."""

    @property
    def weights(self) -> tuple[float, float, float]:
        """Weights of the branches: reference and audio, reference only, neither."""
        return self.audio, self.reference - self.audio, 1.0 - self.reference

    @property
    def branches(self) -> int:
        """Number of branches that are computed."""
        return sum(_counts(weight) for weight in self.weights)

    def acts_at(self, timestep: float) -> bool:
        """Return whether a time step in 0..1000 is inside the interval."""
        return self.interval[0] <= timestep / 1000 <= self.interval[1]


class GuidedConditions:
    """Conditions of a clip for each branch of guidance, batched once a clip.

    prediction = u + s_ref (r - u) + s_aud (a - r)
               = s_aud a + (s_ref - s_aud) r + (1 - s_ref) u
    with a: reference and audio, r: reference only, u: neither. A branch whose weight is 0 is not computed: both scales
    1 leave one branch, s_ref = 1 drops u, equal scales drop r.
    """

    def __init__(self, conditions: Conditions, guidance: Guidance) -> None:
        self.plain = conditions

        def neither() -> Conditions:
            plain = conditions.without_audio().without_reference()
            return plain if guidance.keeps_pose else plain.without_pose()

        branches = (lambda: conditions, conditions.without_audio, neither)
        used = [(weight, branch) for weight, branch in zip(guidance.weights, branches, strict=True) if _counts(weight)]
        self.weights = [weight for weight, _ in used]
        self._factors: Tensor | None = None
        parts = [branch() for _, branch in used]
        self.batches = parts if guidance.one_by_one else [Conditions.cat(parts)]

    def predict(
        self, network: Callable[..., DenoiserOutput], noisy: Tensor, timestep: Tensor, guided: bool = True
    ) -> Tensor:
        """Predict with guidance, or without where `guided` is False -> (B, F, C, h, w).

        network(noisy, timestep, conditions) returns a `DenoiserOutput`; noisy (B, F, C, h, w), timestep (B,).
        """
        if not guided:
            return network(noisy, timestep, self.plain).prediction
        count = len(self.weights) // len(self.batches)
        batch = torch.cat([noisy] * count) if count > 1 else noisy
        predictions = torch.cat([network(batch, timestep.repeat(count), part).prediction for part in self.batches])
        if self._factors is None:  # once a clip: a copy to a GPU waits for the work queued there
            self._factors = torch.tensor(self.weights, dtype=predictions.dtype, device=predictions.device)
        return torch.tensordot(self._factors, predictions.unflatten(0, (len(self.weights), -1)), dims=1)


def _counts(weight: float) -> bool:
    """Return whether a branch of this weight must be computed."""
    return abs(weight) > 1e-6
