"""A codec with components of the colour that decoding leaves: filmed people come back, and everything takes it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cyberhost_model.codecs.reference import ReferenceCodec, ReferenceCodecConfig, fit_components, fit_left
from cyberhost_model.config import EMBEDDED, preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.performance import random_pose
from cyberhost_model.lab.synthetic.puppet import Puppet
from cyberhost_model.lab.training.codec_init import codec_config, codec_of, codec_of_weights, take_over
from cyberhost_model.lab.training.codec_inputs import half_size, to_signed
from cyberhost_model.lab.training.stages.codec import SHIPPED
from cyberhost_model.media.audio import Sound
from data_helpers import voice

COUNTS = {"flow": 8, "novelty": 4, "left": 12}


@pytest.fixture(scope="module")
def sample() -> dict[str, torch.Tensor]:
    """Four frames of a puppet, under a light that moves: no flow explains it."""
    rng, puppet = np.random.default_rng(0), Puppet(drawn_still(11, (128, 128)))
    rendered = [puppet.render(random_pose(rng, puppet)) for _ in range(4)]
    frames = to_signed(np.stack([r.picture_u8 for r in rendered]))
    light = torch.linspace(-0.3, 0.3, 128).view(1, 1, 1, 128) * torch.tensor([1.0, -1.0, 0.5, -0.5]).view(4, 1, 1, 1)
    return {
        "frames": (frames + light).clamp(-1, 1),
        "flow": torch.from_numpy(np.stack([half_size(r.flow) for r in rendered])).movedim(-1, 1),
        "visible": torch.from_numpy(np.stack([half_size(r.seen) for r in rendered]))[:, None],
        "controls": torch.zeros(4, 3, 8, 8),
        "reference": to_signed(puppet.still.picture_u8)[None],
        "weight": torch.ones(4, 1, 64, 64),
    }


@pytest.fixture(scope="module")
def codec(sample) -> ReferenceCodec:
    """The embedded codec's weights with other components, fitted to the sample."""
    made = ReferenceCodec(codec_config(COUNTS)).eval()
    fit_components(made, [sample])
    take_over(made, ReferenceCodec.load(EMBEDDED / "tiny" / "codec"))
    fit_left(made, [(F.avg_pool2d(sample["frames"] - drawn(made, sample), 2), sample["weight"])])
    return made


def clip(sample: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The arguments of `encode`, a clip of the four frames."""
    return [*(sample[name][None] for name in ("frames", "flow", "visible", "controls")), sample["reference"]]


@torch.no_grad()
def drawn(codec: ReferenceCodec, sample: dict[str, torch.Tensor]) -> torch.Tensor:
    """The frames decoded without what is left."""
    z = codec.encode_drawn(*(sample[name] for name in ("frames", "flow", "visible", "controls")))
    return codec.decode(z[None], sample["reference"])[0]


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def test_what_decoding_leaves_is_coded(codec, sample):
    with torch.no_grad():
        z = codec.encode(*clip(sample))
        decoded = codec.decode(z, sample["reference"])[0]
    assert z.shape == (1, 4, 27, 8, 8) and codec.config.latent_channels == 27
    assert error(decoded, sample["frames"]) < 0.35 * error(drawn(codec, sample), sample["frames"])
    assert 0.5 < float(z[0, :, 12:24].square().mean()) < 2, "divided by the deviations"


def test_a_frame_equal_to_the_reference_is_zero_and_decodes_to_itself(codec, sample):
    reference = sample["reference"]
    still = (torch.zeros(1, 1, 2, 64, 64), torch.ones(1, 1, 1, 64, 64), torch.zeros(1, 1, 3, 8, 8))
    with torch.no_grad():
        z = codec.encode(reference[:, None], *still, reference)
        decoded = codec.decode(torch.zeros_like(z), reference)[0, 0]
    assert z[:, :, :12].abs().max() == 0 and z[:, :, 24:].abs().max() == 0
    assert (decoded - reference[0]).abs().mean() < 0.003


def test_small_errors_of_a_denoiser_paint_no_blotches(codec, sample):
    z = torch.zeros(1, 1, 27, 8, 8)
    with torch.no_grad():
        still = codec.decode(z, sample["reference"])
        z[:, :, 12:24] = codec.config.dead_zone * torch.rand(1, 1, 12, 8, 8)
        assert torch.equal(codec.decode(z, sample["reference"]), still)
        z[:, :, 12] = 2.0
        assert (codec.decode(z, sample["reference"]) - still).abs().mean() > 0.01


def test_what_is_left_stays_under_the_lips_and_the_pictures_bias_is_there_alone(codec):
    z = torch.ones(1, 27, 6, 6)
    z[:, 24:] = 0
    z[0, 24, 2, 3] = 1.0
    kept, under = codec.leave_lips_to_controls(z, emphasised=True)
    assert (kept[0, 2:12, 2, 3] == 0).all() and (kept[0, 12:24] == 1).all()
    assert under.nonzero().tolist() == [[0, 0, 2, 3]] and kept[0, 24, 2, 3] == pytest.approx(1.2)


def test_it_is_saved_loaded_and_known_by_its_weights(codec, sample, tmp_path):
    codec.save(tmp_path, torch.float32)
    assert json.loads((tmp_path / "config.json").read_text())["left"] == 12
    again = ReferenceCodec.load(tmp_path)
    of_run = codec_of_weights(codec.state_dict(), "a run")
    with torch.no_grad():
        z = codec.encode(*clip(sample))
        for other in (again, of_run):
            assert other.config == codec.config and torch.equal(other.encode(*clip(sample)), z)
    with pytest.raises(TrainingError, match="not a run of this part"):
        codec_of_weights({"basis_flow": torch.zeros(2, 2, 8, 8)}, "a run")


def test_weights_are_taken_over_in_terms_of_the_new_components(sample):
    """A codec with all of the old components, in another basis, decodes what the old one does."""
    old = ReferenceCodec.load(EMBEDDED / "tiny" / "codec")
    config = codec_config(SHIPPED)
    config.reference = old.config.reference
    new = ReferenceCodec(config).eval()
    for name, first, count in (("flow", 0, 14), ("novelty", 14, 4), ("colour", 18, 6)):
        turn = torch.linalg.qr(torch.randn(count, count, generator=torch.Generator().manual_seed(0)))[0]
        basis = getattr(old, f"basis_{name}")
        getattr(new, f"basis_{name}").copy_((turn @ basis.flatten(1)).view_as(basis))
        new.z_std[first : first + count] = torch.linspace(0.5, 2, count)
    take_over(new, old)
    with torch.no_grad():
        maps = []
        for codec in (old, new):
            z = codec.encode_drawn(*(sample[name] for name in ("frames", "flow", "visible", "controls")))
            maps.append(
                codec.decode_maps(z, tuple(x.expand(4, -1, -1, -1) for x in codec.appearance(sample["reference"])))
            )
    torch.testing.assert_close(maps[1].flow, maps[0].flow, rtol=0, atol=2e-2)
    torch.testing.assert_close(maps[1].colour, maps[0].colour, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("counts", "words"),
    [({"flows": 1}, "no 'flows'"), ({"flow": 8, "novelty": 0}, "at least 1"), ({"flow": 8.5, "novelty": 4}, "whole")],
)
def test_impossible_components_are_told(counts, words):
    with pytest.raises(TrainingError, match=words):
        codec_config(counts)


def test_the_embedded_codec_has_what_its_recipe_says():
    codec, others = codec_of("tiny")
    assert codec.config.components() == SHIPPED and codec.config.reference == 24 and not others
    assert codec.same_close_ups and codec.stretch
    ours = codec_config(SHIPPED)
    assert codec.config.emphasis == ours.emphasis == (1.2, 1.9, 1.2)
    factors = [(one.closing, one.rounding, one.opening) for one in (codec.config, ours)]
    assert factors == [(2.2, 2.25, 1.5)] * 2
    assert codec_config(SHIPPED).latent_channels == codec.latent_channels == preset("tiny").latent_channels


def test_it_animates_and_reenacts(codec, host, picture):
    """Latents of the embedded network mean nothing to it, but have its shape."""
    from cyberhost_model import CyberHost
    from cyberhost_model.driving.template import load_template

    whole = ReferenceCodec(ReferenceCodecConfig(8, 4, 0, 24)).eval()  # as many channels as the network's
    state = whole.state_dict()
    state.update({k: v for k, v in codec.state_dict().items() if state[k].shape == v.shape})
    whole.load_state_dict(state)
    other = CyberHost(dataclasses.replace(host.model, codec=whole), host.device, host.dtype)
    made = other.animate(picture, Sound.from_samples(voice(0.08), 16_000), size=256, steps=1)
    frames = list(made.frames)
    assert len(frames) == 2 and frames[0].std() > 10
    driven = other.reenact(picture, load_template("wave"), size=256, steps=1)
    assert next(iter(driven.frames)).std() > 10
