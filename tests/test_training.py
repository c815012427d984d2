"""The loop, coded clips and the stages, at tiny size."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset

from cyberhost_cli.main import main
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.config import ABLATIONS, preset
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.training.assemble import assemble
from cyberhost_model.lab.training.clip_encoder import ClipEncoder, EncoderConfig
from cyberhost_model.lab.training.clips import LatentClips, find_clips, lips_mask
from cyberhost_model.lab.training.codec_init import codec_config
from cyberhost_model.lab.training.coded import ShardWriter
from cyberhost_model.lab.training.driving import DrivingMix
from cyberhost_model.lab.training.init import build_network, preset_for_weights
from cyberhost_model.lab.training.loop import LoopConfig, learning_rate, train
from cyberhost_model.lab.training.recipe import build_stage, read_recipe
from cyberhost_model.lab.training.registry import STAGES, Sources, StageInputs, register_stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from cyberhost_model.lab.training.stages.codec import SHIPPED
from cyberhost_model.lab.training.stages.distill import distilled_preset
from cyberhost_model.lab.training.stages.pose import PoseStage, PoseStageConfig
from cyberhost_model.model.checkpoint import load_preset, with_current_names
from cyberhost_model.runtime.loading import find_model
from cyberhost_model.speech.wav2vec2 import TINY, Wav2Vec2Encoder
from data_helpers import audio_stage_arguments, files_of_before, small_synth, speech_folder


class _Numbers(Dataset):
    def __init__(self, seed):
        self.seed = seed

    def __len__(self):
        return 2**31

    def __getitem__(self, i):
        return {"x": torch.randn(8, 4, generator=torch.Generator().manual_seed(self.seed * 1000 + i))}


class _Line:
    name = "line"

    def __init__(self, nan_at: int | None = None):
        torch.manual_seed(0)
        self.module, self.nan_at, self.calls = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)), nan_at, 0

    def dataset(self, seed):
        return _Numbers(seed)

    def loss(self, batch, generator):
        self.calls += torch.is_grad_enabled()  # not when FLOPs are counted
        noise = torch.randn(8, 1, generator=generator) * 0.1
        loss = (self.module(batch["x"]) - batch["x"].sum(1, keepdim=True) + noise).pow(2).mean()
        return {"loss": loss * float("nan") if self.calls == self.nan_at else loss}


def _config(**changes) -> LoopConfig:
    return LoopConfig(**{"steps": 30, "lr": 1e-2, "warmup": 5, "decay": 10, "workers": 0, "log_every": 5, **changes})


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    whole = train(_Line(), tmp_path / "whole", _config())
    stopped = _Line()
    with pytest.raises(KeyboardInterrupt):

        def interrupt(step, steps, losses):
            if step == 15:
                raise KeyboardInterrupt

        train(stopped, tmp_path / "parts", _config(save_seconds=0), interrupt)
    assert json.loads((tmp_path / "parts/last/state.json").read_text())["step"] == 14
    again = train(_Line(), tmp_path / "parts", _config())
    for name in ("model", "ema", "optimizer"):
        a, b = load_file(whole / f"{name}.safetensors"), load_file(again / f"{name}.safetensors")
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """kill -9 in the middle, wherever that is: the checkpoint is whole, and what follows is what an uninterrupted run
    does.
    """
    script = f"""
from test_training import _Line, _config
from cyberhost_model.lab.training.loop import train
train(_Line(), {str(tmp_path / "run")!r}, _config(steps=10**6, save_seconds=0))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    state = tmp_path / "run/last/state.json"
    deadline = time.monotonic() + 600
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = state.parent if state.exists() else state.parent.with_name("last.old")
    step = json.loads((folder / "state.json").read_text())["step"]
    assert step > 0
    for run in ("run", "whole"):
        train(_Line(), tmp_path / run, _config(steps=step + 50))
    for name in ("model", "ema", "optimizer"):
        a, b = (load_file(tmp_path / run / f"last/{name}.safetensors") for run in ("run", "whole"))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="not finite at step 19"):
        train(_Line(nan_at=20), tmp_path, _config(save_seconds=0))
    assert json.loads((tmp_path / "last/state.json").read_text())["step"] == 19


def test_a_run_of_another_stage_is_refused(tmp_path):
    train(_Line(), tmp_path, _config(steps=2))
    other = _Line()
    other.name = "other"
    with pytest.raises(TrainingError, match="run of stage line"):
        train(other, tmp_path, _config())


def test_learning_rate_rises_stays_and_falls():
    config = _config(steps=100, warmup=10, decay=20)
    assert learning_rate(0, config) == pytest.approx(1e-3)
    assert learning_rate(50, config) == 1e-2
    assert learning_rate(99, config) < 7e-4


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four coded clips of 64 x 64 with an untrained codec and speech encoder."""
    folder = tmp_path_factory.mktemp("clips")
    synth = small_synth(folder / "speech", frames=18, size=(128, 128))
    torch.manual_seed(0)
    codec, speech = ReferenceCodec(codec_config(SHIPPED)).eval(), Wav2Vec2Encoder(TINY).eval()
    for name in ("flow", "novelty", "colour"):
        basis = getattr(codec, f"basis_{name}")
        basis.copy_(nn.init.orthogonal_(torch.empty(basis.flatten(1).shape)).view_as(basis))
    encoder = ClipEncoder(EncoderConfig(), codec, speech)
    with ShardWriter(folder / "coded") as shards:
        for i in range(4):
            clip = synth.clip(i)
            shards.add(f"{i:06d}", encoder.encode(clip), clip.reference.size)
    return folder / "coded"


def test_coded_clips_hold_what_the_stages_want(clips):
    data = LatentClips(clips, preset("tiny"), seed=0, batch=2, frames=12)
    batch = data[3]
    assert batch["z"].shape == (2, 12, 39, 8, 8) and batch["motion"].shape == (2, 4, 39, 8, 8)
    assert batch["audio"].shape == (2, 12, 6, 5, 128) and batch["r"].shape == (2, 39, 8, 8)
    assert batch["skeleton"].shape == (2, 3, 128, 128) and batch["pose"].shape == (2, 1, 3, 128, 128)
    assert 0 < batch["lips"].mean() < 0.3 and batch["lips"].amax() == 1
    again = LatentClips(clips, preset("tiny"), seed=0, batch=2, frames=12)[3]
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    with pytest.raises(TrainingError, match="no coded clips"):
        LatentClips(clips / "nowhere", preset("tiny"), 0, 1, 12)


def test_files_of_one_clip_of_before_give_the_same_batches(clips, tmp_path):
    files_of_before(clips, tmp_path)
    for frames in (1, 12):
        new, old = (LatentClips(folder, preset("tiny"), 5, 2, frames) for folder in (clips, tmp_path))
        for i in range(4):
            a, b = new[i], old[i]
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_folders_of_clips_are_mixed_by_their_shares(clips, tmp_path):
    """Alone, a folder gives the batches that it always gave."""
    alone = LatentClips(clips, preset("tiny"), seed=0, batch=1, frames=12)
    other = tmp_path / "other"
    files_of_before(clips, other)
    same = LatentClips([str(clips)], preset("tiny"), 0, 1, 12)
    assert [same.files(i) for i in range(8)] == [alone.files(i) for i in range(8)]
    mixed = LatentClips([f"{clips}:0.9", f"{other}:0.1"], preset("tiny"), 0, 1, 12)
    assert mixed.shares.tolist() == pytest.approx([0.9, 0.1])
    share = np.mean([str(other) in mixed.files(i)[0] for i in range(200)])
    assert 0.04 < share < 0.18
    assert LatentClips([str(clips), str(other)], preset("tiny"), 0, 1, 12).shares.tolist() == [0.5, 0.5]
    assert len(find_clips([str(clips), str(other)], preset("tiny"), 12)) == 2 * len(
        find_clips(clips, preset("tiny"), 12)
    )
    for wrong in ([f"{clips}:0.9", str(other)], [f"{clips}:0", f"{other}:1"], [f"{clips}:1.2.3"]):
        with pytest.raises(TrainingError, match="share"):
            LatentClips(wrong, preset("tiny"), 0, 1, 12)
    with pytest.raises(TrainingError, match="no coded clips"):
        LatentClips([f"{clips}:0.5", f"{tmp_path / 'nowhere'}:0.5"], preset("tiny"), 0, 1, 12)


def test_clips_that_cannot_be_trained_on_are_told(clips, tmp_path, capsys):
    def said(folder: Path, workers: int = 0) -> str:
        assert (
            main(
                ["train", "--stage", "2", "--data", str(folder), "-o", str(tmp_path / "run"), "--workers", str(workers)]
            )
            == 9
        )
        return capsys.readouterr().err

    assert "18 frames, and 24 are needed" in _short(clips)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/manifest.parquet").touch()
    assert "cyberhost data encode --data" in said(tmp_path / "dataset")
    place = tmp_path / "coded/128x128"
    place.mkdir(parents=True)
    first = files_of_before(clips, tmp_path / "before")[0]
    saved = load_file(first)
    save_file({name: value for name, value in saved.items() if name != "heard"}, place / "1.safetensors")
    message = said(tmp_path / "coded", workers=1)  # one line, also from a process that makes batches
    assert "1.safetensors: the coded clip lacks heard" in message and len(message.strip().splitlines()) == 1
    (place / "1.safetensors").write_bytes(first.read_bytes()[:-1000])
    assert "the coded clip cannot be read" in said(tmp_path / "coded")


def _short(clips: Path) -> str:
    with pytest.raises(TrainingError) as error:
        LatentClips(clips, preset("tiny"), 0, 1, 20)
    return str(error.value)


def test_lips_mask_covers_the_mouth(tmp_path):
    k = small_synth(tmp_path / "s").clip(2).frames[0].keypoints
    mask = lips_mask(k, (16, 16))
    x, y = (k.face[60:68].mean(0) * 16).astype(int)
    assert mask[y, x] == 1 and mask.mean() < 0.25


@pytest.mark.parametrize("stage", ["1", "2"])
def test_every_part_of_a_stage_is_trained(clips, stage):
    """One step moves every weight that the stage trains; stage 1 leaves the motion modules alone."""
    temporal = stage == "2"
    config = ClipStageConfig(
        stage,
        batch=2,
        frames=12 if temporal else 1,
        temporal=temporal,
        motion=1.0,
        drop_audio=0,
        drop_reference=0,
        lips=4,
        hear=0.3,
        driving={"skeleton": 0.99},
    )
    network = build_network(dataclasses.replace(preset("tiny"), pose_shift=True))
    for p in network.parameters():  # away from the zeros it starts with, behind which nothing has a gradient
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    built = ClipStage(clips, network, config)
    batch = built.dataset(0)[0]
    # Temporal codebooks need several frames, and hands that are not in the picture describe nothing.
    wanted = {
        name: p
        for name, p in network.named_parameters()
        if p.requires_grad and not any(part in name for part in ("regions", "hand_encoder", "clarity"))
    }
    for seed in range(8):  # the heat maps' loss counts in half of the batches only
        built.loss(batch, torch.Generator().manual_seed(seed))["loss"].backward()
        silent = [name for name, p in wanted.items() if p.grad is None or not p.grad.any()]
        if not silent:
            break
    assert silent == []
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert any("motion_modules" in n for n in frozen) == (not temporal)
    assert all("motion_modules" in n or n.startswith("pose_to_latent") for n in frozen)


def test_ablated_networks_train(clips):
    for switches in ABLATIONS.values():
        network = build_network(preset("tiny").without(**switches))
        built = ClipStage(clips, network, ClipStageConfig("2", batch=1, frames=4))
        loss = built.loss(built.dataset(0)[0], torch.Generator().manual_seed(0))["loss"]
        loss.backward()
        assert torch.isfinite(loss)


def test_the_follower_learns_from_key_points_alone(clips, tmp_path):
    """Sixty steps explain more of the clips, no other weight moves, and a frame without key points expects nothing."""
    built = build_stage("pose", Sources(clips=str(clips)), {"batch": 2, "driving": {"skeleton": 1.0}})
    before = {k: v.clone() for k, v in built.module.state_dict().items()}
    data = built.dataset(0)
    judge = lambda: sum(built.loss(data[i], torch.Generator())["unexplained"].item() for i in range(100, 104)) / 4  # noqa: E731
    assert judge() == pytest.approx(1.0)  # it expects nothing yet
    train(built, tmp_path, LoopConfig(steps=60, lr=4e-3, warmup=5, decay=30, workers=0, save_seconds=1e9))
    assert judge() < 0.9
    moved = {k.split(".")[0] for k, v in built.module.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"pose_to_latent"}
    batch = data[0]
    batch["pose_shift"][:, 1] = 0
    expected = built.module.pose_to_latent(batch["pose_shift"], batch["r"])
    assert expected[:, 0].any() and not expected[:, 1].any()


def test_the_follower_needs_a_preset_with_it(clips):
    network = build_network(dataclasses.replace(preset("tiny"), pose_shift=False))
    with pytest.raises(TrainingError, match="pose_shift = true"):
        PoseStage(clips, network, PoseStageConfig())


def test_slow_training_noise_acts_where_nothing_drives_the_body(clips):
    """It is drawn in the flow's channels of undriven clips alone; a driven clip's loss is what it was."""
    slow = build_network(preset("tiny"))
    network = build_network(
        dataclasses.replace(preset("tiny"), diffusion=dataclasses.replace(preset("tiny").diffusion, slow_noise=0.0))
    )
    for share, driven in ((0.0, False), (1.0, True)):
        config = ClipStageConfig("2", batch=1, driving=DrivingMix(skeleton=share))
        batch = ClipStage(clips, network, config).dataset(0)[0]
        assert bool(batch["moving"].any()) is not driven
        with torch.no_grad():
            plain, mixed = (
                float(ClipStage(clips, n, config).loss(batch, torch.Generator().manual_seed(1))["main"])
                for n in (network, slow)
            )
        assert (plain == mixed) is driven


def test_overfitting_one_batch_halves_the_loss(clips, tmp_path):
    """Twelve steps on the same clip with the same noise."""
    built = ClipStage(clips, build_network(preset("tiny")), ClipStageConfig("2", drop_audio=0.0, drop_reference=0.0))
    batch, loss = built.dataset(0)[0], built.loss
    built.dataset = lambda seed: [batch] * 100
    built.loss = lambda batch, generator: loss(batch, torch.Generator().manual_seed(1))
    before = float(built.loss(batch, None)["main"].detach())
    train(built, tmp_path, LoopConfig(steps=12, lr=2e-3, warmup=2, decay=6, workers=0, save_seconds=1e9))
    assert float(built.loss(batch, None)["main"].detach()) < 0.5 * before


def ordinary(folder: Path) -> Path:
    """Copy the embedded model, and say that it is not distilled, so that it can be a teacher."""
    shutil.copytree(find_model("tiny"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["preset"]["sampling"] |= {"distilled": False, "steps": preset("tiny").sampling.steps}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_network_is_distilled_and_assembled(clips, tmp_path, capsys):
    run, model = tmp_path / "run", tmp_path / "model"
    teacher = ordinary(tmp_path / "teacher")
    for command in (["distill"], ["run", "--stage", "distill"]):
        assert main(["train", *command, "--data", str(clips), "-o", str(run)]) == 9
        assert "--init" in capsys.readouterr().err
    assert (
        main(
            [
                "train",
                "distill",
                "--data",
                str(clips),
                "--init",
                str(teacher),
                "-o",
                str(run),
                "--steps",
                "1",
                "--batch",
                "1",
                "--workers",
                "0",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["stage"] == "distill"
    for once in (str(run), "tiny"):
        assert main(["train", "distill", "--data", str(clips), "--init", once, "-o", str(tmp_path / "again")]) == 9
        assert "not distilled itself" in capsys.readouterr().err
    assemble(model, network=str(run))
    assert load_preset(model) == distilled_preset(load_preset(teacher), 2)
    again = preset_for_weights(preset("tiny"), str(model))  # trained on, it is an ordinary network again
    assert (again.diffusion, again.sampling) == (preset("tiny").diffusion, preset("tiny").sampling)
    assert preset_for_weights(preset("tiny"), "tiny") == preset("tiny") == load_preset(teacher)
    assert load_preset(find_model("tiny")) == distilled_preset(preset("tiny"), 2)
    assert preset_for_weights(preset("sd15"), "tiny").sampling.slow_noise == 0  # which its codec could not have
    ours, theirs = (
        load_file(model / "network.safetensors"),
        with_current_names(load_file(find_model("tiny") / "network.safetensors")),
    )
    moved = {name.split(".")[0] for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert ours.keys() == theirs.keys() and moved == {"denoising_unet"}


def test_the_recipe_has_every_stage():
    for stage in STAGES:
        loop, settings = read_recipe(None, stage)
        assert loop.steps > 0 and loop.lr > 0 and isinstance(settings, dict)


@dataclasses.dataclass
class _LineConfig:
    scale: float = 1.0


def test_a_stage_of_another_package_is_registered_and_trained(tmp_path, monkeypatch):
    """One file that registers its builder, settings and sources, and a section in a recipe."""
    monkeypatch.setattr("cyberhost_model.lab.training.registry.STAGES", dict(STAGES))

    @register_stage("line", _LineConfig, sources=("speech",))
    def build(inputs: StageInputs) -> _Line:
        stage = _Line()
        stage.module[0].weight.data.mul_(inputs.config.scale)
        return stage

    recipe = tmp_path / "line.toml"
    recipe.write_text("[loop]\nworkers = 0\n[line]\nsteps = 2\nscale = 2.0\n")
    loop, settings = read_recipe(recipe, "line")
    assert settings == {"scale": 2.0}
    with pytest.raises(TrainingError, match="--speech"):
        build_stage("line", Sources(), settings)
    built = build_stage("line", Sources(speech=[str(tmp_path)]), settings)
    assert torch.equal(built.module[0].weight, 2 * _Line().module[0].weight)
    last = train(built, tmp_path / "run", loop)
    assert json.loads((last / "state.json").read_text())["step"] == 2
    with pytest.raises(TrainingError, match="there is no stage 'lines'"):
        build_stage("lines", Sources(), {})
    recipe.write_text("[line]\nsteps = 2\nslope = 2.0\n")
    with pytest.raises(TrainingError, match="unknown setting 'slope'"):
        read_recipe(recipe, "line")


def test_bad_recipes_and_sources_are_told(tmp_path, clips):
    with pytest.raises(TrainingError, match="no section"):
        read_recipe(None, "3")
    (tmp_path / "broken.toml").write_text("steps = = 3")
    with pytest.raises(InputError, match="not a training recipe"):
        read_recipe(tmp_path / "broken.toml", "1")
    with pytest.raises(TrainingError, match="--data"):
        build_stage("2", Sources(), {})
    with pytest.raises(TrainingError, match="unknown setting"):
        build_stage("2", Sources(clips=str(clips)), {"bath": 3})
    with pytest.raises(TrainingError, match="cannot start from it"):
        build_stage("2", Sources(clips=str(clips)), {}, init=str(tmp_path))


def test_the_commands_from_speech_to_a_run(tmp_path, capsys):
    """`data synth` and `train --stage audio` on drawn people, synthetic voices and made-up lips."""
    speech = speech_folder(tmp_path / "speech")
    assert (
        main(
            [
                "data",
                "synth",
                "--speech",
                str(speech),
                "-o",
                str(tmp_path / "d"),
                "--clips",
                "1",
                "--frames",
                "16",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["clips"] == 1
    assert len(list((tmp_path / "d").glob("*.mp4"))) == 1
    material = audio_stage_arguments(tmp_path / "material")
    run = ["train", *material, "-o", str(tmp_path / "run"), "--steps", "2", "--json"]
    assert main(run) == 0
    assert json.loads(capsys.readouterr().out)["stage"] == "audio"
    assert main(["train", "--stage", "2", "-o", str(tmp_path / "other")]) == 9
    assert "--data" in capsys.readouterr().err
