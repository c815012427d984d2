"""CyberHost: inputs -> conditions -> model -> sampler -> video, in a row.

Three settings of the paper are three ways to drive the same clips.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cyberhost_model.conditions.movement import BodyMovementMap
from cyberhost_model.conditions.pose_maps import PARTS, POSE_MAPS
from cyberhost_model.conditions.pose_shift import pose_shift
from cyberhost_model.config import DiffusionConfig, GenerationConfig
from cyberhost_model.device import choose_device
from cyberhost_model.driving.reach import reach_note, within_reach
from cyberhost_model.driving.retarget import hands_for
from cyberhost_model.driving.retarget import retarget as to_proportions
from cyberhost_model.driving.sequence import PoseSequence, is_sequence_file
from cyberhost_model.driving.template import fit_length, load_template
from cyberhost_model.driving.video import read_driving
from cyberhost_model.errors import InputError, ResourceError
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.image import check_picture, load_picture
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.model.checkpoint import load_preset
from cyberhost_model.model.compiling import check_compiler, compile_blocks
from cyberhost_model.perception.detector import analyse
from cyberhost_model.perception.face_controls import face_control_maps
from cyberhost_model.perception.keypoints import LIPS, VISIBLE
from cyberhost_model.runtime.loading import Model, find_model, load_model
from cyberhost_model.runtime.memory import enough_memory
from cyberhost_model.runtime.prepare import (
    Reference,
    head_crop,
    prepare_reference,
    shows_only_a_head,
    to_maps,
    without_hands,
)
from cyberhost_model.runtime.render import Job, PoseCondition, PoseSource, Renderer
from cyberhost_model.sampler.cuda_graphs import graphs_pay_off
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.noise import movement_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyberhost_model.config import Settings

BODY_MOVEMENT = 0.1  # the boxes of half-second clips are small
HAND_CLARITY = 0.5  # near the 90th percentile at the size trained on (section 3.3: "a higher clarity score is applied")

Picture = str | os.PathLike[str] | np.ndarray
Heard = str | os.PathLike[str] | Sound


@dataclass
class Animation:
    """A video that is made while it is read. Iterate `frames` once, or `save`; nothing is computed before."""

    frames: Iterator[np.ndarray]
    """uint8 (H, W, 3) RGB, one at a time."""
    n_frames: int
    fps: float
    size: tuple[int, int]
    """(W, H), both even, of the picture's aspect."""
    sound: Sound | None
    """None: the video is silent."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user about the sound and the picture ("the sound is silent ...", "3 faces ..."); some come while
    frames are made.
    """
    job: Job | None = None
    """What the frames are made of."""

    @property
    def fits(self) -> bool:
        """Whether there is a sound and the frames just cover it, as `Sound.n_frames` counts them."""
        return self.sound is not None and 0 <= self.n_frames / self.fps - self.sound.duration < 1 / self.fps

    def save(
        self,
        out: str | os.PathLike[str],
        overwrite: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Path:
        """Write frames and sound as H.264 and AAC; whole under `out` or not at all. Raises OutputError."""
        seconds = None if self.fits else self.n_frames / self.fps
        return write_video(
            self.frames,
            out,
            self.fps,
            self.sound,
            overwrite=overwrite,
            total=self.n_frames,
            progress=progress,
            sound_seconds=seconds,
        )


class CyberHost:
    """The paper's model with its inputs and outputs around it.

    Make one with `from_pretrained`; it may animate any number of pictures.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
        cuda_graphs: bool | None = None,
    ):
        check_ways(device, False, cuda_graphs)  # `compile_blocks` looks for a compiler itself
        self.model, self.device, self.dtype = model.to(device, dtype), device, dtype
        self.overlap = device.type == "cuda"
        """Whether a clip is decoded while the next one is denoised: the same frames.

        On a CPU both would want the same cores.
        """
        self.cuda_graphs = graphs_pay_off(self.model.network, device) if cuda_graphs is None else cuda_graphs
        if compiled:
            compile_blocks(self.model.network)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] = "tiny",
        device: str = "auto",
        precision: str = "auto",
        compiled: bool = False,
        cuda_graphs: bool | None = None,
        download_named: bool = True,
    ) -> CyberHost:
        """`model`: "tiny" (inside the package), a folder, or a Hub id.

        compiled: see `compile_blocks`; cuda_graphs: see `RecordedNetwork`, None: where that pays; download_named: see
        `load_model`. Raises ModelError, NetworkError, ResourceError.
        """
        check_ways(
            choose_device(device, precision)[0], compiled, cuda_graphs
        )  # what cannot be is told before anything is fetched
        folder = find_model(os.fspath(model))
        place, dtype = choose_device(device, precision, load_preset(folder))
        with enough_memory(place, "load the model"):
            return cls(load_model(str(folder), download_named, place, dtype), place, dtype, compiled, cuda_graphs)

    @property
    def renderer(self) -> Renderer:
        """What makes a job's frames."""
        return Renderer(self.model, self.device, self.dtype, self.overlap, self.cuda_graphs)

    def animate(
        self, picture: Picture, audio: Heard, *, body_movement: float | None = None, **settings: Unpack[Settings]
    ) -> Animation:
        """One picture of a person speaks `audio` (A2V-B of the paper; A2V-H with `head`).

        picture: a file or uint8 (H, W, 3) RGB. body_movement: 0 in place .. 1 lively. `settings`: the fields of
        `GenerationConfig`. The picture and the sound are checked now, frames are made when they are read. Raises
        InputError and NoFaceError.
        """
        if (other := self.model.network.preset.task) != "animate":
            raise InputError(f"this model moves as poses say and not by itself: use {other}")
        look, sound = GenerationConfig(**settings), _sound(audio)
        reference, warnings = self._open(picture, look)
        return self.speaking(reference, look, sound, body_movement, warnings)

    def speaking(
        self,
        reference: Reference,
        look: GenerationConfig,
        sound: Sound,
        body_movement: float | None = None,
        warnings: Sequence[str] = (),
    ) -> Animation:
        """`animate` with a picture that is prepared already."""
        amount = BODY_MOVEMENT if body_movement is None else body_movement
        box = BodyMovementMap.fixed(reference.keypoints, amount, reference.canvas.width / reference.canvas.height)
        still = to_maps(box.render(reference.canvas.size), reference.control_maps)[:, None]
        driver = lambda *_: PoseCondition(still, None, reference.control_maps[:, None], free=True)  # noqa: E731
        return self._animation(reference, look, driver, sound.n_frames(look.fps), sound, list(warnings), amount)

    def reenact(
        self,
        picture: Picture,
        driving: str | os.PathLike[str] | PoseSequence,
        *,
        audio: Heard | None = "keep",
        retarget: bool = True,
        progress: Callable[[int, int | None], None] | None = None,
        **settings: Unpack[Settings],
    ) -> Animation:
        """One picture of a person moves as the person in `driving` (V2V-B, section 4.2): skeleton maps instead of the
        body movement map.

        driving: a video, a key point file (docs/driving.md) or a `PoseSequence`. audio: "keep" takes the driving
        video's sound, None makes a silent video, anything else is the sound; what is heard moves the lips together with
        the driving's. retarget: to the picture's proportions. progress(done, total) is called while a driving video is
        read. The video lasts as long as the driving. Raises InputError and NoFaceError.
        """
        look = GenerationConfig(**settings)
        reference, warnings = self._open(picture, look)
        poses, from_video, notes = self._poses(driving, progress)
        sound = (
            _sound_of(driving, from_video, notes)
            if isinstance(audio, str) and audio == "keep"
            else None
            if audio is None
            else _sound(audio)
        )
        reads_lips = not from_video or self.model.detector.reads_lips
        heard = sound is not None and self.model.network.preset.uses_audio
        if retarget:
            w, h = reference.canvas.picture_size
            poses = to_proportions(poses, reference.picture_keypoints, (w, h))
        poses = poses.resampled(look.fps)
        if heard and not reads_lips:
            poses.face_score[:, LIPS] = 0  # the detector does not follow lips; the sound does
        elif not reads_lips:
            notes.append(
                "the lips hardly move: there is no sound that moves them, and the key point detector does not follow "
                "lips"
            )
        if sound is not None and abs(sound.duration - len(poses) / look.fps) > 0.5 / look.fps:
            notes += [
                f"the sound lasts {sound.duration:.2f} s, the driving {len(poses) / look.fps:.2f} s: it is cut or "
                "followed by silence"
            ] * (audio != "keep")
        poses, limits = self._followable(reference, poses)
        return self._animation(
            reference, look, self._skeletons(reference, poses), len(poses), sound, [*warnings, *notes, *limits]
        )

    def multimodal(
        self,
        picture: Picture,
        audio: Heard,
        hands: str | os.PathLike[str] | PoseSequence,
        *,
        retarget: bool = True,
        progress: Callable[[int, int | None], None] | None = None,
        **settings: Unpack[Settings],
    ) -> Animation:
        """One picture of a person speaks `audio` while its hands follow `hands` (section 4.4): head, face and lips are
        the speech's.

        hands: the name of a bundled gesture template, a key point file (docs/driving.md), a video, or a `PoseSequence`;
        looped without a jump to the sound's length. retarget: to where the picture's hands are and to its proportions.
        Raises InputError and NoFaceError.
        """
        if not self.model.network.preset.uses_audio:
            raise InputError("this model hears no speech: use reenact")
        look, sound = GenerationConfig(**settings), _sound(audio)
        reference, warnings = self._open(picture, look)
        template = hands if isinstance(hands, PoseSequence) else load_template(hands, self.model.detector, progress)
        total = sound.n_frames(look.fps)
        w, h = reference.canvas.picture_size
        placed = hands_for(template, reference.picture_keypoints, (w, h)) if retarget else template
        poses, limits = self._followable(reference, fit_length(placed, total, look.fps).only("hands"))
        driver = self._skeletons(reference, poses, parts=("hands",))
        return self._animation(reference, look, driver, total, sound, [*warnings, *template.warnings, *limits])

    @torch.inference_mode()
    def _open(self, picture: Picture, look: GenerationConfig) -> tuple[Reference, list[str]]:
        """The picture, checked, cropped where a head is asked for, and prepared; and what to tell the user about it."""
        name = "the picture" if isinstance(picture, np.ndarray) else str(picture)
        with enough_memory(self.device, "load the model"):
            self.model.to(self.device, self.dtype)  # a video before may have left parts of it elsewhere (`Thrift`)
        array = check_picture(picture) if isinstance(picture, np.ndarray) else load_picture(picture)
        with enough_memory(self.device, "read the picture"):
            found = analyse(array, self.model.detector, name)
        keypoints, warnings = found.keypoints, [*self.model.warnings, *found.warnings]
        head = look.head
        if head:
            array, keypoints = head_crop(array, keypoints)
        elif head is None and shows_only_a_head(keypoints):
            head, keypoints = True, without_hands(keypoints)
            warnings.append(f"{name} shows a head alone: animated as a talking head (--head)")
        with enough_memory(self.device, "read the picture"):
            return prepare_reference(self.model, array, keypoints, look.size, bool(head)), warnings

    def _followable(self, reference: Reference, poses: PoseSequence) -> tuple[PoseSequence, list[str]]:
        """What of a sequence in 0..1 of the picture this model can follow, and what to tell the user about the rest
        (docs/results.md).
        """
        preset = self.model.network.preset
        if preset.codec != "reference":
            return poses, []
        if not preset.pose_shift:
            return poses, ["this model hardly follows key points: body and hands will move little (docs/results.md)"]
        w, h = reference.canvas.picture_size
        poses, beyond = within_reach(
            poses, reference.picture_keypoints, (preset.latent_factor / w, preset.latent_factor / h)
        )
        return poses, reach_note(beyond)

    def _skeletons(self, reference: Reference, poses: PoseSequence, parts: tuple[str, ...] = PARTS) -> PoseSource:
        """A sequence in 0..1 of the picture, drawn as the preset wants it; its last frame stands where it has ended."""
        preset, like = (
            self.model.network.preset,
            reference.control_maps,
        )  # not the network, which may wait on the CPU while the codec computes (`Thrift`)
        draw = POSE_MAPS[preset.pose_maps]
        hw = tuple(reference.latent.shape[-2:])

        def drive(start: int, frames: int) -> PoseCondition:
            points = [reference.on_canvas(poses.frame(min(i, len(poses) - 1))) for i in range(start, start + frames)]
            maps = np.stack([draw(k, reference.canvas.size, parts=parts) for k in points])
            shift = to_maps(pose_shift(reference.keypoints, points, hw, parts), like) if preset.pose_shift else None
            control_maps, lips = reference.control_maps[:, None], None
            if "face" in parts:
                moved = to_maps(np.stack([face_control_maps(k, hw) for k in points]), like)
                control_maps = torch.where(moved.amax((2, 3, 4), keepdim=True) > 0, moved, control_maps)
                lips = (
                    None if shift is None else shift[:, :, -1].amax((2, 3)) > 0
                )  # as the denoiser is told, frame by frame
            return PoseCondition(to_maps(maps, like), shift, control_maps, lips=lips)

        return drive

    def _animation(
        self,
        reference: Reference,
        look: GenerationConfig,
        driver: PoseSource,
        total: int,
        sound: Sound | None,
        warnings: list[str],
        amount: float = BODY_MOVEMENT,
    ) -> Animation:
        """What the three settings share: `driver` moves the body, by itself it moves by `amount`, `sound` is heard and
        goes into the video.
        """
        defaults = self.model.network.preset.diffusion
        guidance = guidance_of(look, defaults)
        hands = reference.keypoints.hands_score.max() >= VISIBLE
        clarity = -1.0 if not hands else HAND_CLARITY if look.hand_clarity is None else look.hand_clarity
        job = Job(
            reference,
            look,
            driver,
            total,
            sound,
            guidance,
            clarity,
            min(defaults.sway * movement_scale(amount, BODY_MOVEMENT), 0.95),
        )
        told = [*([] if sound is None else sound.warnings), *warnings]
        return Animation(
            self.renderer.frames(job, told.append), total, look.fps, reference.video_size, sound, told, job
        )

    def _poses(
        self, driving: str | os.PathLike[str] | PoseSequence, progress: Callable[[int, int | None], None] | None
    ) -> tuple[PoseSequence, bool, list[str]]:
        """(the sequence, whether it was read off a video, what to tell the user about it)."""
        if isinstance(driving, PoseSequence):
            return driving, False, list(driving.warnings)
        poses = read_driving(driving, self.model.detector, progress)
        return poses, not is_sequence_file(driving), list(poses.warnings)


def guidance_of(look: GenerationConfig, defaults: DiffusionConfig) -> Guidance:
    """What a video asks for, else its model."""
    return Guidance(
        defaults.guidance_reference if look.guidance_reference is None else look.guidance_reference,
        defaults.guidance_audio if look.guidance_audio is None else look.guidance_audio,
        look.guidance_interval or Guidance.interval,
    )


def check_ways(device: torch.device, compiled: bool, cuda_graphs: bool | None) -> None:
    """Raises ResourceError where a way of computing cannot be had."""
    if cuda_graphs and device.type != "cuda":
        raise ResourceError(
            f"CUDA graphs are for NVIDIA GPUs, and this computes on {device.type}: leave out --cuda-graphs"
        )
    if compiled:
        check_compiler(device)


def _sound(audio: Heard) -> Sound:
    return audio if isinstance(audio, Sound) else load_audio(audio)


def _sound_of(driving: str | os.PathLike[str] | PoseSequence, from_video: bool, notes: list[str]) -> Sound | None:
    """The driving video's own sound; without one the video is silent and `notes` says so."""
    if not from_video:
        return None
    try:
        return load_audio(driving)  # type: ignore[arg-type]
    except InputError:
        notes.append(f"{driving}: holds no sound that can be read, so the video is silent")
        return None
