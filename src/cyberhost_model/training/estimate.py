"""What a run would take, before it runs: parameters, memory, FLOPs. Stages 1 and 2 are traced on fake tensors, which have sizes but no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..conditions.pose_shift import FINE, MAPS
from ..model.cyberhost import CyberHostNetwork
from ..presets import Preset
from .clip_stage import ClipStageConfig, leave_out
from .meters import FORMULAS
from .settings import LoopConfig

OPTIMIZER_BYTES = {"adamw": 8.0, "adamw-fused": 8.0, "adamw8bit": 2.03}
"""A trained parameter: two moments in float32, or in 8 bits with a float32 scale for every 256."""


@dataclass
class Module:
    """Parameters of a part of the model, and how many of them train."""

    name: str
    parameters: int
    trained: int


@dataclass
class Memory:
    """Bytes on one device at the peak of a step."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    activations: float | None
    """What forward and backward hold at their peak beyond weights and whole gradients; None: not known."""
    gathered: float = 0.0
    """FSDP: the whole weights and gradients, while a step lasts."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self)[name] or 0.0 for name in asdict(self))


def modules(module: nn.Module) -> list[Module]:
    """Parts of `module`; parts of a U-Net that hold motion modules or region attention are told apart."""
    rows: dict[str, Module] = {}
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        key = parts[0]
        if key == "denoising_unet":
            inner = ("motion modules" if "motion_modules" in name else "2D layers") if parts[1] == "unet" else parts[1]
            key = f"{key}: {inner}"
        row = rows.setdefault(key, Module(key, 0, 0))
        row.parameters += parameter.numel()
        row.trained += parameter.numel() * parameter.requires_grad
    return list(rows.values())


def memory(rows: list[Module], config: LoopConfig, peak: float | None, processes: int = 1) -> Memory:
    """Exact sizes of what stays, and `peak` (of activations and gradients together, from `Live`). On several processes as `config.parallel` says."""
    total, trained = sum(row.parameters for row in rows), sum(row.trained for row in rows)
    share = processes if config.parallel == "fsdp" else 1
    held = 4.0 * trained
    # Without fusion AdamW needs another copy of a moment for a moment, when activations are gone.
    step = held if config.optimizer == "adamw" else 0.0
    activations = None if peak is None else max(peak - held, step, 0.0)
    average = 0.0 if config.ema_device == "cpu" else 4.0 * total / share
    gathered = 4.0 * (total + trained) if share > 1 else 0.0
    return Memory(4.0 * total / share, held / share, OPTIMIZER_BYTES[config.optimizer] * trained / share, average, activations, gathered)


class Live(TorchDispatchMode):
    """While inside, follows the bytes of tensors that are made and still alive, of which `peak` is the most, and adds up `flops`.

    `FlopCounterMode` itself cannot be used along with it: its hooks keep tensors alive for longer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.flops = 0.0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
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


@dataclass
class Trace:
    """What a forward and backward takes. peak: bytes; flops: of forward and backward, without what is computed twice."""

    modules: list[Module]
    peak: float
    flops: float


def trace_network(preset: Preset, stage: ClipStageConfig, config: LoopConfig, freeze: Callable[[nn.Module], None]) -> Trace:
    """Build the network of a clip stage on fake tensors and run a forward and backward with every condition given, at the preset's size.

    As under CUDA's autocast, norms compute in float32 in bf16 and fp16 as well.
    """
    with FakeTensorMode():
        network = CyberHostNetwork(preset)
        network.denoising_unet.temporal = stage.temporal
        leave_out(network, stage)
        freeze(network)
        network.enable_gradient_checkpointing(config.gradient_checkpointing)
        rows = modules(network)
        half = config.precision != "fp32"
        if half:
            for part in network.modules():
                if isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
                    part.register_forward_pre_hook(lambda _, given: tuple(value.float() for value in given))
        raw = raw_conditions(preset, stage)
        latent = tuple(side // preset.latent_factor for side in preset.size)
        noisy = torch.empty(stage.batch, stage.frames, preset.latent_channels, *latent)
        with Live() as live:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = network(noisy, torch.empty(len(noisy)), network.conditions(**raw), heatmaps=True)
                forward = live.flops
                loss = out.prediction.float().square().mean()
                for item in (*out.region_masks, *out.heatmaps) if stage.regions else ():
                    loss = loss + item.values.float().square().mean()
            del out
            loss.backward()
        return Trace(rows, float(live.peak), 3 * forward)


def raw_conditions(preset: Preset, stage: ClipStageConfig) -> dict[str, Tensor | None]:
    """Arguments of `CyberHostNetwork.conditions` for a batch of the stage, all given."""
    batch, frames, channels = stage.batch, stage.frames, preset.latent_channels
    picture = preset.size
    latent = tuple(side // preset.latent_factor for side in picture)
    face = (3, 256, 256) if preset.region.face_channels else (512,)
    audio = preset.audio
    return {
        "reference_latent": torch.empty(batch, channels, *latent),
        "reference_pose": torch.empty(batch, 3, *picture),
        "face": torch.empty(batch, *face),
        "hands": torch.empty(batch, 2, 3, 128, 128),
        "audio": torch.empty(batch, frames, audio.tokens, audio.layers, audio.dim),
        "motion_latents": torch.empty(batch, preset.motion_frames, channels, *latent) if stage.temporal else None,
        "pose": torch.empty(batch, 1, 3, *picture),
        "pose_shift": torch.empty(batch, frames, MAPS, *(FINE * side for side in latent)) if preset.pose_shift else None,
        "hand_clarity": torch.empty(batch, frames),
    }
