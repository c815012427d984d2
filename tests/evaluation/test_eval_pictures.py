"""SSIM and PSNR against the values of the protocol and against scikit-image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from eval_helpers import blurred, moving, noisy, sample
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.metrics.compared_frames import ComparedFrames, FrameMean
from cyberhost_model.lab.evaluation.metrics.psnr import CAP, psnr
from cyberhost_model.lab.evaluation.metrics.ssim import ssim

SETTINGS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.mark.parametrize("size", [(11, 11), (33, 20), (64, 96)])
def test_ssim_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(2))
    assert abs(ssim(a, b) - structural_similarity(a, b, data_range=255, channel_axis=2, **SETTINGS)) < 1e-12
    x = moving(0, 1)[0] / 255
    y = np.clip(x + random.normal(0, 0.1, x.shape), 0, 1)
    assert abs(ssim(x, y, 1.0) - structural_similarity(x, y, data_range=1.0, channel_axis=2, **SETTINGS)) < 1e-12


def test_ssim_of_known_pictures() -> None:
    zero, one = np.zeros((32, 32)), np.ones((32, 32))
    picture = moving(0, 1)[0]
    assert ssim(picture, picture) == pytest.approx(1.0, abs=1e-12)
    assert ssim(zero, one, 1.0) == pytest.approx(9.99900e-5, abs=1e-10)
    assert ssim(0.5 * one, 0.6 * one, 1.0) == pytest.approx(0.98360924, abs=5e-9)
    assert ssim(picture, noisy(picture, 9)) == ssim(picture.astype(float), noisy(picture, 9).astype(float))
    with pytest.raises(InputError, match="at least 11"):
        ssim(picture[:10], picture[:10])


def test_psnr_of_known_pictures() -> None:
    picture = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(picture, picture + np.uint8(1)) == pytest.approx(48.1308, abs=5e-5)
    assert psnr(np.zeros((8, 8)), np.full((8, 8), 0.1), 1.0) == pytest.approx(20.0, abs=1e-9)
    assert psnr(picture, picture) == CAP == 100
    white = np.full((16, 16, 3), 255, np.uint8)
    assert psnr(white, np.zeros_like(white)) == pytest.approx(0.0, abs=1e-12)  # 0 - 255 does not run over


def test_psnr_is_that_of_scikit_image() -> None:
    a, b = moving(0, 1)[0], moving(1, 1)[0]
    known = peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=255)
    assert abs(psnr(a, b) - known) < 1e-5
    assert psnr(a, b) == pytest.approx(psnr(a.astype(float), b.astype(float)), abs=1e-12)


@pytest.mark.parametrize("worse", [noisy, blurred])
def test_worse_pictures_fall(worse) -> None:
    frames = moving(3, 3)
    for measure in (ssim, psnr):
        steps = [
            np.mean([measure(a, b) for a, b in zip(worse(frames, amount), frames, strict=True)])
            for amount in (0, 2, 4, 8)
        ]
        assert all(a > b for a, b in itertools.pairwise(steps)), (measure, steps)


def test_frames_are_averaged_not_their_errors() -> None:
    reference = moving(0, 2)
    generated = np.stack([noisy(reference[0], 3), noisy(reference[1], 60)])
    frames = ComparedFrames("psnr", 1, psnr)
    frames.begin(None)  # type: ignore[arg-type]
    frames.push(generated, reference)
    value = FrameMean("PSNR", frames).measure_video(sample("a", pair=frames.finish()))["PSNR"]
    each = [psnr(a, b) for a, b in zip(generated, reference, strict=True)]
    assert value.value == pytest.approx(np.mean(each)) and abs(value.value - psnr(generated, reference)) > 1
    assert value.coverage == pytest.approx(2 / 16)
    assert value.series["frame"].tolist() == each
