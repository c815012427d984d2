"""The codec learns whole frames and, where a recipe asks for it, close-ups of mouths and eyes as it will get them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, CloseUp
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.config import EMBEDDED
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.training.codec_samples import PARTS, CodecFrames, crop_close_up
from cyberhost_model.lab.training.stages.codec import CodecStage, CodecStageConfig, close_up_latents
from cyberhost_model.perception.geometry import face_height


@pytest.fixture(scope="module")
def people() -> People:
    return People([], drawn=1.0)


@pytest.fixture(scope="module")
def close(people) -> dict[str, torch.Tensor]:
    return CodecFrames(people, seed=3, count=2, poses=2, close=1.0)[0]


@pytest.fixture(scope="module")
def eyes(people) -> dict[str, torch.Tensor]:
    return CodecFrames(people, seed=3, count=2, poses=3, eyes=1.0)[0]


@pytest.mark.parametrize("part", PARTS)
def test_a_close_up_shows_its_part_in_its_middle(people, part):
    rng = np.random.default_rng(0)
    for _ in range(4):
        still = crop_close_up(people.still(rng, (SIDE, SIDE)), part, rng)
        face = still.keypoints.face * SIDE
        assert still.size == (SIDE, SIDE)
        assert SIDE / face_height(face) == pytest.approx(part.side, rel=0.3)
        assert np.abs(face[part.points].mean(0) - SIDE / 2).max() < 0.08 * SIDE


def test_in_close_ups_of_the_eyes_the_lids_alone_move(eyes):
    assert (eyes["close"] == PARTS.index(EYES)).all() and eyes["frames"].shape == (6, SIDE, SIDE, 3)
    assert eyes["controls"][:, 2].amin() < -0.02 and eyes["controls"][:, :2].abs().max() < 0.004
    changes = np.abs(eyes["frames"].numpy().astype(float) - eyes["reference"].numpy().repeat(3, 0)).mean(-1)
    middle, height = SIDE / 2, SIDE / EYES.side
    around = slice(int(middle - 0.1 * height), int(middle + 0.1 * height))
    assert changes[:, int(middle + 0.3 * height) :].mean() < 2, "resampling's alone"
    assert changes[:, around].mean() > 4


def test_a_shut_eye_weighs_as_much_as_an_open_one(eyes):
    """Its own outline is empty; what it looked like before is weighed too."""
    assert (eyes["regions"][:, 1] > 0).float().mean((1, 2)).amin() > 0.005


def test_in_close_ups_the_mouth_alone_moves(close):
    assert (close["close"] == PARTS.index(MOUTH)).all() and close["frames"].shape == (4, SIDE, SIDE, 3)
    middle, height = SIDE / 2, SIDE / MOUTH.side
    above, around = slice(0, int(middle - 0.5 * height)), slice(int(middle - 0.2 * height), int(middle + 0.4 * height))
    changes = [
        np.abs(b.astype(float) - a).mean(-1)
        for a, b in zip(close["reference"].numpy().repeat(2, 0), close["frames"].numpy(), strict=True)
    ]
    assert max(change[above].mean() for change in changes) < 1, "resampling's alone"
    assert max(change[around].mean() for change in changes) > 3


@pytest.mark.parametrize("part", PARTS)
def test_what_is_learned_is_what_decoding_says(close, eyes, part, monkeypatch):
    """Controls of a clip whose mouths are as open, or lids as shut, make the same latents as in training."""
    codec, batch = ReferenceCodec.load(EMBEDDED / "tiny" / "codec"), eyes if part is EYES else close
    channels = slice(codec.config.blocks + part.controls.start, codec.config.blocks + part.controls.stop)
    said = close_up_latents(codec, batch)
    said, maps = said[said[:, channels].abs().amax((1, 2, 3)) > 0.3], batch["control_maps"][: len(said)]
    maps = maps[close_up_latents(codec, batch)[:, channels].abs().amax((1, 2, 3)) > 0.3]
    assert len(said) > 1 and not said[:, : channels.start].any() and not said[:, channels.stop :].any()
    given = []
    decode_maps = codec.decode_maps
    monkeypatch.setattr(codec, "decode_maps", lambda z, features: (given.append(z), decode_maps(z, features))[1])
    blank = torch.zeros(len(said), 3, SIDE, SIDE)
    codec._move_part(said[:, channels], CloseUp(part, (0, 0), SIDE, blank, maps), blank)
    torch.testing.assert_close(given[0], said, rtol=0.05, atol=0.02)


def test_close_ups_teach_the_decoder_alone(people):
    """With `decoder_only` what a denoiser was trained on stays, to the bit."""
    codec = ReferenceCodec.load(EMBEDDED / "tiny" / "codec")
    stage = CodecStage(people, codec, CodecStageConfig(decoder_only=True, close=0.5, eyes=0.5))
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
    now = codec.state_dict()
    assert all(torch.equal(now[name], value) for name, value in kept.items())


def test_without_close_ups_the_items_are_what_they_were(people):
    plain, some = (
        CodecFrames(people, seed=5, count=1, poses=1)[0],
        CodecFrames(people, seed=5, count=1, poses=1, close=1e-9)[0],
    )
    assert (plain["close"] == -1).all() and plain["frames"].shape[1] in (192, 256)
    assert (some["close"] == -1).all()
