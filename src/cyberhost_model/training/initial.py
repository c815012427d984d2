"""Where a stage's weights begin: the embedded model, a model's folder, a run or a safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import TrainingError
from ..model.checkpoint import NETWORK_FILE
from ..model_folder import EMBEDDED


def initial_weights(source: str) -> dict[str, Tensor]:
    """Weights by name. `source`: "tiny" (the embedded model's network), a model's folder, a run's (its average) or a safetensors file.

    Raises TrainingError when there are none. Public checkpoints, whose names differ, enter here too, once they have adapters.
    """
    path = Path(source)
    if path.is_file():
        file = path
    elif (path / "last").is_dir():
        file = path / "last" / "ema.safetensors"
    elif (path / NETWORK_FILE).is_file():
        file = path / NETWORK_FILE
    elif (EMBEDDED / source / NETWORK_FILE).is_file():
        file = EMBEDDED / source / NETWORK_FILE
    else:
        raise TrainingError(f"cannot start from it: {source} is no 'tiny', run, model's folder or safetensors file")
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{source}: cannot start from it ({str(error).splitlines()[0]}); give a run or a model") from error


def start_from(module: nn.Module, source: str) -> None:
    """Fill `module` with `initial_weights`, in its own precision. Raises TrainingError unless every name and shape fits."""
    weights = initial_weights(source)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))[:200]
        raise TrainingError(f"cannot start from {source}, it is not of the same preset ({first}); give a run of the same preset") from error
