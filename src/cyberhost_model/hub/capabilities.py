"""What each model can do, known before a byte of it is fetched: commands, options, memory, speed, licence, limits.

`MODELS` has an entry for every model that is known by a name; `capabilities_of` reads the same off the preset of any
other. `check_command` and `check_request` refuse what a model cannot do, `check_trained` one of which a needed part was
never trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cyberhost_model.config import DenoisingConfig, GenerationConfig, Preset
from cyberhost_model.errors import InputError, ModelError

COMMANDS = ("animate", "reenact", "multimodal")
DUB = "dub"
"""The command of models whose codec moves the lips of any picture by face controls."""
OPTIONS = ("body_movement", "gestures", "hand_clarity", "guidance_audio", "steps", "ref")
"""Options of a video that some models do not heed; "ref" is a further picture of the person."""
PARTS = {"temporal": "what holds frames together", "audio": "what hears speech", "poses": "what follows poses"}
"""Parts of a network that may never have been trained, in words."""
NEEDED = ("temporal", "audio")
"""Parts without which no video can be made; "poses" only where poses drive it."""


@dataclass(frozen=True)
class Capabilities:
    """What one model can do."""

    makes: str
    """What its videos show, in a few words."""
    commands: tuple[str, ...]
    """Those of COMMANDS that it can run, the one it was trained for first, and DUB."""
    hears: bool = True
    """Speech moves the lips; False: a sound is put into the video unheard."""
    options: tuple[str, ...] = OPTIONS
    """Those of OPTIONS that it heeds."""
    framing: tuple[str, ...] = ("body", "head")
    """What it shows: "body", and "head" for a talking head (`--head`)."""
    untrained: tuple[str, ...] = ()
    """Keys of PARTS that its published weights lack: a beginning for training."""
    vram: str = "not measured"
    """Memory on a GPU, with how that is known."""
    speed: str = "not measured"
    """Seconds of computing for how much video, and on which device."""
    licence: str = "told by its repository"
    """Of its weights, the strictest part in words."""
    commercial: bool = True
    """False: a part that every video needs forbids commercial use."""
    limits: str = ""
    """What it does worse than one might expect."""


_RAIL = "CreativeML Open RAIL-M"
_HALF = ("steps", "guidance_audio", "ref")
_GESTURES = (*_HALF, "body_movement")  # the pace and size of gestures
_GESTURING = ("multimodal", "animate", "reenact")


def _half_width(seconds: int, frames: int = 13, side: int = 192) -> str:
    """Say what a CPU takes for a network half as wide (`benchmarks.models --size middle`)."""
    return (
        f"on a GPU not measured; at half width {frames} frames of {side}x{side} in two steps take {seconds} s of one "
        "CPU core (AVX2, fp32)"
    )


_ECHOMIMIC_V2 = Capabilities(
    "a half body that speaks, its hands moved by the speech or by poses",
    _GESTURING,
    options=_GESTURES,
    vram="about 10.2 GB, reckoned (fp16, 768x768)",
    speed=_half_width(142, side=190),
    licence="Apache-2.0",
    limits="gestures need a picture that shows hands; the first frame comes after the last step",
)
_ECHOMIMIC = Capabilities(
    "a head that speaks",
    ("animate",),
    options=_HALF,
    vram="about 8.1 GB, reckoned (fp16, 512x512)",
    speed=_half_width(159),
    licence="Apache-2.0",
    limits="heads alone; the first frame comes after the last step",
)
_HALLO = Capabilities(
    "a head that speaks",
    ("animate",),
    options=_HALF,
    vram="about 10.0 GB, reckoned (fp16, 512x512)",
    speed=_half_width(159),
    licence="MIT, ArcFace non-commercial",
    commercial=False,
    limits="heads alone; hears music as speech",
)

MODELS: dict[str, Capabilities] = {
    "tiny": Capabilities(
        "a half body or a talking head",
        (*COMMANDS, DUB),
        # Hands stay as sharp as the picture's, and every frame is a movement of one picture.
        options=tuple(name for name in OPTIONS if name not in ("hand_clarity", "ref")),
        speed="7.1 s of video in 2.5 to 2.7 s (H100), 3.3 s in 10.8 s (two CPU cores), both at 512x512",
        licence="Apache-2.0",
        limits="moves the picture on a grid of 16 pixels; the network has seen no filmed person",
    ),
    "sd15": Capabilities(
        "noise: the paper's network as its training begins",
        COMMANDS,
        untrained=("audio", "poses"),
        vram="9.6 GB (H100, fp16, 640x384)",
        speed="48 frames of 640x384 in 15.5 s (H100, random weights)",
        licence=f"{_RAIL}, ArcFace non-commercial",
        commercial=False,
        limits="to be trained first",
    ),
    "animate-anyone": Capabilities(
        "a whole person who follows poses",
        ("reenact",),
        hears=False,
        options=("steps", "ref"),
        vram="about 11.6 GB, reckoned (fp16, 768x512)",
        speed=_half_width(125, frames=12),
        licence=_RAIL,
        limits="needs a driving video with poses; the first frame comes after the last step",
    ),
    "echomimic-v2": _ECHOMIMIC_V2,
    "echomimic-v2-fast": replace(
        _ECHOMIMIC_V2,
        makes=f"{_ECHOMIMIC_V2.makes}, in six steps",
        vram="about 8.6 GB, reckoned (fp16, 768x768)",
        speed="not measured",
    ),
    "hallo": _HALLO,
    "hallo2": replace(
        _HALLO,
        makes=f"{_HALLO.makes}, for long videos",
        speed=_half_width(161),
        limits=f"{_HALLO.limits}; enlarges nothing",
    ),
    "echomimic": _ECHOMIMIC,
    "echomimic-fast": replace(
        _ECHOMIMIC,
        makes=f"{_ECHOMIMIC.makes}, in six steps",
        vram="about 7.3 GB, reckoned (fp16, 512x512)",
        speed=_half_width(140),
    ),
}
"""Models by the name that `--model` takes. A new one is an entry here, beside its line of `hub.registry.ADAPTERS`."""


def capabilities_of(preset: Preset, untrained: Iterable[str] = ()) -> Capabilities:
    """Read off a preset what its network can do, for a model that is not in MODELS."""
    switches = preset.ablations
    moved = preset.follows_poses and (switches.body_movement or preset.pose_shift)
    commands = {"animate": COMMANDS if moved else ("animate",), "multimodal": _GESTURING}
    boxed = preset.follows_poses and switches.body_movement  # told by a map of the body's movement, or by gestures
    heeded = {
        "body_movement": preset.task != "reenact" and (boxed or preset.sampling.slow_noise > 0),
        "gestures": preset.task == "animate" and preset.follows_poses,
        "hand_clarity": switches.hand_clarity,
        "guidance_audio": preset.uses_audio,
        "steps": True,
        "ref": not preset.traits.relative,  # what moves one picture draws nothing of another
    }
    return Capabilities(
        f"what its training showed it (preset {preset.name})",
        (*commands.get(preset.task, ("reenact",)), *((DUB,) if preset.uses_audio and preset.control_channels else ())),
        preset.uses_audio,
        tuple(name for name in OPTIONS if heeded[name]),
        untrained=tuple(untrained),
    )


def check_command(model: str, can: Capabilities, command: str) -> None:
    """Check that a model can run a command. Raises InputError that names those it can run."""
    if command not in can.commands:
        why = "hears nothing" if not can.hears else f"cannot run {command}"
        raise InputError(f"{model} {why}: use {' or '.join(can.commands)}, or another model")


def check_request(
    model: str, can: Capabilities, command: str, config: DenoisingConfig, **own: float | bool | None
) -> None:
    """Check that a model can run a command with the options that were given.

    model: its name, for the message. own: those of OPTIONS that are the command's own. Raises InputError that names
    what it can do instead.
    """
    check_command(model, can, command)
    given = {name: own.get(name, getattr(config, name, None)) for name in OPTIONS}
    for name, value in given.items():
        if value is not None and name not in can.options:
            raise InputError(f"{model} does not heed {name}: leave out --{name.replace('_', '-')}")
    if not isinstance(config, GenerationConfig):
        return
    if config.head and "head" not in can.framing:
        raise InputError(f"{model} makes no talking heads: leave out --head")
    if config.head is False and "body" not in can.framing:
        raise InputError(f"{model} makes talking heads alone: leave out --no-head")
    if config.head and config.half_body:
        raise InputError("a picture is cropped to the head or to the half body: leave out --head or --half-body")


def check_trained(model: str, untrained: Iterable[str], command: str | None = None) -> None:
    """Check that what every video needs of a model was trained, and what `command` needs, where it is known.

    Raises ModelError that names what was not.
    """
    needed = (*NEEDED, "poses") if command in ("reenact", "multimodal") else NEEDED
    if lacking := [part for part in untrained if part in needed]:
        words = " and ".join(PARTS[part] for part in lacking)
        raise ModelError(
            f"{model}: {words} was never trained ({', '.join(lacking)}), so its videos are noise; train it first "
            "(cyberhost train --init), or give --allow-untrained"
        )


def describe_capabilities(can: Capabilities) -> str:
    """Describe a model in a line: what it makes, by which commands, with which memory, under which licence."""
    ears = "hears speech" if can.hears else "hears nothing"
    by = f"not before it is trained ({', '.join(can.untrained)})" if can.untrained else ", ".join(can.commands)
    memory = f"GPU memory {can.vram}"
    return f"{can.makes}; {by}; {ears}; {memory} [{can.licence}]"
