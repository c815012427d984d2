"""Saving and loading, strictly, with errors that say what is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cyberhost_model.errors import ModelError
from cyberhost_model.hub import tensors
from cyberhost_model.model.checkpoint import load_network, load_preset, save_network
from model_helpers import MINI, make_network, noisy_clip, raw_conditions


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    network = make_network()
    save_network(network, directory, torch.float32)
    return network, directory


def copy(directory, target):
    target.mkdir()
    for file in directory.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_weights_are_read_onto_the_device_and_none_is_initialised_before(saved, monkeypatch):
    made, opened, own = [], [], tensors.safe_open
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: made.append(layer.weight.is_meta))
    monkeypatch.setattr(
        tensors, "safe_open", lambda path, **options: (opened.append(options["device"]), own(path, **options))[1]
    )
    loaded = load_network(saved[1], "cpu", torch.bfloat16)
    assert made and all(made) and opened == ["cpu"]
    assert {weights.dtype for weights in loaded.parameters()} == {torch.bfloat16} and {
        weights.device.type for weights in loaded.parameters()
    } == {"cpu"}


@torch.no_grad()
def test_round_trip(saved, tmp_path):
    network, directory = saved
    loaded = load_network(directory)
    assert loaded.preset == network.preset == load_preset(directory)
    assert not loaded.training
    noisy, timestep = noisy_clip()
    raw = raw_conditions()
    expected = network(noisy, timestep, network.conditions(**raw)).prediction
    torch.testing.assert_close(loaded(noisy, timestep, loaded.conditions(**raw)).prediction, expected, rtol=0, atol=0)

    save_network(network, tmp_path / "half")  # fp16 by default
    weights = load_file(tmp_path / "half" / "network.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values())
    half = load_network(tmp_path / "half")
    assert half.dtype == torch.float32
    torch.testing.assert_close(half(noisy, timestep, half.conditions(**raw)).prediction, expected, rtol=0.05, atol=0.05)


def test_wrong_keys_are_named(saved, tmp_path):
    directory = copy(saved[1], tmp_path / "m")
    file = directory / "network.safetensors"
    weights = load_file(file)
    weights.pop("denoising_unet.unet.conv_in.weight")
    weights["extra"] = torch.zeros(1)
    weights["denoising_unet.unet.conv_in.bias"] = torch.zeros(3)
    save_file(weights, file)
    with pytest.raises(ModelError) as error:
        load_network(directory)
    message = str(error.value)
    assert "1 missing (denoising_unet.unet.conv_in.weight)" in message
    assert "1 unexpected (extra)" in message
    assert "1 of another shape (denoising_unet.unet.conv_in.bias)" in message
    assert "\n" not in message


def test_damaged_directories(saved, tmp_path):
    with pytest.raises(ModelError, match="not a cyberhost model directory"):
        load_network(tmp_path / "nowhere")

    cut = copy(saved[1], tmp_path / "cut")
    data = (cut / "network.safetensors").read_bytes()
    (cut / "network.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged"):
        load_network(cut)
    (cut / "network.safetensors").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_network(cut)

    config = cut / "config.json"
    config.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_network(cut)
    config.write_text(json.dumps({"format": 99, "preset": MINI.to_dict()}))
    with pytest.raises(ModelError, match="format 1"):
        load_network(cut)
