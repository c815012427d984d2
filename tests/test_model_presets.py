"""Presets as data: JSON, ablations, and the full-size network without its weights."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from cyberhost_model.config import ABLATIONS, EMBEDDED, PRESETS, Preset, SamplingConfig, preset
from cyberhost_model.errors import ModelError
from cyberhost_model.lab.training.recipe import read_sampling
from cyberhost_model.lab.training.stages.distill import distilled_preset
from cyberhost_model.model.checkpoint import load_preset
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.model.unet import build_motion_unet, build_unet2d
from model_helpers import FULL, MINI, make_network, noisy_clip, raw_conditions


@pytest.mark.parametrize("config", [*PRESETS.values(), MINI, FULL.without(hand_clarity=False)])
def test_json_round_trip(config):
    assert Preset.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def damaged(path: str, value) -> dict:
    data = json.loads(json.dumps(MINI.to_dict()))
    *parents, last = path.split(".")
    part = data
    for key in parents:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unet.wings", 2, "unknown entries in preset.unet: wings"),
        ("frames", None, "frames"),
        ("unet", 3, "preset.unet is not an object"),
        ("unet.heads", [1], "heads must have 2 entries"),
        ("frames", 31, "frames \\+ motion_frames"),
        ("region.spatial_vectors", 17, "codebook_dim"),
        ("diffusion.prediction", "magic", "prediction"),
        ("pose_pool", 4, "latent_factor"),
    ],
)
def test_a_damaged_preset_is_named(path, value, message):
    with pytest.raises(ModelError, match=message):
        Preset.from_dict(damaged(path, value))


def test_unknown_preset():
    with pytest.raises(ModelError, match="tiny, sd15"):
        preset("huge")


def test_table_1_has_eight_rows_each_taking_one_part_away():
    assert len(ABLATIONS) == 8
    everything = dataclasses.asdict(MINI.ablations)
    assert all(everything.values())
    assert sorted(key for row in ABLATIONS.values() for key in row) == sorted(everything)
    for row in ABLATIONS.values():
        assert list(row.values()) == [False]


@pytest.mark.parametrize("row", list(ABLATIONS))
def test_ablations(row):
    """Each row builds less of exactly that part, takes the same arguments, and still gives gradients."""
    expected_gone = {
        "w/o Motion Codebook": ("codebook", "frame_position", "motion_out", "spatial_kv", "temporal_kv"),
        "w/o ID descriptor": ("face_encoder", "hand_encoder", "descriptor", "identity_out"),
        "w/o Face Codebook": ("face_encoder", "_face."),
        "w/o Hand Codebook": ("hand_encoder", "_hands."),
        "w/o Body Movement": ("pose_encoder",),
        "w/o Hand Clarity": ("clarity",),
        "w/o Pose-aligned Ref.": ("reference_pose_encoder",),
        "w/o Local Enhancement": ("heatmaps",),
    }[row]
    config = MINI.without(**ABLATIONS[row])
    with torch.device("meta"):
        everything, left = set(CyberHostNetwork(MINI).state_dict()), set(CyberHostNetwork(config).state_dict())
    gone = everything - left
    assert gone and left < everything
    for key in gone:
        assert any(part in f"{key}." for part in expected_gone), key
    if row == "w/o Body Movement":
        assert any(key.startswith("reference_pose_encoder") for key in left)

    network = make_network(config)
    noisy, timestep = noisy_clip(batch=1)
    output = network(noisy, timestep, network.conditions(**raw_conditions(batch=1)), heatmaps=True)
    assert output.prediction.shape == noisy.shape
    assert bool(output.heatmaps) == (row not in ("w/o Local Enhancement", "w/o Hand Codebook"))
    assert {item.region for item in output.region_masks} == {"face", "hands"} - {
        {"w/o Face Codebook": "face", "w/o Hand Codebook": "hands"}.get(row, "")
    }


def test_without_codebook_and_descriptor_nothing_of_the_region_is_left():
    with torch.device("meta"):
        network = CyberHostNetwork(MINI.without(motion_codebook=False, id_descriptor=False))
    assert not network.denoising_unet.regions


def test_sd15_is_stable_diffusion_and_animatediff():
    """Key for key, so that their checkpoints load strictly; and at the paper's size."""
    config = preset("sd15")
    with torch.device("meta"):
        network = CyberHostNetwork(config)
        unet2d, motion_unet = build_unet2d(config.unet, 4), build_motion_unet(config.unet, 4)
    keys = list(unet2d.state_dict())
    assert len(keys) == 686
    assert list(network.reference_net.unet.state_dict()) == keys
    denoising = {
        key.removeprefix("denoising_unet.unet."): value
        for key, value in network.state_dict().items()
        if "denoising_unet.unet." in key
    }
    shapes = {key: value.shape for key, value in motion_unet.state_dict().items()}
    assert {key: value.shape for key, value in denoising.items()} == shapes
    assert {key for key in shapes if "motion_modules" not in key} == set(keys)
    modules = {
        key.split(".transformer_blocks")[0] for key in shapes if "motion_modules" in key and "transformer_blocks" in key
    }
    assert len(modules) == 21
    assert sum(p.numel() for p in unet2d.parameters()) == 859_520_964  # Stable Diffusion 1.5
    assert network.reference_net.sites == network.denoising_unet.sites and len(network.reference_net.sites) == 16


def test_tiny_fits_its_budget():
    with torch.device("meta"):
        network = CyberHostNetwork(preset("tiny"))
    assert sum(p.numel() for p in network.parameters()) <= 28_000_000
    config = preset("tiny").unet
    for width, heads in zip(config.block_out_channels, config.heads, strict=True):
        assert width // heads >= 32  # narrower heads are slow


def test_the_preset_is_the_shipped_model():
    """It is distilled, and otherwise what `train` begins with."""
    assert load_preset(EMBEDDED / "tiny") == distilled_preset(preset("tiny"), 2)


def test_a_config_of_cyberhost_0_1_still_loads():
    """Its `diffusion` held what was trained and how it is sampled, and one noise correlation stood for both."""
    new = preset("tiny").to_dict()
    sampling = new.pop("sampling")
    new["motion_persistence"] = new.pop("motion_prior")
    kept = ("sampler", "steps", "guidance_reference", "guidance_audio", "flow_shift", "noise_correlation")
    names = {**{name: name for name in kept}, "slow_noise": "sway", "slow_noise_correlation": "sway_correlation"}
    new["diffusion"] |= {before: sampling[name] for name, before in names.items()}
    old = Preset.from_dict(new)
    assert old.sampling == dataclasses.replace(preset("tiny").sampling, gestures=False)  # it had none
    assert old.motion_prior == preset("tiny").motion_prior
    assert old.diffusion.noise_correlation == old.sampling.noise_correlation == 0.88


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_sets_the_sampling_of_the_preset(name):
    other = SamplingConfig(sampler="flow", steps=1)
    assert read_sampling(name, other) == preset(name).sampling
