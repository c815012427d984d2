"""Overlapping windows: their frames, the mean of their predictions, and the conditions of frames in any order."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cyberhost_model.config import DiffusionConfig, SamplingConfig
from cyberhost_model.errors import InputError
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.runtime.pose_source import PoseCondition, consecutive, poses_of
from cyberhost_model.runtime.windowed import WindowPredictor
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.schedule import Schedule
from cyberhost_model.sampler.windows import denoise_windows, draw_window_noise, plan_windows
from cyberhost_model.speech.encoder import frame_windows
from cyberhost_model.speech.feature_file import FeatureFile
from model_helpers import FULL, make_network, noisy_clip, raw_conditions

SAMPLING = SamplingConfig("diffusers-ddim", 4, 2.5, 2.5, overlap=1, window_shift=2, noise_limit=1.5)
PRESET = dataclasses.replace(
    FULL,
    codec="sd-vae",
    latent_factor=8,
    motion_frames=0,
    face_state=False,
    pose_pool=1,
    diffusion=DiffusionConfig("v", beta_schedule="linear", zero_terminal_snr=True),
    sampling=SAMPLING,
)


def noise(total: int, seed: int = 0) -> torch.Tensor:
    return draw_window_noise(PRESET, total, (4, 4), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("total", "size", "overlap"), [(13, 12, 3), (50, 12, 3), (60, 24, 4), (7, 3, 1), (240, 12, 3)])
@pytest.mark.parametrize("shift", [0, 3, 1000])
def test_windows_cover_a_video_and_go_round(total, size, overlap, shift):
    windows = plan_windows(total, size, overlap, shift)
    assert len(windows) == -(-total // (size - overlap)) and all(len(set(window)) == size for window in windows)
    seen = np.bincount(np.concatenate(windows), minlength=total)
    assert len(seen) == total and seen.min() >= 1 and seen.max() <= 3
    for window, following in zip(windows, windows[1:], strict=False):
        assert list(window[size - overlap :]) == list(following[:overlap])
    assert all((b - a) % total == 1 for window in windows for a, b in zip(window, window[1:], strict=False))


def test_a_short_video_is_one_window():
    assert plan_windows(5, 12, 3) == [[0, 1, 2, 3, 4]] and plan_windows(12, 12, 3) == [list(range(12))]
    assert plan_windows(5, 12, 3, shift=3) == [[3, 4, 0, 1, 2]]
    with pytest.raises(InputError, match="shorter than one video frame"):
        plan_windows(0, 12, 3)


def test_noise_is_limited_and_fixed_by_the_seed():
    assert noise(9).shape == (1, 9, 4, 4, 4) and noise(9).abs().max() == 1.5
    assert torch.equal(noise(9), noise(9)) and not torch.equal(noise(9), noise(9, 1))
    free = dataclasses.replace(PRESET, sampling=dataclasses.replace(SAMPLING, noise_limit=0.0))
    plain = draw_window_noise(free, 40, (4, 4), torch.Generator().manual_seed(0))  # drawn in three pieces
    drawn = torch.randn(1, 4, 40, 4, 4, generator=torch.Generator().manual_seed(0))  # as diffusers' pipelines draw
    assert torch.equal(plain, drawn.transpose(1, 2)) and plain.abs().max() > 1.5


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_network_that_sees_frames_alone_needs_no_windows(at_once):
    """Windows change nothing where a frame's prediction does not depend on its window; and no batch is larger."""
    sizes, guided = [], []

    def predict(noisy, timestep, windows, acts):
        sizes.append(len(noisy))
        guided.append(acts)
        assert noisy.shape[1:] == (3, 4, 4, 4) and timestep.shape == (len(noisy),) and len(windows) == len(noisy)
        return torch.sin(noisy * 3 + timestep.view(-1, 1, 1, 1, 1) / 500)

    made = denoise_windows(PRESET, noise(8), predict, guided=lambda t: t > 500, at_once=at_once)
    z, schedule = noise(8), Schedule(PRESET.diffusion, SAMPLING)
    for timestep in schedule.timesteps:
        z = schedule.step(torch.sin(z * 3 + timestep / 500), timestep, z)
    torch.testing.assert_close(made, z, rtol=1e-4, atol=1e-4)
    assert max(sizes) == min(at_once, 4) and guided == [*[True] * (len(guided) // 2), *[False] * (len(guided) // 2)]


@pytest.mark.parametrize("sampler", ["ddim", "diffusers-ddim", "dpm++"])
def test_denoising_goes_on_after_any_step(sampler):
    """Where the steps remember nothing; a sampler of several steps keeps none."""
    preset = dataclasses.replace(PRESET, sampling=dataclasses.replace(SAMPLING, sampler=sampler))
    kept = {}

    def predict(noisy, timestep, windows, acts):
        return torch.sin(noisy * 3 + timestep.view(-1, 1, 1, 1, 1) / 500)

    made = denoise_windows(preset, noise(8), predict, keep=lambda taken, z: kept.update({taken: z.clone()}))
    assert list(kept) == ([] if sampler == "dpm++" else [1, 2, 3])
    for taken, z in kept.items():
        assert torch.equal(denoise_windows(preset, z, predict, taken=taken), made)


def test_where_windows_overlap_is_the_mean_of_their_predictions():
    sampling = dataclasses.replace(SAMPLING, window_shift=0)
    found = []

    def predict(noisy, timestep, windows, acts):
        value = torch.tensor([float(window[0]) for window in windows]).view(-1, 1, 1, 1, 1)
        return value.expand_as(noisy)

    class Remembering(Schedule):
        def step(self, prediction, timestep, noisy, noise=None):
            found.append(prediction[0, :, 0, 0, 0].tolist())
            return super().step(prediction, timestep, noisy, noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyberhost_model.sampler.windows.Schedule", Remembering)
        one_by_one = denoise_windows(dataclasses.replace(PRESET, sampling=sampling), noise(7), predict, steps=1)
    # 0 1 2 | 2 3 4 | 4 5 6 | 6 0 1: the window of frame 6 goes on at the beginning; a frame steps when it is whole
    assert found == [[1.0, 2.0], [3.0, 4.0], [3.0, 3.0, 5.0]]  # frames 2 3 | 4 5 | 0 1 6
    given, schedule = noise(7), Schedule(PRESET.diffusion, sampling, steps=1)
    means = torch.tensor([3.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0]).view(1, -1, 1, 1, 1).expand_as(given)
    torch.testing.assert_close(one_by_one, schedule.step(means, schedule.timesteps[0], given))


@pytest.mark.parametrize("sampler", ["diffusers-ddim", "dpm++"])
def test_frames_step_as_soon_as_they_are_whole_with_the_same_latents(sampler, monkeypatch):
    """As if every step were taken of all frames at once; a sampler with a memory of its own takes it so."""
    given = dataclasses.replace(PRESET, sampling=dataclasses.replace(SAMPLING, sampler=sampler))
    calls = []

    class Counting(Schedule):
        def step(self, prediction, timestep, noisy, noise=None):
            calls.append(noisy.shape[1])
            return super().step(prediction, timestep, noisy, noise)

    def predict(noisy, timestep, windows, acts):
        return torch.sin(noisy * 3 + noisy.mean(1, keepdim=True))

    monkeypatch.setattr("cyberhost_model.sampler.windows.Schedule", Counting)
    made = denoise_windows(given, noise(11), predict)
    assert (set(calls) == {11}) == (sampler == "dpm++") and sum(calls) == 11 * SAMPLING.steps
    z, schedule = noise(11), Schedule(given.diffusion, given.sampling)
    for index, timestep in enumerate(schedule.timesteps):
        total, count = torch.zeros_like(z), torch.zeros(11)
        for window in plan_windows(11, given.frames, 1, index * SAMPLING.window_shift):
            total[:, window] += predict(z[:, window], None, None, None)
            count[window] += 1
        z = schedule.step(total / count.view(1, -1, 1, 1, 1), timestep, z)
    torch.testing.assert_close(made, z, rtol=1e-5, atol=1e-5)


def test_memory_grows_by_the_latents_alone():
    """At every step no more than a few windows lie beside the latents, whose memory is the noise's."""
    import gc

    given, most = noise(30), 0
    frame = given[0, 0].numel()

    def held() -> int:
        tensors = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape[-2:] == (4, 4)]
        return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values()) // 4

    before = held() - given.numel()

    def predict(noisy, timestep, windows, acts):
        nonlocal most
        most = max(most, held() - before)
        return noisy * 0.5

    made = denoise_windows(PRESET, given, predict, steps=2)
    assert made.data_ptr() == given.data_ptr()
    assert 30 * frame <= most <= (30 + 4 * PRESET.frames) * frame


def test_consecutive_runs():
    assert list(consecutive([5, 6, 0, 1, 2, 4])) == [(5, 2), (0, 3), (4, 1)] and list(consecutive([3])) == [(3, 1)]


def test_poses_of_frames_that_go_round():
    def drawn(first: int, frames: int) -> PoseCondition:
        at = torch.arange(first, first + frames, dtype=torch.float32).view(1, -1, 1, 1, 1)
        return PoseCondition(at.expand(1, -1, 3, 2, 2), None, torch.zeros(1, 1, 3, 2, 2), shut=at.flatten(1))

    taken = poses_of(drawn, [7, 8, 9, 0, 1])
    assert taken.pose[0, :, 0, 0, 0].tolist() == [7, 8, 9, 0, 1] == taken.shut[0].tolist()
    assert taken.control_maps.shape == (1, 1, 3, 2, 2) and taken.shift is None
    still = PoseCondition(torch.ones(1, 1, 3, 2, 2), None, torch.zeros(1, 1, 3, 2, 2), undriven=True)
    assert poses_of(lambda first, frames: still, [7, 0, 1]).pose.shape == (1, 1, 3, 2, 2)


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
def test_features_in_a_file_are_those_of_the_stream(fps):
    features = torch.randn(97, 3, 4)
    file = FeatureFile([features[:40], features[40:41], features[41:]], 3, 4)
    whole = frame_windows(features, 60, fps, 6)
    for first, frames in [(0, 12), (40, 12), (47, 3), (55, 5), (0, 1), (20, 40)]:
        assert torch.equal(file.windows(first, frames, fps, 6), whole[first : first + frames])
        for i, window in enumerate(file.windows(first, frames, fps, 6, centred=False), first):
            steps = np.clip(int(i * 50 / fps) - 2 + np.arange(6), 0, 96)  # as EchoMimicV2's program counts
            assert torch.equal(window, features[steps])


@torch.no_grad()
def test_the_branch_without_conditions_may_see_no_pose():
    network = make_network(FULL)
    noisy, timestep = noisy_clip(FULL)
    conditions = network.conditions(**raw_conditions(FULL))
    guidance = Guidance(2.5, 2.5, keeps_pose=False)
    guided = GuidedConditions(conditions, guidance).predict(network, noisy, timestep)
    both = network(noisy, timestep, conditions).prediction
    without = network(noisy, timestep, conditions.without_audio().without_reference().without_pose()).prediction
    torch.testing.assert_close(guided, without + 2.5 * (both - without), rtol=1e-3, atol=1e-4)
    with_pose = GuidedConditions(conditions, Guidance(2.5, 2.5)).predict(network, noisy, timestep)
    assert (guided - with_pose).abs().max() > 1e-3


@torch.no_grad()
def test_too_little_memory_for_a_batch_of_windows():
    """The predictions stay; the batch is halved until it fits."""
    from cyberhost_model.runtime.memory import MemoryFallback

    network = make_network(PRESET)
    model = SimpleNamespace(network=network, codec=SimpleNamespace(can_tile=False, frames_at_once=4))
    raw = raw_conditions(PRESET, batch=1, size=(4, 4)) | {"motion_latents": None}
    windows = plan_windows(8, 3, 1)

    def conditions(window) -> Conditions:
        pose = raw["pose"] * (1 + window[0])
        return network.conditions(**raw | {"pose": pose})

    noisy, timestep = torch.randn(4, 3, 4, 4, 4), torch.full((4,), 500.0)
    lines: list[str] = []
    memory = MemoryFallback(model, torch.device("cpu"), 2)  # type: ignore[arg-type]
    memory.windows_at_once = 4
    predictor = WindowPredictor(network, conditions, Guidance(2.5, 2.5), memory, lines.append)
    expected, limit = predictor(noisy, timestep, windows, True), 4
    forward = network.denoising_unet.forward

    def limited(noisy, *others, **named):
        if len(noisy) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(noisy, *others, **named)

    network.denoising_unet.forward = limited
    torch.testing.assert_close(predictor(noisy, timestep, windows, True), expected, rtol=1e-3, atol=1e-4)
    assert lines == ["too little memory on cpu: 2 windows are denoised at a time"]
    limit = 1
    torch.testing.assert_close(predictor(noisy, timestep, windows, True), expected, rtol=1e-3, atol=1e-4)
    assert memory.windows_at_once == 1 and memory.one_by_one and len(lines) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 3}, "less than frames"),
        ({"overlap": -1}, "must not be negative"),
        ({"noise_correlation": 0.5}, "independent noise"),
    ],
)
def test_impossible_windows(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PRESET, sampling=dataclasses.replace(SAMPLING, **changes))
    with pytest.raises(ValueError, match="without motion frames"):
        dataclasses.replace(PRESET, motion_frames=1)
