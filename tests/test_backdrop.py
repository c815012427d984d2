"""What a hand leaves is filled with what is around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyberhost_model.codecs.backdrop import make_backdrop
from cyberhost_model.config import GenerationConfig
from data_helpers import open_hands


@pytest.fixture(scope="module")
def reference(host, picture):
    return host.open_picture(picture, GenerationConfig(size=256))[0]


def test_the_backdrop_has_no_hands_and_is_the_picture_elsewhere(reference):
    shown = open_hands(reference.keypoints)
    picture = torch.zeros(1, 3, 128, 128)
    x, y = (shown.hands[0].mean(0) * 128).astype(int)
    picture[..., y - 3 : y + 4, x - 3 : x + 4] = 1.0  # something bright on the left hand
    backdrop = make_backdrop(picture, shown)
    assert backdrop is not None and backdrop.share[0, 0, y, x] > 0.9
    assert backdrop.colour[..., y - 3 : y + 4, x - 3 : x + 4].max() < 0.3
    away = backdrop.share[0, 0] == 0
    assert away.float().mean() > 0.3 and backdrop.colour[0, :, away].abs().max() < 0.02


def test_a_picture_without_hands_has_no_backdrop(reference):
    hidden = open_hands(reference.keypoints)
    hidden.hands_score = np.zeros_like(hidden.hands_score)
    assert make_backdrop(torch.zeros(1, 3, 64, 64), hidden) is None


def test_a_hand_whose_palm_is_hidden_is_left_out(reference):
    """Its place is not known, and may be no number."""
    hidden = open_hands(reference.keypoints)
    hidden.hands[0, 9], hidden.hands_score[0, 9] = np.nan, 0
    backdrop = make_backdrop(torch.zeros(1, 3, 64, 64), hidden)
    left, right = (hidden.hands[side, 0] * 63 for side in (0, 1))
    assert backdrop is not None
    assert backdrop.share[0, 0, int(left[1]), int(left[0])] < 0.01 < backdrop.share[0, 0, int(right[1]), int(right[0])]


@torch.inference_mode()
def test_where_a_hand_left_a_frame_shows_the_backdrop(host, reference):
    """A latent that says that all is new shows it on hands; one that says that nothing moved shows the hand."""
    codec, backdrop = host.model.codec, make_backdrop(reference.small, open_hands(reference.keypoints))
    decode = codec.decoder(reference.small, reference.small, (), backdrop)
    still = torch.zeros_like(reference.latent[:, None])
    moved = still.clone()
    h, w = reference.small.shape[-2:]
    flow, visible = torch.zeros(1, 2, h // 2, w // 2), torch.zeros(1, 1, h // 2, w // 2)
    controls = torch.zeros(1, codec.config.control_channels, *still.shape[-2:])
    moved[:, 0] = codec.encode_drawn(reference.small, flow, visible, controls)
    on_hands = backdrop.share[0, 0] > 0.99
    off = lambda z, colour: (decode(z)[0, 0] - colour[0]).abs()[:, on_hands].mean()  # noqa: E731
    apart = (backdrop.colour - reference.small)[0].abs()[:, on_hands].mean()
    assert off(still, reference.small) < 0.1 * apart
    assert off(moved, backdrop.colour) < 0.35 * apart
