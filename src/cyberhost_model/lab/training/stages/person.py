"""Stage person: the attention layers of a trained network learn one person, all else stays as it is. Not the paper's.

The layers train in their own places, without low-rank matrices beside them: nothing has to be merged into the weights,
and checkpoints, averages and validation are those of every stage.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from cyberhost_model.config import PRESETS, Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import find_clips
from cyberhost_model.lab.training.init import build_network, load_weights, preset_of_weights
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from cyberhost_model.model.network import CyberHostNetwork

ATTENTION = "denoising_unet.unet.*.attn[12].to_*"
"""Queries, keys, values and outputs of the Denoising U-Net's attentions: to the reference, the speech and in time."""


@dataclass
class PersonStageConfig(ClipStageConfig):
    """Settings of stage 2, and the layers that train."""

    name: str = "person"
    layers: list[str] = field(default_factory=lambda: [ATTENTION])
    """Shell patterns of the names of the parameters that train; all others stay."""


def train_alone(network: CyberHostNetwork, layers: list[str]) -> None:
    """Freeze all parameters but those whose names fit a shell pattern of `layers`.

    Raises TrainingError for a pattern that fits none.
    """
    parameters = dict(network.named_parameters())
    chosen = {pattern: fnmatch.filter(parameters, pattern) for pattern in layers}
    if unfit := [pattern for pattern, names in chosen.items() if not names]:
        raise TrainingError(f"layers = {unfit[0]!r} fits no parameter of this network")
    trained = {name for names in chosen.values() for name in names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)


def check_teachable(preset: Preset, source: str) -> None:
    """Raise TrainingError for a network that this stage cannot teach: of another family's poses."""
    if preset.name not in PRESETS or preset.pose_maps != "skeleton":
        raise TrainingError(
            f"{source}: training draws its poses otherwise than this model ({preset.name}) reads them: give a model of "
            f"preset {' or '.join(PRESETS)}"
        )


@register_stage("person", PersonStageConfig, sources=("clips",), needs_init="the model that learns the person")
def build(inputs: StageInputs) -> Stage:
    """Build stage person; the preset is that of the model it begins with, where it is known.

    A distilled network keeps its few steps: so little training hardly unlearns them.
    """
    assert inputs.init is not None
    preset = preset_of_weights(inputs.init) or inputs.preset
    check_teachable(preset, inputs.init)
    find_clips(inputs.clips, preset, inputs.config.frames)
    network = build_network(preset, inputs.seed)
    load_weights(network, inputs.init)
    stage = ClipStage(inputs.clips, network, inputs.config)
    train_alone(network, inputs.config.layers)
    return stage
