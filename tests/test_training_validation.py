"""Validation on held-out clips: the same cuts and noise every time, by region and noise level, the best kept."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_cli.main import main
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.init import read_weights
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.reports import read_curves
from cyberhost_model.lab.training.validation import LEVELS, Validation
from training_helpers import RandomClips, RandomStage, small_config

WORLD = Process(torch.device("cpu"))


class _Held(Validation):
    """Cuts of noise in place of coded clips."""

    def dataset(self, stage):
        return RandomClips(9, mixed=True)


def test_the_same_weights_have_the_same_error_and_others_another():
    stage, validation = RandomStage(), _Held(None, cuts=3)
    first = validation.measure(stage, WORLD)
    assert validation.measure(stage, WORLD) == first
    assert {"valid", "valid_face", "valid_hands", "valid_lips", *(f"valid_t{t:g}" for t in LEVELS)} == set(first)
    assert first["valid"] == pytest.approx(sum(first[f"valid_t{t:g}"] for t in LEVELS) / len(LEVELS), rel=0.2)
    with torch.no_grad():
        next(p for p in stage.module.parameters() if p.requires_grad and p.ndim > 1).mul_(1.5)
    assert validation.measure(stage, WORLD)["valid"] != first["valid"]


def test_curves_have_the_error_and_the_best_weights_are_kept(tmp_path):
    config = small_config(steps=4, validate_every=2, log_every=3, ema=0.5)
    last = train(RandomStage(), tmp_path, config, validation=_Held(None, cuts=2))
    names, rows = read_curves(tmp_path / "curves.csv")
    measured = {int(row["step"]): float(row["valid"]) for row in rows if row["valid"]}
    assert list(measured) == [2, 4] and "valid_hands" in names and rows[1]["step"] == "3" and not rows[1]["valid"]
    kept = json.loads((tmp_path / "best/last/state.json").read_text())
    assert kept["valid"] == pytest.approx(min(measured.values()), rel=1e-3) and kept["step"] in measured
    best = read_weights(str(tmp_path / "best"))
    assert best.preset == RandomStage().preset and set(best.weights) == set(load_file(last / "ema.safetensors"))
    if kept["step"] == 4:
        own = load_file(last / "ema.safetensors")
        assert all(torch.equal(value, own[name]) for name, value in best.weights.items())


def test_measuring_changes_nothing_of_the_training(tmp_path):
    plain = train(RandomStage(), tmp_path / "plain", small_config())
    held = train(RandomStage(), tmp_path / "held", small_config(validate_every=1), validation=_Held(None, cuts=1))
    first, second = (load_file(run / "model.safetensors") for run in (plain, held))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_stage_without_clips_and_half_an_option_are_told(tmp_path, capsys):
    stage = RandomStage()
    other = type("Other", (), {"name": "stage codec", "module": stage.module})()
    with pytest.raises(TrainingError, match="stage codec has no validation"):
        Validation(tmp_path).dataset(other)
    run = ["train", "--stage", "2", "--data", str(tmp_path), "-o", str(tmp_path / "run")]
    assert main([*run, "--validate", str(tmp_path)]) == 2 and "--validate-every N" in capsys.readouterr().err
    assert main([*run, "--validate-every", "5"]) == 2 and "--validate DIR" in capsys.readouterr().err
