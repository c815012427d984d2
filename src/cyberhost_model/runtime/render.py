"""A job's frames: clip after clip through speech, network and codec, in the memory there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.conditions.movement import moving_parts
from cyberhost_model.config import GenerationConfig
from cyberhost_model.errors import ModelError
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.image import crop_back
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.runtime.background import BackgroundWorker
from cyberhost_model.runtime.loading import Model
from cyberhost_model.runtime.memory import MemoryFallback, is_out_of_memory
from cyberhost_model.runtime.prepare import Reference
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
from cyberhost_model.sampler.denoise import Clip, denoise_clip, denoise_clips, plan_clips
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.noise import SlowNoise, slow_noises
from cyberhost_model.speech.level import speech_level


@dataclass(frozen=True)
class PoseCondition:
    """A clip's pose condition (1, frames or 1, 3, H, W), maps in 0..1; its pose shift (1, frames, 7, 2h, 2w) or None;
    where its face is, `face_control_maps` (1, frames or 1, controls, h, w).
    """

    pose: Tensor
    shift: Tensor | None
    control_maps: Tensor
    free: bool = False
    """No key point says where anything is: speech alone moves the body."""
    lips: Tensor | None = None
    """(1, frames), bool: key points say how far the lips are apart; None: of no frame."""


PoseSource = Callable[[int, int], PoseCondition]
"""(first frame, frames) -> what drives a clip."""


@dataclass(frozen=True)
class Job:
    """All that the frames of an animation are made of.

    clarity: the hands' score, -1 where no hand is seen. sway: how much of the noise is slow of a body that no key
    points drive, see `sampler.sway`.
    """

    reference: Reference
    look: GenerationConfig
    driver: PoseSource
    total: int
    sound: Sound | None
    guidance: Guidance
    clarity: float
    sway: float


@dataclass(frozen=True)
class Renderer:
    """What the frames are made with.

    overlap: a clip is decoded while the next one is denoised. graphs: steps are recorded as CUDA graphs.
    """

    model: Model
    device: torch.device
    dtype: torch.dtype
    overlap: bool
    graphs: bool = False

    def frames(self, job: Job, tell: Callable[[str], None]) -> Iterator[np.ndarray]:
        """Clip after clip; only one clip and the motion frames are held. `tell` takes lines for the user."""
        network, codec, preset = self.model.network, self.model.codec, self.model.network.preset
        reference, look, beside = job.reference, job.look, BackgroundWorker()
        recorded = RecordedNetwork(network, tell, beside.settle) if self.graphs else None
        thrift = MemoryFallback(self.model, self.device, job.guidance.branches, self.overlap, beside.settle, recorded)
        windows = (
            self._windows(job.sound, job.total, look.fps) if job.sound is not None and self.uses_audio(job) else None
        )
        generator = torch.Generator().manual_seed(look.seed)
        shape = (1, preset.frames, preset.latent_channels, *reference.latent.shape[-2:])
        slow = self._sways(job, generator)

        def listened(clip: Clip) -> list[Tensor]:
            nonlocal windows
            try:
                return list(itertools.islice(windows, clip.keep))  # type: ignore[arg-type]
            except Exception:  # which ended the iterator: a second attempt begins at this clip
                windows = itertools.islice(self._windows(job.sound, job.total, look.fps), clip.start, None)  # type: ignore[arg-type]
                raise

        @torch.inference_mode()
        def make(clip: Clip, past: Tensor | None) -> Tensor:
            audio = None
            if windows is not None:
                heard = thrift.attempt("speech", lambda: listened(clip), tell)
                heard += heard[-1:] * (clip.frames - len(heard))
                audio = torch.stack(heard)[None].to(self.device, self.dtype)
            driven = job.driver(clip.start, clip.frames)
            sway = next(slow) if driven.free else None
            before = generator.get_state()

            def denoised() -> Tensor:
                generator.set_state(before)  # a second attempt begins with the same noise
                conditions = self.clip_conditions(job, driven, clip.frames, audio, past)
                guidance = replace(job.guidance, one_by_one=thrift.one_by_one)
                with network.denoising_unet.fixed_weights():
                    z = denoise_clip(
                        network,
                        conditions,
                        shape,
                        steps=look.steps,
                        guidance=guidance,
                        generator=generator,
                        cache_blocks=look.cache_blocks,
                        sway=sway,
                        predictor=recorded,
                    )
                if driven.free:  # key points are followed frame by frame
                    z = codec.smooth_over_time(z, past)
                return (
                    z
                    if audio is None
                    else codec.open_lips_by_audio(
                        z,
                        network.predicted_mouth_opening(conditions),
                        driven.control_maps,
                        reference.lip_gap,
                        driven.lips,
                    )
                )

            return thrift.attempt("network", denoised, tell)

        def now(z: Tensor) -> np.ndarray:
            return thrift.attempt("codec", lambda: self.decoded(job, z, thrift.at_once), tell)

        def tried(z: Tensor) -> np.ndarray | None:
            """In the thread, whose exception would hold on to the memory that was too little."""
            try:
                return self.decoded(job, z, thrift.at_once)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            return None

        def finished(z: Tensor, future: Future[np.ndarray | None]) -> np.ndarray:
            if (found := future.result()) is not None:
                return found
            thrift.apart(tell)
            return now(z)

        waiting: tuple[Tensor, Future[np.ndarray | None]] | None = None
        with beside:
            for clip, z in denoise_clips(plan_clips(job.total, preset.frames), make, preset.motion_frames):
                if waiting is not None:
                    yield from crop_back(finished(*waiting), reference.large_canvas)
                    waiting = None
                if thrift.overlapped and clip.index:
                    waiting = z, beside.start(partial(tried, z))
                else:  # a first clip: nobody should wait for a second to see it
                    yield from crop_back(now(z), reference.large_canvas)
            if waiting is not None:
                yield from crop_back(finished(*waiting), reference.large_canvas)

    def _sways(self, job: Job, generator: torch.Generator) -> Iterator[SlowNoise | None]:
        """The slow noise of each clip."""
        preset, reference = self.model.network.preset, job.reference
        if not preset.diffusion.sway:
            return itertools.repeat(None)
        share = job.sway * torch.from_numpy(moving_parts(reference.keypoints, reference.latent.shape[-2:]))
        return slow_noises(share[None, None, None], preset.moving, preset.frames, generator)

    def uses_audio(self, job: Job) -> bool:
        """Whether a sound moves the lips."""
        return job.sound is not None and self.model.network.preset.uses_audio

    def clip_conditions(
        self, job: Job, driven: PoseCondition, frames: int, audio: Tensor | None, past: Tensor | None
    ) -> Conditions:
        """What a clip of `frames` frames is made from.

        audio (1, frames, tokens, layers, D); past: the latents of the motion frames.
        """
        return self.model.network.clip_conditions(
            job.reference.conditions,
            audio=audio,
            motion_latents=None if past is None else self.model.codec.for_reference_net(past, job.reference.latent),
            pose=driven.pose,
            pose_shift=driven.shift,
            hand_clarity=torch.full((1, frames), job.clarity, device=self.device, dtype=self.dtype),
        )

    @torch.inference_mode()
    def decoded(self, job: Job, z: Tensor, at_once: int) -> np.ndarray:
        """Latents (1, F, C, h, w) -> uint8 (F, H, W, 3) of the whole canvas, computed `at_once` frames at a time.

        Raises ModelError for latents that are not finite, of which black frames would be made.
        """
        if not z.isfinite().all():
            advice = (
                "give --precision bf16 or fp32, or get the model again"
                if self.dtype is torch.float16
                else "its weights are damaged or badly trained; get the model again"
            )
            raise ModelError(
                f"what the network made are no finite numbers in {str(self.dtype).removeprefix('torch.')}: {advice}"
            )
        some = []
        # Without a sound lips follow key points, and the flow says of them what their control does not.
        close_up = job.reference.close_up if self.uses_audio(job) else None
        for part in z.split(at_once, 1):
            frames = self.model.codec.decode(part, job.reference.small, job.reference.large, close_up)[0]
            some.append(
                (frames.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            )
        return np.concatenate(some)

    def _windows(self, sound: Sound, total: int, fps: float) -> Iterator[Tensor]:
        """Speech features of each frame's window; the sound is read twice, never held."""
        level = speech_level(sound.stream_mono16k())
        tokens = self.model.network.preset.audio.tokens
        return self.model.speech.stream_windows(sound.stream_mono16k(), level, total, fps, tokens)
