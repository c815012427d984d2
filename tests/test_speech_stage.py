"""The audio stage on a few seconds of made-up speech: batches, losses, learning, the loop."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.labelled_speech import LabelledSpeech, labelled_speech
from cyberhost_model.lab.synthetic.speech_surroundings import hum, music, reverberated
from cyberhost_model.lab.training.loop import LoopConfig, train
from cyberhost_model.lab.training.stages.audio import AudioStage, class_recall, evaluate, joined_speech, no_speech
from cyberhost_model.speech.phonemes import CLASSES, SILENCE
from cyberhost_model.speech.wav2vec2 import SpeechConfig, Wav2Vec2Encoder
from data_helpers import labelled_folders

RATE = 16_000
SMALL = SpeechConfig(
    wav2vec2={
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [16],
        "conv_kernel": [1],
        "conv_stride": [1],
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
    mels=16,
    phonemes=CLASSES,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return labelled_folders(tmp_path_factory.mktemp("labelled"))


def read(folders: tuple[Path, Path], held_out: bool = False) -> LabelledSpeech:
    speech, filmed = (str(folder) for folder in folders)
    return labelled_speech([speech], [filmed], [filmed], held_out)


@pytest.fixture(scope="module")
def material(folders: tuple[Path, Path]) -> LabelledSpeech:
    return read(folders)


def test_held_out_speakers_and_clips_are_kept_apart(folders: tuple[Path, Path], material: LabelledSpeech) -> None:
    held = read(folders, held_out=True)
    assert [len(f) for f in material.folders][0] == 2 and len(held.folders[0]) == 1
    assert len(material.folders[1]) + len(held.folders[1]) == 12
    assert not {r.path for r in material.recordings} & {r.path for r in held.recordings}
    with pytest.raises(TrainingError, match="no such folder"):
        labelled_speech([str(folders[0] / "none")], [str(folders[1])], [str(folders[1])])
    with pytest.raises(TrainingError, match="no filmed clip to train with"):
        labelled_speech([str(folders[0])], [str(folders[0])], [])


def test_labels_follow_the_sound_when_it_is_joined_and_faster(material: LabelledSpeech) -> None:
    """Loud steps are labelled as spoken and quiet ones as silence, and filmed lips are those of the camera."""
    for seed in range(4):
        samples, labels = joined_speech(material.folders[seed % 2], 500, np.random.default_rng(seed))
        assert len(samples) == 500 * 320 and len(labels.phonemes) == len(labels.lips) == len(labels.energy) == 500
        loud = np.sqrt((samples.reshape(500, 320) ** 2).mean(1)) > 0.05
        assert (loud == (labels.phonemes != SILENCE)).mean() > 0.9
        opened = labels.lips[:, 0] > 0.8
        assert opened.any() and (labels.phonemes[opened] == CLASSES.index("a")).mean() > 0.6


def test_nobody_speaks_in_noise_and_music() -> None:
    rng = np.random.default_rng(0)
    assert {float(np.abs(no_speech(8000, rng)).max()) > 0 for _ in range(12)} == {True, False}
    for sound in (music(16000, rng), hum(16000, rng)):
        assert sound.shape == (16000,) and np.mean(sound**2) == pytest.approx(1, rel=0.01)
    click = np.zeros(4000, np.float32)
    click[1000] = 1
    room = reverberated(click, rng)
    assert np.abs(room[:999]).max() < 1e-6 and int(np.abs(room).argmax()) == 1000 and np.abs(room[1200:3000]).max() > 0


def test_batches_depend_on_seed_and_step(material: LabelledSpeech) -> None:
    stage = AudioStage(material, Wav2Vec2Encoder(SMALL), count=2)
    one, again, other = (stage.dataset(0)[i] for i in (5, 5, 6))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["heard"][:, :64000], other["heard"][:, :64000])
    steps = one["phonemes"].shape[1]
    assert 200 <= steps <= 400 and one["heard"].shape == (2, steps * 320)
    assert (
        one["lips"].shape == (2, steps, 5)
        and one["motion"].shape == (2, steps, 2)
        and one["mel"].shape == (2, steps, 40)
    )


def test_a_few_steps_teach_and_the_result_can_be_measured(
    folders: tuple[Path, Path], material: LabelledSpeech, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    stage = AudioStage(material, Wav2Vec2Encoder(SMALL), count=2)
    seen: list[float] = []
    config = LoopConfig(steps=24, lr=5e-3, warmup=1, log_every=2, workers=0)
    last = train(stage, tmp_path / "run", config, lambda step, steps, losses: seen.append(losses["loss"]))
    assert (last / "ema.safetensors").is_file()
    assert np.mean(seen[-3:]) < 0.7 * seen[0]
    held = read(folders, held_out=True)
    result = evaluate(stage.encoder, held)
    assert (
        0 <= result["phoneme accuracy"] <= result["phoneme accuracy, 40 ms"] <= 1
        and -1 <= result["gap, correlation"] <= 1
    )
    assert set(class_recall(stage.encoder, held)) <= set(CLASSES)


def test_an_encoder_without_a_lip_head_is_refused(material: LabelledSpeech) -> None:
    config = SpeechConfig(SMALL.wav2vec2, 10, 0.1, True, 16)
    with pytest.raises(TrainingError, match="lip head"):
        AudioStage(material, Wav2Vec2Encoder(config))
