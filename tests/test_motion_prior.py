"""A clip is predicted to continue where the previous one ended."""

import dataclasses
import math

import pytest
import torch

from cyberhost_model.model.motion_prior import motion_prior
from cyberhost_model.perception.face_controls import CONTROLS
from model_helpers import FULL, MINI, make_network, raw_conditions

LASTING = dataclasses.replace(MINI, motion_prior=2.0)


def test_the_body_stays_for_a_while_and_the_lips_do_not():
    last = torch.randn(2, 9, 4, 5)
    stays, prior_std = motion_prior(last, 14.0, 12, 3)
    assert stays.shape == (2, 12, 9, 4, 5) and prior_std.shape == (2, 12, 9, 1, 1)
    assert (
        (prior_std[:, 1:, :-3] > prior_std[:, :-1, :-3]).all()
        and 0.3 < prior_std[0, 0, 0] < 0.35
        and (prior_std[:, :, -3:] == 1).all()
    )
    for frame in (0, 5, 11):
        torch.testing.assert_close(stays[:, frame, :-3], math.exp(-(((frame + 1) / 14) ** 2)) * last[:, :-3])
    assert not stays[:, :, -3:].any()


def test_key_points_come_first():
    """The difference from the key points' prior stays, and nothing where key points determine the latents."""
    last, prior, pose_coverage = torch.randn(1, 5, 2, 2), torch.randn(1, 3, 5, 2, 2), torch.zeros(1, 3, 1, 2, 2)
    pose_coverage[..., 0] = 1
    stays, _ = motion_prior(last, 4.0, 3, 0, prior, pose_coverage)
    assert not stays[..., 0].any() and stays[..., 1].any()
    torch.testing.assert_close(stays[..., 1], motion_prior(last - prior[:, 0], 4.0, 3)[0][..., 1])


def test_without_motion_frames_there_is_no_prior():
    network = make_network(LASTING)
    given = network.conditions(**raw_conditions())
    assert given.prior is given.prior_from_motion and given.prior.abs().max() > 0
    some, none = given.without_motion([True, False]), given.without_motion()
    assert not some.prior[0].any() and torch.equal(some.prior[1], given.prior[1]) and not none.prior.any()
    assert (some.prior_std[0] == 1).all() and torch.equal(some.prior_std[1], given.prior_std[1])
    assert network.conditions(**raw_conditions() | {"motion_latents": None}).prior is None


def test_from_residual_inverts_to_residual():
    given, z = (
        make_network(LASTING).conditions(**raw_conditions()),
        torch.randn(2, LASTING.frames, LASTING.latent_channels, 4, 4),
    )
    torch.testing.assert_close(given.from_residual(given.to_residual(z)), z)
    torch.testing.assert_close(given.to_residual(given.prior + given.prior_std), torch.ones_like(z))


def test_the_prior_of_key_points_stays_without_motion_frames():
    network = make_network(dataclasses.replace(LASTING, pose_shift=True))
    raw = raw_conditions() | {"pose_shift": torch.rand(2, MINI.frames, 10, 8, 8)}
    alone = network.conditions(**raw | {"motion_latents": None}).prior
    torch.testing.assert_close(network.conditions(**raw).without_motion().prior, alone)


def test_the_last_channels_are_the_face_controls():
    assert LASTING.control_channels == len(CONTROLS)


def test_it_needs_latents_relative_to_the_reference():
    with pytest.raises(ValueError, match="motion_prior needs codec"):
        dataclasses.replace(FULL, codec="sd-vae", face_state=False, motion_prior=14.0)
