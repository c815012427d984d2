"""Stage person trains the layers it names alone, and they are the attention of the Denoising U-Net."""

from __future__ import annotations

import fnmatch

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_model.config import preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.init import parameter_shapes
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.recipe import read_recipe, stage_settings
from cyberhost_model.lab.training.stages.person import ATTENTION, check_teachable, train_alone
from training_helpers import RandomStage, small_config


class _Taught(RandomStage):
    def __init__(self) -> None:
        super().__init__()
        train_alone(self.module, [ATTENTION])


def test_attention_alone_changes(tmp_path):
    before = {name: value.clone() for name, value in _Taught().module.state_dict().items()}
    after = load_file(train(_Taught(), tmp_path, small_config()) / "model.safetensors")
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and changed <= set(fnmatch.filter(before, ATTENTION))
    kinds = {part for name in changed for part in ("motion_modules", "attentions.") if part in name}
    assert kinds == {"motion_modules", "attentions."}  # in time, and to the reference and the speech


def test_a_pattern_that_fits_nothing_is_told():
    with pytest.raises(TrainingError, match="layers = 'nothing.\\*' fits no parameter"):
        train_alone(RandomStage().module, [ATTENTION, "nothing.*"])


@pytest.mark.parametrize("name", ["tiny", "sd15"])
def test_the_shipped_recipes_teach_a_small_part_of_the_network(name):
    loop, own = read_recipe(name, "person")
    _, config, _ = stage_settings("person", own)
    shapes = parameter_shapes(preset(name))
    trained = [n for pattern in config.layers for n in fnmatch.filter(shapes, pattern)]
    share = sum(shapes[n].numel() for n in trained) / sum(shape.numel() for shape in shapes.values())
    assert 0.02 < share < 0.25 and loop.steps < read_recipe(name, "2")[0].steps / 10
    check_teachable(preset(name), name)
