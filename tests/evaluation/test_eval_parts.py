"""Measures of face and hands alone, LPIPS, KID, and what changes from frame to frame."""

from __future__ import annotations

import itertools
import math

import eval_degradations
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from eval_helpers import features_of, moving, noisy, sample, write
from torch import nn

from cyberhost_model.errors import ModelError
from cyberhost_model.lab.evaluation.features.regions import crop
from cyberhost_model.lab.evaluation.features.temporal import FrameChanges
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics import fid, kid, lpips
from cyberhost_model.lab.evaluation.metrics.kid import kernel_distance, unbiased_mmd
from cyberhost_model.lab.evaluation.networks.lpips import TAPS, Lpips
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.perception.keypoints import Keypoints


def test_kid_is_the_sum_over_all_pairs():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 3)), random.normal(size=(4, 3)) + 1

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert unbiased_mmd(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kid_has_no_bias_and_does_not_depend_on_the_size():
    """Of one distribution the mean over draws is 0; of two it is the same for few and many vectors."""
    random = np.random.default_rng(1)
    means, errors = {}, {}
    for n, shift in itertools.product((8, 64), (0.0, 1.0)):
        draws = [unbiased_mmd(random.normal(size=(n, 8)), random.normal(size=(n, 8)) + shift) for _ in range(400)]
        means[n, shift], errors[n, shift] = np.mean(draws), np.std(draws) / 20
    for n in (8, 64):
        assert abs(means[n, 0.0]) < 4 * errors[n, 0.0]
    assert abs(means[8, 1.0] - means[64, 1.0]) < 4 * math.hypot(errors[8, 1.0], errors[64, 1.0])
    assert means[64, 1.0] > 20 * errors[64, 1.0]


def test_kid_of_many_vectors_is_a_mean_over_subsets(monkeypatch):
    monkeypatch.setattr(kid, "SUBSET", 60)
    random = np.random.default_rng(2)
    samples = [
        sample(name, generated={"x": random.normal(size=(n, 4)) + 0.5}, ground_truth={"x": random.normal(size=(n, 4))})
        for name, n in (("a", 70), ("b", 60))
    ]
    found = kernel_distance(samples, lambda s, role: s.features[role]["x"], 0, "frames")
    whole = unbiased_mmd(
        *(np.concatenate([s.features[role]["x"] for s in samples]) for role in ("generated", "ground_truth"))
    )
    assert found.extras["n_frames"] == 130 and 0 < found.extras["deviation"] < whole
    assert found.value == pytest.approx(whole, abs=2 * found.extras["deviation"])
    few = kernel_distance([], lambda s, role: s.features[role]["x"], 0, "frames")
    assert math.isnan(few.value) and "fewer than two frames" in few.reason


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory):
    """A folder with both files in their published layout, filled with random numbers."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = Lpips()
    trunk = {f"features.{k}": v for k, v in network.features.state_dict().items()}
    torch.save({**trunk, "classifier.1.weight": torch.zeros(2, 2)}, folder / lpips.WEIGHTS[0])
    heads = {f"lin{i}.model.1.weight": torch.rand(1, w.shape[1], 1, 1) for i, w in enumerate(network.heads)}
    torch.save(heads, folder / lpips.WEIGHTS[1])
    return folder


def test_lpips_is_the_sum_over_layers(lpips_files):
    trunk, heads = (torch.load(lpips_files / name, weights_only=True) for name in lpips.WEIGHTS)
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 140, 130, 3)).astype(np.uint8)

    def features(picture):
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((torch.from_numpy(picture) / 255 - mean) / deviation).permute(2, 0, 1)[None].float()
        for i, (stride, pad, pool) in zip(
            (0, 3, 6, 8, 10), ((4, 2, 0), (1, 2, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0)), strict=True
        ):
            x = F.max_pool2d(x, 3, 2) if pool else x
            x = F.relu(F.conv2d(x, trunk[f"features.{i}.weight"], trunk[f"features.{i}.bias"], stride, pad))
            yield F.normalize(x, dim=1)

    expected = sum(
        float(((x - y) ** 2 * heads[f"lin{i}.model.1.weight"]).sum(1).mean())
        for i, (x, y) in enumerate(zip(features(a), features(b), strict=True))
    )
    distance = lpips.PictureDistance(Lpips.from_files(*(lpips_files / name for name in lpips.WEIGHTS)))
    assert TAPS == (1, 4, 7, 9, 11) and distance(a, b) == pytest.approx(expected, rel=2e-3)  # published shift: 3 digits
    assert distance(a, a) == 0
    steps = [distance(a, noisy(a, amount)) for amount in (4, 16, 64)]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_lpips_without_its_weights_is_refused_in_one_line(tmp_path, lpips_files, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("CYBERHOST_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="is not on this machine; `cyberhost weights pull alexnet` fetches it$"):
        lpips.build(Context(download=False))
    with pytest.raises(ModelError, match="not the weights of LPIPS"):
        Lpips.from_files(lpips_files / lpips.WEIGHTS[1], lpips_files / lpips.WEIGHTS[0])


def test_a_crop_is_cut_off_at_the_edge():
    frame = np.arange(40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8)
    assert (crop(frame, (-5, 2.4, 20, 40.6)) == frame[2:40, :20]).all()
    assert crop(frame, (-20, 0, 10, 40)) is None and crop(frame, (40, 0, 80, 40)) is None


@pytest.fixture(scope="module")
def speakers():
    """A person both of whose hands are seen."""
    return eval_degradations.render_speakers((5,), 3)


def test_each_region_answers_for_itself(speakers, lpips_files, tmp_path):
    """What is done to the hands alone leaves the face's measures, and the other way round."""
    clip = speakers[0]
    truth = eval_degradations.write_videos(tmp_path / "truth", [clip])
    height = clip.frames.shape[1]
    chin = int(max(f.keypoints.face[:, 1].max() for f in clip.source.frames) * height) + 4
    value = {}
    for name, rows in (("face", slice(0, chin)), ("hands", slice(chin, height))):
        frames = clip.frames.copy()
        frames[:, rows] = noisy(frames[:, rows], 40)
        made = eval_degradations.SpeakerClip(frames, clip.sound, clip.source)
        folder, cache = eval_degradations.write_videos(tmp_path / name, [made]), tmp_path / "cache"
        names = ["SSIM-face", "LPIPS"]
        run = evaluate(folder, truth, metrics=names, weights_dir=lpips_files, download=False, cache=cache, device="cpu")
        assert all(m.status == "ok" for m in run.results.metrics), [m.reason for m in run.results.metrics]
        value |= {(name, m.name): m.value for m in run.results.metrics}
    for own, other in (("face", "hands"), ("hands", "face")):
        assert value[own, f"SSIM-{own}"] < value[own, f"SSIM-{other}"] - 0.15
        assert value[own, f"LPIPS-{own}"] > 2 * value[own, f"LPIPS-{other}"]


class Colours(nn.Module):
    """Stands for Inception: 2048 numbers of a picture, its colours at 26 x 26 places."""

    def forward(self, x):
        return F.pad(F.adaptive_avg_pool2d(x, 26).flatten(1), (0, 20))


class Upper:
    """Stands for the detector: a face in the upper half of a bright frame, no hands."""

    digest = "upper"

    def __call__(self, frame):
        person = Keypoints.empty()
        person.face[:] = np.random.default_rng(0).uniform((0.3, 0.1), (0.7, 0.4), (68, 2))
        person.face_score[:] = 0.9 if frame.mean() > 20 else 0.0
        return person


def test_fid_and_kid_of_a_region_are_of_its_crops():
    crops = fid.InceptionRegions(Colours(), "x", Upper())
    frames = moving(0, 8)
    frames[3] = 0
    lower, upper = frames.copy(), frames.copy()
    lower[:, -8:], upper[:, :25] = noisy(frames[:, -8:], 60), noisy(frames[:, :25], 60)
    truth = features_of(crops, frames)
    assert truth["face"].shape == (7, 2048) and truth["hands"].shape == (0, 2048) and truth["seen"].tolist() == [7, 0]
    found = {}
    for name, made in (("lower", lower), ("upper", upper)):
        one = sample("a", generated=features_of(crops, made), ground_truth=truth)
        found[name] = fid.RegionFid(crops, "x").measure_set([one], 0)
    assert found["lower"]["FID-face"].value == pytest.approx(0, abs=1e-4)
    assert found["upper"]["FID-face"].value > 0.1
    assert found["lower"]["KID-face"].value < found["upper"]["KID-face"].value
    assert found["upper"]["FID-face"].extras["seen_share"] == 7 / 8
    assert math.isnan(found["upper"]["FID-hands"].value) and found["upper"]["FID-hands"].reason == "no video has crops"


def test_flicker_of_noise_is_that_of_two_draws():
    """The difference of two draws of deviation s has the mean 2 s / sqrt(pi); a picture that stands still has none."""
    still = moving(0, 1, (192, 128)).repeat(8, 0)
    found = features_of(FrameChanges(), still)
    assert found["flicker"].tolist() == [0] * 7 and found["speed"].max() < 0.05 and found["change"].tolist() == [0] * 7
    levels = []
    for deviation in (2.0, 4.0):
        noise = np.random.default_rng(0).normal(0, deviation, still.shape)
        frames = np.clip(still + noise, 0, 255).round().astype(np.uint8)
        levels.append(features_of(FrameChanges(), frames)["flicker"].mean() / (2 * deviation / math.sqrt(math.pi)))
    assert levels == pytest.approx([1, 1], abs=0.15)


def test_dynamics_is_the_speed_of_what_moves():
    """All pixels go 2 pixels to the left: that is no flicker, and twice as fast is twice as much."""
    slow = features_of(FrameChanges(), moving(3, 12, (192, 128)))
    fast = features_of(FrameChanges(), moving(3, 24, (192, 128))[::2])
    assert slow["speed"].mean() == pytest.approx(2, abs=0.3) and fast["speed"].mean() == pytest.approx(4, abs=0.6)
    assert slow["flicker"].mean() < 0.25 * slow["change"].mean()


def test_the_speed_of_a_video_is_in_pixels_of_the_protocol(tmp_path):
    frames = moving(3, 12, (192, 128))
    values = {}
    for name, fps in (("a", 25), ("b", 50)):
        results = evaluate(
            write(tmp_path / f"{name}.mp4", frames, fps), metrics=["temporal"], cache=tmp_path / "c"
        ).results
        values[name] = {m.name: m.value for m in results.metrics}
    assert values["a"]["Dynamics"] == pytest.approx(2 * 640 / 128, rel=0.2)
    assert values["b"]["Dynamics"] == pytest.approx(2 * values["a"]["Dynamics"], rel=0.05)
    assert max(values["a"]["Flicker"], values["b"]["Flicker"]) < 0.1  # of motion alone nothing flickers
