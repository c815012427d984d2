"""Too little memory: a clip is tried again with less, and the frames stay the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from cyberhost_model import CyberHost, ResourceError
from cyberhost_model.codecs.sd_vae import SdVaeCodec
from cyberhost_model.errors import lacks_memory
from cyberhost_model.media.audio import Sound
from cyberhost_model.runtime.memory import MemoryFallback
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from data_helpers import voice
from model_helpers import MINI, make_network, noisy_clip, raw_conditions

GUIDED = {"steps": 1, "size": 256, "guidance_reference": 2.5, "guidance_audio": 4.5}


@pytest.fixture(scope="module")
def plain(host, picture) -> np.ndarray:
    """Frames made with enough memory: a clip and one frame of a second."""
    return np.stack(list(animation(host, picture).frames))


def animation(host, picture):
    return host.animate(picture, Sound.from_samples(voice(0.52), 16_000), **GUIDED)


def limited(function, size, most: int):
    """Make `function` run out of memory where the size of its first argument exceeds `most`."""

    def called(first, *others, **named):
        if size(first) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(first, *others, **named)

    return called


@torch.no_grad()
def test_branches_one_by_one_are_the_same_prediction():
    network = make_network()
    noisy, timestep = noisy_clip()
    conditions = network.conditions(**raw_conditions())
    together = GuidedConditions(conditions, Guidance(2.5, 4.5)).predict(network, noisy, timestep)
    sizes = []

    def watched(noisy, timestep, conditions):
        sizes.append(len(noisy))
        return network(noisy, timestep, conditions)

    alone = GuidedConditions(conditions, Guidance(2.5, 4.5, one_by_one=True)).predict(watched, noisy, timestep)
    assert sizes == [2, 2, 2] and Guidance(2.5, 4.5).branches == 3
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


def test_a_network_that_takes_one_branch_at_a_time(host, picture, plain, monkeypatch):
    unet = host.model.network.denoising_unet
    monkeypatch.setattr(unet, "forward", limited(unet.forward, len, 1))
    made = animation(host, picture)
    frames = np.stack(list(made.frames))
    assert np.abs(frames.astype(int) - plain).max() <= 1
    assert [w for w in made.warnings if "memory" in w] == [w for w in made.warnings if "one after the other" in w] != []


def test_a_codec_that_takes_three_frames_at_a_time(host, picture, plain, monkeypatch):
    decoder = host.model.codec.decoder
    monkeypatch.setattr(host.model.codec, "decoder", lambda *given: limited(decoder(*given), lambda z: z.shape[1], 3))
    made = animation(host, picture)
    frames = np.stack(list(made.frames))
    assert np.abs(frames.astype(int) - plain).max() <= 1
    assert [w.rsplit(" ", 4)[1:] for w in made.warnings if "decoded" in w] == [
        ["6", "at", "a", "time"],
        ["3", "at", "a", "time"],
    ]


def test_a_speech_encoder_that_fails_in_the_second_clip(host, picture, plain, monkeypatch):
    """The features continue with the clip that failed."""
    from cyberhost_model.runtime.render import Renderer

    windows, failed = Renderer.stream_speech, []

    def failing(self, *given):
        for i, window in enumerate(windows(self, *given)):
            if i == 12 and not failed:
                failed.append(i)
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield window

    monkeypatch.setattr(Renderer, "stream_speech", failing)
    monkeypatch.setattr(MemoryFallback, "_next_saving", lambda self, part: f"less of {part}")
    made = animation(host, picture)
    assert np.array_equal(np.stack(list(made.frames)), plain)
    assert made.warnings[-1].endswith("less of speech")


def test_no_saving_left(host, picture, monkeypatch):
    monkeypatch.setattr(host.model.network.denoising_unet, "forward", limited(None, len, 0))
    with pytest.raises(ResourceError, match="not enough memory on cpu"):
        next(animation(host, picture).frames)


def test_other_errors_are_not_memory():
    assert lacks_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert lacks_memory(RuntimeError("MPS backend out of memory")) and lacks_memory(MemoryError())
    assert not lacks_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    "message",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_cudas_libraries_have_messages_of_their_own(message):
    assert lacks_memory(RuntimeError(message)) and not lacks_memory(ValueError(message))


class Part(torch.nn.Module):
    """A module that records the device it was moved to."""

    def __init__(self):
        super().__init__()
        self.at = "cuda"

    def to(self, device):
        self.at = str(device)
        return self


def test_on_a_gpu_parts_that_do_not_compute_go_to_the_cpu():
    """The order of savings and the devices of the parts, without a GPU."""
    tiles = []
    codec = SdVaeCodec(Part())
    codec.vae.enable_tiling, codec.vae.disable_tiling = lambda: tiles.append(True), tiles.clear
    codec.to = Part.to.__get__(codec)
    model = SimpleNamespace(network=Part(), codec=codec, speech=Part(), detector=Part(), image=None, face=Part())
    model.network.preset = MINI
    memory, warnings, tries = MemoryFallback(model, torch.device("cuda"), branches=3), [], []  # type: ignore[arg-type]

    def fails(times: int):
        def action():
            tries.append(1)
            if len(tries) <= times:
                raise torch.OutOfMemoryError
            return {name: part.at for name, part in vars(model).items() if part is not None}

        return action

    codec.at = "cuda"
    cuda_calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "empty_cache", lambda: cuda_calls.append(1))
        where = memory.attempt("network", fails(2), warnings.append)
        assert where == {"network": "cuda", "codec": "cpu", "speech": "cpu", "detector": "cpu", "face": "cpu"}
        assert [
            "one after the other" in warnings[0],
            "machine's memory" in warnings[1],
            len(warnings),
            len(cuda_calls),
        ] == [
            True,
            True,
            2,
            2,
        ]
        tries.clear()
        where = memory.attempt("codec", fails(3), warnings.append)
        assert where["network"] == "cpu" and where["codec"] == "cuda"
        assert memory.frames_at_once == 1 and tiles == [True] and "seams" in warnings[-1]
        tries.clear()
        with pytest.raises(ResourceError, match="--device cpu"):
            memory.attempt("codec", fails(9), warnings.append)


def test_on_an_apple_gpu_its_memory_is_given_back_between_tries(monkeypatch):
    freed, tries = [], []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: freed.append(1))
    model = SimpleNamespace(network=Part(), codec=Part(), speech=Part(), detector=Part(), image=None, face=Part())
    model.network.preset, model.codec.can_tile, model.codec.frames_at_once = MINI, False, 4

    def action():
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)")
        return "made"

    memory = MemoryFallback(model, torch.device("mps"), branches=2)  # type: ignore[arg-type]
    assert memory.attempt("network", action, lambda line: None) == "made" and freed == [1]


@torch.no_grad()
def test_a_frame_decoded_in_tiles_is_nearly_the_frame():
    torch.manual_seed(0)
    codec = SdVaeCodec(
        AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            sample_size=32,
            latent_channels=4,
        ).eval()
    )
    codec.vae.tile_latent_min_size, codec.vae.tile_sample_min_size = 16, 32
    # Stationary noise, so that a tile has the statistics of the whole, which the norms divide by.
    z, picture = torch.randn(1, 1, 4, 40, 56), torch.zeros(1, 3, 80, 112)
    whole, sizes = codec.decode(z, picture), []
    codec.vae.decoder.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[-2:]))
    codec.vae.enable_tiling()
    tiled = codec.decode(z, picture)
    assert len(sizes) > 4 and all(max(size) <= 16 for size in sizes)
    assert (
        tiled.shape == whole.shape == (1, 1, 3, 80, 112)
        and torch.corrcoef(torch.stack([tiled.flatten(), whole.flatten()]))[0, 1] > 0.95
    )


def test_a_model_or_a_picture_that_does_not_fit(host, picture, monkeypatch):
    """Before the first clip there is no saving."""

    def none(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("cyberhost_model.runtime.pipeline.load_model", none)
        with pytest.raises(ResourceError, match="not enough memory on cpu to load the model"):
            CyberHost.from_pretrained("tiny", device="cpu")
    monkeypatch.setattr("cyberhost_model.runtime.pipeline.prepare_reference", none)
    with pytest.raises(ResourceError, match="to read the picture: end other programs"):
        animation(host, picture)
