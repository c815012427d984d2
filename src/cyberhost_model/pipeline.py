"""CyberHost: inputs -> conditions -> model -> sampler -> video, in a row."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .conditions.crops import face_crop, hand_crops
from .conditions.detector import analyse
from .conditions.face_cues import face_places
from .conditions.keypoints import Keypoints
from .conditions.movement import BodyMovementMap
from .conditions.skeleton import skeleton_map
from .conditions.speech_level import speech_level
from .errors import InputError
from .inputs.audio import Sound, load_audio
from .inputs.image import Canvas, check_picture, crop_back, fit_canvas, load_picture, place
from .model.conditions import Conditions
from .model_folder import Model, choose_device, load_model
from .sampler.clips import Clip, denoise_clips, plan_clips
from .sampler.denoise import denoise_clip
from .sampler.guidance import Guidance
from .video.writer import write_video

FPS = 25.0  # what the model was trained at
LARGEST = 512  # default side of the video's square of equal area; smaller pictures are not enlarged
BODY_MOVEMENT = 0.1  # the boxes of half-second clips are small
HAND_CLARITY = 0.5  # near the 90th percentile at the size trained on (section 3.3: "a higher clarity score is applied")


@dataclass
class Animation:
    """A video that is made while it is read. Iterate `frames` once, or `save`; nothing is computed before."""

    frames: Iterator[np.ndarray]
    """uint8 (H, W, 3) RGB, one at a time."""
    n_frames: int
    fps: float
    size: tuple[int, int]
    """(W, H), both even, of the picture's aspect."""
    sound: Sound
    warnings: list[str] = field(default_factory=list)
    """Lines for the user about the sound and the picture ("the sound is silent ...", "3 faces ...")."""

    def save(self, out: str | os.PathLike[str], overwrite: bool = False, progress: Callable[[int, int | None], None] | None = None) -> Path:
        """Write frames and sound as H.264 and AAC; whole under `out` or not at all. Raises OutputError."""
        return write_video(self.frames, out, self.fps, self.sound, overwrite=overwrite, total=self.n_frames, progress=progress)


@dataclass
class _Reference:
    """The picture as every clip needs it."""

    canvas: Canvas
    scale: int
    keypoints: Keypoints
    small: Tensor
    large: Tensor
    latent: Tensor
    places: Tensor
    conditions: Conditions
    movement: Tensor


class CyberHost:
    """The paper's model with its inputs and outputs around it. Make one with `from_pretrained`; it may animate any number of pictures."""

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype):
        self.model, self.device, self.dtype = model.to(device, dtype), device, dtype

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str] = "tiny", device: str = "auto", precision: str = "auto") -> CyberHost:
        """`model`: "tiny" (inside the package), a folder, or a Hub id. Raises ModelError, NetworkError, ResourceError."""
        place_, dtype = choose_device(device, precision)
        return cls(load_model(os.fspath(model)), place_, dtype)

    def animate(
        self,
        picture: str | os.PathLike[str] | np.ndarray,
        audio: str | os.PathLike[str] | Sound,
        *,
        seed: int = 0,
        steps: int | None = None,
        fps: float = FPS,
        size: int | None = None,
        guidance_reference: float | None = None,
        guidance_audio: float | None = None,
        body_movement: float | None = None,
        hand_clarity: float | None = None,
        head: bool = False,
    ) -> Animation:
        """One picture of a person speaks `audio` (A2V-B of the paper; `head` crops to the face first).

        picture: a file or uint8 (H, W, 3) RGB. size: side in pixels of a square of the video's area (default: the picture's own, at most 512); the
        aspect is the picture's. guidance_reference and guidance_audio: section 4.1, default the model's. body_movement: 0 in place .. 1 lively.
        hand_clarity: 0 blurred .. 1 sharp. The picture and the sound are checked now, frames are made when they are read.
        Raises InputError and NoFaceError.
        """
        name = "the picture" if isinstance(picture, np.ndarray) else str(picture)
        array = check_picture(picture) if isinstance(picture, np.ndarray) else load_picture(picture)
        sound = audio if isinstance(audio, Sound) else load_audio(audio)
        if not 1 <= fps <= 60:
            raise InputError(f"fps must be between 1 and 60, not {fps:g}")
        found = analyse(array, self.model.detector, name)
        keypoints, warnings = found.keypoints, [*sound.warnings, *found.warnings]
        if head:
            array, keypoints = head_crop(array, keypoints)
        reference = self._reference(array, keypoints, size, BODY_MOVEMENT if body_movement is None else body_movement)
        defaults = self.model.network.preset.diffusion
        guidance = Guidance(
            defaults.guidance_reference if guidance_reference is None else guidance_reference,
            defaults.guidance_audio if guidance_audio is None else guidance_audio,
        )
        clarity = -1.0 if keypoints.hands_score.max() < 0.3 else HAND_CLARITY if hand_clarity is None else hand_clarity
        total = sound.n_frames(fps)
        frames = self._frames(reference, sound, total, fps, seed, steps, guidance, clarity)
        w, h = reference.canvas.picture_size
        return Animation(frames, total, fps, (w * reference.scale, h * reference.scale), sound, warnings)

    @torch.inference_mode()
    def _reference(self, picture: np.ndarray, keypoints: Keypoints, size: int | None, movement: float) -> _Reference:
        """Fit the picture and say everything about it that does not change: once a video."""
        preset = self.model.network.preset
        h, w = picture.shape[:2]
        canvas = fit_canvas((w, h), area=preset.size[0] * preset.size[1])
        wanted = min(LARGEST, round((w * h) ** 0.5)) if size is None else size
        side = (canvas.picture_width * canvas.picture_height) ** 0.5
        scale = max(1, round(wanted / side))
        placed = place(picture, canvas)
        on_canvas = np.array([canvas.picture_width / canvas.width, canvas.picture_height / canvas.height], np.float32)
        corner = np.array([canvas.left / canvas.width, canvas.top / canvas.height], np.float32)
        moved = keypoints.map(lambda p: (p * on_canvas + corner).astype(np.float32))
        small, large = self._tensor(placed), self._tensor(place(picture, enlarged(canvas, scale)))
        factor = preset.latent_factor
        places = self._maps(face_places(moved, (canvas.height // factor, canvas.width // factor)))
        latent = self.model.codec.encode_reference(small, places)
        conditions = self.model.network.reference_conditions(
            latent,
            self._maps(skeleton_map(moved, canvas.size)),
            self._maps(face_crop(placed, moved)),
            self._maps(hand_crops(placed, moved)),
        )
        box = BodyMovementMap.fixed(moved, movement, canvas.width / canvas.height)
        return _Reference(canvas, scale, moved, small, large, latent, places, conditions, self._maps(box.render(canvas.size))[:, None])

    def _frames(
        self, reference: _Reference, sound: Sound, total: int, fps: float, seed: int, steps: int | None, guidance: Guidance, clarity: float
    ) -> Iterator[np.ndarray]:
        """Clip after clip; only one clip and the motion frames are held."""
        network, codec, preset = self.model.network, self.model.codec, self.model.network.preset
        windows = self._windows(sound, total, fps)
        generator = torch.Generator().manual_seed(seed)
        canvas = reference.canvas
        shape = (1, preset.frames, preset.latent_channels, canvas.height // preset.latent_factor, canvas.width // preset.latent_factor)

        @torch.inference_mode()
        def make(clip: Clip, past: Tensor | None) -> Tensor:
            heard = list(itertools.islice(windows, clip.keep))
            heard += heard[-1:] * (clip.frames - len(heard))
            conditions = network.clip_conditions(
                reference.conditions,
                audio=torch.stack(heard)[None].to(self.device, self.dtype),
                motion_latents=None if past is None else codec.for_reference_net(past, reference.latent),
                pose=reference.movement,
                hand_clarity=torch.full((1, clip.frames), clarity, device=self.device, dtype=self.dtype),
            )
            z = denoise_clip(network, conditions, shape, steps=steps, guidance=guidance, generator=generator)
            return codec.as_heard(z, network.heard_opening(conditions), reference.places)

        large = enlarged(canvas, reference.scale)
        for _, z in denoise_clips(plan_clips(total, preset.frames), make, preset.motion_frames):
            with torch.inference_mode():
                decoded = codec.decode(z, reference.small, reference.large)[0]
                pictures = (decoded.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            yield from crop_back(pictures, large)

    def _windows(self, sound: Sound, total: int, fps: float) -> Iterator[Tensor]:
        """Speech features of each frame's window; the sound is read twice, never held."""
        level = speech_level(sound.stream_mono16k())
        tokens = self.model.network.preset.audio.tokens
        return self.model.speech.stream_windows(sound.stream_mono16k(), level, total, fps, tokens)

    def _tensor(self, picture_u8: np.ndarray) -> Tensor:
        return (torch.from_numpy(np.ascontiguousarray(picture_u8)).permute(2, 0, 1)[None].to(self.device, self.dtype) / 127.5) - 1

    def _maps(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[None].to(self.device, self.dtype)


def enlarged(canvas: Canvas, scale: int) -> Canvas:
    """The same placement, `scale` times as large."""
    sides = ("width", "height", "left", "top", "picture_width", "picture_height")
    return replace(canvas, **{s: getattr(canvas, s) * scale for s in sides}, scale=canvas.scale * scale)


def head_crop(picture_u8: np.ndarray, keypoints: Keypoints) -> tuple[np.ndarray, Keypoints]:
    """The head with some shoulder (A2V-H, section 4.2): a square of 2.2 face heights, as far as the picture reaches. Hands are left out."""
    h, w = picture_u8.shape[:2]
    face = keypoints.face * [w, h]
    low, high = face.min(0), face.max(0)
    side = min(2.2 * float(high[1] - low[1]) * 1.2, w, h)
    x0, y0 = np.clip((low + high) / 2 - [side / 2, side * 0.52], 0, [w - side, h - side]).round().astype(int)
    side = int(side)
    scale, shift = np.array([w / side, h / side], np.float32), np.array([x0 / side, y0 / side], np.float32)
    moved = keypoints.map(lambda p: (p * scale - shift).astype(np.float32))
    moved.hands_score = np.zeros_like(moved.hands_score)
    return picture_u8[y0 : y0 + side, x0 : x0 + side], moved
