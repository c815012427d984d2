"""Regional torch.compile: the blocks that repeat are compiled once for each width, not the network as a whole, so the
wait is short and keys stay.

diffusers' `compile_repeated_blocks` compiles the transformer blocks' own forward, which our forward does not call
(`model.attention` runs their layers in the open); hence the two functions that do, and diffusers' residual blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D

from cyberhost_model.errors import ResourceError
from cyberhost_model.model.attention import spatial_transformer, temporal_transformer
from cyberhost_model.model.network import CyberHostNetwork

_VARIANTS = 1024
"""Of one function: widths, sizes, with and without motion frames, guided and plain batches; a video has some twenty.

More would be an error.
"""


def compile_blocks(network: CyberHostNetwork, backend: str = "inductor") -> None:
    """Compile what the Denoising U-Net repeats; the first steps of a video take a minute longer.

    Raises ResourceError where nothing can compile.
    """
    if backend == "inductor":
        check_compiler(network.device)
    import torch._dynamo  # late: it takes a second

    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, max(_VARIANTS, getattr(torch._dynamo.config, limit)))
    # A network's levels differ in size: left to itself, torch would take the second one for a sign that sizes change,
    # and compile for any.
    how: dict[str, Any] = {"backend": backend, "fullgraph": True, "dynamic": False}
    unet = network.denoising_unet
    unet.spatial_transformer = torch.compile(spatial_transformer, **how)
    unet.temporal_transformer = torch.compile(temporal_transformer, **how)
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            module.compile(**how)


def check_compiler(device: torch.device) -> None:
    """Raises ResourceError where nothing can compile."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # of a class that changes with torch
            raise ResourceError(
                "compiling for the CPU needs a C++ compiler such as g++: install one, or leave out --compile"
            ) from error
    elif device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ResourceError(
                "compiling for this GPU needs triton (pip install triton): install it, or leave out --compile"
            )
