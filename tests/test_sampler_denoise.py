"""Guidance arithmetic, determinism, and clips that follow each other."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cyberhost_model.errors import InputError
from cyberhost_model.model.motion_prior import measure_pose_coverage
from cyberhost_model.sampler.denoise import denoise_clip, denoise_clips, plan_clips
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from model_helpers import MINI, make_network, noisy_clip, raw_conditions


class Counting(torch.nn.Module):
    """The network, remembering how many items each call had."""

    def __init__(self, network):
        super().__init__()
        self.network, self.batches = network, []

    def forward(self, noisy, timestep, conditions):
        self.batches.append(len(noisy))
        return self.network(noisy, timestep, conditions)


@pytest.mark.parametrize(
    ("reference", "audio", "branches"),
    [(2.5, 4.5, 3), (1.0, 1.0, 1), (1.0, 4.5, 2), (2.5, 2.5, 2), (2.5, 1.0, 3), (1.0, 0.0, 1)],
)
@torch.no_grad()
def test_guidance_is_the_formula_in_one_forward(reference, audio, branches):
    network = make_network()
    noisy, timestep = noisy_clip()
    conditions = network.conditions(**raw_conditions())
    counting = Counting(network)
    guided = GuidedConditions(conditions, Guidance(reference, audio)).predict(counting, noisy, timestep)
    assert counting.batches == [2 * branches]

    both = network(noisy, timestep, conditions).prediction
    only_reference = network(noisy, timestep, conditions.without_audio()).prediction
    neither = network(noisy, timestep, conditions.without_audio().without_reference()).prediction
    expected = neither + reference * (only_reference - neither) + audio * (both - only_reference)
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_guidance_of_the_first_clip_and_without_speech():
    """No motion frames, no audio: the branches still batch."""
    network = make_network()
    noisy, timestep = noisy_clip()
    raw = raw_conditions() | {"motion_latents": None, "audio": None}
    conditions = network.conditions(**raw)
    guided = GuidedConditions(conditions, Guidance(2.5, 4.5)).predict(network, noisy, timestep)
    a = network(noisy, timestep, conditions).prediction
    u = network(noisy, timestep, conditions.without_reference()).prediction
    torch.testing.assert_close(guided, u + 2.5 * (a - u), rtol=1e-3, atol=1e-4)


def test_guidance_on_an_interval_of_the_steps():
    network = make_network()
    conditions = network.conditions(**raw_conditions())
    counting = Counting(network)
    counting.preset, counting.device, counting.dtype = network.preset, network.device, network.dtype
    seen = []
    denoise_clip(
        counting,
        conditions,
        (2, 3, 4, 4, 4),
        steps=4,
        guidance=Guidance(2.5, 4.5, (0.4, 0.8)),
        on_step=lambda step, steps: seen.append((step, steps)),
    )
    assert counting.batches == [2, 6, 6, 2]  # t = 1000, 750, 500, 250
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_seed_fixes_the_clip():
    network = make_network()
    conditions = network.conditions(**raw_conditions())

    def clip(seed: int) -> torch.Tensor:
        return denoise_clip(network, conditions, (2, 3, 4, 4, 4), generator=torch.Generator().manual_seed(seed))

    a = clip(5)
    assert not a.requires_grad
    torch.testing.assert_close(clip(5), a, rtol=0, atol=0)
    assert (clip(6) - a).abs().max() > 0.1


def test_denoising_recovers_what_the_network_knows():
    """With an oracle in the network's place, `denoise_clip` ends at its latent, guided or not."""
    clean = torch.randn(1, 3, 4, 4, 4)

    class Oracle(torch.nn.Module):
        preset, device, dtype = MINI, torch.device("cpu"), torch.float32

        def forward(self, noisy, timestep, conditions):
            sigma = (timestep / 1000).view(-1, 1, 1, 1, 1)
            return SimpleNamespace(prediction=(noisy - clean) / sigma)  # noise - z

    conditions = make_network().conditions(**raw_conditions(batch=1))
    for sampler in ("flow", "dpm++"):
        z = denoise_clip(Oracle(), conditions, clean.shape, steps=5, sampler=sampler)
        torch.testing.assert_close(z, clean, rtol=5e-3, atol=5e-3)


def test_what_is_expected_is_left_out_of_the_denoising_and_added_again():
    """A network that predicts zero for what differs ends at the expected latents."""
    expected = torch.randn(1, 3, 4, 4, 4)

    class Nothing(torch.nn.Module):
        preset, device, dtype = MINI, torch.device("cpu"), torch.float32

        def forward(self, noisy, timestep, conditions):
            return SimpleNamespace(prediction=noisy / (timestep / 1000).view(-1, 1, 1, 1, 1))  # noise - 0

    conditions = replace(make_network().conditions(**raw_conditions(batch=1)), prior=expected)
    z = denoise_clip(Nothing(), conditions, expected.shape, steps=5, sampler="flow")
    torch.testing.assert_close(z, expected, rtol=5e-3, atol=5e-3)


def test_nothing_is_drawn_at_random_where_key_points_say_all():
    network, known = make_network(), torch.zeros(1, 3, 1, 4, 4)
    known[..., :2] = 1
    shape, expected = (1, 3, MINI.latent_channels, 4, 4), torch.randn(1, 3, MINI.latent_channels, 4, 4)
    conditions = replace(network.conditions(**raw_conditions(batch=1)), prior=expected, pose_coverage=known)
    z = denoise_clip(network, conditions, shape, steps=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(z[..., :2], expected[..., :2]) and not torch.isclose(z[..., 2:], expected[..., 2:]).any()


def test_a_key_point_speaks_for_the_cells_around_it():
    shift = torch.zeros(1, 2, 7, 32, 32)
    shift[0, 1, 2, 16, 16] = 1
    known = measure_pose_coverage(shift)
    assert known.shape == (1, 2, 1, 16, 16) and not known[0, 0].any()
    assert known[0, 1, 0, 7:10, 7:10].min() == 1 and not known[0, 1, 0, :5].any() and not known[0, 1, 0, 12:].any()


@pytest.mark.parametrize(
    ("total", "keeps"), [(1, [1]), (12, [12]), (13, [12, 1]), (36, [12, 12, 12]), (40, [12, 12, 12, 4])]
)
def test_plan(total, keeps):
    clips = list(plan_clips(total, 12))
    assert [clip.keep for clip in clips] == keeps
    assert [clip.start for clip in clips] == [12 * i for i in range(len(keeps))]
    assert [clip.index for clip in clips] == list(range(len(keeps)))
    assert all(clip.frames == 12 for clip in clips)


def test_plan_of_nothing():
    with pytest.raises(InputError, match="shorter than one video frame"):
        list(plan_clips(0))


def test_plan_is_lazy():
    assert next(plan_clips(10**12)).start == 0


def test_motion_frames_are_the_end_of_the_clip_before():
    made, motions = [], []

    def make(clip, motion):
        motions.append(motion)
        made.append(
            torch.full((1, clip.frames, 2, 1, 1), float(clip.index))
            + torch.arange(clip.frames).view(1, -1, 1, 1, 1) / 100
        )
        return made[-1]

    out = list(denoise_clips(plan_clips(28, 12), make, motion_frames=4))
    assert [latents.shape[1] for _, latents in out] == [12, 12, 4]
    assert motions[0] is None
    for i in (1, 2):
        torch.testing.assert_close(motions[i], made[i - 1][:, -4:])
        assert motions[i].untyped_storage().size() < made[i - 1].untyped_storage().size()  # the rest can be freed
    torch.testing.assert_close(torch.cat([latents for _, latents in out], 1)[:, 24:], made[2][:, :4])


def test_clips_are_made_one_at_a_time():
    calls = []
    videos = denoise_clips(
        plan_clips(10**9, 12), lambda clip, motion: calls.append(clip.index) or torch.zeros(1, 12, 1, 1, 1)
    )
    next(videos)
    next(videos)
    assert calls == [0, 1]
