"""Reading checkpoints: tensors, never code; and comparing their headers with a network before it is built."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cyberhost_model.errors import ModelError
from cyberhost_model.reading import Unreadable, one_line, open_file, read_object

M = TypeVar("M", bound=torch.nn.Module)
LARGEST_CONFIG = 1 << 22
"""Bytes of a config.json that are read; those of published models have up to 10 kB."""
LARGEST_ENTRY = 1 << 20
"""Largest whole number in another library's configuration; that of a vocabulary has 51,865."""


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file to the CPU.

    Raises OSError where it cannot be opened, and Unreadable where it is damaged or its header lies.
    """
    with open_file(path):  # a pipe would be waited for
        pass
    try:
        return load_file(path)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise Unreadable(f"is damaged: {one_line(error)}") from None


def read_shapes(path: str | Path, rename: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a safetensors file's tensors, by name, from its header alone. rename: see `load_weights`.

    Raises OSError and Unreadable as `read_safetensors` does.
    """
    with open_file(path):
        pass
    try:
        with safe_open(path, framework="pt") as file:
            return file_shapes(file, rename)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise Unreadable(f"is damaged: {one_line(error)}") from None


def check_fits(path: Path, make: Callable[[], torch.nn.Module], rename: Callable[[str], str] = str) -> None:
    """Check that the weights of a safetensors file are those of the module that `make` builds, by name and shape.

    Nothing is allocated: the module is built on the "meta" device, and of the file only the header is read. So a
    config.json that asks for a gigantic network is told before it takes memory. Raises ModelError.
    """
    try:
        found = read_shapes(path, rename)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; get the model again") from None
    except (OSError, Unreadable) as error:
        raise ModelError(f"{path} cannot be used ({one_line(error)}; damaged); get the model again") from None
    compare_shapes(path, module_shapes(on_meta(make, path.parent)), found)


_FILLS = {
    *("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_"),
    *("xavier_uniform_", "constant_", "zeros_", "ones_", "zero_", "fill_"),
}
"""Functions that fill a weight with its first values."""


class NoWeights(TorchFunctionMode):
    """Context in which layers have shapes and no weights.

    As `torch.device("meta")`, but tables that are computed are computed: on the meta device that would load torch's
    compiler, which takes longer than all the rest.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        # What layers do with their weights at the start would load the compiler on the meta device as well.
        if func is torch.norm_except_dim:
            weight, _, dim = args
            return weight.new_empty([size if i == dim else 1 for i, size in enumerate(weight.shape)])
        if func is torch._weight_norm and args[0].is_meta:
            return args[0].new_empty(args[0].shape)
        if getattr(func, "__name__", "") in _FILLS:
            weight = args[0] if args else kwargs["tensor"]
            if isinstance(weight, Tensor) and weight.is_meta:
                return weight
        return func(*args, **kwargs)


def on_meta(make: Callable[[], torch.nn.Module], folder: Path) -> torch.nn.Module:
    """Build a module whose weights are on the "meta" device, without memory.

    Raises ModelError where the configuration in `folder` describes none: the libraries that build it raise anything.
    """
    try:
        with NoWeights():
            return make()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{folder / 'config.json'} does not describe a network ({one_line(error)}); get the model again"
        ) from None


def check_entries(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """Check the numbers of a configuration that another library (transformers, diffusers) will build a network from.

    layers: how many weights the file beside it has, more than the network can have layers. Raises Unreadable for a
    number of layers above it, for other numbers that no network has, and for lists that are longer than that.
    """
    waiting: list[tuple[str, Any]] = list(config.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict | list):
            if len(value) > max(layers, 1000):
                raise Unreadable(f"{name} has {len(value)} entries")
            waiting += [(name, inner) for inner in value] if isinstance(value, list) else list(value.items())
        elif isinstance(value, int) and abs(value) > (layers if "layers" in name else LARGEST_ENTRY):
            raise Unreadable(f"{name} is too large for its {layers} weights")
    return config


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or of a pickle of torch's (.pth, .pt, .bin, .ckpt), by name, to the CPU.

    A pickle can hold code that runs when it is opened: it is read with `weights_only`, which refuses all but tensors.
    Raises ModelError for a file that is missing, damaged, or holds anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; fetch it again") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} holds more than tensors; it was not opened, since a pickle can run code. Get it as safetensors"
        ) from None
    except Exception as error:  # torch and the unpickler raise a dozen kinds for damage
        raise ModelError(f"{path} is damaged ({one_line(error)}); fetch it again") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} is no dictionary of tensors; it is of another model")
    return found


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a config.json. Raises ModelError."""
    try:
        return read_object(path, LARGEST_CONFIG)
    except (OSError, Unreadable) as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch it again") from None


def config_entry(folder: Path, *names: str) -> object:
    """Look up the first of `names` that a folder's config.json has; None where it cannot be read.

    Whoever loads the folder says what is wrong with it.
    """
    try:
        config = read_object(folder / "config.json", LARGEST_CONFIG)
    except (OSError, Unreadable):
        return None
    return next((config[name] for name in names if name in config), None)


def _can_map(path: Path) -> bool:
    """Whether it is a zip archive, which torch has written since 1.6 and which need not be read whole."""
    with open_file(path) as file:
        return file.read(4) == b"PK\x03\x04"


def load_weights(
    module: torch.nn.Module,
    path: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    rename: Callable[[str], str] = str,
) -> None:
    """Load the weights of a safetensors file into `module`, strictly; it may be on the "meta" device.

    rename: the name in `module` of a name in the file, for files with names of earlier versions. Raises
    ModelError naming missing, unexpected or misshapen keys.
    """
    try:
        with open_file(path):
            pass
        with safe_open(path, framework="pt", device=str(device)) as file:
            compare_shapes(path, module_shapes(module), file_shapes(file, rename))
            # One by one, so that the device never holds the whole file in its own precision.
            weights = {rename(key): _as(file.get_tensor(key), dtype) for key in file.keys()}
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; get the model again") from error
    except (OSError, SafetensorError, Unreadable, LookupError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({one_line(error)}); get the model again") from error
    check_kinds(path, module, weights)
    module.load_state_dict(weights, assign=True)


def build_with_weights(make: Callable[[], M], path: Path) -> M:
    """Build a module and load the weights of a safetensors file into it, in its own precision.

    They are compared by the file's header before anything is allocated (`check_fits`). Raises ModelError, OSError and
    Unreadable.
    """
    check_fits(path, make)
    module = make()
    weights = read_safetensors(path)
    check_kinds(path, module, weights)
    module.load_state_dict(weights)
    return module


def check_kinds(path: Path, module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise ModelError naming weights that are whole numbers where the module has real ones, or the other way round."""
    own = module.state_dict()
    wrong = [key for key, value in weights.items() if value.is_floating_point() != own[key].is_floating_point()]
    if problems := _some("of another kind of number", wrong):
        raise ModelError(f"{path} does not fit its config.json: {problems[0]}")


def module_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a module's weights, by name."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def file_shapes(file: safe_open, rename: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of an open file's weights, by name; only its header is read. rename: see `load_weights`."""
    return {rename(key): tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def _as(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def compare_shapes(path: Path, own: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Raise ModelError naming weights that `path` lacks, has too many or has in another shape than the module."""
    problems = [
        *_some("missing", [key for key in own if key not in found]),
        *_some("unexpected", [key for key in found if key not in own]),
        *_some("of another shape", [key for key in own if key in found and own[key] != found[key]]),
    ]
    if problems:
        raise ModelError(f"{path} does not fit its config.json: {'; '.join(problems)}")


def _some(what: str, keys: list[str], limit: int = 3) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return [f"{len(keys)} {what} ({', '.join(sorted(keys)[:limit])}{more})"]
