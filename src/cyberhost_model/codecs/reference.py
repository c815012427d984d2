"""ReferenceCodec: the tiny preset's autoencoder.

It codes a frame against the reference picture.

The paper's latents come from Stable Diffusion's VAE (section 3.1). A small VAE trained from scratch blurs eyes and
fingers, so here the decoder may also look at the reference: the latent `z` says where each pixel comes from (a flow),
which pixels are new and what those look like. What the reference shows stays as sharp as the reference. The idea of
warping a source by a decoded flow is that of Siarohin et al., "First Order Motion Model" (2019) and, with diffusion in
the latent, Ni et al., "LFDM" (2023).

The way in is linear: principal components of 16x16-pixel blocks of flow and novelty, fitted once (`fit_components`),
and face controls (`perception.face_controls`): how far lips and lids are from the reference's. A frame equal to the
reference codes as zero. The way out adds a learned refinement that sees the reference, so that edges of the flow fall
on edges of the picture and lips part where the reference has them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cyberhost_model.codecs.base import Codec
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.device import supported_device
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import load_weights

_BLOCK = 8  # half-size pixels a latent cell stands for
_STILL = 0.12  # pixels: smaller flows are still background, exactly zero
_MEAN_FLOW = 2  # the first components of flow are its two means: blocks mostly move as a whole
_TRUST = 4.0  # logits; where lips are parted in close-up, little else shows what the picture does not
_CONTROL_SIZE = (0.025, 0.008, 0.012)  # usual heights of the face controls' bells, in face heights


@dataclass
class ReferenceCodecConfig:
    """Components of `z` for flow, novelty, new colour and face controls (their sum is the latent's channels); widths
    at 1/4, 1/8 and 1/16 of the picture's size.
    """

    flow: int = 14
    novelty: int = 4
    colour: int = 6
    control_channels: int = len(_CONTROL_SIZE)
    widths: tuple[int, int, int] = (32, 80, 160)
    downscale: int = 16
    emphasis: float = 1.0
    """What `decode` multiplies the mouth's controls by: a denoiser that is unsure understates them."""

    @property
    def latent_channels(self) -> int:
        return self.blocks + self.control_channels

    @property
    def blocks(self) -> int:
        """Channels that are components of pixel blocks."""
        return self.flow + self.novelty + self.colour


@dataclass
class Decoded:
    """What a latent says of a frame: flow (B, 2, H/2, W/2) in pixels of the full size, seen (B, 1, H/2, W/2) logits,
    colour (B, 3, H, W) about -1..1.
    """

    flow: Tensor
    seen: Tensor
    colour: Tensor


class _Res(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1)
        )
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Pyramid(nn.Module):
    """Maps (B, channels, H / k, W / k) folded `fold` = 4 / k times -> features at 1/4, 1/8, 1/16 of H, W."""

    def __init__(self, channels: int, fold: int, widths: tuple[int, int, int]):
        super().__init__()
        a, b, c = widths
        self.quarter = nn.Sequential(
            nn.PixelUnshuffle(fold), nn.Conv2d(channels * fold * fold, a, 3, padding=1), _Res(a)
        )
        self.eighth = nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), _Res(b))
        self.sixteenth = nn.Sequential(nn.Conv2d(b, c, 3, stride=2, padding=1), _Res(c), _Res(c))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        return quarter, eighth, self.sixteenth(eighth)


class ReferenceCodec(Codec):
    """A `codecs.base.Codec`; see the module's text. Pictures are (B, 3, H, W) in -1..1, sides multiples of 16."""

    kind = "reference"

    def __init__(self, config: ReferenceCodecConfig | None = None):
        super().__init__()
        self.config = config = config or ReferenceCodecConfig()
        (a, b, c), n = config.widths, config.blocks
        # Orthonormal blocks, and the deviation of each component, in which `z` is measured.
        for name, count, channels in (
            ("flow", config.flow, 2),
            ("novelty", config.novelty, 1),
            ("colour", config.colour, 3),
        ):
            self.register_buffer(f"basis_{name}", torch.zeros(count, channels, _BLOCK, _BLOCK))
        self.register_buffer(
            "z_std", torch.cat([torch.ones(n), torch.tensor(_CONTROL_SIZE[: config.control_channels])])
        )
        self.appearance = _Pyramid(3, 4, config.widths)
        self.to_r = nn.Conv2d(c, n, 1)
        self.register_buffer("r_mean", torch.zeros(n))
        self.register_buffer("r_std", torch.ones(n))
        self.join = nn.Sequential(nn.Conv2d(2 * n + config.control_channels, c, 3, padding=1), _Res(c))
        self.up_eighth = nn.Conv2d(c, b, 3, padding=1)
        self.at_eighth = nn.Sequential(nn.Conv2d(2 * b, b, 1), _Res(b))
        self.up_quarter = nn.Conv2d(b, a, 3, padding=1)
        self.at_quarter = nn.Sequential(
            nn.Conv2d(2 * a + 24 + config.control_channels, a, 1), _Res(a), _Res(a), nn.SiLU()
        )
        self.to_motion = nn.Sequential(nn.Conv2d(a, 3 * 4, 3, padding=1), nn.PixelShuffle(2))
        self.to_colour = nn.Sequential(nn.Conv2d(a, 3 * 16, 3, padding=1), nn.PixelShuffle(4))
        self.to_response = nn.Sequential(
            nn.Conv2d(a, config.control_channels * 3 * 4, 3, padding=1), nn.PixelShuffle(2)
        )
        for head in (self.to_motion[0], self.to_colour[0], self.to_response[0]):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @staticmethod
    def load(folder: str | Path) -> ReferenceCodec:
        """Load a folder that `save` wrote, float32, in evaluation mode.

        Raises ModelError for a missing or damaged file or other keys.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            if "cues" in config:  # its name in cyberhost 0.1
                config["control_channels"] = config.pop("cues")
            codec = ReferenceCodec(ReferenceCodecConfig(**{**config, "widths": tuple(config["widths"])}))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{folder}: no usable codec ({error}); get the model again") from error
        load_weights(codec, folder / "model.safetensors")
        return codec.eval()

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and model.safetensors in `folder`, which is made if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    @property
    def lip_unit(self) -> float:  # type: ignore[override]
        """Value of the lips' control channel for a gap of one face height, before `emphasis`."""
        return _CONTROL_SIZE[0] * self.config.emphasis if self.config.control_channels else 0.0

    def encode_reference(self, reference: Tensor, control_maps: Tensor | None = None) -> Tensor:
        """The reference's own latent r (B, C, h, w): appearance and place of its parts; the controls' channels are
        `control_maps` (B, controls, h, w), see `face_control_maps`, or zero. reference (B, 3, H, W).
        """
        r = self.to_r(self.appearance(reference)[2])
        r = (r - self.r_mean[:, None, None]) / self.r_std[:, None, None]
        return (
            F.pad(r, (0, 0, 0, 0, 0, self.config.control_channels))
            if control_maps is None
            else torch.cat([r, control_maps], 1)
        )

    def encode(self, frames: Tensor, flow: Tensor, seen: Tensor, controls: Tensor) -> Tensor:
        """Frames against their reference -> z (..., C, h, w).

        frames (..., 3, H, W) in -1..1; flow (..., 2, H/2, W/2), where each pixel comes from in the reference, minus its
        own place, in full-size pixels; seen (..., 1, H/2, W/2) in 0..1, whether the reference shows it; controls (...,
        controls, h, w) of `face_controls`.
        """
        lead = frames.shape[:-3]
        frames, flow, seen, controls = (
            x.flatten(0, -4) if len(lead) > 1 else x for x in (frames, flow, seen, controls)
        )
        parts = components(frames, flow, seen)
        z = (
            torch.cat(
                [*(F.conv2d(x, getattr(self, f"basis_{k}"), stride=_BLOCK) for k, x in parts.items()), controls], 1
            )
            / self.z_std[:, None, None]
        )
        return z.unflatten(0, lead) if len(lead) > 1 else z

    def leave_lips_to_controls(self, z: Tensor) -> Tensor:
        """z (B, C, h, w) without what its blocks say of parted lips: of the cells under the lips' control only the
        mean flow is kept, and the mouth's controls are multiplied by `emphasis`.

        A denoiser puts a line as fine as the lips' a few pixels wrong, and teeth then appear beside the mouth. How far
        the lips are apart it knows well, and where they are the decoder sees in the reference.
        """
        lips = z[:, self.config.blocks : self.config.blocks + 1].abs()
        under = ((lips - 0.2) / (0.3 * lips.amax((2, 3), keepdim=True) + 0.1)).clamp(0, 1)
        fine = slice(_MEAN_FLOW, self.config.blocks)
        mouth = slice(self.config.blocks, self.config.blocks + 2)
        return torch.cat(
            [z[:, :_MEAN_FLOW], z[:, fine] * (1 - under), z[:, mouth] * self.config.emphasis, z[:, mouth.stop :]], 1
        )

    def expand(self, z: Tensor) -> dict[str, Tensor]:
        """The linear inverse of `encode`: flow (B, 2, H/2, W/2), novelty (B, 1, ...)

        and colour (B, 3, ...) at half size.
        """
        c = self.config
        parts = (z * self.z_std[:, None, None])[:, : c.blocks].split([c.flow, c.novelty, c.colour], 1)
        return {
            k: F.conv_transpose2d(x, getattr(self, f"basis_{k}"), stride=_BLOCK)
            for k, x in zip(("flow", "novelty", "colour"), parts, strict=True)
        }

    def read(self, z: Tensor, pyramid: tuple[Tensor, Tensor, Tensor]) -> Decoded:
        """Decode z (B, C, h, w) beside the reference's features (each (B, ...)) into flow, mask and colour."""
        quarter, eighth, sixteenth = pyramid
        base = self.expand(z)
        x = self.join(torch.cat([z, self.to_r(sixteenth)], 1))
        x = self.up_eighth(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.at_eighth(torch.cat([x, eighth], 1))
        x = self.up_quarter(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        maps = torch.cat([base["flow"] / 4, base["novelty"], base["colour"]], 1)
        controls = F.interpolate(z[:, self.config.blocks :], scale_factor=4.0, mode="bilinear", align_corners=False)
        x = self.at_quarter(torch.cat([x, quarter, F.pixel_unshuffle(maps, 2), controls], 1))
        # Lips move in proportion to their control: what a control of one does is read off the reference, times the
        # control.
        response = self.to_response(x).unflatten(1, (-1, 3))
        moved = self.to_motion(x) + (response * control_sizes(z[:, self.config.blocks :])[:, :, None, None, None]).sum(
            1
        )
        flow, seen = moved.split([2, 1], 1)
        colour = F.interpolate(base["colour"], scale_factor=2.0, mode="bilinear", align_corners=False)
        return Decoded(base["flow"] + 4 * flow, 8 * (0.5 - base["novelty"]) + 4 * seen, colour + self.to_colour(x))

    def decode(
        self, z: Tensor, reference: Tensor, picture: Tensor | None = None, close_up: CloseUp | None = None
    ) -> Tensor:
        """z (B, F, C, h, w) and reference (B, 3, H, W) -> frames (B, F, 3, H, W), or of the size of `picture`: the
        reference, larger. close_up: of that picture's mouth, where its lips are parted.
        """
        b, f = z.shape[:2]
        said, source = (
            self.leave_lips_to_controls(z.flatten(0, 1)),
            _repeated(reference if picture is None else picture, f),
        )
        if close_up is not None:
            mouth = slice(self.config.blocks, self.config.blocks + 2)
            source = close_up.put(self._parted(said[:, mouth], close_up, close_up.cut(source)), source)
            said = torch.cat([said[:, : mouth.start], torch.zeros_like(said[:, mouth]), said[:, mouth.stop :]], 1)
        return self._composed(said, reference, source, 0.0 if close_up is None else _TRUST).unflatten(0, (b, f))

    def _parted(self, mouths: Tensor, close_up: CloseUp, square: Tensor) -> Tensor:
        """`square` (B*F, 3, side, side), what `close_up` shows, with lips as the mouth's controls `mouths` (B*F, 2, h,
        w) say.
        """
        f = len(mouths) // len(close_up.small)
        return self._composed(self.mouth_alone(mouths, _repeated(close_up.control_maps, f)), close_up.small, square)

    def mouth_alone(self, mouths: Tensor, control_maps: Tensor) -> Tensor:
        """Latents (B, C, h, w) of frames in which nothing but the mouth moves, as far as its controls `mouths` (B, 2,
        ...)

        say and where `control_maps` (B, controls, h, w) have it.
        """
        controls = 2 * control_sizes(mouths)[..., None, None] * control_maps[:, :2]
        return F.pad(controls, (0, 0, 0, 0, self.config.blocks, self.config.control_channels - 2))

    def _composed(self, said: Tensor, reference: Tensor, source: Tensor, trust: float = 0.0) -> Tensor:
        """The frames (B*F, 3, H, W) that latents (B*F, C, h, w) make of `source` (B*F, 3, H, W), read beside
        `reference` (B, 3, ...). trust: logits in favour of the picture, where a latent half says that something new is
        seen.
        """
        f = len(said) // len(reference)
        quarter, eighth, sixteenth = (_repeated(p, f) for p in self.appearance(reference))
        decoded = self.read(said, (quarter, eighth, sixteenth))
        decoded.flow, decoded.seen = hold_still(decoded.flow), decoded.seen + trust
        return compose(decoded, source, "bicubic").clamp(-1, 1)


def _repeated(x: Tensor, frames: int) -> Tensor:
    """(B, ...) -> (B*F, ...), the same for each frame of a clip."""
    return x[:, None].expand(-1, frames, *[-1] * (x.ndim - 1)).flatten(0, 1)


def control_sizes(controls: Tensor) -> Tensor:
    """Half the heights (B, controls) of the bells in (B, controls, h, w), signed: each cell counted by its own size,
    so that far noise says little.
    """
    return (controls * controls.abs()).sum((2, 3)) / controls.abs().sum((2, 3)).clamp_min(1e-6)


def components(frames: Tensor, flow: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """The three maps at half size whose blocks are coded: flow in pixels, novelty 0..1, colour of what is new.

    All zero where nothing moves.
    """
    new = 1 - seen
    return {"flow": flow, "novelty": new, "colour": new * F.avg_pool2d(frames, 2)}


@torch.no_grad()
def fit_components(codec: ReferenceCodec, batches: list[dict[str, Tensor]]) -> None:
    """Set the codec's bases from batches of `frames`, `flow`, `seen` (see `encode`) and `weight` (B, 1, H/2, W/2):
    principal components about zero of the blocks, each block counted by its mean weight, so that lips and fingers have
    a say beside large shoulders.
    """
    stds = []
    for name in ("flow", "novelty", "colour"):
        basis = getattr(codec, f"basis_{name}")
        blocks, weights = [], []
        for batch in batches:
            part = components(batch["frames"], batch["flow"], batch["seen"])[name]
            blocks.append(F.unfold(part, _BLOCK, stride=_BLOCK).transpose(1, 2).flatten(0, 1))
            weights.append(F.avg_pool2d(batch["weight"], _BLOCK).flatten())
        x, w = torch.cat(blocks).double(), torch.cat(weights).double()
        w = w * (x.abs().amax(1) > 1e-3)  # still blocks say nothing
        covariance = (x * w[:, None]).T @ x / w.sum().clamp_min(1e-9)
        values, vectors = torch.linalg.eigh(covariance)
        top = torch.arange(len(values) - 1, len(values) - 1 - len(basis), -1)
        basis.copy_(vectors[:, top].T.reshape(basis.shape))
        stds.append(values[top].clamp_min(1e-8).sqrt())
    codec.z_std[: codec.config.blocks].copy_(torch.cat(stds))


def hold_still(flow: Tensor) -> Tensor:
    """Flows (B, 2, H, W) shorter than a tenth of a pixel become exactly zero, so that a still background is not
    blurred by resampling. Not used in training: it has no gradient at zero.
    """
    size = (flow**2).sum(1, keepdim=True).add(1e-8).sqrt()
    return flow * (1 - _STILL / size).clamp_min(0)


def warp(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """`picture` (B, 3, H, W) read at each pixel's own place plus `flow` (B, 2, H, W) in its pixels.

    Computed in float32: half precision cannot tell the places of a large picture's neighbours apart, and bicubic
    sampling in it is broken on the CPU.
    """
    h, w = picture.shape[-2:]
    place = supported_device(picture.device)
    flow = flow.to(place, torch.float32)
    y, x = torch.meshgrid(
        torch.arange(h, device=place, dtype=torch.float32),
        torch.arange(w, device=place, dtype=torch.float32),
        indexing="ij",
    )
    grid = torch.stack([(x + flow[:, 0] + 0.5) * (2 / w) - 1, (y + flow[:, 1] + 0.5) * (2 / h) - 1], -1)
    moved = F.grid_sample(picture.to(place, torch.float32), grid, mode=mode, padding_mode="border", align_corners=False)
    return moved.to(picture.device, picture.dtype)


def compose(decoded: Decoded, picture: Tensor, mode: str = "bilinear") -> Tensor:
    """The frame: the picture (B, 3, H', W') moved by the flow where it shows what is needed, the decoded colour
    elsewhere.
    """
    h, w = picture.shape[-2:]
    scale = h / decoded.colour.shape[-2]
    flow = F.interpolate(decoded.flow.float(), size=(h, w), mode="bilinear", align_corners=False) * scale
    seen = F.interpolate(decoded.seen, size=(h, w), mode="bilinear", align_corners=False).sigmoid()
    colour = (
        decoded.colour
        if scale == 1
        else F.interpolate(decoded.colour, size=(h, w), mode="bicubic", align_corners=False)
    )
    return colour + (warp(picture, flow, mode) - colour) * seen
