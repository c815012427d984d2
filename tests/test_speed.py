"""Optimisations leave the frames as they are, or as near as docs/reference/performance.md states."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cyberhost_model import CyberHost, InputError, ResourceError
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.audio import Sound
from cyberhost_model.model.compiling import compile_blocks
from cyberhost_model.runtime.background import BackgroundWorker
from cyberhost_model.runtime.render import Renderer
from cyberhost_model.sampler.denoise import BlockCache, denoise_clip
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.onnx_steps import ExportedNetwork, check_onnx
from data_helpers import voice
from model_helpers import FULL, MINI, make_network, raw_conditions

QUICK = {"steps": 1, "size": 256}


def clip(network, config=MINI, **options):
    """Four guided steps, the first two of them outside the interval."""
    conditions = network.conditions(**raw_conditions(config, batch=1))
    guidance = Guidance(2.5, 4.5, interval=(0.0, 0.6))
    shape = (1, config.frames, config.latent_channels, 4, 4)
    return denoise_clip(
        network, conditions, shape, steps=4, guidance=guidance, generator=torch.Generator().manual_seed(1), **options
    )


@torch.no_grad()
def test_codebooks_computed_once_are_the_same():
    network = make_network()
    plain = clip(network)
    with network.denoising_unet.fixed_weights():
        kept = clip(network)
        for parameter in network.denoising_unet.regions.parameters():
            parameter.zero_()
    assert torch.equal(kept, plain)
    assert not torch.equal(clip(network), plain), "outside they follow the weights again"


def frames_of(host, picture, seconds=1.0, **options):
    made = host.animate(picture, Sound.from_samples(voice(seconds), 16_000), **{**QUICK, **options})
    return np.stack(list(made.frames)), made


@torch.no_grad()
@pytest.mark.parametrize("cache_blocks", [1, 2])
def test_exported_steps_compute_the_same(cache_blocks, monkeypatch):
    """The first clip is the network's, the second exports its steps, and the third is onnxruntime's alone."""
    network = make_network()
    exported = ExportedNetwork(network, pytest.fail)
    with network.denoising_unet.fixed_weights():
        plain, _ = (clip(network, predictor=exported, cache_blocks=cache_blocks) for _ in range(2))
        monkeypatch.setattr(network, "forward", None)
        torch.testing.assert_close(clip(network, predictor=exported, cache_blocks=cache_blocks), plain)


def test_onnxruntime_is_for_fp32_on_a_cpu():
    check_onnx(torch.device("cpu"), torch.float32)
    with pytest.raises(ResourceError, match="computes in bfloat16 on cpu: leave out --onnx"):
        check_onnx(torch.device("cpu"), torch.bfloat16)


@torch.no_grad()
def test_what_cannot_be_exported_is_computed_and_told(monkeypatch):
    network, lines = make_network(), []
    exported = ExportedNetwork(network, lines.append)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with network.denoising_unet.fixed_weights():
        first, second = (clip(network, predictor=exported) for _ in range(2))
    assert torch.equal(first, second)
    assert lines == ["onnxruntime cannot be used here (division by zero): steps are computed without"]


@torch.no_grad()
def test_compiled_blocks_compute_the_same():
    """The graph is captured whole, for each width, with and without motion frames; no code is generated here."""
    network = make_network(FULL)
    plain = clip(network, FULL)
    keys = list(network.state_dict())
    compile_blocks(network, backend="eager")
    torch.testing.assert_close(clip(network, FULL), plain, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == keys


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    from torch._inductor import cpp_builder

    def none():
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    network = make_network()
    with pytest.raises(ResourceError, match=r"C\+\+ compiler such as g\+\+.*leave out --compile"):
        compile_blocks(network)


@torch.no_grad()
def test_channels_last_computes_the_same():
    network = make_network(FULL)
    plain = clip(network, FULL)
    network.to(memory_format=torch.channels_last)
    assert network.denoising_unet.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(clip(network, FULL), plain, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_block_caching_computes_the_deep_blocks_at_every_nth_step():
    network = make_network()
    deep, shallow = [], []
    unet = network.denoising_unet.unet
    hooks = [
        unet.mid_block.resnets[0].register_forward_hook(lambda *_: deep.append(1)),
        unet.conv_in.register_forward_hook(lambda *_: shallow.append(1)),
    ]
    plain = clip(network)
    assert len(deep) == len(shallow) == 4
    deep.clear()
    cached = clip(network, cache_blocks=2)
    # two steps without guidance and two with: each batch computes its first and keeps it for its second
    assert (len(deep), len(shallow)) == (2, 8)
    for hook in hooks:
        hook.remove()
    assert 0 < (cached - plain).abs().mean() < 0.1 * plain.std()
    assert torch.equal(clip(network, cache_blocks=1), plain)


@torch.no_grad()
def test_a_cached_step_on_the_same_input_is_the_step():
    """With the same input at two steps, cached blocks lose nothing."""
    network = make_network()
    conditions = network.conditions(**raw_conditions(batch=1))
    noisy, timestep = torch.randn(1, MINI.frames, 4, 4, 4), torch.tensor([400.0])
    cache = BlockCache(network, 3)
    first, again = (cache(step, noisy, timestep, conditions).prediction for step in range(2))
    torch.testing.assert_close(again, first, rtol=1e-5, atol=1e-6)


def test_deep_features_are_recomputed_at_every_nth_step():
    """Plain, guided in an interval, and plain again: each batch recomputes its own features after `every` steps."""
    given = []

    def network(noisy, timestep, conditions, deep=None):
        given.append(deep)
        return SimpleNamespace(deep=len(given) - 1 if deep is None else deep)

    cache, plain, guided = BlockCache(network, 2), object(), object()
    for step, conditions in enumerate((plain, guided, guided, guided, plain, plain, guided)):
        cache(step, None, None, conditions)
    assert given == [None, None, 1, None, None, 4, None]


def test_a_video_with_cached_blocks_is_near_the_same(host, picture):
    plain, _ = frames_of(host, picture, 0.2, steps=8)
    cached, _ = frames_of(host, picture, 0.2, steps=8, cache_blocks=2)
    error = np.square(cached.astype(float) - plain).mean()
    assert error > 0 and 10 * np.log10(255**2 / error) > 30
    with pytest.raises(InputError, match="cache_blocks must be between 1 and"):
        frames_of(host, picture, 0.1, cache_blocks=0)


@pytest.fixture
def overlapping(host, monkeypatch):
    monkeypatch.setattr(host, "overlap", True)
    return host


@pytest.fixture(scope="module")
def plain(host, picture):
    """Three clips, the last one of one frame, decoded one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "overlap", False)
        return frames_of(host, picture)[0]


def test_decoding_while_denoising_gives_the_same_frames(overlapping, plain, picture, monkeypatch):
    threads = []
    decode = Renderer.decode
    monkeypatch.setattr(
        Renderer, "decode", lambda *given: (threads.append(threading.current_thread()), decode(*given))[1]
    )
    overlapped, _ = frames_of(overlapping, picture)
    assert np.array_equal(overlapped, plain)
    assert [t is threading.main_thread() for t in threads] == [True, False, False]


def test_the_file_is_the_same_to_the_byte(overlapping, picture, tmp_path, monkeypatch):
    written = []
    for overlap in (True, False):
        monkeypatch.setattr(overlapping, "overlap", overlap)
        made = overlapping.animate(picture, Sound.from_samples(voice(1.0), 16_000), **QUICK)
        # A signature names its time, and is another every time.
        written.append(made.save(tmp_path / f"{overlap}.mp4", marks=Marks(c2pa=False)).read_bytes())
    assert written[0] == written[1]


def test_an_error_in_the_worker_ends_the_video_and_the_thread(overlapping, picture, monkeypatch, tmp_path):
    decode, calls = Renderer.decode, []

    def third_fails(*given):
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("broken codec")
        return decode(*given)

    monkeypatch.setattr(Renderer, "decode", third_fails)
    made = overlapping.animate(picture, Sound.from_samples(voice(2.0), 16_000), **QUICK)
    with pytest.raises(ValueError, match="broken codec"):
        made.save(tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name.startswith(("beside", "frames to"))]


def test_ctrl_c_in_the_middle_leaves_no_file_and_no_thread(overlapping, picture, tmp_path):
    def stop(done, total):
        if done == 20:
            raise KeyboardInterrupt

    made = overlapping.animate(picture, Sound.from_samples(voice(2.0), 16_000), **QUICK)
    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "video.mp4", progress=stop)
    made.frames.close()
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name.startswith(("beside", "frames to"))]


def test_too_little_memory_for_both_at_once_decodes_first(overlapping, plain, picture, monkeypatch):
    decode, failed = Renderer.decode, []

    def fails_in_a_thread(*given):
        if threading.current_thread() is not threading.main_thread():
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*given)

    monkeypatch.setattr(Renderer, "decode", fails_in_a_thread)
    frames, made = frames_of(overlapping, picture)
    assert np.array_equal(frames, plain) and failed == [1], "it is not tried again"
    assert [line for line in made.warnings if "decoded before the next one is begun" in line]

    forward, calls = overlapping.model.network.denoising_unet.forward, []

    def second_fails(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*given, **named)

    monkeypatch.setattr(Renderer, "decode", decode)
    monkeypatch.setattr(overlapping.model.network.denoising_unet, "forward", second_fails)
    frames, made = frames_of(overlapping, picture)
    assert np.array_equal(frames, plain)
    assert [line for line in made.warnings if "decoded before the next one is begun" in line]


def test_a_video_in_bf16_is_near_the_same(picture):
    hosts = (CyberHost.from_pretrained("tiny", device="cpu", precision=precision) for precision in ("fp32", "bf16"))
    made = [frames_of(host, picture, 0.04)[0].astype(float) for host in hosts]  # one frame: most CPUs emulate bf16
    assert 35 < 10 * np.log10(255**2 / np.square(made[0] - made[1]).mean()) < 100


def test_a_worker_does_one_thing_at_a_time():
    going = []

    def work(name):
        going.append(name)
        assert len(going) == 1
        time.sleep(0.02)
        going.pop()
        return name

    with BackgroundWorker() as worker:
        futures = [worker.start(lambda name=name: work(name)) for name in "abc"]
        worker.settle()
        assert all(f.done() for f in futures) and [f.result() for f in futures] == ["a", "b", "c"]


def test_each_network_runs_once_where_once_is_enough(host, picture):
    """Three clips of two steps: reference and speech once a video, motion frames once a clip, the U-Net once a step."""
    network, calls = host.model.network, dict.fromkeys(("reference", "speech", "unet"), 0)

    def counted(name):
        return lambda *_: calls.update({name: calls[name] + 1})

    hooks = [
        network.reference_net.register_forward_hook(counted("reference")),
        network.denoising_unet.register_forward_hook(counted("unet")),
        host.model.speech.register_forward_hook(counted("speech")),
    ]
    try:
        list(host.animate(picture, Sound.from_samples(voice(1.0), 16_000), steps=2, size=256).frames)
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == {"reference": 1 + 2, "speech": 1, "unet": 3 * 2}
