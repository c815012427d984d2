"""What drives the body in a training clip, and how the lips weigh."""

import numpy as np
import pytest
import torch

from cyberhost_model.config import preset
from cyberhost_model.lab.training.driving import DrivingMix, add_detector_noise, driving_maps
from cyberhost_model.lab.training.init import build_network
from cyberhost_model.lab.training.losses import balance_lips
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from data_helpers import small_synth

SIZE = (128, 128)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return [
        f.keypoints for f in small_synth(tmp_path_factory.mktemp("driving"), frames=17, size=SIZE).clip(2).frames[:3]
    ]


def drive(points, moving, seed=0, **mix):
    return driving_maps(points, points[0], SIZE, (8, 8), moving, DrivingMix(**mix), np.random.default_rng(seed))


def test_without_skeletons_there_is_one_movement_map(points):
    maps, shift, driven, deaf = drive(points, False)
    assert maps.shape == (1, 3, *SIZE) and shift.shape == (3, 10, 16, 16) and not shift.any()
    assert not driven and not deaf
    inside = np.argwhere(maps[0, 0] > 0.5)
    x, y = points[1].body[1] * SIZE  # the thorax stays inside its box
    assert (
        inside[:, 1].min() - 1 <= x <= inside[:, 1].max() + 1 and inside[:, 0].min() - 1 <= y <= inside[:, 0].max() + 1
    )
    nothing, *_ = drive(points, False, nothing=1.0)
    assert nothing.shape == (1, 3, *SIZE) and not nothing.any()


def test_skeletons_are_drawn_for_every_frame(points):
    whole, shift, driven, _ = drive(points, True, skeleton=1.0)
    hands, hands_shift, body, deaf = drive(points, True, hands=1.0)
    assert driven and not body
    assert whole.shape == hands.shape == (3, 3, *SIZE) and shift.shape == hands_shift.shape == (3, 10, 16, 16)
    assert shift[:, 2].sum() > 1.5 * hands_shift[:, 2].sum() > 0 and not hands_shift[:, 3:7].any()
    assert (whole > 0).sum() > 2 * (hands > 0).sum() and not deaf  # hands alone never silence the speech


def test_shares_are_kept():
    rng, mix = np.random.default_rng(0), DrivingMix(skeleton=0.25, hands=0.15)
    assert np.mean([mix.draw_moving(rng) for _ in range(4000)]) == pytest.approx(0.4, abs=0.03)


def test_a_share_of_skeleton_clips_is_deaf(points):
    deaf = [drive(points[:1], True, seed, skeleton=1.0, deaf=0.4)[3] for seed in range(200)]
    assert np.mean(deaf) == pytest.approx(0.4, abs=0.1)


def test_points_are_worsened_within_bounds(points):
    shifts, kept = [], []
    for seed in range(40):
        worse = add_detector_noise(points, np.random.default_rng(seed))
        shifts += [np.abs(w.face - k.face).mean() for w, k in zip(worse, points, strict=True)]
        kept += [(w.face_score > 0).mean() for w in worse]
    assert 0.001 < np.mean(shifts) < 0.006 and max(shifts) < 0.01
    assert min(kept) < 0.9 and np.mean(kept) > 0.85


def test_small_mouths_weigh_as_much_as_large_ones():
    masks = torch.zeros(1, 2, 16, 16)
    masks[0, 0, 8, 5:8] = 1  # three cells
    masks[0, 1, 6:9, 4:8] = 1  # twelve
    even = balance_lips(masks)
    assert even[0, 0].sum() == even[0, 1].sum() == 12
    masks[0, 1] = 1
    assert balance_lips(masks)[0, 1].max() == 1  # a mouth that fills the picture is no heavier than its cells
    assert not balance_lips(torch.zeros(1, 1, 4, 4)).any()


def test_a_deaf_clip_hears_nothing():
    """The loss of a deaf clip does not depend on its sound."""
    stage = ClipStage("unused", build_network(preset("tiny")), ClipStageConfig("2", drop_audio=0, drop_reference=0))
    for p in stage.module.parameters():
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    g = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(shape, generator=g)  # noqa: E731
    batch = {
        "z": rand(1, 3, 39, 4, 4),
        "motion": rand(1, 4, 39, 4, 4),
        "r": rand(1, 39, 4, 4),
        "audio": rand(1, 3, 6, 5, 128),
        "face": rand(1, 3, 256, 256),
        "hands": rand(1, 2, 3, 128, 128),
        "skeleton": rand(1, 3, 64, 64),
        "pose": rand(1, 3, 3, 64, 64),
        "pose_shift": rand(1, 3, 10, 8, 8),
        "clarity": rand(1, 3),
        "lips": torch.ones(1, 3, 4, 4),
        "masks": torch.ones(1, 3, 2, 4, 4),
        "heatmaps": rand(1, 3, 42, 4, 4),
        "heard": rand(1, 3, 4),
        "eyes": torch.zeros(1, 3, 4, 4),
        "shut": rand(1, 3),
        "lip_gap": rand(1) * 0.1,
        "head": torch.tensor([False]),
        "moving": torch.zeros(1, 4, 4),
    }

    def main_loss(deaf: bool, audio: torch.Tensor) -> float:
        with torch.no_grad():
            return float(
                stage.loss({**batch, "audio": audio, "deaf": torch.tensor([deaf])}, torch.Generator().manual_seed(3))[
                    "main"
                ]
            )

    other = rand(1, 3, 6, 5, 128) * 5
    assert main_loss(True, batch["audio"]) == main_loss(True, other)
    assert main_loss(False, batch["audio"]) != main_loss(False, other)
