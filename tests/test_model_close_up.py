"""Lips are opened on an enlarged face, so that they open in half-body pictures too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cyberhost_model.codecs.close_up import SIDE, make_close_up
from cyberhost_model.config import GenerationConfig
from cyberhost_model.driving.template import load_template
from cyberhost_model.media.audio import Sound
from cyberhost_model.runtime.prepare import prepare_reference
from data_helpers import voice


@pytest.mark.parametrize("corner", [(20, 30), (-15, 40), (70, -9), (75, 71)])
def test_a_square_put_back_leaves_the_picture_as_it_is(corner):
    """Also where it reaches beyond the picture, whose edge is then repeated."""
    picture = torch.rand(2, 3, 96, 100) * 2 - 1
    close_up = make_close_up(picture, corner, 41, torch.zeros(2, 3, 12, 12))
    square = close_up.crop(picture)
    assert square.shape == (2, 3, 41, 41) and close_up.small.shape == (2, 3, SIDE, SIDE)
    torch.testing.assert_close(close_up.paste(square, picture), picture)
    x, y = corner
    if x < 0:
        assert torch.equal(square[..., 0], square[..., -x])


def test_what_is_put_fades_towards_its_edge():
    picture = torch.zeros(1, 3, 96, 100)
    close_up = make_close_up(picture, (20, 30), 41, torch.zeros(1, 3, 12, 12))
    pasted = close_up.paste(torch.ones(1, 3, 41, 41), picture)
    assert (
        pasted[0, 0, 50, 40] == 1
        and pasted[0, 0, 30, 20] == 0
        and pasted[0, 0, 29, 40] == 0
        and 0 < pasted[0, 0, 50, 23] < 1
    )
    assert not picture.any(), "the picture itself stays"


@pytest.fixture(scope="module")
def reference(host, picture):
    return host.open_picture(picture, GenerationConfig())[0]


@torch.inference_mode()
def with_lip_gap(host, reference, gap: float) -> torch.Tensor:
    """One frame that differs from the picture in the lips' gap alone, by `gap` face heights."""
    codec = host.model.codec
    z = torch.zeros(1, 1, *reference.latent.shape[1:])
    z[:, :, codec.config.blocks] = gap / 0.025 * reference.control_maps[:, None, 0]
    return z


def mouth(host, reference, gap, close_up) -> np.ndarray:
    frame = host.model.codec.decode(with_lip_gap(host, reference, gap), reference.small, reference.large, close_up)[
        0, 0
    ]
    x, y = (reference.keypoints.face[60:68].mean(0) * [frame.shape[2], frame.shape[1]]).astype(int)
    return (frame[:, y - 20 : y + 24, x - 24 : x + 24].numpy() + 1) * 127.5


def test_a_small_mouth_opens(host, reference):
    """The example's face is 44 of the codec's pixels high, its mouth five: too few for the frame's own decoding."""
    moves = {}
    for name, close_up in {"close-up": reference.close_up, "without": None}.items():
        still, half, wide = (mouth(host, reference, gap, close_up) for gap in (0.0, 0.045, 0.09))
        moves[name] = np.abs(half - still).mean(), np.abs(wide - still).mean()
    assert moves["close-up"][1] > 1.4 * moves["without"][1]
    assert moves["close-up"][1] > 1.3 * moves["close-up"][0] > 0, "further open is further from the still"


def test_outside_the_close_up_nothing_changes(host, reference):
    codec, z = host.model.codec, with_lip_gap(host, reference, 0.09)
    opened, still = (
        codec.decode(latent, reference.small, reference.large, reference.close_up)[0, 0]
        for latent in (z, torch.zeros_like(z))
    )
    (x, y), side = reference.close_up.corner, reference.close_up.side
    changed = (opened - still).abs().amax(0)
    assert changed[y : y + side, x : x + side].max() > 0.3
    changed[y : y + side, x : x + side] = 0
    assert changed.max() < 2 / 127.5


def test_without_a_face_there_is_none(host, picture, reference):
    blind = dataclasses.replace(reference.picture_keypoints, face_score=np.zeros(68, np.float32))
    assert prepare_reference(host.model, picture, blind, None, False).close_up is None


@pytest.mark.parametrize("audio", [None, Sound.from_samples(voice(0.3), 16_000)])
def test_lips_that_key_points_alone_move_are_not_opened_there(host, picture, monkeypatch, audio):
    """The flow of key points describes them better than their control does."""
    decode, given = host.model.codec.decode, []
    monkeypatch.setattr(
        host.model.codec, "decode", lambda *arguments: (given.append(arguments[3]), decode(*arguments))[1]
    )
    made = host.reenact(picture, load_template("rest"), audio=audio, steps=1, size=256)
    next(made.frames)
    assert [close_up is None for close_up in given] == [audio is None]
