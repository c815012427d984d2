"""OnnxNetwork: a network in an ONNX file as a function of arrays, run by onnxruntime (extra `face`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cyberhost_model.errors import ModelError, need

Network = Callable[[np.ndarray], Sequence[np.ndarray]]
"""One input -> all outputs in their order."""
EXTRA = "face"
"""Extra of the package that brings onnxruntime and insightface."""
_CUDA = "CUDAExecutionProvider"


def execution_providers(device: str | torch.device) -> list[Any]:
    """Name where onnxruntime is to compute for a device of torch: on that GPU where it can, else on the CPU.

    Raises ResourceError without onnxruntime.
    """
    place, ort = torch.device(device), need("onnxruntime", EXTRA)
    if place.type != "cuda" or _CUDA not in ort.get_available_providers():
        return ["CPUExecutionProvider"]
    return [(_CUDA, {"device_id": place.index or 0}), "CPUExecutionProvider"]


def gpu_hint(device: str | torch.device) -> list[str]:
    """Tell how ONNX networks come to compute on the GPU where `device` is one and onnxruntime knows none."""
    place = torch.device(device)
    if place.type != "cuda" or find_spec("onnxruntime") is None or len(execution_providers(place)) > 1:
        return []
    return [
        "key points and faces are found on the CPU, because this onnxruntime knows no GPU: pip uninstall onnxruntime, "
        "then pip install onnxruntime-gpu"
    ]


def session_options() -> Any:
    """Make the options of a session: as many threads as torch has, errors alone on stderr."""
    options = need("onnxruntime", EXTRA).SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    return options


class OnnxNetwork:
    """An ONNX file with one input. `input_shape`: its dimensions, None for those that may vary."""

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        """Load the file for `device`, see `execution_providers`.

        Raises ModelError, and ResourceError without onnxruntime.
        """
        self.path, self.providers = path, execution_providers(device)
        self.session = self._open()
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs where one is expected; it is another network")
        self.name = inputs[0].name
        self.input_shape = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)

    def to(self, device: str | torch.device) -> OnnxNetwork:
        """Compute on another device from now on, as far as onnxruntime can."""
        if (wanted := execution_providers(device)) != self.providers:
            self.providers = wanted
            self.session = self._open()
        return self

    def _open(self) -> Any:
        ort = need("onnxruntime", EXTRA)
        if len(self.providers) > 1:
            getattr(ort, "preload_dlls", lambda: None)()  # CUDA's libraries, where torch brought them
        try:
            return ort.InferenceSession(str(self.path), session_options(), providers=self.providers)
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ModelError(
                f"{self.path}: not an ONNX network that can be run ({str(error).splitlines()[0][:160]}); fetch the "
                "file again"
            ) from None

    def __call__(self, x: np.ndarray) -> Sequence[np.ndarray]:
        """Compute the outputs of float32 `x` of the input's shape.

        A batch goes through one by one where the file's batch is fixed.
        """
        if self.input_shape[0] in (None, len(x)):
            return self.session.run(None, {self.name: np.ascontiguousarray(x, np.float32)})
        runs = [self(x[i : i + 1]) for i in range(len(x))]
        return [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]
