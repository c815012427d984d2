"""sd15 from published parts, at a tiny size, each saved as diffusers and transformers save it: name by name, and the
same output.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from cyberhost_cli.main import main
from cyberhost_model.errors import ModelError, OutputError
from cyberhost_model.hub.registry import REGISTRY
from cyberhost_model.porting.convert import convert
from cyberhost_model.runtime.loading import load_model
from model_helpers import FULL, noisy_clip, raw_conditions

TEMPLATE = dataclasses.replace(
    FULL, codec="sd-vae", latent_factor=8, pose_pool=1, concat_reference=False, pose_shift=False, face_state=False
)
UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
}


def save_unet(folder: Path, **changes) -> Path:
    torch.manual_seed(1)
    UNet2DConditionModel(**{**UNET, **changes}).save_pretrained(folder)
    return folder


def save_motion(folder: Path, middle: bool = True) -> Path:
    torch.manual_seed(2)
    adapter = MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        use_motion_mid_block=middle,
    )
    for name, parameter in adapter.named_parameters():
        if "proj_out" in name:  # zero until trained: let the modules act
            torch.nn.init.normal_(parameter, std=0.05)
    adapter.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1).save_pretrained(
        root / "vae"
    )
    config = Wav2Vec2Config(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8] * 7,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(
        root / "speech"
    )  # as wav2vec2-base-960h: with a head for letters, which is left out
    save_unet(root / "unet")
    save_motion(root / "motion")
    return {**{part: str(root / part) for part in ("unet", "motion", "vae", "speech")}, "detector": "embedded"}


@pytest.fixture(scope="module")
def made(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"
    return folder, convert("sd15", folder, parts, template=TEMPLATE)


@torch.no_grad()
def theirs(parts, noisy, timestep, context) -> torch.Tensor:
    unet, adapter = UNet2DConditionModel.from_pretrained(parts["unet"]), MotionAdapter.from_pretrained(parts["motion"])
    motion = UNetMotionModel.from_unet2d(unet, adapter).eval()
    return motion(noisy.transpose(1, 2), timestep, context).sample.transpose(1, 2)


@torch.no_grad()
def test_through_the_folder_it_is_diffusers(parts, made):
    """All of the paper's parts are there and at their zeros; the reference has no weights that could be zero and is
    left out.
    """
    network = load_model(str(made[0])).network
    noisy, timestep = noisy_clip(TEMPLATE)
    expected = theirs(parts, noisy, timestep, torch.zeros(6, 1, 16))
    conditions = network.conditions(**raw_conditions(network.preset)).without_motion().without_reference()
    ours = network(noisy, timestep, conditions, heatmaps=True).prediction
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


@torch.no_grad()
def test_the_reference_net_is_the_same_unet(parts, made):
    network = load_model(str(made[0])).network
    latents, seen = torch.randn(2, 4, 8, 8), {}
    unet = UNet2DConditionModel.from_pretrained(parts["unet"]).eval()
    for site in network.reference_net.sites:
        unet.get_submodule(site).transformer_blocks[0].attn1.register_forward_pre_hook(
            lambda _, args, site=site: seen.update({site: args[0]})
        )
    unet(latents, 0, torch.zeros(2, 1, 16))
    features = network.reference_net(latents)
    assert set(features) == set(seen) and len(seen) > 2
    for site, value in features.items():
        torch.testing.assert_close(value, seen[site], rtol=0, atol=1e-5)


@torch.no_grad()
def test_codec_and_speech_are_the_published_ones(parts, made):
    model = load_model(str(made[0]))
    vae = AutoencoderKL.from_pretrained(parts["vae"]).eval()
    picture = torch.rand(1, 3, 64, 32) * 2 - 1
    expected = vae.encode(picture).latent_dist.mode() * vae.config.scaling_factor
    torch.testing.assert_close(model.codec.encode_reference(picture), expected, rtol=0, atol=1e-5)
    wav2vec2 = Wav2Vec2ForCTC.from_pretrained(parts["speech"]).eval()
    sound = torch.randn(1, 16000)
    hidden = wav2vec2.wav2vec2(torch.nn.functional.pad(sound, (40, 40)), output_hidden_states=True).hidden_states
    torch.testing.assert_close(model.speech(sound), torch.stack(hidden, 2), rtol=1e-4, atol=1e-4)


def test_every_weight_is_accounted_for(parts, made):
    folder, summary = made
    unet, motion = (load_file(f"{parts[p]}/diffusion_pytorch_model.safetensors") for p in ("unet", "motion"))
    network = load_file(folder / "network.safetensors")
    account = json.loads((folder / "keys.json").read_text())
    assert summary.taken == len(unet) + len(motion) == len(account["taken"]) and not summary.left_out
    assert summary.initial == len(account["initial"]) == len(network) - 2 * len(unet) - len(motion)
    for entry in account["taken"]:
        source = {"unet": unet, "motion": motion}[entry["source"]]
        assert entry["new"] and all(torch.equal(network[name], source[entry["old"]]) for name in entry["new"])
    said = {source["part"]: source["licence"] for source in json.loads((folder / "sources.json").read_text())}
    assert said == summary.licences and set(said) == {
        "unet",
        "motion",
        "vae",
        "speech",
        "detector",
    }  # the template describes faces itself, without ArcFace


@torch.no_grad()
def test_a_motion_adapter_without_a_middle_block(parts, tmp_path):
    """AnimateDiff v3 is one: the middle block's module stays the identity, which is what diffusers does."""
    used = {**parts, "motion": str(save_motion(tmp_path / "motion", middle=False))}
    convert("sd15", tmp_path / "model", used, template=TEMPLATE)
    noisy, timestep = noisy_clip(TEMPLATE)
    network = load_model(str(tmp_path / "model")).network
    ours = network(
        noisy, timestep, network.conditions(reference_latent=torch.zeros(2, 4, 4, 4)).without_reference()
    ).prediction
    torch.testing.assert_close(ours, theirs(used, noisy, timestep, torch.zeros(6, 1, 16)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda w: w.pop("conv_in.weight"),
            r"2 weights \(denoising_unet.unet.conv_in.weight, reference_net.unet.conv_in.weight\) are missing",
        ),
        (
            lambda w: w.update({"wings.left": torch.zeros(1)}),
            r"2 weights \(reference_net.unet.wings.left, .*\) have no place",
        ),
        (lambda w: w.update({"conv_in.bias": torch.zeros(3)}), "conv_in.bias.* are of another shape"),
    ],
)
def test_what_does_not_fit_is_named(parts, tmp_path, damage, message):
    unet = save_unet(tmp_path / "unet")
    weights = load_file(unet / "diffusion_pytorch_model.safetensors")
    damage(weights)
    save_file(weights, unet / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        convert("sd15", tmp_path / "model", {**parts, "unet": str(unet)}, template=TEMPLATE)
    assert "\n" not in str(caught.value) and not (tmp_path / "model").exists() and len(list(tmp_path.iterdir())) == 1


def test_other_kinds_of_parts(parts, tmp_path):
    inpainting = save_unet(tmp_path / "unet", in_channels=9)
    with pytest.raises(ModelError, match="not of Stable Diffusion 1's kind .in_channels"):
        convert("sd15", tmp_path / "model", {**parts, "unet": str(inpainting)}, template=TEMPLATE)
    with pytest.raises(ModelError, match="motion: .* cannot be mapped"):
        convert("sd15", tmp_path / "model", {**parts, "motion": parts["unet"]}, template=TEMPLATE)
    with pytest.raises(ModelError, match="no part 'wings'; its parts are unet, motion, vae, speech, detector, face"):
        convert("sd15", tmp_path / "model", {"wings": "x"})
    with pytest.raises(ModelError, match="no detector 'eyes'; choose dwpose or embedded"):
        convert("sd15", tmp_path / "model", {"detector": "eyes"})
    with pytest.raises(ModelError, match="no adapter 'sd99'; choose one of sd15"):
        convert("sd99", tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="exists; give a new folder"):
        convert("sd15", tmp_path / "full", parts, template=TEMPLATE)


def test_the_published_sizes_are_the_presets():
    """Stable Diffusion 1.5's and AnimateDiff's own configurations give exactly the preset sd15."""
    from cyberhost_model.config import preset
    from cyberhost_model.porting.sd15 import preset_like

    unet = {
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 4,
    }
    motion = {"motion_num_attention_heads": 8, "motion_max_seq_length": 32}
    assert preset_like(unet, motion, preset("sd15").audio) == preset("sd15")
    assert REGISTRY.keys() >= {"sd15-unet", "sd15-vae", "animatediff-v2", "wav2vec2"}


def test_the_command_tells_what_it_took(parts, tmp_path, capsys):
    """At four levels, as the preset's regions want them."""
    deep = {"block_out_channels": (32,) * 4, "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)}
    unet = save_unet(tmp_path / "unet", **deep, up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    MotionAdapter(
        block_out_channels=(32,) * 4, motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8
    ).save_pretrained(tmp_path / "motion")
    used = {**parts, "unet": str(unet), "motion": str(tmp_path / "motion")}
    options = [word for part, source in used.items() for word in ("--part", f"{part}={source}")]
    command = ["weights", "convert", "sd15", "-o", str(tmp_path / "model"), *options]
    assert main([*command, "--precision", "fp16", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["taken"] > 500 and said["licences"]["unet"] == "unknown: your own file"
    weights = load_file(tmp_path / "model" / "network.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert main(command) == 5 and "exists; give a new folder" in capsys.readouterr().err
    assert main([*command, "--part", "unet"]) == 2
    shallow = ["weights", "convert", "sd15", "-o", str(tmp_path / "other"), *options, "--part", f"unet={parts['unet']}"]
    assert main(shallow) == 6 and "the U-Net has 2 levels" in capsys.readouterr().err
