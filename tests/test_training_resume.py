"""A run that goes on is the run that was begun, and says what is not the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import cv2
import pytest
import torch

from cyberhost_model.errors import ResourceError, TrainingError
from cyberhost_model.lab.training.loop import Trainer, train
from cyberhost_model.lab.training.optimizer import build_optimizer
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.record import RECORD, origin_of
from cyberhost_model.lab.training.reports import Curves, read_curves
from cyberhost_model.lab.training.stage import ProcessItems, memory_advice
from cyberhost_model.lab.training.stages.clip import ClipStageConfig
from training_helpers import RandomStage, small_config


def _predicts(what: str) -> RandomStage:
    stage = RandomStage()
    preset = stage.module.preset
    stage.module.preset = dataclasses.replace(preset, diffusion=dataclasses.replace(preset.diffusion, prediction=what))
    return stage


def test_another_prediction_is_refused(tmp_path):
    train(_predicts("x0"), tmp_path, small_config(steps=1))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(TrainingError, match=r"diffusion.prediction \(x0, now flow\)"):
        train(_predicts("flow"), tmp_path, small_config())
    assert (tmp_path / "config.json").read_bytes() == before
    train(_predicts("x0"), tmp_path, small_config())


def test_another_seed_and_other_frozen_parts_are_refused(tmp_path):
    train(RandomStage(), tmp_path, small_config(steps=1))
    with pytest.raises(TrainingError, match=r"seed \(0, now 1\)"):
        train(RandomStage(), tmp_path, small_config(seed=1))
    frozen = RandomStage()
    for parameter in frozen.module.reference_net.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(TrainingError, match="what trains"):
        train(frozen, tmp_path, small_config())


def test_steps_that_a_crash_lost_leave_the_curves(tmp_path):
    curves = Curves(tmp_path, 0)
    for step in (5, 10, 15):
        curves.add(step, {"loss": step})
    curves.close()
    curves = Curves(tmp_path, 10)
    curves.add(15, {"loss": 0.5})
    curves.close()
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,loss"
    assert [(row.split(",")[0], row.split(",")[2]) for row in lines[1:]] == [("5", "5"), ("10", "10"), ("15", "0.5")]


def test_curves_are_a_table_though_values_join_late(tmp_path):
    """Also those of 0.1, which have no header; a row that a crash cut is left out."""
    (tmp_path / "curves.csv").write_text("5,1.5,loss=3,lr=0.1\n10,3.0,loss=2,lr=0.1\n15,4.")
    curves = Curves(tmp_path, 10)
    curves.add(15, {"loss": 1, "lr": 0.1, "mfu": 0.4})
    curves.close()
    assert (tmp_path / "curves.csv").read_text().splitlines()[:3] == [
        "step,seconds,loss,lr,mfu",
        "5,1.5,3,0.1,",
        "10,3.0,2,0.1,",
    ]
    names, rows = read_curves(tmp_path / "curves.csv")
    assert names == ["loss", "lr", "mfu"] and [row["mfu"] for row in rows] == ["", "", "0.4"]


class _Configured(RandomStage):
    """A stage with settings and data, as stage 2 has them."""

    def __init__(self, data: Path, batch: int = 1) -> None:
        super().__init__()
        self.data, self.config = data, ClipStageConfig(batch=batch)


def test_a_run_goes_on_only_with_what_it_was_begun_with(tmp_path):
    data, run = tmp_path / "clips", tmp_path / "run"
    data.mkdir()
    (data / "a.safetensors").write_bytes(b"clip")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[2]\n")
    origin = origin_of(recipe, str(data / "a.safetensors"))
    train(_Configured(data), run, small_config(steps=1), origin=origin)
    made = json.loads((run / "config.json").read_text())[RECORD]
    assert made["settings"]["drop_audio"] == 0.1 and made["data"]["folder"] == str(data)
    assert made["versions"]["torch"] == torch.__version__
    moved = data.rename(tmp_path / "moved")
    train(_Configured(moved), run, small_config(steps=2))
    with pytest.raises(TrainingError, match=r"batch \(1, now 2\).*--allow-changed"):
        train(_Configured(moved, batch=2), run, small_config(steps=3))
    (moved / "b.safetensors").write_bytes(b"another")
    with pytest.raises(TrainingError, match="data "):
        train(_Configured(moved), run, small_config(steps=3))
    train(_Configured(moved, batch=2), run, small_config(steps=3, allow_changed=True))
    made = json.loads((run / "config.json").read_text())[RECORD]
    assert made["settings"]["batch"] == 2 and made["origin"] == origin
    assert origin["init_sha256"] == hashlib.sha256(b"clip").hexdigest() and origin["recipe"] == str(recipe)


def test_workers_are_forked_without_a_pool_of_opencv_s(tmp_path):
    """Such a pool, as measuring videos leaves one, hangs them at their first use of OpenCV."""
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        trainer = Trainer(RandomStage(), tmp_path, small_config(workers=1), Process(torch.device("cpu")))
        trainer.prepare()
        next(trainer.batches())
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(threads)


class _Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def files(self, i):
        return [f"clip-{i}.safetensors"]

    def __getitem__(self, i):
        return torch.stack([torch.zeros(1), torch.zeros(2)])


def test_bad_data_is_told_with_its_file(tmp_path):
    """In a worker too, where it is no matter of memory."""

    class Bad(RandomStage):
        def dataset(self, seed):
            return _Broken()

    for workers in (0, 1):
        with pytest.raises(TrainingError, match=r"item 0: clip-0.safetensors cannot be used \(RuntimeError"):
            train(Bad(), tmp_path, small_config(workers=workers))
    assert isinstance(ProcessItems(_Broken(), 0, 1)[0], TrainingError)


def test_a_worker_that_died_is_a_matter_of_memory():
    with pytest.raises(ResourceError, match="fewer workers"), memory_advice(small_config(), False, 1):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed.")
    with pytest.raises(RuntimeError, match="Caught"), memory_advice(small_config(), False, 1):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")


def test_8_bit_moments_are_not_sharded():
    with pytest.raises(TrainingError, match="fsdp"):
        build_optimizer([torch.nn.Parameter(torch.zeros(4))], small_config(optimizer="adamw8bit"), sharded=True)
