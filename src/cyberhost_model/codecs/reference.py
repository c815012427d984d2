"""ReferenceCodec: the tiny preset's autoencoder, which encodes a frame against the reference picture.

The paper's latents come from Stable Diffusion's VAE (section 3.1). A small VAE trained from scratch blurs eyes and
fingers, so this decoder also reads the reference: the latent `z` holds where each pixel comes from (a flow), which
pixels are new, and the colour of those. Everything else stays as sharp as the reference. Warping a source by a decoded
flow is the idea of Siarohin et al., "First Order Motion Model" (2019) and, with diffusion in the latent, of Ni et al.,
"LFDM" (2023).

The encoder is linear: principal components of 16x16-pixel blocks of flow, novelty and colour, fitted once
(`fit_components`), and face controls (`perception.face_controls`): the change of lips and lids since the reference. A
frame equal to the reference encodes as zero. The decoder adds a learned refinement that reads the reference, so that
edges of the flow fall on edges of the picture and lips part where the reference has them.

Filmed people change in ways that no flow explains: light on a turning face, the inside of a mouth, a hand in front of
what it uncovers. A codec for them has no components of new pixels' colour but of what decoding the rest leaves of the
frame (`ReferenceCodecConfig.left`), so that its encoder runs its decoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cyberhost_model.codecs.arm_layers import ArmLayers
from cyberhost_model.codecs.base import Codec, FrameDecoder
from cyberhost_model.codecs.close_up import MOUTH, CloseUp
from cyberhost_model.codecs.close_up_table import CloseUpTable
from cyberhost_model.codecs.lay_arms import lay_arms, make_way, take_out_arms
from cyberhost_model.codecs.redraw import DecodedMaps, compose, enlarge, zero_small_flow
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import LARGEST_CONFIG, check_fits, load_weights
from cyberhost_model.reading import Unreadable, build, one_line, read_object

_BLOCK = 8  # half-size pixels of a latent cell, along one side
_MEAN_FLOW = 2  # the first components of flow are its two means, because blocks mostly move as a whole
_PICTURE_BIAS = 4.0  # logits of visibility, added where lips are opened in close-up: little else is new then
_WIDE, _ROUNDED = 2.5, -1.5  # deviations of lips' gap and mouth's width from where on lips are wide open and rounded
_CONTROL_STD = (0.025, 0.008, 0.012)  # usual heights of the face controls' Gaussians, in face heights
_CHANNELS = {"flow": 2, "novelty": 1, "colour": 3, "left": 3}  # of the maps whose blocks are encoded, in `z`'s order
# With `left`: share by which the mask of visibility is stretched, so that a sure pixel is the picture's alone.
_STRETCH = 0.05


@dataclass
class ReferenceCodecConfig:
    """Sizes of the codec."""

    flow: int = 14
    """Components of flow in `z`; with those of the other maps and the face controls they sum to the latent's channels.
    """
    novelty: int = 4
    """Components of the mask of new pixels."""
    colour: int = 6
    """Components of the new pixels' colour."""
    left: int = 0
    """Components of the colour that decoding all the others leaves; see `ReferenceCodec.encode`."""
    reference: int = 0
    """Channels of the reference's own latent `r` that are not zero; 0: as many as `blocks`."""
    dead_zone: float = 0.15
    """Deviations by which `decode` brings components of `left` nearer to zero: a denoiser's small errors in them would
    be blotches beside hands.
    """
    control_channels: int = len(_CONTROL_STD)
    """Face controls."""
    widths: tuple[int, int, int] = (32, 80, 160)
    """Channels of the networks at 1/4, 1/8 and 1/16 of the picture's size."""
    downscale: int = 16
    emphasis: tuple[float, ...] = (1.2, 1.9, 1.2)
    """Factors of the face controls in `decode`, because denoiser and decoder understate them."""
    closing: float = 2.2
    """Factor of the lips' gap beside `emphasis` where lips come together, because flow shuts a smile less far than it
    is told to.
    """
    rounding: float = 2.25
    """Factor, beside `emphasis`, of what a mouth gets narrower beyond 1.5 deviations of its control: those of rounded
    lips, whereas a mouth that only speaks is not pursed. 1 in folders that do not state it.
    """
    opening: float = 1.5
    """Factor, beside `emphasis`, of what lips part beyond 2.5 deviations of their control: those of open vowels. 1 in
    folders that do not state it.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone <= 10 or not 1 <= self.downscale <= 64:
            raise ValueError("dead_zone must be within 0..10 and downscale within 1..64")
        if not 0 <= self.control_channels <= len(self.emphasis) or max(map(abs, self.emphasis), default=0) > 100:
            raise ValueError("emphasis must be a factor within 100 for each of control_channels")
        for name in ("closing", "rounding", "opening"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} must be within 0..100")

    @property
    def latent_channels(self) -> int:
        """Channels of `z`."""
        return self.blocks + self.control_channels

    @property
    def blocks(self) -> int:
        """Channels of `z` that are components of pixel blocks."""
        return self.drawn + self.left

    @property
    def drawn(self) -> int:
        """Channels of `z` that are components from which the decoder's network draws a frame: all but those of `left`.

        They come first.
        """
        return self.flow + self.novelty + self.colour

    @property
    def reference_channels(self) -> int:
        """Channels of `r` that say something; it has as many as `z`."""
        return self.reference or self.blocks

    def components(self) -> dict[str, int]:
        """List the maps that have components, and how many, in the order of `z`."""
        return {name: getattr(self, name) for name in _CHANNELS if getattr(self, name)}


class _ResidualBlock(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1)
        )
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _DoublingConv(nn.Conv2d):
    """A 3x3 convolution of maps whose pixels were doubled: (B, C, h, w) -> (B, C', 2 h, 2 w).

    Of the nine pixels under the kernel several are the same one, so that four products do without gradients.
    """

    _folded: tuple[tuple[int, int, torch.dtype], Tensor] | None = None

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        made_of = self.weight.data_ptr(), self.weight._version, self.weight.dtype
        if self._folded is None or self._folded[0] != made_of:
            spread = self.weight.new_tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=torch.float32)
            kernel = torch.einsum("ai,bj,ocij->coab", spread.flip(0), spread.flip(0), self.weight.float())
            self._folded = made_of, kernel.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, self._folded[1], self.bias, stride=2, padding=1)


class _Pyramid(nn.Module):
    """Maps (B, channels, H / k, W / k) with `fold` = 4 / k -> features at 1/4, 1/8 and 1/16 of H, W."""

    def __init__(self, channels: int, fold: int, widths: tuple[int, int, int]):
        super().__init__()
        a, b, c = widths
        self.quarter = nn.Sequential(
            nn.PixelUnshuffle(fold), nn.Conv2d(channels * fold * fold, a, 3, padding=1), _ResidualBlock(a)
        )
        self.eighth = nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), _ResidualBlock(b))
        self.sixteenth = nn.Sequential(nn.Conv2d(b, c, 3, stride=2, padding=1), _ResidualBlock(c), _ResidualBlock(c))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        return quarter, eighth, self.sixteenth(eighth)


class ReferenceCodec(Codec):
    """Codec of latents relative to the reference picture, see the module's docstring.

    Pictures are (B, 3, H, W) in -1..1, sides multiples of 16; those at the video's size may be float32 while the codec
    computes in half precision. The latent's channels are, in this order, components of
    flow, novelty, colour and colour that is left, and face controls: gap of the lips, width of the mouth, gap of the
    lids.
    """

    kind = "reference"
    channels_last = True

    def __init__(self, config: ReferenceCodecConfig | None = None):
        super().__init__()
        self.config = config = config or ReferenceCodecConfig()
        self.latent_channels = config.latent_channels
        self.same_close_ups = bool(config.left)
        (a, b, c), n = config.widths, config.blocks
        # Orthonormal blocks, and the standard deviation of each component, by which `z` is divided.
        for name, count in config.components().items():
            self.register_buffer(f"basis_{name}", torch.zeros(count, _CHANNELS[name], _BLOCK, _BLOCK))
        self.register_buffer("z_std", torch.cat([torch.ones(n), torch.tensor(_CONTROL_STD[: config.control_channels])]))
        self.appearance = _Pyramid(3, 4, config.widths)
        r = config.reference_channels
        self.to_r = nn.Conv2d(c, r, 1)
        self.register_buffer("r_mean", torch.zeros(r))
        self.register_buffer("r_std", torch.ones(r))
        read = config.drawn + config.control_channels
        self.join = nn.Sequential(nn.Conv2d(read + r, c, 3, padding=1), _ResidualBlock(c))
        self.up_eighth = _DoublingConv(c, b)
        self.at_eighth = nn.Sequential(nn.Conv2d(2 * b, b, 1), _ResidualBlock(b))
        self.up_quarter = _DoublingConv(b, a)
        self.at_quarter = nn.Sequential(
            nn.Conv2d(2 * a + 4 * self.map_channels + config.control_channels, a, 1),
            _ResidualBlock(a),
            _ResidualBlock(a),
            nn.SiLU(),
        )
        self.to_motion = nn.Sequential(nn.Conv2d(a, 3 * 4, 3, padding=1), nn.PixelShuffle(2))
        self.to_colour = nn.Sequential(nn.Conv2d(a, 3 * 16, 3, padding=1), nn.PixelShuffle(4))
        self.to_response = nn.Sequential(
            nn.Conv2d(a, config.control_channels * 3 * 4, 3, padding=1), nn.PixelShuffle(2)
        )
        for head in (self.to_motion[0], self.to_colour[0], self.to_response[0]):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def map_channels(self) -> int:
        """Channels of the maps that the decoder's network reads at half size."""
        return sum(_CHANNELS[name] for name in self._drawn())

    @staticmethod
    def load(folder: str | Path) -> ReferenceCodec:
        """Load a folder that `save` wrote, float32, in evaluation mode.

        Raises ModelError for a missing or damaged file or other keys.
        """
        folder = Path(folder)
        try:
            config = read_object(folder / "config.json", LARGEST_CONFIG)
            if "cues" in config:  # its name in cyberhost 0.1
                config["control_channels"] = config.pop("cues")
            if isinstance(config.get("emphasis"), float):  # of the mouth alone in cyberhost 0.1
                config["emphasis"] = [config["emphasis"], config["emphasis"], 1.0]
            for factor in ("rounding", "opening"):
                config.setdefault(factor, 1.0)  # as it was before there was such a factor
            made = build(ReferenceCodecConfig, config)
        except (OSError, Unreadable) as error:
            raise ModelError(f"{folder}: no usable codec ({one_line(error)}); get the model again") from error
        check_fits(folder / "model.safetensors", lambda: ReferenceCodec(made))
        codec = ReferenceCodec(made)
        load_weights(codec, folder / "model.safetensors")
        return codec.eval()

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and model.safetensors in `folder`, which is made if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    # Encoding

    def encode_reference(self, reference: Tensor, control_maps: Tensor | None = None) -> Tensor:
        """Encode the appearance and place of the reference's parts: (B, 3, H, W) -> r (B, C, h, w).

        control_maps (B, controls, h, w) of `face_control_maps` fill the controls' channels; zero without them.
        """
        r = self.to_r(self.appearance(reference)[2])
        r = (r - self.r_mean[:, None, None]) / self.r_std[:, None, None]
        r = F.pad(r, (0, 0, 0, 0, 0, self.config.blocks - self.config.reference_channels))
        if control_maps is None:
            return F.pad(r, (0, 0, 0, 0, 0, self.config.control_channels))
        return torch.cat([r, control_maps], 1)

    def encode(
        self,
        frames: Tensor,
        flow: Tensor,
        visible: Tensor,
        controls: Tensor,
        reference: Tensor,
        close_ups: Sequence[CloseUp] = (),
    ) -> Tensor:
        """Encode frames against their reference -> z (B, F, C, h, w).

        frames (B, F, 3, H, W) in -1..1; flow (B, F, 2, H/2, W/2): position of each pixel in the reference minus its
        own, in full-size pixels; visible (B, F, 1, H/2, W/2) in 0..1: whether the reference shows it; controls (B, F,
        controls, h, w) of `face_controls`; reference (B, 3, H, W). close_ups: those of `decode`. The last two only
        matter to a codec with `left`: it decodes flow, novelty and controls, and encodes what is missing.
        """
        z = self.encode_drawn(*(x.flatten(0, 1) for x in (frames, flow, visible, controls)))
        z = z.unflatten(0, frames.shape[:2])
        if self.config.left:
            missing = frames - self.decode_coded(z, reference, close_ups)
            z[:, :, self.config.drawn : self.config.blocks] = self.encode_left(missing)
        return z

    def encode_drawn(self, frames: Tensor, flow: Tensor, visible: Tensor, controls: Tensor) -> Tensor:
        """Encode all but what is left, which stays zero: arguments (B, ...) of `encode` -> z (B, C, h, w)."""
        maps = component_maps(frames, flow, visible)
        coded = [F.conv2d(maps[name], self._basis(name), stride=_BLOCK) for name in self._drawn()]
        if self.config.left:
            coded.append(coded[0].new_zeros(len(frames), self.config.left, *coded[0].shape[-2:]))
        return torch.cat([*coded, controls], 1) / self.z_std[:, None, None]

    def encode_left(self, missing: Tensor) -> Tensor:
        """Encode what decoding leaves, frame minus decoded frame (B, F, 3, H, W) -> channels (B, F, left, h, w)."""
        std = self.z_std[self.config.drawn : self.config.blocks, None, None]
        return (self.left_components(missing.flatten(0, 1)) / std).unflatten(0, missing.shape[:2])

    def left_components(self, missing: Tensor) -> Tensor:
        """Project colour (B, 3, H, W) that is left on its components: (B, left, h, w), not divided by deviations."""
        return F.conv2d(F.avg_pool2d(missing, 2), self._basis("left"), stride=_BLOCK)

    def left_colour(self, components: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
        """Invert `left_components` at a `size` (H, W): (B, left, h, w) -> (B, 3, H, W)."""
        return enlarge(_join_blocks(components, self._basis("left")), (size[0], size[1]))

    def _drawn(self) -> list[str]:
        """The maps that have components, but for what is left."""
        return [name for name in self.config.components() if name != "left"]

    def _basis(self, name: str) -> Tensor:
        """The orthonormal blocks (count, channels, 8, 8) of a map."""
        return getattr(self, f"basis_{name}")

    # Decoding

    def decode(
        self, z: Tensor, reference: Tensor, picture: Tensor | None = None, close_ups: Sequence[CloseUp] = ()
    ) -> Tensor:
        """Decode z (B, F, C, h, w) with the reference (B, 3, H, W) -> frames (B, F, 3, H', W').

        picture (B, 3, H', W'): the reference at the video's size, by default `reference` itself. close_ups: parts of
        the picture's face, which are moved there, where they are large, before the frame's flow moves the picture. The
        face controls get `emphasis`, and what may be new is taken from the picture where `z` is not sure: a denoiser's
        small errors would be blotches on hands.
        """
        return self._decode(z, reference, picture, close_ups, made_up=True)

    def decoder(
        self,
        reference: Tensor,
        picture: Tensor | None = None,
        close_ups: Sequence[CloseUp] = (),
        layers: ArmLayers | None = None,
        ahead: bool = False,
    ) -> FrameDecoder:
        """Return `decode` for one video, which keeps the picture's features and how mouth and eyes look in close-up.

        It draws those from a `CloseUpTable`, so that frames differ by a few grey levels there, PSNR above 70 dB; ahead:
        what most frames of a speech show is decoded now. The arms of `layers` are laid where the key points have them.
        """
        kept = _Kept(self.appearance(reference), [self._look_up(close_up) for close_up in close_ups], layers)
        for close_up, looks in zip(close_ups, kept.looks, strict=True):
            if ahead and looks is not None:
                looks.fill(close_up.part.usual)
        return lambda z, arms=None: self._decode(z, reference, picture, close_ups, True, kept, arms)

    def decode_coded(self, z: Tensor, reference: Tensor, close_ups: Sequence[CloseUp] = ()) -> Tensor:
        """Decode what `encode` made, whose face controls need no emphasis; as `decode`."""
        return self._decode(z, reference, None, close_ups)

    def _decode(
        self,
        z: Tensor,
        reference: Tensor,
        picture: Tensor | None,
        close_ups: Sequence[CloseUp],
        made_up: bool = False,
        kept: _Kept | None = None,
        arms: np.ndarray | None = None,
    ) -> Tensor:
        """Decode. made_up: `z` comes from a denoiser. kept: of earlier calls with the same picture."""
        kept = kept or _Kept(self.appearance(reference), [None] * len(close_ups))
        b, f = z.shape[:2]
        latent, under = self.leave_lips_to_controls(z.flatten(0, 1), made_up)
        source = _copy_frames(reference if picture is None else picture, f)
        layers = None if arms is None else kept.layers
        if layers is not None and arms is not None:
            source = take_out_arms(layers, source, arms)
        bias: Tensor | float = 0.0
        for close_up, looks in zip(close_ups, kept.looks, strict=True):
            channels = self._channels(close_up.part.controls)
            source = self._move_part(latent[:, channels], close_up, source, looks)
            closed = torch.zeros_like(latent[:, channels])
            latent = torch.cat([latent[:, : channels.start], closed, latent[:, channels.stop :]], 1)
            if close_up.part is MOUTH:  # a filmed frame is new elsewhere too
                bias = _PICTURE_BIAS * under if self.config.left and not made_up else _PICTURE_BIAS
        maps = self.decode_maps(latent, tuple(_repeat_frames(x, f) for x in kept.features))
        hidden = None
        if layers is not None and arms is not None:
            hidden = make_way(layers, arms, maps)
        frames = self._redraw(maps, source, bias)
        if self.config.left:
            n = slice(self.config.drawn, self.config.blocks)
            values = F.softshrink(latent[:, n], self.config.dead_zone) * self.z_std[n, None, None]
            left = self.left_colour(values, frames.shape[-2:])
            if hidden is not None:
                left = left * (1 - F.interpolate(hidden, size=left.shape[-2:], mode="bilinear")).to(left)
            frames = (frames + left.to(frames)).clamp(-1, 1)
        if layers is not None and arms is not None:
            flow = maps.flow * (frames.shape[-1] / maps.colour.shape[-1])
            frames = lay_arms(layers, frames, arms, flow)
        return frames.unflatten(0, (b, f))

    def move_close_up(self, close_up: CloseUp, picture: Tensor, changes: Sequence[float]) -> Tensor:
        """Move a part of the face of a picture (B, 3, H, W) in its close-up; the rest stays as it is.

        changes: of each of the part's controls, in heights of the face, such as how much wider the lips open.
        """
        controls = close_up.part.controls
        heights = self.emphasise(self.z_std.new_tensor(changes) / self.control_deviations[controls], controls)
        values = heights[None, :, None, None].expand(len(picture), -1, 1, 1) / 2
        return self._move_part(values, close_up, picture.clone())

    @property
    def control_deviations(self) -> Tensor:
        """(controls,): deviations of the face controls in heights of the face, by which `z` is divided."""
        return self.z_std[self.config.blocks :]

    def emphasise(self, values: Tensor, controls: slice) -> Tensor:
        """Multiply the face controls (..., n) of `controls` by `emphasis`, and lips that come together by `closing`."""
        factors = values.new_tensor(self.config.emphasis[: self.config.control_channels])
        closing = torch.ones_like(factors)
        closing[:1] = self.config.closing  # the lips' gap comes first
        return values * factors[controls] * torch.where(values < 0, closing[controls], 1.0)

    def speak_further(self, controls: Tensor) -> Tensor:
        """Raise the gap of face controls (B, controls, h, w) by `opening`, and the mouth's width by `rounding`.

        That is where lips are wide open, and where they are rounded. How far that is, is measured on the whole control,
        so that its Gaussian keeps its shape.
        """
        gap, width = controls[:, :1], controls[:, 1:2]
        raised = [
            _raise_beyond(gap, _WIDE, self.config.opening),
            _raise_beyond(width, _ROUNDED, self.config.rounding),
        ]
        return torch.cat([*raised, controls[:, 2:]], 1)

    def leave_lips_to_controls(self, z: Tensor, emphasised: bool) -> tuple[Tensor, Tensor]:
        """Keep only the mean flow of z (B, C, h, w) in cells under the lips' control, and `emphasise` the controls.

        A denoiser puts a line as fine as the lips' a few pixels wrong, and teeth then appear next to the mouth. It
        predicts well how far the lips are apart, and the decoder finds them in the reference. What that leaves stays.
        Returns the latents, and (B, 1, h, w) in 0..1 how far each cell is under the control.
        """
        drawn, blocks = self.config.drawn, self.config.blocks
        lips = z[:, blocks : blocks + 1].abs()
        under = ((lips - 0.2) / (0.3 * lips.amax((2, 3), keepdim=True) + 0.1)).clamp(0, 1)
        fine, left = z[:, _MEAN_FLOW:drawn] * (1 - under), z[:, drawn:blocks]
        controls = z[:, blocks:]
        if emphasised:
            controls = self.emphasise(self.speak_further(controls).movedim(1, -1), slice(None)).movedim(-1, 1)
        return torch.cat([z[:, :_MEAN_FLOW], fine, left, controls], 1), under

    def _channels(self, controls: slice) -> slice:
        """Find the channels of `z` that hold these face controls."""
        return slice(self.config.blocks + controls.start, self.config.blocks + controls.stop)

    def _look_up(self, close_up: CloseUp) -> CloseUpTable | None:
        """Begin the table of a part's looks; None for several pictures at once."""
        if len(close_up.small) > 1:
            return None
        features = self.appearance(close_up.small.to(self.z_std))

        def decode(sizes: Tensor) -> tuple[Tensor, ...]:
            n = len(sizes)
            values = (sizes / 2).to(self.z_std)[..., None, None]
            maps = _repeat_frames(close_up.control_maps.to(self.z_std), n)
            latent = self.control_latent(values, maps, close_up.part.controls)
            looks = self.decode_maps(latent, tuple(_repeat_frames(x, n) for x in features))
            return looks.flow, looks.visible, looks.colour

        return CloseUpTable(decode, close_up.part.spacing)

    def _move_part(
        self, values: Tensor, close_up: CloseUp, source: Tensor, looks: CloseUpTable | None = None
    ) -> Tensor:
        """Apply a part's controls (B*F, n, h, w) to pictures (B*F, 3, H', W'), which are changed and returned.

        Where the part rests they stay as they are. looks: of the part, to be looked up instead of decoded.
        """
        f = len(values) // len(close_up.small)
        control_maps = _repeat_frames(close_up.control_maps.to(self.z_std), f)
        latent = self.control_latent(values, control_maps, close_up.part.controls)
        moves = (latent[:, self.config.blocks :].abs().amax((1, 2, 3)) > close_up.part.rests).nonzero()[:, 0]
        if not len(moves):
            return source
        squares = close_up.crop(source)
        if looks is None:
            features = tuple(x[moves // f] for x in self.appearance(close_up.small.to(self.z_std)))
            maps = self.decode_maps(latent[moves], features)
        else:
            maps = DecodedMaps(*looks(2 * measure_controls(values[moves])))
        squares[moves] = self._redraw(maps, squares[moves]).to(squares)
        return close_up.paste(squares, source)

    def control_latent(self, values: Tensor, control_maps: Tensor, controls: slice) -> Tensor:
        """Make latents (B, C, h, w) of frames in which only some face controls differ from the reference.

        values (B, n, ...): the controls of `controls`, whose sizes count; control_maps (B, controls, h, w): where they
        act.
        """
        acting = 2 * measure_controls(values)[..., None, None] * control_maps[:, controls]
        before = self.config.blocks + controls.start
        return F.pad(acting, (0, 0, 0, 0, before, self.config.latent_channels - before - acting.shape[1]))

    def _redraw(self, maps: DecodedMaps, source: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        """Apply decoded maps of N frames to the pictures `source` (N, 3, H', W') that are warped -> the same shape.

        bias: logits in favour of the picture where a pixel may be new, one number or maps (N or 1, 1, any h, any w).
        """
        if isinstance(bias, Tensor):
            bias = F.interpolate(bias, size=maps.visible.shape[-2:], mode="bilinear", align_corners=False)
        maps.flow, maps.visible = zero_small_flow(maps.flow), maps.visible + bias
        return compose(maps, source, "bicubic", self.stretch).clamp(-1, 1)

    @property
    def stretch(self) -> float:
        """The `stretch` of `compose`."""
        return _STRETCH if self.config.left else 0.0

    def decode_maps(self, z: Tensor, pyramid: tuple[Tensor, ...]) -> DecodedMaps:
        """Decode z (B, C, h, w) with the reference's features (B, ...) into flow, visibility and colour."""
        quarter, eighth, sixteenth = pyramid
        base, (drawn, blocks) = self.decode_components(z), (self.config.drawn, self.config.blocks)
        x = self.join(torch.cat([z[:, :drawn], z[:, blocks:], self.to_r(sixteenth)], 1))
        x = self.up_eighth(x)
        x = self.at_eighth(_cat_channels(x, eighth))
        x = self.up_quarter(x)
        maps = torch.cat([base["flow"] / 4, *(base[name] for name in ("novelty", "colour") if name in base)], 1)
        controls = F.interpolate(z[:, self.config.blocks :], scale_factor=4.0, mode="bilinear", align_corners=False)
        x = self.at_quarter(_cat_channels(x, quarter, F.pixel_unshuffle(maps, 2), controls))
        # Lips move in proportion to their control: the network predicts the response to a control of 1 from the
        # reference, which is then multiplied by the control.
        sizes, motion = measure_controls(z[:, self.config.blocks :]), self.to_motion(x)
        if z.device.type != "cpu" or sizes.any():  # a GPU would have to wait for the answer
            response = self.to_response(x).unflatten(1, (-1, 3))
            motion = motion + (response * sizes[:, :, None, None, None]).sum(1)
        flow, visible = motion.split([2, 1], 1)
        colour = self.to_colour(x)
        if "colour" in base:
            colour = enlarge(base["colour"], (colour.shape[-2], colour.shape[-1])) + colour
        return DecodedMaps(base["flow"] + 4 * flow, 8 * (0.5 - base["novelty"]) + 4 * visible, colour)

    def decode_components(self, z: Tensor) -> dict[str, Tensor]:
        """Invert `encode` linearly: z (B, C, h, w) -> the maps of `component_maps` that have components."""
        counts = {name: count for name, count in self.config.components().items() if name != "left"}
        parts = (z * self.z_std[:, None, None])[:, : self.config.drawn].split(list(counts.values()), 1)
        return {name: _join_blocks(x, self._basis(name)) for name, x in zip(counts, parts, strict=True)}


@dataclass
class _Kept:
    """What decoding keeps of one picture from call to call."""

    features: tuple[Tensor, ...]
    """`ReferenceCodec.appearance` of it."""
    looks: Sequence[CloseUpTable | None]
    """Of each close-up; None: it is decoded."""
    layers: ArmLayers | None = None
    """Its arms, where key points lay them."""


def _join_blocks(x: Tensor, basis: Tensor) -> Tensor:
    """Sum the blocks (n, channels, 8, 8) weighted by x (B, n, h, w) in each cell -> (B, channels, 8 h, 8 w).

    It is a transposed convolution, whose kernels are far slower on a CPU than those of a product.
    """
    return F.pixel_shuffle(F.conv2d(x, basis.flatten(1).T[..., None, None]), _BLOCK)


def _cat_channels(first: Tensor, *others: Tensor) -> Tensor:
    """Concatenate maps (B, C, h, w) in the memory layout of the first; mixed ones would be laid out anew afterwards."""
    last = first.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.cat([maps.contiguous(memory_format=layout) for maps in (first, *others)], 1)


def _copy_frames(x: Tensor, frames: int) -> Tensor:
    """Do what `_repeat_frames` does with a copy, in which the numbers of a pixel lie side by side."""
    repeated = _repeat_frames(x, frames)
    return torch.empty_like(repeated, memory_format=torch.channels_last).copy_(repeated)


def _repeat_frames(x: Tensor, frames: int) -> Tensor:
    """Repeat (B, ...) for each frame of a clip -> (B*F, ...)."""
    if frames == 1:
        return x  # in its own memory layout
    return x[:, None].expand(-1, frames, *[-1] * (x.ndim - 1)).flatten(0, 1)


def measure_controls(controls: Tensor) -> Tensor:
    """Measure half the heights (B, controls), signed, of the Gaussians in (B, controls, h, w).

    Cells are weighted by their own size, so that noise far from the Gaussian hardly counts.
    """
    return (controls * controls.abs()).sum((2, 3)) / controls.abs().sum((2, 3)).clamp_min(1e-6)


def _raise_beyond(control: Tensor, start: float, factor: float) -> Tensor:
    """Multiply by `factor` what a control (B, 1, h, w) has beyond `start`, on the side of its sign."""
    far = 2 * measure_controls(control) / start
    beyond = (far - 1).clamp_min(0) / far.clamp_min(1)  # share of the control
    return control * (1 + (factor - 1) * beyond)[..., None, None]


def component_maps(frames: Tensor, flow: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Make the three maps at half size whose blocks are encoded, all zero where nothing moves.

    "flow" (B, 2, ...) in pixels, "novelty" (B, 1, ...) in 0..1 and "colour" (B, 3, ...) of new pixels. Arguments as in
    `ReferenceCodec.encode`.
    """
    new = 1 - visible
    return {"flow": flow, "novelty": new, "colour": new * F.avg_pool2d(frames, 2)}


@torch.no_grad()
def fit_components(codec: ReferenceCodec, batches: list[dict[str, Tensor]]) -> None:
    """Fit the codec's bases: principal components about zero of pixel blocks.

    batches: `frames`, `flow`, `visible` (see `ReferenceCodec.encode`; without its axis of frames) and `weight` (B, 1,
    H/2, W/2). Each block counts by its mean weight, so that lips and fingers matter next to large shoulders. For what
    is left see `fit_left`.
    """
    maps = [component_maps(batch["frames"], batch["flow"], batch["visible"]) for batch in batches]
    for name in codec.config.components():
        if name != "left":
            _fit(codec, name, [(each[name], batch["weight"]) for each, batch in zip(maps, batches, strict=True)])


@torch.no_grad()
def fit_left(codec: ReferenceCodec, samples: list[tuple[Tensor, Tensor]]) -> None:
    """Fit the components of the colour that is left, which depends on the decoder.

    samples: frames minus decoded frames at half size (B, 3, H/2, W/2), and `weight` of `fit_components`.
    """
    _fit(codec, "left", samples)


def _fit(codec: ReferenceCodec, name: str, samples: list[tuple[Tensor, Tensor]]) -> None:
    """Fit the components of one map to samples of it, each with its weight."""
    basis, first = getattr(codec, f"basis_{name}"), 0
    for other, count in codec.config.components().items():
        if other == name:
            break
        first += count
    blocks = [F.unfold(part, _BLOCK, stride=_BLOCK).transpose(1, 2).flatten(0, 1) for part, _ in samples]
    weights = [F.avg_pool2d(weight, _BLOCK).flatten() for _, weight in samples]
    x, w = torch.cat(blocks).double(), torch.cat(weights).double()
    w = w * (x.abs().amax(1) > 1e-3)  # still blocks do not count
    covariance = (x * w[:, None]).T @ x / w.sum().clamp_min(1e-9)
    values, vectors = torch.linalg.eigh(covariance)
    top = torch.arange(len(values) - 1, len(values) - 1 - len(basis), -1)
    basis.copy_(vectors[:, top].T.reshape(basis.shape))
    codec.z_std[first : first + len(basis)].copy_(values[top].clamp_min(1e-8).sqrt())
