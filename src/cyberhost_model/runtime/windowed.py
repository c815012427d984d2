"""Predictions of overlapping windows (`sampler.windows`), whose conditions are encoded when a window is denoised.

Nothing of them is kept: the conditions of one window take more memory than all latents of a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.memory import MemoryFallback
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.windows import Window


class WindowPredictor:
    """Predicts batches of windows as `sampler.windows.PredictWindows` says, with the savings of memory it needs."""

    def __init__(
        self,
        network: CyberHostNetwork,
        conditions: Callable[[Window], Conditions],
        guidance: Guidance,
        memory: MemoryFallback,
        warn: Callable[[str], None],
    ) -> None:
        """Start without any prediction.

        conditions: encodes those of one window. warn: called with lines for the user.
        """
        self.network, self.conditions, self.guidance = network, conditions, guidance
        self.memory, self.warn = memory, warn

    def __call__(self, noisy: Tensor, timestep: Tensor, windows: list[Window], guided: bool) -> Tensor:
        """Predict `windows` -> (n, F, C, h, w); the arguments are those of `PredictWindows`."""

        def attempt() -> Tensor:
            size = self.memory.windows_at_once  # fewer after an attempt that failed
            return torch.cat(
                [
                    self._batch(noisy[i : i + size], timestep[i : i + size], windows[i : i + size], guided)
                    for i in range(0, len(windows), size)
                ]
            )

        return self.memory.attempt("network", attempt, self.warn)

    def _batch(self, noisy: Tensor, timestep: Tensor, windows: list[Window], guided: bool) -> Tensor:
        given = Conditions.cat([self.conditions(window) for window in windows])
        network = self.memory.recorded or self.network
        if not guided:
            return network(noisy, timestep, given).prediction
        guidance = replace(self.guidance, one_by_one=self.memory.one_by_one)
        return GuidedConditions(given, guidance).predict(network, noisy, timestep)
