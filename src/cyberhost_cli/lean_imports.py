"""Importing diffusers and transformers without what they load beside the parts that the embedded model is made of.

Both look for optional libraries and features when they are imported: compilers, quantizers, several machines, SciPy's
statistics; and they list, or import, every model that they know. That takes longer than the first frames. Here they
find none of the former and leave out the latter. Only a process of the command line may do this: a program that uses
diffusers itself would miss them.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
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
        with _uncollected(), _absent(*OPTIONAL, "transformers"), _without_compiler():
            import_module("diffusers.models")
            _postpone("diffusers.models.transformers")
            import_module("diffusers.models.unets.unet_motion_model")
            import_module("diffusers.models.controlnets.controlnet")
            for name in ("ddim", "dpmsolver_multistep", "flow_match_euler_discrete", "lcm"):
                import_module(f"diffusers.schedulers.scheduling_{name}")
        with _uncollected(), _absent(*OPTIONAL), _without_compiler(), _one_machine():
            package: Any = _postpone("transformers")
            package.__version__ = version("transformers")
            _postpone("transformers.models")
            # One of its modules would run the `__init__` by this function.
            utils: Any = import_module("transformers.utils")
            utils.direct_transformers_import = lambda folder: package
            import_module("transformers.models.wav2vec2.modeling_wav2vec2")
    except (ImportError, AttributeError, RuntimeError, TypeError):
        for name in [name for name in sys.modules if name.partition(".")[0] in ("diffusers", "transformers")]:
            del sys.modules[name]


class _Postponed(ModuleType):
    """A package whose modules can be imported before its `__init__` has run: that runs when it is asked for a name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = f"{self.__name__}.{name}"
        if find_spec(module) is not None:
            return import_module(module)
        if sys.modules[self.__name__] is self:
            assert self.__spec__ is not None and self.__spec__.loader is not None
            self.__class__ = ModuleType  # type: ignore[assignment]  # from now on what is missing is missing
            self.__spec__.loader.exec_module(self)
        if (whole := sys.modules[self.__name__]) is not self:  # `__init__` has put another module in its place
            self.__class__ = _Postponed
        return getattr(whole, name)


def _postpone(package: str) -> ModuleType:
    """Put a package in its place without running its `__init__`; returns it."""
    spec = find_spec(package)
    if spec is None:
        raise ImportError(package)
    sys.modules[package] = module = module_from_spec(spec)
    module.__class__ = _Postponed
    parent, _, name = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], name, module)
    return module


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be looked for in the block: what is imported stays, and is looked through again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


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
