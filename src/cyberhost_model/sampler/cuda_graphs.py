"""CUDA graphs: what a step asks of the GPU is recorded once and asked for again as a whole, at every step and clip of
the same shapes.

That pays where the GPU waits for Python: most for the embedded model, one branch, small pictures, and wherever the
processor has other work.
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
"""(a step that reads tensors which stay where they are) -> (what computes it again, where its output then lies).

Raises RuntimeError.
"""

_SMALL = 200_000_000
"""Parameters.

The embedded network has 14 million, and makes a video in six tenths of the time; the full-size one has 2.2 thousand
million, and gains from a fiftieth to two fifths, by how few the branches are and what else wants the processor
(docs/reference/performance.md).
"""
_ROOM = 12_000_000_000
"""Bytes free on the device beside a large network: a step at 640x384 with two branches wants 2 GB, and each of a
video's two or three recordings holds its own.
"""


def graphs_pay_off(network: CyberHostNetwork, device: torch.device) -> bool:
    """Whether steps on `device`, where the network is, are recorded if nobody says: where a GPU would wait for Python,
    and holds what that takes.
    """
    if device.type != "cuda":
        return False
    return (
        sum(weights.numel() for weights in network.parameters()) < _SMALL or torch.cuda.mem_get_info(device)[0] > _ROOM
    )


class RecordedNetwork:
    """Stands for the network while the clips of one video are denoised: shapes that come a second time are recorded.

    Must be called inside `DenoisingUNet.fixed_weights`, with weights that stay where they are. Where recording fails,
    `tell` takes a line for the user and everything is computed in the ordinary way. settle: called before recording;
    waits until no other thread uses the GPU.
    """

    def __init__(
        self,
        network: CyberHostNetwork,
        tell: Callable[[str], None],
        settle: Callable[[], None],
        record: Recorder | None = None,
    ) -> None:
        self._network, self._tell, self._settle = network, tell, settle
        self._record: Recorder | None = record or record_on_cuda
        self._recordings: dict[tuple, _Recording | None] = {}

    def __call__(
        self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None = None
    ) -> DenoiserOutput:
        """As the network; what comes out is the caller's own and without predictions for supervision."""
        if self._record is None:
            return self._network(noisy, timestep, conditions, deep=deep)
        key = _shapes(noisy, timestep, conditions, deep)
        if key not in self._recordings:
            self._recordings[key] = None
            return self._network(noisy, timestep, conditions, deep=deep)
        if self._recordings[key] is None:
            self._settle()
            try:
                self._recordings[key] = _Recording(self._network, noisy, timestep, conditions, deep, self._record)
            except RuntimeError as error:
                self.drop()
                self._tell(
                    f"CUDA graphs cannot be used here ({str(error).splitlines()[0]}): steps are computed without"
                )
                return self._network(noisy, timestep, conditions, deep=deep)
        return self._recordings[key](noisy, timestep, conditions, deep)  # type: ignore[misc]

    def drop(self) -> bool:
        """Give up recordings and their memory for good; whether there were any to give up."""
        had, self._record = self._record is not None, None
        self._recordings.clear()
        return had


class _Recording:
    def __init__(
        self,
        network: CyberHostNetwork,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        deep: Tensor | None,
        record: Recorder,
    ) -> None:
        self._noisy, self._timestep, self._deep = (
            noisy.clone(),
            timestep.clone(),
            None if deep is None else deep.clone(),
        )
        self._conditions = conditions.apply(torch.clone)
        self._given = weakref.ref(conditions)
        # Those of a later clip are other tensors with the same numbers; the recording reads these, so they must stay.
        self._codebooks = network.denoising_unet.cached_codebooks()
        self._replay, self._output = record(
            lambda: network(self._noisy, self._timestep, self._conditions, deep=self._deep)
        )

    def __call__(self, noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> DenoiserOutput:
        if self._given() is not conditions:  # once a clip
            for old, new in zip(self._conditions.tensors().values(), conditions.tensors().values(), strict=True):
                old.copy_(new)
            self._given = weakref.ref(conditions)
        self._noisy.copy_(noisy)
        self._timestep.copy_(timestep)
        if self._deep is not None and deep is not None:
            self._deep.copy_(deep)
        self._replay()
        made = self._output
        return DenoiserOutput(made.prediction.clone(), deep=None if made.deep is None else made.deep.clone())


def record_on_cuda(step: Callable[[], DenoiserOutput]) -> tuple[Callable[[], None], DenoiserOutput]:
    """A `Recorder`.

    Raises RuntimeError where the step cannot be recorded, or computes something else when played back.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(
        side
    ):  # libraries make themselves ready for a stream at its first use, which must not be recorded
        expected = step().prediction
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        output = step()
    graph.replay()
    if not torch.allclose(output.prediction.float(), expected.float(), rtol=1e-2, atol=1e-2):
        raise RuntimeError("a recorded step gave other numbers")
    return graph.replay, output


def _shapes(noisy: Tensor, timestep: Tensor, conditions: Conditions, deep: Tensor | None) -> tuple:
    """What two steps must have in common for one recording to serve both."""
    tensors = {"noisy": noisy, "timestep": timestep, **conditions.tensors()} | ({} if deep is None else {"deep": deep})
    return (
        tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()),
        conditions.reference_present,
        conditions.motion_present,
        conditions.regions,
    )
