"""Recorded steps compute the same as steps.

No GPU is needed: the operations of a step are kept and replayed on the tensors they were done with, as a CUDA graph
does with memory.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cyberhost_model import CyberHost, ResourceError
from cyberhost_model.config import preset
from cyberhost_model.doctor.costs import blank_job, estimate
from cyberhost_model.media.audio import Sound
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.render import Renderer
from cyberhost_model.sampler import cuda_graphs as graphs
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.guidance import Guidance
from data_helpers import voice
from model_helpers import MINI, make_network, raw_conditions

GUIDED = Guidance(2.5, 4.5, interval=(0.0, 0.6))


class Operations(TorchDispatchMode):
    """Keeps each operation with the tensors that it reads and those that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = operation(*args, **kwargs)
        self.kept.append((operation, args, kwargs, made))
        return made


def traced(step):
    with Operations() as operations:
        output = step()

    def replay():
        for operation, args, kwargs, made in operations.kept:
            again = operation(*args, **kwargs)
            for place, value in zip(tree_leaves(made), tree_leaves(again), strict=True):
                # A view, and what an operation writes in place, is of the same memory at every replay.
                if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)

    return replay, output


def clips(network, predictor=None, cache_blocks=1):
    """Three consecutive clips with different conditions, the first without motion frames."""
    made = []
    for index in range(3):
        given = raw_conditions(MINI, batch=1, seed=index)
        if index == 0:
            del given["motion_latents"]
        shape = (1, MINI.frames, MINI.latent_channels, 4, 4)
        with network.denoising_unet.fixed_weights():
            made.append(
                denoise_clip(
                    network,
                    network.conditions(**given),
                    shape,
                    steps=6,
                    guidance=GUIDED,
                    generator=torch.Generator().manual_seed(index),
                    predictor=predictor,
                    cache_blocks=cache_blocks,
                )
            )
    return torch.cat(made)


@pytest.mark.parametrize("cache_blocks", [1, 2])
@torch.no_grad()
def test_recorded_steps_are_the_steps(cache_blocks):
    """With and without motion frames, guided and not, with deep blocks computed and cached: each is recorded once."""
    network = make_network()
    records, warnings = [], []

    def record(step):
        records.append(1)
        return traced(step)

    recorded = RecordedNetwork(network, warnings.append, lambda: None, record)
    torch.testing.assert_close(
        clips(network, recorded, cache_blocks), clips(network, None, cache_blocks), rtol=1e-4, atol=1e-5
    )
    assert warnings == []
    # first clip and later ones, inside and outside the interval of guidance; with blocks kept another step, which the
    # first clip has but once
    assert len(records) == (4 if cache_blocks == 1 else 6)


@torch.no_grad()
def test_a_replayed_step_does_not_call_the_network(monkeypatch):
    network = make_network()
    recorded = RecordedNetwork(network, pytest.fail, lambda: None, traced)
    expected = clips(network)
    clips(network, recorded)
    monkeypatch.setattr(network.denoising_unet, "forward", lambda *_, **__: pytest.fail("the network is called"))
    torch.testing.assert_close(clips(network, recorded), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_where_recording_fails_steps_run_without_it():
    network = make_network()
    warnings, asked = [], []

    def record(_):
        asked.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    recorded = RecordedNetwork(network, warnings.append, lambda: None, record)
    assert torch.equal(clips(network, recorded), clips(network))
    assert asked == [1], "it is not tried again"
    assert warnings == [
        "CUDA graphs cannot be used here (operation not permitted when stream is capturing): steps are computed without"
    ]


@torch.no_grad()
def test_the_worker_is_waited_for_before_recording():
    network = make_network()
    order = []

    def record(step):
        order.append("record")
        return traced(step)

    clips(network, RecordedNetwork(network, pytest.fail, lambda: order.append("wait"), record))
    assert order == ["wait", "record"] * 4


def frames_of(host, picture):
    """Three clips, the last one of one frame. The second step of each shape is recorded; the third clip replays."""
    made = host.animate(picture, Sound.from_samples(voice(1.0), 16_000), steps=2, size=256)
    return np.stack(list(made.frames)).astype(int), made


@pytest.fixture(scope="module")
def plain(host, picture):
    """The frames of a video without recordings."""
    return frames_of(host, picture)[0]


@pytest.fixture
def recording(host, plain, monkeypatch):
    monkeypatch.setattr(graphs, "record_on_cuda", traced)
    monkeypatch.setattr(host, "cuda_graphs", True)
    return host


def test_a_video_of_recorded_steps_is_the_video(recording, plain, picture):
    frames, made = frames_of(recording, picture)
    assert np.abs(frames - plain).max() <= 1
    assert not [line for line in made.warnings if "CUDA" in line]


def test_too_little_memory_drops_recordings_first(recording, plain, picture, monkeypatch):
    decode, calls = Renderer.decode, []

    def second_fails(*given):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*given)

    monkeypatch.setattr(Renderer, "decode", second_fails)
    frames, made = frames_of(recording, picture)
    assert np.abs(frames - plain).max() <= 1
    assert [line for line in made.warnings if "memory" in line] == [
        "too little memory on cpu: steps are computed without CUDA graphs"
    ]


def test_they_are_refused_without_cuda():
    with pytest.raises(ResourceError, match="computes on cpu: leave out --cuda-graphs"):
        CyberHost.from_pretrained("tiny", device="cpu", cuda_graphs=True)


def test_on_a_gpu_steps_are_recorded_by_default_where_memory_allows(host, monkeypatch):
    with torch.device("meta"):
        large = CyberHostNetwork(preset("sd15"))
    free, cuda = [0], torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 80 * 10**9))
    assert not host.cuda_graphs and not graphs.graphs_pay_off(host.model.network, torch.device("cpu"))
    assert graphs.graphs_pay_off(host.model.network, cuda) and not graphs.graphs_pay_off(large, cuda)
    free[0] = 30 * 10**9
    assert graphs.graphs_pay_off(large, cuda)


def test_a_trial_times_recorded_steps(recording, monkeypatch):
    played = []
    monkeypatch.setattr(graphs, "record_on_cuda", lambda step: (played.append(1), traced(step))[1])
    found = estimate(recording, blank_job(recording))
    assert played and found.seconds > 0 and not found.costs.spared
