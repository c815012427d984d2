"""Training at the full size's shape, tiny: a dataset coded with the published codec and speech encoder, others'
networks as a beginning, a model of the run.
"""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from peer_models import parts, small
from portrait_models import portrait_parts, small_portrait
from safetensors.torch import load_file

from cyberhost_cli.main import main
from cyberhost_model import config as presets
from cyberhost_model.errors import ResourceError, TrainingError
from cyberhost_model.lab.filmed.manifest import add_rows
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.training.assemble import trained_codec, trained_speech
from cyberhost_model.lab.training.clip_encoder import ClipEncoder, EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.init import build_network, load_weights, preset_for_weights
from cyberhost_model.lab.training.recipe import network_parts
from cyberhost_model.porting.convert import convert
from cyberhost_model.runtime.loading import load_model
from data_helpers import small_synth
from model_helpers import FULL

OURS = {
    "audio_projection",
    "denoising_unet.clarity",
    "denoising_unet.regions",
    "face_encoder",
    "hand_encoder",
    "reference_pose_encoder",
}


def paper(width: int = 16) -> presets.Preset:
    """The preset sd15 at the size of the tests' networks; cross attention reads tokens of `width`."""
    full = presets.preset("sd15")
    audio = dataclasses.replace(full.audio, dim=16, layers=3, tokens=2)
    sizes = {"size": (128, 128), "frames": 3, "motion_frames": 2, "pose_channels": (4, 8, 8, 8)}
    unet = dataclasses.replace(FULL.unet, cross_attention_dim=width)
    return dataclasses.replace(full, unet=unet, audio=audio, region=FULL.region, **sizes)


@pytest.fixture(scope="module")
def models(published, tmp_path_factory):
    """Folders of the converted models by name."""
    root = tmp_path_factory.mktemp("models")
    for name in ("animate-anyone", "echomimic-v2"):
        convert(name, root / name, parts(published, name), template=small(name))
    convert("hallo2", root / "hallo2", portrait_parts(published, "hallo2"), template=small_portrait("hallo2"))
    heard = {**parts(published, "echomimic-v2"), "speech": str(published / "wav2vec2")}
    convert("echomimic-v2", root / "coders", heard, template=small("echomimic-v2"))
    return root


@pytest.mark.parametrize(
    ("name", "width", "begins"),
    [
        ("animate-anyone", 16, OURS),
        ("echomimic-v2", 16, OURS),
        ("echomimic-v2", 24, {*OURS, "denoising_unet.unet", "reference_net"}),
        ("hallo2", 16, OURS),
    ],
)
def test_the_papers_network_begins_with_what_others_have(models, name, width, begins):
    shape = paper(width)
    if name == "hallo2":
        shape = dataclasses.replace(
            shape, unet=dataclasses.replace(small_portrait(name).unet, cross_attention_dim=width)
        )
    shape = preset_for_weights(shape, str(models / name))
    assert shape.diffusion.prediction == "v" and shape.diffusion.zero_terminal_snr and shape.unet.motion_norm_per_frame
    network = build_network(shape)
    made = {key: value.clone() for key, value in network.state_dict().items()}
    started = load_weights(network, str(models / name))
    fresh = started.missing
    theirs, own = load_file(models / name / "network.safetensors"), network.state_dict()
    assert set(network_parts(fresh)) == begins
    assert all(torch.equal(own[key], made[key]) for key in fresh)
    assert all(torch.equal(own[key], theirs[key].float()) for key in own.keys() - set(fresh))
    assert len(fresh) < len(own) / 2
    theirs_alone = {"denoising_unet.masked_audio", "face_tokens", "window_projection"} if name == "hallo2" else set()
    assert {part for part in theirs_alone if any(key.startswith(part) for key in started.unused)} == theirs_alone
    assert all(any(key.startswith(part) for part in theirs_alone) for key in started.unused)


def test_a_network_of_another_size_is_no_beginning(models):
    other = dataclasses.replace(paper(), unet=dataclasses.replace(paper().unet, block_out_channels=(32, 96)))
    with pytest.raises(TrainingError, match="not of the same preset"):
        load_weights(build_network(other), str(models / "animate-anyone"))


def test_from_a_dataset_to_a_model_of_the_run(models, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.setitem(presets.PRESETS, "sd15", paper())
    row = export_clip(small_synth(tmp_path / "speech", frames=16).clip(0), tmp_path, 0)
    row.split = "train"
    add_rows(tmp_path, [row])
    begun, coded, run = str(models / "coders"), tmp_path / "coded", tmp_path / "run"
    encode = [
        "data",
        "encode",
        "--data",
        str(tmp_path),
        "-o",
        str(coded),
        "--frames",
        "16",
        "--codec",
        begun,
        "--audio",
        begun,
    ]
    assert main(encode) == 9 and "kind that preset tiny takes" in capsys.readouterr().err
    assert main([*encode, "--preset", "sd15"]) == 0
    (file,) = coded.glob("*x*/*.safetensors")
    clip = load_file(file)  # whole, with three references
    assert clip["z"].shape == (16, 4, 16, 16) and clip["features"].shape[1:] == (3, 16) and len(clip["r"]) == 3
    train = ["train", "--stage", "2", "--preset", "sd15", "--data", str(coded), "--steps", "1", "--workers", "0"]
    assert main([*train, "--init", str(models / "animate-anyone"), "-o", str(run)]) == 0
    assert "weights that it has not begin afresh (audio_projection, denoising_unet.clarity" in capsys.readouterr().err
    assert json.loads((run / "config.json").read_text())["preset"]["diffusion"]["prediction"] == "v"
    assert main([*train, "--init", str(run), "-o", str(tmp_path / "next")]) == 0  # and hands it on
    assert json.loads((tmp_path / "next/config.json").read_text())["preset"]["unet"]["motion_norm_per_frame"]
    assert main(["weights", "assemble", "--network", str(run), "--base", begun, "-o", str(tmp_path / "model")]) == 0
    network, trained = load_model(str(tmp_path / "model")).network, load_file(run / "last/ema.safetensors")
    assert network.preset == preset_for_weights(paper(), str(models / "animate-anyone"))
    torch.testing.assert_close(network.state_dict(), {name: value.half().float() for name, value in trained.items()})
    capsys.readouterr()
    assert main(["train", "--stage", "2", "--data", str(coded), "-o", str(tmp_path / "other")]) == 9
    assert "coded for another preset than tiny" in capsys.readouterr().err


class Described:
    def describe(self, picture):
        return torch.arange(512.0).numpy() / 512


def test_encoding_for_arcface_stops_without_it(hub, monkeypatch):
    """Before anything is fetched, and no dataset is filled with zeros."""
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(ResourceError, match=r"library insightface: pip install 'cyberhost\[face\]'"):
        load_clip_encoder(EncoderConfig("sd15"))
    assert not hub.requests


def test_faces_are_described_by_arcface_where_the_preset_takes_it(models, tmp_path, monkeypatch):
    shape = dataclasses.replace(paper(), region=dataclasses.replace(paper().region, face_channels=()))
    monkeypatch.setitem(presets.PRESETS, "sd15", shape)
    clip, config = small_synth(tmp_path / "speech", frames=16).clip(0), EncoderConfig("sd15")
    coder = ClipEncoder(config, trained_codec(models / "coders"), trained_speech(models / "coders"), Described())
    assert torch.equal(coder.encode(clip)["face"][0].float(), torch.arange(512.0) / 512)
    coder.face = None
    with pytest.raises(TrainingError, match="need ArcFace's description"):
        coder.encode(clip)
    assert load_clip_encoder(EncoderConfig()).encode(clip)["face"].dtype == torch.uint8
