"""Regional torch.compile: repeated blocks are compiled once for each width, not the network as a whole.

The wait is then short and the weights keep their names. diffusers' `compile_repeated_blocks` compiles the transformer
blocks' own forward, which `DenoisingUNet` does not call; so the two functions of `model.attention` that run their
layers are compiled, and diffusers' residual blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D

from cyberhost_model.errors import ResourceError
from cyberhost_model.model.attention import spatial_transformer, temporal_transformer
from cyberhost_model.model.network import CyberHostNetwork

_VARIANTS = 1024
"""Most compiled variants of one function: by width, size, motion frames and batch; a video has some twenty.

torch raises an error beyond this limit.
"""


def compile_blocks(network: CyberHostNetwork, backend: str = "inductor") -> None:
    """Compile the repeated blocks of the Denoising U-Net; the first steps of a video then take a minute longer.

    Raises ResourceError without a compiler for the network's device.
    """
    if backend == "inductor":
        check_compiler(network.device)
    import torch._dynamo  # late: it takes a second

    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, max(_VARIANTS, getattr(torch._dynamo.config, limit)))
    # Levels of the network differ in size. By default torch would take the second level for a sign that sizes vary, and
    # compile a slower variant for any size.
    options: dict[str, Any] = {"backend": backend, "fullgraph": True, "dynamic": False}
    unet = network.denoising_unet
    unet.spatial_transformer = torch.compile(spatial_transformer, **options)
    unet.temporal_transformer = torch.compile(temporal_transformer, **options)
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            module.compile(**options)


def check_compiler(device: torch.device) -> None:
    """Raise ResourceError without a compiler for `device`."""
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
