"""Inception and I3D: layouts of the public files, the same function when fused, higher distances of worse videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from eval_helpers import alive, blurred, features_of, moving, noisy, sample
from PIL import Image

from cyberhost_model.errors import ModelError
from cyberhost_model.lab.evaluation.metrics.fid import Fid, InceptionFrames, clean_input, legacy_input, resize_clean
from cyberhost_model.lab.evaluation.metrics.fvd import Fvd, I3DClips, clip_input, clip_starts
from cyberhost_model.lab.evaluation.networks.frozen import fuse_batchnorm
from cyberhost_model.lab.evaluation.networks.i3d import I3D, _same
from cyberhost_model.lab.evaluation.networks.inception import Inception


@pytest.fixture(scope="module")
def inception() -> Inception:
    return alive(Inception(), (2, 3, 299, 299))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def i3d() -> I3D:
    return alive(I3D(), (1, 3, 16, 224, 224))  # type: ignore[return-value]


def test_layouts_of_the_public_files() -> None:
    state = Inception().state_dict()
    assert len(state) == 566 and sum(v.numel() for k, v in state.items() if "num_batches" not in k) == 23_885_392
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Mixed_6b.branch7x7dbl_2.conv.weight"].shape == (128, 128, 7, 1) and state["fc.weight"].shape == (
        1008,
        2048,
    )
    state = I3D().state_dict()
    assert len(state) == 344 and state["Mixed_4f.b2b.conv3d.weight"].shape == (128, 32, 3, 3, 3)
    assert state["logits.conv3d.bias"].shape == (400,) and state["Conv3d_1a_7x7.bn.running_var"].shape == (64,)


@torch.inference_mode()
def test_public_weights_are_read_and_folded(inception: Inception, tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    torch.save(
        {k: v for k, v in inception.state_dict().items() if "num_batches" not in k}, path
    )  # older files do not count batches
    x = clean_input(moving(0, 1))
    np.testing.assert_allclose(Inception.from_file(path)(x), inception(x), rtol=1e-4, atol=1e-3)
    with pytest.raises(ModelError, match="not the weights of I3D"):
        I3D.from_file(path)


@torch.inference_mode()
def test_i3d_folded(i3d: I3D) -> None:
    copy = I3D()
    copy.load_state_dict(i3d.state_dict())
    x = clip_input(moving(0, 16)).transpose(0, 1)[None]
    known = i3d(x)
    assert known.shape == (1, 400)
    np.testing.assert_allclose(fuse_batchnorm(copy)(x), known, rtol=1e-4, atol=1e-4)


def test_same_padding_is_tensorflows() -> None:
    x = torch.ones(1, 1, 16, 224, 7)
    assert _same(x, (7, 7, 7), (2, 2, 2)).shape[2:] == (21, 229, 13)
    assert _same(torch.ones(1, 1, 8, 1, 1), (2, 1, 1), (2, 1, 1)).shape[2:] == (8, 1, 1)
    padded = _same(torch.ones(1, 1, 1, 1, 4), (1, 1, 3), (1, 1, 2))
    assert padded.flatten().tolist() == [1, 1, 1, 1, 0]  # the odd zero goes at the end


def test_ways_to_299() -> None:
    frame = moving(0, 1, (700, 500))[0]
    clean = resize_clean(frame)
    assert clean.shape == (3, 299, 299) and clean.dtype == np.float32 and 0 <= clean.min() and clean.max() <= 255
    rounded = np.asarray(Image.fromarray(frame).resize((299, 299), Image.Resampling.BICUBIC), float)
    assert np.abs(clean.transpose(1, 2, 0) - rounded).max() < 1.1  # Pillow's, without its rounding of rows and columns
    assert float(clean_input(frame[None]).min()) >= -1
    checks = np.kron(np.indices((300, 300)).sum(0) % 2, np.ones((1, 1)))[..., None].repeat(3, 2).astype(np.uint8) * 255
    fine = np.tile(checks, (2, 2, 1))  # black and white pixels in turn: grey, where nothing aliases
    assert clean_input(fine[None]).std() < 0.01 < legacy_input(fine[None]).std()


def test_places_of_clips() -> None:
    assert clip_starts(16, 4) == [0] and clip_starts(15, 4) == [] and clip_starts(18, 4) == [0, 1, 2]
    assert clip_starts(76, 4) == [0, 20, 40, 60] and clip_starts(101, 1) == [43]


def test_what_i3d_is_given() -> None:
    """Frames of any aspect are stretched to 224x224, black is -1 and white 1."""
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, 50:] = 255
    x = clip_input(frames)
    assert x.shape == (2, 3, 224, 224)
    np.testing.assert_allclose(x[..., :110], -1, atol=1e-6)
    np.testing.assert_allclose(x[..., 114:], 1, atol=1e-6)


def test_batches_do_not_matter(inception: Inception, i3d: I3D) -> None:
    frames = moving(0, 20)
    clips = I3DClips(i3d, "0", 1)
    one, other = features_of(clips, frames, 16), features_of(clips, frames, 7)
    assert one["logits"].shape == (1, 400)
    np.testing.assert_allclose(one["logits"], other["logits"], rtol=1e-4, atol=1e-4)
    assert features_of(clips, frames[:15])["logits"].shape == (0, 400)
    looks = InceptionFrames(inception, "0")
    one, other = features_of(looks, frames[:3], 3), features_of(looks, frames[:3], 2)
    assert one["clean"].shape == (3, 2048) and not np.allclose(one["clean"], one["legacy"])
    np.testing.assert_allclose(one["clean"], other["clean"], rtol=1e-4, atol=1e-4)


def test_fid_rises(inception: Inception) -> None:
    looks = InceptionFrames(fuse_batchnorm(inception), "0")
    frames = moving(0, 9)[::4]
    truth = features_of(looks, frames)
    for worse, amounts in ((noisy, (2, 12)), (blurred, (1, 6))):
        made = [features_of(looks, worse(frames, amount)) for amount in amounts]
        steps = [Fid(looks, "0").measure_set([sample("a", generated=m, ground_truth=truth)], 0) for m in made]
        for measure in ("FID", "FID-legacy"):
            assert 0 < steps[0][measure].value < steps[1][measure].value, (worse, measure)


def test_fvd_rises(i3d: I3D) -> None:
    looks = I3DClips(fuse_batchnorm(i3d), "0", 1)
    truth = [features_of(looks, moving(i, 16)) for i in range(2)]
    steps = []
    for amount in (2, 20):
        made = [features_of(looks, noisy(moving(i, 16), amount)) for i in range(2)]
        value = Fvd(looks, "0").measure_set(
            [sample(str(i), generated=g, ground_truth=t) for i, (g, t) in enumerate(zip(made, truth, strict=True))], 0
        )
        steps.append(value["FVD"].value)
    assert steps[0] < steps[1]
