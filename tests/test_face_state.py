"""The face state: the network makes lips and lids from what it is told of the picture, the speech and the seed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model import CyberHost
from cyberhost_model.config import GenerationConfig
from cyberhost_model.model.denoising_unet import FACE_MAPS, HEARD, HEARD_UNIT, face_maps, heard
from cyberhost_model.runtime.render import Rendering

EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMES = 24  # two clips


@pytest.fixture(scope="module")
def host() -> CyberHost:
    return CyberHost.from_pretrained("tiny", device="cpu", precision="fp32")


def controls(host: CyberHost, **options) -> np.ndarray:
    """Lips' gap, mouth's width and lids' gap of FRAMES frames as changes since the picture, in latent units: (T, 3)."""
    animation = host.animate(EXAMPLES / "astronaut.jpg", EXAMPLES / "speech.wav", size=256, **options)
    rendering = Rendering(host.renderer, animation.job, lambda line: None)
    maps, found = animation.job.reference.control_maps, []
    past = None
    from cyberhost_model.sampler.denoise import plan_clips

    for clip in plan_clips(FRAMES, host.model.network.preset.frames):
        z = rendering.sample(clip, past)
        past = z[:, -host.model.network.preset.motion_frames :]
        found.append((z[0, :, -3:] * maps).sum((2, 3)) / (maps**2).sum((2, 3)))
    return torch.cat(found).float().numpy()


def test_maps_stand_at_mouth_and_eyes():
    tokens = torch.randn(1, 2, 6, 128)
    tokens[..., : len(HEARD)] = HEARD_UNIT * torch.tensor([1.0, -0.5, 0.0, 0.25])
    state = torch.zeros(1, 2, 3, 4, 4)
    state[:, :, 0, 2, 1], state[:, :, 1, 2, 1], state[:, 1, 2, 0, 1] = 1.0, 0.6, 0.9
    maps = face_maps(state, heard(tokens))
    assert maps.shape == (1, 2, FACE_MAPS, 4, 4)
    torch.testing.assert_close(maps[0, 0, :, 2, 1], torch.tensor([0.6, 0.0, 1.0, -0.5, 0.0, 0.25]))
    assert maps[0, 1, 1, 0, 1] == pytest.approx(0.9) and not maps[:, 0, 1].any()
    assert not face_maps(state, None)[:, :, 2:].any()  # without speech nothing is said at the mouth


@pytest.fixture(scope="module")
def without(host) -> np.ndarray:
    """Controls of the model as it is, without blinks."""
    return controls(host, blink=False)


def test_lids_shut_when_they_are_told_to_and_nothing_else_changes_much(host, without, monkeypatch):
    blink = np.zeros(FRAMES)
    blink[18:23] = [0.5, 1, 1, 1, 0.5]
    monkeypatch.setattr("cyberhost_model.runtime.render.blinks", lambda rng, times: iter(blink.tolist()))
    with_blinks = controls(host)
    lids = with_blinks[:, 2] - without[:, 2]
    assert lids[19:22].mean() < -0.5 and abs(lids[:16]).max() < 0.1
    assert np.abs(with_blinks[:, 0] - without[:, 0]).max() < 0.5 * without[:, 0].std()


def test_without_the_unet_the_mouth_hardly_moves(host, without):
    """What is left of the mouth's movement when the U-Net's output is zero."""
    last = host.model.network.denoising_unet.unet.conv_out
    weights = {name: value.clone() for name, value in last.state_dict().items()}
    try:
        for value in last.parameters():
            value.data.zero_()
        assert controls(host, blink=False)[:, 0].std() < 0.3 * without[:, 0].std()
    finally:
        last.load_state_dict(weights)


def test_blinks_are_an_option_of_every_command():
    assert GenerationConfig().blink and not GenerationConfig(blink=False).blink
