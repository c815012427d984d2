"""Configuration: sizes of the networks, presets, how a network is sampled, and the options of a video.

`Preset` nests everything that fixes a network; it is stored as config.json with the weights. `preset("tiny")` is the
embedded model, `preset("sd15")` the paper's full size; both build the same classes. `ABLATIONS` names the eight "w/o"
rows of Table 1. `GenerationConfig`, `DeviceConfig` and `RuntimeConfig` are what a user chooses for a video.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyberhost_model.errors import InputError, ModelError
from cyberhost_model.options import SEEDS, check_options, option
from cyberhost_model.reading import Unreadable, build

if TYPE_CHECKING:
    from typing_extensions import TypedDict

FPS = 25.0
"""Frames a second of the training videos, and of a video unless it is chosen otherwise."""
FRAME_RATES = (1, 60)
"""Fewest and most frames a second of a video."""
EMBEDDED = Path(__file__).parent / "weights"
"""Folder of the models inside the package."""
LARGEST_LAYER = 1 << 16
"""Largest number of channels, vectors, tokens or heads of a network; Stable Diffusion's layers have up to 1280."""
LARGEST_SCALE = 1000.0
"""Largest scale of guidance, in a model's settings and in a video's options; the paper's are 2.5 and 4.5."""
LARGEST_SIDE = 8192
"""Largest side in pixels of a model's usual picture."""
MOST_LAYERS = 64
"""Most levels of a network, and most layers at one of them."""


@dataclass(frozen=True)
class UNetConfig:
    """Sizes shared by the Reference Net and the Denoising U-Net (diffusers' names and meanings)."""

    block_out_channels: tuple[int, ...]
    attention_levels: tuple[bool, ...]
    """Which levels have spatial attention; the middle block always has it. Motion modules are at every level."""
    layers_per_block: int
    heads: tuple[int, ...]
    """Spatial attention heads at each level."""
    motion_heads: tuple[int, ...]
    """Temporal attention heads at each level."""
    cross_attention_dim: int
    """Width of the audio tokens, keys and values of `attn2`."""
    norm_num_groups: int
    use_linear_projection: bool
    motion_max_frames: int = 32
    """Positions of a motion module's encoding: frames + motion frames must not exceed it."""
    trim_reference: bool = True
    """Drop what the Reference Net never uses: its own cross attention, time, everything after the last attention site.

    False keeps diffusers' 686 keys, so that Stable Diffusion 1.5 loads strictly.
    """
    trim_motion: bool = True
    """Build motion modules with one temporal attention and no feed-forward, a third of the work.

    False keeps AnimateDiff's keys.
    """
    motion_norm_per_frame: bool = False
    """Compute the motion modules' GroupNorm over each frame by itself, as AnimateDiff's own code and the AnimateAnyone
    family do; diffusers computes it over the whole clip.
    """

    def __post_init__(self) -> None:
        _check_sizes("unet", self)
        levels = len(self.block_out_channels)
        for name in ("attention_levels", "heads", "motion_heads"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"unet.{name} must have {levels} entries, one for each of block_out_channels")
        if self.layers_per_block > MOST_LAYERS:
            raise ValueError(f"unet.layers_per_block must be at most {MOST_LAYERS}, not {self.layers_per_block}")
        for name, width in (("heads", self.heads), ("motion_heads", self.motion_heads)):
            if any(channels % heads for channels, heads in zip(self.block_out_channels, width, strict=True)):
                raise ValueError(f"unet.{name} must divide block_out_channels")
        if any(channels % self.norm_num_groups for channels in self.block_out_channels):
            raise ValueError("unet.norm_num_groups must divide block_out_channels")


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of the speech features (B, F, tokens, layers, dim), as `speech.encoder` cuts them for each frame."""

    dim: int
    """Width of the speech encoder's hidden states."""
    layers: int
    """Hidden states used: the encoder's layers and the features before them (multi-stage)."""
    tokens: int
    """Encoder steps in a video frame's window."""
    project: bool = True
    """Mix layers by `AudioProjection`; False: cross attention reads a token for each step and layer (EchoMimicV2)."""
    centred: bool = True
    """Whether overlapping windows hear a frame about its middle; False: about its beginning (EchoMimicV2)."""

    def __post_init__(self) -> None:
        _check_sizes("audio", self)


@dataclass(frozen=True)
class RegionConfig:
    """Sizes of Region Codebook Attention and its identity encoders (section 3.2)."""

    stages: tuple[str, ...]
    """Stages it follows, after their last layer: "down_blocks.<i>", "mid_block", "up_blocks.<i>"."""
    codebook_dim: int
    """d of both codebooks and width of the attention; at least n and m, so that the vectors can be orthogonal."""
    spatial_vectors: int
    """n of C_spa."""
    temporal_vectors: int
    """m of C_temp."""
    heads: int
    identity_dim: int
    """Width of the identity descriptor's tokens."""
    hand_channels: tuple[int, ...]
    """Widths of the Hand Encoder; each entry halves the 128x128 crop once."""
    face_channels: tuple[int, ...]
    """Widths of the Face Encoder on the 256x256 crop, each entry halves once; empty: it reads ArcFace's (B, 512)."""
    hand_keypoints: int = 42
    """Heat maps a hand stage predicts (2 x 21)."""
    face_keypoints: int = 0
    """Heat maps a face stage predicts; the paper supervises hands only."""

    def __post_init__(self) -> None:
        _check_sizes("region", self, zero=("stages", "face_channels", "hand_keypoints", "face_keypoints"))
        if max(self.spatial_vectors, self.temporal_vectors) > self.codebook_dim:
            raise ValueError(
                "region.spatial_vectors and temporal_vectors must not exceed codebook_dim: no more can be orthogonal"
            )


@dataclass(frozen=True)
class PortraitConfig:
    """Sizes of what Hallo's networks have and the paper's lack: tokens of the face, and masked audio attentions."""

    face_tokens: int
    """Tokens that are made of ArcFace's descriptor; spatial cross attention of both U-Nets reads them."""
    audio_hidden: int
    """Width of the audio projection's two hidden layers."""
    audio_tokens: int
    """Tokens that the audio projection makes of a frame's window, each `unet.cross_attention_dim` wide."""
    motion_drop: float = 0.0
    """Share of the pixels outside the face that are taken out of the motion frames, 0..1 (Hallo2's patch drop)."""

    def __post_init__(self) -> None:
        _check_sizes("portrait", self)
        _check_shares("portrait", self, "motion_drop")


@dataclass(frozen=True)
class DiffusionConfig:
    """What the network predicts and the noise it was trained on. It belongs to the weights."""

    prediction: str
    """"epsilon" (the paper, eq. 1), "v", "flow" (noise - z) or "x0": z itself, for latents that are mostly zero, such
    as the reference codec's.
    """
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    """Stable Diffusion's; "linear" for AnimateDiff's and the AnimateAnyone family's checkpoints."""
    zero_terminal_snr: bool = False
    """Rescale betas to zero terminal SNR and take trailing steps (checkpoints of the AnimateAnyone family)."""
    hidden_controls: bool = False
    """Not in the paper: the network sees noise alone in the control channels, at every noise level. What it hears and
    is told of the face then decides lips and lids, and not what an earlier, less sure step said of them.
    """
    noise_correlation: float = 0.0
    """Temporal correlation of the training noise, from a frame to the next, 0..1; 0 in the paper
    (`sampler.noise.progressive_noise`).
    """
    slow_noise: float = 0.0
    """Share of the training noise's variance, 0..1, that changes slowly over time and over a head or a hand, where no
    key points drive the body; 0 in the paper (`sampler.noise.train_slow_noise`). It hides such movement, so that the
    network learns to move by the speech.
    """

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v", "flow", "x0"):
            raise ValueError(f'diffusion.prediction must be "epsilon", "v", "flow" or "x0", not {self.prediction!r}')
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ValueError("the noise cannot be predicted at zero signal: zero_terminal_snr needs v prediction")
        _check_shares("diffusion", self, "noise_correlation", "slow_noise")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError("diffusion.beta_start and beta_end must rise between 0 and 1")
        if self.beta_schedule not in ("scaled_linear", "linear"):
            raise ValueError(f'diffusion.beta_schedule must be "scaled_linear" or "linear", not {self.beta_schedule!r}')


@dataclass(frozen=True)
class SamplingConfig:
    """How a trained network is sampled unless a video's options differ. It can be changed without training."""

    sampler: str
    """A name of `sampler.schedule.SAMPLERS`; "lcm" is for a consistency model."""
    steps: int
    """Denoising steps a clip."""
    guidance_reference: float = 2.5
    """Scale of guidance towards the reference picture (section 4.1); 1 is none."""
    guidance_audio: float = 4.5
    """Scale of guidance towards the speech (section 4.1); 1 is none."""
    flow_shift: float = 1.0
    """Above 1 the steps stay longer in noise ("flow", "dpm++" of straight predictions)."""
    noise_correlation: float = 0.0
    """Temporal correlation of the noise a clip begins with, from a frame to the next, 0..1; 0 in the paper
    (`sampler.noise.smooth_noise`).
    """
    slow_noise: float = 0.0
    """Share of the noise's variance, 0..1, that changes slowly over time and over a head or a hand, where no key
    points drive head and body; 0 in the paper (`sampler.noise.SlowNoise`).
    """
    slow_noise_correlation: float = 0.0
    """Temporal correlation of the rest of that noise, in place of `noise_correlation`; less where less movement than
    usual is asked for.
    """
    gestures: bool = False
    """Whether hands that the picture shows gesture with the speech (`driving.speech_gesture`), where nothing else is
    asked for; otherwise the network alone moves them, as in the paper.
    """
    overlap: int = 0
    """Frames that neighbouring windows share, where a whole video is denoised window by window (`sampler.windows`); 0:
    clips follow each other. Not in the paper, for networks without motion frames.
    """
    window_shift: int = 0
    """Frames by which these windows begin later at each step (3 in EchoMimicV2's program)."""
    noise_limit: float = 0.0
    """Largest absolute value of the noise that windows begin with (1.5 in EchoMimicV2's program); 0 is none."""
    unguided_pose: bool = True
    """Whether the branch of guidance without any condition sees the poses; in EchoMimicV2's program it does not."""
    distilled: bool = False
    """Whether the network was distilled to few steps: it then keeps its sampler and its steps."""

    def __post_init__(self) -> None:
        _check_shares("sampling", self, "noise_correlation", "slow_noise", "slow_noise_correlation")
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"sampling.steps must be between 1 and 1000, not {self.steps}")
        for name in ("guidance_reference", "guidance_audio", "flow_shift", "noise_limit"):
            if not (abs(getattr(self, name)) <= LARGEST_SCALE):
                raise ValueError(f"sampling.{name} must be within {LARGEST_SCALE:g}, not {getattr(self, name)}")
        if self.flow_shift <= 0:
            raise ValueError(f"sampling.flow_shift must be above 0, not {self.flow_shift}")
        if min(self.overlap, self.window_shift, self.noise_limit) < 0:
            raise ValueError("sampling.overlap, window_shift and noise_limit must not be negative")
        if self.overlap and (self.noise_correlation or self.slow_noise):
            raise ValueError("windows that overlap (sampling.overlap) begin with independent noise")


def _check_sizes(where: str, config: object, zero: tuple[str, ...] = ()) -> None:
    """Raise ValueError for a size that no network has: not a number from 1 to `LARGEST_LAYER`, an endless list.

    Whole numbers and tuples of them are looked at; what a list of weights would then be compared with can be counted.
    zero: fields that may be 0 or empty.
    """
    for entry in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, entry.name)
        many = isinstance(value, tuple)
        if many and not (bool(value) or entry.name in zero) or many and len(value) > MOST_LAYERS:
            raise ValueError(f"{where}.{entry.name} must have 1 to {MOST_LAYERS} entries, not {len(value)}")
        for number in value if many else (value,):
            least = 0 if entry.name in zero and not many else 1
            if isinstance(number, int) and not isinstance(number, bool) and not least <= number <= LARGEST_LAYER:
                raise ValueError(f"{where}.{entry.name} must be between {least} and {LARGEST_LAYER}, not {number}")


def _check_shares(where: str, config: object, *names: str) -> None:
    """Raise ValueError for a field that is not in 0..1, 1 excluded."""
    for name in names:
        if not 0 <= (value := getattr(config, name)) < 1:
            raise ValueError(f"{where}.{name} must be at least 0 and below 1, not {value}")


@dataclass(frozen=True)
class Ablations:
    """Switches of Table 1; False builds the network without that part."""

    motion_codebook: bool = True
    id_descriptor: bool = True
    face_codebook: bool = True
    hand_codebook: bool = True
    body_movement: bool = True
    hand_clarity: bool = True
    pose_aligned_reference: bool = True
    local_enhancement: bool = True


ABLATIONS: dict[str, dict[str, bool]] = {
    "w/o Motion Codebook": {"motion_codebook": False},
    "w/o ID descriptor": {"id_descriptor": False},
    "w/o Face Codebook": {"face_codebook": False},
    "w/o Hand Codebook": {"hand_codebook": False},
    "w/o Body Movement": {"body_movement": False},
    "w/o Hand Clarity": {"hand_clarity": False},
    "w/o Pose-aligned Ref.": {"pose_aligned_reference": False},
    "w/o Local Enhancement": {"local_enhancement": False},
}
"""Rows of the paper's Table 1 -> overrides of `Ablations`."""


@dataclass(frozen=True)
class CodecTraits:
    """Properties of a kind of codec that the network and the sampler need before one is loaded."""

    where: str
    """"module:Class", imported when a codec of this kind is loaded; the class is a `codecs.base.Codec`."""
    relative: bool = False
    """Latents are differences from the reference picture: a frame equal to it is zero."""
    control_channels: int = 0
    """How many of the latent's last channels are face controls (`perception.face_controls`), which follow the sound
    and not the body.
    """
    flow_channels: int = 0
    """How many of the latent's first channels are the mean flow of a block of pixels, right and down."""
    half_precision: str = "fp16"
    """Half precision of a network with these latents: "fp16" or "bf16".

    Stable Diffusion's activations fit in fp16; those of a Reference Net trained from scratch exceed its range.
    """


CODECS: dict[str, CodecTraits] = {
    "reference": CodecTraits(
        "cyberhost_model.codecs.reference:ReferenceCodec",
        relative=True,
        control_channels=3,
        flow_channels=2,
        half_precision="bf16",
    ),
    "sd-vae": CodecTraits("cyberhost_model.codecs.sd_vae:SdVaeCodec"),
}
"""Kinds of codec by the name in `Preset.codec`. A new one is a line here, or a call of `register_codec`."""


def register_codec(kind: str, traits: CodecTraits) -> None:
    """Add a kind of codec to `CODECS`, from outside the package too. Raises ValueError for a name that is taken."""
    if kind in CODECS:
        raise ValueError(f"there is a codec {kind!r} already")
    CODECS[kind] = traits


def codec_traits(kind: str) -> CodecTraits:
    """Return the traits of a kind of codec. Raises ModelError for an unknown one."""
    if kind not in CODECS:
        raise ModelError(f"there is no codec {kind!r}; choose one of {', '.join(CODECS)}")
    return CODECS[kind]


@dataclass(frozen=True)
class Preset:
    """Everything that fixes a network: its shape, its codec, what it predicts and how it is sampled."""

    name: str
    codec: str
    """A kind of `CODECS`."""
    latent_channels: int
    latent_factor: int
    """Picture pixels a latent pixel stands for, along one side."""
    size: tuple[int, int]
    """(height, width) of the usual picture; others have a similar area and sides in multiples of 64."""
    frames: int
    motion_frames: int
    unet: UNetConfig
    audio: AudioConfig
    region: RegionConfig
    diffusion: DiffusionConfig
    sampling: SamplingConfig
    pose_channels: tuple[int, ...]
    """Widths of the Pose Encoder, one more than its halvings."""
    pose_pool: int = 1
    """Factor by which maps are averaged before the Pose Encoder (section 3.3: "down-sampled and encoded")."""
    concat_reference: bool = False
    """Not in the paper: add the reference latent to the input, through a convolution that is zero at the start (the
    same as concatenating it to the noisy latent). Identity and background then hold early in training from scratch.
    """
    motion_prior: float = 0.0
    """Not in the paper: frames over which a clip is predicted to stay as the motion frames left it
    (`model.motion_prior`), 0 for none; the U-Net denoises the difference. Attention to the motion frames alone needs
    far more training: clips then begin with a jump and forget the movement before. For relative latents only.
    """
    audio_in_time: bool = False
    """Not in the paper: add a frame's audio tokens to its time embedding, as the hand clarity score is.

    Cross attention alone needs far more training before a mouth follows.
    """
    pose_shift: bool = False
    """Not in the paper: a small network (`model.motion_prior.PoseToLatent`) predicts latents from the displacement of
    key points since the reference (`conditions.pose_shift`); the U-Net denoises the difference. Needs
    `concat_reference`.
    """
    face_state: bool = False
    """Not in the paper: add maps to the input, at the picture's mouth the gap of its lips and what the audio tokens
    tell of the speech, at its eyes how far the lids of a frame are shut. Lips then close from any picture, a mouth of
    few cells is found at once, and eyes blink when they are told to. Needs a codec with control channels.
    """
    image_token: bool = False
    """Not in the paper: cross attention of both U-Nets reads one token, CLIP's embedding of the reference picture,
    instead of speech (AnimateAnyone).
    """
    pose_maps: str = "skeleton"
    """How poses are drawn (`conditions.pose_maps`): "skeleton", "dwpose" (AnimateAnyone's weights) or "dwpose-hands"
    (EchoMimicV2's). "face": no pose is, the Pose Encoder reads where the picture's face is (Hallo, EchoMimic).
    """
    portrait: PortraitConfig | None = None
    """Not in the paper: Hallo's tokens of the face and masked audio attentions (`model.masked_audio`)."""
    ablations: Ablations = field(default_factory=Ablations)

    def __post_init__(self) -> None:
        _check_sizes("preset", self, zero=("motion_frames",))
        if not 0 <= self.motion_prior <= LARGEST_LAYER or len(self.pose_channels) > 16:
            raise ValueError("motion_prior and the number of pose_channels must be small and not negative")
        if max(self.size) > LARGEST_SIDE or min(self.size) < self.latent_factor:
            raise ValueError(f"size must be sides of {self.latent_factor} to {LARGEST_SIDE} pixels")
        if self.pose_maps not in ("skeleton", "dwpose", "dwpose-hands", "face"):
            raise ValueError(
                f'pose_maps must be "skeleton", "dwpose", "dwpose-hands" or "face", not {self.pose_maps!r}'
            )
        if self.portrait is not None and (self.pose_maps != "face" or not self.motion_frames):
            raise ValueError('portrait needs pose_maps "face" and motion frames')
        if self.pose_pool * 2 ** (len(self.pose_channels) - 1) != self.latent_factor:
            halved = self.pose_pool * 2 ** (len(self.pose_channels) - 1)
            raise ValueError(
                f"pose_pool * 2 ** (len(pose_channels) - 1) must equal latent_factor, {self.latent_factor}, "
                f"not {halved}"
            )
        if not self.audio.project and not self.image_token and self.audio.dim != self.unet.cross_attention_dim:
            raise ValueError("without a projection, audio.dim must equal unet.cross_attention_dim")
        if self.pose_shift and not self.concat_reference:
            raise ValueError("pose_shift needs concat_reference: key points move what the reference latent shows")
        if self.face_state and self.control_channels != 3:
            raise ValueError('face_state needs codec "reference", or another one with three control channels')
        if self.motion_prior and not (self.traits.relative and self.concat_reference):
            raise ValueError(
                'motion_prior needs codec "reference", or another one of relative latents, and concat_reference'
            )
        if (self.sampling.slow_noise or self.diffusion.slow_noise) and not self.flow_channels:
            raise ValueError('slow_noise needs codec "reference" or another one with flow channels')
        if self.frames + self.motion_frames > self.unet.motion_max_frames:
            raise ValueError("frames + motion_frames must not exceed unet.motion_max_frames")
        if self.sampling.overlap and (self.motion_frames or self.traits.relative):
            raise ValueError("sampling.overlap is for networks without motion frames and latents of whole pictures")
        if self.sampling.overlap >= self.frames:
            raise ValueError("sampling.overlap must be less than frames")

    @property
    def traits(self) -> CodecTraits:
        """Traits of its kind of codec."""
        return codec_traits(self.codec)

    @property
    def control_channels(self) -> int:
        """Value of `CodecTraits.control_channels` for its kind of codec."""
        return self.traits.control_channels

    @property
    def flow_channels(self) -> int:
        """Value of `CodecTraits.flow_channels` for its kind of codec."""
        return self.traits.flow_channels

    @property
    def half_precision(self) -> str:
        """Value of `CodecTraits.half_precision` for its kind of codec."""
        return self.traits.half_precision

    @property
    def uses_audio(self) -> bool:
        """Whether speech is a condition; with `image_token` the picture takes its place in cross attention."""
        return not self.image_token

    @property
    def takes_arcface(self) -> bool:
        """Whether the face is described by ArcFace's 512 numbers instead of a crop."""
        describes = self.ablations.id_descriptor and self.ablations.face_codebook
        return self.portrait is not None or (describes and not self.region.face_channels)

    @property
    def follows_poses(self) -> bool:
        """Whether key points can drive it; with `pose_maps` "face" speech alone does."""
        return self.pose_maps != "face"

    @property
    def shows_half_bodies(self) -> bool:
        """Whether all pictures of its training showed a half body in the same place (EchoMimicV2)."""
        return self.pose_maps == "dwpose-hands"

    @property
    def task(self) -> str:
        """Task it was trained for: "animate" (speech alone), "multimodal" (speech and hands) or "reenact" (poses).

        Networks with another family's pose maps need poses in every frame; from speech alone those of "multimodal" are
        given gestures (`driving.speech_gesture`).
        """
        if self.pose_maps in ("skeleton", "face"):
            return "animate"
        return "multimodal" if self.uses_audio else "reenact"

    def without(self, **switches: bool) -> Preset:
        """Copy the preset with some `Ablations` changed.

        As in `preset("tiny").without(**ABLATIONS["w/o Hand Clarity"])`.
        """
        return dataclasses.replace(self, ablations=dataclasses.replace(self.ablations, **switches))

    def to_dict(self) -> dict[str, Any]:
        """Convert to a plain dictionary for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Any) -> Preset:
        """Build a preset from the dictionary of `to_dict`, also from one that cyberhost 0.1 wrote.

        Raises ModelError for unknown, missing or impossible entries.
        """
        try:
            found: Preset = build(Preset, _to_current(data), "preset")
        except Unreadable as error:
            raise ModelError(
                f"config.json: {error}; it is damaged, or made by another version of cyberhost: get the model again"
            ) from None
        return found


_MOVED_TO_SAMPLING = {
    "sampler": "sampler",
    "steps": "steps",
    "guidance_reference": "guidance_reference",
    "guidance_audio": "guidance_audio",
    "flow_shift": "flow_shift",
    "sway": "slow_noise",
    "sway_correlation": "slow_noise_correlation",
}
"""Entries of `diffusion` in cyberhost 0.1 -> those of `sampling`."""


def _to_current(data: Any) -> Any:
    """Move entries that cyberhost 0.1 wrote to the names and tables they have now."""
    if not isinstance(data, dict) or not isinstance(data.get("diffusion"), dict) or "sampling" in data:
        return data
    diffusion = dict(data["diffusion"])
    sampling = {new: diffusion.pop(old) for old, new in _MOVED_TO_SAMPLING.items() if old in diffusion}
    if "noise_correlation" in diffusion:  # one value stood for both
        sampling["noise_correlation"] = diffusion["noise_correlation"]
    renamed = {"motion_prior" if key == "motion_persistence" else key: value for key, value in data.items()}
    return {**renamed, "diffusion": diffusion, "sampling": sampling}


_TINY = Preset(
    name="tiny",
    codec="reference",
    latent_channels=39,
    latent_factor=16,
    size=(256, 256),
    frames=12,
    motion_frames=4,
    unet=UNetConfig(
        block_out_channels=(64, 96, 160),
        attention_levels=(True, True, False),
        layers_per_block=1,
        heads=(1, 2, 5),
        motion_heads=(1, 2, 5),
        cross_attention_dim=128,
        norm_num_groups=16,
        use_linear_projection=True,
    ),
    audio=AudioConfig(dim=128, layers=5, tokens=6),
    region=RegionConfig(
        stages=("down_blocks.1", "up_blocks.1", "up_blocks.2"),
        codebook_dim=64,
        spatial_vectors=48,
        temporal_vectors=24,
        heads=1,
        identity_dim=64,
        hand_channels=(16, 24, 48, 64),
        face_channels=(8, 16, 32, 48, 64),
    ),
    diffusion=DiffusionConfig(prediction="x0", hidden_controls=True, noise_correlation=0.4, slow_noise=0.5),
    sampling=SamplingConfig(
        sampler="dpm++",
        steps=5,
        guidance_reference=1.0,
        guidance_audio=1.0,
        flow_shift=3.0,
        noise_correlation=0.88,
        slow_noise=0.15,
        slow_noise_correlation=0.75,
        gestures=True,
    ),
    pose_channels=(8, 16, 32, 64),
    pose_pool=2,
    concat_reference=True,
    motion_prior=14.0,
    audio_in_time=True,
    pose_shift=True,
    face_state=True,
)

_SD15 = Preset(
    name="sd15",
    codec="sd-vae",
    latent_channels=4,
    latent_factor=8,
    size=(640, 384),
    frames=12,
    motion_frames=4,
    unet=UNetConfig(
        block_out_channels=(320, 640, 1280, 1280),
        attention_levels=(True, True, True, False),
        layers_per_block=2,
        heads=(8, 8, 8, 8),
        motion_heads=(8, 8, 8, 8),
        cross_attention_dim=768,
        norm_num_groups=32,
        use_linear_projection=False,
        trim_reference=False,
        trim_motion=False,
    ),
    audio=AudioConfig(dim=768, layers=13, tokens=10),
    region=RegionConfig(
        stages=(
            "down_blocks.0",
            "down_blocks.1",
            "down_blocks.2",
            "mid_block",
            "up_blocks.1",
            "up_blocks.2",
            "up_blocks.3",
        ),
        codebook_dim=320,
        spatial_vectors=128,
        temporal_vectors=64,
        heads=8,
        identity_dim=768,
        hand_channels=(64, 128, 256, 512),
        face_channels=(),
    ),
    diffusion=DiffusionConfig(prediction="epsilon"),
    sampling=SamplingConfig(sampler="ddim", steps=25),
    pose_channels=(16, 32, 96, 256),
)

PRESETS: dict[str, Preset] = {"tiny": _TINY, "sd15": _SD15}


def preset(name: str) -> Preset:
    """Return one of `PRESETS`. Raises ModelError for another name."""
    if name not in PRESETS:
        raise ModelError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


if TYPE_CHECKING:

    class DenoisingKeywords(TypedDict, total=False):
        """Type of the keywords of `dub`: the fields of `DenoisingConfig`."""

        seed: int
        steps: int | None
        guidance_reference: float | None
        guidance_audio: float | None
        guidance_interval: tuple[float, float] | None
        cache_blocks: int
        face: int | str

    class GenerationKeywords(DenoisingKeywords, total=False):
        """Type of the keywords of `animate`, `reenact` and `multimodal`: the fields of `GenerationConfig`."""

        fps: float
        size: int | None
        hand_clarity: float | None
        head: bool | None
        half_body: bool | None
        blink: bool


def parse_device(text: str) -> str:
    """Check the name of a device: auto, cpu, mps, cuda or cuda:N. Raises InputError."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise InputError(f"there is no device {text[:40]!r}: choose auto, cuda, mps or cpu")
    return text


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """Return an interval of noise levels that lies in 0..1 and rises. Raises InputError."""
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise InputError(f"the guidance interval must be two rising numbers in 0..1, not {interval}")
    return interval


def parse_interval(text: str) -> tuple[float, float]:
    """Read an interval of noise levels: "0.2,0.8" -> (0.2, 0.8). Raises InputError."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is not two rising numbers in 0..1, such as 0.2,0.8") from None
    return check_interval((low, high))


LARGEST, LEFT, RIGHT = "largest", "left", "right"
"""Words that choose a face of a picture; a number counts them from the left, from 1."""


def check_face(face: int | str) -> int | str:
    """Return the choice of a face: 1 or more, or one of the words. Raises InputError."""
    number = isinstance(face, int) and not isinstance(face, bool) and face >= 1
    if not (number or (isinstance(face, str) and face in (LARGEST, LEFT, RIGHT))):
        raise InputError(f"face must be left, right, largest or a number from 1 (counted from the left), not {face!r}")
    return face


def parse_face(text: str) -> int | str:
    """Read the choice of a face: "left", "2". Raises InputError."""
    word = str(text).strip().lower()
    return check_face(int(word) if word.isdecimal() and len(word) < 6 else word)


@dataclass(frozen=True)
class DenoisingConfig:
    """How a clip is denoised, and who is meant: keywords of `dub`, and part of those of all commands that make videos.

    Raises InputError for a value out of its bounds.
    """

    seed: int = option(0, "Same seed, same video.", metavar="N", min=0, max=SEEDS)
    steps: int | None = option(None, "Denoising steps a clip. [default: the model's]", metavar="N", min=1, max=1000)
    guidance_reference: float | None = option(
        None, "Guidance towards the picture. [default: the model's]", metavar="SCALE", min=0, max=LARGEST_SCALE
    )
    """Section 4.1, as `guidance_audio`."""
    guidance_audio: float | None = option(
        None, "Guidance towards the speech. [default: the model's]", metavar="SCALE", min=0, max=LARGEST_SCALE
    )
    guidance_interval: tuple[float, float] | None = option(
        None, "Noise levels in 0..1 at which guidance acts. [default: 0,1]", metavar="LO,HI", parse=parse_interval
    )
    """arXiv 2404.07724."""
    cache_blocks: int = option(
        1,
        "Compute the U-Net's deep blocks only at every N-th step: faster, with slightly different frames.",
        metavar="N",
        min=1,
        max=1000,
    )
    """docs/reference/performance.md."""
    face: int | str = option(
        LARGEST,
        "Whom to animate where several are seen: a number counts the faces from the left, from 1.",
        metavar="N|left|right|largest",
        parse=parse_face,
    )

    def __post_init__(self) -> None:
        check_options(self)
        check_face(self.face)
        if self.guidance_interval is not None:
            check_interval(self.guidance_interval)


@dataclass(frozen=True)
class GenerationConfig(DenoisingConfig):
    """How a video is made: keywords of `animate`, `reenact` and `multimodal`, and options of their commands.

    Raises InputError for a value out of its bounds.
    """

    fps: float = option(FPS, "Frames a second.", metavar="RATE", min=FRAME_RATES[0], max=FRAME_RATES[1])
    size: int | None = option(
        None,
        "Side in pixels of a square of the video's area, in quarters of the model's working size. "
        "[default: the picture's, at most 768]",
        metavar="SIZE",
        min=64,
        max=2048,
    )
    """The aspect is the picture's."""
    hand_clarity: float | None = option(
        None, "Sharpness of the hands: 0 blurred, 1 sharp. [default: 0.5]", metavar="X", min=0, max=1
    )
    """Section 3.3."""
    head: bool | None = option(
        None, "Crop to the face and leave the hands out. [default: for a picture of a head alone]"
    )
    """A2V-H, section 4.2."""
    half_body: bool | None = option(
        None, "Crop from above the head to the elbows or hands. [default: for models trained on such pictures]"
    )
    """EchoMimicV2 (`perception.crops.half_body_box`)."""
    blink: bool = option(True, "Blink now and then, as the seed says; a driving face's blinks are followed.")


@dataclass(frozen=True)
class LivePace:
    """How soon the frames of a live session come: keywords of `CyberHost.live`, and options of its command."""

    low_delay: bool = option(
        False,
        "Show frames as soon as two CPU cores can: --steps 1 --clip 6 --look-ahead 0.12, where not given; with "
        "--keep-up only where that keeps up.",
    )
    look_ahead: float | None = option(
        None,
        "Seconds of speech that are waited for after a clip: less is sooner, and lips are less right. [default: 0.2]",
        metavar="SECONDS",
        min=0,
        max=0.2,
    )
    clip: int | None = option(
        None,
        "Frames that are made together: fewer come sooner, and cost more. [default: as the model was trained, 12]",
        metavar="N",
        min=4,
        max=64,
    )
    keep_up: bool = option(
        False, "Take fewer steps where this machine is too slow for the sound: it is tried before the first sound."
    )


@dataclass(frozen=True)
class DeviceConfig:
    """Which model computes, on which device, in which precision.

    Raises InputError for a device or precision that is none of the choices.
    """

    model: str = option(
        "tiny", "'tiny' (inside the package), a folder with a model, a published one or a Hub id.", metavar="NAME"
    )
    device: str = option("auto", "Where to compute.", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = option("auto", "Numbers to compute with.", choices=("auto", "fp32", "fp16", "bf16"))

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class RuntimeConfig(DeviceConfig):
    """Keywords of `CyberHost.from_pretrained`, and options of the commands that make a video."""

    compiled: bool = option(
        False, "Compile the network first (torch.compile): worth it for long videos on a GPU.", "--compile"
    )
    onnx: bool = option(
        False,
        "Run the network's steps by onnxruntime on a CPU (extra onnx): a little quicker on one core, in long videos.",
        "--onnx",
    )
    cuda_graphs: bool | None = option(
        None, "Record a denoising step once and replay it. [default: on an NVIDIA GPU with enough memory]"
    )
    allow_untrained: bool = option(False, "Make a video though parts of the model were never trained.")
