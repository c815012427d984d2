"""ReferenceCodec: a linear encoder, exact at rest, and a decoder as sharp as the reference it reads."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cyberhost_model.codecs.close_up import EYES, MOUTH
from cyberhost_model.codecs.redraw import DecodedMaps, compose, warp, zero_small_flow
from cyberhost_model.codecs.reference import (
    ReferenceCodec,
    ReferenceCodecConfig,
    component_maps,
    fit_components,
    measure_controls,
)
from cyberhost_model.errors import ModelError
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.performance import random_pose
from cyberhost_model.lab.synthetic.puppet import Puppet
from cyberhost_model.lab.training.codec_inputs import half_size, to_signed
from cyberhost_model.sampler.postprocess import place_face_controls, smooth_over_time


@pytest.fixture(scope="module")
def frames() -> list[dict[str, torch.Tensor]]:
    """A puppet's frames with flow and visibility, in two batches."""
    rng, puppet = np.random.default_rng(0), Puppet(drawn_still(11, (128, 128)))
    batches = []
    for _ in range(2):
        rendered = [puppet.render(random_pose(rng, puppet)) for _ in range(4)]
        batches.append(
            {
                "frames": to_signed(np.stack([r.picture_u8 for r in rendered])),
                "flow": torch.from_numpy(np.stack([half_size(r.flow) for r in rendered])).movedim(-1, 1),
                "visible": torch.from_numpy(np.stack([half_size(r.seen) for r in rendered]))[:, None],
                "weight": torch.ones(4, 1, 64, 64),
                "reference": to_signed(puppet.still.picture_u8)[None],
            }
        )
    return batches


@pytest.fixture(scope="module")
def codec(frames) -> ReferenceCodec:
    torch.manual_seed(0)
    codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16)))
    fit_components(codec, frames)
    return codec.eval()


def test_components_are_orthonormal(codec):
    for name in ("flow", "novelty", "colour"):
        basis = getattr(codec, f"basis_{name}").flatten(1)
        assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-4)


def test_encode_then_decode_components_keeps_most_of_the_motion(codec, frames):
    batch = frames[1]
    controls = torch.rand(4, 3, 8, 8) * 0.05
    z = codec.encode_drawn(batch["frames"], batch["flow"], batch["visible"], controls)
    assert z.shape == (4, 27, 8, 8) and torch.allclose(z[:, 24:] * codec.z_std[24:, None, None], controls, atol=1e-6)
    out = codec.decode_components(z)
    true = component_maps(batch["frames"], batch["flow"], batch["visible"])
    left = (out["flow"] - true["flow"]).pow(2).sum() / true["flow"].pow(2).sum()
    assert left < 0.05


def test_a_frame_equal_to_the_reference_codes_as_zero_and_decodes_to_itself(codec, frames):
    reference = frames[0]["reference"]
    z = codec.encode(
        reference[:, None],
        torch.zeros(1, 1, 2, 64, 64),
        torch.ones(1, 1, 1, 64, 64),
        torch.zeros(1, 1, 3, 8, 8),
        reference,
    )
    assert z.shape == (1, 1, 27, 8, 8) and z.abs().max() == 0
    with torch.no_grad():
        decoded = codec.decode(z, reference)
    assert (decoded[0, 0] - reference[0]).abs().max() < 0.06  # the mask never quite closes


def test_decode_at_another_size_uses_the_larger_picture(codec, frames):
    reference = frames[0]["reference"]
    large = torch.nn.functional.interpolate(reference, scale_factor=2.0, mode="bilinear")
    with torch.no_grad():
        out = codec.decode(torch.zeros(1, 3, 27, 8, 8), reference, large)
    assert out.shape == (1, 3, 3, 256, 256)
    assert (out[0, 1] - large[0]).abs().max() < 0.06


def test_the_size_of_a_control_is_half_its_gaussians_height_anywhere():
    y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    for cx, cy, height in ((8.0, 8.0, 2.0), (5.3, 9.7, -1.2)):
        gaussian = height * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.5**2))
        assert float(measure_controls(gaussian[None, None])) == pytest.approx(height / 2, rel=0.03)
    assert measure_controls(torch.zeros(1, 3, 4, 4)).abs().max() == 0


def test_a_control_moves_the_decoded_flow_in_proportion():
    """With the rest of the decoder at zero, twice the control is twice the flow."""
    torch.manual_seed(1)
    codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16))).eval()
    nn.init.normal_(codec.to_response[0].weight, std=0.1)
    for part in (codec.join, codec.at_quarter):  # the control acts through its size alone
        part[0].weight.data[:, 24:27] = 0
        part[0].weight.data[:, -3:] = 0
    pyramid = codec.appearance(torch.rand(1, 3, 64, 64))

    def flow(size: float) -> torch.Tensor:
        z = torch.zeros(1, 27, 4, 4)
        z[:, 24, 1:3, 1:3] = size
        return codec.decode_maps(z, pyramid).flow

    with torch.no_grad():
        assert flow(1.0).abs().max() > 1e-3 and torch.allclose(flow(2.0), 2 * flow(1.0), atol=1e-5)


def test_under_the_lips_control_only_the_mean_flow_and_the_controls_are_kept():
    codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16), emphasis=(1.5, 1.0, 1.0)))
    z = torch.ones(1, 27, 6, 6)
    z[:, 24:] = 0
    assert torch.equal(codec.leave_lips_to_controls(z, emphasised=True)[0], z)  # a mouth at rest
    z[0, 24, 2, 3] = 1.0
    left, under = codec.leave_lips_to_controls(z, emphasised=True)
    assert under[0, 0, 2, 3] == 1 and under.sum() == 1
    assert left[0, 24, 2, 3] == 1.5 and (left[0, :2, 2, 3] == 1).all() and (left[0, 2:24, 2, 3] == 0).all()
    assert torch.equal(left[0, :24, 4], z[0, :24, 4])  # elsewhere nothing changes
    shut = codec.leave_lips_to_controls(-z, emphasised=True)[0][0, 24, 2, 3]
    assert shut.item() == pytest.approx(-1.5 * codec.config.closing)
    assert torch.equal(codec.leave_lips_to_controls(-z, emphasised=False)[0][0, 24:], -z[0, 24:])


def controls_of(heights: list[float]) -> torch.Tensor:
    """Latents (N, 27, 16, 16) whose three controls are Gaussians of these heights, one latent for each."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    z = torch.zeros(len(heights), 27, 16, 16)
    gaussian = torch.exp(-((x - 8) ** 2 + (y - 8) ** 2) / (2 * 1.5**2))
    z[:, 24:] = torch.tensor(heights)[:, None, None, None] * gaussian
    return z


def test_a_mouth_that_rounds_goes_on_faster_beyond_a_deviation_and_a_half():
    """A wider mouth, and one that is hardly narrower, is emphasised as ever; beyond, `rounding` times as much."""
    codec = ReferenceCodec(
        ReferenceCodecConfig(widths=(8, 16, 16), emphasis=(1.0, 2.0, 1.0), closing=3.0, rounding=2.0, opening=1.0)
    )
    z = controls_of([1.75, 0.0, -0.5, -1.4, -3.5])
    controls = codec.leave_lips_to_controls(z, emphasised=True)[0][:, 24:]
    assert controls[:, 1, 8, 8].tolist() == pytest.approx([3.5, 0.0, -1.0, -2.8, 2 * -1.5 + 2 * 2 * -2.0], rel=0.02)
    assert controls[:, 0, 8, 8].tolist() == pytest.approx([1.75, 0.0, -1.5, -4.2, -10.5])
    assert torch.equal(controls[:, 2], z[:, 26])
    torch.testing.assert_close(controls[4, 1], controls[4, 1, 8, 8] / -3.5 * z[4, 25])  # it keeps its shape
    assert torch.equal(codec.leave_lips_to_controls(z, emphasised=False)[0][:, 24:], z[:, 24:])


def test_lips_that_part_widely_part_further():
    """Beyond two and a half deviations of the gap, and no lips that close, nor the width."""
    codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16), emphasis=(1.2, 1.0, 1.0), opening=1.5, rounding=1))
    z = controls_of([0.0, 1.0, 2.5, 4.0, -4.0])
    controls = codec.leave_lips_to_controls(z, emphasised=True)[0][:, 24:]
    shut = -4.0 * 1.2 * codec.config.closing
    assert controls[:, 0, 8, 8].tolist() == pytest.approx([0.0, 1.2, 3.0, 1.2 * (2.5 + 1.5 * 1.5), shut], rel=0.02)
    assert torch.equal(controls[:, 1:], z[:, 25:])
    torch.testing.assert_close(controls[3, 0], controls[3, 0, 8, 8] / 4.0 * z[3, 24])  # it keeps its shape


def test_a_dubbed_mouth_does_not_round_further(monkeypatch):
    """It is told how much narrower than the film's it is, not how rounded."""
    monkeypatch.setattr(ReferenceCodec, "_move_part", lambda self, values, *given: 2 * values[0, :, 0, 0])
    for rounding in (1.0, 3.0):
        codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16), rounding=rounding))
        changes = torch.tensor([0.1, -4.0]) * codec.control_deviations[:2]
        moved = codec.move_close_up(SimpleNamespace(part=MOUTH), torch.zeros(1, 3, 32, 32), changes.tolist())
        assert moved.tolist() == pytest.approx([0.12, -7.6])


@pytest.mark.parametrize(
    ("stored", "emphasis"),
    [({"emphasis": [1.2, 1.9, 1.2]}, (1.2, 1.9, 1.2)), ({"cues": 3, "emphasis": 1.4}, (1.4, 1.4, 1.0))],
)
def test_folders_that_state_no_rounding_draw_lips_as_before(codec, tmp_path, stored, emphasis):
    codec.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("rounding", "opening", "closing", "emphasis", "control_channels" if "cues" in stored else "emphasis"):
        config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config | stored))
    again = ReferenceCodec.load(tmp_path)
    assert again.config.rounding == again.config.opening == 1.0 and tuple(again.config.emphasis) == emphasis
    z = controls_of([-3.0])
    factors = again.leave_lips_to_controls(z, emphasised=True)[0][0, 24:, 8, 8] / -3.0
    assert factors.tolist() == pytest.approx([again.config.closing * emphasis[0], *emphasis[1:]])


@pytest.mark.parametrize("name", ["rounding", "opening", "closing"])
def test_impossible_factors_of_lips_are_refused(name):
    for value in (-0.1, 101.0, float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be within"):
            ReferenceCodecConfig(**{name: value})


def test_flow_points_to_the_source_of_a_pixel():
    picture = torch.rand(1, 3, 16, 16)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0], flow[:, 1] = 2, -1
    moved = warp(picture, flow)
    assert torch.allclose(moved[0, :, 5, 5], picture[0, :, 4, 7], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_picture_in_half_precision_is_moved_as_exactly(dtype, mode):
    picture = torch.rand(1, 3, 40, 600, generator=torch.Generator().manual_seed(0)).to(dtype)
    flow = torch.zeros(1, 2, 40, 600, dtype=dtype)
    still = warp(picture, flow, mode)
    assert still.dtype == dtype
    torch.testing.assert_close(still, picture, rtol=0, atol=0.01)
    flow[:, 0], flow[:, 1] = 2.5, -1.25
    torch.testing.assert_close(
        warp(picture, flow, mode).float(), warp(picture.float(), flow.float(), mode), rtol=0, atol=0.01
    )


def test_tiny_flows_become_zero():
    flow = torch.tensor([0.05, 0.5]).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    result = zero_small_flow(flow)
    assert result[..., 0].abs().max() == 0 and result[..., 1].min() > 0.35


def test_control_maps_enter_the_references_latent(codec):
    picture, control_maps = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        without, latent = codec.encode_reference(picture), codec.encode_reference(picture, control_maps)
    assert torch.equal(latent[:, 24:], control_maps) and not without[:, 24:].any()
    assert torch.equal(latent[:, :24], without[:, :24])


def test_face_controls_are_placed_at_mouth_and_eyes_and_keep_their_size():
    z, control_maps = torch.randn(1, 2, 27, 4, 4), torch.zeros(1, 1, 3, 4, 4)
    control_maps[:, :, :2, 1, 1:3] = torch.tensor([1.0, 0.5])
    control_maps[:, :, 2, 0, 1] = 1.0
    placed = place_face_controls(z, control_maps)
    assert torch.equal(placed[:, :, :24], z[:, :, :24])
    assert torch.equal(placed[:, :, 24:] != 0, (control_maps > 0).expand(1, 2, 3, 4, 4))
    mouth = placed[0, :, 24:26, 1, 1:3]
    torch.testing.assert_close(mouth[..., 1], mouth[..., 0] / 2)
    # The Gaussian nearest to what was denoised: a control that stands at its place already stays as it is.
    torch.testing.assert_close(mouth[..., 0], (z[0, :, 24:26, 1, 1:3] @ torch.tensor([1.0, 0.5])) / 1.25)
    torch.testing.assert_close(place_face_controls(placed, control_maps), placed)
    moving = torch.cat([control_maps, control_maps.roll(1, -2)], 1)
    assert (place_face_controls(z, moving)[0, 1, 24, 2] != 0).any()
    assert torch.isfinite(place_face_controls(z, torch.zeros_like(control_maps))).all()


def test_save_and_load(codec, tmp_path):
    codec.save(tmp_path, torch.float32)
    again = ReferenceCodec.load(tmp_path)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(codec.encode_reference(picture), again.encode_reference(picture))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        ReferenceCodec.load(tmp_path)


def test_smoothing_removes_jitter_and_keeps_slow_movement():
    """Jitter from frame to frame goes, slow movement and lips stay, and a clip begins where the previous one ended."""
    codec = ReferenceCodec()
    blocks, turn = codec.config.blocks, torch.arange(12.0)
    slow, quick = torch.sin(turn / 4), torch.where(turn % 2 == 0, 1.0, -1.0)
    z = torch.zeros(1, 12, codec.config.latent_channels, 2, 2)
    z[0, :, 0], z[0, :, 1], z[0, :, blocks] = (x[:, None, None].expand(-1, 2, 2) for x in (slow, quick, quick))
    smooth = smooth_over_time(z, None, 3)
    assert (smooth[0, 3:-3, 0, 0, 0] - slow[3:-3]).abs().max() < 0.08 and smooth[0, 5:-5, 1].abs().max() < 1e-6
    assert torch.equal(smooth[:, :, blocks:], z[:, :, blocks:])
    assert torch.allclose(smooth_over_time(torch.ones_like(z), torch.ones_like(z), 3), torch.ones_like(z))
    assert smooth_over_time(torch.zeros_like(z), torch.ones_like(z), 3)[0, :4, 0, 0, 0].tolist() == [
        0.548828125,
        0.2265625,
        0.0654296875,
        0.01171875,
    ]


def test_with_a_close_up_half_visible_pixels_are_the_pictures(codec, monkeypatch):
    """Lips opened on the whole frame need new pixels; with a close-up, those are mostly specks around what moves."""
    grey = torch.zeros(1, 3, 64, 64)
    monkeypatch.setattr(
        codec,
        "decode_maps",
        lambda z, pyramid: DecodedMaps(torch.zeros(1, 2, 32, 32), torch.zeros(1, 1, 32, 32), torch.ones(1, 3, 64, 64)),
    )
    monkeypatch.setattr(codec, "_move_part", lambda values, close_up, source, looks: source)
    z = torch.zeros(1, 1, codec.config.latent_channels, 4, 4)
    assert (
        codec.decode(z, grey).mean() == pytest.approx(0.5, abs=1e-3)
        and codec.decode(z, grey, None, [SimpleNamespace(part=MOUTH)]).mean() < 0.02
        and codec.decode(z, grey, None, [SimpleNamespace(part=EYES)]).mean() == pytest.approx(0.5, abs=1e-3)
    )


@pytest.mark.parametrize("size", [(16, 12), (24, 18), (32, 24)])
@pytest.mark.parametrize("stretch", [0.0, 0.05])
def test_maps_are_applied_alike_with_and_without_gradients(size, stretch):
    """Two libraries: torch's where gradients are needed, OpenCV's where not; also to a picture larger than the maps."""
    g = torch.Generator().manual_seed(0)
    maps = DecodedMaps(*(torch.randn(2, c, h, h * 3 // 4, generator=g) for c, h in ((2, 8), (1, 8), (3, 16))))
    maps.flow *= 3
    picture = torch.rand(2, 3, *size, generator=g) * 2 - 1
    with torch.no_grad():
        plain = compose(maps, picture, "bicubic", stretch)
        half = compose(maps, picture.bfloat16(), "bicubic", stretch)
    torch.testing.assert_close(plain, compose(maps, picture, "bicubic", stretch), atol=1e-3, rtol=0)
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.03, rtol=0)


def test_blocks_are_joined_as_a_transposed_convolution_does(codec):
    z = torch.randn(2, codec.latent_channels, 3, 5, generator=torch.Generator().manual_seed(0))
    maps, first = codec.decode_components(z), 0
    for name, count in codec.config.components().items():
        part = slice(first, first + count)
        values = z[:, part] * codec.z_std[part, None, None]
        joined = torch.nn.functional.conv_transpose2d(values, getattr(codec, f"basis_{name}"), stride=8)
        torch.testing.assert_close(maps[name], joined)
        first += count


def test_a_picture_keeps_its_own_precision(codec):
    """A codec in half precision redraws a float32 picture, which stays as it is where nothing moves."""
    half = copy.deepcopy(codec).bfloat16()
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = torch.nn.functional.avg_pool2d(picture, 2)
    with torch.no_grad():
        frame = half.decode(torch.zeros(1, 1, codec.latent_channels, 3, 3).bfloat16(), small.bfloat16(), picture)
    assert frame.dtype is torch.float32
    torch.testing.assert_close(frame[0], picture, atol=0.02, rtol=0)
