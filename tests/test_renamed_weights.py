"""Weights of the network under the names of cyberhost 0.1: files and runs load, go on and give the same numbers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cyberhost_model.config import EMBEDDED, preset
from cyberhost_model.lab.training.assemble import averaged_weights
from cyberhost_model.lab.training.init import load_weights
from cyberhost_model.lab.training.loop import LoopConfig, train
from cyberhost_model.lab.training.stages.distill import distilled_preset
from cyberhost_model.model.checkpoint import RENAMED, check_network, load_network, save_network
from model_helpers import MINI, make_network
from training_helpers import SMALL, RandomStage

BOTH_PRIORS = {"pose_shift": True, "motion_prior": 2.0}


def old_name(name: str) -> str:
    """The name that cyberhost 0.1 gave to a weight."""
    for old, new in RENAMED.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def with_old_names(file: Path) -> None:
    """Rewrite a file of weights as cyberhost 0.1 would have written it."""
    weights = load_file(file)
    old = {old_name(name): value for name, value in weights.items()}
    assert old.keys() != weights.keys()
    save_file(old, file)


def test_the_embedded_model_has_the_names_of_today():
    file = EMBEDDED / "tiny" / "network.safetensors"
    network = load_network(file.parent)
    assert load_file(file).keys() == network.state_dict().keys()
    assert check_network(file.parent) == network.preset == distilled_preset(preset("tiny"), 2)


def test_a_model_with_old_names_is_the_same(tmp_path):
    network = make_network(dataclasses.replace(MINI, **BOTH_PRIORS))
    save_network(network, tmp_path, torch.float32)
    with_old_names(tmp_path / "network.safetensors")
    loaded = load_network(tmp_path).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(loaded[name], value), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """A run of one step, and the same run under old names."""
    new, old = tmp_path_factory.mktemp("new") / "run", tmp_path_factory.mktemp("old") / "run"
    train(stage(), new, loop_config(1))
    shutil.copytree(new, old)
    for name in ("model", "ema"):
        with_old_names(old / "last" / f"{name}.safetensors")
    state = json.loads((old / "last/state.json").read_text())
    state["extra"]["trained"] = [old_name(name) for name in state["extra"]["trained"]]
    (old / "last/state.json").write_text(json.dumps(state))
    return new, old


def stage() -> RandomStage:
    """A stage whose network has both priors."""
    return RandomStage(preset=dataclasses.replace(SMALL, **BOTH_PRIORS))


def loop_config(steps: int) -> LoopConfig:
    """A loop that saves at its end alone."""
    return LoopConfig(steps=steps, lr=1e-3, warmup=0, workers=0, log_every=1, save_seconds=1e9)


def test_weights_of_a_run_with_old_names_start_another_and_are_assembled(runs):
    new, old = runs
    filled, same = (
        make_network(dataclasses.replace(SMALL, **BOTH_PRIORS), seed=7),
        make_network(dataclasses.replace(SMALL, **BOTH_PRIORS), seed=8),
    )
    assert load_weights(filled, str(old)) == load_weights(same, str(new))
    found = filled.state_dict()
    for name, value in same.state_dict().items():
        assert torch.equal(found[name], value), name
    assert averaged_weights(old).keys() == averaged_weights(new).keys() and averaged_weights(old, "pose_to_latent.")


def test_a_run_with_old_names_resumes(runs):
    new, old = runs
    for run in runs:
        train(stage(), run, loop_config(2))
    for name in ("model", "ema", "optimizer"):
        expected, found = (load_file(run / "last" / f"{name}.safetensors") for run in (new, old))
        assert expected.keys() == found.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
