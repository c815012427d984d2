"""The audio stage on a few seconds of made-up speech: batches, losses, learning, the loop."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.lab.training.loop import LoopConfig, train
from cyberhost_model.lab.training.stages.audio import AudioStage, evaluate, speech_files
from cyberhost_model.speech.wav2vec2 import SpeechConfig, Wav2Vec2Encoder

RATE = 16_000
SMALL = SpeechConfig(
    wav2vec2={
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 16, 16, 16, 16, 16, 16],
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
    },
    reach=10,
    target=0.1,
    motion_head=True,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Harmonics that swell at syllable rate, by two speakers who train and one who is held out."""
    tmp_path = tmp_path_factory.mktemp("speech")
    train_names = [str(n) for n in range(100) if not held_out(str(n))][:2]
    held_name = next(str(n) for n in range(100) if held_out(str(n)))
    for k, name in enumerate([*train_names, held_name]):
        t = np.arange(9 * RATE) / RATE
        voice = sum(np.sin(2 * np.pi * (110 + 20 * k) * h * t) / h for h in range(1, 20))
        swell = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1) * (np.sin(2 * np.pi * 0.3 * t) > -0.5)
        soundfile.write(tmp_path / f"{name}-1.wav", (0.05 * voice * swell).astype(np.float32), RATE)
    return tmp_path


def test_held_out_speakers_are_kept_apart(folder: Path) -> None:
    train_files, held = speech_files(folder, False), speech_files(folder, True)
    assert (len(train_files), len(held)) == (2, 1)
    assert not set(train_files) & set(held)
    with pytest.raises(TrainingError, match="holds no speech"):
        speech_files(Path(__file__).parent, True)


def test_batches_depend_on_seed_and_step(folder: Path) -> None:
    stage = AudioStage(speech_files(folder, False), Wav2Vec2Encoder(SMALL), count=2)
    one, again, other = (stage.dataset(0)[i] for i in (5, 5, 6))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["heard"][:, :64000], other["heard"][:, :64000])
    frames = one["motion"].shape[1]
    assert 100 <= frames <= 200
    assert one["heard"].shape == (2, frames * 640) and one["mel"].shape == (2, frames * 2, 40)


def test_a_few_steps_teach_and_the_result_can_be_measured(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stage = AudioStage(speech_files(folder, False), Wav2Vec2Encoder(SMALL), count=2)
    seen: list[float] = []
    config = LoopConfig(steps=12, lr=5e-3, warmup=1, log_every=2, workers=0)
    last = train(stage, tmp_path / "run", config, lambda step, steps, losses: seen.append(losses["loss"]))
    assert (last / "ema.safetensors").is_file()
    assert np.mean(seen[-2:]) < 0.7 * seen[0]
    result = evaluate(stage.encoder, speech_files(folder, True), degraded=False)
    assert -1 <= result["opening"] <= 1 and 0 <= result["speech accuracy"] <= 1
