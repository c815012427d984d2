"""Importing diffusers and transformers without what they load beside the parts that the embedded model is made of.

Both look for optional libraries and features when they are imported: compilers, quantizers, several machines, SciPy's
statistics. That takes longer than the first frames. Here they find none of them. Only a process of the command line may
do this: a program that uses diffusers itself would miss them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIONAL = (
    "accelerate",
    "bitsandbytes",
    "librosa",
    "matplotlib",
    "numba",
    "onnx",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
)
"""Optional libraries of both; the embedded model needs none of them."""
_DYNAMO = "torch._dynamo"


def import_networks() -> None:
    """Import the libraries of networks, with no more than the embedded model needs.

    Where these versions of them cannot do without the rest, they are imported as a whole.
    """
    if any(name in sys.modules for name in ("diffusers", "transformers", _DYNAMO)):
        return  # too late to save anything
    try:
        with _absent(*OPTIONAL, "transformers"), _without_compiler():
            import_module("diffusers.models.unets.unet_motion_model")
            import_module("diffusers.models.controlnets.controlnet")
            for name in ("ddim", "dpmsolver_multistep", "flow_match_euler_discrete", "lcm"):
                import_module(f"diffusers.schedulers.scheduling_{name}")
        with _absent(*OPTIONAL), _without_compiler(), _one_machine():
            import_module("transformers.models.wav2vec2.modeling_wav2vec2")
    except (ImportError, AttributeError, RuntimeError, TypeError):
        for name in [name for name in sys.modules if name.partition(".")[0] in ("diffusers", "transformers")]:
            del sys.modules[name]


@contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Let importing these libraries fail in the block, and looking for them find nothing."""
    hidden: Sequence[str] = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "there is no such module"
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Put a module without content in the place of torch's compiler: decorators of it do nothing in the block.

    Its files can still be imported one by one.
    """
    import torch

    empty = ModuleType(_DYNAMO)
    empty.__path__ = [str(Path(torch.__file__).parent / "_dynamo")]
    empty.__getattr__ = _decorator  # type: ignore[method-assign]
    sys.modules[_DYNAMO] = empty
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == _DYNAMO or name.startswith(f"{_DYNAMO}.")]:
            del sys.modules[name]
        vars(torch).pop("_dynamo", None)  # set by the imports above; torch loads the real one where it is needed


def _decorator(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)
    return _unchanged


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    return (lambda given: given) if function is None else function


@contextmanager
def _one_machine() -> Iterator[None]:
    """Let torch say in the block that it was built without communication between processes."""
    import torch

    before = torch.distributed.is_available
    torch.distributed.is_available = lambda: False
    try:
        yield
    finally:
        torch.distributed.is_available = before
