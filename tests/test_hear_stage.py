"""Stage hear: the audio projection alone learns what the audio tokens tell of the speech."""

import pytest
import torch

from cyberhost_model.config import preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clip_encoder import EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.coded import ShardWriter
from cyberhost_model.lab.training.init import build_network
from cyberhost_model.lab.training.loop import LoopConfig, train
from cyberhost_model.lab.training.stages.hear import HearStage, HearStageConfig
from cyberhost_model.model.denoising_unet import HEARD
from data_helpers import small_synth


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hear")
    encoder, made = load_clip_encoder(EncoderConfig()), small_synth(folder / "speech")
    with ShardWriter(folder / "clips") as shards:
        for number in range(3):
            clip = made.clip(number)
            shards.add(f"{number:06d}", encoder.encode(clip), clip.reference.size)
    return folder / "clips"


def test_it_learns_and_leaves_everything_else_alone(clips, tmp_path):
    stage = HearStage(clips, build_network(preset("tiny"), 0), HearStageConfig(batch=4))
    before = {name: value.clone() for name, value in stage.module.state_dict().items()}
    losses = []
    loop = LoopConfig(steps=120, lr=3e-3, warmup=5, workers=0, log_every=20)
    train(stage, tmp_path / "run", loop, lambda step, steps, values: losses.append(values))
    assert losses[-1]["loss"] < 0.4 * losses[0]["loss"] and set(HEARD) <= losses[-1].keys()
    changed = {n for n, value in stage.module.state_dict().items() if not torch.equal(value, before[n])}
    assert changed and all(name.startswith("audio_projection.") for name in changed)


def test_a_preset_without_a_projection_is_told(clips):
    network = build_network(preset("tiny"), 0)
    network.preset = type("NoSpeech", (), {"audio": network.preset.audio, "uses_audio": False})()
    with pytest.raises(TrainingError, match="trains the audio projection"):
        HearStage(clips, network, HearStageConfig())
