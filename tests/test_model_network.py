"""The whole network at a tiny random size: shapes, parity with diffusers, and the effect of every condition."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cyberhost_model.model.conditions import ClipInputs, Conditions, ReferenceInputs
from cyberhost_model.model.unet import build_unet2d
from model_helpers import FULL, MINI, make_network, noisy_clip, raw_conditions


def diffusers_forward(network, noisy, timestep, context=None):
    """Forward pass of diffusers' own UNetMotionModel with the network's weights (encoder states for each frame)."""
    unet = network.denoising_unet.unet
    batch, frames = noisy.shape[:2]
    context = torch.zeros(batch * frames, 1, unet.config.cross_attention_dim) if context is None else context
    return unet(noisy.transpose(1, 2), timestep, context).sample.transpose(1, 2)


@pytest.mark.parametrize("linear", [False, True])
@torch.no_grad()
def test_without_conditions_it_is_diffusers(linear):
    network = make_network(dataclasses.replace(FULL, unet=dataclasses.replace(FULL.unet, use_linear_projection=linear)))
    network.denoising_unet.regions = torch.nn.ModuleDict()  # off; the rest is off by not being given
    noisy, timestep = noisy_clip()
    audio = torch.randn(2, 3, 2, 16)
    ours = network(noisy, timestep, Conditions()).prediction
    torch.testing.assert_close(ours, diffusers_forward(network, noisy, timestep), rtol=1e-5, atol=1e-5)
    ours = network(noisy, timestep, Conditions(audio=audio)).prediction
    torch.testing.assert_close(
        ours, diffusers_forward(network, noisy, timestep, audio.flatten(0, 1)), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_a_frame_hears_its_own_audio_through_the_time_embedding():
    """With nothing that mixes frames, another sound at frame 1 changes frame 1 alone; no sound is zero tokens."""
    network = make_network(MINI)
    network.denoising_unet.temporal = False
    network.denoising_unet.regions = torch.nn.ModuleDict()
    noisy, timestep = noisy_clip()
    audio = torch.randn(2, 3, 2, 16)
    other = audio.clone()
    other[:, 1] += 1
    change = (
        network(noisy, timestep, Conditions(audio=audio)).prediction
        - network(noisy, timestep, Conditions(audio=other)).prediction
    ).abs()
    assert change[:, 1].max() > 1e-3 and change[:, [0, 2]].max() == 0
    silent = network(noisy, timestep, Conditions(audio=torch.zeros_like(audio))).prediction
    torch.testing.assert_close(silent, network(noisy, timestep, Conditions()).prediction)


@torch.no_grad()
def test_new_parts_are_zero_at_initialisation():
    """All of the paper's own layers present, and all of their conditions given: still diffusers' output."""
    network = make_network(FULL, randomize=False)
    # the motion modules start at zero too; let them act
    for name, parameter in network.denoising_unet.unet.named_parameters():
        if "motion_modules" in name and name.endswith("proj_out.weight"):
            parameter.normal_(std=0.1)
    noisy, timestep = noisy_clip()
    conditions = network.conditions(**raw_conditions(FULL)).without_motion()
    conditions.reference, conditions.reference_present = None, (False, False)  # has no weights that could be zero
    output = network(noisy, timestep, conditions, heatmaps=True)
    torch.testing.assert_close(output.prediction, diffusers_forward(network, noisy, timestep), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_motion_modules_start_as_the_identity():
    network = make_network(FULL, randomize=False)
    noisy, timestep = noisy_clip()
    together = network(noisy, timestep, Conditions()).prediction
    apart = [network(noisy[:, i : i + 1], timestep, Conditions()).prediction for i in range(3)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=1e-5, atol=1e-5)
    network.denoising_unet.temporal = False
    torch.testing.assert_close(network(noisy, timestep, Conditions()).prediction, together, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_reference_net_is_the_2d_unet():
    """Its features are what enters attn1 of diffusers' own forward; trimming takes keys away and adds none."""
    full, trimmed = make_network(FULL).reference_net, make_network(MINI).reference_net
    latents = torch.randn(2, 4, 4, 4)
    seen = {}
    for site in full.sites:
        attn1 = full.unet.get_submodule(site).transformer_blocks[0].attn1
        attn1.register_forward_pre_hook(
            lambda _, args, kwargs, site=site: seen.update({site: args[0]}), with_kwargs=True
        )
    full.unet(latents, 0, torch.zeros(2, 1, 16))
    features = full(latents)
    assert list(features) == full.sites == trimmed.sites
    for site, value in features.items():
        torch.testing.assert_close(value, seen[site], rtol=1e-5, atol=1e-5)

    plain = build_unet2d(FULL.unet, 4)
    assert set(full.unet.state_dict()) == set(plain.state_dict())
    assert set(trimmed.unet.state_dict()) < set(plain.state_dict())


def test_sites_have_equal_names_in_both_nets():
    for config in (MINI, FULL):
        network = make_network(config)
        assert network.reference_net.sites == network.denoising_unet.sites
        assert list(network.reference_net(torch.randn(1, 4, 4, 4))) == network.denoising_unet.sites


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (4, 12), (5, 7)])
@torch.no_grad()
def test_shapes_at_any_aspect(size):
    network = make_network()
    noisy, timestep = noisy_clip(size=size)
    conditions = network.conditions(**raw_conditions(size=size))
    tokens = size[0] * size[1]
    assert conditions.reference["up_blocks.1.attentions.1"].shape == (2, tokens, 32)
    assert conditions.motion["up_blocks.1.attentions.1"].shape == (2, 2, tokens, 32)
    assert conditions.audio.shape == (2, 3, 2, 16)
    assert conditions.pose.shape == (2, 3, 32, *size)
    output = network(noisy, timestep, conditions, heatmaps=True)
    assert output.prediction.shape == noisy.shape and output.prediction.isfinite().all()
    half = tuple((side + 1) // 2 for side in size)
    stages = {"down_blocks.0": size, "mid_block": half, "up_blocks.1": size}
    assert [(m.stage, m.region) for m in output.region_masks] == [(s, r) for s in stages for r in ("face", "hands")]
    for item in output.region_masks:
        assert item.values.shape == (2, 3, 1, *stages[item.stage])
    assert [m.region for m in output.heatmaps] == ["hands"] * 3
    for item in output.heatmaps:
        assert item.values.shape == (2, 3, 42, *stages[item.stage])
    assert network(noisy, timestep, conditions).heatmaps == []


@pytest.mark.parametrize("name", list(raw_conditions(batch=1)))
@torch.no_grad()
def test_every_condition_changes_the_prediction(name):
    network = make_network()
    noisy, timestep = noisy_clip()
    raw = raw_conditions()
    before = network(noisy, timestep, network.conditions(**raw)).prediction
    raw[name] = raw[name].flip(0)  # each item gets the other's
    after = network(noisy, timestep, network.conditions(**raw)).prediction
    assert not torch.equal(before, after)


@torch.no_grad()
def test_items_of_a_batch_do_not_meet():
    """Mixed presence of reference and motion, in an order that needs a gather: each item is as it would be alone."""
    network = make_network()
    noisy, timestep = noisy_clip(batch=4)
    raw = raw_conditions(batch=4)
    mixed = (
        network.conditions(**raw)
        .without_reference([False, True, False, True])
        .without_motion([True, True, False, False])
    )
    mixed = mixed.without_audio([False, False, True, False])
    together = network(noisy, timestep, mixed).prediction
    for i in range(4):
        one = network.conditions(**{key: value[i : i + 1] for key, value in raw.items()})
        one = one.without_reference() if i in (1, 3) else one
        one = one.without_motion() if i in (0, 1) else one
        one = one.without_audio() if i == 2 else one
        alone = network(noisy[i : i + 1], timestep[i : i + 1], one).prediction
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_dropped_has_no_effect():
    network = make_network()
    noisy, timestep = noisy_clip()
    raw, other = raw_conditions(), raw_conditions(seed=9)
    for name in ("lip_gap", "shut"):  # the face's state is kept when the reference is dropped
        del raw[name]
    of_reference = ("reference_latent", "reference_pose", "face", "hands")
    for names, drop in (
        (of_reference, "without_reference"),
        (("audio",), "without_audio"),
        (("motion_latents",), "without_motion"),
    ):
        changed = raw | {name: other[name] for name in names}
        a = network(noisy, timestep, getattr(network.conditions(**raw), drop)()).prediction
        b = network(noisy, timestep, getattr(network.conditions(**changed), drop)()).prediction
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        kept = network(noisy, timestep, network.conditions(**raw)).prediction
        assert (a - kept).abs().max() > 1e-5


@torch.no_grad()
def test_absent_hands_and_faces_describe_nothing():
    network = make_network()
    hands = torch.randn(1, 2, 3, 128, 128)
    hands[:, 1] = 0
    tokens = network.hand_encoder(hands)
    left, right = tokens.chunk(2, dim=1)
    assert left.any() and not right.any()
    assert not network.face_encoder(torch.zeros(1, 3, 256, 256)).any()
    clarity = network.denoising_unet.clarity(torch.tensor([[0.0, 0.5]]))
    assert not clarity[0, 0].any() and clarity[0, 1].any()


@torch.no_grad()
def test_further_pictures_of_any_size_are_attended_to_in_any_order():
    """Their features join the keys; hands that one picture hides are described by the others."""
    network, (noisy, timestep) = make_network(), noisy_clip(batch=1)
    first, second, third = (
        raw_conditions(batch=1, seed=seed, size=size) for seed, size in ((1, (4, 4)), (5, (4, 6)), (6, (4, 4)))
    )
    clip = {name: first.pop(name) for name in ("audio", "motion_latents", "pose", "hand_clarity", "shut")}
    first["hands"] = first["hands"].clone()
    first["hands"][:, 1] = 0
    shown = [
        network.reference_conditions(
            ReferenceInputs(**{name: value for name, value in raw.items() if name not in clip})
        )
        for raw in (first, second, third)
    ]
    both, turned = shown[0].with_further(shown[1:]), shown[0].with_further(shown[:0:-1])
    site = next(iter(both.reference))
    assert both.reference[site].shape[1] == sum(part.reference[site].shape[1] for part in shown)
    left, right = both.hands.chunk(2, dim=1)
    torch.testing.assert_close(left, sum(part.hands.chunk(2, dim=1)[0] for part in shown) / 3)
    torch.testing.assert_close(right, sum(part.hands.chunk(2, dim=1)[1] for part in shown) / 2)
    made = [
        network(noisy, timestep, network.clip_conditions(given, ClipInputs(**clip))).prediction
        for given in (shown[0], both, turned)
    ]
    torch.testing.assert_close(made[1], made[2])
    assert (made[0] - made[1]).abs().max() > 1e-3


@torch.no_grad()
def test_motion_reaches_only_through_time():
    """Without motion modules in use, motion frames do nothing."""
    network = make_network()
    noisy, timestep = noisy_clip()
    conditions = network.conditions(**raw_conditions())
    network.denoising_unet.temporal = False
    a = network(noisy, timestep, conditions).prediction
    b = network(noisy, timestep, conditions.without_motion()).prediction
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_conditions_cannot_be_batched_with_and_without_a_pose():
    network = make_network()
    raw = raw_conditions()
    a = network.conditions(**raw)
    b = network.conditions(**{key: value for key, value in raw.items() if key != "pose"})
    with pytest.raises(ValueError, match="pose"):
        Conditions.cat([a, b])
