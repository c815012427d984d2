"""The cost of a pass of a network: floating point operations and bytes alive at their peak.

On fake tensors (`torch._subclasses.fake_tensor`), which have sizes and no memory, or on real ones.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from cyberhost_model.config import Preset
from cyberhost_model.model.conditions import input_shapes


def _attention_flops(*args: Any, **kwargs: Any) -> int:
    """Count a CPU's attention as flash attention on CUDA is counted."""
    return flop_registry[torch.ops.aten._scaled_dot_product_flash_attention](*args, **kwargs)


_attention_flops._get_raw = True  # type: ignore[attr-defined]  # it takes tensors, as the entries of flop_registry do
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


FORMULAS = {**flop_registry, **CPU_ATTENTION}
"""Operation -> its formula of FLOPs: torch's, and attention on a CPU, which torch lacks."""


class FlopCounter(TorchDispatchMode):
    """Add up, while inside, the `flops` of what is computed.

    torch's `FlopCounterMode` has hooks that keep tensors alive for longer, and no formula of a CPU's attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


class CostCounter(FlopCounter):
    """Follow the bytes of tensors that are alive too, of which `peak` is the most; that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        """Count a storage that is new, until it is freed."""
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def empty_latents(preset: Preset, batch: int, frames: int) -> Tensor:
    """Make latents (batch, frames, C, h, w) at the preset's size, without values."""
    latent = (side // preset.latent_factor for side in preset.size)
    return torch.empty(batch, frames, preset.latent_channels, *latent)


def raw_conditions(preset: Preset, batch: int, frames: int, temporal: bool = True) -> dict[str, Tensor]:
    """Make empty tensors for all arguments of `CyberHostNetwork.conditions`, at the preset's size.

    batch: clips; frames: of each clip; temporal: with motion frames.
    """
    shapes = input_shapes(preset, batch, frames)
    return {name: torch.empty(shape) for name, shape in shapes.items() if temporal or name != "motion_latents"}
