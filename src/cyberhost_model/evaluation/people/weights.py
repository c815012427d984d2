"""Filling a network with a public weight file: every number must be there, and nothing else, and nothing in the file is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ...errors import ModelError

Net = TypeVar("Net", bound=nn.Module)


def load_weights(net: Net, path: Path) -> Net:
    """`net` in eval mode with the state dict in `path`, a pickle read with weights_only. Raises ModelError where that cannot be or does not fit."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, AttributeError, LookupError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"{path}: not the weights of {type(net).__name__} ({first}); fetch the file again") from None
    return net.eval().requires_grad_(False)
