"""Denoising steps run by onnxruntime (extra `onnx`): what that gains on a CPU is in docs/reference/performance.md.

A step is exported for the shapes of a clip's conditions, in memory; the numbers are the network's but for rounding.
"""

from __future__ import annotations

import io
import warnings
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cyberhost_model.errors import ResourceError, need
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.perception.onnx_network import session_options
from cyberhost_model.sampler.cuda_graphs import step_shapes, step_tensors

EXTRA = "onnx"
"""Extra of the package that brings onnx and onnxruntime."""
_OPSET = 20  # the first with GELU
_KEPT = 8  # exported steps of a model; the oldest goes first
_TOLERANCE = 1e-3  # of an exported step against the network's, relative and absolute


def check_onnx(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ResourceError where steps cannot be run by onnxruntime: not on this device, or without the libraries."""
    if device.type != "cpu" or dtype != torch.float32:
        raise ResourceError(
            f"onnxruntime is for fp32 on a CPU, and this computes in {str(dtype).removeprefix('torch.')} on "
            f"{device.type}: leave out --onnx"
        )
    for library in ("onnx", "onnxruntime"):
        need(library, EXTRA)


class ExportedNetwork:
    """Predicts denoising steps in place of the network, by onnxruntime from the second clip of the same shapes on.

    Exporting takes some ten seconds, so the first clip of a video, which has no motion frames, runs as usual. It must
    be called inside `DenoisingUNet.fixed_weights`. Where exporting fails, `warn` is called with a line for the user
    and all steps run as usual.
    """

    def __init__(self, network: CyberHostNetwork, warn: Callable[[str], None], steps: Exported | None = None) -> None:
        """Begin a video; steps: those that earlier videos of the network exported, to which its own are added."""
        self._network, self._warn = network, warn
        self._works = True
        self._first: dict[tuple, weakref.ref[Conditions]] = {}  # shapes -> the first clip's conditions
        self._steps = {} if steps is None else steps

    def __call__(
        self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None = None
    ) -> DenoiserOutput:
        """Predict a step as the network does, without predictions for supervision."""
        key = step_shapes(noisy, timestep, conditions, deep)
        if key in self._steps:
            return self._steps[key](noisy, timestep, conditions, deep)
        output = self._network(noisy, timestep, conditions, deep=deep)
        first = self._first.setdefault(key, weakref.ref(conditions))
        if self._works and first() is not conditions:
            try:
                step = ExportedStep(self._network, noisy, timestep, conditions, deep)
                step.check(output, noisy, timestep, conditions, deep)
                while len(self._steps) >= _KEPT:
                    del self._steps[next(iter(self._steps))]
                self._steps[key] = step
            except Exception as error:  # of a class that changes with torch and onnxruntime
                self._works = False
                reason = str(error).strip().partition("\n")[0][:160] or type(error).__name__
                self._warn(f"onnxruntime cannot be used here ({reason}): steps are computed without")
        return output


class ExportedStep:
    """A step of fixed shapes as an onnxruntime session."""

    def __init__(
        self,
        network: CyberHostNetwork,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        deep: Tensor | None,
    ) -> None:
        inputs = step_tensors(noisy, timestep, conditions, deep)
        file = io.BytesIO()
        # Not in inference mode, whose tensors cannot be constants of a graph.
        with torch.inference_mode(False), torch.no_grad(), network.denoising_unet.fixed_weights():
            example = tuple(value.clone() for value in inputs.values())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    _StepOfTensors(network, conditions.apply(torch.clone), deep is not None),
                    example,
                    file,
                    input_names=list(inputs),
                    output_names=["prediction", "features"],
                    opset_version=_OPSET,
                    dynamo=False,
                )
        self._session = need("onnxruntime", EXTRA).InferenceSession(
            file.getvalue(), session_options(), providers=["CPUExecutionProvider"]
        )
        self._read = {entry.name for entry in self._session.get_inputs()}

    def __call__(self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> DenoiserOutput:
        """Predict a step of the same shapes."""
        given = step_tensors(noisy, timestep, conditions, deep)
        arrays = {name: value.contiguous().numpy() for name, value in given.items() if name in self._read}
        prediction, features = self._session.run(None, arrays)
        return DenoiserOutput(torch.from_numpy(prediction), deep=torch.from_numpy(features))

    def check(self, expected: DenoiserOutput, *step: Tensor | Conditions | None) -> None:
        """Raise ValueError where the session computes something else than the network did."""
        found = self(*step)  # type: ignore[arg-type]
        if not torch.allclose(found.prediction, expected.prediction, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError("an exported step gave other numbers")


Exported = dict[tuple, ExportedStep]
"""Shapes of a step -> the step."""


class _StepOfTensors(nn.Module):
    """The network's step as a function of tensors alone: those of `step_tensors`, in their order."""

    def __init__(self, network: CyberHostNetwork, conditions: Conditions, takes_deep: bool) -> None:
        super().__init__()
        self.network, self.conditions, self.takes_deep = network, conditions, takes_deep

    def forward(self, noisy: Tensor, timestep: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        left = list(rest)
        deep = left.pop() if self.takes_deep else None
        values = iter(left)
        output = self.network(noisy, timestep, self.conditions.apply(lambda own: next(values, own)), deep=deep)
        assert output.deep is not None
        return output.prediction, output.deep
