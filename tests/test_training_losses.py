"""The key point term of eq. 6 as the paper writes it, and what each term's share of the gradient is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.losses import keypoint_error
from cyberhost_model.lab.training.reports import read_curves
from training_helpers import RandomStage, small_config


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(stage: RandomStage):
    """A prediction with heat maps, for a clip that counts, and the seed that draws it."""
    batch = stage.dataset(0)[0]
    for seed in range(100):
        made = stage.predict(batch, _generator(seed))
        if made.supervised.all() and (made.time < 0.5).all():
            return made, batch, seed
    raise AssertionError("the term is never drawn")


def test_the_key_point_term_is_a_squared_norm_in_the_units_of_the_first_term():
    made, _, _ = _drawn(RandomStage())
    maps = [item for item in made.output.heatmaps if item.region == "hands"]
    frames, count = made.target.shape[1], len(maps)
    for number, item in enumerate(maps):
        truth = F.adaptive_max_pool2d(made.batch["heatmaps"].flatten(0, 1), item.values.shape[-2:])
        exact = truth.unflatten(0, made.target.shape[:2]).clone()
        if number == 0:
            exact[0, 0, 5, 0, 0] += 3.0  # one cell of one map of one frame
        made.output.heatmaps[made.output.heatmaps.index(item)] = item._replace(values=exact)
    of_latent = made.target[0, 0].numel()
    assert float(keypoint_error(made)) == pytest.approx(9.0 / frames / count / of_latent, rel=1e-4)
    made.time = torch.full_like(made.time, 0.5)
    assert float(keypoint_error(made)) == 0


def test_shares_are_those_of_the_terms_gradients():
    stage = RandomStage()
    _, batch, seed = _drawn(stage)
    shares = stage.gradient_shares(batch, _generator(seed))
    assert shares.keys() == {"share_main", "share_mask", "share_keypoints", "share_hear"}
    assert all(p.grad is None for p in stage.module.parameters())

    def norm(name: str) -> float:
        stage.module.zero_grad()
        stage.loss(batch, _generator(seed))[name].backward()
        return float(torch.stack([p.grad.norm() for p in stage.module.parameters() if p.grad is not None]).norm())

    whole = norm("loss")
    assert float(shares["share_main"]) == pytest.approx(norm("main") / whole, rel=1e-3)
    assert float(shares["share_keypoints"]) == pytest.approx(norm("keypoints") / whole, rel=1e-3)
    assert 0 < float(shares["share_keypoints"]) < 1.5


def test_curves_show_the_shares_and_training_is_the_same_without(tmp_path):
    shown = train(RandomStage(), tmp_path / "shown", small_config(steps=3, shares_every=2, accumulate=2))
    plain = train(RandomStage(), tmp_path / "plain", small_config(steps=3, shares_every=0, accumulate=2))
    names, rows = read_curves(tmp_path / "shown" / "curves.csv")
    assert "share_keypoints" in names and [bool(row["share_main"]) for row in rows] == [False, True, False]
    assert not any(name.startswith("share_") for name in read_curves(tmp_path / "plain" / "curves.csv")[0])
    first, second = (load_file(run / "model.safetensors") for run in (shown, plain))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
