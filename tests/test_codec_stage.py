"""The codec learns whole frames and, where a recipe asks for them, close-ups of mouths, as it will be given them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyberhost_model.codecs.close_up import SIDE, SIDE_IN_FACES, CloseUp
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.config import EMBEDDED
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.training.stages.codec import CodecFrames, CodecStage, close_up_latents, crop_close_up
from cyberhost_model.perception.geometry import face_height


@pytest.fixture(scope="module")
def people() -> People:
    return People([], drawn=1.0)


@pytest.fixture(scope="module")
def close(people) -> dict[str, torch.Tensor]:
    return CodecFrames(people, seed=3, count=2, poses=2, close=1.0)[0]


def test_a_close_up_shows_the_mouth_in_its_middle(people):
    rng = np.random.default_rng(0)
    for _ in range(4):
        still = crop_close_up(people.still(rng, (SIDE, SIDE)), rng)
        face = still.keypoints.face * SIDE
        assert still.size == (SIDE, SIDE)
        assert SIDE / face_height(face) == pytest.approx(SIDE_IN_FACES, rel=0.3)
        assert np.abs(face[60:68].mean(0) - SIDE / 2).max() < 0.08 * SIDE


def test_in_close_ups_the_mouth_alone_moves(close):
    assert close["close"].all() and close["frames"].shape == (4, SIDE, SIDE, 3)
    middle, height = SIDE / 2, SIDE / SIDE_IN_FACES
    above, around = slice(0, int(middle - 0.5 * height)), slice(int(middle - 0.2 * height), int(middle + 0.4 * height))
    changes = [
        np.abs(b.astype(float) - a).mean(-1)
        for a, b in zip(close["reference"].numpy().repeat(2, 0), close["frames"].numpy(), strict=True)
    ]
    assert max(change[above].mean() for change in changes) < 1, "resampling's alone"
    assert max(change[around].mean() for change in changes) > 3


def test_what_is_learned_is_what_decoding_says(close, monkeypatch):
    """The controls of a clip whose mouths are as far open come to the same latents as in training."""
    codec = ReferenceCodec.load(EMBEDDED / "tiny" / "codec")
    said = close_up_latents(codec, close)
    assert not said[:, : codec.config.blocks].any() and said[:, codec.config.blocks].abs().amax() > 0.5
    given = []
    monkeypatch.setattr(codec, "_render", lambda z, reference, source: (given.append(z), source)[1])
    mouths = said[:, codec.config.blocks : codec.config.blocks + 2]
    close_up = CloseUp((0, 0), SIDE, torch.zeros(4, 3, SIDE, SIDE), close["control_maps"])
    codec._open_lips(mouths, close_up, torch.zeros(4, 3, SIDE, SIDE))
    torch.testing.assert_close(given[0], said, rtol=0.05, atol=0.02)


def test_close_ups_teach_the_decoder_alone(people):
    """With `decoder_only` what a denoiser was trained on stays, to the bit."""
    stage = CodecStage(people, ReferenceCodec.load(EMBEDDED / "tiny" / "codec"), decoder_only=True, close=1.0)
    codec = stage.module["codec"]
    kept = {
        name: value.clone()
        for name, value in codec.state_dict().items()
        if name.startswith(("appearance", "to_r.", "basis", "z_std", "r_"))
    }
    optimizer = torch.optim.AdamW([p for p in stage.module.parameters() if p.requires_grad], lr=1e-4)
    batch = stage.dataset(seed=1)[0]
    losses = []
    for _ in range(4):
        loss = stage.loss(batch, torch.Generator().manual_seed(0))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(codec.state_dict()[name], value) for name, value in kept.items())


def test_without_close_ups_the_items_are_what_they_were(people):
    plain, some = (
        CodecFrames(people, seed=5, count=1, poses=1)[0],
        CodecFrames(people, seed=5, count=1, poses=1, close=1e-9)[0],
    )
    assert not plain["close"].any() and plain["frames"].shape[1] in (192, 256)
    assert not some["close"].any()
