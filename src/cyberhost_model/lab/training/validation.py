"""Validation: the denoising error of held-out clips, by region and by noise level, with the averaged weights.

Every measurement takes the same cuts and the same noise, so that two of them, of one run or of two on one preset,
differ by the weights alone. It tells parts of a network apart long before videos do.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import LatentClips, find_clips
from cyberhost_model.lab.training.losses import Prediction
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels, 0 without noise and 1 without signal."""
SEED = 90_001
"""Of cuts and noise; no run's seed changes them."""
BEST = "best"
"""Folder of a run with its best averaged weights, itself laid out as a run."""


@dataclass(frozen=True)
class Validation:
    """What is measured: `cuts` clips of the coded clips in `folder`, in each process so many of them."""

    folder: Path
    cuts: int = 24

    def dataset(self, stage: Stage) -> LatentClips:
        """Make the cuts, one a batch. Raises TrainingError for a stage that does not denoise clips."""
        if not isinstance(stage, ClipStage):
            raise TrainingError(f"{stage.name} has no validation: leave out --validate")
        return LatentClips(self.folder, stage.preset, SEED, 1, stage.config.frames, driving=stage.config.driving)

    @torch.no_grad()
    def measure(self, stage: Stage, world: Process) -> dict[str, float]:
        """Measure the mean squared error: "valid", "valid_face", "valid_hands", "valid_lips", "valid_t0.1" ...

        A region counts by its share of every cell. Every process must call it; each measures its part.
        """
        dataset = self.dataset(stage)
        assert isinstance(stage, ClipStage)
        sums: dict[str, float] = {}
        for i in range(-(-self.cuts // world.size)):
            item = i * world.size + world.rank
            batch = {k: v.to(world.device) if isinstance(v, Tensor) else v for k, v in dataset[item].items()}
            for level in LEVELS:
                generator = torch.Generator(world.device).manual_seed(SEED + item)
                made = stage.predict(batch, generator, level)
                for name, (total, weight) in errors_by_region(made).items():
                    names = [f"valid_{name}"] if name else ["valid", f"valid_t{level:g}"]
                    for each in names:
                        sums[each] = sums.get(each, 0.0) + total
                        sums[f"{each} weight"] = sums.get(f"{each} weight", 0.0) + weight
        means = world.mean(sums)
        return {name: means[name] / max(means[f"{name} weight"], 1e-9) for name in means if " " not in name}


@torch.no_grad()
def errors_by_clip(
    stage: ClipStage, folder: Path, device: torch.device, levels: int = len(LEVELS)
) -> dict[str, dict[str, float]]:
    """Measure every coded clip of `folder` by itself: its name -> region -> mean squared error over its noise levels.

    Regions are "whole", "face", "hands" and "lips"; NaN for one that a clip does not show. levels: how many of LEVELS
    a clip has, in turn, so that all clips together have all. Two networks on one preset get the same cuts, levels and
    noise, so their errors are paired. Raises TrainingError where `folder` has no clip that fits.
    """
    dataset = LatentClips(folder, stage.preset, SEED, 1, stage.config.frames)
    found: dict[str, dict[str, float]] = {}
    for number, clip in enumerate(find_clips(folder, stage.preset, stage.config.frames)):
        batch = {name: value.to(device) for name, value in dataset.cut_clip(clip, number).items()}
        sums: dict[str, list[tuple[float, float]]] = {}
        for level in (LEVELS[(number * levels + k) % len(LEVELS)] for k in range(levels)):
            generator = torch.Generator(device).manual_seed(SEED + number)
            for region, sum_and_weight in errors_by_region(stage.predict(batch, generator, level)).items():
                sums.setdefault(region or "whole", []).append(sum_and_weight)
        totals = {region: np.sum(pairs, axis=0) for region, pairs in sums.items()}
        found[clip.name] = {
            region: float(total / weight) if weight > 0 else float("nan") for region, (total, weight) in totals.items()
        }
    return found


def errors_by_region(made: Prediction) -> dict[str, tuple[float, float]]:
    """Sum the squared errors of a prediction: region ("" for all) -> (weighted sum, sum of the weights)."""
    error = made.error.float().mean(2)
    masks = made.batch["masks"].float()
    regions = {"": torch.ones_like(error), "face": masks[:, :, 0], "hands": masks[:, :, 1], "lips": made.batch["lips"]}
    return {name: (float((error * mask).sum()), float(mask.sum())) for name, mask in regions.items()}


def lowest_error(run: Path) -> float:
    """Read the lowest error that a run has reached; infinity before the first."""
    try:
        return float(json.loads((run / BEST / "last" / "state.json").read_text(encoding="utf-8"))["valid"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("inf")


def keep_best(run: Path, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Put averaged weights in the place of RUN/best, with their `state` (stage, step, valid). Raises OSError."""
    new, old = run / f"{BEST}.new", run / f"{BEST}.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    (new / "last").mkdir(parents=True)
    save_file({name: value.contiguous().cpu() for name, value in weights.items()}, new / "last" / "ema.safetensors")
    (new / "last" / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
    shutil.copyfile(run / "config.json", new / "config.json")
    if (run / BEST).exists():
        os.replace(run / BEST, old)
    os.replace(new, run / BEST)
    shutil.rmtree(old, ignore_errors=True)
