"""Lips open and lids shut on enlarged squares of the face, so that they do in half-body pictures too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, make_close_up
from cyberhost_model.codecs.close_up_table import CloseUpTable
from cyberhost_model.config import GenerationConfig
from cyberhost_model.driving.template import load_template
from cyberhost_model.media.audio import Sound
from cyberhost_model.runtime.prepare import prepare_reference
from data_helpers import voice


@pytest.mark.parametrize("corner", [(20, 30), (-15, 40), (70, -9), (75, 71)])
def test_a_square_put_back_leaves_the_picture_as_it_is(corner):
    """Also where it reaches beyond the picture, whose edge is then repeated."""
    picture = torch.rand(2, 3, 96, 100) * 2 - 1
    close_up = make_close_up(picture, MOUTH, corner, 41, torch.zeros(2, 3, 12, 12))
    square = close_up.crop(picture)
    assert square.shape == (2, 3, 41, 41) and close_up.small.shape == (2, 3, SIDE, SIDE)
    torch.testing.assert_close(close_up.paste(square, picture.clone()), picture)
    x, y = corner
    if x < 0:
        assert torch.equal(square[..., 0], square[..., -x])


def test_what_is_put_fades_towards_its_edge():
    picture = torch.zeros(1, 3, 96, 100)
    close_up = make_close_up(picture, MOUTH, (20, 30), 41, torch.zeros(1, 3, 12, 12))
    pasted = close_up.paste(torch.ones(1, 3, 41, 41), picture)
    assert (
        pasted[0, 0, 50, 40] == 1
        and pasted[0, 0, 30, 20] == 0
        and pasted[0, 0, 29, 40] == 0
        and 0 < pasted[0, 0, 50, 23] < 1
    )
    assert pasted is picture, "the square is blended into the picture itself"


@pytest.fixture(scope="module")
def reference(host, picture):
    return host.open_picture(picture, GenerationConfig())[0]


@torch.inference_mode()
def with_control(host, reference, control: int, change: float) -> torch.Tensor:
    """One frame that differs from the picture in one face control alone, by `change` face heights."""
    codec = host.model.codec
    z = torch.zeros(1, 1, *reference.latent.shape[1:])
    channel = codec.config.blocks + control
    z[:, :, channel] = change / codec.z_std[channel] * reference.control_maps[:, None, control]
    return z


def around(host, reference, control: int, change: float, close_ups) -> np.ndarray:
    """Decode that frame and cut out its mouth (control 0) or its eyes (control 2)."""
    z = with_control(host, reference, control, change)
    frame = host.model.codec.decode(z, reference.small, reference.large, close_ups)[0, 0]
    part = MOUTH if control == 0 else EYES
    x, y = (reference.keypoints.face[part.points].mean(0) * [frame.shape[2], frame.shape[1]]).astype(int)
    return (frame[:, y - 20 : y + 24, x - 24 : x + 24].numpy() + 1) * 127.5


@pytest.mark.parametrize(("control", "change", "least"), [(0, 0.09, 15), (2, -0.04, 5)])
def test_a_small_part_moves(host, reference, control, change, least):
    """The example's face is 44 of the codec's pixels high, its mouth five, its eyes two: too few for a whole frame."""
    still, half, wide = (around(host, reference, control, c, reference.close_ups) for c in (0.0, change / 2, change))
    near, far = np.abs(half - still).mean(), np.abs(wide - still).mean()
    assert far > 1.3 * near > 0, "further is further from the still"
    assert far > least, "grey levels around the part"


@pytest.mark.parametrize(("control", "change"), [(0, 0.09), (2, -0.04)])
def test_outside_the_close_up_nothing_changes(host, reference, control, change):
    codec, z = host.model.codec, with_control(host, reference, control, change)
    moved, still = (
        codec.decode(latent, reference.small, reference.large, reference.close_ups)[0, 0]
        for latent in (z, torch.zeros_like(z))
    )
    close_up = reference.close_ups[control == 2]
    (x, y), side = close_up.corner, close_up.side
    changed = (moved - still).abs().amax(0)
    assert changed[y : y + side, x : x + side].max() > 0.3
    changed[y : y + side, x : x + side] = 0
    assert changed.max() < 2 / 127.5


def test_a_part_that_rests_is_not_decoded(host, reference, monkeypatch):
    """Only the one frame of two whose lids fall is."""
    codec, decoded = host.model.codec, []
    decode_maps = codec.decode_maps
    monkeypatch.setattr(codec, "decode_maps", lambda z, f: (decoded.append(len(z)), decode_maps(z, f))[1])
    z = torch.cat([with_control(host, reference, 2, change) for change in (0.0, -0.04)], 1)
    with torch.inference_mode():
        codec.decode(z, reference.small, reference.large, reference.close_ups)
    assert decoded == [1, 2], "the eyes of one frame, and two frames"


@torch.inference_mode()
def test_a_video_looks_close_ups_up(host, reference, monkeypatch):
    """Openings between those that were decoded look as if they had been decoded; what was seen before costs nothing."""
    codec, decoded = host.model.codec, []
    changes = [(0, 0.03), (0, 0.05), (2, -0.02), (0, 0.0312), (2, -0.04)]
    z = torch.cat([with_control(host, reference, *change) for change in changes], 1)
    picture = reference.large.clone()
    plain = codec.decode(z, reference.small, reference.large, reference.close_ups)
    decode = codec.decoder(reference.small, reference.large, reference.close_ups)
    wrong = (decode(z) - plain).abs() * 127.5
    assert wrong.max() < 6 and wrong.square().mean().sqrt() < 0.1, "grey levels"
    decode_maps = codec.decode_maps
    monkeypatch.setattr(codec, "decode_maps", lambda z, f: (decoded.append(len(z)), decode_maps(z, f))[1])
    decode(z)
    assert decoded == [len(changes)], "the frames themselves, no mouth and no eyes"
    assert torch.equal(reference.large, picture), "close-ups are pasted into copies"


@torch.inference_mode()
def test_usual_looks_are_decoded_before_the_first_frame(host, reference, monkeypatch):
    codec, decoded = host.model.codec, []
    narrower = with_control(host, reference, 1, -0.01)
    z = torch.cat([narrower + with_control(host, reference, *change) for change in ((0, 0.03), (2, -0.02))], 1)
    given = reference.small, reference.large, reference.close_ups
    plain = codec.decoder(*given)(z)
    decode = codec.decoder(*given, ahead=True)
    decode_maps = codec.decode_maps
    monkeypatch.setattr(codec, "decode_maps", lambda z, f: (decoded.append(len(z)), decode_maps(z, f))[1])
    assert torch.equal(decode(z), plain), "they are the same as those that are decoded when they are needed"
    assert decoded == [2], "the frames themselves, no mouth and no eyes"


def test_a_table_is_filled_between_two_sizes():
    asked = []

    def decode(sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        asked.append(tuple(sizes[0].tolist()))
        return (sizes[:, :1] - 2 * sizes[:, 1:],)

    table = CloseUpTable(decode, (0.5, 3.0))
    table.fill(((-0.5, 0.6), (-3.0, 0.0)))
    assert sorted(asked) == [(gap, width) for gap in (-0.5, 0.0, 0.5) for width in (-3.0, 0.0)]
    sizes = torch.tensor([[0.2, -1.0], [-0.4, -2.5]])
    torch.testing.assert_close(table(sizes)[0], sizes[:, :1] - 2 * sizes[:, 1:])
    assert len(asked) == 6


def test_without_a_face_there_is_none(host, picture, reference):
    blind = dataclasses.replace(reference.picture_keypoints, face_score=np.zeros(68, np.float32))
    assert prepare_reference(host.model, picture, blind, None, False).close_ups == ()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("audio", [None, Sound.from_samples(voice(0.3), 16_000)])
def test_which_close_ups_a_codec_gets(host, picture, monkeypatch, audio, same):
    """One with `left` gets those that it coded with; for another the flow of key points describes lips better."""
    decoder, given = host.model.codec.decoder, []
    monkeypatch.setattr(host.model.codec, "same_close_ups", same)
    monkeypatch.setattr(
        host.model.codec, "decoder", lambda *arguments: (given.append(arguments[2]), decoder(*arguments))[1]
    )
    made = host.reenact(picture, load_template("rest"), audio=audio, steps=1, size=256)
    next(made.frames)
    assert [[c.part for c in close_ups] for close_ups in given] == [
        [EYES] if audio is None and not same else [MOUTH, EYES]
    ]
