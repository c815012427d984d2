"""OnnxNetwork: a network in an ONNX file as a function of arrays, run by onnxruntime (extra `eval`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cyberhost_model.errors import ModelError, need

Network = Callable[[np.ndarray], Sequence[np.ndarray]]
"""One input -> all outputs in their order."""


class OnnxNetwork:
    """An ONNX file with one input. `input_shape`: its dimensions, None for those that may vary."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """Load the file with as many threads as torch has.

        A GPU is used for `device` "cuda" where onnxruntime has one. Raises ModelError, and ResourceError without
        onnxruntime.
        """
        ort = need("onnxruntime", "eval")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        wanted = (
            ["CUDAExecutionProvider", "CPUExecutionProvider"] if device.startswith("cuda") else ["CPUExecutionProvider"]
        )
        try:
            self.session = ort.InferenceSession(
                str(path), options, providers=[p for p in wanted if p in ort.get_available_providers()]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ModelError(
                f"{path}: not an ONNX network that can be run ({str(error).splitlines()[0][:160]}); fetch the file "
                "again"
            ) from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs where one is expected; it is another network")
        self.name = inputs[0].name
        self.input_shape = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)

    def __call__(self, x: np.ndarray) -> Sequence[np.ndarray]:
        """Compute the outputs of float32 `x` of the input's shape.

        A batch goes through one by one where the file's batch is fixed.
        """
        if self.input_shape[0] in (None, len(x)):
            return self.session.run(None, {self.name: np.ascontiguousarray(x, np.float32)})
        runs = [self(x[i : i + 1]) for i in range(len(x))]
        return [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]
