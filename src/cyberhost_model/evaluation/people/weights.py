"""Filling a network with a public weight file: every number must be there, and nothing else, and nothing in the file is run."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from ...errors import ModelError
from ...hub.checkpoints import read_tensors

Net = TypeVar("Net", bound=nn.Module)


def load_weights(net: Net, path: Path) -> Net:
    """`net` in eval mode with the tensors in `path`. Raises ModelError where they cannot be read or do not fit."""
    try:
        net.load_state_dict(read_tensors(path))
    except RuntimeError as error:  # torch's list of names and shapes
        first = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: not the weights of {type(net).__name__} ({first}); fetch the file again") from None
    return net.eval().requires_grad_(False)
