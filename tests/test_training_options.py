"""What a run can be told: precision, accumulation, checkpoints, reports, sample videos, dry runs, and what it says
when it cannot go on.
"""

from __future__ import annotations

import dataclasses
import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cyberhost_cli.main import main
from cyberhost_model.conditions.pose_shift import MAPS
from cyberhost_model.config import ABLATIONS, preset
from cyberhost_model.errors import InputError, OutputError, ResourceError, TrainingError
from cyberhost_model.lab.training.dry_run import trace_step
from cyberhost_model.lab.training.init import build_network, freeze, load_weights, preset_for_weights, read_weights
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.optimizer import build_optimizer, decaying, flat_state, load_flat_state
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.recipe import read_recipe, stage_settings
from cyberhost_model.lab.training.reports import Speed, peak_flops, read_curves
from cyberhost_model.lab.training.samples import SampleVideos
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import ProcessItems, StageLoss
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.model.network import CyberHostNetwork
from model_helpers import MINI, make_network
from training_helpers import SMALL, RandomClips, RandomStage, small_config


def _curves(run: Path) -> list[dict[str, float]]:
    names, rows = read_curves(run / "curves.csv")
    return [{name: float(row[name]) for name in names if row[name]} for row in rows]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_in_float32_weights_and_goes_on(tmp_path, precision):
    options = {
        "precision": precision,
        "gradient_checkpointing": True,
        "optimizer": "adamw-fused",
        "ema_device": "cpu",
        "ema_every": 2,
    }
    train(RandomStage(), tmp_path, small_config(steps=1, **options))
    train(RandomStage(), tmp_path, small_config(**options))
    assert all(
        value.dtype == torch.float32
        for value in load_file(tmp_path / "last/model.safetensors").values()
        if value.is_floating_point()
    )
    state = json.loads((tmp_path / "last/state.json").read_text())
    assert state["step"] == 2 and ("scaler" in state["extra"]) == (precision == "fp16")


def test_8_bit_adamw_goes_on_or_says_what_is_missing(tmp_path):
    try:
        import bitsandbytes  # noqa: F401
    except Exception:
        with pytest.raises(TrainingError, match="pip install bitsandbytes"):
            train(RandomStage(), tmp_path, small_config(optimizer="adamw8bit"))
        return
    train(RandomStage(), tmp_path, small_config(steps=1, optimizer="adamw8bit"))
    train(RandomStage(), tmp_path, small_config(optimizer="adamw8bit"))
    assert torch.uint8 in {value.dtype for value in load_file(tmp_path / "last/optimizer.safetensors").values()}
    with pytest.raises(TrainingError, match="another --optimizer"):
        train(RandomStage(), tmp_path, small_config(steps=3))


def test_one_process_that_accumulates_takes_the_items_of_several():
    data = RandomClips(0, mixed=True)
    alone = ProcessItems(data, 10, 4)
    both = [ProcessItems(data, 10, 2, rank, 2) for rank in (0, 1)]
    assert [alone.item(i) for i in range(4)] == [10, 11, 12, 13]
    assert sorted(share.item(i) for share in both for i in range(2)) == [10, 11, 12, 13]
    assert torch.equal(both[1][1]["z"], data[13]["z"])


def test_the_last_checkpoints_stay(tmp_path):
    train(RandomStage(), tmp_path, small_config(steps=4, save_seconds=0, keep=3))
    assert sorted(place.name for place in (tmp_path / "older").iterdir()) == ["00000002", "00000003"]
    assert json.loads((tmp_path / "older/00000003/state.json").read_text())["step"] == 3
    assert json.loads((tmp_path / "last/state.json").read_text())["step"] == 4


def test_a_checkpoint_of_before_processes_can_be_gone_on_with(tmp_path):
    """state.json once held stage and step alone."""
    train(RandomStage(), tmp_path, small_config(steps=1))
    (tmp_path / "last/state.json").write_text('{"stage": "stage 2", "step": 1}')
    train(RandomStage(), tmp_path, small_config())
    assert json.loads((tmp_path / "last/state.json").read_text())["items"] == 2


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    train(RandomStage(), tmp_path, small_config(steps=1))
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="no room for a checkpoint"):
            train(RandomStage(), tmp_path, small_config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert json.loads((tmp_path / "last/state.json").read_text())["step"] == 1
    assert not (tmp_path / "last.new").exists()
    assert load_file(tmp_path / "last/model.safetensors").keys() == RandomStage().module.state_dict().keys()


class _Greedy(RandomStage):
    def loss(self, batch, generator):
        return {"loss": torch.empty(10**14)[0]}


def test_too_little_memory_says_which_option_to_change(tmp_path):
    with pytest.raises(ResourceError, match="--gradient-checkpointing, --precision bf16, a smaller batch"):
        train(_Greedy(), tmp_path, small_config())


def test_a_nan_names_the_files_of_its_batch(tmp_path):
    class Poisoned(RandomStage):
        def loss(self, batch, generator):
            return {"loss": super().loss(batch, generator)["loss"] * float("inf")}

    with pytest.raises(TrainingError, match=r"not finite at step 0 \(item 0: clip-0.safetensors\).*no checkpoint yet"):
        train(Poisoned(), tmp_path, small_config())


def test_a_gradient_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    """The loss may be finite all the same, as the root of nothing is."""

    class Poisoned(RandomStage):
        calls = 0

        def loss(self, batch, generator):
            losses, self.calls = super().loss(batch, generator), self.calls + torch.is_grad_enabled()
            return {"loss": losses["loss"] + (losses["loss"] * 0).sqrt()} if self.calls == 3 else losses

    with pytest.raises(
        TrainingError,
        match=r"gradient is not finite at step 1 \(item 2: clip-2.safetensors; item 3.*last checkpoint is step 1",
    ):
        train(Poisoned(), tmp_path, small_config(save_seconds=0, accumulate=2))
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "last/ema.safetensors").values())


def test_an_empty_dataset_is_told(tmp_path):
    class Empty(RandomStage):
        def dataset(self, seed):
            return []

    with pytest.raises(TrainingError, match="empty"):
        train(Empty(), tmp_path, small_config())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"precision": "fp8"}, "precision"),
        ({"lr": "1e-3"}, "lr"),
        ({"steps": True}, "steps"),
        ({"workers": -1}, "workers"),
        ({"device": "gpu"}, "device"),
        ({"report": ["mlflow"]}, "report"),
        ({"accumulate": 0}, "accumulate"),
        ({"lr": 0}, "lr"),
    ],
)
def test_settings_that_cannot_be(tmp_path, change, word):
    with pytest.raises(TrainingError, match=word):
        train(RandomStage(), tmp_path, small_config(**change))


def test_curves_tell_losses_and_speed_and_go_to_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    train(RandomStage(), tmp_path, small_config(report=["tensorboard"], peak_tflops=1.0))
    for row in _curves(tmp_path):
        assert {
            "loss",
            "main",
            "mask",
            "hear",
            "grad_norm",
            "lr",
            "samples_s",
            "data_share",
            "tflops",
            "mfu",
        } <= row.keys()
        assert (
            row["samples_s"] > 0
            and 0 <= row["data_share"] <= 1
            and row["mfu"] == pytest.approx(row["tflops"], rel=1e-3)
        )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [round(e.value, 3) for e in events.Scalars("main")] == [
        pytest.approx(row["main"], abs=2e-3) for row in _curves(tmp_path)
    ]


def test_flops_are_counted_once_for_each_set_of_sizes():
    x, speed, attention = torch.randn(2, 8, 4, 4), Speed(1, None), 2 * 2 * 8 * 4 * 4 * (4 + 4)
    with speed.forward({"x": x}):
        torch.nn.functional.scaled_dot_product_attention(x, x, x)
    assert speed.flops == 3 * attention
    with speed.forward({"x": x}):
        pass  # its size is known
    assert speed.flops == 2 * 3 * attention and speed.samples == 4
    with speed.forward({"x": x[:1]}):
        pass
    assert speed.flops == 2 * 3 * attention and speed.samples == 5
    assert peak_flops(torch.device("cpu"), "fp32") is None and peak_flops(torch.device("cpu"), "fp32", 2) == 2e12


def test_only_the_loss_that_trains_has_a_gradient():
    stage = RandomStage()
    losses = StageLoss(stage)(stage.dataset(0)[0], torch.Generator().manual_seed(0))
    assert [name for name, value in losses.items() if value.requires_grad] == ["loss"]


def test_weights_begin_where_init_says(tmp_path):
    network = build_network(preset("tiny"))
    weights = network.state_dict()
    save_file(weights, tmp_path / "own.safetensors")
    (tmp_path / "run/last").mkdir(parents=True)
    save_file(weights, tmp_path / "run/last/ema.safetensors")
    for source in (tmp_path / "own.safetensors", tmp_path / "run"):
        assert all(torch.equal(value, weights[name]) for name, value in read_weights(str(source)).weights.items())
    load_weights(network, "tiny")
    assert network.state_dict().keys() == read_weights("tiny").weights.keys() and network.dtype == torch.float32
    with pytest.raises(TrainingError, match="not of the same preset"):
        load_weights(make_network(MINI), "tiny")
    with pytest.raises(TrainingError, match="cannot start from"):
        read_weights(str(tmp_path / "nothing"))


def test_a_network_may_begin_without_a_reader_of_the_pose_shift(tmp_path):
    """An older network's weights leave it as it was made: saying nothing."""
    older = build_network(dataclasses.replace(preset("tiny"), pose_shift=False))
    save_file(older.state_dict(), tmp_path / "older.safetensors")
    network = build_network(dataclasses.replace(preset("tiny"), pose_shift=True))
    load_weights(network, str(tmp_path / "older.safetensors"))
    shift, latent = torch.randn(1, 2, MAPS, 8, 8), torch.randn(1, 39, 4, 4)
    assert network.pose_to_latent is not None and not network.pose_to_latent(shift, latent).any()
    assert torch.equal(network.reference_net.unet.conv_in.weight, older.reference_net.unet.conv_in.weight)


def test_frozen_parts_do_not_train():
    network = make_network(MINI)
    freeze(network, ["reference_net.*"])
    assert not any(p.requires_grad for p in network.reference_net.parameters()) and any(
        p.requires_grad for p in network.parameters()
    )
    with pytest.raises(TrainingError, match="fits no parameter"):
        freeze(network, ["refrence_net.*"])


@pytest.mark.parametrize("row", list(ABLATIONS))
def test_every_row_of_the_ablation_trains_the_paper_s_stage_1(row):
    """Where a row has not got what the recipe freezes, that is no mistake."""
    _, settings = read_recipe("sd15", "1")
    shape, _, frozen = stage_settings("1", {**settings, "ablations": ABLATIONS[row]})
    with torch.device("meta"):
        network = CyberHostNetwork(shape)
    freeze(network, frozen)
    assert any(p.requires_grad for p in network.parameters())


def test_the_sd15_recipe_is_the_paper_s():
    for stage in ("1", "2"):
        loop, settings = read_recipe("sd15", stage)
        shape, config, frozen = stage_settings(stage, settings)
        assert loop.lr == 1e-5 and shape.name == "sd15" and shape.size == (640, 384) and shape.motion_frames == 4
        assert (config.batch, config.frames, config.temporal) == ((12, 1, False) if stage == "1" else (1, 12, True))
    with pytest.raises(InputError):
        read_recipe("sd16", "1")


def test_a_recipe_sets_the_slow_share_of_the_training_noise():
    shape, _, _ = stage_settings("2", {"slow_noise": 0.3})
    assert shape.diffusion.slow_noise == 0.3 and stage_settings("2", {})[0].diffusion.slow_noise == 0.5
    assert preset_for_weights(shape, "tiny").diffusion.slow_noise == 0.3  # also where weights of another noise go on
    for wrong in (1.0, -0.1, "much"):
        with pytest.raises(TrainingError, match=r"section \[2\]"):
            stage_settings("2", {"slow_noise": wrong})


def test_a_trace_on_fake_tensors_tells_what_checkpointing_spares():
    _, settings = read_recipe("tiny", "2")
    _, config, _ = stage_settings("2", settings)
    config.batch, config.frames = 1, SMALL.frames
    kept, spared = (trace_step(SMALL, config, LoopConfig(1, gradient_checkpointing=on)) for on in (False, True))
    own = sum(p.numel() for p in make_network(SMALL).parameters())
    assert sum(row.parameters for row in kept.modules) == own
    assert spared.peak < 0.7 * kept.peak and spared.flops == kept.flops > 1e9


def test_a_dry_run_trains_nothing_and_tells_all(tmp_path, capsys):
    assert main(["train", "--stage", "2", "--dry-run", "--json", "-o", str(tmp_path / "run")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == sum(row["parameters"] for row in found["modules"]) > 10**7
    rest = {row["name"]: row["parameters"] for row in found["modules"] if not row["trained"]}
    assert (
        set(rest) == {"pose_to_latent"} and found["trained"] == found["parameters"] - rest["pose_to_latent"]
    )  # stage pose's
    memory = found["memory"]
    assert (
        memory["weights"] == 4 * found["parameters"]
        and memory["gradients"] == 4 * found["trained"]
        and memory["optimizer"] == 8 * found["trained"]
    )
    assert memory["total"] > found["memory_fsdp_8"]["weights"] and memory["activations"] > 0
    assert (
        found["steps"] == read_recipe(None, "2")[0].steps
        and found["hours"] is None
        and "--data" in found["hours_unknown_because"]
    )
    assert not (tmp_path / "run").exists()


def test_options_that_need_each_other(capsys):
    assert main(["train", "--stage", "2"]) == 2
    assert "--run" in capsys.readouterr().err
    assert main(["train", "--stage", "2", "-o", "x", "--sample-every", "5"]) == 2
    assert "--sample" in capsys.readouterr().err


def test_sample_videos_are_made_by_the_weights_given(tmp_path, portrait_file):
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, (0.2 * np.sin(np.arange(1600) / 10)).astype(np.float32), 16000)
    network = build_network(preset("tiny"))
    make = SampleVideos(tmp_path, network, portrait_file, sound, "tiny", "cpu")
    state = torch.get_rng_state()
    video = make(7, read_weights("tiny").weights)
    assert video == tmp_path / "samples/00000007.mp4" and video.stat().st_size > 1000
    assert [p.name for p in video.parent.iterdir()] == [video.name] and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TrainingError, match="does not fit preset"):
        SampleVideos(tmp_path, make_network(MINI), portrait_file, sound, "tiny", "cpu")
    with pytest.raises(InputError):
        SampleVideos(tmp_path, network, tmp_path / "nobody.png", sound, "tiny", "cpu")


def test_a_run_makes_its_sample_videos_on_time(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made, shades = [], np.arange(25, dtype=np.uint8)[:, None, None, None]
    film = write_video(
        iter(np.broadcast_to(10 * shades, (25, 64, 96, 3)).copy()),
        tmp_path / "film.mp4",
        25,
        Sound.from_samples(np.zeros(16000, np.float32), 16000),
    )

    def sample(step, weights):
        made.append((step, weights.keys()))
        return film

    train(RandomStage(), tmp_path, small_config(steps=3, sample_every=2, report=["tensorboard"]), sample=sample)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("sample")
    picture = Image.open(io.BytesIO(shown.encoded_image_string))
    assert (shown.step, shown.width, shown.height) == (2, 96, 64) and picture.n_frames > 10
    assert [step for step, _ in made] == [2] and made[0][1] == RandomStage().module.state_dict().keys()


def test_a_setting_of_the_recipe_is_changed_by_its_name(tmp_path, capsys):
    _, before = read_recipe("sd15", "2")
    loop, after = read_recipe(
        "sd15", "2", ["2.batch=3", "loop.precision=fp16", "2.driving.skeleton=0.5", "2.frozen=['audio_projection.*']"]
    )
    assert (after["batch"], loop.precision, after["frozen"]) == (3, "fp16", ["audio_projection.*"])
    assert after["driving"] == {**before["driving"], "skeleton": 0.5} and before["batch"] == 1
    with pytest.raises(TrainingError, match="unknown setting 'bacth'"):
        read_recipe("sd15", "2", ["2.bacth=3"])
    for wrong in ("batch=3", "2.batch", "2..batch=3", "=3"):
        with pytest.raises(InputError, match="SECTION.NAME=VALUE"):
            read_recipe("sd15", "2", [wrong])
    assert main(["train", "--stage", "2", "--set", "batch=3", "--data", str(tmp_path), "-o", str(tmp_path / "r")]) == 2
    assert "SECTION.NAME=VALUE" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_the_papers_size_learns_to_be_driven_as_its_commands_drive():
    """Skeletons for reenact, hands for multimodal, nothing; the other half has the body movement map."""
    _, settings = read_recipe("sd15", "2")
    mix = stage_settings("2", settings)[1].driving
    assert mix.skeleton > 0 and mix.hands > 0 and mix.nothing > 0 and mix.skeleton + mix.hands + mix.nothing == 0.5


def test_weight_decay_spares_what_is_no_layers_weight():
    network = make_network(MINI)
    spared = {
        name for (name, _), decays in zip(network.named_parameters(), decaying(network), strict=True) if not decays
    }
    weights = {name for name, p in network.named_parameters()} - spared
    assert any(name.endswith("spatial") for name in spared), "codebooks"
    assert all(name in spared for name, p in network.named_parameters() if p.ndim < 2), "norms and biases"
    assert all(name.endswith("weight") for name in weights) and len(weights) > 50
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    before = {name: p.clone() for name, p in layer.named_parameters()}
    optimizer = build_optimizer(list(layer.parameters()), small_config(weight_decay=0.5), False, decaying(layer))
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert {name for name, p in layer.named_parameters() if not torch.equal(p, before[name])} == {"0.weight"}


def test_an_optimizers_state_keeps_the_parameters_order():
    """It is numbered by the module's parameters, though weight decay sorts them into two groups."""
    torch.manual_seed(0)
    layers = [torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2)) for _ in "ab"]
    world, optimizers = Process(torch.device("cpu")), []
    for layer in layers:
        optimizers.append(build_optimizer(list(layer.parameters()), small_config(), False, decaying(layer)))
    layers[0](torch.ones(1, 2)).sum().backward()
    optimizers[0].step()
    own = [list(layer.parameters()) for layer in layers]
    flat = flat_state(optimizers[0], own[0], own[0], world)
    assert list(flat)[:3] == ["0.step", "0.exp_avg", "0.exp_avg_sq"]
    assert all(flat[f"{i}.exp_avg"].shape == p.shape for i, p in enumerate(own[0]))
    load_flat_state(optimizers[1], flat, own[1], own[1], world)
    again = flat_state(optimizers[1], own[1], own[1], world)
    assert all(torch.equal(again[name], value) for name, value in flat.items())
    assert torch.equal(optimizers[1].state[own[1][1]]["exp_avg"], optimizers[0].state[own[0][1]]["exp_avg"])
