"""CUDA graphs: the GPU's work of a denoising step is recorded once and replayed at later steps of the same shapes.

A replay needs one call from Python instead of thousands. It pays off where the GPU would wait for Python: most for the
embedded model, for a single guidance branch and small pictures, and on a busy processor.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput
from cyberhost_model.model.network import CyberHostNetwork

Recorder = Callable[[Callable[[], DenoiserOutput]], tuple[Callable[[], None], DenoiserOutput]]
"""Records a step that reads tensors at fixed addresses -> (its replay, the output that each replay overwrites).

Raises RuntimeError where the step cannot be recorded.
"""

_SMALL_NETWORK = 200_000_000
"""Parameters of a network for which graphs always pay off.

The embedded network has 14 million and then makes a video in 0.6 of the time. The full-size one has 2.2 thousand
million and gains between 0.02 and 0.4, most with few branches and a busy processor (docs/reference/performance.md).
"""
_FREE_MEMORY = 12_000_000_000
"""Free bytes on the device from which a larger network is recorded.

A step at 640x384 with two branches takes 2 GB, and each of a video's two or three recordings holds as much.
"""


def graphs_pay_off(network: CyberHostNetwork, device: torch.device) -> bool:
    """Return whether steps on `device`, where the network is, should be recorded by default."""
    if device.type != "cuda":
        return False
    if sum(weights.numel() for weights in network.parameters()) < _SMALL_NETWORK:
        return True
    return torch.cuda.mem_get_info(device)[0] > _FREE_MEMORY


class RecordedNetwork:
    """Predicts the denoising steps of one video in place of the network, by recordings where shapes repeat.

    The first step of new shapes runs as usual, the second is recorded, later ones are replayed. It must be called
    inside `DenoisingUNet.fixed_weights`, with weights that stay at their addresses. Where recording fails, `warn` is
    called with a line for the user and all steps run as usual.
    """

    def __init__(
        self,
        network: CyberHostNetwork,
        warn: Callable[[str], None],
        wait_for_worker: Callable[[], None],
        record: Recorder | None = None,
    ) -> None:
        """Start without recordings.

        wait_for_worker: called before recording; waits until no other thread uses the GPU. record: by default
        `record_on_cuda`.
        """
        self._network, self._warn, self._wait_for_worker = network, warn, wait_for_worker
        self._record: Recorder | None = record or record_on_cuda
        self._recordings: dict[tuple, _Recording | None] = {}
        """Shapes -> their recording, None after the first step."""

    def __call__(
        self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None = None
    ) -> DenoiserOutput:
        """Predict a step as the network does, without predictions for supervision."""
        if self._record is None:
            return self._network(noisy, timestep, conditions, deep=deep)
        key = step_shapes(noisy, timestep, conditions, deep)
        if key not in self._recordings:
            self._recordings[key] = None
            return self._network(noisy, timestep, conditions, deep=deep)
        recording = self._recordings[key]
        if recording is None:
            self._wait_for_worker()
            try:
                recording = _Recording(self._network, noisy, timestep, conditions, deep, self._record)
            except RuntimeError as error:
                self.drop()
                self._warn(
                    f"CUDA graphs cannot be used here ({str(error).splitlines()[0]}): steps are computed without"
                )
                return self._network(noisy, timestep, conditions, deep=deep)
            self._recordings[key] = recording
        return recording(noisy, timestep, conditions, deep)

    def drop(self) -> bool:
        """Free all recordings and stop recording; returns whether it was recording until now."""
        was_recording, self._record = self._record is not None, None
        self._recordings.clear()
        return was_recording


class _Recording:
    """A recorded step: its inputs at fixed addresses, into which each call copies, and its replay."""

    def __init__(
        self,
        network: CyberHostNetwork,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        deep: Tensor | None,
        record: Recorder,
    ) -> None:
        self._noisy, self._timestep = noisy.clone(), timestep.clone()
        self._deep = None if deep is None else deep.clone()
        self._conditions = conditions.apply(torch.clone)
        self._copied = weakref.ref(conditions)
        # The recording reads the codebooks at the addresses of this clip. A later clip computes the same numbers
        # elsewhere, so these must be kept.
        self._codebooks = network.denoising_unet.cached_codebooks()
        self._replay, self._output = record(
            lambda: network(self._noisy, self._timestep, self._conditions, deep=self._deep)
        )

    def __call__(self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> DenoiserOutput:
        """Copy the inputs, replay, and copy the output, which the next replay overwrites."""
        if self._copied() is not conditions:  # once a clip
            for own, given in zip(self._conditions.tensors().values(), conditions.tensors().values(), strict=True):
                own.copy_(given)
            self._copied = weakref.ref(conditions)
        self._noisy.copy_(noisy)
        self._timestep.copy_(timestep)
        if self._deep is not None and deep is not None:
            self._deep.copy_(deep)
        self._replay()
        output = self._output
        return DenoiserOutput(output.prediction.clone(), deep=None if output.deep is None else output.deep.clone())


def record_on_cuda(step: Callable[[], DenoiserOutput]) -> tuple[Callable[[], None], DenoiserOutput]:
    """Record a step as a CUDA graph, and check the first replay; see `Recorder`.

    Raises RuntimeError where the step cannot be recorded, or computes something else when it is replayed.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    # Libraries initialise themselves at a stream's first use, which cannot be recorded: so one step runs before.
    with torch.cuda.stream(stream):
        expected = step().prediction
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        output = step()
    graph.replay()
    if not torch.allclose(output.prediction.float(), expected.float(), rtol=1e-2, atol=1e-2):
        raise RuntimeError("a recorded step gave other numbers")
    return graph.replay, output


def step_tensors(noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> dict[str, Tensor]:
    """List what a step reads, by name; `deep` comes last."""
    cached = {} if deep is None else {"deep": deep}
    return {"noisy": noisy, "timestep": timestep, **conditions.tensors(), **cached}


def step_shapes(noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> tuple:
    """List what two steps must have in common for one recording to serve both."""
    tensors = step_tensors(noisy, timestep, conditions, deep)
    return (
        tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()),
        conditions.reference_present,
        conditions.motion_present,
        conditions.regions,
    )
