"""Classifier-free guidance with two scales, reference and audio (section 4.1), as one batched forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cyberhost_model.model.conditions import Conditions


@dataclass(frozen=True)
class Guidance:
    """How strongly the prediction is pushed towards the reference and towards the speech. 1.0 and 1.0 is no guidance."""

    reference: float = 2.5
    audio: float = 4.5
    interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels (t / 1000) at which guidance acts; outside, the plain prediction is used (arXiv 2404.07724)."""

    def acts_at(self, timestep: float) -> bool:
        """Whether this time step, 0..1000, is inside the interval."""
        return self.interval[0] <= timestep / 1000 <= self.interval[1]


class GuidedConditions:
    """A clip's conditions with the branches guidance needs, batched once a clip.

    prediction = u + s_ref (r - u) + s_aud (a - r)
               = s_aud a + (s_ref - s_aud) r + (1 - s_ref) u
    with a: reference and audio, r: reference only, u: neither. A branch whose weight is 0 is not computed: both scales 1 leave one
    branch, s_ref = 1 drops u, equal scales drop r.
    """

    def __init__(self, conditions: Conditions, guidance: Guidance) -> None:
        self.plain = conditions
        branches = [
            (guidance.audio, lambda: conditions),
            (guidance.reference - guidance.audio, conditions.without_audio),
            (1.0 - guidance.reference, lambda: conditions.without_audio().without_reference()),
        ]
        used = [(weight, make) for weight, make in branches if abs(weight) > 1e-6]
        self.weights = [weight for weight, _ in used]
        self.batched = Conditions.cat([make() for _, make in used])

    def predict(self, network: nn.Module, noisy: Tensor, timestep: Tensor, guided: bool = True) -> Tensor:
        """The guided prediction. `network(noisy, timestep, conditions).prediction`; noisy (B, F, C, h, w), timestep (B,)."""
        if not guided:
            return network(noisy, timestep, self.plain).prediction
        count = len(self.weights)
        batch = torch.cat([noisy] * count) if count > 1 else noisy
        predictions = network(batch, timestep.repeat(count), self.batched).prediction.unflatten(0, (count, -1))
        weights = torch.tensor(self.weights, dtype=noisy.dtype, device=noisy.device)
        return torch.tensordot(weights, predictions, dims=1)
