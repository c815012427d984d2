"""A clip is expected to go on where the clip before left off."""

import dataclasses
import math

import pytest
import torch

from cyberhost_model.model.motion_prior import persistence
from cyberhost_model.perception.face_controls import CUES
from model_helpers import FULL, MINI, make_network, raw_conditions

LASTING = dataclasses.replace(MINI, motion_persistence=2.0)


def test_the_body_stays_for_a_while_and_the_lips_do_not():
    last = torch.randn(2, 9, 4, 5)
    stays, spread = persistence(last, 14.0, 12, 3)
    assert stays.shape == (2, 12, 9, 4, 5) and spread.shape == (2, 12, 9, 1, 1)
    assert (
        (spread[:, 1:, :-3] > spread[:, :-1, :-3]).all()
        and 0.3 < spread[0, 0, 0] < 0.35
        and (spread[:, :, -3:] == 1).all()
    )
    for frame in (0, 5, 11):
        torch.testing.assert_close(stays[:, frame, :-3], math.exp(-(((frame + 1) / 14) ** 2)) * last[:, :-3])
    assert not stays[:, :, -3:].any()


def test_key_points_come_first():
    """What stays is where the body was beside them, and nothing where they say all."""
    last, expected, known = torch.randn(1, 5, 2, 2), torch.randn(1, 3, 5, 2, 2), torch.zeros(1, 3, 1, 2, 2)
    known[..., 0] = 1
    stays, _ = persistence(last, 4.0, 3, 0, expected, known)
    assert not stays[..., 0].any() and stays[..., 1].any()
    torch.testing.assert_close(stays[..., 1], persistence(last - expected[:, 0], 4.0, 3)[0][..., 1])


def test_without_motion_frames_nothing_is_expected():
    network = make_network(LASTING)
    given = network.conditions(**raw_conditions())
    assert given.expected is given.continued and given.expected.abs().max() > 0
    some, none = given.without_motion([True, False]), given.without_motion()
    assert not some.expected[0].any() and torch.equal(some.expected[1], given.expected[1]) and not none.expected.any()
    assert (some.spread[0] == 1).all() and torch.equal(some.spread[1], given.spread[1])
    assert network.conditions(**raw_conditions() | {"motion_latents": None}).expected is None


def test_what_is_denoised_makes_the_whole_again():
    given, z = (
        make_network(LASTING).conditions(**raw_conditions()),
        torch.randn(2, LASTING.frames, LASTING.latent_channels, 4, 4),
    )
    torch.testing.assert_close(given.whole(given.remainder(z)), z)
    torch.testing.assert_close(given.remainder(given.expected + given.spread), torch.ones_like(z))


def test_what_key_points_lead_one_to_expect_stays_when_motion_frames_are_dropped():
    network = make_network(dataclasses.replace(LASTING, pose_shift=True))
    raw = raw_conditions() | {"pose_shift": torch.rand(2, MINI.frames, 7, 8, 8)}
    alone = network.conditions(**raw | {"motion_latents": None}).expected
    torch.testing.assert_close(network.conditions(**raw).without_motion().expected, alone)


def test_the_last_channels_are_the_face_cues():
    assert LASTING.cues == len(CUES)


def test_it_is_for_latents_that_are_zero_where_the_picture_stands():
    with pytest.raises(ValueError, match="motion_persistence needs codec"):
        dataclasses.replace(FULL, codec="sd-vae", motion_persistence=14.0)
