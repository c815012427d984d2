"""Published checkpoints of nearly this architecture: every name at the full size, every number at a small one, and the
folder as a model.

That the converted networks compute what the peers' code computes is measured by scripts/peer_parity.py, which needs
their code.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from peer_layouts import family, published_names, under
from peer_models import MODULES, files_of, parts, small
from safetensors.torch import save_file

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.registry import ADAPTERS, REGISTRY, load_adapter
from cyberhost_model.model.checkpoint import load_preset, save_preset
from cyberhost_model.model.conditions import ClipInputs, ReferenceInputs
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.porting import animate_anyone
from cyberhost_model.porting.convert import convert
from cyberhost_model.runtime.loading import find_model, load_model
from cyberhost_model.runtime.prepare import prepare_reference
from cyberhost_model.sampler.schedule import Schedule
from cyberhost_model.speech.level import speech_level


def collect(name: str, files: dict):
    return MODULES[name].collect(files)


@pytest.mark.parametrize("name", list(MODULES))
def test_every_name_at_the_full_size(name):
    """The published checkpoints' numbers of weights, and each finds its place in shape."""
    preset = MODULES[name].full_size()
    with torch.device("meta"):
        state = CyberHostNetwork(preset).state_dict()
    files = files_of(name, state, preset.unet.block_out_channels, preset.unet.cross_attention_dim)
    counts = {file: len(weights) for file, weights in files.items()}
    reference = 682 if name == "animate-anyone" else 570
    assert list(counts.values()) == [reference, 686, 588, 16]
    keys = collect(name, files)
    fresh, void = keys.gaps({key: value.shape for key, value in state.items()}, preset.name)
    assert len(keys.weights) + len(fresh) + len(void) == len(state) and sum(counts.values()) == len(keys.entries)
    ours = "audio_projection|face_encoder|hand_encoder|(reference_)?pose_encoder|denoising_unet\\.(clarity|regions)"
    outside = [key for key in fresh if not re.match(rf"({ours}|reference_net\.unet\.conv_(norm_)?out)\.?", key)]
    assert not outside
    assert len(void) == {"animate-anyone": 0, "echomimic-v2": 112}[name]
    assert (
        preset.diffusion.prediction == "v"
        and preset.diffusion.zero_terminal_snr
        and preset.diffusion.beta_schedule == "linear"
    )


@pytest.mark.parametrize("name", ["animate-anyone", "echomimic-v2"])
def test_the_names_are_those_of_the_peers_own_classes(name):
    """Names and shapes of its full size all find their places."""
    files = published_names(name)
    with torch.device("meta"):
        state = CyberHostNetwork(MODULES[name].full_size()).state_dict()
    assert list(files) == list(MODULES[name].FILES) and sum(map(len, files.values())) > 1800
    keys = MODULES[name].collect(files)
    fresh, void = keys.gaps({key: value.shape for key, value in state.items()}, name)
    assert all(re.match(r"reference_net\.unet\.conv_(norm_)?out\.", key) for key in fresh)
    assert all(re.search(r"reference_net.*\.(attn2|norm2)\.", key) for key in void)


@pytest.mark.parametrize("name", ["animate-anyone", "echomimic-v2"])
def test_every_number_at_a_small_size(name):
    preset = small(name)
    state = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in CyberHostNetwork(preset).state_dict().items()
    }
    converted = collect(name, files_of(name, state, (32, 64), 16)).into(preset)
    found = converted.network.state_dict()
    told = {new for entry in converted.entries for new in entry.new}
    assert told | set(converted.initial) | set(converted.zero) == set(state)
    for key in told:
        folded = name == "echomimic-v2" and re.search(r"denoising_unet.*\.attentions\..*attn2\.to_out\.0", key)
        assert torch.equal(found[key], state[key] * (3.0 if folded else 1.0)), key
    assert all(not found[key].any() for key in converted.zero)


@pytest.mark.parametrize("name", list(MODULES))
def test_what_cannot_be_mapped_is_named(name):
    preset = small(name)
    with torch.device("meta"):
        state = CyberHostNetwork(preset).state_dict()

    def fresh() -> dict:
        return files_of(name, state, (32, 64), 16)

    first = next(iter(fresh()))
    files = fresh()
    files[first]["wings.weight"] = torch.zeros(1)
    with pytest.raises(ModelError, match=r"1 weights \(reference_net.unet.wings.weight\) have no place"):
        collect(name, files).gaps({key: value.shape for key, value in state.items()}, "small")
    files = fresh()
    files["motion_module.pth"]["unheard.of"] = torch.zeros(1)
    with pytest.raises(ModelError, match=r"1 weights \(unheard.of\) cannot be mapped; it is of another model"):
        collect(name, files)
    files = fresh()
    gone = next(key for key in files[first] if key.endswith("conv_in.weight"))
    del files[first][gone]
    with pytest.raises(ModelError, match=r"1 weights \(reference_net.unet.conv_in.weight\) are missing"):
        collect(name, files).gaps({key: value.shape for key, value in state.items()}, "small")


def test_positions_that_differ_are_an_error():
    state = CyberHostNetwork(small("animate-anyone")).state_dict()
    files = family(state, "pose_guider.pth")
    key = next(key for key in files["motion_module.pth"] if key.endswith("attention_blocks.1.pos_encoder.pe"))
    files["motion_module.pth"][key] = files["motion_module.pth"][key] + 1
    with pytest.raises(ModelError, match="both want to be .*pos_embed.pe, and differ"):
        animate_anyone.collect(files)


@pytest.mark.parametrize("name", list(MODULES))
@torch.no_grad()
def test_the_folder_is_a_model(published, tmp_path, name):
    preset = small(name)
    summary = convert(name, tmp_path / "model", parts(published, name), template=preset)
    assert summary.taken > 300 and json.loads((tmp_path / "model" / "keys.json").read_text())["taken"]
    assert all(path.suffix in (".json", ".safetensors") for path in (tmp_path / "model").rglob("*") if path.is_file())
    model = load_model(str(tmp_path / "model"))
    network = model.network
    assert network.preset == preset and (model.image is not None) == (name == "animate-anyone")
    Schedule(network.preset.diffusion, network.preset.sampling)
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    image = None if model.image is None else model.image(picture)
    video = network.reference_conditions(ReferenceInputs(model.codec.encode_reference(picture), image=image))
    reference = prepare_reference(model, np.zeros((64, 64, 3), np.uint8), Keypoints.empty(), None, False)
    assert (reference.conditions.audio is not None) == (
        name == "animate-anyone"
    )  # what all clips attend to: the picture's token
    audio = (
        None
        if name == "animate-anyone"
        else torch.stack(
            list(model.speech.stream_windows([sound(0.4)], speech_level([sound(0.4)]), 3, 25.0, preset.audio.tokens))
        )[None]
    )
    clip = network.clip_conditions(video, ClipInputs(audio, pose=torch.rand(1, 3, 3, 32, 32)))
    prediction = network(torch.randn(1, 3, 4, 4, 4), torch.tensor([500]), clip).prediction
    assert prediction.shape == (1, 3, 4, 4, 4) and prediction.isfinite().all()
    silent = network(
        torch.zeros(1, 3, 4, 4, 4), torch.tensor([500]), clip.without_audio().without_reference()
    ).prediction
    assert (silent - network(torch.zeros(1, 3, 4, 4, 4), torch.tensor([500]), clip).prediction).abs().max() > 1e-6


def sound(seconds: float):
    return torch.sin(torch.arange(round(16000 * seconds)) * 0.2).numpy() * 0.3


def test_safetensors_twins_serve_too(published, tmp_path):
    """Whoever keeps no pickles converts once and uses the twins."""
    twins = tmp_path / "network"
    twins.mkdir()
    for file in (published / "animate-anyone").iterdir():
        weights = {key: value.clone().contiguous() for key, value in torch.load(file, weights_only=True).items()}
        save_file(weights, twins / f"{file.stem}.safetensors")
    used = {**parts(published, "animate-anyone"), "network": str(twins)}
    first = convert("animate-anyone", tmp_path / "a", used, template=small("animate-anyone"))
    second = convert(
        "animate-anyone", tmp_path / "b", parts(published, "animate-anyone"), template=small("animate-anyone")
    )
    assert first.taken == second.taken
    assert (tmp_path / "a/network.safetensors").read_bytes() == (tmp_path / "b/network.safetensors").read_bytes()


def test_a_published_model_by_its_name(published, monkeypatch, tmp_path):
    """`--model animate-anyone`: converted once into HF_HOME, then found there."""
    adapter = load_adapter("animate-anyone")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    made = []

    def network(paths, template):
        made.append(paths)
        return adapter.network(paths, small("animate-anyone"))

    monkeypatch.setattr(
        animate_anyone,
        "ADAPTER",
        dataclasses.replace(adapter, parts=parts(published, "animate-anyone"), network=network),
    )
    folder = find_model("animate-anyone")
    assert (
        folder == tmp_path / "cyberhost/models/animate-anyone"
        and find_model("animate-anyone") == folder
        and len(made) == 1
    )
    assert under(load_model("animate-anyone").network.state_dict(), "pose_encoder.")


def test_a_model_that_was_converted_before_takes_todays_sampling(monkeypatch, tmp_path):
    """A folder without windows gets them; one of another network stays as it is."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    folder = tmp_path / "cyberhost/models/animate-anyone"
    folder.mkdir(parents=True)
    today = animate_anyone.full_size()
    before = dataclasses.replace(today, sampling=dataclasses.replace(today.sampling, overlap=0, sampler="ddim"))
    for written, found in ((before, today), (small("animate-anyone"), small("animate-anyone"))):
        save_preset(written, folder, None)
        assert load_adapter("animate-anyone").folder() == folder and load_preset(folder) == found
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["animate-anyone", "echomimic-v2", "echomimic", "hallo"])
def test_the_registry_s_sizes_are_those_of_the_classes(name):
    """Bytes of every file, within a hundredth: of float32, or of half precision, as Hallo is published."""
    weights = published_names(name)
    numbers = {file: sum(weight.numel() for weight in weights[file].values()) for file in weights}
    width = 2 if name == "hallo" else 4
    for other in (name, f"{name}-fast"):
        for file in REGISTRY[other].files if other in REGISTRY else ():
            expected = width * numbers[Path(file.path).name.replace("_acc", "")]
            assert file.size == pytest.approx(expected, rel=0.01)


def test_parts_name_weights_of_the_registry():
    for adapter in map(load_adapter, ADAPTERS):
        assert set(adapter.parts.values()) <= REGISTRY.keys()
    assert {weights.adapter for weights in REGISTRY.values()} - {None} == set(ADAPTERS) - {"sd15"}
