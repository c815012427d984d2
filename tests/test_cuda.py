"""What only a GPU can show; without one these tests are skipped.

Elsewhere the same is tested with stand-ins (test_memory_fallback, test_sampler_graphs).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyberhost_model import CyberHost, ModelError
from cyberhost_model.lab.evaluation.metrics.psnr import psnr
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.media.audio import Sound
from cyberhost_model.model.norms import ChannelsLastGroupNorm
from data_helpers import voice
from training_helpers import RandomStage

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
GUIDED = {"steps": 3, "size": 256, "guidance_reference": 1.5, "guidance_audio": 2.5}


@pytest.fixture(scope="module")
def fast() -> CyberHost:
    """The embedded model in half precision, its steps not recorded."""
    return CyberHost.from_pretrained("tiny", device="cuda", cuda_graphs=False)


def frames_of(host, picture, **options) -> tuple[np.ndarray, list[str]]:
    """Three clips."""
    made = host.animate(picture, Sound.from_samples(voice(1.2), 16_000), **{**GUIDED, **options})
    return np.stack(list(made.frames)), made.warnings


def test_half_precision_shows_what_the_cpu_shows(host, fast, picture):
    assert fast.dtype is torch.bfloat16
    assert psnr(frames_of(host, picture)[0], frames_of(fast, picture)[0]) > 40


def test_numbers_out_of_range_are_told(picture):
    """The Reference Net's grow beyond what fp16 holds; of that black frames were made."""
    with pytest.raises(ModelError, match="latents are not finite in float16: give --precision bf16 or fp32"):
        frames_of(CyberHost.from_pretrained("tiny", device="cuda", precision="fp16"), picture)


def test_decoding_beside_denoising_changes_nothing(fast, picture):
    assert fast.overlap
    beside = frames_of(fast, picture)[0]
    fast.overlap = False
    try:
        assert np.array_equal(frames_of(fast, picture)[0], beside)
    finally:
        fast.overlap = True


def test_steps_of_the_embedded_model_are_recorded_by_themselves():
    assert CyberHost.from_pretrained("tiny", device="cuda").cuda_graphs


@pytest.mark.parametrize("options", [{}, {"guidance_interval": (0.0, 0.6), "cache_blocks": 2}])
def test_recorded_steps_show_the_same(fast, picture, options):
    plain = frames_of(fast, picture, **options)[0]
    fast.cuda_graphs = True
    try:
        recorded, told = frames_of(fast, picture, **options)
    finally:
        fast.cuda_graphs = False
    assert not told and psnr(plain, recorded) > 50


def test_too_little_memory_is_told_and_changes_nothing(fast, picture):
    """The card is made smaller than the job wants, but not than it needs."""
    plain = frames_of(fast, picture)[0]
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    frames_of(fast, picture)
    wanted = torch.cuda.max_memory_reserved() - held
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((held + 0.7 * wanted) / whole)
        spared, told = frames_of(fast, picture)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("too little memory on cuda" in line for line in told), told
    assert psnr(plain, spared) > 45


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_goes_on(tmp_path, precision):
    config = {
        "lr": 1e-3,
        "warmup": 0,
        "workers": 0,
        "log_every": 1,
        "device": "cuda",
        "precision": precision,
        "gradient_checkpointing": True,
        "optimizer": "adamw-fused",
    }
    train(RandomStage(), tmp_path, LoopConfig(steps=2, **config))
    last = train(RandomStage(), tmp_path, LoopConfig(steps=4, **config))
    assert (last / "ema.safetensors").is_file() and len((tmp_path / "curves.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("shape", [(6, 12, 96, 64, 320), (24, 80, 48, 320), (24, 10, 6, 1280)])
def test_norms_of_channels_that_lie_last_say_what_full_precision_says_and_stay_so(shape):
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(shape, device="cuda", generator=generator).mul(3).add(2).half().movedim(-1, 1)
    norm = torch.nn.GroupNorm(32, shape[-1], device="cuda")
    with torch.inference_mode():
        expected = norm(x.float())
        made = ChannelsLastGroupNorm.of(norm.half())(x)
    assert (made.float() - expected).norm() / expected.norm() < 5e-4
    assert made.movedim(1, -1).is_contiguous() or x.numel() < 1 << 22
